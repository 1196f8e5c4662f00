"""A run's result out of what it left in ML Metadata: tasks, output parameters, artifacts in our store."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import BadInput, RemoteFailed
from ...stores.digests import tree_digest
from ...stores.store import Store, StoreOptions, fetch
from ..downloads import reachable
from ..engine import Artifact, State, TaskResult
from ..labels import bare, label
from ..spec import Pipeline
from .metadata import Execution

Json = Mapping[str, Any]


def task_results(pipeline: Pipeline, executions: Sequence[Execution], seen: Sequence[TaskResult]) -> list[TaskResult]:
    """The tasks of a run that succeeded: first those that were seen to end, in that order.

    Args:
        pipeline: what was run.
        executions: what ML Metadata has; empty when it cannot be reached.
        seen: how tasks ended, as it was told.
    """
    recorded = {one.label: one for one in executions if not one.is_group and one.state in ("succeeded", "reused")}
    made = {(task, name): kind for task, name, kind in pipeline.made()}
    components = {name: component for name, _, component in pipeline.tasks()}
    results = []
    labels = {result.task: result for result in seen}
    for task in [*labels, *(name for name in recorded if name not in labels)]:
        result = labels.get(task)
        if (execution := recorded.get(task)) is None:
            results += [result] if result else []
            continue
        name = bare(task)
        state: State = "reused" if execution.state == "reused" else "succeeded"
        results.append(
            TaskResult(
                task,
                result.state if result else state,
                (result.seconds if result else 0.0) or execution.seconds,
                _typed(execution.parameters, components.get(name, {})),
                [
                    Artifact(task, o.name, o.type or made[name, o.name], o.uri, "", o.metadata)
                    for o in execution.outputs
                    if (name, o.name) in made
                ],
            )
        )
    return results


def pipeline_outputs(spec: Json, tasks: Sequence[TaskResult]) -> dict[str, Any]:
    """The pipeline's own output parameters, which are outputs of its tasks."""
    values = {task.task: task.parameters for task in tasks}
    found = {}
    for name, output in spec["root"]["dag"].get("outputs", {}).get("parameters", {}).items():
        candidates = list(_resolved(spec, spec["root"]["dag"], output, (), values))
        if candidates:
            found[name] = candidates[0]
    return found


def bring_home(
    artifact: Artifact, folder: str, store: Store, options: StoreOptions | None, warn: Callable[[str], None]
) -> Artifact:
    """The artifact with its bytes in our store, and their digest; as it is when they cannot be had.

    Args:
        artifact: of a run.
        folder: of the run's artifacts in our store; a copy is at `<folder>/<task>/<name>`.
        store: ours.
        options: how the store that it is in is reached.
        warn: told when it cannot.
    """
    uri = reachable(artifact.uri)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            path = fetch(uri, Path(scratch) / "artifact", options)
            digest = tree_digest(path)
            if not uri.startswith(f"{store.url}/"):
                uri = store.put_file(path, f"{folder}/{artifact.task}/{artifact.name}")
    except (BadInput, RemoteFailed, OSError, ValueError) as error:
        warn(
            f"The artifact {artifact.name!r} of {artifact.task} stays at {artifact.uri}, without a digest: {error}."
            f" Later actions cannot check it. Set `pipeline-root` to a folder of the store, such as {store.url}/kfp"
        )
        return artifact
    return dataclasses.replace(artifact, uri=uri, digest=digest)


def _resolved(spec: Json, dag: Json, output: Json, path: tuple[str, ...], values: Mapping[str, Json]) -> Iterator[Any]:
    """The values that an output of a DAG may have, the first one being it; none when what makes it did not run.

    Args:
        spec: the PipelineSpec.
        dag: whose output it is.
        output: its DagOutputParameterSpec.
        path: of the DAG, as `running.label` takes it.
        values: the output parameters of each task, by label.
    """
    one = output.get("valueFromParameter")
    for selector in [one] if one else output.get("valueFromOneof", {}).get("parameterSelectors", []):
        name, key = selector.get("producerSubtask", ""), selector.get("outputParameterKey", "")
        task = dag.get("tasks", {}).get(name, {})
        component = spec.get("components", {}).get(task.get("componentRef", {}).get("name"), {})
        if "parameterIterator" in task or "artifactIterator" in task:
            yield from _collected(spec, component, key, (*path, name), values)
        elif "dag" in component:
            inner = component["dag"].get("outputs", {}).get("parameters", {}).get(key, {})
            yield from _resolved(spec, component["dag"], inner, (*path, name), values)
        else:
            outputs = values.get(label("/".join(path), name), {})
            if key in outputs:
                yield outputs[key]


def _collected(
    spec: Json, component: Json, key: str, path: tuple[str, ...], values: Mapping[str, Json]
) -> Iterator[Any]:
    """What the iterations of a loop made, as a list."""
    inner = component.get("dag", {}).get("outputs", {}).get("parameters", {}).get(key, {})
    found: list[Any] = []
    while True:
        place = (*path[:-1], f"{path[-1]}-iteration-{len(found)}")
        one = list(_resolved(spec, component.get("dag", {}), inner, place, values))
        if not one:
            break
        found.append(one[0])
    if found:
        yield found


def _typed(parameters: Json, component: Json) -> dict[str, Any]:
    """Numbers as the component declares them: ML Metadata has one kind."""
    declared = component.get("outputDefinitions", {}).get("parameters", {})
    kinds = {name: spec.get("parameterType") for name, spec in declared.items()}
    return {
        name: float(value)
        if kinds.get(name) == "NUMBER_DOUBLE" and isinstance(value, int) and not isinstance(value, bool)
        else value
        for name, value in parameters.items()
    }
