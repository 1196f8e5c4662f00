"""Trials as processes: each in a group of its own that ends with it, with this process, or at its deadline."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..processes import own_group, signal_group

GRACE = 2.0
"""Seconds between asking a process to end and killing it."""
_WINDOWS = os.name == "nt"
_TICK = 0.5  # on Windows a wait without an end cannot be interrupted


@dataclass
class _Running:
    began: float
    deadline: float
    ready: threading.Event = field(default_factory=threading.Event)
    process: subprocess.Popen[bytes] | None = None
    error: OSError | None = None
    asked: bool = False


@dataclass(frozen=True)
class Ended:
    """A process that ended by itself or at its deadline.

    Attributes:
        number: as it was started with.
        code: its exit code; negative for a signal.
        seconds: how long it ran.
        late: it was ended at its deadline.
    """

    number: int
    code: int
    seconds: float
    late: bool


class Processes:
    """Several processes at a time. As a context manager: none is left behind, however it is left."""

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._ended: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self._guard = None if _WINDOWS else _start_guard()
        self._telling = threading.Lock()

    def __enter__(self) -> Processes:
        """Itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End all that run, and the guard."""
        self.stop()
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            self._guard.wait()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def numbers(self) -> list[int]:
        """Of those that run."""
        return list(self._running)

    def start(
        self, number: int, argv: Sequence[str], *, folder: Path, environ: Mapping[str, str], log: Path, timeout: float
    ) -> None:
        """Start a process whose output, both streams, goes to a file."""
        now = time.monotonic()
        running = self._running[number] = _Running(now, now + timeout if timeout else float("inf"))
        command = _Command(argv, folder, environ, log)
        # In a thread, because a signal's handler raises in the main thread, and must not in the middle of a start.
        threading.Thread(target=self._run, args=(number, running, command), daemon=True).start()

    def next(self, until: float = float("inf")) -> Ended | None:
        """The next process that ends; None at the time (of `time.monotonic`) until which to wait.

        Raises:
            OSError: a process could not be started.
        """
        while True:
            now = time.monotonic()
            self._enforce(now)
            times = [until, now + _TICK, *(running.deadline for running in self._running.values())]
            try:
                number, ended = self._ended.get(timeout=max(0.0, min(times) - now))
            except queue.Empty:
                if time.monotonic() >= until:
                    return None
                continue
            running = self._running.pop(number)
            if running.error:
                raise running.error
            assert running.process
            self._finish(running.process)
            return Ended(number, running.process.returncode, ended - running.began, running.asked)

    def stop(self) -> None:
        """End all that run: ask, and kill what has not ended after `GRACE` seconds."""
        for running in self._running.values():
            running.ready.wait()
        processes = [running.process for running in self._running.values() if running.process]
        for process in processes:
            _end(process, force=False)
        limit = time.monotonic() + GRACE
        for process in processes:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                _end(process, force=True)
                process.wait()
            self._finish(process)
        self._running.clear()

    def _run(self, number: int, running: _Running, command: _Command) -> None:
        try:
            running.process = process = _start(command)
            self._tell(f"+{process.pid}")
        except OSError as error:
            running.error = error
        else:
            running.ready.set()
            process.wait()
        running.ready.set()
        self._ended.put((number, time.monotonic()))

    def _enforce(self, now: float) -> None:
        for running in self._running.values():
            if now >= running.deadline and running.process:
                _end(running.process, force=running.asked)
                running.asked, running.deadline = True, now + GRACE

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        if not _WINDOWS:
            signal_group(process.pid, signal.SIGKILL)  # what it left behind; a pod would end, too
        self._tell(f"-{process.pid}")

    def _tell(self, line: str) -> None:
        with self._telling:
            if self._guard and self._guard.stdin:
                try:
                    self._guard.stdin.write(f"{line}\n".encode())
                    self._guard.stdin.flush()
                except BrokenPipeError:
                    self._guard = None


def find(program: str, environ: Mapping[str, str], folder: Path) -> str | None:
    """The file that a command's first word means, by the PATH of the process to be; None if there is none."""
    if os.sep in program or "/" in program:
        path = folder / program
        return str(path) if path.is_file() else None
    search = environ.get("PATH", os.defpath)
    found = shutil.which(program, path=search)
    if not found and program == "python3":  # an environment on Windows has no python3
        found = shutil.which("python", path=search)
    return found


@dataclass(frozen=True)
class _Command:
    argv: Sequence[str]
    folder: Path
    environ: Mapping[str, str]
    log: Path


def _start(command: _Command) -> subprocess.Popen[bytes]:
    with command.log.open("wb") as output:
        return subprocess.Popen(
            command.argv,
            cwd=command.folder,
            env=dict(command.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **own_group(),
        )


def _start_guard() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes], *, force: bool) -> None:
    if _WINDOWS:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        signal_group(process.pid, signal.SIGKILL if force else signal.SIGTERM)
