"""build-image with a real engine and real registries: what is built, found again, tested, pushed, and how it fails."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import docker_engine as servers
from docker_engine import PASSWORD, USER, DockerEngine
from mlops_actions.http.faults import HttpError
from mlops_actions.images.buildkit import Build, build, find_builder
from mlops_actions.images.dockerfile import instructions
from mlops_actions.images.login import Credentials
from mlops_actions.images.names import parse_name
from mlops_actions.images.registry import Registry
from mlops_actions.waiting import Clock
from proc import command_lines

MLOPS = Path(__file__).resolve().parents[2] / "scripts" / "mlops"
DOCKERFILE = """\
ARG BASE=busybox:test
FROM $BASE AS base
COPY app.txt /app.txt
RUN echo building && cat /app.txt
"""

pytestmark = pytest.mark.skipif(bool(servers.missing()), reason=servers.missing() or "-")
needs_registry = pytest.mark.skipif(bool(servers.missing_registry()), reason=servers.missing_registry() or "-")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with servers.docker_engine() as started:
        yield started


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with servers.registry() as address:
        yield address


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with servers.registry(login=True) as address:
        yield address


class Project:
    """A consumer's folder in git, and build-image called in it as a person calls it."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        self.folder, self.engine = folder, engine
        self.environ: dict[str, str] = {}
        folder.mkdir()
        self.write("Dockerfile", DOCKERFILE)
        self.write("app.txt", f"content of {folder}")  # no other test has built it
        self.git("init", "--quiet", "--initial-branch=feature/x")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "one")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        command = ["git", "-C", str(self.folder), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        command = [str(MLOPS), "build-image", "--json", *arguments]
        settings = {**os.environ, **self.engine.environ, **self.environ, **environ}
        return subprocess.Popen(
            command, cwd=self.folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def call(self, *arguments: str, **environ: str) -> tuple[int, dict[str, Any], str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=180)
        return process.returncode, json.loads(out or "{}"), err

    def build(self, *arguments: str, **environ: str) -> dict[str, Any]:
        code, outputs, err = self.call(*arguments, **environ)
        assert code == 0, err
        return outputs

    def labels(self, image: str) -> dict[str, str]:
        found = json.loads(self.engine.docker("image", "inspect", image))[0]["Config"]["Labels"]
        return dict(found)


@pytest.fixture
def project(tmp_path: Path, engine: DockerEngine) -> Project:
    return Project(tmp_path / "flights", engine)


def has_buildx(**environ: str) -> bool:
    asked = subprocess.run(
        ["docker", "buildx", "version"], env={**os.environ, **environ}, capture_output=True, check=False
    )
    return asked.returncode == 0


def old_docker() -> str:
    """The folder of a docker command that has BuildKit built in, or ""."""
    for folder in os.environ["PATH"].split(os.pathsep):
        command = shutil.which("docker", path=folder)
        said = subprocess.run([command, "--version"], capture_output=True, text=True).stdout if command else ""
        if said.startswith(("Docker version 19.", "Docker version 20.")):
            return folder
    return ""


@pytest.fixture(params=["buildx", "built-in"])
def any_builder(request: pytest.FixtureRequest, project: Project, tmp_path: Path) -> Project:
    """The project, once with buildx and once with an old docker that has none."""
    if request.param == "buildx":
        if not has_buildx():
            pytest.skip("no buildx: apt-get install docker-buildx-plugin")
        return project
    if not old_docker():
        pytest.skip("no old docker: one of version 18 to 22 has BuildKit built in")
    project.environ = {"PATH": f"{old_docker()}{os.pathsep}{os.environ['PATH']}", "DOCKER_CONFIG": str(tmp_path)}
    if has_buildx(**project.environ):
        pytest.skip("every docker command here has buildx")
    return project


def test_image_has_tags_of_commit_and_branch_and_says_what_it_is_made_of(any_builder: Project) -> None:
    project = any_builder
    commit = project.git("rev-parse", "HEAD")
    outputs = project.build()
    assert outputs["image"] == f"flights:{commit[:12]}"
    assert outputs["tags"] == [f"flights:{commit[:12]}", "flights:feature-x"]
    identity = project.engine.docker("image", "inspect", "--format", "{{.Id}}", "flights:feature-x")
    assert outputs["digest"] == outputs["image-ref"] == identity
    assert int(outputs["size"]) > 1_000_000
    labels = project.labels("flights:feature-x")
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.title"] == "flights"
    assert labels["org.opencontainers.image.version"] == commit[:12]
    made = project.git("log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ")
    assert labels["org.opencontainers.image.created"][:13] == made[:13]
    assert labels["io.mlops-actions.key"] == outputs["key"]
    assert project.engine.docker("run", "--rm", "flights:feature-x", "cat", "/app.txt").startswith("content of")
    assert "building-" not in project.engine.docker("images", "--format", "{{.Tag}}")


def test_unchanged_content_is_not_built_again_and_gets_the_new_tags(project: Project) -> None:
    first = project.build()
    project.write("README.md", "not in the image, yet in the context")
    project.write(".dockerignore", "README.md\n.dockerignore\n# a comment\n")
    second = project.build()
    project.git("commit", "--quiet", "--allow-empty", "-m", "two")
    code, third, said = project.call()
    assert code == 0
    assert "Not built: the engine already has this content" in said
    assert third["record"]["reused"] is True
    assert third["digest"] == second["digest"]
    assert first["key"] != second["key"] or first["digest"] == second["digest"]
    assert third["image"] != second["image"]
    assert project.engine.docker("image", "inspect", "--format", "{{.Id}}", third["image"]) == second["digest"]


@pytest.mark.parametrize("change", ["app.txt", "Dockerfile", "--build-args", "--test", "--target"])
def test_whatever_decides_the_content_changes_the_key(project: Project, change: str) -> None:
    before = project.build()
    arguments = {"--build-args": "OTHER=1", "--test": "true", "--target": "base"}
    if change in arguments:
        after = project.build(change, arguments[change])
    else:
        project.write(change, (project.folder / change).read_text() + "\n# changed\n")
        after = project.build()
    assert after["key"] != before["key"]
    assert "reused" not in after["record"]


def test_no_reuse_builds_again(project: Project) -> None:
    first = project.build()
    code, second, said = project.call("--no-reuse")
    assert code == 0
    assert second["key"] == first["key"]
    assert f"content of {project.folder}" in said  # the step was taken, not found
    assert "reused" not in second["record"]


def test_build_arguments_reach_the_build_as_they_are_written(project: Project) -> None:
    project.write("Dockerfile", 'ARG BASE\nFROM $BASE\nARG PYTHON\nRUN echo "python $PYTHON" > /v\n')
    outputs = project.build("--build-args", "BASE=busybox:test", "--build-args", "PYTHON=3.10")
    assert project.engine.docker("run", "--rm", outputs["image"], "cat", "/v") == "python 3.10"


def test_failing_test_is_a_no_and_nothing_is_tagged(project: Project) -> None:
    code, outputs, said = project.call("--image", "untagged", "--test", "cat /app.txt; echo last words; exit 7")
    assert code == 1
    assert "Rejected: The test `cat /app.txt; echo last words; exit 7` failed in the image, with exit code 7" in said
    assert "last words" in said
    assert project.engine.docker("images", "--quiet", "untagged") == ""
    code, _, said = project.call("--image", "untagged", "--test", "cat /app.txt; echo last words; exit 7")
    assert code == 1  # a failure is never found again as a success
    assert outputs["record"]["problem"]["log"].endswith("last words")


def test_test_may_be_a_list_of_words_for_an_image_without_a_shell(project: Project) -> None:
    project.build("--test", '["/bin/test", "-f", "/app.txt"]')
    code, _, said = project.call("--test", '["/bin/nope"]')
    assert code == 2
    assert 'Bad input: Cannot start the test `["/bin/nope"]` in the image' in said


def test_failing_step_is_named_with_its_line_and_its_log(any_builder: Project) -> None:
    project = any_builder
    project.write(
        "Dockerfile", "FROM busybox:test\n# why\nRUN echo fine\nRUN echo one >&2 && \\\n    nosuchtool --flag\n"
    )
    code, outputs, said = project.call()
    assert code == 2
    assert "Dockerfile:4: The step `[3/3] RUN echo one >&2 &&" in said
    problem = outputs["record"]["problem"]
    assert problem["place"] == "Dockerfile:4"
    assert "one" in problem["log"].splitlines()
    assert "nosuchtool: not found" in problem["log"]
    assert "exit code 127" in problem["why"]


@pytest.mark.parametrize(
    ("dockerfile", "code", "message"),
    [
        (None, 2, "Dockerfile does not exist"),
        ("RUN true\n", 2, "Dockerfile:1: Dockerfile has no FROM"),
        ("FROM busybox:test\nRUM true\n", 2, "Dockerfile:2: Dockerfile is not valid"),
        ("FROM busybox:test\nCOPY nope.txt /\n", 2, "Dockerfile:2: The step `[2/2] COPY nope.txt /` failed"),
        ("FROM busybox:test\n\nFROM nosuch.invalid/image:1\n", 3, "Dockerfile:3: Cannot pull a base image"),
    ],
)
def test_mistakes_in_a_dockerfile(any_builder: Project, dockerfile: str | None, code: int, message: str) -> None:
    (any_builder.folder / "Dockerfile").unlink()
    if dockerfile is not None:
        any_builder.write("Dockerfile", dockerfile)
    ended, _, said = any_builder.call()
    assert (ended, message in said) == (code, True), said


def test_without_an_engine_it_fails_or_is_skipped_as_asked(project: Project) -> None:
    code, _, said = project.call(DOCKER_HOST="unix:///nowhere.sock")
    assert code == 3
    assert "Cannot reach a Docker engine at unix:///nowhere.sock" in said
    assert "Start Docker" in said
    outputs = project.build("--if-unavailable", "skip", DOCKER_HOST="unix:///nowhere.sock")
    assert outputs["skipped"] == "true" or outputs["skipped"] is True
    assert outputs["digest"] == outputs["image"] == ""


@needs_registry
def test_push_gives_the_registrys_digest_and_every_tag_names_it(project: Project, registry: str) -> None:
    name = f"{registry}/team/flights"
    outputs = project.build("--image", name, "--tags", "v1,v2", "--push")
    assert outputs["image-ref"] == f"{name}@{outputs['digest']}"
    assert outputs["tags"] == [f"{name}:v1", f"{name}:v2"]
    place = Registry(parse_name(name), None, {}, insecure=True, say=print)
    for tag in ("v1", "v2", f"key-{outputs['key']}"):
        manifest = place.manifest(tag)
        assert manifest is not None
        assert manifest.digest == outputs["digest"]
    assert int(outputs["size"]) == manifest.size > 500_000
    project.engine.docker("rmi", "--force", *outputs["tags"], f"{name}:key-{outputs['key']}")
    project.engine.docker("pull", outputs["image-ref"])


@needs_registry
def test_content_in_the_registry_is_tagged_there_and_not_built(project: Project, registry: str) -> None:
    name = f"{registry}/team/{project.folder.parent.name}".lower().replace("_", "-").rstrip("-")
    first = project.build("--image", name, "--tags", "v1", "--push")
    for image in set(project.engine.docker("images", "--quiet", name).split()):
        project.engine.docker("rmi", "--force", image)  # as on another machine
    code, second, said = project.call("--image", name, "--tags", "v2,latest", "--push")
    assert code == 0
    assert f"Not built: {registry} already has this content" in said
    assert (second["digest"], second["key"]) == (first["digest"], first["key"])
    assert second["size"] == first["size"]
    assert project.engine.docker("images", "--quiet", name) == ""
    project.engine.docker("pull", f"{name}:latest")


@pytest.mark.parametrize("push", [False, pytest.param(True, marks=needs_registry)])
def test_an_image_of_a_pull_request_is_found_by_that_pull_request_alone(
    project: Project, push: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = f"{request.getfixturevalue('registry')}/team/scoped" if push else "scoped"
    options = ("--image", name, *(["--push"] if push else []))

    def reused(number: int | None) -> bool:
        if push:  # as on another machine
            for image in set(project.engine.docker("images", "--quiet", name).split()):
                project.engine.docker("rmi", "--force", image)
        where: dict[str, str] = {}
        if number:
            event = tmp_path / "event.json"
            event.write_text(json.dumps({"pull_request": {"number": number, "head": {"sha": "1" * 40}}}))
            where = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
        code, _, said = project.call(*options, **where)
        assert code == 0, said
        return "Not built" in said

    assert not reused(7) and reused(7)
    assert not reused(8), "another pull request"
    assert not reused(None), "the default branch builds what was merged"
    assert reused(9), "and a pull request takes what the default branch has built"


@needs_registry
def test_a_pull_request_does_not_move_tags_that_others_use(project: Project, registry: str) -> None:
    name = f"{registry}/team/moving"
    first = project.build("--image", name, "--tags", "latest,v1", "--push")
    project.write("app.txt", "changed by the pull request")
    event = project.folder.parent / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "abcdef0123456789" * 2}}}))
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)}
    code, second, said = project.call("--image", name, "--tags", "latest,v1,pr-7-cpu", "--push", **environ)
    assert code == 0, said
    assert "A pull request does not push latest, v1: the tags are pr-7-cpu" in said
    assert second["tags"] == [f"{name}:pr-7-cpu"]
    code, third, said = project.call("--image", name, "--tags", "latest", "--push", **environ)
    assert third["tags"] == [f"{name}:abcdef012345", f"{name}:pr-7"]
    place = Registry(parse_name(name), None, {}, insecure=True, say=print)
    digests = {
        tag: manifest.digest for tag in ("latest", "v1", "pr-7", "pr-7-cpu") if (manifest := place.manifest(tag))
    }
    assert digests == dict.fromkeys(("latest", "v1"), first["digest"]) | dict.fromkeys(
        ("pr-7", "pr-7-cpu"), second["digest"]
    )
    assert first["digest"] != second["digest"]


