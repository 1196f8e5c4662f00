"""Runs a compiled pipeline with kfp.local's orchestrator, with its faulty or slow parts replaced.

What is kept: the order of tasks, nested pipelines, exit handlers, retries' meaning, `dsl.OneOf`, placeholders,
importers, artifact classes. What is replaced, and why:

| kfp.local 2.17 | here |
| --- | --- |
| values go through protobuf, which has no integers: those in lists and structs become floats | JSON all the way |
| a condition's values are put into its text; an error in it counts as false | parsed, compared as values |
| a loop's inputs that come from other tasks are overwritten with the loop's item | the item alone is set |
| a loop over a task's named output is not found | the loop's own inputs are asked |
| each task makes a virtual environment and installs its packages | one environment for each set of packages |
| tasks that could run in any order are in a random one | by name |
| a warning, then success, for what it cannot do | the run fails with that warning |
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

from . import sdk
from .channel import Channel
from .conditions import ConditionError, evaluate
from .tasks import Tasks

_GROUP = re.compile(r"(condition|condition-branches|exit-handler)-\d+$")
Conditions = dict[str, tuple[str, list[str], Any]]
_ITERATION = re.compile(r"for-loop-\d+-iteration-(\d+)$")


def run_pipeline(channel: Channel, plan: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline to its end.

    Args:
        channel: where progress is told.
        plan: `spec`, `parameters`, `key`, `folder` (of this run), `root` (the consumer's), `pythons` (executor label →
            `executable`, `digest`), `inputs` (digests of what tasks read beside their arguments).

    Returns:
        `succeeded`, the pipeline's `outputs`, and `problems`: what the orchestrator could not do.
    """
    sdk.load()
    from google.protobuf import json_format
    from kfp import local
    from kfp.local import status, utils
    from kfp.local.orchestrator import enhanced_dag_orchestrator
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = json_format.ParseDict(plan["spec"], pipeline_spec_pb2.PipelineSpec())
    workspace = Path(plan["folder"]) / ".workspace"
    workspace.mkdir(exist_ok=True)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=plan["folder"],
        workspace_root=str(workspace),
        raise_on_error=False,
    )
    problems = _listen()
    _replace(channel, Tasks(channel, plan, label), _tag_conditions(spec), problems)
    outputs: dict[str, Any] = {}
    try:
        outputs, ended = enhanced_dag_orchestrator.run_enhanced_dag(
            pipeline_resource_name="",
            dag_component_spec=spec.root,
            executors={
                name: utils.struct_to_executor_spec(executor)
                for name, executor in spec.deployment_spec["executors"].items()
            },
            components=dict(spec.components.items()),
            dag_arguments=plan["parameters"],
            pipeline_root=plan["folder"],
            runner=None,
            unique_pipeline_id=plan["key"],
            fail_stack=[],
        )
        succeeded = ended == status.Status.SUCCESS
    except Exception as error:
        logging.getLogger("mlops").debug("", exc_info=True)
        problems.append(f"{type(error).__name__}: {error}" if not isinstance(error, ConditionError) else str(error))
        succeeded = False
    values = {name: value for name, value in outputs.items() if not _is_artifact(value)}
    return {"succeeded": succeeded and not problems, "outputs": values, "problems": problems}


def label(scope: str, task: str) -> str:
    """A task's name for people: `prep/load` for a task of a nested pipeline, `train.0` for a loop's first iteration.

    Args:
        scope: names of the groups that the task is in, from the outside in, separated by `/`.
        task: its own name. The compiler makes it unique in its pipeline, so groups for conditions add nothing.
    """
    parts = [part for part in scope.split("/") if part]
    names = [part for part in parts if not _GROUP.match(part) and not _ITERATION.match(part)]
    indices = [found[1] for part in parts if (found := _ITERATION.match(part))]
    return ".".join(["/".join([*names, task]), *indices])


def _tag_conditions(spec: Any) -> Conditions:
    """Replace each condition by a tag, so that the evaluator knows whose it is.

    Returns:
        By tag: the condition, the tasks that depend on it, and the spec of the group that has it.
    """
    tagged = {}
    for name, component in [("root", spec.root), *spec.components.items()]:
        for task_name, task in component.dag.tasks.items():
            if task.trigger_policy.condition:
                tag = f"{name}/{task_name}"
                tagged[tag] = (task.trigger_policy.condition, _leaves(spec, task_name, task), task)
                task.trigger_policy.condition = tag
    return tagged


