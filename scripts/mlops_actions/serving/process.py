"""A server's process: started so that it outlives this one, found again by what it wrote down, and ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

from ..processes.group import Group, end_found
from ..processes.identity import Identity

_WORKER = Path(__file__).with_name("worker.py")
_GRACE = 5.0  # seconds between asking a server to end and killing it
_MINE = ("RUNNER_TRACKING_ID", "GITHUB_", "AWS_", "MLSERVER_")
"""Prefixes of variables that a server is not given: by the first the runner finds what to kill when a job ends."""


def start(python: Path, folder: Path, environ: Mapping[str, str], log: Path) -> Group:
    """Start a server on a folder; its output is added to `log`."""
    given = {name: value for name, value in environ.items() if not name.startswith(_MINE)}
    (folder / "process.json").unlink(missing_ok=True)
    with log.open("ab") as file:
        return Group([str(python), str(_WORKER), str(folder)], folder, given, stdout=file, outlives=True)


def running(folder: Path) -> Identity | None:
    """The process that serves a folder, if it is alive."""
    try:
        values = json.loads((folder / "process.json").read_text())
        found = Identity(int(values["pid"]), str(values["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.alive else None


def end(process: Identity) -> None:
    """End a server, which has some seconds to finish the requests that it has."""
    end_found(process, _GRACE)


def free_port(host: str) -> int:
    """A port that no server listens on now."""
    with _socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port."""
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: connections in TIME_WAIT do not count
    return made
