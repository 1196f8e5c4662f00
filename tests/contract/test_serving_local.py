"""The engine `local` with real servers: changes of what serves lose no request, whoever is killed meanwhile."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import docker_engine
from conftest import MLOPS, ROOT
from mlops_actions import environments
from mlops_actions.environments import EnvironmentFailed
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.serving.cluster.image import Images
from mlops_actions.serving.container import Containers
from mlops_actions.serving.engine import NotServed, Release
from mlops_actions.serving.local import Address, LocalServing
from mlops_actions.serving.process import running
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import Store
from mlops_actions.waiting import wait_until
from rollouts import LIGHT, LIMIT, changes, out_and_back, told
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
            os._exit(9)
        return super().predict(rows)

class Greedy(Adder):
    def predict(self, rows):
        return [len(b"x" * 2**30) for row in rows]

class Nosy(Adder):
    def predict(self, rows):
        found = [os.getuid() == 65532]
        for path in ("/opt/model/x", "/etc/x", "/x", "/run/mlops/x", "/run/mlops/" + "other/x"):
            try:
                open(path, "w")
                found.append(path)
            except OSError:
                found.append(True)
        open("/tmp/x", "w")
        return [1.0 if all(one is True for one in found) else 0.0 for row in rows]
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

    def engine(self, image: str = "", **address: Any) -> LocalServing:
        """An engine, as each run of the action has its own; `image` is served instead of the release's."""

        def containers() -> Containers:
            return Containers(self.environ, lambda release, _: image or self.image(release), None, self.said.append)

        given = Address(**{"port": self.port, **address})
        return LocalServing(
            lambda name: self.state, given, self.environ, 60.0, self.said.append, containers, self.memory
        )

    def image(self, release: Release) -> str:
        """Of a release, if it is to be in a container; else ""."""
        return self.images.make(release) if self.images else ""

    def docker(self, *arguments: str) -> str:
        """What a docker command prints."""
        return docker_engine.DockerEngine(self.environ.get("DOCKER_HOST", "")).docker(*arguments)

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
        assert found.docker("ps", "--all", "--quiet") == ""


class Asking:
    """Asks without a pause, each time by a new connection and, in other threads, by ones that are kept."""

    def __init__(self, port: int, threads: Sequence[bool] = (False, True, True)) -> None:
        self._port, self._over = port, threading.Event()
        self.failed: list[str] = []
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(kept,)) for kept in threads]

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


@pytest.mark.timeout(LIMIT)
def test_changes_and_goings_back_lose_no_request(world: World) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    with Asking(world.port) as asking:

        def change(release: Release) -> None:
            world.deploy(release, 10, 50)
            now = world.engine().serving("m")
            assert now and (now.release, now.candidate) == (release.id, "")
            assert world.ask() == (release.id, 2.0 + release.version)

        taken = out_and_back(changes(3), partial(change, two), partial(change, one))
    told("changes by the engine alone", taken, asking.answers, len(asking.failed))
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
        for release in (two, one) * changes(3):
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
    with Asking(world.port) as asking:
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


