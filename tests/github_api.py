"""GitHub's REST API for tests: Prism, which answers from GitHub's own OpenAPI description and refuses the rest.

The description's examples name api.github.com; a small proxy before Prism makes them name itself, as GitHub's answers
do.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKAGES = ("@stoplight/prism-cli@5.16.0", "@octokit/openapi@23.0.2")
_SELECT = """
const [from, to, ...paths] = process.argv.slice(1);
const all = require(from);
all.paths = Object.fromEntries(paths.map((path) => [path, all.paths[path]]));
require("fs").writeFileSync(to, JSON.stringify(all));
"""


@dataclass
class GitHub:
    """The API's address; the requests that were made; `prefer` asks Prism for an answer to what is written,
    such as `code=403`; `user` is whom the token belongs to, "" when GraphQL does not say."""

    url: str
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    prefer: str = ""
    user: str = "octocat"  # who comments in the description's examples


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
            with _proxy(f"http://127.0.0.1:{port}") as found:
                yield found
        finally:
            server.terminate()


def _installed() -> Path:
    """The packages, installed once; a folder gets its name when it is whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-actions" / "node"
    folder = cache / "prism-5.16.0-openapi-23.0.2"
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
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"Prism did not start: {log.read_text()[-2000:]}")


@contextmanager
def _proxy(prism: str) -> Iterator[GitHub]:
    found = GitHub("")

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/graphql":  # of which the description says nothing
                viewer = {"data": {"viewer": {"login": found.user}}}
                refused = {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]}
                self.send(200, json.dumps(viewer if found.user else refused).encode())
                return
            found.requests.append((self.command, self.path, body.decode()))
            headers = {
                name: self.headers[name] for name in ("Authorization", "Accept", "Content-Type") if self.headers[name]
            }
            prefer = found.prefer if self.command != "GET" else ""
            headers |= {"Prefer": prefer} if prefer else {}
            request = urllib.request.Request(prism + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    code, text = response.status, response.read()
            except urllib.error.HTTPError as error:
                code, text = error.code, error.read()
            text = text.replace(b"https://api.github.com", found.url.encode())
            self.send(code, text)

        def send(self, code: int, text: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
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


def bodies(found: GitHub, method: str) -> list[dict[str, str]]:
    """What was sent with a method."""
    return [json.loads(body) for verb, _, body in found.requests if verb == method]
