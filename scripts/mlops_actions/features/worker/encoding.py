"""Columns as the bytes that Feast writes: entity keys, and values as serialized protobuf, a column at a time.

Feast makes a Python object, a message and its bytes of each value. Here the common types are laid out in arrays at once
(protobuf's wire format, https://protobuf.dev/programming-guides/encoding/); every other column goes through Feast's own
conversion, so that its bytes are Feast's by construction. What is equal is tested for every type of Feast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from feast.value_type import ValueType

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Ints = np.ndarray[Any, np.dtype[np.int64]]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_FIELDS = {
    "BYTES": 1, "STRING": 2, "INT32": 3, "INT64": 4, "DOUBLE": 5, "FLOAT": 6, "BOOL": 7, "UNIX_TIMESTAMP": 8,
    "INT32_LIST": 13, "INT64_LIST": 14, "DOUBLE_LIST": 15, "FLOAT_LIST": 16,
}  # fmt: skip
"""Number of each type's field in Feast's message Value (Value.proto)."""
_KEY_TYPES = {"BYTES": 1, "STRING": 2, "INT32": 3, "INT64": 4}
"""Feast's ValueType of an entity key's value."""


def values(column: pa.Array, kind: ValueType) -> tuple[pa.Array, pa.Array | None]:
    """A feature's column as Feast's bytes, and the text that its SQL stores keep beside it.

    Args:
        column: as the source has it.
        kind: of the feature.

    Returns:
        LargeBinary bytes, `b""` for a null; and LargeString texts with nulls, or None when there is none at all.

    Raises:
        Exception: whatever Feast's conversion raises for a value that does not fit the type.
    """
    column = _as_pandas_has_it(column)
    name, type_ = kind.name, column.type
    if name in ("INT32", "INT64") and (pa.types.is_signed_integer(type_) or pa.types.is_floating(type_)):
        return _integers(column, name)
    if name in ("FLOAT", "DOUBLE") and pa.types.is_floating(type_):
        return _floats(column, name)
    if name == "BOOL" and pa.types.is_boolean(type_):
        return _booleans(column)
    if name == "STRING" and _is_text(type_):
        return _with_length(column.cast(pa.large_binary()), name), column.cast(pa.large_string())
    if name == "BYTES" and _is_binary(type_):
        return _with_length(column.cast(pa.large_binary()), name), None
    if name == "UNIX_TIMESTAMP" and pa.types.is_timestamp(type_):
        return _timestamps(column), None
    if name in ("FLOAT_LIST", "DOUBLE_LIST", "INT32_LIST", "INT64_LIST") and _is_plain_list(column, name):
        return _lists(column, name), None
    return _as_feast(column, kind)


def entity_keys(prefix: bytes, columns: Sequence[tuple[pa.Array, ValueType]]) -> pa.Array:
    """Serialized entity keys, as `feast.infra.key_encoding_utils.serialize_entity_key` makes them.

    Args:
        prefix: `serialize_entity_key_prefix` of the join keys' names.
        columns: each join key's values without nulls and its type, in the order of the names.
    """
    rows = len(columns[0][0])
    parts: list[Any] = [constant(prefix, rows)]
    for column, kind in columns:
        if kind.name in ("INT32", "INT64"):
            width = 4 if kind.name == "INT32" else 8
            numbers = column.to_numpy(zero_copy_only=False).astype(f"<i{width}")
            parts += [
                constant(_word(_KEY_TYPES[kind.name]) + _word(width), rows),
                fixed(numbers.view(np.uint8).reshape(rows, width)),
            ]
        else:
            content = column.cast(pa.large_binary())
            lengths = pc.binary_length(content).to_numpy().astype("<u4")
            parts += [
                constant(_word(_KEY_TYPES[kind.name]), rows),
                fixed(lengths.view(np.uint8).reshape(rows, 4)),
                content,
            ]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))


def can_be_key(column: pa.DataType, kind: ValueType) -> bool:
    """Whether a join key of this type in the source is one that `entity_keys` knows."""
    if kind.name in ("INT32", "INT64"):
        return bool(pa.types.is_signed_integer(column))
    return kind.name == "STRING" and _is_text(column)


def varints(numbers: Ints, tag: int, there: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    """A tag of one byte and a varint for each number that is there, and nothing for the others."""
    return _tagged(_varint_rows(numbers), tag, there)


def fixed(rows: Bytes) -> pa.Array:
    """Rows of as many bytes each as a binary array."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int64) * width
    content = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.large_binary(), count, [None, pa.py_buffer(offsets), content])


