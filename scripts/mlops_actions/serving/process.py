"""A server's process: started so that it outlives this one, found again by pid and start time, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .worker import start_time

_WORKER = Path(__file__).with_name("worker.py")
_PATIENCE = 5.0  # seconds between asking a server to end and ending it
_MINE = ("RUNNER_TRACKING_ID", "GITHUB_", "AWS_", "MLSERVER_")
"""Variables that a server is not given: by the first the runner finds what to kill when a job ends."""


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same number by when it was started."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether it still is there."""
        return bool(self.started) and start_time(self.pid) == self.started

    def end(self) -> None:
        """Ask it and its group to end, wait, and end them. Nothing happens to a stranger with its number."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive:
                return
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
            wait_until(lambda: not self.alive, _PATIENCE)


def start(python: Path, folder: Path, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server on a folder, in a session of its own; its output is added to `log`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_MINE)}
    (folder / "process.json").unlink(missing_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            [str(python), str(_WORKER), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=kept,
            start_new_session=True,
        )


def running(folder: Path) -> Process | None:
    """The process that serves a folder, if it is alive."""
    try:
        values = json.loads((folder / "process.json").read_text())
        found = Process(int(values["pid"]), str(values["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.alive else None


def wait_until(done: Callable[[], bool], timeout: float) -> bool:
    """Ask `done` again and again until it says yes or the time (seconds) is over; whether it did."""
    deadline, pause = time.monotonic() + timeout, 0.02
    while not done():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.25)
    return True


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
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
