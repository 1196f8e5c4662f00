"""GitHub's REST API for tests: Prism, which answers from GitHub's own OpenAPI description and refuses the rest.

The description's examples name api.github.com; a small proxy before Prism makes them name itself, as GitHub's answers
do. With `comments` it also remembers them: Prism judges each request and gives the shape of its answer, the proxy puts
in what was written. GraphQL, of which the description says nothing, is as far as it is used here; what is asked is held
to GitHub's published schema.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PACKAGES = ("@stoplight/prism-cli@5.16.0", "@octokit/openapi@23.0.2", "@octokit/graphql-schema@15.26.1")
PUBLISHING = (
    "/repos/{owner}/{repo}/issues/{issue_number}",
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}",
    "/repos/{owner}/{repo}/check-runs",
    "/repos/{owner}/{repo}/check-runs/{check_run_id}",
)
"""Paths of the description that a comment and a check need."""
_SELECT = """
const [from, to, ...paths] = process.argv.slice(1);
const all = require(from);
all.paths = Object.fromEntries(paths.map((path) => [path, all.paths[path]]));
// an example in which teams lack what the description's own schema requires
for (const one of all.components.examples["pull-request-simple-items"].value) one.requested_teams = [];
require("fs").writeFileSync(to, JSON.stringify(all));
"""
_JUDGE = """
const { buildSchema, getOperationAST, parse, validate } = require("graphql");
const { getVariableValues } = require("graphql/execution/values");
const idl = "node_modules/@octokit/graphql-schema/schema.graphql";
const schema = buildSchema(require("fs").readFileSync(idl, "utf8"), { assumeValid: true, assumeValidSDL: true });
const judge = ({ query, variables }) => {
  const asked = parse(query);
  const found = validate(schema, asked);
  if (found.length) return found;
  return getVariableValues(schema, getOperationAST(asked).variableDefinitions ?? [], variables ?? {}).errors ?? [];
};
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  let found;
  try { found = judge(JSON.parse(line)); } catch (error) { found = [error]; }
  console.log(JSON.stringify(found.map((error) => ({ message: error.message }))));
});
"""


@dataclass
class GitHub:
    """The API's address; the requests that were made; `prefer` asks Prism for an answer to what is written,
    such as `code=403`; `user` is whom the token belongs to, "" when GraphQL does not say; `no_minimizing` is what
    GraphQL answers in the place of minimising; `comments` are those of the pull request, in pages of 30 at most, None
    for the description's example; `faults` are given in the place of the next answers to a method: its code, headers,
    and whether the request is done all the same. `changed` has what is put into the description's example of a path,
    and `files` what an artifact's path leads to, elsewhere."""

    url: str
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    prefer: str = ""
    user: str = "octocat"  # who comments in the description's examples
    comments: list[dict[str, Any]] | None = None
    minimized: list[str] = field(default_factory=list)
    no_minimizing: dict[str, Any] | None = None
    written: int = 100
    changed: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    blobs: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    faults: list[tuple[str, int, dict[str, str], bool]] = field(default_factory=list)

    def write(self, body: str, user: str = "") -> dict[str, Any]:
        """A comment that somebody has written."""
        assert self.comments is not None
        with _LOCK:
            number = self.written = self.written + 1
            made = {"id": number, "node_id": f"IC_{number}", "body": body, "user": {"login": user or self.user}}
            self.comments.append(made)
        return made


_LOCK = threading.Lock()


def missing() -> str:
    """Why there is none, as a reason for a skip; "" when there can be one."""
    return "" if shutil.which("npm") and shutil.which("node") else "no node: install Node 20 or newer"


