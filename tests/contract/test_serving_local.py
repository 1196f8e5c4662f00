"""The engine `local` with real servers: changes of what serves lose no request, whoever is killed meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import docker_engine
from conftest import ROOT
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.errors import BadInput
from mlops_actions.serving.cluster.image import Images
from mlops_actions.serving.container import Containers
from mlops_actions.serving.engine import NotServed, Release
from mlops_actions.serving.local import Address, LocalServing
from mlops_actions.serving.process import running
from mlops_actions.stores.digests import tree_digest
from mlops_actions.waiting import wait_until
from servers import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the engine local runs on Linux and macOS")
OWN = """
import os

class Adder:
    def load(self, path):
        self.offset = float(path.read_text())

    def predict(self, rows):
        return [row["x"] + self.offset for row in rows]

class Crashing(Adder):
    def predict(self, rows):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked > 10:
            os.kill(os.getpid(), 9)
        return super().predict(rows)
"""
ROW = [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [2.0]}]
BODY = json.dumps({"inputs": ROW, "outputs": [{"name": "predict"}]}).encode()


@dataclass
class World:
    folder: Path
    python: Path
    port: int
    environ: dict[str, str]
    images: Images | None = None
    memory: str | None = None
    lock: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def engine(self, **address: Any) -> LocalServing:
        """An engine, as each run of the action has its own."""
        given = Address(**{"port": self.port, **address})
        return LocalServing(
            lambda name: self.state, given, self.environ, 60.0, self.said.append, self.containers, self.memory
        )

    def containers(self) -> Containers:
        assert self.images, "Docker was asked for something"
        return Containers(self.environ, lambda release, architecture: self.image(release), None, self.said.append)

    def image(self, release: Release) -> str:
        """Of a release, if it is to be in a container; else ""."""
        return self.images.make(release) if self.images else ""

    def release(self, version: int, **changes: Any) -> Release:
        model = self.folder / f"{version}.txt"
        if not model.exists():
            model.write_text(str(version))
        made = Release(
            name="m", version=version, digest=tree_digest(model), kind="python", model=model, predict="own.py:Adder",
            root=self.folder, code="", example=ROW, lock=self.lock, python=self.python,
        )  # fmt: skip
        return replace(made, **changes)

    def deploy(self, release: Release, *shares: int) -> None:
        engine = self.engine()
        engine.start(release)
        for percent in (*shares, 100):
            engine.shift(release, percent)
        engine.finish(release)

    def ask(self) -> tuple[str, float]:
        """Who answers at the model's address, and what."""
        answer = self.engine().ask("m").infer(ROW, "predict")
        return answer.release, answer.values[0]


@dataclass(frozen=True)
class Docker:
    """A Docker engine, and a registry that has a Python image."""

    engine: docker_engine.DockerEngine
    registry: str
    base: str


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    if why := docker_engine.missing() or docker_engine.missing_registry():
        pytest.skip(why)
    (bare := tmp_path_factory.mktemp("bare") / "requirements.txt").touch()
    with docker_engine.docker_engine() as engine, docker_engine.registry() as registry:
        base = f"{registry}/python:3.11"
        engine.docker("tag", docker_engine.python_image(engine, bare), base)
        engine.docker("push", base)
        yield Docker(engine, registry, base)


