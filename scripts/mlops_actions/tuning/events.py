"""Scalars from TensorFlow's event files, without TensorFlow.

An event file is a row of records (TFRecord): length (8 bytes), its checksum (4), an `Event` as a protocol buffer, its
checksum (4). Checksums are not compared: a file is on this machine's disk. Of an Event the wall time (field 1) and the
summary's values (5.1) are read: tag (1), and the number as `simple_value` (2) or in a tensor (8) as its content (4),
floats (5) or doubles (6). Source: tensorflow/core/{util/event,framework/summary,framework/tensor}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_FLOAT, _DOUBLE = 1, 2
"""DataType of a tensor."""
_FORMATS = {_FLOAT: "<f", _DOUBLE: "<d"}


class Scalar(NamedTuple):
    """A number that was logged: when (seconds since 1970), under which tag."""

    when: float
    tag: str
    value: float


class Damaged(Exception):
    """The bytes are not those of an event file."""


def scalars(data: bytes) -> tuple[list[Scalar], int]:
    """The scalars in the whole records at the beginning of some bytes, and how many bytes those are.

    Raises:
        Damaged: they are not records.
    """
    found: list[Scalar] = []
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + 16 + length > len(data):
            break
        try:
            found += _of_event(data[at + 12 : at + 12 + length])
        except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
            raise Damaged(str(error)) from error
        at += 16 + length
    return found, at


def _of_event(event: bytes) -> Iterator[Scalar]:
    fields = list(_fields(event))
    when = next((struct.unpack("<d", value)[0] for number, value in fields if number == 1), 0.0)
    for number, summary in fields:
        if number == 5:
            for inner, value in _fields(summary):
                parts = dict(_fields(value)) if inner == 1 else {}
                scalar = _scalar(parts)
                if scalar is not None:
                    yield Scalar(when, parts[1].decode(), scalar)


def _scalar(parts: dict[int, bytes]) -> float | None:
    """The number of a summary's value; None if it is a picture, a histogram or the like."""
    if 2 in parts:
        return float(struct.unpack("<f", parts[2])[0])
    tensor = dict(_fields(parts.get(8, b"")))
    kind = int.from_bytes(tensor.get(1, b"\0"), "little")
    content = tensor.get(4) or tensor.get(5 if kind == _FLOAT else 6)
    if kind not in _FORMATS or content is None or len(content) != struct.calcsize(_FORMATS[kind]):
        return None
    return float(struct.unpack(_FORMATS[kind], content)[0])


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer: number, and the value's bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, end = _varint(message, at)
            yield key >> 3, value.to_bytes(10, "little")
        elif kind == 2:
            length, at = _varint(message, at)
            end = at + length
            yield key >> 3, message[at:end]
        else:
            end = at + {1: 8, 5: 4}[kind]
            yield key >> 3, message[at:end]
        if end > len(message):
            raise IndexError("a field ends beyond its message")
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
