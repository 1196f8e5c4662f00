"""The Open Inference Protocol (v2) over HTTP: asking a model server, and telling one what to load.

https://github.com/kserve/open-inference-protocol · repository extension: Triton's, which MLServer has too.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from ..evaluation.golden import Tolerance, agreement
from ..evaluation.golden_rows import Golden
from ..models.tensors import rows_of

_OPEN = build_opener(ProxyHandler({}))  # a proxy of the machine's has no business between it and its own server
_SINGLE = 10  # single rows that are timed


class Refused(Exception):
    """The server sent an error, or did not respond. `status` is HTTP's, 0 without a response."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Answered:
    """The golden requests' outcome: rows asked, the largest difference, median seconds for one row, which output."""

    rows: int = 0
    max_difference: float = 0.0
    latency: float = 0.0
    output: str = "predict"


class Client:
    """One model server.

    Args:
        url: `http://host:port`.
        timeout: seconds for one request.
    """

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url, self._timeout = url, timeout

    def ready(self, model: str = "", version: int | None = None) -> bool:
        """Whether the server, or a model of it, is ready."""
        path = f"/v2/models/{model}" if model else "/v2/health"
        path += f"/versions/{version}" if version is not None else ""
        try:
            self._call(f"{path}/ready", timeout=2.0)
        except Refused:
            return False
        return True

    def infer(self, model: str, inputs: Sequence[Mapping[str, Any]], output: str) -> list[Any]:
        """What the model gives for the inputs, a value or a list of values a row.

        Raises:
            Refused: the server does not accept that.
        """
        response = self._call(f"/v2/models/{model}/infer", body(inputs, output))
        outputs = response.get("outputs") if isinstance(response, dict) else None
        if not outputs:
            raise Refused(200, "The response has no outputs")
        data, shape = outputs[0]["data"], outputs[0]["shape"]
        width = shape[1] if len(shape) > 1 else 1
        return [data[i : i + width] if width > 1 else data[i] for i in range(0, len(data), max(width, 1))]

    def load(self, model: str) -> None:
        """Load a model, or load it again, from the server's repository."""
        self._call(f"/v2/repository/models/{model}/load", {})

    def unload(self, model: str) -> None:
        """Unload a model, if it is loaded."""
        try:
            self._call(f"/v2/repository/models/{model}/unload", {})
        except Refused as error:
            if error.status != 404:
                raise

    def check(self, model: str, golden: Golden, tolerance: Tolerance) -> Answered:
        """Ask the golden rows.

        Raises:
            Refused: the server does not respond, or a score is further off than the tolerance.
        """
        output = self._output(model)
        scores = [_score(row) for row in self.infer(model, golden.inputs, output)]
        if len(scores) != len(golden.scores):
            raise Refused(200, f"{len(golden.scores)} golden rows were sent, and {len(scores)} predictions came back")
        found = agreement(golden.scores, scores, tolerance)
        if found.mismatches:
            row, expected, got = found.mismatches[0]
            raise Refused(
                200,
                f"{len(found.mismatches)} of {len(scores)} golden predictions differ: row {row} should be"
                f" {_short(expected)} and is {_short(got)}",
            )
        return Answered(len(scores), found.worst, self._latency(model, golden, output), output)

    def _output(self, model: str) -> str:
        """The output that has the score: `predict_proba` of a classifier of two classes, else the first one."""
        outputs = self._call(f"/v2/models/{model}").get("outputs") or []
        two = [one for one in outputs if one["name"] == "predict_proba" and one["shape"][1:] == [2]]
        return str((two or outputs)[0]["name"]) if outputs else "predict"

    def _latency(self, model: str, golden: Golden, output: str) -> float:
        times = []
        for i in range(min(_SINGLE, len(golden.scores))):
            began = time.perf_counter()
            self.infer(model, rows_of(golden.inputs, i, i + 1), output)
            times.append(time.perf_counter() - began)
        return statistics.median(times) if times else 0.0

    def _call(self, path: str, value: object = None, timeout: float | None = None) -> Any:
        data = None if value is None else json.dumps(value).encode()
        request = Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with _OPEN.open(request, timeout=timeout or self._timeout) as response:
                text = response.read()
        except HTTPError as error:
            raise Refused(error.code, _message(error.read())) from None
        except (URLError, OSError) as error:
            raise Refused(0, f"Cannot reach {self.url}: {getattr(error, 'reason', error)}") from None
        try:
            return json.loads(text) if text.strip() else {}
        except ValueError:
            raise Refused(200, "The response is not JSON") from None


def body(inputs: Sequence[Mapping[str, Any]], output: str) -> dict[str, Any]:
    """An inference request."""
    return {"inputs": list(inputs), "outputs": [{"name": output}]}


def _score(value: Any) -> Any:
    """The score of a row: the second class's probability of two, or what the model predicts."""
    return value[-1] if isinstance(value, list) and value else value


def _short(score: Any) -> str:
    return f"{score:.6g}" if isinstance(score, float) else str(score)


def _message(data: bytes) -> str:
    text = data.decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:300] or "the response has no text"
