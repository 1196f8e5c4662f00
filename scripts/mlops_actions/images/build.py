"""Build, test, tag and push an image.

An image of the same content key (see `content`), in the engine or the registry, is reused. No tag is set before the
test has passed, and the tag that marks the key is the last.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from .buildkit import Build, Builder, build, find_builder
from .content import content_key
from .dockerfile import Instruction, base_images, instructions, stage_number, stages
from .engine import KEY_LABEL, Engine, EngineUnavailable
from .login import Credentials, docker_config, stored_credentials
from .names import ImageName, key_tag
from .registry import Registry, Say

__all__ = ["BuildContext", "BuiltImage", "Credentials", "EngineUnavailable", "ImageRequest", "build_image"]

_OCI = "org.opencontainers.image."


@dataclass(frozen=True)
class BuildContext:
    """The code that an image is made of.

    Attributes:
        commit: full hash, or "".
        url: of the repository, or "".
        made: when the commit was made, or None; it is the image's creation time, which so does not depend on the clock.
    """

    commit: str = ""
    url: str = ""
    made: datetime | None = None


@dataclass(frozen=True)
class ImageRequest:
    """What to build.

    Attributes:
        context: the folder that is sent to the builder; absolute.
        dockerfile: absolute.
        shown: the Dockerfile's name, for messages.
        image: its name, without tag.
        tags: at least one.
        build_args: values of `ARG`.
        target: the stage; "" for the last.
        platforms: none for the engine's own.
        network: of `RUN` and of the test.
        test: a command that must pass in the image, or "".
        push: whether to push.
        credentials: for the registry; None for those of `docker login`.
        source: the code.
        reuse: whether an image of the same content may be reused.
        scope: "" for the images of everybody, `pr-<number>` for those of a pull request: they are found by nobody
            else, and it finds those of everybody.
    """

    context: Path
    dockerfile: Path
    shown: str
    image: ImageName
    tags: Sequence[str]
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platforms: Sequence[str] = ()
    network: str = "default"
    test: str = ""
    push: bool = False
    credentials: Credentials | None = None
    source: BuildContext = field(default_factory=BuildContext)
    reuse: bool = True
    scope: str = ""


@dataclass(frozen=True)
class BuiltImage:
    """The image that was built or found.

    Attributes:
        digest: of the registry's manifest if it was pushed, else the image's identity in the engine.
        key: of its content.
        size: bytes: compressed in the registry if it was pushed (0 for several platforms), else unpacked.
        platforms: that it is for.
        bases: ID of each base image, by name; "" where only the builder knows it.
        found: where it was found: "engine" or "registry"; "" if it was built.
        steps, cached: of the build.
    """

    digest: str
    key: str
    size: int
    platforms: tuple[str, ...]
    bases: Mapping[str, str]
    found: str = ""
    steps: int = 0
    cached: int = 0


def build_image(request: ImageRequest, environ: Mapping[str, str], say: Say) -> BuiltImage:
    """Find or build, test, tag and push an image.

    Raises:
        EngineUnavailable: no engine can be reached, or no docker command can build.
        BadInput: the Dockerfile is missing or wrong, or a step of it failed.
        Rejected: the test failed.
        RemoteFailed: the registry refused or is unreachable.
    """
    if not request.dockerfile.is_file():
        raise BadInput(f"{request.shown} does not exist", fix="Write one, or correct `context` and `dockerfile`")
    if not request.context.is_dir():
        raise BadInput(f"The folder {request.context} does not exist", fix="Correct `context`")
    parsed = instructions(request.dockerfile.read_text(encoding="utf-8-sig", errors="replace"))
    if not any(instruction.name == "FROM" for instruction in parsed):
        raise BadInput(f"{request.shown} has no FROM", fix="Start it with a base image", place=Place(request.shown, 1))
    request = replace(request, target=_target(request, parsed))
    with docker_config(environ, request.image.registry, request.credentials) as config:
        settings = {**environ, "DOCKER_CONFIG": str(config)}
        builder = find_builder(settings)
        engine = Engine(settings, builder.command)
        return _Work(request, settings, builder, engine, parsed, say).do()


def _target(request: ImageRequest, parsed: Sequence[Instruction]) -> str:
    """The name of the stage that is built, as BuildKit takes it; "" for the last one.

    Raises:
        BadInput: no stage has this name or number, or it has no name, by which alone BuildKit would find it.
    """
    found = stages(parsed, request.build_args)
    number = stage_number(found, request.target)
    if number is None:
        names = [stage.name for stage in found if stage.name]
        fix = did_you_mean(request.target, names, "Stages: {}") or "No stage has a name: leave `target` out"
        raise BadInput(f"{request.shown} has no stage `{request.target}`", fix=fix)
    if request.target and found[number].name:
        return found[number].name
    if number == len(found) - 1:
        return ""
    raise BadInput(
        f"Stage {number} of {request.shown} has no name",
        why="BuildKit builds the last stage, or one by its name",
        fix="Name it: `FROM … AS name`",
    )


def commit_time(folder: Path) -> datetime | None:
    """When the commit that is checked out was made; None outside git."""
    try:
        asked = subprocess.run(
            ["git", "-C", str(folder), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    text = asked.stdout.strip()
    return datetime.fromtimestamp(int(text), timezone.utc) if asked.returncode == 0 and text.isdigit() else None


class _Work:
    """One call of `build_image`."""

    def __init__(
        self,
        request: ImageRequest,
        environ: Mapping[str, str],
        builder: Builder,
        engine: Engine,
        parsed: Sequence[Instruction],
        say: Say,
    ) -> None:
        self.request, self.environ, self.builder, self.engine = request, environ, builder, engine
        self.parsed, self.say, self.image = parsed, say, request.image
        self.platforms = self._platforms()
        self.bases = {name: engine.image_id(name) for name in self._base_images()}
        self.key = content_key(
            request.context,
            request.dockerfile,
            build_args=request.build_args,
            target=request.target,
            platforms=self.platforms,
            bases=self.bases,
            test=request.test,
        )
        self.marks = list(dict.fromkeys((key_tag(self.key, request.scope), key_tag(self.key))))
        self.credentials = request.credentials or stored_credentials(environ, self.image.registry)
        insecure = engine.allows_http(self.image.registry)
        self.registry = Registry(self.image, self.credentials, environ, insecure=insecure, say=say)

    def do(self) -> BuiltImage:
        """Find or build, test, tag and push."""
        if self.request.push and self.request.credentials:
            self.engine.check_login(self.image.registry, self.request.credentials)
        found = self._in_registry() if self.request.push and self.request.reuse else None
        if found:
            return found
        if self.request.push and not self.request.reuse:
            self.registry.has("latest")  # an unreachable registry fails before the build, not after it
        several = len(self.platforms) > 1
        identity = "" if several or not self.request.reuse else self.engine.find(self.key, self.marks)
        if identity:
            self.say(f"Not built: the engine already has this content as {identity[:19]}")
            built = self._result(identity, "engine")
            for tag in (*self.request.tags, self.marks[0]):
                self.engine.tag(identity, self.image.name, tag)
        else:
            built = self._build()
        if several or not self.request.push:
            return built
        return self._push(built)

    def _base_images(self) -> list[str]:
        """The base images of all platforms."""
        builds = _platform_variables("BUILD", self.engine.platform)
        found: list[str] = []
        for platform in self.platforms:
            known = {**builds, **_platform_variables("TARGET", platform)}
            found += base_images(self.parsed, self.request.build_args, self.request.target, known)
        return list(dict.fromkeys(found))

    def _in_registry(self) -> BuiltImage | None:
        """An image of this content that was pushed before, with the tags wanted now."""
        mark = next((mark for mark in self.marks if self.registry.has(mark)), "")
        manifest = self.registry.manifest(mark) if mark else None
        if manifest is None:
            return None
        for tag in self.request.tags:
            self.registry.tag(manifest, tag)
        self.say(f"Not built: {self.image.registry} already has this content as {manifest.digest[:19]}; tagged there")
        return replace(self._result(manifest.digest, "registry"), size=manifest.size)

    def _build(self) -> BuiltImage:
        """Build under a temporary tag, test, and only then tag; the image of several platforms goes to the registry."""
        temporary = f"{self.image.name}:building-{self.key}"
        order = Build(
            context=self.request.context,
            dockerfile=self.request.dockerfile,
            tags=[temporary],
            build_args=self.request.build_args,
            labels=self._labels(),
            target=self.request.target,
            platforms=self.platforms if self.request.platforms else (),
            network=self.request.network,
            cache=self.request.reuse,
            epoch=int(self.request.source.made.timestamp()) if self.request.source.made else None,
        )
        several = len(self.platforms) > 1
        try:
            if not several or self.request.test:
                own = replace(order, platforms=(self.engine.platform,)) if several else order
                progress, _ = build(self.builder, own, self.environ, self.parsed, self.request.shown, self.say)
                identity = self.engine.image_id(temporary)
                self._test(identity)
            if several:
                tags = [f"{self.image.name}:{tag}" for tag in (*self.request.tags, self.marks[0])]
                everywhere = replace(order, tags=tags, push=True)
                progress, digest = build(
                    self.builder, everywhere, self.environ, self.parsed, self.request.shown, self.say
                )
                return self._counted(digest, progress.counted)
            for tag in (*self.request.tags, self.marks[0]):
                self.engine.tag(identity, self.image.name, tag)
            return self._counted(identity, progress.counted)
        finally:
            self.engine.untag(temporary)

    def _test(self, identity: str) -> None:
        if self.request.test:
            self.say(f"Test in the image: {self.request.test}")
            self.engine.test(identity, self.request.test, self.request.network, self.say)

    def _push(self, built: BuiltImage) -> BuiltImage:
        digest = ""
        for tag in (*self.request.tags, self.marks[0]):
            digest = self.engine.push(self.image, tag, self.credentials, self.say) or digest
        manifest = self.registry.manifest(digest)
        self.say(f"Pushed {self.image.name}@{digest}")
        return replace(built, digest=digest, size=manifest.size if manifest else built.size)

    def _result(self, digest: str, found: str = "") -> BuiltImage:
        return BuiltImage(digest, self.key, self.engine.size(digest), self.platforms, self.bases, found)

    def _counted(self, digest: str, counted: tuple[int, int]) -> BuiltImage:
        return replace(self._result(digest), steps=counted[0], cached=counted[1])

    def _platforms(self) -> tuple[str, ...]:
        """The platforms of this build. An image of several exists only in a registry: without a push it is for one."""
        wanted = tuple(dict.fromkeys(self.request.platforms))
        self.builder.check(wanted)
        if len(wanted) > 1 and not self.request.push:
            own = self.engine.platform if self.engine.platform in wanted else wanted[0]
            self.say(f"Built for {own} only: several platforms are built when the image is pushed")
            return (own,)
        return wanted or (self.engine.platform,)

    def _labels(self) -> dict[str, str]:
        source = self.request.source
        made = source.made.strftime("%Y-%m-%dT%H:%M:%SZ") if source.made else ""
        labels = {
            f"{_OCI}title": self.image.path.rpartition("/")[2],
            f"{_OCI}version": self.request.tags[0],
            f"{_OCI}revision": source.commit,
            f"{_OCI}source": source.url,
            f"{_OCI}created": made,
            KEY_LABEL: self.key,
        }
        return {name: value for name, value in labels.items() if value}


def _platform_variables(prefix: str, platform: str) -> dict[str, str]:
    """What BuildKit sets of a platform such as `linux/arm/v7`: TARGETPLATFORM, TARGETOS, TARGETARCH, TARGETVARIANT."""
    system, architecture, variant, *_ = [*platform.split("/"), "", ""]
    parts = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": variant}
    return {prefix + name: value for name, value in parts.items()}
