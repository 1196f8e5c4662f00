"""A digest of rows, whatever their order, batches and files: the sum of a 64-bit hash of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_NULL = np.uint64(0x9E3779B97F4A7C15)


class Fingerprint:
    """Take rows in with `add`; `state` is what has been taken in: names of columns, rows, and the sum."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows, self._sum = 0, 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take in rows of the same columns as before."""
        self._names = sorted(rows.schema.names)
        total = np.zeros(rows.num_rows, np.uint64)
        for place, name in enumerate(self._names):
            total += _mixed(_hashes(rows.column(name)) + np.uint64(place + 1))
        self._rows += rows.num_rows
        self._sum = (self._sum + int(_mixed(total).sum(dtype=np.uint64))) % 2**64

    def state(self) -> list[Any]:
        """What decides the digest."""
        return [self._names, self._rows, self._sum]


def _hashes(column: pa.Array) -> Hashes:
    """A hash of each value: equal numbers are equal whatever their width, NaN is null."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return _hashes(column.cast(type_.value_type))
    if pa.types.is_temporal(type_) and not pa.types.is_interval(type_):
        column = (
            column.cast(pa.timestamp("us", getattr(type_, "tz", None)), safe=False) if _is_moment(type_) else column
        )
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    if pa.types.is_integer(column.type) or pa.types.is_boolean(type_):
        bits = column.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
        return np.where(_valid(column), _mixed(bits), _NULL)
    if pa.types.is_floating(type_):
        numbers = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
        return np.where(np.isnan(numbers), _NULL, _mixed((numbers + 0.0).view(np.uint64)))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return _list_hashes(column)
    return _object_hashes(column)


def _list_hashes(column: pa.Array) -> Hashes:
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    places = np.arange(ends[-1] if len(ends) else 0) - np.repeat(starts, lengths)
    parts = _mixed(_hashes(column.flatten()) + places.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(parts, dtype=np.uint64)])
    return np.where(_valid(column), _mixed(sums[ends] - sums[starts] + lengths.astype(np.uint64)), _NULL)


def _object_hashes(column: pa.Array) -> Hashes:
    """Texts, bytes and whatever else, by distinct value where Arrow can tell which are."""
    from pandas.util import hash_array

    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if text or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        encoded = column.dictionary_encode()
        distinct = np.array([repr(value) for value in encoded.dictionary.to_pylist()], dtype=object)
        known = np.append(hash_array(distinct, categorize=False) if len(distinct) else [], _NULL).astype(np.uint64)
        found: Hashes = known[encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)]
        return found
    texts = np.array([repr(value) for value in column.to_pylist()], dtype=object)
    every: Hashes = hash_array(texts, categorize=False)
    return every


def _mixed(bits: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): each bit of the result depends on each one given."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = bits ^ (bits >> np.uint64(31))
    return mixed


def _is_moment(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def _valid(column: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found: np.ndarray[Any, np.dtype[np.bool_]] = column.is_valid().to_numpy(zero_copy_only=False)
    return found
