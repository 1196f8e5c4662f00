"""Asking a model server by the Open Inference Protocol (v2) over HTTP.

https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import json
import math
import socket
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import urllib3

from ..evaluation.golden import Tolerance, agreement
from ..models.tensors import rows_of
from ..text import many
from ..waiting import Clock
from . import control

if TYPE_CHECKING:
    from ..evaluation.golden_rows import Golden

_JSON = {"Content-Type": "application/json"}
_PATIENCE = 60.0
_SINGLE = 10  # single rows that are timed


@dataclass(frozen=True)
class Answered:
    """The golden requests' outcome: rows asked, the largest difference, median seconds for one row, which output."""

    rows: int = 0
    max_difference: float = 0.0
    latency: float = 0.0
    output: str = "predict"


class Refused(Exception):
    """The server sent an error, or did not respond.

    Attributes:
        status: HTTP's, 0 without a response.
        release: that sent it, as its header says; "" where nothing does.
    """

    def __init__(self, status: int, text: str, release: str = "") -> None:
        super().__init__(text)
        self.status, self.release = status, release


@dataclass(frozen=True)
class Reply:
    """A response: HTTP's status, the headers by their names in lower case, the body."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Transport(Protocol):
    """How a model server is reached. `url` is for people: what they would ask themselves."""

    url: str

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        """GET a path, or POST JSON to it.

        Raises:
            Refused: with status 0; there is no response within `timeout` seconds.
        """


class Direct:
    """By HTTP from this machine, on connections that are kept.

    Args:
        url: `http://host:port`.
        host: the name that requests are for, when the URL has only an address.
    """

    def __init__(self, url: str, host: str = "") -> None:
        self.url = url
        self._headers = {**_JSON, **({"Host": host} if host else {})}
        self._pool: urllib3.PoolManager | urllib3.HTTPConnectionPool = urllib3.PoolManager(
            retries=False, maxsize=4
        )  # a proxy has no business before our own server

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        """See `Transport`."""
        method = "GET" if data is None else "POST"
        try:
            got = self._pool.request(
                method, self._at + path, body=data, headers=self._headers, timeout=timeout, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise no_response(self.url, error, timeout) from None
        return Reply(got.status, {name.lower(): value for name, value in got.headers.items()}, got.data)

    @property
    def _at(self) -> str:
        return self.url


class BySocket(Direct):
    """By HTTP on the socket in a server's folder; see `control`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"unix:{folder / control.HTTP}:")
        self._pool = _Sockets(folder)

    @property
    def _at(self) -> str:
        return ""


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, *given: Any, folder: Path, **more: Any) -> None:
        super().__init__(*given, **more)
        self._folder = folder

    def _new_conn(self) -> socket.socket:
        try:
            return control.connected(self._folder, control.HTTP, float(self.timeout or _PATIENCE))
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from None


