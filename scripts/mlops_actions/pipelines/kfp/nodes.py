"""The tasks of a run, out of what KFP's API shows of its workflow.

`task_details` are Argo's nodes, not tasks: a task `train` is a pod `train-driver`, a DAG `train` and in it `executor`
(with retries `executor(0)`, `executor(1)`, …; skipped when KFP has the result already). A group, which is a nested
pipeline, a condition or an exit handler, is a driver and a DAG as well. A loop is a DAG with `iteration-driver` and
`iteration-iterations`, and for each item `iteration-iterations(0:0)` with `iteration-item-driver` and `iteration-item`.
All hangs on `root-driver` and `root`, below the workflow's own node. On newer servers, as for importers on all, a task
may be a single pod that drives and works.
Source: backend/src/v2/compiler/argocompiler/dag.go and backend/src/common/util/workflow.go of kubeflow/pipelines.

A node says neither which DAG it is in nor which iteration. Its children are what comes next: what is inside it, but
also what waits for it, further out. So the nodes are walked along with the pipeline's spec, which tells the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..labels import label

TaskState = Literal["waiting", "running", "succeeded", "reused", "failed", "skipped"]
ENDED: tuple[TaskState, ...] = ("succeeded", "reused", "failed", "skipped")
_FAILED = ("FAILED", "CANCELED")
_NUMBERED = re.compile(r"\((\d+)(?::.*)?\)$")  # what Argo adds to names of iterations and attempts

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

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.began) if self.began and self.ended else 0.0


def tasks_of(spec: Json, details: Sequence[Json]) -> list[Task]:
    """The tasks that have begun, are about to, or were skipped, in the order of their beginning.

    Args:
        spec: the PipelineSpec.
        details: the run's `task_details`, in any order; what is there twice, or has no name, does no harm.
    """
    walk = _Walk(spec, details)
    walk.go()
    in_order = sorted(walk.parts.values(), key=_scheduled)  # of one second: as they were walked, along the graph
    return [task for parts in in_order for task in _tasks(spec, parts)]


def seconds_since_1970(time: object) -> float:
    """A time of the API; 0 for none, which Go writes as the year 1 and KFP's database as 1970."""
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d+)?Z$", "+00:00", str(time or "")))
        return max(0.0, found.timestamp())
    except (ValueError, OverflowError):
        return 0.0


@dataclass(frozen=True)
class _Scope:
    """The inside of a DAG: of the pipeline, a group, or one iteration of a loop.

    Attributes:
        dag: in the spec.
        path: the names of the groups around, with `-iteration-<n>` for iterations, as `running.label` takes them.
        outer: what it is in.
        loop: the task whose iterations are walked here, if this is a loop itself.
    """

    dag: Json
    path: tuple[str, ...] = ()
    outer: _Scope | None = None
    loop: str = ""

    def of(self, name: str) -> _Scope | None:
        """The innermost scope that has a task of the name."""
        return self if name in self.dag.get("tasks", {}) and not self.loop else self.outer and self.outer.of(name)

    def of_loop(self) -> _Scope | None:
        """The innermost loop."""
        return self if self.loop else self.outer and self.outer.of_loop()


@dataclass
class _Parts:
    """The nodes of one task."""

    scope: _Scope
    name: str
    driver: Json | None = None
    head: Json | None = None
    pods: list[Json] = field(default_factory=list)


