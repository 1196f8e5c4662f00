"""A serving engine in this process: releases are functions, requests are split by weights, a kill ends all calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlops_actions.evaluation.golden_rows import Golden
from mlops_actions.serving.engine import Capabilities, NotServed, Release, Serving
from mlops_actions.serving.protocol import Client, Refused, Reply
from mlops_actions.waiting import Clock

GOLDEN = Golden(
    [{"name": "x", "datatype": "FP64", "shape": [4, 1], "data": [1.0, 2.0, 3.0, 4.0]}], [2.0, 4.0, 6.0, 8.0]
)
"""Rows, and their doubles as scores."""


class Killed(BaseException):
    """The process was killed: nothing after it is done."""


class Ticking(Clock):
    """A clock of the test: it moves when it is waited for, and with each answer."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float, wake: object = None) -> bool:
        self.at += seconds
        return False


def release(version: int, **values: Any) -> Release:
    """A release of the model `m`."""
    made = Release(
        name="m",
        version=version,
        digest=f"sha256:{version:064x}",
        kind="sklearn",
        model=Path("model.joblib"),
        predict="",
        root=Path(),
        code="",
        example=GOLDEN.inputs,
        lock="numpy==2.0",
        python=Path("python"),
    )
    return replace(made, **values)


@dataclass
class Behaviour:
    """How a version answers.

    Attributes:
        predict: what it gives for x.
        seconds: it takes, by the number of the request.
        crashes_after: requests, after which it does not respond any more; 0 for never.
        checks: whether it refuses wrong requests with 400; else it fails with 500.
        digest: that its metadata tells instead of its own.
        named: whether its answers name their release.
    """

    predict: Callable[[float], float] = lambda x: 2 * x
    seconds: Callable[[int], float] = lambda _: 0.002
    crashes_after: int = 0
    checks: bool = True
    digest: str = ""
    named: bool = True
    starts: bool = True
    asked: int = 0


@dataclass
class MemoryEngine:
    """See `mlops_actions.serving.engine.ServingEngine`.

    Attributes:
        behaviours: of versions, or of single releases by their name.
        able: what it can do.
        clock: moves with each answer.
        honest: whether shares of requests are in force; else all go to the candidate once it has any.
        deaf: whether the candidate gets nothing whatever its share is.
        kill_at: the call of the engine or the store at which the process is killed, its number or name; 0 for none.
    """

    behaviours: dict[int | str, Behaviour] = field(default_factory=dict)
    able: Capabilities = field(default_factory=lambda: Capabilities(weights=True, mirror=True))
    clock: Ticking = field(default_factory=Ticking)
    honest: bool = True
    deaf: bool = False
    unreachable: bool = False
    place: str = "memory"
    lasting: str = ""
    kill_at: int | str = 0
    killed: bool = False
    calls: list[str] = field(default_factory=list)
    stable: Release | None = None
    candidate: Release | None = None
    percent: int = 0
    up: set[str] = field(default_factory=set)
    sent: int = 0

    def called(self, name: str) -> None:
        """Count a call, and die at the one that it is told."""
        self.calls.append(name)
        if self.kill_at in (name, len(self.calls)):
            self.killed = True
        if self.killed:
            raise Killed(name)

    def capabilities(self) -> Capabilities:
        return self.able

    def serving(self, name: str) -> Serving | None:
        self.called("serving")
        return self._serving()

    def start(self, release: Release) -> Client:
        self.called("start")
        assert self.candidate in (None, release), "a candidate of another rollout was not abandoned"
        self.candidate = release
        self.called("started half")
        if not self._of(release).starts:
            raise NotServed("the server ended with exit code 1", log="Traceback …")
        self.up.add(release.id)
        return self._client(release)

    def ask(self, name: str, release: str = "") -> Client:
        if release:
            return self._client(next(one for one in (self.stable, self.candidate) if one and one.id == release))
        return Client("m", _Public(self), clock=self.clock)

    def shift(self, release: Release, percent: int, *, mirror: bool = False) -> None:
        self.called(f"shift {percent}{' mirror' if mirror else ''}")
        assert self.candidate == release and release.id in self.up
        self.percent = percent

    def finish(self, release: Release) -> None:
        self.called("finish")
        if self.candidate == release:
            self.stable, self.candidate, self.percent = release, None, 0
            self.called("finished half")
        assert self.stable == release
        self.up = {release.id}

    def abandon(self, name: str) -> Serving | None:
        self.called("abandon")
        self.percent = 0
        self.called("abandoned half")
        if self.candidate:
            self.up.discard(self.candidate.id)
        self.candidate = None
        return self._serving()

    def stop(self, name: str) -> Serving | None:
        was, self.stable, self.candidate = self._serving(), None, None
        return was

    def why(self, name: str) -> str:
        return "what its log says"

    def _serving(self) -> Serving | None:
        if not self.stable and not self.candidate:
            return None
        one = self.stable
        return Serving(
            "http://m", one and one.id, one and one.version, one.digest if one else "",
            self.candidate.id if self.candidate else "", self.percent,
        )  # fmt: skip

    def _of(self, release: Release) -> Behaviour:
        return self.behaviours.get(release.id) or self.behaviours.setdefault(release.version, Behaviour())

    def _client(self, release: Release) -> Client:
        return Client("m", _Alone(self, release), clock=self.clock)

    def pick(self) -> Release:
        """Who answers the next request at the model's own address: of a hundred, as many as its share."""
        self.sent += 1
        if self.candidate and self.percent and not self.deaf:
            spread = self.sent * 61 % 100  # in no order, and of a hundred each once
            if not self.honest or spread < self.percent or not self.stable:
                return self.candidate
        if not self.stable:
            raise Refused(0, "nothing serves")
        return self.stable


@dataclass
class _Alone:
    """A transport to one release."""

    engine: MemoryEngine
    release: Release
    url: str = "http://m"

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        release, how = self.release, self.engine._of(self.release)
        how.asked += 1
        if self.engine.unreachable or (how.crashes_after and how.asked > how.crashes_after):
            raise Refused(0, "Cannot reach http://m: connection refused")
        self.engine.clock.at += how.seconds(how.asked)
        headers = {"mlops-release": release.id, "mlops-digest": release.digest} if how.named else {}
        if data is None:
            properties = {"digest": how.digest or release.digest, "release": release.id}
            told = {"name": "m", "versions": [str(release.version)], "properties": properties}
            outputs = [{"name": "predict", "datatype": "FP64", "shape": [-1]}]
            return Reply(200, headers, json.dumps({**told, "outputs": outputs}).encode())
        (tensor,) = json.loads(data)["inputs"]
        if tensor["name"] != "x":
            return Reply(400 if how.checks else 500, headers, b'{"error": "unknown input"}')
        values = [how.predict(x) for x in tensor["data"]]
        output = {"name": "predict", "datatype": "FP64", "shape": [len(values)], "data": values}
        return Reply(200, headers, json.dumps({"model_version": str(release.version), "outputs": [output]}).encode())


@dataclass
class _Public:
    """A transport to the model's own address."""

    engine: MemoryEngine
    url: str = "http://m"

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        return _Alone(self.engine, self.engine.pick()).send(path, data, timeout)