class _Sockets(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection

    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", retries=False, maxsize=4, folder=folder)


def no_response(url: str, error: Exception, timeout: float) -> Refused:
    """What is said where a request got none.

    Args:
        url: of the server.
        error: of urllib3.
        timeout: seconds that it had.
    """
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return Refused(0, f"{url} did not respond within {timeout:g} s")
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return Refused(0, f"Cannot reach {url}: its host name cannot be resolved here")
    return Refused(0, f"Cannot reach {url}: {error}")


@dataclass(frozen=True)
class Answer:
    """What a model gave.

    Attributes:
        values: a value or a list of values a row.
        release, version, digest: of what gave it, as its headers say; "" from a server that is not ours.
        seconds: from the request to the end of the response.
    """

    values: list[Any]
    release: str
    version: str
    digest: str
    seconds: float


class Client:
    """Asks one model of a model server.

    Args:
        model: its name there.
        transport: how the server is reached.
        timeout: seconds for one request.
        clock: that answers are timed by.
    """

    def __init__(self, model: str, transport: Transport, timeout: float = 30.0, clock: Clock | None = None) -> None:
        self.model, self.transport, self._timeout, self._clock = model, transport, timeout, clock or Clock()

    @property
    def url(self) -> str:
        """Of the model, to which `/infer` is added."""
        return f"{self.transport.url}/v2/models/{self.model}"

    def ready(self) -> bool:
        """Whether the model is ready to be asked."""
        try:
            self._call(f"/v2/models/{self.model}/ready", timeout=2.0)
        except Refused:
            return False
        return True

    def metadata(self) -> dict[str, Any]:
        """The model's: name, versions, inputs, outputs, and in `properties` the `digest` and the `release`.

        Raises:
            Refused: there is no such model, or no response.
        """
        found = _json(self._call(f"/v2/models/{self.model}"))
        return found if isinstance(found, dict) else {}

    def infer(self, inputs: Sequence[Mapping[str, Any]], output: str) -> Answer:
        """What the model gives for tensors of rows.

        Raises:
            Refused: the server does not accept that, or does not respond.
        """
        began = self._clock.now()
        reply = self._call(f"/v2/models/{self.model}/infer", body(inputs, output))
        seconds = self._clock.now() - began
        response = _json(reply)
        if not isinstance(response, dict) or not response.get("outputs"):
            raise Refused(200, "The response has no outputs")
        values = _values(response["outputs"][0])
        told = {name: reply.headers.get(f"mlops-{name}", "") for name in ("release", "digest")}
        return Answer(values, version=str(response.get("model_version") or ""), seconds=seconds, **told)

    def introduce(self) -> Answer:
        """Who answers, by the metadata: an answer without values.

        Raises:
            Refused: as `metadata`.
        """
        began = self._clock.now()
        found = self.metadata()
        told, versions = found.get("properties") or {}, found.get("versions") or [""]
        who = {name: str(told.get(name, "")) for name in ("release", "digest")}
        return Answer([], version=str(versions[0]), seconds=self._clock.now() - began, **who)

    def output(self) -> str:
        """The output that has the score: `predict_proba` of a classifier of two classes, else the first one.

        Raises:
            Refused: as `metadata`.
        """
        outputs = self.metadata().get("outputs") or []
        two = [one for one in outputs if one["name"] == "predict_proba" and one["shape"][1:] == [2]]
        return str((two or outputs)[0]["name"]) if outputs else "predict"

    def check(self, golden: Golden, tolerance: Tolerance) -> Answered:
        """Ask the golden rows.

        Raises:
            Refused: the server does not respond, or a score is further off than the tolerance.
        """
        output = self.output()
        scores = [score(row, output) for row in self.infer(golden.inputs, output).values]
        worst = agree(golden.scores, scores, tolerance)
        return Answered(len(scores), worst, self._latency(golden, output), output)

    def _latency(self, golden: Golden, output: str) -> float:
        rows = range(min(_SINGLE, len(golden.scores)))
        times = [self.infer(rows_of(golden.inputs, i, i + 1), output).seconds for i in rows]
        return statistics.median(times) if times else 0.0

    def _call(self, path: str, value: object = None, timeout: float | None = None) -> Reply:
        data = None if value is None else json.dumps(value).encode()
        reply = self.transport.send(path, data, timeout or self._timeout)
        if not 200 <= reply.status < 300:
            raise Refused(reply.status, _message(reply), reply.headers.get("mlops-release", ""))
        return reply


def agree(expected: Sequence[Any], scores: Sequence[Any], tolerance: Tolerance) -> float:
    """The largest difference of the scores from the expected ones.

    Raises:
        Refused: there are not as many, or one is further off than the tolerance.
    """
    if len(scores) != len(expected):
        raise Refused(200, f"{len(expected)} golden rows were sent, and {len(scores)} predictions came back")
    found = agreement(expected, scores, tolerance)
    if found.mismatches:
        row, wanted, got = found.mismatches[0]
        raise Refused(
            200,
            f"{len(found.mismatches)} of {len(scores)} golden predictions differ: row {row} should be"
            f" {_short(wanted)} and is {_short(got)}",
        )
    return found.worst


def body(inputs: Sequence[Mapping[str, Any]], output: str) -> dict[str, Any]:
    """An inference request."""
    return {"inputs": list(inputs), "outputs": [{"name": output}]}


def score(value: Any, output: str) -> Any:
    """The score of a row: the second class's probability of two, or the one value that the model predicts.

    Raises:
        Refused: there are several values.
    """
    if not isinstance(value, list):
        return value
    if output == "predict_proba" and len(value) == 2:
        return value[1]
    raise Refused(200, f"{output} has {many(len(value), 'value')} for each row, and a golden score is one")


def _values(output: Mapping[str, Any]) -> list[Any]:
    """A value, or a list of values, for each row of an output.

    Raises:
        Refused: it is not what its shape says.
    """
    try:
        data, (rows, *inner) = list(output["data"]), output["shape"]
        width = math.prod(inner)
        if len(data) != rows * width:
            raise Refused(200, f"{output['name']} has the shape {output['shape']} and {many(len(data), 'value')}")
    except (KeyError, TypeError, ValueError):
        raise Refused(200, "The response's output has no data, or no shape") from None
    return [data[i : i + width] for i in range(0, len(data), width)] if inner and width != 1 else data


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.data) if reply.data.strip() else {}
    except ValueError:
        raise Refused(200, "The response is not JSON") from None


def _short(score: Any) -> str:
    return f"{score:.6g}" if isinstance(score, float) else str(score)


def _message(reply: Reply) -> str:
    text = reply.data.decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:300] or f"status {reply.status}, and the response has no text"
