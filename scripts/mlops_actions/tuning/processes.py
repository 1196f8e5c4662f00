"""Trials as processes: each in a group of its own that ends with it, with this process, or at its deadline."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..processes.group import GRACE, KILL, Group

_TICK = 0.5  # on Windows a wait without an end cannot be interrupted


@dataclass(frozen=True)
class Launch:
    """What a process is started with, and how it is ended.

    Attributes:
        argv: its words; the first is a path.
        folder: where it runs.
        environ: its variables.
        log: the file of its output, both streams.
        output: the file of its standard output, if that is not to be in the log.
        timeout: seconds that it may take; 0 for no limit.
        interrupt: the signal that asks it to end.
        grace: seconds that it has then.
    """

    argv: Sequence[str]
    folder: Path
    environ: Mapping[str, str]
    log: Path
    output: Path | None = None
    timeout: float = 0.0
    interrupt: int = signal.SIGTERM
    grace: float = GRACE


@dataclass
class _Running:
    launch: Launch
    began: float
    deadline: float
    ready: threading.Event = field(default_factory=threading.Event)
    group: Group | None = None
    error: OSError | None = None
    asked: bool = False


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        number: as it was started with.
        code: its exit code; negative for a signal.
        seconds: how long it ran.
        asked: it was asked to end, at its deadline or by `Processes.end`.
    """

    number: int
    code: int
    seconds: float
    asked: bool


class Processes:
    """Several processes at a time. As a context manager: none is left behind, however it is left."""

    def __init__(self) -> None:
        self._running: dict[int, _Running] = {}
        self._ended: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()

    def __enter__(self) -> Processes:
        """Itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End all that run."""
        self.stop()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def numbers(self) -> list[int]:
        """Of those that run."""
        return list(self._running)

    def start(self, number: int, launch: Launch) -> None:
        """Start a process, in a group of its own."""
        now = time.monotonic()
        running = _Running(launch, now, now + launch.timeout if launch.timeout else float("inf"))
        self._running[number] = running
        # In a thread, because a signal's handler raises in the main thread, and must not in the middle of a start.
        threading.Thread(target=self._run, args=(number, running), daemon=True).start()

    def end(self, number: int) -> None:
        """Ask a process to end; `next` gives it when it has."""
        if number in self._running and not self._running[number].asked:
            self._running[number].deadline = 0.0

    def next(self, until: float = float("inf")) -> Ended | None:
        """The next process that ends; None at the time (of `time.monotonic`) until which to wait.

        Raises:
            OSError: a process could not be started.
        """
        while True:
            now = time.monotonic()
            self._enforce(now)
            times = [until, now + _TICK, *(r.deadline for r in self._running.values() if r.group)]
            try:
                number, ended = self._ended.get(timeout=max(0.0, min(times) - now))
            except queue.Empty:
                if time.monotonic() >= until:
                    return None
                continue
            running = self._running.pop(number)
            if running.error:
                raise running.error
            assert running.group
            running.group.end(grace=0.0)  # what it left behind; a pod would end, too
            return Ended(number, running.group.process.returncode, ended - running.began, running.asked)

    def stop(self) -> None:
        """End all that run: ask, and kill what has not ended in its time."""
        for running in self._running.values():
            running.ready.wait()
        started = [(running.launch, running.group) for running in self._running.values() if running.group]
        began = time.monotonic()
        for launch, group in started:
            group.send(launch.interrupt)
        for launch, group in sorted(started, key=lambda pair: pair[0].grace):
            group.wait(began + launch.grace - time.monotonic())
            group.end(grace=0.0)
        self._running.clear()

    def _run(self, number: int, running: _Running) -> None:
        try:
            running.group = _start(running.launch)
        except OSError as error:
            running.error = error
        running.ready.set()
        if running.group:
            running.group.process.wait()
        self._ended.put((number, time.monotonic()))

    def _enforce(self, now: float) -> None:
        for running in self._running.values():
            if now >= running.deadline and running.group:
                running.group.send(KILL if running.asked else running.launch.interrupt)
                running.asked, running.deadline = True, now + running.launch.grace


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


def _start(launch: Launch) -> Group:
    with ExitStack() as files:
        log = files.enter_context(launch.log.open("wb"))
        output = files.enter_context(launch.output.open("wb")) if launch.output else log
        return Group(launch.argv, launch.folder, launch.environ, stdout=output, stderr=log)
