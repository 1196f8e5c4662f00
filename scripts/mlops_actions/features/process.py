"""A command in the consumer's environment: its lines as they come, and its whole process group ended with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..processes import end_group, own_group


@contextmanager
def lines_of(
    command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path, given: bytes = b""
) -> Iterator[Iterator[str]]:
    """Run a command; the block gets the lines of its standard output. Standard error is added to `log`.

    When the block is left, by an exception or a signal too, the process and all that it started are ended.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environ: its variables.
        log: file for its standard error.
        given: its standard input.

    Raises:
        OSError: there is no such program.
        subprocess.CalledProcessError: after the last line, when it ended with another exit code than 0.
    """
    with log.open("ab") as errors:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            **own_group(),
        )
    try:
        yield _lines(process, given)
    finally:
        end_group(process)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


def _lines(process: subprocess.Popen[bytes], given: bytes) -> Iterator[str]:
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write(given)
        process.stdin.close()
    for line in process.stdout:
        yield line.decode(errors="replace").rstrip("\r\n")
    if code := process.wait():
        raise subprocess.CalledProcessError(code, process.args)
