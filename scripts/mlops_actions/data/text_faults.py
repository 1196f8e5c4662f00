"""What is wrong with CSV or JSON lines that cannot be read, or would be read as garbage: line, byte, and cause."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..errors import BadInput, Place
from ..text import many
from .text_lines import may_lack_fields, open_text

_START = 1 << 16
"""Bytes of a file that tell its encoding and delimiter."""
_MOST = 1 << 28
"""Bytes that are searched for the line that cannot be read."""
_DELIMITERS = {";": "semicolons", "|": "pipes", "\t": "tabs", ":": "colons"}
_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"),
          (codecs.BOM_UTF16_BE, "UTF-16"))  # fmt: skip
_OTHERS = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS and not the file",
     "Fetch the file: `git lfs pull`, or `lfs: true` for actions/checkout"),
    (b"<!doctype", "a page of HTML", "Download the data itself: this may be the page of an error"),
    (b"<html", "a page of HTML", "Download the data itself: this may be the page of an error"),
    (b"<?xml", "XML", "Write it as CSV or Parquet"),
    (b"par1", "a Parquet file", "Name it .parquet"),
)  # fmt: skip
"""What is no table of text, by how it begins (in lower case)."""
_UNPARSED = re.compile(
    r"could not parse `(?P<cell>.*)` as dtype `(?P<kind>\w+)` at column '(?P<column>.*)' \(", re.DOTALL
)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?|NA|nan", re.IGNORECASE)
_ONE_WITH_COLONS = re.compile(r"\s*(?:.*\d\d?(?::\d\d){1,2}(?:[.,]\d+)?|\w+://.*)\s*")
"""A time of day, with its date or without, or a URL: one field."""
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Fault:
    """What is wrong, where (line from 1, byte from 0 in the uncompressed file), and what to do about it."""

    why: str
    line: int
    byte: int
    fix: str
    format: str = "CSV"

    def error(self, name: str) -> BadInput:
        """As the error that the user is told."""
        place = Place(name, self.line) if ":" not in name else None
        why = f"Line {self.line}, byte {self.byte}: {self.why}"
        return BadInput(f"The data file {name} cannot be read as {self.format}", why=why, fix=self.fix, place=place)


def fault_at_start(path: Path) -> Fault | None:
    """What makes a file garbage instead of an error: an encoding, line end or delimiter, a comment, a name twice."""
    with open_text(path) as file:
        start = file.read(_START)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return Fault(f"it is {encoding} text", 1, 0, "Write it as UTF-8")
    head = start.lstrip()[:64].lower()
    for mark, what, fix in _OTHERS:
        if head.startswith(mark):
            return Fault(f"it is {what}", 1, 0, fix)
    if start[:4096].count(0) * 4 > len(start[:4096]):
        return Fault("every other byte is 0, as in UTF-16 text", 1, start.index(0), "Write it as UTF-8")
    if b"\0" in start:
        line = start[: start.index(b"\0")].count(b"\n") + 1
        return Fault("it has a byte 0, which no text has", line, start.index(b"\0"), "Write it as text")
    if b"\r" in start.rstrip() and b"\n" not in start:
        return Fault("its lines end in CR alone, as on old Macintoshes", 1, start.index(b"\r"), "End lines with LF")
    if fault := _in_header(start):
        return fault
    lines = start.decode("utf-8", "replace").splitlines()
    lines = [line for line in (lines[:-1] if len(start) == _START else lines) if line.strip()][:20]
    if not lines:
        return None
    if lines[0].startswith("#") and len(lines) > 1 and lines[0].count(",") != lines[1].count(","):
        return Fault(
            "it looks like a comment, and the first line must have the columns' names", 1, 0, "Delete the line"
        )
    return _delimiter([_QUOTED.sub("q", line) for line in lines])


def _delimiter(lines: Sequence[str]) -> Fault | None:
    """What separates fields instead of commas: the header has it, and most lines have as many, or all lines have some.
    Texts in quotes count as one letter; one that goes on in the next line says nothing."""
    if "," in lines[0] or '"' in lines[0]:
        return None
    for delimiter, plural in _DELIMITERS.items():
        counts = [line.count(delimiter) for line in lines]
        if delimiter == ":" and all(_ONE_WITH_COLONS.fullmatch(line) for line in lines[1:]):
            continue
        if counts[0] and (counts.count(counts[0]) * 2 > len(counts) or all(counts)):
            decimal = any(_DECIMAL_COMMA.fullmatch(cell) for line in lines[1:] for cell in line.split(delimiter))
            commas = ", and its numbers have decimal commas" if decimal else ""
            return Fault(
                f"its fields are separated by {plural}{commas}", 1, 0,
                "Write it with commas between fields" + (" and decimal points" if decimal else ""),
            )  # fmt: skip
    rows = [line.split() for line in lines]
    if len(rows) > 1 and len(rows[0]) > 1 and len(set(map(len, rows))) == 1:
        numbers = sum(all(_NUMBER.fullmatch(cell) for cell in column) for column in zip(*rows[1:]))
        if numbers > 1 and numbers * 2 >= len(rows[0]):  # else it may be a text of several words
            return Fault("its fields are separated by spaces", 1, 0, "Write it with commas between fields")
    return None


def _in_header(start: bytes) -> Fault | None:
    """The columns' names are taken from any bytes, and a name that is there twice is changed by the reader."""
    header, ends, _ = start.partition(b"\n")
    try:
        text = header.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _not_utf8(error, 1, 0) if ends else None
    names = [name for name in next(csv.reader([text]), []) if name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if text.count('"') % 2:  # a name goes on in the next line, or its quote is one too many
        return _stray_quote(start)
    if twice is None:
        return None
    return Fault(f"two columns have the name {twice!r}", 1, 0, "Rename one of them")


def _stray_quote(start: bytes) -> Fault | None:
    """A quote in the header that never closes, or that stands inside a name: then all the rest would be one name."""
    try:
        names = next(csv.reader(io.StringIO(start.decode("utf-8-sig", "replace"), newline=""), strict=True), [])
    except csv.Error:
        names = None
    if names is not None and not any('"' in name for name in names):
        return None
    return Fault("a quote in the columns' names never closes", 1, start.index(b'"'), "Delete it, or double it")


def _not_utf8(error: UnicodeDecodeError, line: int, byte: int) -> Fault:
    why = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; it may be Windows-1252 or Latin-1 text"
    return Fault(why, line, byte + error.start, "Write it as UTF-8")


def lack_of_fields(path: Path) -> Fault | None:
    """The first line with fewer fields than the first one, whose rest would be read as nulls."""
    return find_fault(path, "", most=sys.maxsize) if may_lack_fields(path) else None


def find_fault(path: Path, message: str, most: int = _MOST) -> Fault | None:
    """The first line that cannot be read, and why; None if none is found.

    Args:
        path: the file.
        message: what the reader said.
        most: bytes that are searched.
    """
    unparsed = _UNPARSED.search(message)
    with open_text(path) as file:
        lines = _Lines(file, most)
        try:
            reader = csv.reader(iter(lines), strict=True)
            header = next(filter(None, reader), [])
            lines.begin()
            for row in reader:
                if len(row) > len(header):
                    return _too_many(row, header, lines)
                if row and len(row) < len(header):
                    return _too_few(row, header, lines)
                if unparsed and unparsed["column"] in header[: len(row)]:
                    cell = row[header.index(unparsed["column"])]
                    if cell == unparsed["cell"].strip('"'):
                        return _unparsed(unparsed, cell, lines)
                lines.begin()
        except UnicodeDecodeError as error:
            return _not_utf8(error, lines.line, lines.byte)
        except csv.Error as error:
            why = "a quote opens here and never closes" if "end of data" in str(error) else str(error)
            return Fault(why, lines.first_line, lines.first_byte, "Correct the line")
    return None


@dataclass(frozen=True)
class JsonLines:
    """What a look at a whole file of JSON lines has shown.

    Attributes:
        fault: the first line that is not one JSON object, or has a name twice; the rest was not looked at.
        nested: the columns that have an object or a list in some line.
    """

    fault: Fault | None = None
    nested: frozenset[str] = frozenset()


def look_at_json(path: Path) -> JsonLines:
    """Look at each line, if one may have what the reader gets wrong: a name twice, objects and lists for text."""
    state = _state(path)
    return JsonLines() if _is_plain(path, *state) else _looked_at(path, *state)


def find_json_fault(path: Path, _: str) -> Fault | None:
    """The first line that cannot be read, and why; None if none is found."""
    return _looked_at(path, *_state(path)).fault


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file does; a table is opened several times."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=256)
def _is_plain(path: Path, _time: int, _size: int) -> bool:
    """Whether no line has an object or a list in it, or a name twice; also False where that cannot be told at once."""
    import polars as pl

    line = pl.col("line")
    names = line.str.extract_all(r'"(?:[^"\\]|\\.)*"\s*:')
    odd = line.str.contains(r":\s*[\[{]") | (names.list.n_unique() < names.list.len())
    try:
        whole = pl.scan_csv(
            path, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String}, glob=False
        )
        found = whole.select(odd.any()).collect(engine="streaming").item()
    except (pl.exceptions.PolarsError, OSError):
        return False
    return not found


