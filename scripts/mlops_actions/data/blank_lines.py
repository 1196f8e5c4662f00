"""Blank lines of CSV, which polars takes for rows of nulls, and pandas, Arrow and DuckDB for nothing.

In a table of one column a blank line is a null: so polars, Arrow and DuckDB write one, and DuckDB reads it.
"""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

_CHUNK = 1 << 24
_ENDS = b"\r\n"


def open_text(path: Path) -> IO[bytes]:
    """A file of text as bytes, also when it is packed with gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def without_blank_lines(path: Path) -> Path:
    """The file, or a temporary one without the blank lines that are not rows."""
    state = path.stat()
    found = _without(path, state.st_mtime_ns, state.st_size)
    if not found.exists():  # temporary files go with the action that made them
        _without.cache_clear()
        found = _without(path, state.st_mtime_ns, state.st_size)
    return found


@lru_cache(maxsize=256)
def _without(path: Path, _time: int, _size: int) -> Path:
    if not _may_have(path) or len(_columns(path)) < 2:
        return path
    handle, name = tempfile.mkstemp(suffix=".csv")
    with os.fdopen(handle, "wb") as target:
        target.writelines(_kept(path))
    return Path(name)


def _may_have(path: Path) -> bool:
    """Whether there are two line ends side by side, be it in a text of several lines."""
    with open_text(path) as file:
        last = b"\n"  # a file may begin with one
        while chunk := file.read(_CHUNK):
            chunk = last + chunk
            if b"\n\n" in chunk or b"\n\r\n" in chunk:
                return True
            last = chunk[-2:]
    return False


def _columns(path: Path) -> list[str]:
    with open_text(path) as file:
        texts = (line.decode("utf-8", "replace") for line in file)
        return next((names for names in csv.reader(texts) if names), [])


def _kept(path: Path) -> Iterator[bytes]:
    quoted = False
    with open_text(path) as file:
        for line in file:
            if quoted or line.strip(_ENDS):
                yield line
            if line.count(b'"') % 2:
                quoted = not quoted
