"""gRPC-web: a unary call as one POST. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md"""

from __future__ import annotations

import struct
from urllib.parse import unquote, urlsplit

from ....http.client import Response
from ....http.faults import shown
from .connection import ApiError
from .responses import page_title

_TYPE = "application/grpc-web+proto"
HEADERS = {"Content-Type": _TYPE, "Accept": _TYPE, "X-Grpc-Web": "1"}
"""Of a call."""

_HTTP_OF = {3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 12: 501, 13: 500, 14: 503, 4: 504, 16: 401}
"""HTTP's status for gRPC's code, as grpc-gateway maps them."""


class GrpcError(ApiError):
    """The error of a gRPC call's trailer. https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

    def __init__(self, code: int, message: str, host: str, doing: str) -> None:
        super().__init__(
            f"{host} failed: {doing}",
            why=f"gRPC code {code}: {message}",
            status=_HTTP_OF.get(code, 500),
            code=code,
            message=message,
            transient=code in (4, 8, 14),
        )


def framed(message: bytes) -> bytes:
    """A call's body."""
    return b"\0" + struct.pack(">I", len(message)) + message


def message_of(response: Response) -> bytes:
    """The message of a unary response: frames of a flag, a length, and data; the flag 0x80 marks the trailers.

    Raises:
        GrpcError: the call failed.
        ApiError: the response is truncated; or it is a web page, so there is no such service (status 404).
    """
    if page_title(response) is not None:
        raise ApiError(f"Not found: {shown(response.url)}", status=404)
    body, message = response.content, b""
    status, words = response.headers.get("grpc-status"), response.headers.get("grpc-message", "")
    while len(body) >= 5:
        flag, length = body[0], struct.unpack(">I", body[1:5])[0]
        frame, body = body[5 : 5 + length], body[5 + length :]
        if not flag & 0x80:
            message += frame
            continue
        lines = frame.decode("utf-8", errors="replace").splitlines()
        trailers = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        status, words = trailers.get("grpc-status"), trailers.get("grpc-message", "")
    parts = urlsplit(response.url)
    host, doing = f"{parts.scheme}://{parts.netloc}", f"POST {parts.path}"
    if status is None:
        raise ApiError(f"{shown(response.url)} sent a truncated response", why="It has no gRPC status", transient=True)
    if status != "0":
        raise GrpcError(int(status) if status.isdigit() else 2, unquote(words), host, doing)
    return message
