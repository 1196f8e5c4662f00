"""Errors as KFP's API server answers them (backend/src/common/util/error.go, over grpc-gateway)."""

from __future__ import annotations

from typing import Any

INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, PRECONDITION, ABORTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = (
    3, 5, 6, 7, 8, 9, 10, 13, 14, 16,
)  # fmt: skip
_HTTP = {
    INVALID: 400, NOT_FOUND: 404, EXISTS: 409, DENIED: 403, EXHAUSTED: 429, PRECONDITION: 400, ABORTED: 409,
    INTERNAL: 500, UNAVAILABLE: 503, UNAUTHENTICATED: 401,
}  # fmt: skip


class Refusal(Exception):
    """An answer that is an error.

    Args:
        code: gRPC's.
        external: the message without the server's own chain of causes; it is in `details`.
        chain: what was being done, from the outside in, as Go's wrapped errors read.
    """

    def __init__(self, code: int, external: str, *chain: str) -> None:
        self.code, self.external = code, external
        self.message = ": ".join([*chain, external])
        super().__init__(self.message)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _HTTP[self.code]

    def body(self) -> dict[str, Any]:
        """As grpc-gateway writes it."""
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.external}
        return {"error": self.message, "code": self.code, "message": self.message, "details": [detail]}


class UploadRefusal(Exception):
    """An error of the two upload endpoints, which are no gRPC: another body (pipeline_upload_server.go)."""

    def __init__(self, status: int, message: str, details: str = "") -> None:
        self.status, self.message, self.details = status, message, details or message
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """As the server writes it."""
        return {"error_message": self.message, "error_details": self.details}


def not_found(kind: str, name: str, *chain: str) -> Refusal:
    """There is no such thing."""
    return Refusal(NOT_FOUND, f"{kind} {name} not found.", *chain, "ResourceNotFoundError")


def invalid(message: str, *chain: str) -> Refusal:
    """Bad input."""
    return Refusal(INVALID, message, *chain, "Invalid input error")
