"""BuildKit, through the docker command, as the SDK has no BuildKit: buildx, or an older docker that has it built in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadInput, MlopsError, Place, RemoteFailed
from ..processes.group import Group
from .dockerfile import Instruction
from .engine import EngineUnavailable
from .login import says_status
from .progress import BuildProgress, Failure
from .registry import Say

_BUILT_IN = range(18, 23)
"""Major versions of the docker command that have BuildKit without buildx."""


@dataclass(frozen=True)
class Builder:
    """A docker command that can build with BuildKit.

    Attributes:
        command: its path.
        buildx: whether it has buildx, and with it several platforms and other builders.
    """

    command: str
    buildx: bool

    def check(self, platforms: Sequence[str]) -> None:
        """Check that images can be built for these platforms; none is the engine's own.

        Raises:
            BadInput: buildx is missing.
        """
        if platforms and not self.buildx:
            raise BadInput(
                f"{self.command} builds only for this machine's platform",
                why="buildx is not installed",
                fix="Install buildx, or leave `platforms` out",
            )


@dataclass(frozen=True)
class Build:
    """One build.

    Attributes:
        context, dockerfile: absolute paths.
        tags: full references.
        build_args: values of `ARG`.
        labels: of the image.
        target: the stage; "" for the last.
        platforms: none for the builder's own.
        network: of `RUN`: `default`, `host` or `none`.
        push: push as part of the build, which several platforms need.
        cache: whether the build cache is used.
        epoch: the creation time that the image states, in seconds since 1970; None for now.
    """

    context: Path
    dockerfile: Path
    tags: Sequence[str]
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platforms: Sequence[str] = ()
    network: str = "default"
    push: bool = False
    cache: bool = True
    epoch: int | None = None


def find_builder(environ: Mapping[str, str]) -> Builder:
    """The first docker command on the PATH that can build with BuildKit; one with buildx is preferred.

    Raises:
        EngineUnavailable: there is none; says what is missing.
    """
    commands = _commands(environ)
    for command in commands:
        if _says(environ, command, "buildx", "version"):
            return Builder(command, buildx=True)
    for command in commands:
        version = re.match(r"Docker version (\d+)\.", _says(environ, command, "--version"))
        if version and int(version[1]) in _BUILT_IN:
            return Builder(command, buildx=False)
    fix = "or set `if-unavailable: skip` to continue without an image"
    if not commands:
        raise EngineUnavailable("Docker is not installed", fix=f"Install Docker, {fix}")
    raise EngineUnavailable(
        f"{commands[0]} cannot build with BuildKit",
        why="buildx is not installed",
        fix=f"Install buildx (Debian and Ubuntu: `docker-buildx-plugin` or `docker-buildx`), {fix}",
    )


def build(
    builder: Builder, order: Build, environ: Mapping[str, str], parsed: Sequence[Instruction], shown: str, say: Say
) -> tuple[BuildProgress, str]:
    """Build; the engine has the image afterwards, or the registry if it was pushed.

    Args:
        builder: who builds.
        order: what.
        environ: variables for the docker command.
        parsed: the Dockerfile's instructions, to find the failing one.
        shown: the Dockerfile's name, for messages.
        say: is told each line of progress.

    Returns:
        The steps, and the digest of what was pushed ("" if nothing was).

    Raises:
        BadInput: the Dockerfile is wrong, or one of its steps failed.
        RemoteFailed: a base image cannot be pulled, or the engine failed.
    """
    progress = BuildProgress()
    with tempfile.TemporaryDirectory(prefix="docker-build-") as scratch:
        metadata = Path(scratch) / "metadata.json"
        settings = dict(environ)
        if builder.buildx:
            if order.epoch is not None:
                settings["SOURCE_DATE_EPOCH"] = str(order.epoch)
        else:
            settings["DOCKER_BUILDKIT"] = "1"
        code = _run(_arguments(builder, order, metadata), settings, progress, say)
        if code == 0:
            return progress, _pushed_digest(metadata) if order.push else ""
    raise _failed(progress.failure(parsed), shown)


def _arguments(builder: Builder, order: Build, metadata: Path) -> list[str]:
    listed = [builder.command, "buildx", "build"] if builder.buildx else [builder.command, "build"]
    listed += ["--progress=plain", "--file", str(order.dockerfile)]
    for tag in order.tags:
        listed += ["--tag", tag]
    for name, value in order.build_args.items():
        listed += ["--build-arg", f"{name}={value}"]
    for name, value in order.labels.items():
        listed += ["--label", f"{name}={value}"]
    if order.target:
        listed += ["--target", order.target]
    if order.platforms:
        listed += ["--platform", ",".join(order.platforms)]
    if order.network != "default":
        listed += ["--network", order.network]
    if not order.cache:
        listed.append("--no-cache")
    if builder.buildx:
        listed += ["--push", "--metadata-file", str(metadata)] if order.push else ["--load"]
    return [*listed, str(order.context)]


def _run(command: list[str], environ: Mapping[str, str], progress: BuildProgress, say: Say) -> int:
    """Run to the end. Whatever interrupts us ends the build too: docker cancels it when it gets SIGINT."""
    group = Group(command, None, environ)
    try:
        for line in group.lines():
            if shown := progress.read(line):
                say(shown)
        return group.process.wait()
    finally:
        group.end(grace=3.0, ask=signal.SIGINT)


def _failed(failure: Failure, shown: str) -> MlopsError:
    low = failure.why.lower()
    place = Place(shown, failure.line)
    words = ("failed to do request", "failed to resolve", "pull access denied")
    if says_status(failure.why, 429) or any(word in low for word in words):
        return RemoteFailed(
            "Cannot pull a base image",
            why=failure.why,
            fix="Check its name, that its registry is reachable, and the login if it is private",
            place=place,
        )
    if failure.step:
        fix = "See the log" if failure.log else "Correct that line; `.dockerignore` may exclude what it needs"
        return BadInput(f"The step `{failure.step}` failed", why=failure.why, fix=fix, place=place, log=failure.log)
    if "parse error" in low or "dockerfile" in low:
        return BadInput(f"{shown} is not valid", why=failure.why, fix="Correct that line", place=place)
    return RemoteFailed("The build failed", why=failure.why, place=place)


def _pushed_digest(metadata: Path) -> str:
    found = re.search(r'"containerimage\.digest":\s*"(sha256:[0-9a-f]{64})"', metadata.read_text(encoding="utf-8"))
    return found[1] if found else ""


def _commands(environ: Mapping[str, str]) -> list[str]:
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    found = (shutil.which("docker", path=folder) for folder in folders if folder)
    return list(dict.fromkeys(command for command in found if command))


def _says(environ: Mapping[str, str], *command: str) -> str:
    """What a command prints; "" if it fails."""
    try:
        asked = subprocess.run(
            command, env=dict(environ), capture_output=True, text=True, errors="replace", check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""
