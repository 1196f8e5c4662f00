"""A summary of each column, taken in one pass: type, nulls, distinct values, least, greatest and mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from .tables import Batch, python_rows

KEPT = 1024
"""Hashes that are kept of a column: so many distinct values are counted, more are estimated within about 3 %."""


@dataclass
class ColumnProfile:
    """What a column holds. `least` and `greatest` are None where there is no order, `mean` where there are no numbers.

    Attributes:
        distinct: how many values there are, null among them; None for nested values.
        exact: whether that was counted, and not estimated.
    """

    name: str
    type: pl.DataType
    rows: int = 0
    nulls: int = 0
    distinct: int | None = None
    exact: bool = True
    least: Any = None
    greatest: Any = None
    mean: float | None = None


class Profile:
    """Takes batches, and knows what the columns hold.

    Args:
        schema: the table's columns and types.
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._columns = {name: ColumnProfile(name, kind) for name, kind in schema.items()}
        self._distinct = {name: _Distinct() for name, kind in schema.items() if _hashed(kind)}
        self._asked = [pl.len().alias("rows")]
        for number, (name, kind) in enumerate(schema.items()):
            column = pl.col(name)
            self._asked.append(_filled(name, kind).null_count().alias(f"{number}:nulls"))
            if kind.is_temporal():  # as numbers: Python does not have all times that a table can have
                column = column.to_physical()
            if kind.is_numeric() or kind.is_temporal() or kind == pl.String:
                self._asked += [column.min().alias(f"{number}:min"), column.max().alias(f"{number}:max")]
            if kind.is_numeric():
                self._asked.append(column.mean().alias(f"{number}:mean"))

    def update(self, batch: Batch) -> None:
        """Take the next rows."""
        values = batch.frame.select(self._asked).row(0, named=True)
        for number, column in enumerate(self._columns.values()):
            own = {key: values.get(f"{number}:{key}") for key in ("nulls", "min", "max", "mean")}
            _merge(column, values["rows"], own)
        hashes = batch.frame.select(_filled(name, self._columns[name].type).hash(seed=0) for name in self._distinct)
        for name, distinct in self._distinct.items():
            distinct.update(hashes.get_column(name))

    def columns(self) -> list[ColumnProfile]:
        """The columns, in the table's order. No more rows can be taken after that."""
        for column in self._columns.values():
            if column.type.is_temporal() and column.least is not None:
                # Python's times have no nanoseconds, and the greatest one is not to be less than it is
                up = -column.greatest % 1000 if getattr(column.type, "time_unit", "") == "ns" else 0
                least, greatest = column.least, column.greatest + up
                column.least, column.greatest = (_moment(v, column.type) for v in (least, greatest))
        for name, distinct in self._distinct.items():
            self._columns[name].distinct, self._columns[name].exact = distinct.estimate()
        return list(self._columns.values())


def _filled(name: str, kind: pl.DataType) -> pl.Expr:
    """A column in which NaN is null, as it is to pandas and to `nullable`."""
    return pl.col(name).fill_nan(None) if kind.is_float() else pl.col(name)


def _merge(column: ColumnProfile, rows: int, found: Mapping[str, Any]) -> None:
    known, new = column.rows - column.nulls, rows - found["nulls"]
    column.rows += rows
    column.nulls += found["nulls"]
    if found["min"] is not None:
        column.least = found["min"] if column.least is None else min(column.least, found["min"])
        column.greatest = found["max"] if column.greatest is None else max(column.greatest, found["max"])
    if found["mean"] is not None:
        before = column.mean or 0.0
        share = new / (known + new) if new else 1.0  # of NaN alone, the mean is NaN
        column.mean = before + (float(found["mean"]) - before) * share


def _moment(number: int, kind: pl.DataType) -> Any:
    """A time of a column by its number there; as text where Python has no such time."""
    return python_rows(pl.DataFrame({"": pl.Series([number]).cast(kind)}))[0][0]


def _hashed(kind: pl.DataType) -> bool:
    return not kind.is_nested() and kind not in (pl.Object, pl.Null)


class _Distinct:
    """The smallest hashes of a column's values, of which their number follows.

    If the k-th smallest of hashes that are spread evenly over [0, 1) is x, there are about (k - 1) / x of them
    (Z. Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002; K. Beyer et al., SIGMOD 2007).
    """

    def __init__(self) -> None:
        self._kept = pl.Series(dtype=pl.UInt64)
        self._limit: int | None = None

    def update(self, hashes: pl.Series) -> None:
        if self._limit is None:  # a few rows may tell the limit, which spares most of the others
            self._keep(hashes.head(8 * KEPT))
            hashes = hashes.slice(8 * KEPT)
        if self._limit is not None:
            hashes = hashes.filter(hashes < self._limit)
        self._keep(hashes)

    def estimate(self) -> tuple[int, bool]:
        if self._limit is None:
            return len(self._kept), True
        return round((KEPT - 1) / (self._limit / 2**64)), False

    def _keep(self, hashes: pl.Series) -> None:
        if hashes.is_empty():
            return
        self._kept = pl.concat([self._kept, hashes.rename("")]).unique().sort().head(KEPT)
        if len(self._kept) == KEPT:
            self._limit = int(self._kept[-1])
