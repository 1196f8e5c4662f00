"""Rows of two tables side by side, matched by a key: which are on one side only, and which values differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ..errors import BadInput, Place
from .findings import EXAMPLES, shown, together
from .keys import Rising, among, key_hash, precedes
from .tables import FILE, ROW, Table, python_rows, reading, unknown_column

_CELLS = 12_000_000  # values of both tables that are in memory at a time: the rest waits for its turn
_OTHER = "\0other "


@dataclass
class ColumnChange:
    """A column whose values differ: in how many rows, and the first of them (file and row of the first table)."""

    column: str
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class RowDiff:
    """How two tables differ.

    Attributes:
        both: keys that both have.
        removed, added: keys that only the first, only the second has.
        changed: keys of both with a value that differs.
        columns: those with differences, the most first.
    """

    both: int = 0
    removed: int = 0
    added: int = 0
    changed: int = 0
    columns: list[ColumnChange] = field(default_factory=list)


def compare_rows(
    one: Table,
    two: Table,
    keys: Sequence[str],
    columns: Sequence[str] = (),
    *,
    tolerance: float = 0.0,
    common: bool = False,
    place: Place | None = None,
) -> RowDiff:
    """Match the rows of two tables by a key, and compare their values.

    Tables in which keys only rise are read side by side, once. Others are parted by a hash of the key. Either way, one
    part at a time is in memory.

    Args:
        one, two: the tables.
        keys: the columns that name a row; nulls are equal to each other.
        columns: which to compare; by default all that both have.
        tolerance: floats that differ by no more than this share of the larger one are equal.
        common: whether only keys of the second table matter. If it has few of them, those that only the first one has
            are not looked at, and not counted.
        place: of the rule, for messages.

    Raises:
        BadInput: a column is missing, or a key is there twice.
    """
    columns = list(columns) or [name for name in one.schema if name in two.schema and name not in keys]
    for table in (one, two):
        if absent := [name for name in [*keys, *columns] if name not in table.schema]:
            raise unknown_column(absent[0], table.parts[0].name, table.schema, place)
    found, changes = RowDiff(), {name: ColumnChange(name) for name in columns}
    for before, after in _parts(one, two, keys, columns, common, place):
        _count(_joined(before, after, keys, columns), found, changes, keys, tolerance, one)
    found.columns = sorted((c for c in changes.values() if c.rows), key=lambda c: -c.rows)
    return found


def _parts(
    one: Table, two: Table, keys: Sequence[str], columns: Sequence[str], common: bool, place: Place | None
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Rows of both tables that belong together: no key is in two parts."""
    casts = [pl.col(name).cast(_common(one.schema[name], two.schema[name])) for name in keys]
    frames = (
        one.rows.with_columns(casts).select(*keys, FILE, ROW, *columns),
        two.rows.with_columns(casts).select(*keys, *columns),
    )
    width = len(keys) + len(columns)
    with reading(f"{one.parts[0].name} or {two.parts[0].name}", place):
        sizes = [int(frame.select(pl.len()).collect(engine="streaming").item()) for frame in frames]
        if common and 2 * sizes[1] * width <= _CELLS:
            hashes = frames[1].select(key_hash(keys)).unique().collect(engine="streaming").to_series()
            frames, sizes[0] = (frames[0].filter(among(keys, hashes)), frames[1]), sizes[1]
        elif all(_rises(table, casts, keys) for table in (one, two)):
            batches = [_batches(table, casts, frame.collect_schema().names(), _CELLS // (4 * width))
                       for table, frame in zip((one, two), frames)]  # fmt: skip
            yield from _side_by_side(batches, [frame.head(0).collect() for frame in frames], keys)
            return
        parts = max(1, -(-sum(sizes) * width // _CELLS))
        for part in range(parts):
            mine = (key_hash(keys) % parts) == part
            before, after = (frame.filter(mine).collect(engine="streaming") for frame in frames)
            for frame, table in ((before, one), (after, two)):
                _need_unique(frame, keys, table, place)
            yield before, after


def _common(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The type in which keys of two types are compared, so that 0 is not 0.5: numbers as numbers, the rest as text."""
    if one == other or (one.is_temporal() and other.is_temporal()):
        return one
    if not (one.is_numeric() and other.is_numeric()):
        return pl.String()
    empty = [pl.DataFrame(schema={"": kind}) for kind in (one, other)]
    return pl.concat(empty, how="vertical_relaxed").dtypes[0]


def _batches(table: Table, casts: Sequence[pl.Expr], columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
    """The rows in order. File by file, since polars would begin to read all of them at once."""
    for frame in table.numbered:
        selected = frame.with_columns(casts).select(columns)
        yield from selected.collect_batches(chunk_size=max(1, size), maintain_order=True, engine="streaming")


def _rises(table: Table, casts: Sequence[pl.Expr], keys: Sequence[str]) -> bool:
    rising = Rising(keys)
    for batch in _batches(table, casts, keys, _CELLS // len(keys)):
        rising.update(batch)
        if not rising.holds:
            return False
    return True


def _side_by_side(
    batches: Sequence[Iterator[pl.DataFrame]], nothing: Sequence[pl.DataFrame], keys: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Both tables from their first keys to their last ones, each read once."""
    waiting = list(nothing)
    while True:
        for side in (0, 1):
            while waiting[side].is_empty() and (batch := next(batches[side], None)) is not None:
                waiting[side] = batch
        if waiting[0].is_empty() or waiting[1].is_empty():  # one is at its end
            if waiting[0].is_empty() and waiting[1].is_empty():
                return
            yield waiting[0], waiting[1]
            waiting = list(nothing)
            continue
        ends = [frame.select(keys).row(-1) for frame in waiting]
        counts = [min(_up_to(frame, keys, end) for end in ends) for frame in waiting]
        yield waiting[0].head(counts[0]), waiting[1].head(counts[1])
        waiting = [frame.slice(count) for frame, count in zip(waiting, counts)]


def _up_to(frame: pl.DataFrame, keys: Sequence[str], end: Sequence[Any]) -> int:
    """How many rows there are whose key does not come after another one."""
    last = [pl.lit(value, frame.schema[name]) for name, value in zip(keys, end)]
    return int(frame.select((~precedes(last, [pl.col(name) for name in keys])).sum()).item())


def _need_unique(frame: pl.DataFrame, keys: Sequence[str], table: Table, place: Place | None) -> None:
    if frame.select(key_hash(keys).n_unique()).item() < frame.height and frame.n_unique(keys) < frame.height:
        twice = python_rows(frame.filter(pl.struct(keys).is_duplicated()).select(keys).head(1))[0]
        what = f"The key {', '.join(keys)} does not name one row: {together(twice)} is there more than once"
        raise BadInput(f"{what} in {table.parts[0].name}", fix="Name more columns as the key", place=place)


def _joined(before: pl.DataFrame, after: pl.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    other = after.rename({name: _OTHER + name for name in columns}).with_columns(pl.lit(True).alias(_OTHER))
    return before.join(other, on=list(keys), how="full", coalesce=True, nulls_equal=True)


def _count(
    joined: pl.DataFrame, found: RowDiff, changes: dict[str, ColumnChange], keys: Sequence[str], tolerance: float,
    one: Table,
) -> None:  # fmt: skip
    found.removed += joined.get_column(_OTHER).null_count()
    found.added += joined.get_column(ROW).null_count()
    both = joined.filter(pl.col(ROW).is_not_null() & pl.col(_OTHER).is_not_null())
    found.both += both.height
    if not changes or both.is_empty():
        return
    differ = both.select(_differs(name, both.schema, tolerance).alias(name) for name in changes)
    found.changed += int(differ.select(pl.any_horizontal(pl.all()).sum()).item())
    for name, change in changes.items():
        rows = differ.get_column(name).arg_true()
        change.rows += len(rows)
        room = EXAMPLES - len(change.examples)
        if len(rows) and room > 0:
            first = both[rows.head(room)].select(FILE, ROW, *keys, name, _OTHER + name)
            for file, row, *key, before, after in python_rows(first):
                place = {"file": one.parts[file].name, "row": row + 1, "key": shown(together(key))}
                change.examples.append(place | {"before": shown(before), "after": shown(after)})


def _differs(name: str, schema: pl.Schema, tolerance: float) -> pl.Expr:
    a, b = pl.col(name), pl.col(_OTHER + name)
    kinds = schema[name], schema[_OTHER + name]
    if all(kind.is_numeric() for kind in kinds) and any(kind.is_float() for kind in kinds):
        a, b = a.cast(pl.Float64), b.cast(pl.Float64)
        if tolerance:
            near = (a - b).abs() <= tolerance * pl.max_horizontal(a.abs(), b.abs())
            finite = a.is_finite() & b.is_finite()  # every number is within a share of infinity
            return a.ne_missing(b) & ~(near & finite).fill_null(False)
        return a.ne_missing(b)
    if kinds[0] != kinds[1] and not all(kind.is_integer() for kind in kinds):
        a, b = a.cast(pl.String), b.cast(pl.String)
    return a.ne_missing(b)
