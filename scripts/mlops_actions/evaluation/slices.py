"""Slices: parts of the test rows, by the values of a column or by an expression, and groups for fairness.

An entry is a column, every value of which is a slice (of a column of numbers with more than 50 values each quarter), or
`name: expression` in SQL over the columns, such as `night: hour >= 22 OR hour < 6`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..data.tables import unknown_column
from ..errors import BadInput

_QUARTERED = 50
"""A column of numbers with more values than that is sliced by quarters."""


@dataclass(frozen=True)
class Slice:
    """Some of the rows.

    Attributes:
        column: the column, or the name of an expression.
        value: its value; "" for an expression.
        rows: their numbers.
    """

    column: str
    value: str
    rows: NDArray[Any]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.column}={self.value}" if self.value else self.column


def find_slices(frame: pl.DataFrame, entries: Sequence[str]) -> Iterator[Slice]:
    """The slices that entries name; an expression that no row fulfils is one without rows.

    Raises:
        BadInput: a column does not exist, or an expression cannot be understood.
    """
    for entry in entries:
        if ":" not in entry:
            if entry not in frame.columns:
                raise unknown_column(entry, "The predictions file", frame.columns)
            for value, rows in _groups(frame.get_column(entry)):
                yield Slice(entry, value, rows)
            continue
        name, _, text = (part.strip() for part in entry.partition(":"))
        try:
            chosen = frame.select(pl.sql_expr(text).cast(pl.Boolean).fill_null(False).alias("chosen")).to_series()
            if len(chosen) != frame.height:
                raise ValueError("it has one value for all rows")
        except (pl.exceptions.PolarsError, ValueError) as error:
            why = str(error).split("\n")[0]
            fix = f"Write one SQL expression of a row's columns, which are {', '.join(frame.columns)}"
            raise BadInput(f"The slice {name!r} is not an expression of the rows: {text}", why=why, fix=fix) from None
        yield Slice(name, "", np.flatnonzero(chosen.to_numpy()))


class Entry(NamedTuple):
    """An entry's name, its slices with rows enough to be judged, which may be none, and the others."""

    name: str
    large: list[Slice]
    small: list[Slice]


def sized_slices(frame: pl.DataFrame, entries: Sequence[str], least: int) -> list[Entry]:
    """The slices of each entry by whether they have so many rows.

    Raises:
        BadInput: see `find_slices`.
    """
    found = {entry: [*find_slices(frame, [entry])] for entry in entries}
    return [
        Entry(
            entry.partition(":")[0].strip(),
            [part for part in parts if len(part.rows) >= least],
            [part for part in parts if len(part.rows) < least],
        )
        for entry, parts in found.items()
    ]


def _groups(values: pl.Series) -> Iterator[tuple[str, NDArray[Any]]]:
    """Row numbers by value, or by quarter for numbers of many values."""
    keys = values.cast(pl.String)
    if values.dtype.is_numeric() and values.n_unique() > _QUARTERED:
        numbers = values.cast(pl.Float64).fill_nan(None)
        edges = np.unique(np.quantile(numbers.drop_nulls().to_numpy(), [0.25, 0.5, 0.75]))
        bounds = [-np.inf, *edges, np.inf]
        names = np.array([f"({low:.12g}, {high:.12g}]" for low, high in pairwise(bounds)])
        quarters = pl.Series(names[np.searchsorted(edges, numbers.fill_null(0).to_numpy())])
        keys = pl.select(pl.when(numbers.is_not_null()).then(quarters)).to_series()
    frame = pl.DataFrame({"key": keys.fill_null("(null)"), "value": values}).with_row_index("row")
    grouped = frame.group_by("key").agg(pl.col("value").min(), pl.col("row").sort()).sort("value", nulls_last=True)
    for key, _, rows in grouped.iter_rows():
        yield str(key), np.array(rows)