def test_a_target_is_a_stage_by_its_name_or_number(project: Project) -> None:
    project.write(
        "Dockerfile", "FROM busybox:test AS One\nRUN echo 1 > /n\nFROM busybox:test\nRUN echo 2 > /n\nFROM scratch\n"
    )
    for target in ("ONE", "one", "0"):
        image = project.build("--target", target)["image"]
        assert project.engine.docker("run", "--rm", image, "cat", "/n") == "1"
    for target, message in (("on", "Did you mean `one`?"), ("1", "Stage 1 of Dockerfile has no name")):
        code, _, said = project.call("--target", target)
        assert (code, message in said) == (2, True), said


@needs_registry
def test_image_built_without_push_is_pushed_later_without_a_build(project: Project, registry: str) -> None:
    built = project.build()
    code, pushed, said = project.call("--image", f"{registry}/later/flights", "--push")
    assert code == 0
    assert "Not built: the engine already has this content" in said
    assert pushed["key"] == built["key"]
    assert pushed["digest"] != built["digest"]


@needs_registry
def test_login_is_used_and_leaves_no_trace(project: Project, guarded: str, tmp_path: Path) -> None:
    home = tmp_path / "home-of-the-user"
    arguments = ["--image", f"{guarded}/team/flights", "--push", "--registry-username", USER]
    process = project.start(*arguments, MLOPS_REGISTRY_PASSWORD=PASSWORD, DOCKER_CONFIG=str(home))
    seen = set()
    while process.poll() is None:
        seen |= {line for line in command_lines() if line.startswith(b"docker\0") or b"/docker\0" in line}
        time.sleep(0.02)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["digest"].startswith("sha256:")
    assert seen
    assert not any(PASSWORD.encode() in line for line in seen)
    assert PASSWORD not in out + err
    assert not home.exists()
    outputs = project.build(*arguments, MLOPS_REGISTRY_PASSWORD=PASSWORD)
    assert outputs["record"]["reused"] is True


