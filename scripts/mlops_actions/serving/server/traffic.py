"""Who answers a request that comes to this release: itself, or another one that is being tried.

The server of the release that serves a model has its address. While another release is tried, this server sends it the
share of the requests that it was told, or copies of them. Which requests is no chance: a share is right after few of
them. What the other one does not answer, as when it died, this release answers itself.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import control
from .messages import Handler, Request, Response

_PATIENCE = 60.0  # seconds that another release may take for a response
_STEP = (5**0.5 - 1) / 2
"""Multiples of the golden ratio, modulo 1, fill [0, 1) evenly, and so does each n-th of them. So a share is right after
few requests, and also for one client of several that ask in turn."""
_COPIES = 16  # requests that are compared at once; those beyond are not copied
_EXAMPLES = 5
_TOLERANCE = 1e-6
_HOP = (
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
)  # fmt: skip
"""Headers of one connection (RFC 9110, section 7.6.1), and those that are written anew."""


@dataclass
class Comparison:
    """What was found by copies of requests.

    Attributes:
        requests: that were copied.
        equal, differing: those whose answers were the same in every row, and not.
        failed: those that only one of both answered.
        skipped: that were not copied, as too many were under way.
        examples: the first ones that differ.
    """

    requests: int = 0
    equal: int = 0
    differing: int = 0
    failed: int = 0
    skipped: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def why(self) -> str:
        """How one of those failed, to be added to a sentence; "" when no example shows it."""
        for one in self.examples:
            if "error" in one:
                return f": {one['error']}"
            if "status" in one:
                return f": status {one['status']} instead of {one['instead']}"
        return ""


@dataclass
class Other:
    """Another release on this machine, and what it is sent."""

    release: str
    percent: int
    mirror: bool


class Traffic:
    """Passes requests on.

    Args:
        own: answers what this release is to answer.
        sockets: the folder in which each release's server has one with its sockets.

    Attributes:
        leaving: this server has given its address away: all that still comes goes to the other one, and each
            connection ends with its response.
        lost: requests that the other release did not answer.
    """

    def __init__(self, own: Handler, sockets: Path = Path()) -> None:
        self._own, self._sockets = own, sockets
        self._at = 0.0
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._copies: set[asyncio.Task[None]] = set()
        self.other: Other | None = None
        self.comparison = Comparison()
        self.leaving = False
        self.lost = 0

    def route(self, other: Other | None) -> None:
        """From now on do so. A comparison begins anew with another release."""
        if (other and other.release) != (self.other and self.other.release):
            self.comparison, self.lost, self._at = Comparison(), 0, 0.0
            for _, writer in self._idle:
                writer.close()
            self._idle.clear()
        self.other = other

    async def __call__(self, request: Request) -> Response:
        """The response to a request, by whoever is to give it."""
        other = self.other
        if other is None or not request.path.startswith("/v2/models/"):
            response = await self._own(request)
        elif self._is_others(other):
            response = await self._passed_on(other, request)
        else:
            response = await self._own(request)
            if other.mirror and request.method == "POST":
                self._copy(other, request, response)
        if self.leaving:
            response.headers["connection"] = "close"
        return response

    def _is_others(self, other: Other) -> bool:
        self._at = (self._at + _STEP) % 1.0
        return self.leaving or 100 * self._at < other.percent

    async def _passed_on(self, other: Other, request: Request) -> Response:
        try:
            return await asyncio.wait_for(self._asked(other, request), _PATIENCE)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError):
            self.lost += 1
            return await self._own(request)

    async def _asked(self, other: Other, request: Request) -> Response:
        while self._idle:  # one of these may have been closed meanwhile
            connection = self._idle.pop()
            try:
                return await self._exchange(connection, request)
            except (OSError, EOFError, ValueError):
                continue
        with control.short(self._sockets / other.release, control.HTTP) as path:
            connection = await asyncio.open_unix_connection(path)
        return await self._exchange(connection, request)

    async def _exchange(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Request
    ) -> Response:
        reader, writer = connection
        kept = {name: value for name, value in request.headers.items() if name not in _HOP}
        kept |= {"host": "localhost", "content-length": str(len(request.body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
        done = False
        try:
            writer.write(f"{request.method} {request.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + request.body)
            await writer.drain()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split()[1])
            pairs = (line.partition(":") for line in lines[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            size = 0 if request.method == "HEAD" else int(headers["content-length"])
            body = await reader.readexactly(size)
            done = headers.get("connection", "").lower() != "close"
        except KeyError:
            raise ValueError("a response without a length") from None
        finally:
            if done and self.other is not None:
                self._idle.append(connection)
            else:
                writer.close()
        return Response(status, body, {name: value for name, value in headers.items() if name not in _HOP})

    def _copy(self, other: Other, request: Request, response: Response) -> None:
        if len(self._copies) >= _COPIES:
            self.comparison.skipped += 1
            return
        task = asyncio.ensure_future(self._compare(other, request, response, self.comparison))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _compare(self, other: Other, request: Request, response: Response, into: Comparison) -> None:
        into.requests += 1
        try:
            copied = await asyncio.wait_for(self._asked(other, request), _PATIENCE)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            into.failed += 1
            copied = None
            found: list[dict[str, Any]] = [{"error": str(error) or type(error).__name__}]
        if copied is not None:
            if copied.status != response.status:
                into.failed += 1
                found = [{"status": copied.status, "instead": response.status}]
            else:
                found = [] if response.status != 200 else differences(response.body, copied.body)
                into.equal += not found
                into.differing += bool(found)
        into.examples += found[: _EXAMPLES - len(into.examples)]


def differences(stable: bytes, candidate: bytes) -> list[dict[str, Any]]:
    """The rows in which two responses differ: `output`, `row` (from 0), `stable`, `candidate`."""
    try:
        both = [{one["name"]: one for one in json.loads(body)["outputs"]} for body in (stable, candidate)]
        rows = [{name: _rows(one) for name, one in outputs.items()} for outputs in both]
    except (ValueError, KeyError, TypeError):
        return [] if stable == candidate else [{"output": "", "row": 0, "stable": "binary", "candidate": "binary"}]
    found = []
    for name in {**rows[0], **rows[1]}:
        ours, theirs = rows[0].get(name, []), rows[1].get(name, [])
        for row in range(max(len(ours), len(theirs))):
            pair = [given[row] if row < len(given) else None for given in (ours, theirs)]
            if not _same(*pair):
                found.append({"output": name, "row": row, "stable": pair[0], "candidate": pair[1]})
    return found


def _rows(output: Mapping[str, Any]) -> list[Any]:
    data, width = output["data"], math.prod(output["shape"][1:])
    return [data[i : i + width] for i in range(0, len(data), width)] if width > 1 else list(data)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(one == other)
