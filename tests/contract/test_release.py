"""A release, rehearsed: into a bare git remote, with GitHub's API as its own description has it, killed anywhere.

The API's answers are the description's examples with what was asked for in them; each request is one that the
description takes, or is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import github_api
from conftest import NOWHERE, ROOT
from mlops_actions import __version__
from mlops_actions.environments import cache_folder, ensure

pytestmark = pytest.mark.skipif(bool(github_api.missing()), reason=github_api.missing() or "-")
VERSION = f"v{__version__}"
MAJOR = VERSION.split(".")[0]
CHANGES = re.split("^## .*\n", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1].strip()
_OF = "/repos/{owner}/{repo}/releases"
PATHS = (
    "/repos/{owner}/{repo}",
    _OF,
    f"{_OF}/{{release_id}}",
    f"{_OF}/{{release_id}}/assets",
    f"{_OF}/assets/{{asset_id}}",
)


@dataclass
class Releases:
    """GitHub's releases of one repository; `kill` is told of each request, before (even) and after (odd) it is done."""

    url: str = ""
    release: dict[str, Any] | None = None
    assets: dict[int, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    moments: int = 0
    kill_at: int = -1
    process: subprocess.Popen[str] | None = None

    def moment(self) -> bool:
        """Whether the process was killed now."""
        self.moments += 1
        if self.moments - 1 != self.kill_at or not self.process:
            return False
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return True

    def answer(self, method: str, path: str, body: bytes, example: Any) -> Any:
        """What the API answers, now that it has done what was asked."""
        place, _, query = path.partition("?")
        shown = place.rpartition("/")[2]
        if method == "GET" and shown == "releases":
            return [self.release] if self.release else []
        if method == "GET" and shown == "assets":
            return list(self.assets.values())
        if method == "GET":
            return self.assets[int(shown)]
        if method == "POST" and shown == "releases":
            assert self.release is None, "one draft is enough"
            asked = json.loads(body)
            mine = f"{self.url}/repos/o/r/releases/7"
            self.release = {**example, **asked, "id": 7, "url": mine, "upload_url": f"{mine}/assets{{?name,label}}"}
            return self.release
        assert self.release
        if method == "PATCH":
            assert self.release["draft"], "what is published does not change"
            self.release |= json.loads(body) | {"immutable": True}
            return self.release
        assert self.release["draft"], "what is published does not change"
        if method == "DELETE":
            self.content.pop(self.assets.pop(int(shown))["name"])
            return None
        name = re.sub(r".*name=([^&]*).*", r"\1", query)
        assert name not in self.content, "GitHub refuses a second asset of one name"
        number = max(self.assets, default=0) + 1
        self.content[name] = body
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        said = {"name": name, "size": len(body), "digest": digest, "state": "uploaded", "id": number}
        self.assets[number] = {**example, **said, "url": f"{self.url}/repos/o/r/releases/assets/{number}"}
        return self.assets[number]


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[github_api.GitHub]:
    with github_api.github(tmp_path_factory.mktemp("github"), *PATHS) as found:
        yield found


@pytest.fixture
def releases(description: github_api.GitHub) -> Iterator[Releases]:
    found = Releases()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if found.moment():
                return
            kept = {
                name: value for name in ("Authorization", "Accept", "Content-Type") if (value := self.headers[name])
            }
            # Of a file Prism is told the size only: it reads what is sent as text.
            sent = body if "json" in self.headers.get("Content-Type", "") else body[:1]
            request = urllib.request.Request(description.url + self.path, sent or None, kept, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=20) as response:
                    code, text = response.status, response.read()
            except urllib.error.HTTPError as error:
                code, text = error.code, error.read()
            if code < 300:
                done = found.answer(self.command, self.path, body, json.loads(text) if text else None)
                text = b"" if done is None else json.dumps(done).encode()
            if found.moment():
                return
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = respond

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass
class Rehearsal:
    """A clone of this repository whose change log has a date, the bare remote, and the files of the release."""

    checkout: Path
    remote: Path
    files: Path
    releases: Releases

    def start(self, *options: str, version: str = VERSION) -> subprocess.Popen[str]:
        python = ensure("build", cache_folder()).python
        command = [str(python), str(self.checkout / "scripts" / "release.py"), version, str(self.files)]
        where = ["--remote", str(self.remote), "--api", self.releases.url]
        environ = {**os.environ, "GH_TOKEN": "t0ken", "GITHUB_REPOSITORY": "o/r"}
        self.releases.process = subprocess.Popen(
            [*command, *where, *options], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self.releases.process

    def run(self, *options: str, version: str = VERSION) -> tuple[int, str]:
        process = self.start(*options, version=version)
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    def tags(self) -> dict[str, str]:
        lines = (line.split() for line in git(self.remote, "for-each-ref", "refs/tags").splitlines())
        return {name.removeprefix("refs/tags/"): commit for commit, _, name in lines}


@pytest.fixture
def rehearsal(tmp_path: Path, releases: Releases) -> Rehearsal:
    checkout, remote, files = tmp_path / "checkout", tmp_path / "remote.git", tmp_path / "dist"
    checkout.mkdir()
    git(checkout, "init", "--quiet")  # and no clone: a checkout without its history cannot be pushed from
    for path in git(ROOT, "ls-files").splitlines():
        if (ROOT / path).is_file():
            (checkout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, checkout / path)
    text = (checkout / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(text.replace("(unreleased)", "(2026-11-28)", 1))
    who = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    git(checkout, "add", "--all")
    git(checkout, *who, "commit", "--quiet", "--message", "Ready")
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    files.mkdir()
    (files / "mlops_actions.whl").write_bytes(b"PK\x03\x04wheel" * 1000)
    (files / "mlops-actions.cdx.json").write_text('{"bomFormat": "CycloneDX"}')
    return Rehearsal(checkout, remote, files, releases)


def check_released(one: Rehearsal) -> None:
    tags = one.tags()
    assert set(tags) == {VERSION, MAJOR} and tags[VERSION] == tags[MAJOR]
    head = git(one.checkout, "rev-parse", "HEAD")
    assert git(one.remote, "rev-parse", f"{VERSION}^") == head
    changed = git(one.remote, "diff", "--name-only", head, VERSION).splitlines()
    assert changed and all(path.endswith((".yml", ".yaml")) for path in changed)
    workflow = git(one.remote, "show", f"{VERSION}:.github/workflows/mlops.yml")
    assert f"/actions/plan@{head} # {VERSION}" in workflow and "uses: $/" not in workflow
    made = one.releases.release
    assert made and not made["draft"] and made["tag_name"] == VERSION
    assert made["body"].split() == CHANGES.split() and "\n  " not in made["body"]
    assert one.releases.content == {path.name: path.read_bytes() for path in one.files.iterdir()}
    assert git(one.checkout, "status", "--porcelain") == "" and git(one.checkout, "worktree", "list").count("\n") == 0


def test_a_release_is_a_fixed_tag_a_published_draft_with_its_files_and_a_major_tag_that_moves(
    rehearsal: Rehearsal,
) -> None:
    code, said = rehearsal.run()
    assert code == 0, said
    check_released(rehearsal)
    again, said = rehearsal.run()
    assert again == 0 and f"{VERSION}: is published" in said
    check_released(rehearsal)


def test_the_bundle_of_a_release_is_all_that_a_machine_without_an_index_needs(
    rehearsal: Rehearsal, tmp_path: Path
) -> None:
    name = "bundle.tar"
    subprocess.run([rehearsal.checkout / "scripts" / "bundle", rehearsal.files / name, "core"], check=True)
    code, said = rehearsal.run()
    assert code == 0, said
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / name).write_bytes(rehearsal.releases.content[name])
    for file in (name, "repository.tar.gz"):
        subprocess.run(["tar", "xf", file], cwd=taken, check=True)
    environ = {**os.environ, **NOWHERE, "MLOPS_BUNDLE": str(taken), "MLOPS_CACHE": str(taken / "cache")}
    environ.pop("PYTHONPATH", None)
    command = [taken / "mlops-actions" / "scripts" / "mlops", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"mlops-actions, version {__version__}\n"), done.stderr


def test_killed_at_any_request_and_run_again_it_goes_on(rehearsal: Rehearsal) -> None:
    kills = 0
    while True:
        rehearsal.releases.moments, rehearsal.releases.kill_at = 0, kills
        code, said = rehearsal.run()
        if code != -signal.SIGKILL:
            break
        kills += 1
    assert code == 0 and kills >= 4, said
    git(rehearsal.checkout, "worktree", "prune")
    check_released(rehearsal)


def test_a_half_upload_is_replaced_and_a_stray_file_removed(rehearsal: Rehearsal) -> None:
    rehearsal.releases.kill_at = 4  # the draft is there
    assert rehearsal.run()[0] == -signal.SIGKILL
    assert rehearsal.releases.release and rehearsal.releases.release["draft"]
    for number, name in ((1, "mlops_actions.whl"), (2, "stray.txt")):
        link = f"{rehearsal.releases.url}/repos/o/r/releases/assets/{number}"
        rehearsal.releases.assets[number] = {"id": number, "name": name, "size": 3, "state": "starter", "url": link}
        rehearsal.releases.content[name] = b"hal"
    rehearsal.releases.kill_at = -1
    code, said = rehearsal.run()
    assert code == 0 and "stray.txt: removed" in said, said
    check_released(rehearsal)


def test_a_dry_run_changes_nothing(rehearsal: Rehearsal) -> None:
    code, said = rehearsal.run("--dry-run")
    assert code == 0 and "mlops_actions.whl, 9,000 bytes" in said and f"notes:\n{CHANGES.splitlines()[0]}" in said
    assert rehearsal.tags() == {} and rehearsal.releases.release is None


def test_a_version_that_is_another_commit_is_refused(rehearsal: Rehearsal) -> None:
    git(rehearsal.checkout, "push", "--quiet", str(rehearsal.remote), f"HEAD:refs/tags/{VERSION}")
    before = rehearsal.tags()
    code, said = rehearsal.run()
    assert code == 2 and "a release never changes" in said
    assert rehearsal.tags() == before and rehearsal.releases.release is None


def test_a_release_that_no_test_upgrades_to_from_the_minor_version_before_is_refused(rehearsal: Rehearsal) -> None:
    git(rehearsal.checkout, "push", "--quiet", str(rehearsal.remote), "HEAD:refs/tags/v0.0.9")
    code, said = rehearsal.run()
    assert code == 2 and "Run `scripts/freeze 0.0.9`" in said
    assert set(rehearsal.tags()) == {"v0.0.9"} and rehearsal.releases.release is None


def test_an_older_version_does_not_take_the_major_tag(rehearsal: Rehearsal) -> None:
    newer = f"{MAJOR}.999.0"
    git(
        rehearsal.checkout,
        "push",
        "--quiet",
        str(rehearsal.remote),
        f"HEAD:refs/tags/{newer}",
        f"HEAD:refs/tags/{MAJOR}",
    )
    head = git(rehearsal.checkout, "rev-parse", "HEAD")
    code, said = rehearsal.run()
    assert code == 0 and f"{MAJOR}: stays at {newer}" in said
    assert rehearsal.tags()[MAJOR] == head
    assert rehearsal.releases.release and rehearsal.releases.release["make_latest"] == "false"


@pytest.mark.parametrize(
    ("version", "change", "told"),
    [
        ("1.2", "", "1.2 is not a version such as v1.2.3"),
        ("v99.0.0", "", f"The package says {__version__}"),
        (VERSION, "date", "is unreleased"),
        (VERSION, "file", "changes that are not committed"),
        (VERSION, "empty", "is empty"),
        (VERSION, "large", "less than 2 GiB"),
    ],
)
def test_what_cannot_be_released_is_refused(rehearsal: Rehearsal, version: str, change: str, told: str) -> None:
    log = rehearsal.checkout / "CHANGELOG.md"
    if change == "date":
        log.write_text(log.read_text().replace("(2026-11-28)", "(unreleased)", 1))
    elif change == "file":
        log.write_text(log.read_text() + "\n")
    elif change == "large":
        with (rehearsal.files / "bundle.tar").open("wb") as file:
            file.truncate(2 << 30)
    elif change == "empty":
        for path in rehearsal.files.iterdir():
            path.unlink()
    code, said = rehearsal.run(version=version)
    assert code == 2 and told in said
    assert rehearsal.tags() == {} and rehearsal.releases.release is None


def test_a_remote_that_is_not_there_is_not_bad_input(rehearsal: Rehearsal) -> None:
    subprocess.run([sys.executable, "-c", f"import shutil; shutil.rmtree({str(rehearsal.remote)!r})"], check=True)
    code, said = rehearsal.run()
    assert code == 3 and "Run it again" in said and "t0ken" not in said
