"""A process and all that it starts, as one group.

A process that runs a consumer's code is the head of a group, apart from ours and from our terminal's. The group ends as
a whole: when the block that started it is left, or, when this process is killed, by a guard (`guard.py`), which is one
small process for all groups of this one. On Windows there is no guard.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..waiting import wait_until
from .concealing import open_environ
from .identity import Identity, group_is_alive

GRACE = 2.0
"""Seconds between asking a group to end and killing it: a cancelled job has 7.5 s in all."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_GONE = 10.0  # seconds that a killed group may take to go
_SCRIPTS = Path(__file__).resolve().parents[2]
_WINDOWS = os.name == "nt"
Target = int | IO[bytes]


class Group:
    """A process that is the head of a group. As a context manager it leaves none of it behind.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environ: its variables.
        stdin, stdout, stderr: as `subprocess.Popen` takes them.
        outlives: it is to go on when this process has ended, so no guard watches it.
        keeps: descriptors that it inherits.

    Attributes:
        process: the head.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path | None,
        environ: Mapping[str, str],
        *,
        stdin: Target = subprocess.DEVNULL,
        stdout: Target = subprocess.PIPE,
        stderr: Target = subprocess.STDOUT,
        outlives: bool = False,
        keeps: Sequence[int] = (),
    ) -> None:
        options = group_options(outlives=outlives)
        self.process = subprocess.Popen(
            list(command), cwd=folder, env=dict(environ), stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=keeps,
            **options,
        )  # fmt: skip

    def __enter__(self) -> Group:
        """Itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self.end()

    def send(self, number: int) -> None:
        """Signal every process of the group. On Windows, where nothing can be asked, it is killed."""
        signal_group(self.process.pid, number)

    def wait(self, timeout: float) -> bool:
        """Wait for the head, and no longer than that many seconds; whether it has ended."""
        try:
            self.process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, grace: float = GRACE, ask: int = signal.SIGTERM) -> None:
        """End what is left of the group, also when its head has ended by itself.

        Args:
            grace: seconds between asking and killing; 0 to kill at once.
            ask: the signal that asks.
        """
        end_group(self.process.pid, grace, ask)
        self.process.wait()
        forget(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(OSError):  # what it did not read any more
                    pipe.close()

    def lines(self, given: bytes = b"") -> Iterator[str]:
        """The lines of its standard output as they come, without their ends.

        Args:
            given: its standard input, if that is a pipe.
        """
        if self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.write(given)
                self.process.stdin.close()
        assert self.process.stdout
        for line in self.process.stdout:
            yield line.decode(errors="replace").rstrip("\r\n")


def group_options(*, outlives: bool = False) -> dict[str, Any]:
    """What makes a process that `subprocess` or `asyncio` starts the head of a group, watched unless it `outlives` us.

    Whoever starts it ends the group, and then says so by `forget`.
    """
    if _WINDOWS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True, **({} if outlives else {"preexec_fn": _guard.joining()})}


def forget(group: int) -> None:
    """Nothing of a group is left: the guard need not watch it any more."""
    _guard.tell(f"-{group}")


def signal_group(group: int, number: int) -> bool:
    """Signal every process of a group; whether there was one. On Windows all are killed."""
    if _WINDOWS:
        command = ["taskkill", "/F", "/T", "/PID", str(group)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_group(group: int, grace: float = GRACE, ask: int = signal.SIGTERM) -> None:
    """Ask a group to end, kill what has not ended after `grace` seconds, and wait until all of it is gone."""
    for number, seconds in ((ask, grace), (KILL, _GONE)):
        if seconds and signal_group(group, number) and not _WINDOWS:
            wait_until(lambda: not group_is_alive(group), seconds)


def end_found(found: Identity, grace: float = GRACE) -> None:
    """End the group of a process that another one started. Nothing happens to a stranger with its number."""
    if found.alive:
        end_group(found.pid, grace)


def guard() -> Identity:
    """The process that ends our groups when we are killed. While it is alive, so may they be.

    Where there is none, on Windows, an identity that is never alive.
    """
    return Identity(0, "") if _WINDOWS else _guard.identity()


class _Guard:
    """The guard of this process, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def identity(self) -> Identity:
        return Identity.of(self._running().pid)

    def joining(self) -> Callable[[], None]:
        """What a new process calls between fork and exec: it tells the guard its group by itself.

        By then it has a group of its own. If we told, a kill between its start and that would leave it unwatched. Only
        system calls are made, as another thread may hold any lock at the fork.
        """
        pipe = self._pipe(self._running())

        def join() -> None:
            os.write(pipe, b"+%d\n" % os.getpid())

        return join

    def tell(self, line: str) -> None:
        process = self._process
        if process and process.poll() is None:
            with suppress(OSError):
                os.write(self._pipe(process), f"{line}\n".encode())

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-E", "-S", "-m", f"{__package__}.guard"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=_SCRIPTS,
                    env=open_environ(),
                    start_new_session=True,
                )
            return self._process

    @staticmethod
    def _pipe(process: subprocess.Popen[bytes]) -> int:
        assert process.stdin
        return process.stdin.fileno()


_guard = _Guard()