def constant(content: bytes, rows: int) -> pa.Array:
    """The same bytes for each row."""
    return pa.repeat(pa.scalar(content, pa.large_binary()), rows)


def _as_pandas_has_it(column: pa.Array) -> pa.Array:
    """The column after the way through pandas that Feast takes it: integers with nulls are floats, NaN is null."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return _as_pandas_has_it(column.cast(type_.value_type))
    if pa.types.is_integer(type_) and column.null_count:
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_floating(type_) and not pa.types.is_float16(type_):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, type_), column)
    return column


def _integers(column: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    there = _valid(column)
    numbers = column.fill_null(0).to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f" and np.abs(numbers).max(initial=0) >= 2.0**63:
        raise OverflowError("a value is out of the range of a 64-bit integer")
    numbers = numbers.astype(np.int64)  # as int() does, towards zero
    if name == "INT32" and len(numbers) and (numbers.min() < -(2**31) or numbers.max() >= 2**31):
        raise ValueError("a value is out of the range of a 32-bit integer")
    texts = pa.array(numbers, mask=~there).cast(pa.large_string())
    return _tagged(_varint_rows(numbers), _FIELDS[name] << 3 | _VARINT, there), texts


def _floats(column: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    there = _valid(column)
    kind, wire = ("<f4", _FIXED32) if name == "FLOAT" else ("<f8", _FIXED64)
    with np.errstate(over="ignore"):
        numbers = column.fill_null(0).to_numpy(zero_copy_only=False).astype(kind)
    rows = np.empty((len(numbers), 1 + numbers.itemsize), np.uint8)
    rows[:, 0] = _FIELDS[name] << 3 | wire
    rows[:, 1:] = numbers.view(np.uint8).reshape(len(numbers), numbers.itemsize)
    texts = pa.array(list(map(repr, numbers.astype(np.float64).tolist())), pa.large_string())
    return _kept(fixed(rows), there), _nulls(texts, there)


def _booleans(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    there = _valid(column)
    flags = column.fill_null(False).to_numpy(zero_copy_only=False)
    rows = np.empty((len(flags), 2), np.uint8)
    rows[:, 0], rows[:, 1] = _FIELDS["BOOL"] << 3 | _VARINT, flags
    texts = pc.if_else(column, pa.scalar("True", pa.large_string()), pa.scalar("False", pa.large_string()))
    return _kept(fixed(rows), there), texts


def _timestamps(column: pa.Array) -> pa.Array:
    moments = column.to_numpy(zero_copy_only=False).astype("datetime64[s]").astype(np.int64)
    return _tagged(_varint_rows(moments), _FIELDS["UNIX_TIMESTAMP"] << 3 | _VARINT, np.ones(len(moments), bool))


def _lists(column: pa.Array, name: str) -> pa.Array:
    """Lists of numbers: a message in the value, with the numbers packed in its field 1."""
    column = column.cast(pa.large_list(column.type.value_type))
    there, starts = _valid(column), column.offsets.to_numpy().astype(np.int64)
    numbers = column.values.to_numpy(zero_copy_only=False)[starts[0] : starts[-1]]
    starts = starts - starts[0]
    if name.startswith("INT"):
        if name == "INT32_LIST" and len(numbers) and (numbers.min() < -(2**31) or numbers.max() >= 2**31):
            raise ValueError("a value is out of the range of a 32-bit integer")
        packed = _ragged(*_varint_rows(numbers.astype(np.int64)))
        content, bounds = packed.buffers()[2], np.frombuffer(packed.buffers()[1], np.int64)[starts]
    else:
        with np.errstate(over="ignore"):
            flat = np.ascontiguousarray(numbers.astype("<f4" if name == "FLOAT_LIST" else "<f8"))
        content, bounds = pa.py_buffer(flat), starts * flat.itemsize
    inner = pa.Array.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(np.ascontiguousarray(bounds)), content]
    )
    message = pc.if_else(
        pc.equal(pc.binary_length(inner), 0), pa.scalar(b"", pa.large_binary()), _after_length(inner, b"\x0a")
    )
    return _kept(_after_length(message, _tag(_FIELDS[name])), there)


def _as_feast(column: pa.Array, kind: ValueType) -> tuple[pa.Array, pa.Array | None]:
    """Through Feast's own conversion, value by value."""
    from feast.infra.online_stores.helpers import extract_text_and_num
    from feast.type_map import python_values_to_proto_values

    table = pa.Table.from_pandas(pa.table({"c": column}).to_pandas())
    given = table.column("c").combine_chunks() if table.num_rows else column
    protos = python_values_to_proto_values(given.to_numpy(zero_copy_only=False), kind)
    texts = [extract_text_and_num(proto, False)[0] for proto in protos]
    return pa.array([proto.SerializeToString() for proto in protos], pa.large_binary()), pa.array(
        texts, pa.large_string()
    )


