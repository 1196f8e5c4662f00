"""The order of a pipeline: which tasks run, what each is given, and what the pipeline gives.

The rules are those of KFP's backend (its Argo compiler and driver, backend/src/v2), by which

- a task runs when all that it depends on has succeeded; one that depends on a task that was skipped is skipped, and
  when a task fails, no other one of the same pipeline or group is begun;
- an exit task, or one with `.ignore_upstream_failure()`, runs whatever became of those that it depends on;
- `dsl.Collected` has a value for each iteration in which the task ran; `dsl.OneOf` the value of the one that ran.

Only the lists of nested loops are kept nested, as the components' types say, where the backend makes one flat list.
Tasks that do not wait for each other run at the same time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..labels import label
from .conditions import ConditionError, evaluate
from .processes import together
from .values import ValueFault, fill, natural, select, typed

State = Literal["COMPLETE", "CACHED", "FAILED", "CANCELED"]
"""How a task ended, in ML Metadata's words, which are those of `PipelineTaskFinalStatus.state`."""
Spec = Mapping[str, Any]
Artifact = dict[str, Any]
"""KFP's RuntimeArtifact as JSON: `name`, `type`, `uri`, `metadata`."""
Constants = Callable[[str, str], Mapping[str, str]]
_DONE = ("COMPLETE", "CACHED")


@dataclass(frozen=True)
class Values:
    """What goes into a task or comes out of it: parameters, and lists of artifacts, by name."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[Artifact]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A task that can run now.

    Attributes:
        label: its name for people; unique in the run.
        name: its name in the pipeline that it is in.
        task: KFP's PipelineTaskSpec.
        component: KFP's ComponentSpec.
        inputs: what it is given.
    """

    label: str
    name: str
    task: Spec
    component: Spec
    inputs: Values


class Runner(Protocol):
    """Runs the tasks, and is told of those that do not run."""

    async def run(self, call: Call) -> tuple[State, Values]:
        """Run a task to its end; how it ended, and what it made."""

    def skipped(self, tasks: list[str], condition: bool) -> None:
        """A task, or those of a group, do not run: by a condition, or because what they depend on did not succeed."""

    def failed(self, task: str, why: str) -> None:
        """A task cannot run: it cannot be given its inputs, or its condition cannot be evaluated."""


@dataclass
class _Scope:
    """A pipeline or group at work."""

    path: str
    component: Spec
    inputs: Values
    states: dict[str, State] = field(default_factory=dict)
    made: dict[str, Values] = field(default_factory=dict)
    failed: bool = False

    @property
    def tasks(self) -> Mapping[str, Spec]:
        tasks: Mapping[str, Spec] = self.component["dag"].get("tasks", {})
        return tasks


