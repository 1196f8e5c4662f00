"""The worker process as its starter sees it: a process group with a line of JSON to and from it."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RemoteFailed
from ..processes.group import Group

_WORKER = Path(__file__).with_name("worker")
_GRACE = 1.5  # seconds between asking the group to end and ending it
Message = dict[str, Any]


class Worker:
    """A process with the KFP SDK, in the consumer's environment, in the consumer's folder.

    It and all that it starts are one process group, which ends when the `with` block is left or this process is killed.

    Args:
        python: the environment's interpreter.
        root: the consumer's folder.
        environ: its variables.
        log: file for what it prints.
    """

    def __init__(self, python: Path, root: Path, environ: Mapping[str, str], log: Path) -> None:
        self._python, self._root, self._environ, self._log = python, root, environ, log
        self._messages: queue.Queue[Message | None] = queue.Queue()

    def __enter__(self) -> Worker:
        """Start it."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(self._python), str(_WORKER)]
        with self._log.open("wb") as log:
            self._group = Group(command, self._root, self._environ, stdin=subprocess.PIPE, stderr=log)
        self._process = self._group.process
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End its process group."""
        self._group.end(_GRACE)

    def send(self, message: Message) -> None:
        """Give it a command, or an answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._broken() from error

    def receive(self, timeout: float | None = None) -> Message | None:
        """Its next event or question; None when the time (seconds) is over.

        Raises:
            RemoteFailed: it ended by itself.
        """
        deadline = time.monotonic() + timeout if timeout is not None else None
        while True:
            # In slices: waiting for a lock cannot be interrupted by Ctrl-C on Windows.
            left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            try:
                message = self._messages.get(timeout=max(left, 0.001))
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                continue
            if message is None:
                raise self._broken()
            return message

    def _read(self) -> None:
        assert self._process.stdout
        try:
            for line in self._process.stdout:
                self._messages.put(json.loads(line))
        except ValueError:  # its last line was cut, or the pipe was closed
            pass
        self._messages.put(None)

    def _broken(self) -> RemoteFailed:
        code = self._process.wait()
        log = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return RemoteFailed(
            "The process that runs the pipeline ended early",
            why=f"It ended {how}",
            fix="Look at its log; if the machine is short of memory, give it more",
            log=log,
        )
