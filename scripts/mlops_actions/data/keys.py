"""Keys of rows: which are not unique, and which are in another table or are not.

A key is known by a 64-bit hash of its values: 8 bytes a row. Where a hash says that something is wrong, the rows are
looked at again by the values themselves, so that counts are exact. That two different keys of a table of 10 million
rows share a hash by chance has a probability of 3 in a million, and then costs that second look. Keys that only ever
rise, as in most tables that somebody keeps, are unique without a look at their hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ..errors import BadInput, Place
from .findings import EXAMPLES, Check
from .tables import FILE, ROW, Batch, Table, reading, same_value, unknown_column

_LOOKED_AT = 100_000  # rows with suspicious keys that are compared by the keys themselves
_MANY = 10_000  # values of which polars makes a set anew for each batch
_FEW = 8  # values that are compared one by one three times as fast as they are looked up in a set


def key_hash(columns: Sequence[str]) -> pl.Expr:
    """The hash of a row's key. Nulls are equal to each other."""
    return (pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)).hash(seed=0)


def among(columns: Sequence[str], hashes: pl.Series) -> pl.Expr:
    """Whether the hash of a row's key is one of others, of which there may be millions."""
    known: np.ndarray[Any, Any] = hashes.sort().to_numpy()

    def found(keys: pl.Series) -> pl.Series:
        if not len(known):
            return pl.repeat(value=False, n=len(keys), dtype=pl.Boolean, eager=True)
        order = keys.arg_sort().to_numpy()  # one after the other they are found near each other in memory
        asked = keys.to_numpy()[order]
        there = np.empty(len(asked), dtype=bool)
        there[order] = known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked
        return pl.Series(keys.name, there)

    return key_hash(columns).map_batches(found, return_dtype=pl.Boolean, is_elementwise=True)