@pytest.fixture(params=["process", "container"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    try:
        made = environments.ensure("serving", environments.cache_folder())
    except EnvironmentFailed as error:
        pytest.skip(f"no packages of the server: {error}")
    (tmp_path / "own.py").write_text(OWN)
    found = World(tmp_path, made.python, free_port(), dict(os.environ))
    if request.param == "container":
        there: Docker = request.getfixturevalue("docker")
        found.environ |= there.engine.environ
        found.memory, found.lock = "512Mi", made.frozen()
        found.images = Images(
            f"{there.registry}/models", there.base, "amd64", None, environments.cache_folder(), found.environ,
            found.said.append,
        )  # fmt: skip
    yield found
    found.engine().stop("m")
    assert not [folder for folder in (found.state / "releases").glob("*") if running(folder)]
    if request.param == "container":
        assert there.engine.docker("ps", "--all", "--quiet") == ""


class Asking:
    """Asks without a pause, each time by a new connection and, in other threads, by ones that are kept."""

    def __init__(self, world: World) -> None:
        self._port, self._over = world.port, threading.Event()
        self.failed: list[str] = []
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(kept,)) for kept in (False, True, True)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Content-Type": "application/json", **({} if kept else {"Connection": "close"})}
        while not self._over.is_set():
            try:
                connection.request("POST", "/v2/models/m/infer", BODY, headers)
                response = connection.getresponse()
                found = json.loads(response.read())
                release, values = response.headers["mlops-release"], found["outputs"][0]["data"]
                right = values == [2.0 + int(found["model_version"])]
                problem = "" if response.status == 200 and right else f"{release}: {response.status} {found}"
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                connection.close()
                problem, release = f"{'kept' if kept else 'new'}: {error!r}", ""
            with self._lock:
                self.answers[release] += 1
                if problem:
                    self.failed.append(problem)
        connection.close()


def test_changes_and_goings_back_lose_no_request(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    with Asking(world) as asking:
        for release in (two, one) * int(os.environ.get("CHANGES", "3")):
            world.deploy(release, 10, 50)
            now = world.engine().serving("m")
            assert now and (now.release, now.candidate) == (release.id, "")
            assert world.ask() == (release.id, 2.0 + release.version)
    assert asking.failed == [] and set(asking.answers) == {one.id, two.id}


def test_changes_lose_no_request_by_grpc(world: World) -> None:
    one, two = world.release(1), world.release(2)
    port = free_port()

    def deploy(release: Release) -> None:
        engine = world.engine(grpc_port=port)
        engine.start(release)
        engine.shift(release, 100)
        engine.finish(release)

    deploy(one)
    command = [str(world.python), str(ROOT / "tests" / "grpc_user.py"), f"127.0.0.1:{port}", "m", ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        for release in (two, one) * int(os.environ.get("CHANGES", "3")):
            deploy(release)
        found = json.loads(user.communicate()[0])
    assert found["failed"] == [] and set(found["answers"]) == {one.id, two.id}


def test_a_share_is_what_it_says_and_goes_back(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    engine = world.engine()
    engine.start(two)
    for percent in (0, 10, 50, 100, 25):
        engine.shift(two, percent)
        now = engine.serving("m")
        assert now and (now.release, now.candidate, now.percent) == (one.id, two.id, percent)
        got = Counter(world.ask()[0] for _ in range(20))
        assert abs(got[two.id] - percent * 20 / 100) <= (0 if percent in (0, 100) else 2)
    now = engine.abandon("m")
    assert now and (now.release, now.candidate, now.percent) == (one.id, "", 0)
    assert {world.ask()[0] for _ in range(10)} == {one.id}


def test_requests_of_every_form_reach_the_candidate(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    engine = world.engine()
    engine.start(two)
    engine.shift(two, 100)
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
    for how in (
        {"expect": "100-continue"},  # as curl sends it with a long body
        {"te": "trailers", "connection": "te"},
        {"transfer-encoding": "chunked"},
        {"accept-encoding": "gzip", "cookie": "a=b; c=é"},
    ):
        chunked = "transfer-encoding" in how
        given = iter([BODY[:9], BODY[9:]]) if chunked else BODY
        connection.request("POST", "/v2/models/m/infer", given, how, encode_chunked=chunked)
        response = connection.getresponse()
        assert (response.headers["mlops-release"], json.loads(response.read())["outputs"][0]["data"]) == (two.id, [4.0])
    connection.request("HEAD", "/v2/models/m")
    response = connection.getresponse()
    assert (response.status, response.headers["mlops-release"], response.read()) == (200, two.id, b"")
    connection.close()
    engine.abandon("m")


def test_copies_of_requests_are_compared(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    engine = world.engine()
    engine.start(two)
    engine.shift(two, 0, mirror=True)
    assert {world.ask() for _ in range(5)} == {(one.id, 3.0)}
    found = engine.compared("m")
    assert (found.requests, found.differing, found.failed) == (5, 5, 0)
    assert found.examples[0] == {"output": "predict", "row": 0, "stable": 3.0, "candidate": 4.0}


def test_a_candidate_that_is_killed_loses_no_request(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    engine = world.engine()
    engine.start(two)
    engine.shift(two, 50)
    with Asking(world) as asking:
        assert wait_until(lambda: asking.answers[two.id] > 5, 30)
        found = running(world.state / "releases" / two.id)
        assert found
        os.kill(found.pid, signal.SIGKILL)
        with pytest.raises(NotServed, match="the server ended while it was asked"):
            for _ in range(100):
                engine.ask("m").infer(ROW, "predict")
        now = engine.abandon("m")
        assert now and (now.release, now.candidate) == (one.id, "")
    assert asking.failed == []


def test_a_candidate_that_crashes_after_ten_requests_says_so(world: World) -> None:
    one, two = world.release(1), world.release(2, predict="own.py:Crashing")
    world.deploy(one)
    engine = world.engine()
    client = engine.start(two)
    with pytest.raises(NotServed, match="the server ended while it was asked"):
        for _ in range(20):
            client.infer(ROW, "predict")
    engine.abandon("m")
    assert world.ask()[0] == one.id


@pytest.mark.parametrize("again", ["goes on", "goes back"])
def test_a_deployer_that_is_killed_anywhere_loses_no_request(world: World, again: str) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    killed_at = 0
    with Asking(world) as asking:
        while killed_at < 50:
            killed_at += 1
            release = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(two).items()}
            given = json.dumps(
                {"state": str(world.state), "port": world.port, "release": release, "image": world.image(two)}
            )
            command = [sys.executable, str(ROOT / "tests" / "local_deployer.py"), str(killed_at), given]
            environ = {**world.environ, "PYTHONPATH": str(ROOT / "scripts")}
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            now = world.engine().serving("m")
            assert now and now.release in (one.id, two.id), f"killed at {killed_at}"
            if again == "goes on" and done.returncode:
                world.deploy(two, 10)
            elif now.release == one.id:
                back = world.engine().abandon("m")
                assert back and (back.release, back.candidate) == (one.id, "")
            if (now := world.engine().serving("m")) is None or now.release != one.id:
                world.deploy(one)
            assert world.ask() == (one.id, 3.0)
            if done.returncode == 0:
                break
    assert killed_at > 5 and asking.failed == []


def test_a_server_that_was_killed_is_started_again_by_the_next_rollout(world: World) -> None:
    one, two = world.release(1), world.release(2, predict="own.py:Missing")
    world.deploy(one)
    found = running(world.state / "releases" / one.id)
    assert found
    os.kill(found.pid, signal.SIGKILL)
    assert wait_until(lambda: not found.alive, 10)
    (world.folder / "own.py").write_text(OWN.replace("+ self.offset", "- self.offset"))
    engine = world.engine()
    assert engine.serving("m") is None
    with pytest.raises(NotServed, match=r"version 2 cannot be loaded: NotLoadable: own\.py has no `Missing`"):
        engine.start(two)
    assert "Traceback" in engine.why("m") and "Missing" in engine.why("m")
    now = engine.abandon("m")
    assert now and now.release == one.id and world.ask() == (one.id, 3.0)


def test_the_address_of_what_serves_stays(world: World) -> None:
    world.deploy(world.release(1))
    with pytest.raises(BadInput, match="its address cannot change while it is"):
        world.engine(port=free_port()).start(world.release(2))
    now = world.engine(port=0).serving("m")
    assert now and now.url == f"http://127.0.0.1:{world.port}/v2/models/m"
    world.engine(port=0).start(world.release(2))
    world.engine().abandon("m")


@pytest.mark.parametrize("which", ["port", "grpc_port"])
def test_a_port_of_somebody_else_is_refused(world: World, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="is used by another process"):
            world.engine(**{which: taken.getsockname()[1]}).start(world.release(1))
    assert world.engine().serving("m") is None


def test_what_serves_is_stopped(world: World) -> None:
    world.deploy(world.release(1))
    was = world.engine().stop("m")
    assert was and was.version == 1 and world.engine().serving("m") is None
    assert world.engine().stop("m") is None


def test_only_what_can_be_gone_back_to_is_kept(world: World) -> None:
    for version in (1, 2, 3):
        world.deploy(world.release(version))
    now = world.engine().serving("m")
    assert now and now.previous == world.release(2).id
    kept = {folder.name for folder in (world.state / "releases").iterdir()}
    assert kept == {world.release(2).id, world.release(3).id}
