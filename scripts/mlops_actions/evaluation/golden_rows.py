"""Golden rows from a file, as tensors of the Open Inference Protocol: what test-model and deploy-model ask a model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ..data.sources import DataSource
from ..data.tables import read_table, reading
from ..data.text_faults import lack_of_fields
from ..data.text_lines import without_blank_lines
from ..errors import BadInput
from ..text import many

INDEX = re.compile(r"|Unnamed: 0|__index_level_\d+__")
"""Names under which pandas writes an index of rows, which is not a feature, to CSV and Parquet."""
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
_NULLS = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
          "NA", "NULL", "NaN", "None", "n/a", "nan", "null")  # fmt: skip
"""What pandas takes for no value in CSV, and so does the model when it is trained and tested."""
_NAMED = 5  # rows that a message names
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


@dataclass(frozen=True)
class Golden:
    """Rows, and what a model must give for them.

    Attributes:
        inputs: the rows, as tensors of the Open Inference Protocol, a column each.
        scores: the expected score of each row: a number, or a class by name.
        features: the rows as a table.
    """

    inputs: list[dict[str, Any]]
    scores: list[float] | list[str]
    features: pl.DataFrame = field(default_factory=pl.DataFrame, compare=False, repr=False)


def read_golden(path: Path, score: str = "score", most: int | None = None) -> Golden:
    """Read a file of feature columns and a column of expected scores, as pandas would.

    An index that pandas wrote is not a feature. Each row must have a score.

    Args:
        path: Parquet or CSV; a name without a suffix is recognised by its first bytes.
        score: the column of expected scores.
        most: rows that are taken; of a larger file the first ones.

    Raises:
        BadInput: it cannot be read, has no such column, rows without a score, or a column of a type that the protocol
            does not have.
    """
    frame = _read(path)
    frame = frame if most is None else frame.head(most)
    if score not in frame.columns:
        raise BadInput(
            f"The golden file {path.name} has no column {score!r}",
            why=f"It has: {', '.join(frame.columns)}",
            fix="Write the model's features and its `score` for each row to it",
        )
    texts = frame[score].dtype in _TEXTS
    scores = frame[score].cast(pl.String if texts else pl.Float64)
    if not frame.height:
        raise BadInput(f"The golden file {path.name} has no rows")
    if lacking := [row for row, missing in enumerate(scores.is_null(), 1) if missing]:
        rows = ", ".join(map(str, lacking[:_NAMED])) + (", …" if len(lacking) > _NAMED else "")
        count = many(len(lacking), "row")
        raise BadInput(
            f"The golden file {path.name} has {count} without {score} ({'rows' if len(lacking) > 1 else 'row'} {rows})",
            fix="Write the expected score of each row to it, or leave these rows out",
        )
    features = frame.select(name for name in frame.columns if name != score and not INDEX.fullmatch(name))
    return Golden([tensor(column) for column in features.get_columns()], scores.to_list(), features)


def _read(path: Path) -> pl.DataFrame:
    with reading(path.name):
        if not _is_parquet(path):
            if fault := lack_of_fields(path):
                raise fault.error(path.name)
            return pl.read_csv(without_blank_lines(path), null_values=list(_NULLS), infer_schema_length=None)
        index = json.loads(pl.read_parquet_metadata(path).get("pandas") or "{}").get("index_columns") or []
        return read_table(DataSource(f"{path.name}.parquet", path)).drop(
            [name for name in index if isinstance(name, str)]
        )


def _is_parquet(file: Path) -> bool:
    """By its first bytes: a pipeline's artifacts have no extension."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def tensor(column: pl.Series) -> dict[str, Any]:
    """A column as a tensor. Whole numbers with gaps become floating point, as they do in pandas."""
    if column.dtype.is_integer() and column.null_count():
        column = column.cast(pl.Float64)
    made: dict[str, Any] = {"name": column.name, "shape": [len(column), 1]}
    if isinstance(column.dtype, pl.Datetime | pl.Date):
        text = column.cast(pl.Datetime).dt.to_string("iso:strict").to_list()
        return {**made, "datatype": "BYTES", "parameters": {"content_type": "datetime"}, "data": text}
    if column.dtype in _TEXTS:
        content = "str" if column.dtype == pl.String else "categorical"
        data = column.cast(pl.String).to_list()
        return {**made, "datatype": "BYTES", "parameters": {"content_type": content}, "data": data}
    if isinstance(column.dtype, pl.Decimal):
        column = column.cast(pl.Float64)
    kind, data = _TYPES.get(type(column.dtype)), None
    if isinstance(column.dtype, pl.List | pl.Array):
        kind, inner, data = _nested(column)
        made["shape"] = [len(column), *inner]
    if kind is None:
        raise BadInput(
            f"The column {column.name!r} of the golden file is of type {column.dtype}",
            why="The Open Inference Protocol has numbers, booleans, text and times",
        )
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return {**made, "datatype": kind, "data": column.to_list() if data is None else data}


def _nested(column: pl.Series) -> tuple[str | None, list[int], list[Any]]:
    """A column of lists of numbers, such as images: the numbers' datatype, the shape of a row, all values in a list.

    Raises:
        BadInput: rows have different shapes.
    """
    inner: Any = column.dtype
    while isinstance(inner, pl.List | pl.Array):
        inner = inner.inner
    values: list[Any] = column.to_list()
    shape: list[int] = []
    while isinstance(values[0], list):
        sizes = {len(value) if isinstance(value, list) else -1 for value in values}
        if len(sizes) > 1:
            raise BadInput(
                f"The column {column.name!r} of the golden file has lists of different lengths",
                fix="Give each row the same shape",
            )
        shape.append(sizes.pop())
        values = [item for value in values for item in value]
    return _TYPES.get(type(inner)), shape, values
