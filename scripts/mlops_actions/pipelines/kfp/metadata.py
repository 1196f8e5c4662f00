"""What a run left in ML Metadata: the only place where KFP has its tasks' outputs.

The REST API's `task_details` have no inputs and outputs (kubeflow/pipelines issues 9683, 9858). KFP's driver and
launcher write an execution for each task and group, with custom properties, and artifacts that events tie to it
(backend/src/v2/metadata/client.go). Messages: ml_metadata/proto/metadata_store.proto of google/ml-metadata.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..worker.running import label
from .api import KfpApi
from .wire import Field, Fields, MapOf, Message, Struct, read, write

_SERVICE = "ml_metadata.MetadataStoreService"
_PAGE, _SMALL = 100, 50
_VALUE: Fields = {
    1: Field("int", int),
    2: Field("double", float),
    3: Field("string", str),
    4: Field("struct", Struct),
    6: Field("bool", bool),
}
_CONTEXT: Fields = {1: Field("id", int), 5: Field("properties", MapOf(_VALUE))}
_EXECUTION: Fields = {
    1: Field("id", int),
    3: Field("state", int),
    5: Field("properties", MapOf(_VALUE)),
    7: Field("type", str),
    8: Field("created", int),
    9: Field("updated", int),
}
_STEP: Fields = {1: Field("index", int), 2: Field("key", str)}
_EVENT: Fields = {
    1: Field("artifact", int),
    2: Field("execution", int),
    3: Field("path", {1: Field("steps", _STEP, repeated=True)}),
    4: Field("type", int),
}
_ARTIFACT: Fields = {
    1: Field("id", int),
    2: Field("type_id", int),
    3: Field("uri", str),
    5: Field("properties", MapOf(_VALUE)),
    8: Field("type", str),
}
_TYPE: Fields = {1: Field("id", int), 2: Field("name", str)}
_OUTPUT = (1, 4)  # Event.DECLARED_OUTPUT, Event.OUTPUT
_COMPLETE, _FAILED, _CACHED, _CANCELED = 3, 4, 5, 6  # Execution.State
_OURS = ("display_name", "store_session_info")
"""What the launcher adds to what a component logged."""


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
        state: succeeded, reused, failed, skipped, or "" for one that has not ended.
        seconds: from its creation to its last change.
        parameters: its output parameters.
        outputs: its output artifacts.
        is_group: whether it is a DAG.
    """

    label: str
    state: str
    seconds: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[Output] = ()
    is_group: bool = False


@dataclass(frozen=True)
class Recorded:
    """What a run left: its executions in the order of their beginning, and the folder of its artifacts."""

    executions: Sequence[Execution]
    root: str = ""


def recorded(api: KfpApi, run_id: str) -> Recorded:
    """What a run left in ML Metadata.

    Raises:
        ApiError: the service is not at this host, or fails.
        wire.Malformed: it answers with something else.
    """
    context = _ask(
        api,
        "GetContextByTypeAndName",
        write(1, "system.PipelineRun") + write(2, run_id),
        {1: Field("context", _CONTEXT)},
    ).get("context")
    if not context:
        return Recorded([])
    executions = _executions(api, context["id"])
    events = [event for event in _events(api, [e["id"] for e in executions]) if event.get("type") in _OUTPUT]
    artifacts = _artifacts(api, sorted({event["artifact"] for event in events}))
    outputs: dict[int, list[Output]] = defaultdict(list)
    for event in events:
        names = [step["key"] for step in event.get("path", {}).get("steps", []) if "key" in step]
        if names and event["artifact"] in artifacts:
            outputs[event["execution"]].append(_output(names[0], artifacts[event["artifact"]]))
    by_id = {execution["id"]: execution for execution in executions}
    return Recorded(
        [_execution(execution, by_id, outputs[execution["id"]]) for execution in executions],
        str(_plain(context.get("properties", {}).get("pipeline_root", {})) or ""),
    )


def _executions(api: KfpApi, context: int) -> list[Message]:
    found: list[Message] = []
    token = ""
    while True:
        options = write(1, _PAGE) + (write(3, token) if token else b"")
        fields = {1: Field("executions", _EXECUTION, repeated=True), 2: Field("token", str)}
        page = _ask(api, "GetExecutionsByContext", write(1, context) + write(2, options), fields)
        found += page["executions"]
        token = page.get("token", "")
        if not token:
            return sorted(found, key=lambda execution: execution["id"])


