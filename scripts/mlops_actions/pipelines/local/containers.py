"""Container components, by the docker command: a task is a `docker run` of its own.

The run's folder is in the container at the path that it has outside, so that the paths of artifacts and outputs are the
same on both sides.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import RemoteFailed
from ...processes import contained
from .graph import Call
from .plan import TaskPlan
from .processes import in_thread, run_process
from .values import ValueFault, as_text, fill

_PATIENCE = 20.0  # seconds for a docker command that only asks
_STORE = ("MLOPS_STORE", "AWS_")
"""What the variables begin with that a task reaches the store with."""


class Containers:
    """The docker command.

    Args:
        plan: the run whose container components are to be run.
    """

    def __init__(self, plan: TaskPlan) -> None:
        self._plan = plan
        self._identities: dict[str, str] = {}

    def identity(self, image: str) -> str:
        """See `identity`; asked once a run."""
        if image not in self._identities:
            self._identities[image] = identity(image, self._plan.environ)
        return self._identities[image]

    async def run(
        self,
        call: Call,
        container: Mapping[str, Any],
        message: dict[str, Any],
        values: Mapping[str, Any],
        constants: Mapping[str, str],
        environ: Mapping[str, str],
        places: Sequence[Path],
        line: Callable[[str], None],
    ) -> int:
        """Run a task's container; its exit code.

        Args:
            call: the task.
            container: of its executor.
            message: its ExecutorInput.
            values: its input parameters, for placeholders.
            constants: what other placeholders stand for.
            environ: its own variables.
            places: where its input artifacts are.
            line: told each line of its output.

        Raises:
            RemoteFailed: Docker could not run it.
            ValueFault: its command has a placeholder for which there is nothing.
        """
        folder = Path(message["outputs"]["outputFile"]).parent
        for output in message["outputs"]["artifacts"].values():
            Path(output["artifacts"][0]["uri"]).parent.mkdir(parents=True, exist_ok=True)
        given = {*values, *call.inputs.artifacts}
        command = words(container.get("command", []), given, values, constants)
        arguments = words(container.get("args", []), given, values, constants)
        name = f"mlops-{self._plan.key[:12]}-{folder.name}"
        image = as_text(fill(container["image"], values, constants))
        mounts = {self._plan.folder, *(p for p in places if not p.is_relative_to(self._plan.folder))}
        environ_of_run = self._plan.environ
        docker = shutil.which("docker", path=environ_of_run.get("PATH")) or "docker"
        run = [docker, "run", "--name", name, "--rm", "--label", f"mlops-actions.run={self._plan.key}"]
        for place in sorted(mounts):
            run += ["--mount", f"type=bind,source={place},target={place}"]
        for variable in [*(n for n in self._plan.environ if n.startswith(_STORE)), *environ]:
            run += ["--env", variable]  # its value stays off the command line
        if command:
            run += ["--entrypoint", command[0]]
        run += [image, *command[1:], *arguments]
        guarded = contained.guarded(docker, name, run)
        variables = {**environ_of_run, **environ}
        await in_thread(_docker, environ_of_run, "rm", "--force", name)
        code = await run_process(guarded, self._plan.root, variables, folder / ".log.txt", line, self._plan.hide)
        if code == 125:
            raise RemoteFailed(f"Docker could not run the image {image} of the task {call.label!r}", fix="See its log")
        return code


def docker_responds(environ: Mapping[str, str]) -> bool:
    """Whether there is a docker command, and an engine that responds to it."""
    return _docker(environ, "version").returncode == 0


def identity(image: str, environ: Mapping[str, str]) -> str:
    """The digest of an image; its name if the engine does not have it yet."""
    return _docker(environ, "image", "inspect", "--format", "{{.Id}}", image).stdout.strip() or image


def _docker(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a docker command printed; one that is absent or does not end in time has failed."""
    docker = shutil.which("docker", path=environ.get("PATH")) or "docker"
    try:
        return subprocess.run(
            [docker, *arguments], env=dict(environ), capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([docker, *arguments], 1, "", str(error))


def words(
    command: Sequence[str], given: set[str], values: Mapping[str, Any], constants: Mapping[str, str]
) -> list[str]:
    """A container's command with its placeholders replaced, `dsl.IfPresentPlaceholder` and `dsl.ConcatPlaceholder` too.

    Raises:
        ValueFault: a placeholder stands for an input that there is not.
    """
    found: list[str] = []
    for word in command:
        parts = json.loads(word) if word.startswith(('{"Concat": ', '{"IfPresent": ')) else word
        found += [as_text(fill(part, values, constants)) for part in _expanded(parts, given)]
    return found


def _expanded(part: Any, given: set[str]) -> list[str]:
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [word for item in part for word in _expanded(item, given)]
    if "Concat" in part:
        return ["".join(word for item in part["Concat"] for word in _expanded(item, given))]
    if "IfPresent" in part:
        choice = part["IfPresent"]
        chosen = choice.get("Then" if choice["InputName"] in given else "Else")
        return [] if chosen is None else _expanded(chosen, given)
    raise ValueFault(f"the placeholder {json.dumps(part)} is unknown")
