"""Columns that a table has by the folders of its files, `year=2020/`, as Hive, Spark and Arrow write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from .sources import DataSource

_NULL = "__HIVE_DEFAULT_PARTITION__"


def columns_of(sources: Sequence[DataSource], types: Mapping[str, pl.DataType]) -> list[dict[str, pl.Expr]]:
    """The columns that files have by the folders they are in, for each file: whole numbers, dates, or text."""
    found = [source.partition for source in sources]
    kinds = {}
    for name in dict.fromkeys(name for values in found for name in values):
        texts = [values[name] for values in found if name in values and values[name] != _NULL]
        kinds[name] = types.get(name) or _kind_of(texts)
    return [
        {name: _literal(name, values.get(name, _NULL), kind) for name, kind in kinds.items() if name in values}
        for values in found
    ]


def _kind_of(texts: Sequence[str]) -> pl.DataType:
    if texts and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", text, re.ASCII) for text in texts):
        return pl.Int64()
    try:
        return pl.Date() if texts and all(date.fromisoformat(text) for text in texts) else pl.String()
    except ValueError:
        return pl.String()


def _literal(name: str, text: str, kind: pl.DataType) -> pl.Expr:
    value = pl.lit(None if text == _NULL else text, dtype=pl.String)
    if kind == pl.Date:
        value = value.str.to_date(strict=False)
    elif isinstance(kind, pl.Datetime):
        value = value.str.to_datetime(time_unit=kind.time_unit, time_zone=kind.time_zone, strict=False)
    else:
        value = value.cast(kind, strict=False)
    return value.alias(name)
