"""The tasks of a run, out of what KFP's API shows of the nodes of its workflow; `argo` has how those are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...labels import label
from .argo import ITERATION, Nodes, executor_template, pod_name, seconds_since_1970

TaskState = Literal["waiting", "running", "succeeded", "reused", "failed", "skipped"]
ENDED: tuple[TaskState, ...] = ("succeeded", "reused", "failed", "skipped")
_FAILED = ("FAILED", "CANCELED")

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A task of a run, as it is at some moment.

    Attributes:
        label: its name, after the names of the pipelines it is nested in, before the indices of its loops.
        state: how far it is.
        executor: label of its executor in the spec.
        pod: that works or worked on it, the last one; "" if there is none yet.
        failed_pods: of earlier attempts.
        began, ended: seconds since 1970 by the server's clock, which counts whole seconds; 0 when it did not.
        message: what KFP says of its failure.
        history: its states with their times of day (UTC), as KFP tells them.
        retries: how often the pipeline lets it be tried again (`set_retry`).
    """

    label: str
    state: TaskState
    executor: str = ""
    pod: str = ""
    failed_pods: tuple[str, ...] = ()
    began: float = 0.0
    ended: float = 0.0
    message: str = ""
    history: tuple[str, ...] = ()
    retries: int = 0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.began) if self.began and self.ended else 0.0


def tasks_of(spec: Json, details: Sequence[Json], platforms: Json | None = None) -> list[Task]:
    """The tasks that have begun, are about to, or were skipped, in the order of their beginning.

    Args:
        spec: the PipelineSpec.
        details: the run's `task_details`, in any order; what is there twice, or has no name, does no harm.
        platforms: the pipeline's settings for platforms, on which the names of pods depend.
    """
    nodes = Nodes(details)
    found = list(_Walk(spec, nodes).parts()) if nodes.workflow else []
    found.sort(key=lambda parts: parts.scheduled(nodes))  # of one second: as they were walked, along the graph
    settings = ((platforms or {}).get("kubernetes") or {}).get("deploymentSpec", {}).get("executors", {})
    return [task for parts in found for task in _tasks(spec, nodes, parts, settings)]


@dataclass(frozen=True)
class _Parts:
    """The nodes of a task or a group, by their full names.

    Attributes:
        path: the names of the groups around, with `-iteration-<n>` for iterations, as `running.label` takes them.
        name: of the task.
        task: its PipelineTaskSpec.
        component: its ComponentSpec.
        driver: that was asked what to do; "" when it has none.
        head: whose end is the task's.
        pods: that work or worked, in the order of the attempts.
    """

    path: tuple[str, ...]
    name: str
    task: Json
    component: Json
    driver: str
    head: str
    drivers: Sequence[str] = ()
    pods: Sequence[str] = ()
    executors: Sequence[str] = field(default=())

    def scheduled(self, nodes: Nodes) -> float:
        """When it was."""
        first = nodes.row(self.driver) or nodes.row(self.head)
        return seconds_since_1970(first.get("start_time")) or float("inf")


class _Walk:
    """Along the pipeline's spec, from the outside in."""

    def __init__(self, spec: Json, nodes: Nodes) -> None:
        self._spec, self._nodes = spec, nodes
        self._components = spec.get("components", {})

    def parts(self) -> Iterator[_Parts]:
        """Of every task that has nodes, and of every group that has a driver."""
        for top in self._nodes.attempts(self._nodes.workflow)[-1:]:
            root = {"dag": self._spec["root"]["dag"]}
            yield from self._task(f"{top}.root", "root", {}, root, (), inside=())

    def _dag(self, around: str, dag: Json, path: tuple[str, ...]) -> Iterator[_Parts]:
        for name, task in dag.get("tasks", {}).items():
            component = self._components.get(task.get("componentRef", {}).get("name"), {})
            for place in self._places(around, task):
                if _is_loop(task):
                    yield from self._loop(f"{place}.{name}", name, task, component, path)
                else:
                    yield from self._task(f"{place}.{name}", name, task, component, path, (*path, name))

    def _places(self, around: str, task: Json) -> list[str]:
        """What a task's nodes are in: its DAG; for an exit task, the hook of a task that it waits for."""
        if task.get("triggerPolicy", {}).get("strategy") != "ALL_UPSTREAM_TASKS_COMPLETED":
            return [around]
        hooks = [self._nodes.attempts(f"{around}.{before}.onExit") for before in task.get("dependentTasks", [])]
        return [attempts[-1] for attempts in hooks if attempts]

    def _task(
        self, node: str, name: str, task: Json, component: Json, path: tuple[str, ...], inside: tuple[str, ...]
    ) -> Iterator[_Parts]:
        nodes = self._nodes
        drivers, heads = nodes.attempts(f"{node}-driver"), nodes.attempts(node)
        driver = f"{node}-driver" if drivers else ""
        if "dag" in component:
            yield _Parts(path, name, task, component, driver, node, drivers)
            for head in heads[-1:]:
                yield from self._dag(head, component["dag"], inside)
        elif drivers or heads:
            executors = [f"{head}.executor" for head in heads]
            pods = [pod for executor in executors for pod in nodes.attempts(executor)]
            yield _Parts(
                path, name, task, component, driver, node, drivers, pods or ([] if driver else heads), executors
            )

    def _loop(self, node: str, name: str, task: Json, component: Json, path: tuple[str, ...]) -> Iterator[_Parts]:
        for head in self._nodes.attempts(node)[-1:]:
            if drivers := self._nodes.attempts(f"{head}.iteration-driver"):
                group = {"dag": component.get("dag", {})}
                yield _Parts(path, name, task, group, f"{head}.iteration-driver", node, drivers)
            self._nodes.has(f"{head}.iteration-iterations")
            for index, one in enumerate(self._nodes.iterations(head)):
                item = (*path, f"{name}-iteration-{index}")
                for inner in self._nodes.attempts(one)[-1:]:
                    yield from self._task(f"{inner}.{ITERATION}", name, task, component, item, item)


