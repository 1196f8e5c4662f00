"""Standard output and standard error, as a disk that is full and a reader who has gone let them end."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import RemoteFailed

READER_GONE = 141
"""The exit code of what ends by SIGPIPE, as other programs do; Python does not."""


@contextmanager
def delivered() -> Iterator[None]:
    """A command whose words must all be written.

    What a full disk does not take of standard error is dropped: the command goes on, and one that fails keeps its exit
    code.

    Raises:
        SystemExit: they could not be. Nothing is said where the reader has gone, as of `mlops runs | head`.
    """
    given = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    out, err = (_Stream(stream, drops=drops) for stream, drops in zip(given, (False, True)))
    sys.stdout, sys.stderr = out, err
    failed = False
    try:
        yield
    except SystemExit as ended:
        failed = ended.code not in (None, 0)
        raise
    finally:
        for name, stream in (("standard output", out), ("standard error", err)):
            fault = stream.end()
            if fault and fault.errno == errno.EPIPE:
                sys.exit(READER_GONE)
            if fault and not (stream is err and failed):
                err.write(f"error: Cannot write to {name}: {fault.strerror}.\n")
                err.flush()
                sys.exit(RemoteFailed.exit_code)


class _Stream(io.TextIOWrapper):
    """A stream that remembers that it could not be written, and if it `drops` text, says so only at its end."""

    def __init__(self, stream: Any, *, drops: bool) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._fault: OSError | None = None
        self._drops = drops
        self._stream = stream  # it would close what both write to

    def write(self, text: str) -> int:
        with self._remembered():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._remembered():
            super().flush()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._fault = error
            if not self._drops or error.errno == errno.EPIPE:
                raise

    def end(self) -> OSError | None:
        """Write the rest, which Python would do when it is too late to say that it failed; what went wrong."""
        with suppress(OSError):
            self.flush()
        if self._fault:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        return self._fault
