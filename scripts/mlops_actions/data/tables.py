"""Tables in files: Parquet, CSV, JSON lines and Arrow as one lazy polars table, read in batches of bounded size.

`year=2020/` in a file's path is a column, as Hive, Spark and Arrow write partitions, unless the file has it itself.
A fixed offset (`+05:30`), for which polars has no time zone, is read as UTC: the moments are the same.
A blank line of CSV is not a row, unless the table has one column.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any
from zoneinfo import ZoneInfo

os.putenv("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")  # else polars panics where a zone is a fixed offset

import polars as pl

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from .partitions import columns_of
from .sources import DataSource
from .text_faults import (
    Fault,
    JsonLines,
    fault_at_start,
    find_fault,
    find_json_fault,
    lack_of_fields,
    look_at_json,
)
from .text_lines import without_blank_lines

Faults = Callable[[str], Fault | None]
BATCH_CELLS = 4_000_000
"""Values in one batch: about 32 MB of numbers, however wide the table is."""
FILE, ROW = "\0file", "\0row"
_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_TEXT: dict[str, Callable[[Path, str], Fault | None]] = {"csv": find_fault, "jsonl": find_json_fault}
"""Formats of text, with who finds the line at fault in such a file."""
_PACKED = (OSError, EOFError, zlib.error)
"""What is raised where a file cannot be read, also within gzip."""
_MARKS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"{": "jsonl"}
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?P<separator>[T ])\d\d:\d\d:\d\d(?:\.(?P<fraction>\d{1,9}))?(?P<utc>Z?)", re.ASCII
)
_SECONDS = len("2013-01-01T05:00:00")
_BOOLEANS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}


@dataclass(frozen=True)
class Part:
    """One file of a table.

    Attributes:
        name: what messages call it.
        numbered: its rows in the table's types, each with its number (`ROW`), from 0. The file's reader counts, so that
            rows that are filtered out are never in memory.
        read: the same without numbers, and beside each column of `Table.texts` its cells as they were read, under
            `as_read(name)`.
        faults: finds the line that cannot be read, from what the reader said; None where there are no lines.
    """

    name: str
    numbered: pl.LazyFrame
    read: pl.LazyFrame
    faults: Faults | None = None

    @property
    def frame(self) -> pl.LazyFrame:
        """Its rows in the table's types."""
        return self.numbered.drop(ROW)


@dataclass(frozen=True)
class Batch:
    """Rows of one file: `start` is the number, from 0, of the first one in that file."""

    part: Part
    start: int
    frame: pl.DataFrame