class Rising:
    """Takes frames, and knows whether each row's key is greater than the one before it; with a null it is not.

    Args:
        columns: together the key.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._last: pl.DataFrame | None = None
        self.holds = True

    def update(self, frame: pl.DataFrame) -> None:
        """Take the next rows."""
        if not self.holds or not frame.height:
            return
        key = frame.select(self._columns)
        ordered = all(kind.is_integer() or kind.is_temporal() or kind == pl.String for kind in key.dtypes)
        nulls = self._last is None and any(column.null_count() for column in key.head(1))
        self.holds = ordered and not nulls and self._rises(key)
        self.holds = self.holds and (self._last is None or self._rises(pl.concat([self._last, key.head(1)])))
        self._last = key.tail(1)

    def _rises(self, key: pl.DataFrame) -> bool:
        before, after = key[:-1], key[1:].select(pl.all().name.prefix("\0"))
        rises = precedes([pl.col(name) for name in key.columns], [pl.col(name) for name in after.columns])
        return bool(before.hstack(after).select(rises.fill_null(value=False).all()).item())


def precedes(one: Sequence[pl.Expr], other: Sequence[pl.Expr]) -> pl.Expr:
    """Whether one key comes before another by their first values, where these are equal by the second ones, and so on.

    Null where that depends on a null.
    """
    before: pl.Expr = pl.lit(value=False)
    for a, b in reversed(list(zip(one, other))):
        before = (a < b) | ((a == b) & before)
    return before


class UniqueKey:
    """Takes batches, and counts the rows that share their key.

    Args:
        table: which has the columns.
        columns: together the key.
        place: the rule's.
        duplicates: the share of rows that may share their key. If it is given, the key is whole rows.
    """

    def __init__(
        self, table: Table, columns: Sequence[str], place: Place | None, duplicates: float | None = None
    ) -> None:
        self._table, self._columns, self._allowed = table, list(columns), duplicates or 0.0
        self._check = Check(", ".join(columns), "unique", place=place)
        if duplicates is not None:
            self._check = Check("", f"duplicates({duplicates:g})", place=place, shown=self._columns)
        self.shared = 0
        """Rows that share their key, once `results` was asked."""
        self._hashes: list[pl.Series] = []
        self._rising = Rising(self._columns)
        absent = [name for name in columns if name not in table.schema]
        if absent:
            self._check.failed, self._check.why = 1, f"the column {absent[0]} is missing"

    def update(self, batch: Batch) -> None:
        """Take the next rows."""
        if self._check.failed:
            return
        self._hashes.append(batch.frame.select(key_hash(self._columns)).to_series())
        self._rising.update(batch.frame)

    def results(self) -> list[Check]:
        """What was found."""
        kept, self._hashes = self._hashes, []
        if kept and not self._rising.holds:
            hashes = pl.concat(kept).sort()
            again = hashes.filter(hashes == hashes.shift(1))
            if len(again):
                self._look_again(again.unique(), len(hashes))
        return [self._check]

    def _look_again(self, suspects: pl.Series, total: int) -> None:
        key, check = key_hash(self._columns), self._check
        rows = self._table.rows.select(*self._columns, FILE, ROW)
        if len(suspects) <= _LOOKED_AT:
            rows = rows.filter(key.is_in(suspects.implode()))
            counted = rows.select(pl.len()).collect(engine="streaming").item()
        else:
            counted = _LOOKED_AT + 1
        if counted <= _LOOKED_AT:
            found = rows.collect(engine="streaming")
            found = found.filter(pl.struct(self._columns).is_duplicated())
            many = found.height
        else:  # a hash that is shared by chance makes no difference any more
            grouped = self._table.frame.select(key.alias("key")).group_by("key").len().filter(pl.col("len") > 1)
            many = int(grouped.select(pl.col("len").sum()).collect(engine="streaming").item())
            few = suspects.head(EXAMPLES).implode()
            found = rows.filter(key.is_in(few)).head(EXAMPLES).collect(engine="streaming")
        self.shared = many
        if many > self._allowed * total:
            what = "are the same as another row" if check.shown else "share their key"
            check.failed, check.why = many, f"fails: {many:,} rows {what}"
            check.show_rows(self._table, found, self._columns)


def is_known(
    columns: Sequence[str],
    other: Table,
    keys: Sequence[str],
    table: Table,
    place: Place | None,
    *,
    nulls: bool = False,
) -> pl.Expr:
    """Whether a row's key is one of another table's; null where one of its values is null, unless nulls are equal.

    The keys of the other table are in memory: the values of one column if they are not many, and else their hashes.

    Args:
        columns: the key here.
        other, keys: the table, and its columns in the same order.
        table: this one; the other one's keys are read in its types.
        place: the rule's.
        nulls: whether a null is equal to a null, so that whole rows can be looked up.

    Raises:
        BadInput: a column is missing on either side, or the types cannot be compared.
    """
    if len(columns) != len(keys):
        what = f"{', '.join(columns)} cannot be looked up in {', '.join(keys)}"
        raise BadInput(what, why="One is shorter", fix="Correct `columns` and `keys`", place=place)
    for names, one, what in ((columns, table, "The data"), (keys, other, other.parts[0].name)):
        if absent := [name for name in names if name not in one.schema]:
            raise unknown_column(absent[0], what, one.schema, place)
    casts = [same_value(k, other.schema[k], table.schema[c]).alias(c) for c, k in zip(columns, keys)]
    with reading(other.parts[0].name, place):
        # a value that this table's type does not have is in none of its rows
        frame = other.frame.filter(pl.col(k).is_null() | cast.is_not_null() for k, cast in zip(keys, casts))
        frame = frame.select(casts)
        if not nulls:
            frame = frame.drop_nulls()
        hashes = frame.select(key_hash(columns)).unique().collect(engine="streaming").to_series()
        if nulls and hashes.is_empty():
            why = f"It has no rows, or its values of {', '.join(keys)} are not of this table's types"
            raise BadInput(f"No row of {other.parts[0].name} can be looked up in the data", why=why, place=place)
        if len(columns) == 1 and not nulls and len(hashes) <= _MANY:
            known = frame.unique().collect(engine="streaming").to_series()
            if 0 < len(known) <= _FEW:
                return pl.any_horizontal(pl.col(columns[0]) == pl.lit(value, known.dtype) for value in known)
            return pl.col(columns[0]).is_in(known.implode())
    found = among(columns, hashes)
    return found if nulls else pl.when(pl.all_horizontal(pl.col(columns).is_not_null())).then(found)
