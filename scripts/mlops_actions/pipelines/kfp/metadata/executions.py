"""What a run leaves in ML Metadata: the only place where KFP has its tasks' outputs, and where its pods are.

The REST API's `task_details` have no inputs and outputs (kubeflow/pipelines issues 9683, 9858). KFP's driver and
launcher write an execution for each task and group, with custom properties, and artifacts that events tie to it
(backend/src/v2/metadata/client.go). Messages: ml_metadata/proto/metadata_store.proto of google/ml-metadata.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from ...labels import label
from ..client.api import ApiError, KfpApi
from ..run.nodes import Task, TaskState
from .messages import classes
from .probe import SERVICE

_PAGE, _SMALL = 100, 50
_OUTPUT = (1, 4)  # Event.DECLARED_OUTPUT, Event.OUTPUT
_STATES: Mapping[int, TaskState] = {3: "succeeded", 4: "failed", 5: "reused", 6: "skipped"}
"""Execution.State: COMPLETE, FAILED, CACHED, CANCELED; others have not ended, as those of pods that were killed."""
_OURS = ("display_name", "store_session_info")
"""What the launcher adds to what a component logged."""

Message = Any
"""A message of `messages`. A field that is not set has its type's zero."""


@dataclass(frozen=True)
class Output:
    """An output artifact of an execution: the output's name, and the artifact's type, URI and metadata."""

    name: str
    type: str
    uri: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Execution:
    """A task, as ML Metadata has it.

    Attributes:
        label: as `nodes.Task` has it.
        state: "running" for one that has not ended.
        began, ended: seconds since 1970 of its creation and its last change.
        pod: that worked on it; "" when it has none.
        parameters: its output parameters.
        outputs: its output artifacts.
        is_group: whether it is a DAG.
    """

    label: str
    state: TaskState
    began: float = 0.0
    ended: float = 0.0
    pod: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[Output] = ()
    is_group: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.began)

    @property
    def task(self) -> Task:
        """What is known of the task when nothing else tells of it."""
        ended = 0.0 if self.state == "running" else self.ended
        return Task(self.label, self.state, pod=self.pod, began=self.began, ended=ended)


@dataclass(frozen=True)
class Recorded:
    """What a run left: its executions in the order of their beginning, the folder of its artifacts, its namespace."""

    executions: Sequence[Execution] = ()
    root: str = ""
    namespace: str = ""

    @property
    def tasks(self) -> list[Task]:
        """The run's tasks."""
        return [execution.task for execution in self.executions if not execution.is_group]


def recorded(api: KfpApi, run_id: str, *, outputs: bool = True) -> Recorded:
    """What a run left in ML Metadata, with or without its artifacts.

    Raises:
        ApiError: the service is not at this host, fails, or sends something else.
    """
    found = _ask(api, "GetContextByTypeAndName", type_name="system.PipelineRun", context_name=run_id)
    if not found.HasField("context"):
        return Recorded()
    executions = _executions(api, found.context.id)
    made = _outputs(api, [execution.id for execution in executions]) if outputs else {}
    by_id = {execution.id: execution for execution in executions}
    return Recorded(
        [_execution(execution, by_id, made.get(execution.id, ())) for execution in executions],
        str(_property(found.context, "pipeline_root") or ""),
        str(_property(found.context, "namespace") or ""),
    )


def _outputs(api: KfpApi, executions: Sequence[int]) -> Mapping[int, Sequence[Output]]:
    events = [event for event in _events(api, executions) if event.type in _OUTPUT]
    artifacts = _artifacts(api, sorted({event.artifact_id for event in events}))
    outputs: dict[int, list[Output]] = defaultdict(list)
    for event in events:
        names = [step.key for step in event.path.steps if step.HasField("key")]
        if names and event.artifact_id in artifacts:
            outputs[event.execution_id].append(_output(names[0], *artifacts[event.artifact_id]))
    return outputs


def _executions(api: KfpApi, context: int) -> list[Message]:
    found: list[Message] = []
    token: str | None = None
    while True:
        options = {"max_result_size": _PAGE, "next_page_token": token}
        page = _ask(api, "GetExecutionsByContext", context_id=context, options=options)
        found += page.executions
        token = page.next_page_token
        if not token:
            return sorted(found, key=lambda execution: execution.id)