@needs_registry
@pytest.mark.parametrize("password", ["wrong", ""])
def test_refused_login_is_said_before_anything_is_built_or_by_the_push(
    project: Project, guarded: str, password: str
) -> None:
    login = ["--registry-username", USER] if password else []
    arguments = ["--image", f"{guarded}/team/{len(password)}", "--push", *login]
    code, _, said = project.call(*arguments, MLOPS_REGISTRY_PASSWORD=password)
    assert code == 3
    assert f"{guarded} refused the login" in said
    assert "Check `registry-username`" in said
    assert not (password and "RUN echo building" in said)


def test_unreachable_registry_is_said_before_the_build(project: Project) -> None:
    code, _, said = project.call("--image", "127.0.0.1:9/team/flights", "--push")
    assert code == 3
    assert "Cannot reach the registry 127.0.0.1:9" in said
    assert "RUN echo building" not in said


def test_push_needs_a_name_that_says_where(project: Project) -> None:
    code, _, said = project.call("--push")
    assert code == 2
    assert "To push, `image` must name a registry or an owner" in said


def test_platforms_need_buildx_and_several_are_built_only_for_a_push(any_builder: Project) -> None:
    code, outputs, said = any_builder.call("--platforms", "linux/amd64,linux/arm64")
    if any_builder.environ:
        assert code == 2
        assert "builds only for this machine's platform. buildx is not installed" in said
        return
    assert code == 0, said
    assert "several platforms are built when the image is pushed" in said
    (platform,) = outputs["record"]["details"]["platforms"]
    assert any_builder.build("--platforms", platform)["digest"] == outputs["digest"]


