"""A server's process: started so that it outlives this one, found again by what was written down, and ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO

from ..processes.group import Group, end_found
from ..processes.identity import Identity
from ..waiting import wait_until
from . import control
from .served import write_json

GRACE = 10.0
"""Seconds between asking a server to end and killing it."""
_SERVER = Path(__file__).with_name("server")
_PROCESS = "process.json"  # as `server.process` calls it, which is not imported here: it needs the server's packages
_HELD = "held"  # locked for the whole life of a server, so that it is seen before it has written down who it is
_COMING = 10.0  # seconds that it may take to do so
_LEFT = 1.0  # seconds that we wait for that lock: a process which an earlier server left behind may have it for ever
_MINE = ("RUNNER_TRACKING_ID", "GITHUB_", "AWS_")
"""Prefixes of variables that a server is not given: by the first the runner finds what to kill when a job ends."""


def start(python: Path, folder: Path, sockets: Path, environ: Mapping[str, str], log: Path) -> Group:
    """Start the server of a release's folder, with a folder for its sockets; its output is added to `log`."""
    given = {name: value for name, value in environ.items() if not name.startswith(_MINE)}
    forget(folder)
    with log.open("ab") as file, (folder / _HELD).open("ab") as held:
        wait_until(lambda: _locked(held, "LOCK_EX"), _LEFT)  # until the server, which inherits it, has ended
        command = [str(python), str(_SERVER), str(folder), "--control", str(sockets)]
        return Group(command, folder, given, stdout=file, outlives=True, keeps=[held.fileno()])


def running(folder: Path) -> Identity | None:
    """The process that serves a release's folder, if it is alive.

    One that has just been started, perhaps by a process that was killed since, is waited for until it says who it is.
    """
    wait_until(lambda: (folder / _PROCESS).exists() or not _held(folder), _COMING)
    try:
        values = json.loads((folder / _PROCESS).read_text())
        found = Identity(int(values["pid"]), str(values["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.alive else None


def _held(folder: Path) -> bool:
    try:
        with (folder / _HELD).open("rb") as held:
            return not _locked(held, "LOCK_SH")
    except FileNotFoundError:
        return False


def _locked(held: IO[bytes], how: str) -> bool:
    """Lock a file if nobody else has it locked; whether it is now."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(held, getattr(fcntl, how) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remember(folder: Path, server: Identity) -> None:
    """Write down which process serves a release's folder, where it cannot do so itself."""
    write_json(folder / _PROCESS, asdict(server))


def forget(folder: Path) -> None:
    """No process serves a release's folder."""
    (folder / _PROCESS).unlink(missing_ok=True)


def end(server: Identity) -> None:
    """End a server, which has some seconds to finish the requests that it has."""
    end_found(server, GRACE)


def free_port(host: str) -> int:
    """A port that no server listens on now."""
    with control.listener(host, 0) as probe:
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port."""
    try:
        control.listener(host, port).close()
    except OSError:
        return False
    return True