class Graph:
    """A pipeline to be run once.

    Args:
        spec: KFP's PipelineSpec as JSON.
        runner: runs its tasks.
        constants: gives the placeholders of the run (`{{$.pipeline_job_name}}` …) and of a task, by its name and label,
            and what they stand for.
        job: the run's name, which exit tasks are told.
    """

    def __init__(self, spec: Spec, runner: Runner, constants: Constants, job: str) -> None:
        self._root: Spec = spec["root"]
        self._components: Mapping[str, Spec] = spec.get("components", {})
        self._runner, self._constants, self._job = runner, constants, job

    async def run(self, parameters: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Run it to its end: whether no task failed, and the pipeline's output parameters."""
        given = Values({name: value for name, value in parameters.items() if value is not None})
        state, made = await self._dag("", self._root, given)
        return state == "COMPLETE", made.parameters

    async def _dag(self, path: str, component: Spec, inputs: Values) -> tuple[State, Values]:
        scope = _Scope(path, component, _with_defaults(component, inputs))
        ended = {name: asyncio.Event() for name in scope.tasks}

        async def one(name: str) -> None:
            before = [other for other in _before(scope.tasks[name]) if other in ended]
            for other in before:
                await ended[other].wait()
            scope.states[name], scope.made[name] = await self._task(scope, name, before)
            scope.failed = scope.failed or scope.states[name] == "FAILED"
            ended[name].set()

        await together(one(name) for name in sorted(scope.tasks))
        if scope.failed:
            return "FAILED", Values()
        return "COMPLETE", _outputs(scope)

    async def _task(self, scope: _Scope, name: str, before: Iterable[str]) -> tuple[State, Values]:
        task = scope.tasks[name]
        trigger = task.get("triggerPolicy", {})
        anyway = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        if not anyway and (scope.failed or any(scope.states[other] not in _DONE for other in before)):
            return self._skip(scope.path, name, task, condition=False)
        try:
            inputs = self._inputs(scope, name, task)
            condition = trigger.get("condition")
            if condition and not evaluate(condition, inputs.parameters):
                return self._skip(scope.path, name, task, condition=True)
            if "parameterIterator" in task or "artifactIterator" in task:
                return await self._loop(scope.path, name, task, inputs)
            return await self._one(scope.path, name, name, task, inputs)
        except (ValueFault, ConditionError) as fault:
            self._runner.failed(label(scope.path, name), str(fault))
            return "FAILED", Values()

    async def _one(self, path: str, place: str, name: str, task: Spec, inputs: Values) -> tuple[State, Values]:
        component = self._component(task)
        given = _checked(component, inputs)
        if "dag" in component:
            return await self._dag(f"{path}/{place}", component, given)
        return await self._runner.run(Call(label(path, place), name, task, component, given))

    async def _loop(self, path: str, name: str, task: Spec, inputs: Values) -> tuple[State, Values]:
        """Run a `dsl.ParallelFor`: one iteration an item."""
        component = self._component(task)
        iterations = _iterations(task, inputs)
        gate = asyncio.Semaphore(int(task.get("iteratorPolicy", {}).get("parallelismLimit", 0)) or len(iterations) or 1)
        states: list[State] = []

        async def iterate(index: int, given: Values) -> Values:
            async with gate:
                place = f"{name}-iteration-{index}"
                if "FAILED" in states:
                    self._skip(path, place, task, condition=False)
                    return Values()
                try:
                    state, made = await self._one(path, place, name, task, given)
                except ValueFault as fault:
                    self._runner.failed(label(path, place), str(fault))
                    state, made = "FAILED", Values()
                states.append(state)
                return made

        made = await together(iterate(index, given) for index, given in enumerate(iterations))
        if "FAILED" in states:
            return "FAILED", Values()
        declared = component.get("outputDefinitions", {})
        return "COMPLETE", Values(
            {key: [m.parameters[key] for m in made if key in m.parameters] for key in declared.get("parameters", {})},
            {key: [a for m in made for a in m.artifacts.get(key, [])] for key in declared.get("artifacts", {})},
        )

    def _inputs(self, scope: _Scope, name: str, task: Spec) -> Values:
        """What a task is given, in the scope that it is in (`resolveInputs` of the backend's driver)."""
        declared = self._component(task).get("inputDefinitions", {})
        given, constants = Values(), {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            value = self._parameter(scope, name, task, source)
            if "runtimeValue" in source and value is not None:
                constants[key] = value
            elif value is not None:
                if selector := source.get("parameterExpressionSelector"):
                    value = select(value, selector)
                given.parameters[key] = value
            elif not _optional(declared.get("parameters", {}).get(key)):
                raise ValueFault(f"the input {key!r} has no value{_from(scope, source)}")
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            if (made := _artifacts(scope, source)) is not None:
                given.artifacts[key] = made
            elif not _optional(declared.get("artifacts", {}).get(key)):
                raise ValueFault(f"the input {key!r} has no artifact{_from(scope, source)}")
        # Placeholders stand in what the compiler wrote; a text that somebody else gave is left as it is.
        filled = fill(constants, given.parameters, self._constants(name, label(scope.path, name)))
        return Values({**given.parameters, **filled}, given.artifacts)

    def _parameter(self, scope: _Scope, name: str, task: Spec, source: Spec) -> Any:
        if "componentInputParameter" in source:
            return scope.inputs.parameters.get(source["componentInputParameter"])
        if "runtimeValue" in source:
            return natural(source["runtimeValue"].get("constant"))
        if "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            made = scope.made.get(output["producerTask"], Values())
            return made.parameters.get(output["outputParameterKey"])
        if "taskFinalStatus" in source:
            producer = (task.get("dependentTasks") or [""])[0]
            return {
                "state": scope.states.get(producer, "CANCELED"),
                "pipelineTaskName": producer,
                "pipelineJobResourceName": self._job,
                "error": {},
            }
        raise ValueFault(f"the task {name!r} has an input of an unknown kind: {', '.join(source)}")

    def _skip(self, path: str, name: str, task: Spec, *, condition: bool) -> tuple[State, Values]:
        self._runner.skipped(list(self._leaves(path, name, task)), condition)
        return "CANCELED", Values()

    def _leaves(self, path: str, name: str, task: Spec) -> Iterator[str]:
        """The tasks in a group; a task itself."""
        component = self._component(task)
        if "dag" not in component:
            yield label(path, name)
        for inner, its in sorted(component.get("dag", {}).get("tasks", {}).items()):
            yield from self._leaves(f"{path}/{name}", inner, its)

    def _component(self, task: Spec) -> Spec:
        return self._components[task["componentRef"]["name"]]


def _before(task: Spec) -> Iterable[str]:
    """What a task waits for: those it names, and those whose outputs it takes, which the compiler forgets at times."""
    inputs = task.get("inputs", {})
    sources = [*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()]
    outputs = [source.get("taskOutputParameter") or source.get("taskOutputArtifact") for source in sources]
    return dict.fromkeys([*task.get("dependentTasks", []), *(o["producerTask"] for o in outputs if o)])


def _with_defaults(component: Spec, inputs: Values) -> Values:
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: natural(spec["defaultValue"]) for name, spec in declared.items() if "defaultValue" in spec}
    return Values({**defaults, **inputs.parameters}, inputs.artifacts)


def _checked(component: Spec, inputs: Values) -> Values:
    """The inputs as the types that a component declares."""
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    for name, spec in declared.items():
        given = name in inputs.parameters or "defaultValue" in spec or spec.get("parameterType") == "TASK_CONFIG"
        if not given and not _optional(spec):
            raise ValueFault(f"the input {name!r} has no value")
    return Values(
        {
            name: typed(name, value, declared.get(name, {}).get("parameterType", ""))
            for name, value in inputs.parameters.items()
        },
        inputs.artifacts,
    )


def _iterations(task: Spec, inputs: Values) -> list[Values]:
    """What each iteration of a loop is given: the loop's inputs, with an item in place of the items."""
    if "artifactIterator" in task:
        iterator = task["artifactIterator"]
        items = inputs.artifacts[iterator["items"]["inputArtifact"]]
        return [Values(inputs.parameters, {**inputs.artifacts, iterator["itemInput"]: [item]}) for item in items]
    iterator = task["parameterIterator"]
    source = iterator["items"].get("inputParameter", "")
    found = inputs.parameters.get(source) if source else iterator["items"]["raw"]
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        pass
    if not isinstance(found, list):
        raise ValueFault(f"the loop needs a list, not {json.dumps(found, default=str)[:80]}")
    item_input = iterator["itemInput"]
    return [Values({**inputs.parameters, item_input: natural(item)}, inputs.artifacts) for item in found]


def _artifacts(scope: _Scope, source: Spec) -> list[Artifact] | None:
    if "componentInputArtifact" in source:
        return scope.inputs.artifacts.get(source["componentInputArtifact"])
    output = source["taskOutputArtifact"]
    return scope.made.get(output["producerTask"], Values()).artifacts.get(output["outputArtifactKey"])


def _outputs(scope: _Scope) -> Values:
    """What a pipeline or group gives: of each output, what the first of its sources that ran has made."""
    declared = scope.component["dag"].get("outputs", {})
    made = Values()
    for name, output in declared.get("parameters", {}).items():
        sources = output.get("valueFromOneof", {}).get("parameterSelectors") or [output["valueFromParameter"]]
        for source in sources:
            found = scope.made[source["producerSubtask"]].parameters
            if scope.states[source["producerSubtask"]] in _DONE and source["outputParameterKey"] in found:
                made.parameters[name] = found[source["outputParameterKey"]]
                break
    for name, output in declared.get("artifacts", {}).items():
        for source in output.get("artifactSelectors", []):
            lists = scope.made[source["producerSubtask"]].artifacts
            if scope.states[source["producerSubtask"]] in _DONE and source["outputArtifactKey"] in lists:
                made.artifacts[name] = lists[source["outputArtifactKey"]]
                break
    return made


def _optional(declared: Spec | None) -> bool:
    return declared is not None and bool(declared.get("isOptional", False))


def _from(scope: _Scope, source: Spec) -> str:
    """Which task was to give an input, and why it has not."""
    output = source.get("taskOutputParameter") or source.get("taskOutputArtifact")
    if not output:
        return ""
    producer = output["producerTask"]
    how = {"CANCELED": "was skipped", "FAILED": "failed"}.get(scope.states.get(producer, ""), "did not give it")
    return f": the task {label(scope.path, producer)!r} {how}"