@needs_registry
def test_push_as_a_part_of_the_build_gives_the_registrys_digest(project: Project, registry: str) -> None:
    """What an image of several platforms needs; with one platform here, as no other can be run."""
    builder = find_builder(os.environ)
    if not builder.buildx:
        pytest.skip("no buildx: apt-get install docker-buildx-plugin")
    name = f"{registry}/team/pushed"
    order = Build(project.folder, project.folder / "Dockerfile", tags=[f"{name}:a", f"{name}:b"], push=True)
    environ = {**os.environ, **project.engine.environ}
    progress, digest = build(builder, order, environ, instructions(DOCKERFILE), "Dockerfile", print)
    assert progress.counted[0] == 3
    for tag in ("a", "b"):
        manifest = Registry(parse_name(name), None, {}, insecure=True, say=print).manifest(tag)
        assert manifest is not None
        assert manifest.digest == digest


def test_cancel_ends_the_build_and_leaves_nothing(any_builder: Project) -> None:
    project = any_builder
    project.write("Dockerfile", "FROM busybox:test\nRUN echo begun && sleep 98\n")
    process = project.start("--image", "cancelled")
    assert process.stderr
    _read_until(process.stderr.readline, "begun")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=7.5)  # then GitHub kills it
    assert process.returncode == 130, said
    until = time.monotonic() + 10
    while any(b"sleep\x0098" in line for line in command_lines()):
        assert time.monotonic() < until, "the step goes on"
        time.sleep(0.1)
    assert project.engine.docker("images", "--quiet", "cancelled") == ""


