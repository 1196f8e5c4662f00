"""The image that serves a release: a base with Python, a layer with its packages, a small one with server and model.

The packages are the version's own, from its lock; uv lays them into a folder on this machine, for the cluster's
platform. Nothing is run to build it, no Docker is needed, and versions of one lock share the layer of packages, which
the registry keeps as an image of its own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...code_files import code_files, digest
from ...environments import EnvironmentFailed, find_uv
from ...errors import BadInput, MlopsError, RemoteFailed
from ...images.layers import Image, packed, push, read_image, with_layer
from ...images.login import Credentials, given_credentials, stored_credentials
from ...images.names import ImageName, is_local, parse_name
from ...images.registry import Registry
from ...models.checks import copy_code
from ...text import without_login
from ...workspace import Workspace
from ..engine import Release
from ..served import write_release
from .inputs import ImageInputs, ServingClusterInputs

PACKAGES_LABEL = "io.mlops-actions.packages"
SERVER = "mlops_actions.serving.server"
_SOURCES = Path(__file__).resolve().parents[3]
_PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
_STARTED = {
    "Env": ["PYTHONPATH=/opt/packages:/opt/model/server", "PYTHONUNBUFFERED=1", "HOME=/tmp"],
    "Entrypoint": ["python3", "-m", SERVER, "/opt/model"],
    "Cmd": ["--grpc-port", "8081"],
    "User": "65532:65532",
    "WorkingDir": "/tmp",
    "ExposedPorts": {"8080/tcp": {}, "8081/tcp": {}},
}


@dataclass(frozen=True)
class Images:
    """Where images of releases are made and kept.

    Attributes:
        repository: where they are pushed, without tag.
        base: that they begin with; "" for `python:<version>-slim`.
        architecture: of the nodes: amd64 or arm64.
        credentials: for the registry; None for those of `docker login`.
        cache: folder in which uv may be installed.
        environ: variables.
        say: is told what is made.
    """

    repository: str
    base: str
    architecture: str
    credentials: Credentials | None
    cache: Path
    environ: Mapping[str, str]
    say: Callable[[str], None]

    def find(self, release: Release) -> str:
        """The image of a release, by digest, if the registry has it; else by the tag that it would get."""
        found = self._registry.manifest(self._tag(release))
        return f"{self._name.name}@{found.digest}" if found else f"{self._name.name}:{self._tag(release)}"

    def make(self, release: Release) -> str:
        """The image of a release, by digest: the registry's, if it has it, else it is put together and pushed.

        Raises:
            BadInput: no repository is named, the base does not exist, or a package has no wheel for the platform.
            RemoteFailed: packages cannot be installed, or a registry refused or failed.
        """
        found = self.find(release)
        if "@" in found:
            self.say(f"{self._name.registry} already has the image {found}")
            return found
        below = self._with_packages(release)
        with tempfile.TemporaryDirectory(prefix="model-") as scratch:
            folder = Path(scratch)
            _write_model(folder, release)
            with packed(folder, "opt/model") as layer:
                image = with_layer(below, layer, f"the model {release.name} {release.id}", _STARTED, {})
                made = push(
                    self._registry, self._name, image, self._tag(release), {layer.digest: layer}, self._registry
                )
        self.say(f"Pushed {self._name.name}@{made.digest}")
        return f"{self._name.name}@{made.digest}"

    def _with_packages(self, release: Release) -> Image:
        """The image below the model's layer: all releases that have the same packages have it."""
        lines, reference = pinned(release.lock), self._base(release)
        place, source = place_of(reference), registry_for(place_of(reference), None, self.environ, self.say)
        base = read_image(source, place, tag_of(reference), self._platform)
        if base is None:
            raise BadInput(
                f"There is no image {reference}, or it is not shown to us",
                fix="Correct `base-image`, or log in to its registry",
            )
        parts = [base.digest, self.architecture, python_version(release.python), *lines]
        tag = f"packages-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}"
        if found := read_image(self._registry, self._name, tag, self._platform):
            return found
        self.say(f"Installing {len(lines)} packages for the image (once for all versions that have the same)")
        with tempfile.TemporaryDirectory(prefix="packages-") as scratch:
            folder = Path(scratch) / "packages"
            self._install(lines, release.python, folder)
            with packed(folder, "opt/packages") as layer:
                labels = {PACKAGES_LABEL: " ".join(lines)}
                image = with_layer(base, layer, "the packages of a model", {}, labels)
                return push(self._registry, self._name, image, tag, {layer.digest: layer}, source)

    @cached_property
    def _name(self) -> ImageName:
        if not self.repository:
            raise BadInput(
                "No repository is named for the model's image",
                fix="Set `image-repository`, such as `ghcr.io/owner/models`, or an `image` that is there",
            )
        return parse_name(self.repository)

    @cached_property
    def _registry(self) -> Registry:
        return registry_for(self._name, self.credentials, self.environ, self.say)

    def _base(self, release: Release) -> str:
        return self.base or f"python:{python_version(release.python)}-slim"

    @property
    def _platform(self) -> str:
        return f"linux/{self.architecture}"

    def _tag(self, release: Release) -> str:
        """All that decides what is in the image is in it."""
        server = digest(_server_files(), _SOURCES)
        parts = [self._base(release), self.architecture, *pinned(release.lock), server, release.name, repr(_STARTED)]
        return f"{release.id}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"

    def _install(self, lines: Sequence[str], python: Path, folder: Path) -> None:
        """Lay packages into a folder, compiled: nobody can do that later, where the file system is read-only."""
        version = python_version(python)
        platform = ["--python-platform", _PLATFORMS[self.architecture], "--python-version", version]
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "hardlink"]
        lock = folder.with_name("lock.txt")
        lock.write_text("\n".join(lines) + "\n")
        try:
            uv = find_uv(self.cache)
        except EnvironmentFailed as error:
            raise RemoteFailed("Cannot install packages for the image", why=str(error)) from None
        command = [uv, "pip", "install", *options, "--target", str(folder), *platform, "-r", str(lock)]
        done = subprocess.run(command, env=dict(self.environ), capture_output=True, text=True, check=False)
        why = without_login(" ".join(re.sub(r"[×│╰├─▶]+", " ", done.stderr).split()))[:600]
        if done.returncode and re.search(r"no (usable )?wheels|only-binary|no-build", why):
            raise BadInput(
                f"A package has no wheel for Python {version} on {self._platform}",
                why=why,
                fix="Take a version that has one, or build an image yourself and name it by `image`",
            )
        if done.returncode:
            raise RemoteFailed("Cannot install packages for the image", why=why, fix="Check the network if it says so")
        _tidy(folder)
        compiled = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-j", "0"]
        inside = ["-s", str(folder), "-p", "/opt/packages", str(folder)]
        environ = {**self.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(
            [*compiled, *inside], env=environ, capture_output=True, check=False
        )  # some files are of Python 2


def _tidy(folder: Path) -> None:
    """Leave out what differs from machine to machine, such as programs that name this one's Python."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for path in [folder / ".lock", *folder.glob("*.dist-info/direct_url.json"), *folder.glob("*.dist-info/uv_*.json")]:
        path.unlink(missing_ok=True)
    for record in folder.glob("*.dist-info/RECORD"):
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not re.match(r"(\.\./)*bin/|.*/(direct_url|uv_\w+)\.json,", line)]
        record.unlink()  # it may be the file of uv's cache
        record.write_text("".join(kept), encoding="utf-8")


def python_version(python: Path) -> str:
    """Of an interpreter, such as `3.12`."""
    told = subprocess.run([str(python), "-V"], capture_output=True, text=True, check=True).stdout
    return ".".join(told.split()[1].split(".")[:2])


def pinned(lock: str) -> list[str]:
    """The `name==version` lines of a lock.

    Raises:
        BadInput: one is something else, such as a folder or a repository: there is no wheel of it to be had.
    """
    lines = [line.strip() for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if other := [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+-]+", line)]:
        raise BadInput(
            f"{other[0]!r} is not a package of an index, which the model's image needs",
            fix="Publish it to one, or build an image with it yourself and name it by `image`",
        )
    return sorted(lines)


def image_maker(inputs: ServingClusterInputs, workspace: Workspace) -> Callable[[Release, bool], str]:
    """Gives the image of a release; makes it if there is none and the second argument says so."""
    return lambda release, make: image_of(release, make, inputs.architecture, inputs, workspace)


def image_of(release: Release, make: bool, architecture: str, inputs: ImageInputs, workspace: Workspace) -> str:
    """The image of a release for an architecture; it is made if there is none and `make` says so."""
    login, say = given_credentials(inputs), workspace.console.say
    if inputs.image:
        return given_image(inputs.image, release, architecture, login, workspace.environ, say)
    images = Images(
        inputs.image_repository, inputs.base_image, architecture, login, workspace.cache, workspace.environ, say
    )
    return images.make(release) if make else images.find(release)


def given_image(
    reference: str, release: Release, architecture: str, credentials: Credentials | None, environ: Mapping[str, str],
    say: Callable[[str], None],
) -> str:  # fmt: skip
    """An image that was built elsewhere, by digest where the registry tells; `say` is told how its packages differ."""
    parsed = place_of(reference)
    try:
        registry = registry_for(parsed, credentials, environ, say)
        found = read_image(registry, parsed, tag_of(reference), f"linux/{architecture}")
    except MlopsError as error:
        say(f"Cannot see whether the packages of {reference} are those of version {release.version}: {error}")
        return reference
    labels = found.labels if found else {}
    if PACKAGES_LABEL not in labels:
        what = f"it has no label {PACKAGES_LABEL}" if found else "the registry does not show it to us"
        say(f"Cannot see whether the packages of {reference} are those of version {release.version}: {what}")
    elif changed := differences(release.lock, labels[PACKAGES_LABEL].split()):
        say(f"Packages of {reference} that are not those of version {release.version}: {', '.join(changed)}")
    return f"{parsed.name}@{found.digest}" if found else reference


def differences(lock: str, packages: Sequence[str]) -> list[str]:
    """How packages differ from those of a lock: `numpy 2.0.1 instead of 2.1.0`."""
    wanted = dict(line.split("==", 1) for line in lock.splitlines() if "==" in line)
    there = dict(line.split("==", 1) for line in packages if "==" in line)
    changed = [
        f"{name} {there.get(name, 'missing')} instead of {version}"
        for name, version in sorted(wanted.items())
        if there.get(name) != version
    ]
    return changed + [f"{name} {there[name]} is not asked for" for name in sorted({*there} - {*wanted})]


def place_of(reference: str) -> ImageName:
    """The name in a reference, without its tag or digest."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return parse_name(head + slash + tail.partition(":")[0])


def tag_of(reference: str) -> str:
    """The digest or the tag of a reference."""
    name, _, pin = reference.partition("@")
    return pin or name.rpartition("/")[2].partition(":")[2] or "latest"


def registry_for(
    name: ImageName, credentials: Credentials | None, environ: Mapping[str, str], say: Callable[[str], None]
) -> Registry:
    """An image's place in its registry, with this login, or that of `docker login`."""
    known = credentials or stored_credentials(environ, name.registry)
    return Registry(name, known, environ, insecure=is_local(name.registry), say=say)


def _write_model(folder: Path, release: Release) -> None:
    """The server, the consumer's code that the model is asked by, the model and what the server must know of it."""
    for file in _server_files():
        target = folder / "server" / file.relative_to(_SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    copy_code(release.predict, release.root, folder / "code")
    model = f"model/{release.model.name}"
    (folder / "model").mkdir()
    if release.model.is_dir():
        shutil.copytree(release.model, folder / model, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(release.model, folder / model)
    write_release(folder, release, model, "code")


def _server_files() -> list[Path]:
    return code_files(["-m", SERVER, f"{SERVER.replace('.', '/')}/__main__.py"], _SOURCES)