@dataclass(frozen=True)
class Table:
    """Files of one table, one after the other.

    Attributes:
        parts: the files.
        schema: columns and types of the whole. Where files differ: all columns, each in the type that holds all.
        differences: how files differ from the first one, in words.
        texts: columns that were read in another type (text, or numbers of files that differ) and then converted, with
            the types that were asked for.
    """

    parts: list[Part]
    schema: dict[str, pl.DataType]
    differences: list[str] = field(default_factory=list)
    texts: dict[str, pl.DataType] = field(default_factory=dict)

    @property
    def frame(self) -> pl.LazyFrame:
        """All rows."""
        return pl.concat([part.frame for part in self.parts])

    @property
    def numbered(self) -> list[pl.LazyFrame]:
        """The rows of each file, with the number of the file (`FILE`) and their own in it (`ROW`), both from 0."""
        return [part.numbered.with_columns(pl.lit(number).alias(FILE)) for number, part in enumerate(self.parts)]

    @property
    def rows(self) -> pl.LazyFrame:
        """All rows, numbered."""
        return pl.concat(self.numbered)

    def sample(self, columns: Sequence[str], most: int, rows: int) -> pl.DataFrame:
        """Columns of about so many rows of which there are `rows`: drawn by a hash of their numbers.

        The same rows each time; every k-th row would see one hour only of a table that has one row an hour.
        """
        frames = [part.numbered for part in self.parts]
        if rows > most:
            limit = int(most / rows * 2**64)
            frames = [frame.filter(pl.col(ROW).hash(seed=number) < limit) for number, frame in enumerate(frames)]
        with reading(self.parts[0].name):
            return pl.concat([frame.select(columns) for frame in frames]).collect(engine="streaming")

    def batches(self) -> Iterator[Batch]:
        """The rows in order, with the columns of `Part.read`."""
        size = max(1_000, BATCH_CELLS // max(1, len(self.schema)))
        for part in self.parts:
            start = 0
            with reading(part.name, faults=part.faults):
                for frame in part.read.collect_batches(chunk_size=size, maintain_order=True, engine="streaming"):
                    if frame.height:
                        yield Batch(part, start, frame)
                    start += frame.height


def as_read(column: str) -> str:
    """The name under which a column's text stands beside its parsed values."""
    return f"\0text of {column}"


def open_table(
    sources: Sequence[DataSource], types: Mapping[str, pl.DataType] | None = None, *, lenient: bool = True
) -> Table:
    """Open files as one table. Only headers are read here.

    Args:
        sources: the files. Those whose names start with `_` or `.` (`_SUCCESS`) are left out.
        types: types of columns for text formats; without one a column's type is what its first 10,000 rows look like.
        lenient: a cell of a text format that is not of its column's type is null, and `Part.read` has its text. Else it
            is an error when it is read, and numbers are parsed at once, which is several times as fast.

    Raises:
        BadInput: a file is empty, of an unknown format, or not what its name says.
    """
    kept = [source for source in sources if not PurePath(source.name).name.startswith(("_", "."))]
    if not kept:
        raise BadInput(
            "`data` names no data file", why="Names that begin with `_` or `.` are ignored", fix="Correct `data`"
        )
    # what nests is no cell of text
    types = {name: kind for name, kind in (types or {}).items() if not kind.is_nested()}
    raws = [_open(source, types, lenient=lenient) for source in kept]
    mixed = _mixed([raw.schema for raw in raws], types)
    partitions = columns_of(kept, types)
    frames, reads, schemas = [], [], []
    texts: dict[str, pl.DataType] = {}
    for raw, values in zip(raws, partitions):
        own = raw.texts | {n: types[n] for n in mixed if raw.schema.get(n, types[n]) != types[n]}
        parsed = [
            _parsed(n, k, nested=n in raw.nested) if n in raw.texts else same_value(n, raw.schema[n], k)
            for n, k in own.items()
        ]
        cells = [_cells(n, raw.schema[n]).alias(as_read(n)) for n in own]
        parsed += [value for name, value in values.items() if name not in raw.schema]
        with reading(raw.source.name, faults=raw.faults):
            frame = raw.frame.with_columns(parsed)
            read = raw.frame.drop(ROW).with_columns(*parsed, *cells)
            schemas.append(dict(frame.drop(ROW).collect_schema()))
        frames.append(frame)
        reads.append(read)
        texts |= own
    differences = [
        text for source, schema in zip(kept[1:], schemas[1:]) for text in _differences(source.name, schema, schemas[0])
    ]
    schema = schemas[0]
    if any(list(other.items()) != list(schema.items()) for other in schemas[1:]):
        with reading(", ".join(source.name for source in kept)):
            empty = [frame.drop(ROW).head(0) for frame in frames]
            schema = dict(pl.concat(empty, how="diagonal_relaxed").collect_schema())
        numbered = {ROW: pl.get_index_type()} | schema
        frames = [_aligned(frame, {ROW, *own}, numbered) for frame, own in zip(frames, schemas)]
    if len(kept) > 1:
        wide = schema | {as_read(name): pl.String() for name in texts}
        reads = [_aligned(read, read.collect_schema(), wide) for read in reads]
    parts = [Part(raw.source.name, frame, read, raw.faults) for raw, frame, read in zip(raws, frames, reads)]
    return Table(parts, schema, differences, texts)


def read_table(source: DataSource, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A whole file in memory, or some of its columns.

    Raises:
        BadInput: as `open_table`, or a column is absent.
    """
    frame = open_table([source]).frame
    if columns is not None:
        known = frame.collect_schema().names()
        absent = [name for name in columns if name not in known]
        if absent:
            raise unknown_column(absent[0], source.name, known)
        frame = frame.select(columns)
    with reading(source.name):
        return frame.collect()


def unknown_column(name: str, where: str, known: Iterable[str], place: Place | None = None) -> BadInput:
    """The error for a column that a table does not have; `where` is what messages call the table."""
    names = list(known)
    why = f"It has: {', '.join(names[:30])}{', …' if len(names) > 30 else ''}"
    return BadInput(
        f"{where} has no column {name!r}", why=why, fix=did_you_mean(name, names, "Correct it"), place=place
    )


class UnreadableCells(BadInput):
    """A file's text cannot be parsed as it was tried; read as text, it may be found where and why."""


@contextmanager
def reading(name: str, place: Place | None = None, faults: Faults | None = None) -> Iterator[None]:
    """Turn what polars raises on a file that it cannot read into ours.

    Args:
        name: what messages call the file.
        place: the rule's that named it.
        faults: finds the line at fault.
    """
    try:
        yield
    except pl.exceptions.NoDataError:
        raise BadInput(f"The data file {name} is empty", fix="Check the step that wrote it", place=place) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OverflowError, *_PACKED) as error:
        unreadable = isinstance(error, pl.exceptions.ComputeError)
        kind = UnreadableCells if unreadable else BadInput
        fault = None
        with suppress(*_PACKED):
            fault = faults(str(error)) if faults and isinstance(error, pl.exceptions.PolarsError) else None
        if fault:
            told = fault.error(name)
            raise kind(told.what, why=told.why, fix=told.fix, place=place or told.place) from error
        why = str(error).strip().split("\n")[0][:300]
        raise kind(
            f"The data file {name} cannot be read", why=why, fix="Check the step that wrote it", place=place
        ) from error


def python_rows(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """A few rows as Python's values; times that Python does not have (years past 9999) as text."""
    try:
        return frame.rows()
    except (ValueError, OverflowError):
        return frame.with_columns(pl.selectors.temporal().cast(pl.String)).rows()


@dataclass(frozen=True)
class _Raw:
    """A file as it is read, numbered; which of its columns are text to be parsed, with the types asked for; and which
    have objects or lists of JSON."""

    source: DataSource
    frame: pl.LazyFrame
    schema: dict[str, pl.DataType]
    texts: dict[str, pl.DataType]
    nested: Collection[str]
    faults: Faults | None


def _open(source: DataSource, types: Mapping[str, pl.DataType], *, lenient: bool) -> _Raw:
    kind = _format(source)
    with reading(source.name):
        seen = look_at_json(source.path) if kind == "jsonl" else JsonLines()
    if seen.fault:
        raise seen.fault.error(source.name)
    own = {n: k for n, k in types.items() if lenient or n in seen.nested or not _parsed_at_once(k)}
    faults = partial(_TEXT[kind], source.path) if kind in _TEXT else None
    frame = _scan(source, kind, {**types, **dict.fromkeys(own, pl.String())}, faults)
    with reading(source.name, faults=faults):
        schema = dict(frame.drop(ROW).collect_schema())
    for name in schema:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            why = "Such a name is a pattern of names to the library that reads it"
            raise BadInput(f"The column {name!r} of {source.name} cannot be used", why=why, fix="Rename it")
    if offsets := {n: k for n, k in schema.items() if isinstance(k, pl.Datetime) and named_zone(k) != k}:
        frame = frame.with_columns(pl.col(name).cast(named_zone(k)) for name, k in offsets.items())
        schema |= {name: named_zone(k) for name, k in offsets.items()}
    texts = {n: k for n, k in own.items() if kind in _TEXT and n in schema}
    return _Raw(source, frame, schema, texts, seen.nested, faults)


def named_zone(kind: pl.DataType) -> pl.DataType:
    """The type with UTC instead of a time zone that has no name, such as `+05:30`."""
    if not isinstance(kind, pl.Datetime) or not kind.time_zone:
        return kind
    try:
        ZoneInfo(kind.time_zone)
    except (KeyError, ValueError, OSError):
        return pl.Datetime(kind.time_unit, "UTC")
    return kind


def _mixed(schemas: Sequence[Mapping[str, pl.DataType]], types: Mapping[str, pl.DataType]) -> list[str]:
    """Columns of numbers whose type differs between files, and that a contract gives one type of numbers.

    pandas writes whole numbers with a gap as floats: months with and without one are the same column.
    """
    return [
        name
        for name, kind in types.items()
        if kind.is_numeric()
        and all(schema[name].is_numeric() for schema in schemas if name in schema)
        and len({schema[name] for schema in schemas if name in schema}) > 1
    ]


def _cells(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    return (column.fill_nan(None) if kind.is_float() else column).cast(pl.String)


def same_value(name: str, kind: pl.DataType, asked: pl.DataType) -> pl.Expr:
    """A column in another type; null where that does not have the value, such as 0.5 among whole numbers."""
    if kind == asked:
        return pl.col(name)
    column = pl.col(name).fill_nan(None) if kind.is_float() else pl.col(name)
    if kind.is_float() and asked.is_integer():
        column = pl.when(column == column.round()).then(column)
    return column.cast(asked, strict=False).alias(name)


def _format(source: DataSource) -> str:
    """By the name's ending; by the first bytes where it has none, as a pipeline's artifacts."""
    bare = source.name.lower().removesuffix(".gz")
    suffix = PurePath(bare).suffix
    if not PurePath(source.name).suffix:
        with reading(source.name), source.path.open("rb") as file:
            start = file.read(6)
        return next((kind for mark, kind in _MARKS.items() if start.startswith(mark)), "csv")
    kind = _FORMATS.get(suffix)
    if kind is None or (bare != source.name.lower() and kind != "csv"):
        known = ", ".join(_FORMATS)
        raise BadInput(f"The data file {source.name} has an unknown format", fix=f"Use one of {known}, .csv.gz")
    return kind


def _scan(source: DataSource, kind: str, types: Mapping[str, pl.DataType], faults: Faults | None) -> pl.LazyFrame:
    if source.path.stat().st_size == 0:
        raise BadInput(f"The data file {source.name} is empty", fix="Check the step that wrote it")
    with reading(source.name, faults=faults):
        if kind == "parquet":
            return pl.scan_parquet(source.path, hive_partitioning=False, glob=False, row_index_name=ROW)
        if kind == "arrow":
            return pl.scan_ipc(source.path, hive_partitioning=False, row_index_name=ROW)
        if kind == "jsonl":
            names = pl.scan_ndjson(source.path, infer_schema_length=10_000).collect_schema()
            own = {name: kind for name, kind in types.items() if name in names}  # it takes no others
            return pl.scan_ndjson(source.path, infer_schema_length=10_000, schema_overrides=own, row_index_name=ROW)
        if fault := fault_at_start(source.path) or lack_of_fields(source.path):
            raise fault.error(source.name)
        path = without_blank_lines(source.path)
        return pl.scan_csv(path, infer_schema_length=10_000, schema_overrides=types, glob=False, row_index_name=ROW)


def _parsed_at_once(kind: pl.DataType) -> bool:
    """Whether polars' reader of CSV and `_parsed` agree on every cell that both can read."""
    return kind in (pl.String, pl.Boolean) or kind.is_integer() or kind.is_float()


def _parsed(name: str, kind: pl.DataType, *, nested: bool) -> pl.Expr:
    """A column of text in another type; null where the text is not of it, or an object or list of JSON."""
    text = pl.col(name)
    if kind == pl.String:
        return pl.when(~text.str.contains(r"^[\[{]")).then(text).alias(name) if nested else text
    if kind == pl.Boolean:
        return text.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean).alias(name)
    if isinstance(kind, pl.Datetime):
        return text.map_batches(partial(parse_times, kind=kind), return_dtype=kind, is_elementwise=True)
    if kind == pl.Date:
        return text.str.to_date(strict=False)
    return text.str.strip_chars().cast(kind, strict=False)


def parse_times(texts: pl.Series, kind: pl.Datetime) -> pl.Series:
    """Texts as times; null where one is not a time.

    polars parses a format without fractions of seconds and zones six times as fast as it guesses one: so where every
    text has the layout of the first one, what is beside the seconds is read by its position.
    """
    unit, zone = kind.time_unit, kind.time_zone
    first = texts.drop_nulls().head(1).to_list()
    layout = _ISO_TIME.fullmatch(first[0]) if first else None
    if layout and bool(layout["utc"]) == bool(zone) and (layout.end() == _SECONDS or _all_like(texts, layout)):
        whole = texts if layout.end() == _SECONDS else texts.str.slice(0, _SECONDS)
        times = whole.str.to_datetime(f"%Y-%m-%d{layout['separator']}%H:%M:%S", time_unit=unit, strict=False,
                                      cache=False)  # fmt: skip
        if times.null_count() == texts.null_count():
            if digits := layout["fraction"]:
                part = texts.str.slice(_SECONDS + 1, len(digits)).cast(pl.Int64)
                power = {"ms": 3, "us": 6, "ns": 9}[unit] - len(digits)
                times += (part * 10**power if power >= 0 else part // 10**-power).cast(pl.Duration(unit))
            return times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else times
    return texts.str.to_datetime(time_unit=unit, time_zone=zone, strict=False)


def _all_like(texts: pl.Series, layout: re.Match[str]) -> bool:
    digits = layout["fraction"]
    rest = (rf"\.[0-9]{{{len(digits)}}}" if digits else "") + layout["utc"]
    return bool(texts.str.contains(f"^[ -~]{{{_SECONDS}}}{rest}$").all())


def _aligned(frame: pl.LazyFrame, own: Collection[str], schema: Mapping[str, Any]) -> pl.LazyFrame:
    return frame.select(
        pl.col(name).cast(kind) if name in own else pl.lit(None, dtype=kind).alias(name)
        for name, kind in schema.items()
    )


def _differences(name: str, schema: Mapping[str, pl.DataType], first: Mapping[str, pl.DataType]) -> Iterator[str]:
    for column, kind in schema.items():
        if column not in first:
            yield f"{name} has the column {column}, which the first file lacks"
        elif kind != first[column]:
            yield f"{name} has {column} as {kind}, the first file as {first[column]}"
    for column in first:
        if column not in schema:
            yield f"{name} lacks the column {column}"