def deploying(world: World, release: Release, killed_at: int) -> subprocess.Popen[str]:
    """A process that deploys a release and is killed at its n-th thing, see `local_deployer.py`; 0 for never."""
    fields = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(release).items()}
    given = {"state": str(world.state), "port": world.port, "release": fields, "image": world.image(release)}
    command = [sys.executable, str(ROOT / "tests" / "local_deployer.py"), str(killed_at), json.dumps(given)]
    environ = {**world.environ, "PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("again", ["goes on", "goes back"])
def test_a_deployer_that_is_killed_anywhere_loses_no_request(world: World, again: str) -> None:
    one, two = world.release(1), world.release(2)
    world.deploy(one)
    killed_at = 0
    with Asking(world.port) as asking:
        while killed_at < 50:
            killed_at += 1
            with deploying(world, two, killed_at) as deployer:
                _, stderr = deployer.communicate()
            assert deployer.returncode in (0, -signal.SIGKILL), stderr
            now = world.engine().serving("m")
            assert now and now.release in (one.id, two.id), f"killed at {killed_at}"
            if again == "goes on" and deployer.returncode:
                world.deploy(two, 10)
            elif now.release == one.id:
                back = world.engine().abandon("m")
                assert back and (back.release, back.candidate) == (one.id, "")
            if (now := world.engine().serving("m")) is None or now.release != one.id:
                world.deploy(one)
            assert world.ask() == (one.id, 3.0)
            if deployer.returncode == 0:
                break
    assert killed_at > 5 and asking.failed == []


@pytest.mark.parametrize("world", ["process"], indirect=True)
def test_a_server_whose_deployer_is_killed_before_it_is_up_is_found(world: World) -> None:
    one, slow, begun = world.release(1), world.folder / "slow", world.folder / "begun"
    slow.write_text(f'#!/bin/sh\necho $$ >> {begun}\nsleep 1\nexec {world.python} "$@"\n')
    slow.chmod(0o755)
    two = world.release(2, python=slow)
    world.deploy(one)
    with deploying(world, two, killed_at=0) as deployer:
        assert wait_until(begun.exists, 30)
        deployer.kill()
    world.deploy(two, 10)
    assert world.ask() == (two.id, 4.0)
    assert len(begun.read_text().splitlines()) == 1


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


contained = pytest.mark.parametrize("world", ["container"], indirect=True)


@contained
def test_a_container_can_do_no_more_than_it_needs(world: World) -> None:
    world.deploy(world.release(1, predict="own.py:Nosy"))
    assert world.ask()[1] == 1.0
    (found,) = json.loads(world.docker("inspect", *world.docker("ps", "--quiet").split()))
    host = found["HostConfig"]
    assert (found["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("65532:65532", True, ["ALL"])
    assert (host["SecurityOpt"], host["Memory"], host["MemorySwap"]) == (["no-new-privileges"], 2**29, 2**29)
    assert not host["Privileged"] and not host["PortBindings"] and host["NetworkMode"] in ("bridge", "default")
    assert [one["Source"] for one in found["Mounts"]] == [str(world.state / "sockets")]
    assert world.state.stat().st_mode & 0o077 == 0


@contained
def test_a_container_that_needs_too_much_memory_says_so_and_the_limit(world: World) -> None:
    one = world.release(1)
    world.deploy(one)
    engine = world.engine()
    with pytest.raises(NotServed, match="version 2 cannot be loaded: it used more memory than its limit, 512Mi"):
        engine.start(world.release(2, predict="own.py:Greedy"))  # it is asked its example
    engine.abandon("m")
    assert world.ask() == (one.id, 3.0)


@contained
@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("127.0.0.1:1/models:1", "the image 127.0.0.1:1/models:1 cannot be pulled: .*connection refused"),
        (docker_engine.BASE_IMAGE, f"Docker cannot start {docker_engine.BASE_IMAGE}: .*--control"),
    ],
)
def test_an_image_that_cannot_serve_is_told(world: World, image: str, said: str) -> None:
    one = world.release(1)
    world.deploy(one)
    engine = world.engine(image=image)
    with pytest.raises(NotServed, match=said):
        engine.start(world.release(2))
    now = engine.abandon("m")
    assert now and (now.release, now.candidate) == (one.id, "") and world.ask() == (one.id, 3.0)


@contained
def test_processes_and_containers_follow_each_other_without_a_lost_request(world: World) -> None:
    world.deploy(world.release(1))
    with Asking(world.port) as asking:
        for version, memory in ((2, None), (3, "512Mi"), (4, None), (1, None), (2, "512Mi")):
            world.memory = memory
            world.deploy(world.release(version), 50)
            assert world.ask() == (world.release(version).id, 2.0 + version)
            assert len(world.docker("ps", "--quiet").split()) <= 2
        world.memory = None
        world.engine().finish(world.release(2))
        assert "end it first by `mlops deploy-model --model m --stop`" in world.said[-1]
    assert asking.failed == []


def test_without_a_docker_engine_containers_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, Path(sys.executable), free_port(), {"DOCKER_HOST": "unix:///nowhere"}, memory="1Gi")
    with pytest.raises(RemoteFailed, match="Cannot reach a Docker engine at unix:///nowhere") as raised:
        world.engine(image="busybox").start(world.release(1))
    assert "leave `container` out" in str(raised.value) and "if-unavailable" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "system", "why"),
    [
        ("", "Docker Desktop", "run in a virtual machine"),
        ("tcp://127.0.0.1:{port}", "Debian", "run at tcp://127.0.0.1"),
    ],
)
def test_a_docker_engine_that_is_not_on_this_machine_is_refused(
    host: str, system: str, why: str, tmp_path: Path
) -> None:
    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"ApiVersion": "1.45", "OperatingSystem": system, "Architecture": "x86_64"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class OnSocket(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    made: socketserver.BaseServer
    if host:
        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
        host = host.format(port=made.server_address[1])
    else:
        made, host = OnSocket(str(tmp_path / "docker.sock"), Engine), f"unix://{tmp_path}/docker.sock"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    world = World(tmp_path, Path(sys.executable), free_port(), {"DOCKER_HOST": host}, memory="1Gi")
    with pytest.raises(BadInput, match="needs a Docker engine that runs on this machine") as raised:
        world.engine(image="busybox").start(world.release(1))
    made.shutdown()
    made.server_close()
    assert why in str(raised.value)


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("place", ["process", "container"])
def test_the_action_rolls_out_and_back_and_no_request_fails(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    registry = Registry(Store((tmp_path / "store").as_uri()))
    for version, offset in ((1, 1), (2, 2), (3, 9)):  # the golden rows of version 3 are of another model
        (tmp_path / f"{version}.txt").write_text(str(version))
        golden = tmp_path / f"{version}.csv"
        golden.write_text("x,score\n" + "".join(f"{x}.5,{x + 0.5 + offset}\n" for x in range(5)))
        register(registry, Registration("m", tmp_path / f"{version}.txt", golden=golden))
    (tmp_path / "own.py").write_text(OWN)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "INPUT_", "MLOPS_"))}
    environ |= {"MLOPS_CACHE": os.environ["MLOPS_CACHE"]} if "MLOPS_CACHE" in os.environ else {}
    environ |= {"MLOPS_STORE": (tmp_path / "store").as_uri(), "MLOPS_HOME": str(tmp_path / "home")}
    port, given = free_port(), ["--predict", "own.py:Adder", *LIGHT, "--json"]
    if place == "container":
        docker: Docker = request.getfixturevalue("docker")
        environ |= docker.engine.environ
        given += ["--container", "--image-repository", f"{docker.registry}/m", "--base-image", docker.base]

    def mlops(*arguments: str) -> tuple[int, dict[str, Any], str]:
        command = [str(MLOPS), *arguments, "--port", str(port), *given]
        done = subprocess.run(command, env=environ, cwd=tmp_path, text=True, capture_output=True, check=False)
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    def deploy(version: int) -> None:
        code, outputs, log = mlops(*named, "--version", str(version))
        assert (code, outputs.get("version")) == (0, version), log

    def back() -> None:
        code, outputs, log = mlops("rollback", "m")
        assert (code, outputs.get("version")) == (0, 1), log

    named = ("deploy-model", "--model", "m", "--requires", "[]")
    try:
        deploy(1)
        with Asking(port, (False, True)) as asking:
            taken = out_and_back(changes(1), partial(deploy, 2), back)
            code, outputs, log = mlops(*named, "--version", "3")
            assert (code, outputs["version"], outputs["rolled-back"]) == (1, 1, True), log
            assert "golden predictions differ" in log and "version 1 serves as before" in log
        told(place, taken, asking.answers, len(asking.failed))
        assert asking.failed == [] and {one[:2] for one in asking.answers} == {"v1", "v2"}
        code, outputs, log = mlops("drill", "m")
        assert (code, outputs.get("version")) == (0, 1) and "then only right ones" in log, log
        print(next(line for line in log.splitlines() if "Wrong answers came for" in line))
    finally:
        code, outputs, log = mlops(*named, "--stop")
    assert (code, outputs["previous-version"]) == (0, 1), log
    if place == "container":
        assert docker.engine.docker("ps", "--all", "--quiet") == ""
