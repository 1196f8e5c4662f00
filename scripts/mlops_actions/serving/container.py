"""A server in a container on this machine: the image that a cluster would run, by the Docker engine.

It is as bare as a pod of ours: another user than root, no capabilities, nothing to write to but `/tmp` and the folder
for sockets, and no more memory than it may have. No port of it is published: it is handed the model's address itself,
and asked through a socket, as every server on this machine is (`control`). Labels name what each container is for, so
that one which a killed run of ours has left is found by the next.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import docker.errors
import docker.types
import requests
from docker.models.containers import Container

from ..errors import BadInput, RemoteFailed
from ..images.engine import Engine, EngineUnavailable, reason
from ..images.login import Credentials
from ..processes.identity import Identity
from ..values import quantity
from . import process
from .engine import NotServed, Release

USER = "65532:65532"
_PLACE, _RELEASE = "io.mlops-actions.serving", "io.mlops-actions.release"
_LOG = docker.types.LogConfig(type="json-file", config={"max-size": "5m", "max-file": "1"})
_LINES = 200
_SOCKETS = "/run/mlops"
_FIX = "Start Docker, or name its engine by DOCKER_HOST; or leave `container` out"


class Containers:
    """The containers that serve on this machine.

    Args:
        environ: variables that name the Docker engine.
        image: gives the image of a release for an architecture.
        credentials: for its registry; None for those of `docker login`.
        say: is told what is done.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        image: Callable[[Release, str], str],
        credentials: Credentials | None,
        say: Callable[[str], None],
    ) -> None:
        self._environ, self._image, self._credentials, self._say = environ, image, credentials, say

    def image(self, release: Release) -> str:
        """The image of a release, made if there is none, and in the engine.

        Raises:
            NotServed: it cannot be pulled.
            BadInput, RemoteFailed: there is no engine that can serve on this machine, or the image cannot be made.
        """
        self._check()
        image = self._image(release, self._engine.platform.rpartition("/")[2])
        self._pull(image)
        return image

    def start(self, folder: Path, sockets: Path, image: str, memory: str) -> None:
        """Start the server of a release's folder, and write down which process it is.

        Args:
            folder: of the release.
            sockets: its folder for sockets, beside those of other releases.
            image: that has the server and the model.
            memory: its limit, as Kubernetes writes it; "" for none.

        Raises:
            NotServed: the engine cannot start it.
            RemoteFailed: the engine cannot be reached.
        """
        self._check()
        self._pull(image)
        self.end(folder)
        limit = int(quantity(memory) or 0) or None
        with _asked(f"Docker cannot start {image}"):
            made = self._engine.client.containers.create(
                image,
                ["--control", f"{_SOCKETS}/{sockets.name}"],
                name=_name(folder),
                labels={_PLACE: _key(folder), _RELEASE: folder.name},
                user=USER,
                read_only=True,
                tmpfs={"/tmp": "exec"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                mem_limit=limit,
                memswap_limit=limit,
                mounts=[docker.types.Mount(_SOCKETS, str(sockets.parent), type="bind")],
                log_config=_LOG,
            )
            made.start()
            made.reload()
        process.remember(folder, Identity.of(int(made.attrs["State"]["Pid"])))

    def end(self, folder: Path) -> None:
        """End the container of a release's folder, if there is one; its server has some seconds for its requests."""
        for container in self._of(folder):
            self._remove(container)
        process.forget(folder)

    def end_others(self, folder: Path, kept: set[str]) -> None:
        """End the containers of all releases beside a release's folder, but not of those that are `kept`."""
        for container in self._labelled(f"{_PLACE}={_key(folder)}"):
            if container.labels.get(_RELEASE) not in kept:
                self._remove(container)

    def log(self, folder: Path) -> str:
        """The last lines of what the server of a release's folder has said; "" when nobody knows."""
        with suppress(RemoteFailed, NotServed):
            for container in self._of(folder):
                with _asked("Docker has no log"):
                    return str(container.logs(tail=_LINES).decode(errors="replace")).rstrip("\n")
        return ""

    def cause(self, folder: Path, memory: str) -> str:
        """Why the container of a release's folder has ended, without a full stop; "" when nobody knows."""
        with suppress(RemoteFailed, NotServed):
            for container in self._of(folder):
                state = container.attrs["State"]
                if state["OOMKilled"]:
                    return f"it used more memory than its limit, {memory}" if memory else "there is no memory left"
                return f"its container ended with exit code {state['ExitCode']}"
        return ""

    @cached_property
    def _engine(self) -> Engine:
        try:
            return Engine(self._environ, shutil.which("docker", path=self._environ.get("PATH")) or "")
        except EngineUnavailable as error:
            raise RemoteFailed(error.what, why=error.why, fix=_FIX) from None

    def _check(self) -> None:
        """Whether what the engine starts runs here, and not in a virtual machine or elsewhere.

        Raises:
            BadInput: it does not.
        """
        engine = self._engine
        local = not engine.host or engine.host.startswith("unix://")
        if sys.platform != "linux" or not local or engine.system == "Docker Desktop":
            where = "in a virtual machine" if local else f"at {engine.host}"
            raise BadInput(
                "`container` needs a Docker engine that runs on this machine itself",
                why=f"Docker's containers run {where}",
                fix="Leave `container` out, or use Docker Engine on Linux",
            )

    def _pull(self, image: str) -> None:
        client = self._engine.client
        with _asked(f"Docker cannot see the image {image}"), suppress(docker.errors.ImageNotFound):
            client.images.get(image)
            return
        self._say(f"Pulling {image}")
        login = self._credentials
        given = {"username": login.username, "password": login.password} if login else None
        fix = "Correct `image`, or log in to its registry by `docker login`"
        with _asked(f"the image {image} cannot be pulled", fix):
            client.images.pull(image, auth_config=given)

    def _of(self, folder: Path) -> list[Container]:
        return [one for one in self._labelled(f"{_PLACE}={_key(folder)}") if one.labels.get(_RELEASE) == folder.name]

    def _labelled(self, label: str) -> list[Container]:
        with _asked("Docker cannot list containers"):
            found: list[Container] = self._engine.client.containers.list(
                all=True, filters={"label": label}, ignore_removed=True
            )
        return found

    def _remove(self, container: Container) -> None:
        with _asked(f"Docker cannot end the container {container.name}"), suppress(docker.errors.NotFound):
            if container.status == "running":
                container.stop(timeout=int(process.GRACE))
            container.remove(force=True, v=True)


@contextmanager
def _asked(what: str, fix: str = "") -> Iterator[None]:
    """Asks the engine while the block runs.

    Raises:
        NotServed: it says no; `what` says to what.
        RemoteFailed: it does not respond.
    """
    try:
        yield
    except docker.errors.APIError as error:
        raise NotServed(f"{what}: {reason(error)}", fix=fix) from None
    except requests.RequestException as error:
        raise RemoteFailed("The Docker engine does not respond", why=str(error), fix=_FIX) from None


def _key(folder: Path) -> str:
    """Of all releases of a model on this machine."""
    return hashlib.sha256(str(folder.parent.resolve()).encode()).hexdigest()[:16]


def _name(folder: Path) -> str:
    """Of the container of a release's folder, for people."""
    model = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.parent.parent.name)
    return f"mlops-{model}-{folder.name}-{_key(folder)[:6]}"