def _leaves(spec: Any, name: str, task: Any) -> list[str]:
    """The tasks in a group."""
    tasks = spec.components[task.component_ref.name].dag.tasks
    return sorted(leaf for inner, its in tasks.items() for leaf in _leaves(spec, inner, its)) if tasks else [name]


def _replace(channel: Channel, tasks: Tasks, conditions: Conditions, problems: list[str]) -> None:
    """Put our parts in place of kfp.local's, where its modules look them up."""
    from kfp.local import executor_output_utils, graph_utils
    from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor, task_spec_utils
    from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

    def holds(tag: str, io_store: Any) -> bool:
        condition, depending, task = conditions[tag]
        values = OrchestratorUtils.make_task_arguments(task.inputs, io_store)
        try:
            held = evaluate(condition, values)
        except ConditionError as error:
            problems.append(str(error))
            raise
        if not held:
            channel.tell("skipped", tasks=depending)
        return held

    def scope(task_name: str, pipeline_resource_name: str) -> str:
        return f"{pipeline_resource_name}/{task_name}"

    def nested_arguments(task_spec: Any, io_store: Any, **_unused: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = OrchestratorUtils.make_task_arguments(task_spec.inputs, io_store)
        return arguments

    def dependencies(tasks: Any) -> dict[str, list[str]]:
        return {name: list(tasks[name].dependent_tasks) for name in sorted(tasks)}

    executor_output_utils.pb2_value_to_python = _to_python
    graph_utils.build_dependency_map = dependencies
    enhanced_dag_orchestrator.ConditionEvaluator.evaluate_condition = staticmethod(holds)
    enhanced_dag_orchestrator._run_parallel_for_task = _run_loop
    task_spec_utils.get_nested_pipeline_resource_name = scope
    task_spec_utils.build_nested_dag_arguments = nested_arguments
    task_executor.execute_single_task = tasks.execute


def _to_python(value: Any) -> Any:
    """A protobuf value; a number without a fraction is an integer, as it is for tasks on a cluster."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _to_python(item) for key, item in sorted(value.struct_value.fields.items())}
    if kind == "list_value":
        return [_to_python(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def _run_loop(task_name: str, task_spec: Any, io_store: Any, parallel_executor: Any, **context: Any) -> bool:
    """Run a `dsl.ParallelFor`: one iteration an item. Its outputs are lists, for `dsl.Collected`. True if it failed."""
    from kfp.local import status
    from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

    inputs = OrchestratorUtils.make_task_arguments(task_spec.inputs, io_store)
    of_artifacts = task_spec.WhichOneof("iterator") == "artifact_iterator"
    iterator = task_spec.artifact_iterator if of_artifacts else task_spec.parameter_iterator
    source = iterator.items.input_artifact if of_artifacts else iterator.items.input_parameter
    items = inputs[source] if source else json.loads(iterator.items.raw)
    if isinstance(items, str):
        items = json.loads(items)
    iterations = []
    for index, item in enumerate(items):
        one = type(task_spec)()
        one.CopyFrom(task_spec)
        one.ClearField("artifact_iterator" if of_artifacts else "parameter_iterator")
        name, place = f"{task_name}-iteration-{index}", f"{task_name}-item-{index}"
        io_store.put_parent_input(place, item)
        if of_artifacts:
            one.inputs.artifacts[iterator.item_input].component_input_artifact = place
        else:
            one.inputs.parameters[iterator.item_input].component_input_parameter = place
        iterations.append((name, one))
    made, ended = parallel_executor.execute_parallel_tasks(
        tasks=iterations,
        io_store=io_store,
        parallelism_limit=task_spec.iterator_policy.parallelism_limit,
        **context,
    )
    if ended == status.Status.FAILURE:
        return True
    for output in {key for outputs in made.values() for key in outputs}:
        io_store.put_task_output(task_name, output, [made[name].get(output) for name, _ in iterations])
    io_store.put_task_status(task_name, "SUCCEEDED")
    return False


def _listen() -> list[str]:
    """What kfp.local warns of while it goes on as if nothing was the matter."""
    problems: list[str] = []
    lock = threading.Lock()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if f"{os.sep}local{os.sep}" in record.pathname:
                with lock:
                    problems.append(record.getMessage())

    logging.getLogger().addHandler(Handler(logging.WARNING))
    return problems


def _is_artifact(value: Any) -> bool:
    from kfp import dsl

    return isinstance(value, dsl.Artifact) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dsl.Artifact)
    )
