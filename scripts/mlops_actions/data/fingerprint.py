"""The fingerprint of a table's content, the same however the content is laid out in files.

The algorithm (version 1), so that anybody can compute it again. Every column has three streams of bytes, each through
SHA-256, over the rows in their order:

- validity: one byte a row, 1 for a value and 0 for null;
- values: fixed-width types as little-endian bytes, null as zeros. Booleans are one byte; dates are days since 1970 in
  4 bytes, times and durations an 8-byte count of their unit; every NaN is the quiet NaN of its width (`…f87f`,
  `…c07f`) and -0.0 is 0.0. Strings and bytes are their UTF-8 bytes, one after the other; categories and enums are their
  strings; decimals and integers of 128 bits are decimal strings; lists and structs are JSON with sorted keys;
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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from .tables import Batch

VERSION = 1
_ROWS = 50_000  # of which all bytes are in memory at a time, and near the processor


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
        for frame in batch.frame.iter_slices(_ROWS):
            self._rows += frame.height
            digests = _digests(*_laid_out(frame, self._types))
            self._sums += np.frombuffer(digests, dtype="<u4").reshape(-1, 8).sum(axis=0, dtype=np.uint64)

    def value(self) -> str:
        """`sha256:<hex>` of what was taken so far."""
        parts = ["any-1", self._rows, list(map(list, self._types.items())), self._sums.tolist()]
        return f"sha256:{hashlib.sha256(json.dumps(parts, separators=(',', ':')).encode()).hexdigest()}"


def _digests(data: bytes, ends: list[int]) -> bytes:
    """The SHA-256 of each row, one after the other."""
    fresh, digests, start = hashlib.sha256().copy, [], 0  # a copy costs half of what a new one does
    for end in ends:
        row = fresh()
        row.update(data[start:end])
        digests.append(row.digest())
        start = end
    return b"".join(digests)


def _laid_out(frame: pl.DataFrame, types: Mapping[str, str]) -> tuple[bytes, list[int]]:
    """All rows as bytes, one after the other, and where each one ends."""
    cells = [_Cells(frame.get_column(name), kind) for name, kind in types.items()]
    ends = np.cumsum(sum((one.widths for one in cells), np.zeros(frame.height, dtype=np.int64)))
    data = np.zeros(int(ends[-1]), dtype=np.uint8)
    at = np.concatenate([[0], ends[:-1]])
    for one in cells:
        one.put(data, at)
        at = at + one.widths
    return data.tobytes(), ends.tolist()


class _Cells:
    """One column's cells as bytes: validity, and value.

    Attributes:
        widths: how many bytes each row has.
    """

    def __init__(self, series: pl.Series, kind: str) -> None:
        self._valid = _validity(series)
        self._lengths: np.ndarray[Any, Any] | None = None
        if _is_text(kind):
            lengths, data = _bytes_of_texts(series, kind)
            self._lengths, self._bytes = lengths.astype("<u8"), np.frombuffer(data, dtype=np.uint8)
            self.widths = 1 + (8 + lengths.astype(np.int64)) * self._valid  # of a null there is only that it is
        else:
            self._bytes = np.empty(0, dtype=np.uint8) if kind == "null" else _fixed(series)
            self.widths = np.full(len(series), 1 + self._bytes.nbytes // len(series))

    def put(self, data: np.ndarray[Any, Any], at: np.ndarray[Any, Any]) -> None:
        """Write each row's cell where it belongs."""
        data[at] = self._valid
        if self._lengths is None:
            if len(self._bytes):
                _every(data, self._bytes.dtype)[at + 1] = self._bytes
            return
        rows = np.flatnonzero(self._valid)
        lengths = self._lengths[rows]
        if len(rows):
            _every(data, lengths.dtype)[at[rows] + 1] = lengths
        starts = np.cumsum(lengths, dtype=np.int64) - lengths.astype(np.int64)
        # a byte of the texts moves from where its text starts to where its row has the place for it
        data[np.repeat(at[rows] + 9 - starts, lengths.astype(np.int64)) + np.arange(len(self._bytes))] = self._bytes


def _every(data: np.ndarray[Any, Any], kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Bytes as values of a type that begin at each of them, and so overlap."""
    values: np.ndarray[Any, Any] = np.ndarray((len(data) - kind.itemsize + 1,), kind, data.data, strides=(1,))
    return values


def _is_text(kind: str) -> bool:
    return kind in ("string", "json", "binary", "int128", "uint128") or kind.startswith("decimal")


def _bytes_of_texts(series: pl.Series, kind: str) -> tuple[np.ndarray[Any, Any], bytes]:
    """How many bytes each text has (little-endian, 8 bytes; null as 0), and all of them one after the other."""
    if kind == "binary":
        sizes, data = series.bin.size(), b"".join(series.drop_nulls().to_list())
    else:
        texts = _as_json(series) if kind == "json" else series.cast(pl.String)
        # join of no strings is "", and of nulls too
        sizes, data = texts.str.len_bytes(), (texts.str.join("").item() or "").encode()
    return sizes.fill_null(0).cast(pl.UInt64).to_numpy().astype("<u8", copy=False), data


class _Column:
    def __init__(self, kind: pl.DataType) -> None:
        self.type = type_name(kind)
        self._validity, self._values, self._lengths = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def digests(self) -> list[str]:
        return [stream.hexdigest() for stream in (self._validity, self._values, self._lengths)]

    def update(self, series: pl.Series) -> None:
        self._validity.update(_validity(series).data)
        if self.type == "null":
            return
        if _is_text(self.type):
            self._update_texts(series)
        else:
            self._values.update(_fixed(series).data)

    def _update_texts(self, series: pl.Series) -> None:
        lengths, data = _bytes_of_texts(series, self.type)
        self._lengths.update(lengths.data)
        self._values.update(data)


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


def _validity(series: pl.Series) -> np.ndarray[Any, Any]:
    if not series.null_count():
        return np.ones(len(series), dtype=np.uint8)
    valid: np.ndarray[Any, Any] = series.is_not_null().cast(pl.UInt8).to_numpy()
    return valid


def _fixed(series: pl.Series) -> np.ndarray[Any, Any]:
    """Values of a fixed width, in the machine's memory as the fingerprint takes them; polars' own where they are so."""
    whole = series.to_physical()
    if whole.dtype == pl.Boolean:
        whole = whole.cast(pl.UInt8)
    values: np.ndarray[Any, Any] = (whole.fill_null(0) if whole.null_count() else whole).to_numpy()
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 + 0.0 is 0.0; a copy, for the next line
        values[np.isnan(values)] = np.nan
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))


def _as_json(series: pl.Series) -> pl.Series:
    texts = [None if v is None else json.dumps(v, sort_keys=True, default=str) for v in series.to_list()]
    return pl.Series(series.name, texts, dtype=pl.String)
