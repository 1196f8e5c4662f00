"""Records of event files, as TensorFlow and PyTorch write them."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(number: int, value: bytes | int | float, *, kind: str = "") -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        packed = struct.pack("<d" if kind == "double" else "<f", value)
        return varint(number << 3 | (1 if kind == "double" else 5)) + packed
    return varint(number << 3 | 2) + varint(len(value)) + value


def event(when: float, tag: str, value: bytes) -> bytes:
    """A record of an event file, as TensorFlow and PyTorch write it; checksums are not looked at."""
    summary = field(5, field(1, field(1, tag.encode()) + value))
    message = field(1, when, kind="double") + field(2, 7) + summary
    return struct.pack("<Q", len(message)) + b"crc1" + message + b"crc2"


def tensor(value: float, kind: str) -> bytes:
    shape = field(2, b"")
    if kind == "content":
        return field(8, field(1, 1) + shape + field(4, struct.pack("<f", value)))
    if kind == "double":
        return field(8, field(1, 2) + shape + field(6, struct.pack("<d", value)))
    return field(8, field(1, 1) + shape + field(5, value))