def _events(api: KfpApi, executions: Sequence[int]) -> list[Message]:
    return [
        event for some in _some(executions) for event in _ask(api, "GetEventsByExecutionIDs", execution_ids=some).events
    ]


def _artifacts(api: KfpApi, ids: Sequence[int]) -> dict[int, tuple[Message, str]]:
    """The artifacts by id, with their types' names. An old server does not give types along: they are asked for."""
    artifacts: list[Message] = []
    types: dict[int, str] = {}
    for some in _some(ids):
        found = _ask(api, "GetArtifactsByID", artifact_ids=some, populate_artifact_types=True)
        artifacts += found.artifacts
        types |= {kind.id: kind.name for kind in found.artifact_types}
    missing = {artifact.type_id for artifact in artifacts if not artifact.type and artifact.type_id not in types}
    for some in _some(sorted(missing)):
        types |= {kind.id: kind.name for kind in _ask(api, "GetArtifactTypesByID", type_ids=some).artifact_types}
    return {artifact.id: (artifact, artifact.type or types.get(artifact.type_id, "")) for artifact in artifacts}


def _ask(api: KfpApi, method: str, **request: Any) -> Message:
    known = _classes()
    try:
        data = known[f"{method}Request"](**request).SerializeToString()
        return known[f"{method}Response"].FromString(api.grpc_web(SERVICE, method, data))
    except DecodeError as error:
        raise ApiError(
            f"{SERVICE} sent a response to {method} that is not a protobuf message", why=str(error)
        ) from error


_classes = cache(classes)


def _some(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + _SMALL] for start in range(0, len(ids), _SMALL)]


def _execution(execution: Message, by_id: Mapping[int, Message], outputs: Sequence[Output]) -> Execution:
    name, parameters = _name(execution), _property(execution, "outputs")
    is_dag = execution.type == "system.DAGExecution" or "total_dag_tasks" in execution.custom_properties
    return Execution(
        label("/".join(_path(execution, by_id)), name),
        _STATES.get(execution.last_known_state, "running"),
        execution.create_time_since_epoch / 1000,
        execution.last_update_time_since_epoch / 1000,
        str(_property(execution, "pod_name") or ""),
        parameters if isinstance(parameters, dict) else {},
        outputs,
        is_dag or not name,
    )


def _path(execution: Message, by_id: Mapping[int, Message]) -> list[str]:
    """The names of the groups around an execution, from the outside in, as `running.label` takes them.

    A loop is two executions of one name: the loop itself, and in it each iteration with its index.
    """
    path: list[str] = []
    parent, seen = _property(execution, "parent_dag_id"), set[int]()
    while parent in by_id and parent not in seen:
        seen.add(parent)
        around = by_id[parent]
        name, index = _name(around), _property(around, "iteration_index")
        if index is not None and name:
            path.insert(0, f"{name}-iteration-{index}")
        elif name and _property(around, "iteration_count") is None:
            path.insert(0, name)
        parent = _property(around, "parent_dag_id")
    return path


def _name(execution: Message) -> str:
    return str(_property(execution, "task_name") or "")


def _output(name: str, artifact: Message, kind: str) -> Output:
    metadata = {key: plain(value) for key, value in artifact.custom_properties.items() if key not in _OURS}
    return Output(name, kind, artifact.uri, metadata)


def _property(message: Message, name: str) -> Any:
    """A custom property; None when it is not there (to look it up in the map would make it)."""
    return plain(message.custom_properties[name]) if name in message.custom_properties else None


def plain(value: Message) -> Any:
    """A `Value` as JSON; lists and maps stand in a struct of one field. No number is NaN or infinite in JSON."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "double_value":
        return found if math.isfinite(found) else None
    if kind != "struct_value":
        return found
    made = {key: _json(item) for key, item in found.fields.items()}
    return next(iter(made.values())) if list(made) in (["list"], ["struct"]) else made


def _json(value: Message) -> Any:
    """A `google.protobuf.Value`. Its numbers are doubles: one without a fraction is an integer."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            return None
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "struct_value":
        return {key: _json(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_json(item) for item in value.list_value.values]
    return None if kind in ("null_value", None) else getattr(value, kind)