@needs_registry
def test_registry_that_asks_to_wait_is_given_the_time_it_asks_for(registry: str) -> None:
    with _throttle(registry, times=2, retry_after="3") as address:
        clock, said = Ticking(), []
        place = Registry(parse_name(f"{address}/team/x"), None, {}, insecure=True, say=said.append, clock=clock)
        assert place.has("nope") is False
    assert clock.waits == [3.0, 3.0]
    assert said[0] == f"{address} gets too many requests: It asks to wait 3 s. Retrying for up to 300 s"


@needs_registry
def test_registry_that_asks_for_too_long_is_an_error(registry: str) -> None:
    with _throttle(registry, times=1, retry_after="4000") as address:
        clock = Ticking()
        place = Registry(parse_name(f"{address}/team/x"), None, {}, insecure=True, say=print, clock=clock)
        with pytest.raises(HttpError, match="asks to wait 4000 s"):
            place.has("nope")
    assert clock.waits == []


@needs_registry
def test_registry_client_logs_in_by_itself(guarded: str) -> None:
    name = parse_name(f"{guarded}/team/never")
    known = Registry(name, Credentials(USER, PASSWORD), {}, insecure=True, say=print)
    assert known.manifest("nope") is None
    assert known._send("HEAD", "manifests/nope", {}).status == 404
    assert Registry(name, None, {}, insecure=True, say=print)._send("HEAD", "manifests/nope", {}).status == 401


class Ticking(Clock):
    """A clock that does not wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.waits.append(seconds)
        return False


class _throttle:
    """A proxy before a real registry that first answers some requests with 429."""

    def __init__(self, registry: str, times: int, retry_after: str) -> None:
        left = [times]

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                if left[0]:
                    left[0] -= 1
                    self.send_response(429)
                    self.send_header("Retry-After", retry_after)
                    self.end_headers()
                    return
                upstream = http.client.HTTPConnection(registry, timeout=10)
                upstream.request("HEAD", self.path, headers={"Accept": self.headers["Accept"]})
                self.send_response(upstream.getresponse().status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{self.server.server_port}"

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _read_until(readline: Callable[[], str], text: str) -> None:
    for _ in range(500):
        line = readline()
        if f" {text}\n" in line:
            return
        assert line, f"it ended before it said {text}"
    raise AssertionError(f"it never said {text}")
