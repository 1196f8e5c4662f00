"""A server's process: started so that it outlives this one, found again by what it wrote down, and ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..processes.group import Group, end_found
from ..processes.identity import Identity

_SERVER = Path(__file__).with_name("server")
_PROCESS = "process.json"  # as `server.process` calls it, which is not imported here: it needs the server's packages
_GRACE = 10.0  # seconds between asking a server to end and killing it
_MINE = ("RUNNER_TRACKING_ID", "GITHUB_", "AWS_")
"""Prefixes of variables that a server is not given: by the first the runner finds what to kill when a job ends."""


@dataclass(frozen=True)
class Running:
    """A server that is alive: its process, and the port of 127.0.0.1 at which only this machine asks it."""

    process: Identity
    port: int

    @property
    def url(self) -> str:
        """For those who ask it alone."""
        return f"http://127.0.0.1:{self.port}"


def start(python: Path, folder: Path, environ: Mapping[str, str], log: Path) -> Group:
    """Start the server of a release's folder; its output is added to `log`."""
    given = {name: value for name, value in environ.items() if not name.startswith(_MINE)}
    (folder / _PROCESS).unlink(missing_ok=True)
    command = [str(python), str(_SERVER), str(folder), "--host", "127.0.0.1", "--port", "0", "--control"]
    with log.open("ab") as file:
        return Group(command, folder, given, stdout=file, outlives=True)


def running(folder: Path) -> Running | None:
    """The server of a release's folder, if it is alive."""
    try:
        values = json.loads((folder / _PROCESS).read_text())
        found = Running(Identity(int(values["pid"]), str(values["started"])), int(values["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.process.alive else None


def end(server: Running) -> None:
    """End a server, which has some seconds to finish the requests that it has."""
    end_found(server.process, _GRACE)


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
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections in TIME_WAIT do not count
    return made
