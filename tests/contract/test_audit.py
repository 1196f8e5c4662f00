"""`scripts/audit` before a database that answers as OSV does."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import ROOT

# The form is that of https://ossf.github.io/osv-schema/, as api.osv.dev gives it.
VULNERABILITY = {
    "id": "GHSA-test-test-test",
    "aliases": ["CVE-2026-0001"],
    "summary": "It lets others in",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "uv", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999.0"}]}],
        }
    ],
}


@pytest.fixture
def database() -> Iterator[tuple[str, dict[str, list[object]]]]:
    """Its address, and what is known by package; what is asked is kept under "asked"."""
    known: dict[str, list[object]] = {"asked": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known["asked"].append((asked["package"]["name"], asked["version"]))
            found = known.get(asked["package"]["name"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(503 if known.get("down") else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", known
    server.shutdown()
    server.server_close()


def audit(url: str, *options: str, locks: tuple[str, ...] = ("uv",)) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "audit"), *locks, "--osv-url", url, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_package_of_a_lock_is_looked_up(database: tuple[str, dict[str, list[object]]]) -> None:
    url, known = database
    done = audit(url, locks=("core", "uv"))
    assert done.returncode == 0 and "core: looked up" in done.stdout, done.stderr
    pins = {line.split(";")[0].split()[0] for line in (ROOT / "scripts/locks/core.txt").read_text().splitlines()
            if "==" in line}  # fmt: skip
    asked = {f"{name}=={version}" for name, version in known["asked"]}  # type: ignore[misc, attr-defined]
    assert pins <= asked


def test_what_is_known_fails_with_its_names_and_remedy(database: tuple[str, dict[str, list[object]]]) -> None:
    url, known = database
    known["uv"] = [VULNERABILITY]
    done = audit(url)
    assert done.returncode == 1
    for told in ("uv: uv ", "GHSA-test-test-test", "CVE-2026-0001", "fixed in 999.0"):
        assert told in done.stdout


@pytest.mark.parametrize(("until", "code"), [("2999-01-01", 0), ("2026-01-01", 1)])
def test_an_exception_counts_until_its_day(
    database: tuple[str, dict[str, list[object]]], tmp_path: Path, until: str, code: int
) -> None:
    url, known = database
    known["uv"] = [VULNERABILITY]
    given = tmp_path / "audit.yaml"
    given.write_text(f"- {{id: CVE-2026-0001, until: {until}, reason: it is not called}}")
    done = audit(url, "--exceptions", str(given))
    assert done.returncode == code
    assert "let pass: it is not called" in done.stdout if code == 0 else "the exception ended" in done.stderr


@pytest.mark.parametrize("text", ["- {id: X, until: 2999-01-01}", "- {id: X, until: soon, reason: y}"])
def test_an_exception_without_reason_or_day_is_refused(
    database: tuple[str, dict[str, list[object]]], tmp_path: Path, text: str
) -> None:
    given = tmp_path / "audit.yaml"
    given.write_text(text)
    done = audit(database[0], "--exceptions", str(given))
    assert done.returncode == 3 and "exception 1" in done.stderr


def test_what_could_not_be_looked_up_has_not_passed(database: tuple[str, dict[str, list[object]]]) -> None:
    url, known = database
    known["down"] = [True]
    assert audit(url).returncode == 3