@contextmanager
def github(folder: Path, *paths: str) -> Iterator[GitHub]:
    """Start the API with these paths of the description."""
    modules = _installed() / "node_modules"
    description = folder / "github.json"
    source = modules / "@octokit" / "openapi" / "generated" / "api.github.com.json"
    subprocess.run(["node", "-e", _SELECT, str(source), str(description), *paths], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prism = modules / "@stoplight" / "prism-cli" / "dist" / "index.js"
    command = ["node", str(prism), "mock", str(description), "--port", str(port), "--errors"]
    with (folder / "prism.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _wait(port, server, folder / "prism.log")
            with _schema(modules) as judged, _proxy(f"http://127.0.0.1:{port}", judged) as found:
                yield found
        finally:
            server.terminate()


def _installed() -> Path:
    """The packages, installed once; a folder gets its name when it is whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-actions" / "node"
    folder = cache / "prism-5.16.0-openapi-23.0.2-graphql-15.26.1"
    if not folder.exists():
        part = cache / f".part-{os.getpid()}"
        options = ["--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        part.mkdir(parents=True)
        npm = [shutil.which("npm") or "npm", "install", "--prefix", str(part), *options, *PACKAGES]
        subprocess.run(npm, check=True, stdout=subprocess.DEVNULL)
        try:
            part.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(part)
    return folder


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(3000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"Prism did not start: {log.read_text()[-2000:]}")


@contextmanager
def _schema(modules: Path) -> Iterator[Callable[[bytes], Any]]:
    """Judge GraphQL requests by GitHub's schema: the errors that GitHub would answer with."""
    command = ["node", "-e", _JUDGE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=modules.parent) as process:
        assert process.stdin is not None and process.stdout is not None
        reading, writing = process.stdout, process.stdin

        def judged(asked: bytes) -> Any:
            with _LOCK:
                writing.write(asked.replace(b"\n", b" ") + b"\n")
                writing.flush()
                return json.loads(reading.readline() or b'[{"message": "The process that knows the schema has ended"}]')

        try:
            yield judged
        finally:
            process.terminate()


@contextmanager
def _proxy(prism: str, judged: Callable[[bytes], Any]) -> Iterator[GitHub]:
    found = GitHub("")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = next((one for one in found.faults if one[0] == self.command), None)
            if fault:
                found.faults.remove(fault)
            if fault and not fault[3]:
                self.send(fault[1], b'{"message": "You have exceeded a secondary rate limit"}', fault[2])
                return
            path = self.path.removeprefix("/api/v3")  # as GitHub Enterprise Server has it
            self.base = found.url + self.path.removesuffix(path)
            if path in ("/graphql", "/api/graphql"):
                errors = judged(body)
                said = {"errors": errors} if errors else self.graphql(json.loads(body))
                self.send(200, json.dumps(said).encode())
                return
            if path.startswith("/blob/"):  # where artifacts are: another server, which takes no token
                found.blobs.append((path, dict(self.headers.items())))
                self.send(200, found.files[path.removeprefix("/blob")])
                return
            found.requests.append((self.command, path, body.decode()))
            plain = path.partition("?")[0]
            if plain in found.files:
                self.send(302, b"", {"Location": f"{found.url}/blob{plain}"})
                return
            code, text = self.prism(path, body)
            if plain in found.changed and code < 300:
                text = (
                    json.dumps(merged(json.loads(text), found.changed[plain])).replace("URL/", f"{found.url}/").encode()
                )
            text = text.replace(b"https://api.github.com", self.base.encode())
            more = {}
            if found.comments is not None and "/comments" in path and code < 300:
                code, text, more = self.remembered(path, body, code, text)
            if fault:
                code, text = fault[1], b'{"message": "Server Error"}'
            self.send(code, text, more)

        def prism(self, path: str, body: bytes) -> tuple[int, bytes]:
            headers = {
                name: self.headers[name] for name in ("Authorization", "Accept", "Content-Type") if self.headers[name]
            }
            prefer = found.prefer if self.command != "GET" else ""
            headers |= {"Prefer": prefer} if prefer else {}
            request = urllib.request.Request(prism + path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def graphql(self, asked: dict[str, Any]) -> dict[str, Any]:
            refused = {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]}
            if "minimizeComment" not in asked["query"]:
                return {"data": {"viewer": {"login": found.user}}} if found.user else refused
            if found.no_minimizing:
                return found.no_minimizing
            found.minimized.append(asked["variables"]["input"]["subjectId"])
            return {"data": {"minimizeComment": {"minimizedComment": {"isMinimized": True}}}}

        def remembered(self, path: str, body: bytes, code: int, text: bytes) -> tuple[int, bytes, dict[str, str]]:
            assert found.comments is not None
            url = urllib.parse.urlsplit(path)
            number = url.path.rpartition("/")[2]
            known = next((one for one in found.comments if str(one["id"]) == number), None)
            if self.command == "GET" and number == "comments":
                example = json.loads(text)[0]
                query = urllib.parse.parse_qs(url.query)
                page, size = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["30"])[0])
                part = found.comments[(page - 1) * size : page * size]
                last = page * size >= len(found.comments)
                more = {} if last else {"Link": f'<{self.base}{url.path}?page={page + 1}>; rel="next"'}
                return code, json.dumps([self.whole(example, one) for one in part]).encode(), more
            if self.command == "POST":
                return (
                    code,
                    json.dumps(self.whole(json.loads(text), found.write(json.loads(body)["body"]))).encode(),
                    {},
                )
            if known is None:
                return 404, b'{"message": "Not Found"}', {}
            if self.command == "DELETE":
                found.comments.remove(known)
                return code, b"", {}
            known["body"] = json.loads(body)["body"]
            return code, json.dumps(self.whole(json.loads(text), known)).encode(), {}

        def whole(self, example: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
            url = f"{self.base}/repos/o/r/issues/comments/{one['id']}"
            html = f"https://github.com/o/r/pull/7#issuecomment-{one['id']}"
            return {**example, **one, "user": {**example["user"], **one["user"]}, "url": url, "html_url": html}

        def send(self, code: int, text: bytes, more: Mapping[str, str] = {}) -> None:
            self.send_response(code)
            for name, value in more.items():
                self.send_header(name, value)
            if code != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if code != 204:
                self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def merged(example: Any, changed: Any) -> Any:
    """The example with what is changed in it; a list is as long as the changed one, each item like its first."""
    if isinstance(example, dict) and isinstance(changed, dict):
        return {**example, **{name: merged(example.get(name), value) for name, value in changed.items()}}
    if isinstance(example, list) and isinstance(changed, list) and example:
        return [merged(example[0], one) for one in changed]
    return changed


def bodies(found: GitHub, method: str) -> list[dict[str, Any]]:
    """What was sent with a method."""
    return [json.loads(body) for verb, _, body in found.requests if verb == method]