def _with_length(content: pa.Array, name: str) -> pa.Array:
    there = _valid(content)
    return _kept(_after_length(content.fill_null(b""), _tag(_FIELDS[name])), there)


def _after_length(content: pa.Array, tag: bytes) -> pa.Array:
    """The tag, the length as a varint, and the content, of each row."""
    lengths = pc.binary_length(content).to_numpy(zero_copy_only=False).astype(np.int64)
    return pc.binary_join_element_wise(
        constant(tag, len(content)), _ragged(*_varint_rows(lengths)), content, pa.scalar(b"", pa.large_binary())
    )


def _varint_rows(numbers: Ints) -> tuple[Bytes, Ints]:
    """Varints of 64-bit numbers (two's complement): ten bytes a row, and how many of them count."""
    rest = numbers.astype(np.int64).view(np.uint64)
    widths = np.ones(len(rest), np.int64)
    for bits in range(7, 64, 7):
        wider = rest >= np.uint64(1 << bits)
        if not wider.any():
            break
        widths += wider
    longest = int(widths.max(initial=1))
    rows = np.zeros((len(rest), longest), np.uint8)
    for place in range(longest):
        more = widths > place + 1
        rows[:, place] = (rest & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        rest = rest >> np.uint64(7)
    return rows, widths


def _tagged(varints: tuple[Bytes, Ints], tag: int, there: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    rows, widths = varints
    tags = np.full((len(rows), 1), tag, np.uint8)
    return _ragged(np.concatenate([tags, rows], axis=1), np.where(there, widths + 1, 0))


def _ragged(rows: Bytes, widths: Ints) -> pa.Array:
    """The first `widths` bytes of each row as a binary array."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(widths, out=offsets[1:])
    content = rows[np.arange(rows.shape[1]) < widths[:, None]]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _kept(content: pa.Array, there: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    """An empty value, as Feast writes a null, where nothing is there."""
    return content if there.all() else pc.if_else(pa.array(there), content, pa.scalar(b"", pa.large_binary()))


def _nulls(texts: pa.Array, there: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    return texts if there.all() else pc.if_else(pa.array(there), texts, pa.scalar(None, pa.large_string()))


def _valid(column: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found: np.ndarray[Any, np.dtype[np.bool_]] = column.is_valid().to_numpy(zero_copy_only=False)
    return found


def _is_plain_list(column: pa.Array, name: str) -> bool:
    """Whether a list's numbers are without nulls and of a type that Feast takes as it is."""
    type_ = column.type
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)) or column.flatten().null_count:
        return False
    child = type_.value_type
    if name.startswith("INT"):
        return bool(pa.types.is_int32(child) or pa.types.is_int64(child))
    return bool(pa.types.is_float32(child) or pa.types.is_float64(child))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _word(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _tag(field: int) -> bytes:
    """The tag of a field that has a length; fields from 16 on take two bytes."""
    number = field << 3 | _LENGTH
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])
