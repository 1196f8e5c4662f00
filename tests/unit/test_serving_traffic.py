"""Which release answers a request while another one is tried, in one process: no server is started."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.serving.control import HTTP
from mlops_actions.serving.server.messages import Request, Response
from mlops_actions.serving.server.traffic import Other, Traffic, differences

PATH = "/v2/models/m/infer"


def body(*rows: Any) -> bytes:
    """A response of these rows; a tuple is a row of several values."""
    wide = [row if isinstance(row, tuple) else (row,) for row in rows]
    data = [value for row in wide for value in row]
    output = {"name": "predict", "datatype": "FP64", "shape": [len(rows), len(wide[0])], "data": data}
    return json.dumps({"outputs": [output]}).encode()


async def own(request: Request) -> Response:
    return Response(200, body(1.0, 2.0), {"who": "own"})


class Candidate:
    """A server of the other release: how it answers, and how many requests it got."""

    def __init__(self, answer: bytes = b"", *, keep: bool = True) -> None:
        length = f"content-length: {len(answer)}\r\nwho: other\r\n" + ("" if keep else "connection: close\r\n")
        self.response = f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + answer
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.response)
                await writer.drain()
        except (EOFError, OSError):
            writer.close()


def drive(candidate: Candidate, work: Callable[[Traffic], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as sockets:
            (Path(sockets) / "v2").mkdir()
            server = await asyncio.start_unix_server(candidate.serve, f"{sockets}/v2/{HTTP}")
            traffic = Traffic(own, Path(sockets))
            await asyncio.wait_for(work(traffic), 30)
            traffic.route(None)
            server.close()

    asyncio.run(run())


def other(percent: int, *, mirror: bool = False, release: str = "v2") -> Other:
    return Other(release, percent, mirror)


def ask() -> Request:
    return Request("POST", PATH, {"host": "x", "content-length": "2", "note": "n"}, b"{}")


@pytest.mark.parametrize("percent", [0, 1, 10, 25, 50, 90, 100])
def test_a_share_is_right_soon_and_also_for_each_second_or_third_request(percent: int) -> None:
    candidate = Candidate(body(1.0, 2.0))

    async def work(traffic: Traffic) -> None:
        traffic.route(other(percent))
        got = [(await traffic(ask())).headers["who"] == "other" for _ in range(600)]
        for each in (1, 2, 3):  # a client that asks for the metadata before each row, or one of three in turn
            for first in range(each):
                mine = got[first::each]
                assert all(abs(sum(mine[:n]) - n * percent / 100) < 3 for n in range(len(mine)))
        assert percent not in (0, 100) or set(got) == {percent == 100}

    drive(candidate, work)
    assert candidate.connections <= 1
    if candidate.requests:
        assert candidate.requests[0].startswith(b"POST /v2/models/m/infer HTTP/1.1\r\nnote: n\r\n")
        assert candidate.requests[0].endswith(b"content-length: 2\r\n\r\n{}")


def test_health_is_of_this_server() -> None:
    async def work(traffic: Traffic) -> None:
        traffic.route(other(100))
        response = await traffic(Request("GET", "/v2/health/ready", {}, b""))
        assert response.headers["who"] == "own"

    drive(Candidate(body(1.0)), work)


def test_what_the_other_one_does_not_answer_is_answered_here() -> None:
    async def work(traffic: Traffic) -> None:
        traffic.route(other(100))
        response = await traffic(ask())
        assert (response.headers["who"], traffic.lost) == ("own", 1)

    broken = Candidate()
    broken.response = b"HTTP/1.1 200 OK\r\n\r\n"  # without a length, nothing tells where it ends
    drive(broken, work)

    async def nobody(traffic: Traffic) -> None:
        traffic.route(other(100, release="v4"))
        assert (await traffic(ask())).headers["who"] == "own"

    drive(Candidate(), nobody)


def test_a_connection_that_the_other_one_closed_is_made_anew() -> None:
    candidate = Candidate(body(1.0), keep=False)

    async def work(traffic: Traffic) -> None:
        traffic.route(other(100))
        for _ in range(3):
            assert (await traffic(ask())).headers["who"] == "other"

    drive(candidate, work)
    assert candidate.connections == 3


def test_a_server_that_leaves_passes_everything_on_and_ends_its_connections() -> None:
    async def work(traffic: Traffic) -> None:
        traffic.route(other(0))
        traffic.leaving = True
        response = await traffic(ask())
        assert (response.headers["who"], response.headers["connection"]) == ("other", "close")

    drive(Candidate(body(1.0)), work)


def test_copies_are_compared_row_by_row_and_the_user_gets_the_stable_answer() -> None:
    candidate = Candidate(body(1.0, 2.5))

    async def work(traffic: Traffic) -> None:
        traffic.route(other(0, mirror=True))
        assert (await traffic(ask())).headers["who"] == "own"
        while traffic.comparison.differing < 1:
            await asyncio.sleep(0.01)
        candidate.response = Candidate(body(1.0, 2.0)).response
        await traffic(ask())
        while traffic.comparison.equal < 1:
            await asyncio.sleep(0.01)
        found = traffic.comparison
        assert (found.requests, found.equal, found.differing, found.failed) == (2, 1, 1, 0)
        assert found.examples == [{"output": "predict", "row": 1, "stable": 2.0, "candidate": 2.5}]
        traffic.route(other(0, mirror=True, release="v3"))
        assert traffic.comparison.requests == 0

    drive(candidate, work)


@pytest.mark.parametrize(
    ("one", "two", "rows"),
    [
        (body(1.0, 2.0), body(1.0, 2.0 + 1e-9), []),
        (body(1.0, 2.0), body(1.0), [1]),
        (body((1, 2), (3, 4)), body((1, 2), (3, 5)), [1]),
        (body("late"), body("early"), [0]),
        (body(None), body(None), []),
        (b"binary", b"binary", []),
        (b"binary", b"others", [0]),
    ],
)
def test_rows_in_which_two_responses_differ(one: bytes, two: bytes, rows: list[int]) -> None:
    assert [found["row"] for found in differences(one, two)] == rows
