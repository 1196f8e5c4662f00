"""Requests and responses of REST as bytes: JSON, and tensors in binary after it.

The latter is the extension `binary_tensor_data`:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md. gRPC has its raw
contents in the same form. FP16 is a plain number in JSON.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ...models.tensors import DATATYPES, WrongRequest

JSON_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON, where binary data follows."""
_FORMATS = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I",
    "UINT64": "Q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip


def read_request(body: bytes, json_length: str = "") -> dict[str, Any]:
    """A request's JSON object, checked, with all tensors as `data`.

    Raises:
        WrongRequest: it is not one.
    """
    try:
        length = int(json_length) if json_length else len(body)
        if not 0 <= length <= len(body):
            raise WrongRequest(f"the header {JSON_LENGTH} is {length}, and the body has {len(body)} bytes")
        request = orjson.loads(memoryview(body)[:length])
    except ValueError as error:
        raise WrongRequest(f"the body is not JSON: {error}") from None
    _check(request)
    rest = memoryview(body)[length:]
    for tensor in request["inputs"]:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            if "data" not in tensor:
                raise WrongRequest(f"input {tensor['name']!r} has no data")
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
            raise WrongRequest(f"input {tensor['name']!r} has binary_data_size {size!r}, and {len(rest)} bytes follow")
        tensor["data"] = unpack(tensor, rest[:size])
        rest = rest[size:]
    if rest:
        raise WrongRequest(f"{len(rest)} bytes follow the last input")
    return dict(request)


def write_response(response: dict[str, Any], request: Mapping[str, Any]) -> tuple[bytes, str]:
    """A response as bytes, in binary where the request asks for it, and the length of its JSON if it does."""
    everything = (request.get("parameters") or {}).get("binary_data_output") is True
    asked = {
        one["name"]: (one.get("parameters") or {}).get("binary_data", everything)
        for one in request.get("outputs") or []
    }
    binary: list[bytes] = []
    outputs = []
    for one in response["outputs"]:
        if asked.get(one["name"], everything) is True:
            binary.append(pack(one["datatype"], one["data"]))
            size = {"binary_data_size": len(binary[-1])}
            one = {**{name: value for name, value in one.items() if name != "data"}, "parameters": size}
        outputs.append(one)
    text = to_json({**response, "outputs": outputs})
    return (b"".join([text, *binary]), str(len(text))) if binary else (text, "")


def to_json(value: object) -> bytes:
    """JSON. Numbers that it does not have, such as NaN, are null."""
    return bytes(orjson.dumps(value, default=str))


def unpack(tensor: Mapping[str, Any], raw: bytes | memoryview) -> Any:
    """The values of a tensor from its bytes, in the order of rows: an array where numpy is, else a list.

    Raises:
        WrongRequest: they are not as many as its shape says.
    """
    name, datatype, count = tensor["name"], tensor["datatype"], math.prod(tensor["shape"])
    if datatype == "BYTES":
        return _texts(name, bytes(raw), count)
    code = _FORMATS[datatype]
    if struct.calcsize(code) * count != len(raw):
        raise WrongRequest(f"input {name!r} of shape {tensor['shape']} has {len(raw)} bytes of {datatype}")
    try:
        import numpy
    except ImportError:
        return list(struct.unpack(f"<{count}{code}", raw))
    return numpy.frombuffer(raw, dtype=f"<{code}".replace("<?", "?"))


def pack(datatype: str, values: Sequence[Any]) -> bytes:
    """The bytes of a tensor's values."""
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    known = [math.nan if value is None else value for value in values]
    return struct.pack(f"<{len(known)}{_FORMATS[datatype]}", *known)


def _texts(name: str, raw: bytes, count: int) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 4 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(raw) or len(found) != count:
        raise WrongRequest(f"input {name!r} has {len(found)} texts in its bytes, and its shape says {count}")
    return found


def _check(request: Any) -> None:
    if not isinstance(request, dict):
        raise WrongRequest(f"the body is {_kind(request)}, and must be an object")
    if not isinstance(request.get("inputs"), list):
        raise WrongRequest("the request has no list of `inputs`")
    if not isinstance(request.get("id") or "", str):
        raise WrongRequest("`id` must be a string")
    _check_parameters(request, "the request")
    for kind in ("inputs", "outputs"):
        given = request.get(kind) or []
        if not isinstance(given, list):
            raise WrongRequest(f"`{kind}` is {_kind(given)}, and must be a list")
        for one in given:
            if not isinstance(one, dict) or not isinstance(one.get("name"), str):
                raise WrongRequest(f"one of the {kind} is not an object with a `name`")
            _check_parameters(one, f"{kind[:-1]} {one['name']!r}")
    for one in request["inputs"]:
        check_tensor(one)


def check_tensor(tensor: Mapping[str, Any]) -> None:
    """Whether an input has a datatype and a shape.

    Raises:
        WrongRequest: it has not.
    """
    name, shape, datatype = tensor["name"], tensor.get("shape"), tensor.get("datatype")
    if datatype not in DATATYPES:
        raise WrongRequest(f"input {name!r} has datatype {datatype!r}, and must be one of {', '.join(DATATYPES)}")
    whole = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    if not whole or not shape:
        raise WrongRequest(f"input {name!r} has shape {shape!r}, and must have a list of whole numbers such as [1, 1]")


def _check_parameters(one: Mapping[str, Any], what: str) -> None:
    if not isinstance(one.get("parameters") or {}, dict):
        raise WrongRequest(f"`parameters` of {what} must be an object")


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