class _Walk:
    """From node to node, with the scope that each is in."""

    def __init__(self, spec: Json, details: Sequence[Json]) -> None:
        self._components = spec.get("components", {})
        self._root = _Scope(spec["root"]["dag"])
        self._nodes = {_key(detail["pod_name"]): detail for detail in details if detail.get("pod_name")}
        self.parts: dict[tuple[tuple[str, ...], str], _Parts] = {}

    def go(self) -> None:
        """Fill `parts`. Some nodes may not be there yet, and those that hang on them are left for the next time."""
        children = {_key(child) for detail in self._nodes.values() for child in _children(detail)}
        todo: list[tuple[str, _Scope, _Parts | None]] = [
            (key, self._root, None) for key in self._nodes if key not in children
        ]
        seen: set[str] = set()
        while todo:
            key, scope, parts = todo.pop()
            if key in seen or key not in self._nodes:
                continue
            seen.add(key)
            detail = self._nodes[key]
            scope, parts = self._enter(detail, scope, parts)
            todo += [(_key(child), scope, parts) for child in reversed(list(_children(detail)))]

    def _enter(self, detail: Json, scope: _Scope, parts: _Parts | None) -> tuple[_Scope, _Parts | None]:
        """Where a node's children are: their scope, and the task whose pods they may be."""
        name = str(detail.get("display_name", ""))
        bare, number = _NUMBERED.sub("", name), _NUMBERED.search(name)
        if bare == "executor" and parts:
            parts.pods.append(detail)
            return scope, parts
        loop = scope.of_loop()
        if loop and bare == "iteration-iterations" and number:
            return self._iteration(loop, int(number[1])), None
        if loop and bare in ("iteration-item", "iteration-item-driver") and scope.of(bare) is None:
            return self._item(bare, detail, scope)
        if number and (found := scope.of(bare)):
            attempts = self._of(found, bare)
            attempts.pods.append(detail)
            return found, attempts
        if found := self._place(scope, bare, "head"):
            return self._head(found, bare, detail)
        task = bare.removesuffix("-driver")
        if task != bare and (found := self._place(scope, task, "driver")):
            parts = self._of(found, task)
            parts.driver = parts.driver or detail
            return found, None
        return scope, None  # the workflow itself, root, hooks of exit handlers, drivers of loops

    def _place(self, scope: _Scope | None, name: str, part: str) -> _Scope | None:
        """The scope of a task: the innermost that has one of the name, whose node is not another one already."""
        first = scope = scope and scope.of(name)
        while scope and getattr(self.parts.get((scope.path, name)), part, None) is not None:
            scope = scope.outer and scope.outer.of(name)
        return scope or first

    def _head(self, scope: _Scope, name: str, detail: Json) -> tuple[_Scope, _Parts | None]:
        parts = self._of(scope, name)
        parts.head = parts.head or detail
        task = scope.dag["tasks"][name]
        component = self._component(task)
        if _is_loop(task):
            return _Scope(scope.dag, scope.path, scope, loop=name), None
        if "dag" in component:
            return _Scope(component["dag"], (*scope.path, name), scope), None
        return scope, parts

    def _iteration(self, loop: _Scope, index: int) -> _Scope:
        """The inside of one iteration."""
        component = self._component(loop.dag["tasks"][loop.loop])
        return _Scope(component.get("dag", {}), (*loop.path, f"{loop.loop}-iteration-{index}"), loop)

    def _item(self, bare: str, detail: Json, scope: _Scope) -> tuple[_Scope, _Parts | None]:
        """What an iteration runs: the component's DAG, or the component itself."""
        if bare != "iteration-item" or scope.dag.get("tasks"):
            return scope, None
        assert scope.outer is not None
        parts = self._of(scope, scope.outer.loop)
        parts.head = detail
        return scope, parts

    def _of(self, scope: _Scope, name: str) -> _Parts:
        return self.parts.setdefault((scope.path, name), _Parts(scope, name))

    def _component(self, task: Json) -> Json:
        found: Json = self._components.get(task["componentRef"]["name"], {})
        return found


def _tasks(spec: Json, parts: _Parts) -> Iterator[Task]:
    """The task that nodes belong to; for a group that was skipped, the tasks in it."""
    components = spec.get("components", {})
    task = parts.scope.dag.get("tasks", {}).get(parts.name, {})
    component = components.get(task.get("componentRef", {}).get("name"), {})
    if "dag" in component:
        if parts.head is not None and _state(parts.head) == "SKIPPED":
            inside = parts.scope.path if _is_loop(task) else (*parts.scope.path, parts.name)
            for path, name, inner in _leaves(components, component["dag"], inside):
                yield Task(label("/".join(path), name), "skipped", str(inner.get("executorLabel", "")))
        elif parts.driver is not None and _state(parts.driver) in _FAILED:
            yield _task(parts, component)
        return
    yield _task(parts, component)