def _tasks(spec: Json, nodes: Nodes, parts: _Parts, settings: Json) -> Iterator[Task]:
    """The task that nodes belong to; for a group that was skipped, the tasks in it."""
    if "dag" not in parts.component:
        if task := _task(nodes, parts, settings):
            yield task
    elif _state(nodes.row(parts.driver)) in _FAILED:
        yield _failed_driver(nodes, parts, "system-dag-driver")
    elif _state(nodes.row(parts.head)) == "SKIPPED":
        inside = parts.path if _is_loop(parts.task) else (*parts.path, parts.name)
        for path, name, inner in _leaves(spec.get("components", {}), parts.component["dag"], inside):
            yield Task(label("/".join(path), name), "skipped", str(inner.get("executorLabel", "")))


def _task(nodes: Nodes, parts: _Parts, settings: Json) -> Task | None:
    """A task that is not a group; None for one that will not run, because something before it failed."""
    head, pods = nodes.row(parts.head), [nodes.row(pod) for pod in parts.pods]
    if parts.driver and _state(nodes.row(parts.driver)) in _FAILED:
        return _failed_driver(nodes, parts, "system-container-driver")
    state = _state_of(nodes, parts)
    if state == "waiting" and head and not _state(head) and seconds_since_1970(head.get("end_time")):
        return None
    executor = str(parts.component.get("executorLabel", ""))
    template = executor_template(parts.task, settings.get(executor, {})) if parts.executors else "system-importer"
    names = (
        [pod_name(nodes.workflow, template, pod) for pod in parts.pods] if state not in ("reused", "skipped") else []
    )
    last = pods[-1] if pods else {}
    began = [seconds for pod in pods if (seconds := _began(pod))]
    return Task(
        label("/".join(parts.path), parts.name),
        state,
        executor,
        names[-1] if names else "",
        tuple(names[:-1]),
        min(began, default=0.0),
        seconds_since_1970((last or head).get("end_time")) if state in ENDED else 0.0,
        _message(last) or _message(head),
        tuple(_told(entry) for entry in last.get("state_history") or []),
        int(parts.task.get("retryPolicy", {}).get("maxRetryCount", 0)),
    )


def _failed_driver(nodes: Nodes, parts: _Parts, template: str) -> Task:
    row, names = nodes.row(parts.drivers[-1]), [pod_name(nodes.workflow, template, pod) for pod in parts.drivers]
    return Task(
        label("/".join(parts.path), parts.name),
        "failed",
        str(parts.component.get("executorLabel", "")),
        names[-1],
        tuple(names[:-1]),
        _began(row),
        seconds_since_1970(row.get("end_time")),
        _message(row) or _message(nodes.row(parts.driver)),
        tuple(_told(entry) for entry in row.get("state_history") or []),
    )


def _state_of(nodes: Nodes, parts: _Parts) -> TaskState:
    head = _state(nodes.row(parts.head))
    if head == "SUCCEEDED":
        executors = [_state(nodes.row(executor)) for executor in parts.executors if nodes.has(executor)]
        return "reused" if executors and set(executors) == {"SKIPPED"} else "succeeded"
    if head in _FAILED:
        return "failed"
    if head == "SKIPPED":
        return "skipped"
    at_work = [_state(nodes.row(pod)) for pod in parts.pods]
    return "running" if any(state in ("RUNNING", "SUCCEEDED", *_FAILED) for state in at_work) else "waiting"


def _leaves(components: Json, dag: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Json]]:
    """Every task in a DAG that is not a group."""
    for name, task in dag.get("tasks", {}).items():
        component = components.get(task["componentRef"]["name"], {})
        if "dag" in component:
            yield from _leaves(components, component["dag"], path if _is_loop(task) else (*path, name))
        else:
            yield path, name, component


def _is_loop(task: Json) -> bool:
    return "parameterIterator" in task or "artifactIterator" in task


def _state(row: Json) -> str:
    return str(row.get("state", ""))


def _began(row: Json) -> float:
    """When a pod began to run; waiting for a machine or an image is not counted, where the history tells it.

    The times of the history are those at which KFP noticed, which may be after the end.
    """
    start, end = (seconds_since_1970(row.get(name)) for name in ("start_time", "end_time"))
    noticed = [e.get("update_time") for e in row.get("state_history") or [] if e.get("state") == "RUNNING"]
    running = seconds_since_1970(noticed[-1]) if noticed else 0.0
    return running if running and (not end or running < end) else start


def _message(row: Json) -> str:
    return str((row.get("error") or {}).get("message", ""))


def _told(entry: Json) -> str:
    message = str((entry.get("error") or {}).get("message", ""))
    time = str(entry.get("update_time", ""))[11:19]  # of 2026-01-31T12:00:00Z
    return f"{entry.get('state', '')} {time}" + (f" ({message})" if message else "")
