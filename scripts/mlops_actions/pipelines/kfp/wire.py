"""Protobuf's wire format, as much of it as reading ML Metadata takes: https://protobuf.dev/programming-guides/encoding/

Why not the package ml-metadata: it pins an old protobuf, and has no wheels for Python 3.12 and later.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are no such message."""


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        name: as in the `.proto` file.
        kind: int, float, bool or str; the fields of a message; `MapOf`; or `Struct`.
        repeated: whether there may be several.
    """

    name: str
    kind: Any
    repeated: bool = False


Fields = Mapping[int, Field]
Message = dict[str, Any]


@dataclass(frozen=True)
class MapOf:
    """A map of text to messages."""

    fields: Fields


class Struct:
    """google.protobuf.Struct, which is read as JSON."""


def read(data: bytes, fields: Fields) -> Message:
    """A message's fields by name; those that are absent or not in `fields` are left out, repeated ones are lists.

    Raises:
        Malformed: it is cut, or no protobuf.
    """
    message: Message = {field.name: [] for field in fields.values() if field.repeated}
    for number, raw in _parts(data):
        field = fields.get(number)
        if field is None:
            continue
        if isinstance(field.kind, MapOf):
            entry = read(raw, {1: Field("key", str), 2: Field("value", field.kind.fields)})
            message.setdefault(field.name, {})[entry.get("key", "")] = entry.get("value", {})
        elif field.repeated:
            message[field.name].append(_value(raw, field.kind))
        else:
            message[field.name] = _value(raw, field.kind)
    return message


def write(number: int, value: int | str | bytes) -> bytes:
    """A field with a number, a text, or a message that is written already."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _value(raw: Any, kind: Any) -> Any:
    if kind is Struct:
        return _struct(raw)
    if isinstance(kind, Mapping):
        return read(raw, kind)
    if kind is str:
        return raw.decode("utf-8", errors="replace")
    if kind is float:
        return struct.unpack("<d", raw)[0]
    if kind is bool:
        return bool(raw)
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _struct(data: bytes) -> dict[str, Any]:
    made = {}
    for number, raw in _parts(data):
        if number == 1:
            entry = dict(_parts(raw))
            made[entry.get(1, b"").decode()] = _json(entry.get(2, b""))
    return made


def _json(data: bytes) -> Any:
    """google.protobuf.Value. Its numbers are doubles: one without a fraction is an integer."""
    for number, raw in _parts(data):
        if number == 2:
            found = struct.unpack("<d", raw)[0]
            return int(found) if found.is_integer() and abs(found) < 2**53 else found
        if number == 3:
            return raw.decode("utf-8", errors="replace")
        if number == 4:
            return bool(raw)
        if number == 5:
            return _struct(raw)
        if number == 6:
            return [_json(item) for key, item in _parts(raw) if key == 1]
    return None


def _parts(data: bytes) -> Iterator[tuple[int, Any]]:
    """The number and the raw value of each field."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, at = _read_varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise Malformed(f"wire type {kind}")
        if at + length > len(data):
            raise Malformed("a field is cut")
        yield tag >> 3, data[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise Malformed("a number is cut")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
