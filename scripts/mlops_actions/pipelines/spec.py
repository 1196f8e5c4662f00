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
from .labels import bare
from .source import stable

_NAME = re.compile(r"[\w-]+([. ][\w-]+)*")
_CHANNEL = re.compile(r"\{\{channel:[^}]*\}\}")


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

    def containers(self) -> dict[str, str]:
        """The tasks that need a container, and what kind of component each is."""
        labels = {str(c.get("executorLabel")): name for name, _, c in self.tasks()}
        found = {}
        for label, executor in self.executors.items():
            container = executor.get("container", {})
            if "importer" not in executor and not _is_python(container) and label in labels:
                found[labels[label]] = _kind(container)
        return found

    def images(self) -> list[str]:
        """The images of the components that need a container, in order."""
        containers = [executor.get("container", {}) for executor in self.executors.values()]
        return sorted({str(c["image"]) for c in containers if c.get("image") and not _is_python(c)})

    def require_parameters(self) -> None:
        """Refuse a pipeline that wants more than parameters.

        Raises:
            BadInput: naming the first artifact that it needs as its input.
        """
        declared = self.spec["root"].get("inputDefinitions", {}).get("artifacts", {})
        wanted = [name for name, spec in declared.items() if not spec.get("isOptional")]
        if wanted:
            raise BadInput(
                f"The pipeline {self.name!r} needs the artifact {wanted[0]!r} as its input",
                why="A run is given parameters only",
                fix="Take its URI as a parameter, and bring it in with `dsl.importer`; or make it optional",
                place=Place(self.file.name),
            )

    def require_sound(self, place: Place) -> None:
        """Refuse what the compiler of KFP lets pass and no engine can run.

        Args:
            place: of the pipeline.

        Raises:
            BadInput: a text holds the output of a task that is not text: the compiler leaves a mark of its own there;
                or a task or output has a name that no file can have.
        """
        outputs = [spec.get("outputDefinitions", {}) for spec in self.spec.get("components", {}).values()]
        names = [name for output in outputs for kind in ("parameters", "artifacts") for name in output.get(kind, {})]
        for name in [*names, *(name for name, _ in self._all_tasks())]:
            if not _NAME.fullmatch(name):
                raise BadInput(
                    f"The name {name!r} of a task or an output is not valid",
                    fix="Use letters, digits, `-`, `_` and single dots",
                    place=place,
                )
        for name, task in self._all_tasks():
            for source in task.get("inputs", {}).get("parameters", {}).values():
                if found := _CHANNEL.search(json.dumps(source.get("runtimeValue", {}))):
                    channel = dict(re.findall(r"(task|name)=([^;}]*)", found[0]))
                    what = f"the output {channel.get('name', '')!r} of {channel.get('task', 'a task')!r}"
                    raise BadInput(
                        f"The task {name!r} is given a text with {what} in it, which is not text",
                        why="KFP puts only text, numbers and truth values of tasks into an f-string",
                        fix="Give the task the output itself, and build the text in the component",
                        place=place,
                    )

    def _all_tasks(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every task and group."""
        for component in [self.spec["root"], *self.spec.get("components", {}).values()]:
            yield from component.get("dag", {}).get("tasks", {}).items()


def _is_python(container: Mapping[str, Any]) -> bool:
    """Whether a container runs a lightweight Python component, whose source is the last part of its command."""
    command = container.get("command", [])
    return len(command) > 1 and "ephemeral_component.py" in command[-2]


def _kind(container: Mapping[str, Any]) -> str:
    if container.get("image", "").startswith("argostub/"):
        return "a Kubernetes operation"
    if any("kfp.dsl.executor_main" in part for part in container.get("command", [])):
        return "a containerized Python component"
    return "a container component"


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
