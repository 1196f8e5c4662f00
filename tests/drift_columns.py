"""Columns whose drift is judged."""

from __future__ import annotations

import polars as pl

from mlops_actions.data.drift import ColumnDrift, compare_columns, judge
from mlops_actions.data.rules import DriftLimits


def series(values: object, dtype: type[pl.DataType] | None = None) -> pl.Series:
    return pl.Series("c", values, dtype=dtype)  # type: ignore[arg-type]


def one(before: object, now: object, **limits: object) -> ColumnDrift:
    """The column c, judged alone."""
    own = {"c": DriftLimits.model_validate(limits)} if limits else {}
    return judge([compare_columns("c", series(before), series(now))], limits=own)[0]