def _events(api: KfpApi, executions: Sequence[int]) -> list[Message]:
    fields = {1: Field("events", _EVENT, repeated=True)}
    return [
        event
        for some in _some(executions)
        for event in _ask(api, "GetEventsByExecutionIDs", b"".join(write(1, i) for i in some), fields)["events"]
    ]


def _artifacts(api: KfpApi, ids: Sequence[int]) -> dict[int, Message]:
    """The artifacts by id, with their types' names. An old server does not give types along: they are asked for."""
    fields = {1: Field("artifacts", _ARTIFACT, repeated=True), 2: Field("types", _TYPE, repeated=True)}
    artifacts: list[Message] = []
    types: dict[int, str] = {}
    for some in _some(ids):
        found = _ask(api, "GetArtifactsByID", b"".join(write(1, i) for i in some) + write(3, 1), fields)
        artifacts += found["artifacts"]
        types |= {kind["id"]: kind.get("name", "") for kind in found["types"]}
    missing = {a["type_id"] for a in artifacts if not a.get("type") and a.get("type_id") not in types}
    for some in _some(sorted(missing)):
        answer = {1: Field("types", _TYPE, repeated=True)}
        found = _ask(api, "GetArtifactTypesByID", b"".join(write(1, i) for i in some), answer)
        types |= {kind["id"]: kind.get("name", "") for kind in found["types"]}
    return {a["id"]: {**a, "type": a.get("type") or types.get(a.get("type_id", 0), "")} for a in artifacts}


def _ask(api: KfpApi, method: str, message: bytes, fields: Fields) -> Message:
    return read(api.grpc_web(_SERVICE, method, message), fields)


def _some(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + _SMALL] for start in range(0, len(ids), _SMALL)]


def _execution(execution: Message, by_id: Mapping[int, Message], outputs: Sequence[Output]) -> Execution:
    properties = execution.get("properties", {})
    name, path = _name(properties), _path(properties, by_id)
    state = execution.get("state", 0)
    states = {_COMPLETE: "succeeded", _CACHED: "reused", _FAILED: "failed", _CANCELED: "skipped"}
    parameters = _plain(properties.get("outputs", {}))
    return Execution(
        label("/".join(path), name),
        states.get(state, ""),
        max(0.0, (execution.get("updated", 0) - execution.get("created", 0)) / 1000),
        parameters if isinstance(parameters, dict) else {},
        outputs,
        execution.get("type", "") == "system.DAGExecution" or "total_dag_tasks" in properties or not name,
    )


def _path(properties: Mapping[str, Message], by_id: Mapping[int, Message]) -> list[str]:
    """The names of the groups around an execution, from the outside in, as `running.label` takes them.

    A loop is two executions of one name: the loop itself, and in it each iteration with its index.
    """
    path: list[str] = []
    parent, seen = _plain(properties.get("parent_dag_id", {})), set[int]()
    while parent in by_id and parent not in seen:
        seen.add(parent)
        around = by_id[parent].get("properties", {})
        name, index = _name(around), _plain(around.get("iteration_index", {}))
        if index is not None and name:
            path.insert(0, f"{name}-iteration-{index}")
        elif name and _plain(around.get("iteration_count", {})) is None:
            path.insert(0, name)
        parent = _plain(around.get("parent_dag_id", {}))
    return path


def _name(properties: Mapping[str, Message]) -> str:
    return str(_plain(properties.get("task_name", {})) or "")


def _output(name: str, artifact: Message) -> Output:
    properties = {k: _plain(v) for k, v in artifact.get("properties", {}).items() if k not in _OURS}
    return Output(name, str(artifact.get("type", "")), str(artifact.get("uri", "")), properties)


def _plain(value: Message) -> Any:
    """A Value as JSON; lists and maps stand in a struct of one field. No number is NaN or infinite in JSON."""
    for kind, found in value.items():
        if kind == "double" and not math.isfinite(found):
            return None
        if kind == "struct" and len(found) == 1 and next(iter(found)) in ("list", "struct"):
            return next(iter(found.values()))
        return found
    return None
