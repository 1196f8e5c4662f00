"""A compiled pipeline: what it takes, what it installs, what it makes, and what the local engine cannot run of it.

The format is KFP's PipelineSpec as JSON:
https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import BadInput, Place
from .source import stable


@dataclass(frozen=True)
class Parameter:
    """An input of a pipeline. `type` is KFP's: NUMBER_INTEGER, NUMBER_DOUBLE, STRING, BOOLEAN, LIST or STRUCT."""

    name: str
    type: str
    required: bool
    default: Any = None


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline.

    Attributes:
        file: what it was compiled from, absolute.
        spec: KFP's PipelineSpec.
        platforms: settings that only a platform such as Kubernetes knows.
        kfp: version of the SDK that compiled or read it.
    """

    file: Path
    spec: Mapping[str, Any]
    platforms: Mapping[str, Any] = field(default_factory=dict)
    kfp: str = ""

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.spec["pipelineInfo"]["name"])

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the spec, without what changes while the pipeline does not: the SDK's version, times."""
        kept = {key: value for key, value in self.spec.items() if key != "sdkVersion"}
        text = json.dumps([_stable(kept), dict(self.platforms)], sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The pipeline's inputs by name."""
        declared = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return {
            name: Parameter(
                name,
                spec.get("parameterType", "STRING"),
                not spec.get("isOptional", False) and "defaultValue" not in spec,
                _natural(spec.get("defaultValue"), spec.get("parameterType", "")),
            )
            for name, spec in declared.items()
        }

    @property
    def executors(self) -> Mapping[str, Any]:
        """The programs that components run, by label."""
        executors: Mapping[str, Any] = self.spec.get("deploymentSpec", {}).get("executors", {})
        return executors

    def packages(self) -> dict[str, tuple[str, ...]]:
        """What each Python component installs, by its executor's label: options and requirements for pip or uv."""
        containers = {label: e["container"] for label, e in self.executors.items() if "container" in e}
        return {label: _packages(container) for label, container in containers.items()}

    def executor_of(self, task: str) -> str:
        """The label of a task's executor; the task's own label is as in `engine.TaskResult`."""
        return next((str(c.get("executorLabel", "")) for name, _, c in self.tasks() if name == bare(task)), "")

    def imports(self) -> list[str]:
        """The URIs that importers have in the spec itself."""
        importers = [executor["importer"] for executor in self.executors.values() if "importer" in executor]
        return [str(i.get("artifactUri", {}).get("constant", "")) for i in importers]

    def tasks(self) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
        """Every task that is not a group: (name, the task, its component)."""
        components = self.spec.get("components", {})
        dags = [self.spec["root"]["dag"], *(c["dag"] for c in components.values() if "dag" in c)]
        for dag in dags:
            for name, task in dag.get("tasks", {}).items():
                component = components.get(task["componentRef"]["name"], {})
                if "dag" not in component:
                    yield name, task, component

    def made(self) -> list[tuple[str, str, str]]:
        """The artifacts that tasks declare to make: (task, name, type)."""
        return [
            (task, name, spec.get("artifactType", {}).get("schemaTitle", ""))
            for task, _, component in self.tasks()
            for name, spec in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        ]

    def edges(self) -> list[tuple[str, str]]:
        """Which task waits for which, when no task is in a group; for a picture."""
        tasks = self.spec["root"]["dag"].get("tasks", {})
        components = self.spec.get("components", {})
        if any("dag" in components.get(task["componentRef"]["name"], {}) for task in tasks.values()):
            return []
        return [(before, name) for name, task in tasks.items() for before in task.get("dependentTasks", [])]

    def require_parameters(self) -> None:
        """Refuse a pipeline that wants more than parameters.

        Raises:
            BadInput: naming the first artifact that it wants as its input.
        """
        wanted = self.spec["root"].get("inputDefinitions", {}).get("artifacts", {})
        if wanted:
            raise BadInput(
                f"The pipeline {self.name!r} wants the artifact {next(iter(wanted))!r} as its input",
                why="A run is given parameters only",
                fix="Take its URI as a parameter, and bring it in with `dsl.importer`",
                place=Place(self.file.name),
            )

    def require_local(self) -> None:
        """Refuse what cannot run as a process of this machine.

        Raises:
            BadInput: naming the first component that cannot.
        """
        place = Place(self.file.name)
        labels = {c.get("executorLabel"): name for name, _, c in self.tasks()}
        for label, executor in self.executors.items():
            if "importer" in executor or _is_python(executor.get("container", {})):
                continue
            kind = "a containerized Python component" if _is_containerized(executor) else "a container component"
            raise BadInput(
                f"The task {labels.get(label, label)!r} is {kind}, which the engine `local` cannot run",
                why="It runs Python functions as processes, without containers",
                fix="Make it a `@dsl.component` without `target_image`, or run the pipeline on a cluster",
                place=place,
            )


def bare(task: str) -> str:
    """The name of a task in the spec: its label without the pipelines that it is nested in and the indices of loops."""
    return re.sub(r"(\.\d+)+$", "", task.rpartition("/")[2])


def _is_python(container: Mapping[str, Any]) -> bool:
    """Whether a container runs a lightweight Python component, whose source is the last part of its command."""
    command = container.get("command", [])
    return len(command) > 1 and "ephemeral_component.py" in command[-2]


def _is_containerized(executor: Mapping[str, Any]) -> bool:
    return any("kfp.dsl.executor_main" in part for part in executor.get("container", {}).get("command", []))


def _packages(container: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments of the `pip install` commands before a component's program, without kfp's own.

    The compiler lets each component install the SDK itself (`kfp==… --no-deps …`); every environment here has it.
    """
    found: list[str] = []
    lines = [line for script in container.get("command", [])[:-2] for line in script.splitlines()]
    for command in (part for line in lines if "pip install" in line for part in _commands(shlex.split(line))):
        if "install" in command and "--no-deps" not in command:
            options, packages = _options(command[command.index("install") + 1 :])
            found += [*options, *packages]
    return tuple(dict.fromkeys(found))


def _commands(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line of shell."""
    command: list[str] = []
    for word in [*words, "&&"]:
        if word in ("&&", "||", ";"):
            yield command
            command = []
        else:
            command.append(word)


def _options(words: list[str]) -> tuple[list[str], list[str]]:
    """Index options as `--name=value`, and the requirements."""
    options, packages = [], []
    rest = iter(words)
    for word in rest:
        if word in ("--index-url", "-i", "--extra-index-url", "--trusted-host"):
            options.append(f"{'--index-url' if word == '-i' else word}={next(rest)}")
        elif not word.startswith("-"):
            packages.append(word)
    return options, packages


def _natural(value: Any, kind: str) -> Any:
    """A default as it was written: the spec has no integers."""
    if isinstance(value, float) and kind != "NUMBER_DOUBLE" and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_natural(item, "") for item in value]
    if isinstance(value, dict):
        return {key: _natural(item, "") for key, item in value.items()}
    return value


def _stable(value: Any) -> Any:
    if isinstance(value, str):
        return stable(value) if "__KFP_EMBEDDED_ARCHIVE" in value else value
    if isinstance(value, list):
        return [_stable(item) for item in value]
    return {key: _stable(item) for key, item in value.items()} if isinstance(value, dict) else value
