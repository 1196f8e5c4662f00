"""Golden rows from a file, as requests of the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from ..data.sources import Source
from ..data.tables import read_table
from ..errors import BadInput
from .engine import Golden

MOST = 1000
"""Rows that are asked; of a larger file the first ones."""
_TYPES = {
    pl.Int8: "INT8",
    pl.Int16: "INT16",
    pl.Int32: "INT32",
    pl.Int64: "INT64",
    pl.UInt8: "UINT8",
    pl.UInt16: "UINT16",
    pl.UInt32: "UINT32",
    pl.UInt64: "UINT64",
    pl.Float32: "FP32",
    pl.Float64: "FP64",
    pl.Boolean: "BOOL",
}
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def read_golden(path: Path, tolerance: float, score: str = "score") -> Golden:
    """Read a file of feature columns and a column of expected scores.

    Args:
        path: Parquet or CSV; a name without a suffix is recognised by its first bytes.
        tolerance: how far a score may be off.
        score: the column of expected scores.

    Raises:
        BadInput: it cannot be read, has no such column, or a column of a type that the protocol does not have.
    """
    frame = read_table(Source(_named(path), path)).head(MOST)
    if score not in frame.columns:
        raise BadInput(
            f"The golden file {path.name} has no column {score!r}",
            why=f"It has: {', '.join(frame.columns)}",
            fix="Write the model's features and its `score` for each row to it",
        )
    scores = frame[score].cast(pl.String if frame[score].dtype in _TEXTS else pl.Float64)
    if not frame.height or scores.null_count():
        raise BadInput(f"The golden file {path.name} has {'rows without a score' if frame.height else 'no rows'}")
    columns = [frame[name] for name in frame.columns if name != score]
    return Golden([_tensor(column) for column in columns], scores.to_list(), tolerance)


def _named(path: Path) -> str:
    """A name that tells the format."""
    if path.suffix:
        return path.name
    with path.open("rb") as file:
        return path.name + (".parquet" if file.read(4) == b"PAR1" else ".csv")


def _tensor(column: pl.Series) -> dict[str, Any]:
    """A column as a tensor. Whole numbers with gaps become floating point, as they do in pandas."""
    if column.dtype.is_integer() and column.null_count():
        column = column.cast(pl.Float64)
    tensor: dict[str, Any] = {"name": column.name, "shape": [len(column), 1]}
    if isinstance(column.dtype, pl.Datetime | pl.Date):
        text = column.cast(pl.Datetime).dt.to_string("iso:strict").to_list()
        return {**tensor, "datatype": "BYTES", "parameters": {"content_type": "datetime"}, "data": text}
    if column.dtype in _TEXTS:
        data = column.cast(pl.String).to_list()
        return {**tensor, "datatype": "BYTES", "parameters": {"content_type": "str"}, "data": data}
    if isinstance(column.dtype, pl.Decimal):
        column = column.cast(pl.Float64)
    kind = _TYPES.get(type(column.dtype))
    if kind is None:
        raise BadInput(
            f"The column {column.name!r} of the golden file is of type {column.dtype}",
            why="The Open Inference Protocol has numbers, booleans, text and times",
        )
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return {**tensor, "datatype": kind, "data": column.to_list()}
