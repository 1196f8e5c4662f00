"""What polars takes for rows of nulls: blank lines of CSV, and lines that lack fields.

A blank line is nothing to pandas, Arrow and DuckDB. In a table of one column it is a null: so polars, Arrow and DuckDB
write one, and DuckDB reads it. A line that lacks fields is a mistake, as of a file that was cut while it was written.
"""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

import numpy as np

_CHUNK = 1 << 18  # what the fastest memory holds
_ENDS = b"\r\n"


def open_text(path: Path) -> IO[bytes]:
    """A file of text as bytes, also when it is packed with gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def without_blank_lines(path: Path) -> Path:
    """The file, or a temporary one without the blank lines that are not rows."""
    return _look(path).plain


def may_lack_fields(path: Path) -> bool:
    """Whether there are too few commas for each line to have as many fields as the first one."""
    return _look(path).lacking


@dataclass(frozen=True)
class _Seen:
    """What a look at the whole file has shown.

    Attributes:
        plain: the file, or a temporary one without its blank lines.
        lacking: whether there are too few commas, or the last line ends in a text whose quote is open.
    """

    plain: Path
    lacking: bool


def _look(path: Path) -> _Seen:
    state = path.stat()
    found = _looked(path, state.st_mtime_ns, state.st_size)
    if not found.plain.exists():  # temporary files go with the action that made them
        _looked.cache_clear()
        found = _looked(path, state.st_mtime_ns, state.st_size)
    return found


@lru_cache(maxsize=256)
def _looked(path: Path, _time: int, _size: int) -> _Seen:
    columns = len(_columns(path))
    if columns < 2:
        return _Seen(path, lacking=False)
    blank, lacking = _counted(path, columns)
    if not blank:
        return _Seen(path, lacking)
    handle, name = tempfile.mkstemp(suffix=".csv")
    with os.fdopen(handle, "wb") as target:
        target.writelines(_kept(path))
    return _Seen(Path(name), lacking)


def _counted(path: Path, columns: int) -> tuple[bool, bool]:
    """Whether there are blank lines, and fewer commas than so many columns ask for; neither counts within quotes."""
    quoted, commas, lines, blank = False, 0, 0, 0
    last = b"\0\n"  # a file may begin with a blank line
    with open_text(path) as file:
        while chunk := file.read(_CHUNK):
            before = np.frombuffer(last + chunk, np.uint8)
            letters = before[2:]
            comma, end = letters == ord(","), letters == ord("\n")
            if quoted or b'"' in chunk:
                inside = np.bitwise_xor.accumulate(letters == ord('"')) ^ quoted
                comma, end = comma & ~inside, end & ~inside
                quoted = bool(inside[-1])
            commas += int(np.count_nonzero(comma))
            lines += int(np.count_nonzero(end))
            blank += int(np.count_nonzero(end & (before[1:-1] == ord("\n"))))
            if b"\r" in chunk:
                blank += int(np.count_nonzero(end & (before[1:-1] == ord("\r")) & (before[:-2] == ord("\n"))))
            last = (last + chunk)[-2:]
    lines += not last.endswith(b"\n")
    return blank > 0, quoted or commas < (lines - blank) * (columns - 1)


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
