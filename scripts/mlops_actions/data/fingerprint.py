"""The fingerprint of a table's content, the same however the content is laid out in files.

The algorithm (version 1), so that anybody can compute it again. Every column has three streams of bytes, each through
SHA-256, over the rows in their order:

- validity: one byte a row, 1 for a value and 0 for null;
- values: fixed-width types as little-endian bytes, null as zeros. Booleans are one byte; dates are days since 1970 in
  4 bytes, times and durations an 8-byte count of their unit; every NaN is the quiet NaN of its width (`…f87f`,
  `…c07f`) and -0.0 is 0.0. Strings and bytes are their UTF-8 bytes, one after the other; categories and enums are their
  strings; decimals are decimal strings; lists and structs are JSON with sorted keys;
- lengths: of types whose values are strings, 8 bytes little-endian a row, null as 0; else nothing.

The fingerprint is the SHA-256 of the JSON (no spaces) of
`[1, rows, [[name, type, validity, values, lengths], …]]`, columns in the table's order, digests in hex.

Row groups, compression, dictionary encoding, the number of files and the file format do not matter; order of rows and
columns, names and types do. Memory is that of one batch.

The fingerprint whatever the order of the rows (version `any-1`) hashes each row by itself: SHA-256 over, column by
column in the table's order, one byte of validity and the value as above, before which strings have their length. The
digests are added, as 8 numbers of 4 bytes little-endian, each modulo 2^64; the fingerprint is the SHA-256 of the JSON
of `["any-1", rows, [[name, type], …], [the 8 sums]]`. A row that is there twice counts twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from .tables import Batch

VERSION = 1


class Fingerprint:
    """Takes a table's rows, batch by batch.

    Args:
        schema: the table's columns and types.
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._rows = 0
        self._columns = {name: _Column(kind) for name, kind in schema.items()}
        self._pool = ThreadPoolExecutor(os.cpu_count())  # hashlib and polars work outside Python's lock

    def update(self, batch: Batch) -> None:
        """Take the next rows."""
        self._rows += batch.frame.height
        columns = [(column, batch.frame.get_column(name)) for name, column in self._columns.items()]
        for _ in self._pool.map(lambda one: one[0].update(one[1]), columns):
            pass  # an error of a column is raised here

    def value(self) -> str:
        """`sha256:<hex>` of what was taken so far."""
        columns = [[name, column.type, *column.digests()] for name, column in self._columns.items()]
        text = json.dumps([VERSION, self._rows, columns], separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class UnorderedFingerprint:
    """Takes a table's rows, batch by batch, in any order.

    Args:
        schema: the table's columns and types.
    """

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self._rows = 0
        self._types = {name: type_name(kind) for name, kind in schema.items()}
        self._sums = np.zeros(8, dtype=np.uint64)

    def update(self, batch: Batch) -> None:
        """Take the next rows."""
        self._rows += batch.frame.height
        streams = [list(_cells(batch.frame.get_column(name), kind)) for name, kind in self._types.items()]
        digests = b"".join(hashlib.sha256(b"".join(cells)).digest() for cells in zip(*streams))
        if digests:
            self._sums += np.frombuffer(digests, dtype="<u4").reshape(-1, 8).sum(axis=0, dtype=np.uint64)

    def value(self) -> str:
        """`sha256:<hex>` of what was taken so far."""
        parts = ["any-1", self._rows, list(map(list, self._types.items())), self._sums.tolist()]
        return f"sha256:{hashlib.sha256(json.dumps(parts, separators=(',', ':')).encode()).hexdigest()}"


def _cells(series: pl.Series, kind: str) -> Iterator[bytes]:
    """Each row's validity and value as bytes."""
    if kind == "null":
        yield from (b"\0" for _ in range(len(series)))
    elif _is_text(kind):
        texts = series if kind == "binary" else _texts(series, kind).cast(pl.Binary)
        for value in texts.to_list():
            yield b"\0" if value is None else b"\1" + len(value).to_bytes(8, "little") + value
    else:
        data = _fixed(series)
        width = len(data) // len(series)
        for row, valid in enumerate(series.is_not_null().to_list()):
            yield (b"\1" if valid else b"\0") + data[row * width : (row + 1) * width]


def _is_text(kind: str) -> bool:
    return kind in ("string", "json", "binary") or kind.startswith("decimal")


def _texts(series: pl.Series, kind: str) -> pl.Series:
    return _as_json(series) if kind == "json" else series.cast(pl.String)


class _Column:
    def __init__(self, kind: pl.DataType) -> None:
        self.type = type_name(kind)
        self._validity, self._values, self._lengths = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def digests(self) -> list[str]:
        return [stream.hexdigest() for stream in (self._validity, self._values, self._lengths)]

    def update(self, series: pl.Series) -> None:
        self._validity.update(series.is_not_null().cast(pl.UInt8).to_numpy().tobytes())
        if self.type == "null":
            return
        if _is_text(self.type):
            self._update_texts(series)
        else:
            self._values.update(_fixed(series))

    def _update_texts(self, series: pl.Series) -> None:
        if self.type == "binary":
            data = series.bin.size().fill_null(0), b"".join(series.drop_nulls().to_list())
        else:
            texts = _texts(series, self.type)
            # join of no strings is "", and of nulls too
            data = texts.str.len_bytes().fill_null(0), (texts.str.join("").item() or "").encode()
        self._lengths.update(data[0].cast(pl.UInt64).to_numpy().astype("<u8", copy=False).tobytes())
        self._values.update(data[1])


def type_name(kind: pl.DataType) -> str:
    """A column's type by a name that does not depend on the library's version."""
    if isinstance(kind, pl.Datetime):
        return f"datetime[{kind.time_unit},{kind.time_zone or ''}]"
    if isinstance(kind, pl.Duration):
        return f"duration[{kind.time_unit}]"
    if isinstance(kind, pl.Decimal):
        return f"decimal[{kind.scale}]"
    if kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
        return "string"
    if kind.is_nested() or kind == pl.Object:
        return "json"
    return kind.base_type().__name__.lower()


def _fixed(series: pl.Series) -> bytes:
    whole = series.to_physical()
    if whole.dtype == pl.Boolean:
        whole = whole.cast(pl.UInt8)
    values: np.ndarray[Any, Any] = whole.fill_null(0).to_numpy()
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 + 0.0 is 0.0; a copy, for the next line
        values[np.isnan(values)] = np.nan
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _as_json(series: pl.Series) -> pl.Series:
    texts = [None if v is None else json.dumps(v, sort_keys=True, default=str) for v in series.to_list()]
    return pl.Series(series.name, texts, dtype=pl.String)
