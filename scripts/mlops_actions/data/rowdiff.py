"""Rows of two tables side by side, matched by a key: which are on one side only, and which values differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ..errors import BadInput, Place
from .findings import EXAMPLES, shown, together
from .keys import key_hash
from .tables import FILE, ROW, Table, reading

_CELLS = 20_000_000  # values of both tables that are in memory at a time: the rest waits for its turn
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
    place: Place | None = None,
) -> RowDiff:
    """Match the rows of two tables by a key, and compare their values.

    The rows are parted by a hash of the key, and one part at a time is in memory.

    Args:
        one, two: the tables.
        keys: the columns that name a row; nulls are equal to each other.
        columns: which to compare; by default all that both have.
        tolerance: floats that differ by no more than this share of the larger one are equal.
        place: of the rule, for messages.

    Raises:
        BadInput: a column is missing, or a key is there twice.
    """
    columns = list(columns) or [name for name in one.schema if name in two.schema and name not in keys]
    for table in (one, two):
        if absent := [name for name in [*keys, *columns] if name not in table.schema]:
            what = f"There is no column {absent[0]!r} in {table.parts[0].name}"
            raise BadInput(what, fix="Correct the columns", place=place)
    rows = [int(t.frame.select(pl.len()).collect(engine="streaming").item()) for t in (one, two)]
    parts = max(1, -(-sum(rows) * (len(keys) + len(columns)) // _CELLS))
    found, changes = RowDiff(), {name: ColumnChange(name) for name in columns}
    for part in range(parts):
        joined = _joined(one, two, keys, columns, (part, parts), place)
        _count(joined, found, changes, keys, tolerance, one)
    found.columns = sorted((c for c in changes.values() if c.rows), key=lambda c: -c.rows)
    return found


def _joined(
    one: Table, two: Table, keys: Sequence[str], columns: Sequence[str], part: tuple[int, int], place: Place | None
) -> pl.DataFrame:
    casts = [pl.col(name).cast(one.schema[name]) for name in keys]
    mine = (key_hash(keys) % part[1]) == part[0]
    sides = []
    for table, kept in ((one, [FILE, ROW, *columns]), (two, columns)):
        with reading(table.parts[0].name, place):
            frame = table.rows.with_columns(casts).filter(mine).select(*keys, *kept).collect(engine="streaming")
        if frame.select(pl.struct(keys).is_duplicated().any()).item():
            twice = frame.filter(pl.struct(keys).is_duplicated()).select(keys).row(0)
            what = f"The key {', '.join(keys)} does not name one row: {together(twice)} is there more than once"
            raise BadInput(f"{what} in {table.parts[0].name}", fix="Name more columns as the key", place=place)
        sides.append(frame)
    other = sides[1].rename({name: _OTHER + name for name in columns}).with_columns(pl.lit(True).alias(_OTHER))
    return sides[0].join(other, on=list(keys), how="full", coalesce=True, nulls_equal=True)


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
            for file, row, *key, before, after in first.iter_rows():
                place = {"file": one.parts[file].name, "row": row + 1, "key": shown(together(key))}
                change.examples.append(place | {"before": shown(before), "after": shown(after)})


def _differs(name: str, schema: pl.Schema, tolerance: float) -> pl.Expr:
    a, b = pl.col(name), pl.col(_OTHER + name)
    kinds = schema[name], schema[_OTHER + name]
    if all(kind.is_numeric() for kind in kinds) and any(kind.is_float() for kind in kinds):
        a, b = a.cast(pl.Float64), b.cast(pl.Float64)
        if tolerance:
            near = (a - b).abs() <= tolerance * pl.max_horizontal(a.abs(), b.abs())
            return a.ne_missing(b) & ~near.fill_null(False)
        return a.ne_missing(b)
    if kinds[0] != kinds[1] and not all(kind.is_integer() for kind in kinds):
        a, b = a.cast(pl.String), b.cast(pl.String)
    return a.ne_missing(b)