@lru_cache(maxsize=256)
def _looked_at(path: Path, _time: int, _size: int) -> JsonLines:
    byte, nested = 0, set[str]()
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            at = byte
            try:
                row = _JSON.decode(line.decode("utf-8-sig" if number == 1 else "utf-8")) if line.strip() else {}
                why = "" if isinstance(row, dict) else "it is not a JSON object"
            except UnicodeDecodeError as error:
                return JsonLines(replace(_not_utf8(error, number, byte), format="JSON lines"))
            except json.JSONDecodeError as error:
                why, at = f"it is not JSON: {error.msg}", byte + len(error.doc[: error.pos].encode())
            except (ValueError, RecursionError) as error:
                why = str(error)
            if why:
                return JsonLines(Fault(why, number, at, "Correct the line", "JSON lines"))
            nested.update(name for name, value in row.items() if type(value) in (dict, list))
            byte += len(line)
    return JsonLines(nested=frozenset(nested))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the name {next(name for name in names if names.count(name) > 1)!r} twice")
    return row


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it has {text}, which is not a number of JSON; null is no value")
    return number


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite)


def _too_many(row: list[str], header: list[str], lines: _Lines) -> Fault:
    why = f"it has {len(row)} fields, and the header has {len(header)}"
    pairs = pairwise(row)
    if any(one.lstrip("+-").isdigit() and other.isdigit() for one, other in pairs) and len(header) * 2 >= len(row):
        why += "; a number may have a decimal comma, or a text a comma"
    else:
        why += "; a text may have a comma"
    return Fault(why, lines.first_line, lines.first_byte, "Put such fields in quotes, or use decimal points")


