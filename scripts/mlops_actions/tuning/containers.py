"""Trials in the image of their primary container, by the docker command.

A trial is a `docker run` of its own, so that its output, its signals and its exit code are those of a process. What a
killed run of ours left is found again by a label and removed before the next trial, and after the last.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping

from ..errors import BadInput, RemoteFailed
from ..values import quantity
from .collectors import Reader
from .engine import Cause, Trial
from .jobs import Container
from .mounts import mounts, prepare
from .processes import Launch
from .reading import Document
from .runners import Place, reader, texts_of
from .template import command

LABEL = "io.mlops-actions.tuning"
_STORE = ("MLOPS_STORE", "AWS_")
"""What the variables begin with that a trial reaches the store with."""
_KILLED, _NOT_RUN = 137, 125


class Docker:
    """The docker command.

    Raises:
        RemoteFailed: it is not installed, or reaches no engine.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self.path = shutil.which("docker", path=environ.get("PATH")) or ""
        fix = "Start Docker, or name its engine by DOCKER_HOST; or leave `isolation: process`"
        if not self.path:
            raise RemoteFailed("The docker command is not installed", why="`isolation` is container", fix=fix)
        done = self._run("version", "--format", "{{.Server.Version}}")
        if done.returncode:
            raise RemoteFailed("Cannot reach a Docker engine", why=_last(done.stderr), fix=fix)

    def image(self, name: str) -> str:
        """The identity of an image; what it is called if the engine does not have it yet."""
        done = self._run("image", "inspect", "--format", "{{.Id}}", name)
        return done.stdout.strip() or name

    def out_of_memory(self, container: str) -> bool:
        """Whether a container that has ended was killed as it used more memory than it may."""
        return self._run("inspect", "--format", "{{.State.OOMKilled}}", container).stdout.strip() == "true"

    def address(self, container: str, port: int | str) -> str:
        """Where a container's port is reached on this machine; "" while it is not."""
        found = self._run("port", container, str(port)).stdout.split()
        return found[0] if found else ""

    def remove(self, *containers: str) -> None:
        """End and remove containers; those that do not exist are passed over."""
        if containers:
            self._run("rm", "--force", "--volumes", *containers)

    def labelled(self, label: str) -> list[str]:
        """The containers with a label."""
        return self._run("ps", "--all", "--quiet", "--filter", f"label={label}").stdout.split()

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path, *arguments], env=self._environ, capture_output=True, text=True, check=False, timeout=60
        )


class ContainerRunner:
    """Runs trials of one Experiment in its image. What an interrupted run left is removed at once.

    Args:
        document: the Experiment.
        place: where it runs.
        image: the image instead of the container's own; "" for that.
    """

    def __init__(self, document: Document, place: Place, image: str = "") -> None:
        assert document.primary
        self._document, self._experiment, self._container = document, document.experiment, document.primary[1]
        self._place, self._image = place, image or self._container.image
        self._docker = Docker(place.environ)
        self._key = hashlib.sha256(str(place.state.resolve()).encode()).hexdigest()[:16]
        self.close()

    def begin(self, trial: Trial) -> Launch:
        """See `Runner.begin`."""
        prepare(self._experiment, trial, self._place.state)
        asked = command(self._document, trial.name, texts_of(trial.parameters))
        argv = [self._docker.path, "run", "--name", self._name(trial), "--label", f"{LABEL}={self._key}"]
        argv += [
            "--pull",
            {"Always": "always", "Never": "never"}.get(self._container.image_pull_policy or "", "missing"),
        ]
        for name in self._place.environ:
            if name.startswith(_STORE):
                argv += ["--env", name]  # its value stays off the command line
        for name, value in asked.environ.items():
            argv += ["--env", f"{name}={value}"]
        for mount in mounts(self._experiment, trial, self._place.state):
            argv += ["--mount", f"type=bind,source={mount.outside},target={mount.inside}"]
        if asked.folder:
            argv += ["--workdir", asked.folder]
        if asked.words:
            argv += ["--entrypoint", asked.words[0]]
        collector = self._experiment.spec.metrics_collector_spec
        if collector.collector.kind == "PrometheusMetric":
            argv += ["--publish", f"127.0.0.1::{collector.port}"]
        argv += [*limits(self._container), self._image, *asked.words[1:], *asked.arguments]
        return Launch(
            argv, self._place.folder, self._place.environ, self._place.log(trial), timeout=self._place.timeout
        )

    def reader(self, trial: Trial) -> Reader:
        """See `Runner.reader`."""
        port = self._experiment.spec.metrics_collector_spec.port
        return reader(self._experiment, trial, self._place, lambda: self._docker.address(self._name(trial), port))

    def cause(self, trial: Trial, code: int) -> Cause:
        """See `Runner.cause`."""
        if code == _KILLED and self._docker.out_of_memory(self._name(trial)):
            given = self._container.resources.limits.get("memory") if self._container.resources else None
            return Cause(f"it used more memory than its limit, {given}" if given else "this machine ran out of memory")
        if code == _NOT_RUN:
            return Cause(f"Docker could not run {self._image}", own=False)
        return Cause("")

    def ended(self, trial: Trial) -> None:
        """See `Runner.ended`."""
        self._docker.remove(self._name(trial))

    def close(self) -> None:
        """See `Runner.close`."""
        self._docker.remove(*self._docker.labelled(f"{LABEL}={self._key}"))

    def _name(self, trial: Trial) -> str:
        return f"mlops-{self._key[:8]}-{trial.name}"


def limits(container: Container) -> list[str]:
    """Docker's options for a container's limits.

    Raises:
        BadInput: one is not a quantity, or Docker has no such limit.
    """
    options = []
    for name, given in (container.resources.limits if container.resources else {}).items():
        amount = quantity(str(given))
        if amount is None:
            raise BadInput(
                f"The limit of {name} is {given!r}, which is not a quantity", fix="Write one such as 500m or 1Gi"
            )
        if name == "cpu":
            options += ["--cpus", f"{amount.normalize():f}"]
        elif name == "memory":
            options += ["--memory", f"{int(amount)}b"]
        elif name.endswith("/gpu"):
            options += ["--gpus", str(int(amount))]
        elif name != "ephemeral-storage":
            raise BadInput(f"Docker has no limit of {name}", fix="Leave it out, or run the Experiment on Katib")
    return options


def image_id(document: Document, image: str, environ: Mapping[str, str]) -> str:
    """The identity of the image that trials run in, for the key of their work."""
    assert document.primary
    return Docker(environ).image(image or document.primary[1].image)


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
