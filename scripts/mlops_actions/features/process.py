"""A command in the consumer's environment: its lines as they come, and its whole process group ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PATIENCE = 2.0  # seconds between asking a group to end and ending it


def run(
    command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path, given: bytes = b""
) -> Iterator[str]:
    """Run a command and give each line of its standard output; standard error is added to `log`.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environ: its variables.
        log: file for its standard error.
        given: its standard input.

    Returns:
        An iterator; when it is left early, by an exception or a signal too, the process group is ended.

    Raises:
        OSError: there is no such program.
        subprocess.CalledProcessError: it ended with another exit code than 0.
    """
    with log.open("ab") as errors:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            **_own_group(),
        )
    with _ended(process):
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):
            process.stdin.write(given)
            process.stdin.close()
        for line in process.stdout:
            yield line.decode(errors="replace").rstrip("\r\n")
        if code := process.wait():
            raise subprocess.CalledProcessError(code, list(command))


def _own_group() -> dict[str, Any]:
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process, and all that it started, when the block is left."""
    try:
        yield
    finally:
        if os.name == "nt":
            stop = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(stop, capture_output=True, check=False)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            threading.Thread(target=process.stdout.close, daemon=True).start()