def _too_few(row: list[str], header: list[str], lines: _Lines) -> Fault:
    why = f"it has {many(len(row), 'field')}, and the header has {len(header)}"
    if not next(iter(lines), ""):
        why += "; it is the last line, as of a file that was cut while it was written"
    return Fault(
        why, lines.first_line, lines.first_byte, "Write the file again, or a comma for each field that is empty"
    )


def _unparsed(found: re.Match[str], cell: str, lines: _Lines) -> Fault:
    column, kind = found["column"], {"i64": "a whole number", "f64": "a number"}.get(found["kind"], found["kind"])
    why = f"{cell[:80]!r} in the column {column!r} is not {kind}, as the rows before have it"
    if _DECIMAL_COMMA.fullmatch(cell):
        return Fault(why + "; it has a decimal comma", lines.first_line, lines.first_byte, "Use decimal points")
    fix = f"Correct it, or give the column a type in a contract (`{column}: {{dtype: String}}`)"
    return Fault(why, lines.first_line, lines.first_byte, fix)


class _Lines:
    """The lines of a file as text, with where the last one and the record that it belongs to began."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self.line, self.byte = 0, 0
        self.first_line, self.first_byte = 1, 0
        self._next = 0

    def begin(self) -> None:
        """The next line begins a record."""
        self.first_line, self.first_byte = self.line + 1, self._next

    def __iter__(self) -> Iterator[str]:
        for data in self._file:
            self.line, self.byte = self.line + 1, self._next
            self._next += len(data)
            text = data.decode("utf-8")
            if self.line == 1:
                text = text.removeprefix("\ufeff")
            yield text
            if self._next > self._most:
                return