def _task(parts: _Parts, component: Json) -> Task:
    pods = [pod for pod in parts.pods if _NUMBERED.search(str(pod["display_name"]))] or parts.pods
    pods.sort(key=lambda pod: (_attempt(pod), seconds_since_1970(pod.get("start_time"))))
    whole = parts.head or parts.driver
    assert whole is not None
    state = _state_of(parts, pods)
    is_pod = parts.head is not None and not pods and parts.driver is None  # an importer
    worked = pods or ([whole] if is_pod or state == "failed" else [])
    began = [seconds for pod in worked if (seconds := _began(pod))]
    last = worked[-1] if worked else whole
    failing = next((node for node in (last, parts.head, parts.driver) if node and _message(node)), last)
    return Task(
        label("/".join(parts.scope.path), parts.name),
        state,
        str(component.get("executorLabel", "")),
        str(last["pod_name"]) if worked else "",
        tuple(str(pod["pod_name"]) for pod in worked[:-1] if _state(pod) in _FAILED),
        min(began, default=0.0),
        seconds_since_1970(last.get("end_time")) if state in ENDED else 0.0,
        _message(failing),
        tuple(_told(entry) for entry in last.get("state_history") or []),
    )


def _state_of(parts: _Parts, pods: Sequence[Json]) -> TaskState:
    if parts.head is None:
        return "failed" if _state(parts.driver or {}) in _FAILED else "waiting"
    head = _state(parts.head)
    if head == "SUCCEEDED":
        return "reused" if pods and all(_state(pod) == "SKIPPED" for pod in pods) else "succeeded"
    if head in _FAILED:
        return "failed"
    if head == "SKIPPED":
        return "skipped"
    at_work = [_state(pod) for pod in pods] or ([head] if parts.driver is None else [])
    return "running" if any(state in ("RUNNING", "SUCCEEDED", *_FAILED) for state in at_work) else "waiting"


def _scheduled(parts: _Parts) -> float:
    first = parts.driver or parts.head or {}
    return seconds_since_1970(first.get("start_time")) or float("inf")


def _leaves(components: Json, dag: Json, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Json]]:
    """Every task in a DAG that is no group."""
    for name, task in dag.get("tasks", {}).items():
        component = components.get(task["componentRef"]["name"], {})
        if "dag" in component:
            yield from _leaves(components, component["dag"], path if _is_loop(task) else (*path, name))
        else:
            yield path, name, component


def _is_loop(task: Json) -> bool:
    return "parameterIterator" in task or "artifactIterator" in task


def _key(name: str) -> str:
    """What a node's id and its pod's name have in common: Argo's hash, at the end."""
    return str(name).rpartition("-")[2]


def _children(detail: Json) -> Iterator[str]:
    for child in detail.get("child_tasks") or []:
        if name := child.get("pod_name") or child.get("task_id"):
            yield str(name)


def _state(detail: Json) -> str:
    return str(detail.get("state", ""))


def _attempt(pod: Json) -> int:
    found = _NUMBERED.search(str(pod.get("display_name", "")))
    return int(found[1]) if found else 0


def _began(pod: Json) -> float:
    """When a pod began to run; waiting for a machine or an image is not counted, where the history tells it."""
    running = [e.get("update_time") for e in pod.get("state_history") or [] if e.get("state") == "RUNNING"]
    return seconds_since_1970(running[0] if running else pod.get("start_time"))


def _message(detail: Json) -> str:
    return str((detail.get("error") or {}).get("message", ""))


def _told(entry: Json) -> str:
    message = str((entry.get("error") or {}).get("message", ""))
    time = str(entry.get("update_time", ""))[11:19]  # of 2026-01-31T12:00:00Z
    return f"{entry.get('state', '')} {time}" + (f" ({message})" if message else "")
