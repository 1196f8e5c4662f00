"""The Argo workflow that a run is on a cluster, as the API server shows it in `run_details.task_details`.

A KFP task is several of Argo's nodes: a pod that drives (`train-driver`), a DAG around the work (`train`) and in it the
pod that works (`executor`). A group is a driver and a DAG; a loop is a DAG with `iteration-driver`, a group
`iteration-iterations`, and for each item `iteration-iterations(0:0)`, `iteration-item-driver` and `iteration-item`. All
of it hangs on a DAG with the workflow's own name that has `root-driver` and `root`. With KFP 2.17's configuration of
Argo each of these is a Retry node with one attempt, `train` and `train(0)`. The sources: tests/doubles/README.md.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import string
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .nodes import Json, Node, below, inner_of, outer_of

_GROUP = re.compile(r"(condition|condition-branches|exit-handler|for-loop)-\d+$")
_LOOP = re.compile(r"for-loop-\d+$")
_TRIED = re.compile(r"attempt \d+ failed \(.*\); retrying in ")


@dataclass
class Dag:
    """The tasks of one component, or of one iteration of it, on their way.

    Attributes:
        node: the node that their nodes are put under.
        ends: the nodes that end with it, from the inside out.
        heads: by task, the node whose end is the task's.
        inner: by task and iteration (-1 for none), what runs in it.
    """

    node: Node
    tasks: Mapping[str, Any]
    ends: list[Node]
    heads: dict[str, Node] = field(default_factory=dict)
    inner: dict[tuple[str, int], Dag] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A DAG as its driver sees it: the root, a group, a loop, or one iteration of a loop."""

    key: str
    parent: str
    task: str
    node: Node
    index: int | None = None
    count: int | None = None
    total: int = 0


class Workflow:
    """The nodes of a run.

    Args:
        spec: KFP's PipelineSpec.
        now: the server's clock, in seconds since 1970.
        retries: whether each pod and DAG is the attempt of a Retry node.
    """

    def __init__(self, spec: Mapping[str, Any], now: Callable[[], float], retries: bool = True) -> None:
        suffix = "".join(random.choices(string.ascii_lowercase + string.digits, k=5))
        self.name = f"{spec['pipelineInfo']['name']}-{suffix}"
        self.created = now()
        self._spec, self._now, self._retries, self._lock = spec, now, retries, threading.RLock()
        self._trails = dict(self._walk(spec["root"]["dag"], [], []))
        self.nodes: dict[str, Node] = {}
        self._root: Dag | None = None

    # What happens

    def begin(self) -> None:
        """The run starts: its first nodes."""
        with self._lock:
            top = self._add(None, self.name, "entrypoint", "DAG", "Running")
            driver = self._driver(top, "root", "system-dag-driver")
            root = self._add(top, "root", "root", "DAG", "Running", after=[driver])
            self._root = Dag(root, self._spec["root"]["dag"]["tasks"], [root, top])

    def started(self, label: str, waiting: bool = False) -> Node:
        """A task runs; the pod that does it. `waiting`: it has been created and does not start."""
        with self._lock:
            dag, task = self._place(label)
            self._end_before(dag, task)
            around, name = self._around(dag, task)
            template = f"{self._prefix(dag, task)}system-container-impl"
            if not dag.tasks[task].get("retryPolicy"):
                return self._add(around, name, template, "Pod", *_first(waiting))
            retry = self._add(around, name, template, "Retry", "Running")
            return self._add(retry, f"{name}(0)", template, "Pod", *_first(waiting), beside=around, attempt=True)

    def logged(self, label: str, line: str) -> None:
        """A task printed a line."""
        with self._lock:
            if not (pod := self._working(label)):
                return
            if _TRIED.match(line):
                pod.enter(self._now(), "Failed")
                retry = next(n for n in self.nodes.values() if n.kind == "Retry" and pod in n.children)
                base, _, _ = retry.name.rpartition(".")
                around = next(n for n in self.nodes.values() if n.name == base)
                name = f"{retry.display}({len(retry.children)})"
                self._add(retry, name, retry.template, "Pod", "Pending", "Running", beside=around, attempt=True)
            else:
                pod.log.add(line)

    def ended(self, label: str, phase: str, *, cached: bool = False, imported: bool = False) -> Node | None:
        """A task has ended; its pod. A cached one has none."""
        with self._lock:
            dag, task = self._place(label)
            if self.has(label):
                return None  # kept from an earlier attempt of the run
            pod = self._working(label)
            if imported:
                parent, before = self._hook(dag, task), self._before(dag, task)
                phases = ("Pending", "Running", "Succeeded")
                pod = dag.heads[task] = self._add(parent, task, "system-importer", "Pod", *phases, after=before)
            elif cached:
                around, name = self._around(dag, task)
                template = f"{self._prefix(dag, task)}system-container-impl"
                self._add(around, name, template, "Skipped", "Skipped")
                if not dag.heads[task].final:
                    dag.heads[task].enter(self._now(), "Succeeded")
            elif pod:
                pod.enter(self._now(), phase)
                head = dag.heads[task]
                for node in (*head.children, head):
                    if not node.final:
                        node.enter(self._now(), phase)
            self._settle(self._top)
            return pod

    def skipped(self, tasks: Sequence[str]) -> None:
        """A condition does not hold; the tasks in its group. In a loop it is told at the end of the iteration."""
        with self._lock:
            trails = [trail for trail in self._trails.values() if trail[-1] in tasks]
            if not trails or any(_LOOP.match(name) for trail in trails for name in trail):
                return
            shared = [names[0] for names in itertools.takewhile(lambda n: len(set(n)) == 1, zip(*trails))]
            shared = next((s for s in _prefixes(shared) if self._leaves(s) == set(tasks)), [])
            if not shared:
                return
            dag = self._top
            for name in shared[:-1]:
                dag = self._open(dag, name, -1)
            self._skip(dag, shared[-1])
            self._settle(self._top)

    def finish(self) -> bool:
        """Nothing runs any more: end what is open. Whether the run succeeded."""
        with self._lock:
            self._close(self._top)
            return self._top.ends[-1].phase == "Succeeded"

    def stop(self) -> None:
        """It was terminated: what is at work fails, and nothing more starts."""
        with self._lock:
            for node in self.nodes.values():
                if not node.final:
                    node.enter(self._now(), "Failed")

    def retry(self) -> None:
        """Keep what succeeded; the rest is as if it had not been."""
        with self._lock:
            self._reopen(self._top)
            kept = {id(node) for node in below(outer_of(self._top.ends[-1]))}
            self.nodes = {key: node for key, node in self.nodes.items() if id(node) in kept}
            for node in self.nodes.values():
                node.followers = [one for one in node.followers if id(one) in kept]

    # What is seen

    def details(self, run_id: str, at: float) -> list[Json]:
        """`task_details` at some moment, in the order of their ids."""
        with self._lock:
            nodes = sorted(self.nodes.values(), key=lambda node: node.id)
            found = [show(run_id, self.created, at) for node in nodes for show in (node.detail, node.published)]
            return sorted((detail for detail in found if detail), key=lambda detail: str(detail["task_id"]))

    def pod(self, name: str) -> Node | None:
        """A pod by its name or its node's id."""
        with self._lock:
            return next((n for n in self.nodes.values() if n.kind == "Pod" and name in (n.pod, n.id)), None)

    def work(self, label: str) -> list[Node]:
        """The nodes of a task that is work."""
        with self._lock:
            dag, task = self._place(label)
            return list(below(dag.heads[task])) if task in dag.heads else []

    def has(self, label: str) -> bool:
        """Whether a task has succeeded."""
        with self._lock:
            dag, task = self._place(label)
            return task in dag.heads and dag.heads[task].phase == "Succeeded"

    def groups(self) -> list[Group]:
        """The DAGs that have been entered, those around others first."""
        with self._lock:
            return list(self._groups(self._top, Group("root", "", "", self._top.node, total=len(self._top.tasks))))

    def group_of(self, label: str) -> str:
        """The key of the group that a task is in."""
        with self._lock:
            dag, _ = self._place(label)
            return next(group.key for group in self.groups() if group.node is dag.ends[0])

    # Inside

    def _groups(self, dag: Dag, around: Group) -> Iterator[Group]:
        yield around
        for task, head in dag.heads.items():
            if head.phase == "Skipped":
                yield Group(f"{around.key}/{task}", around.key, task, head)
        loops = set()
        for (task, index), inner in dag.inner.items():
            key, total = f"{around.key}/{task}", len(inner.tasks)
            if index < 0:
                yield from self._groups(inner, Group(key, around.key, task, inner.ends[0], total=total))
                continue
            if key not in loops:
                loops.add(key)
                count = _iterations(dag.tasks[task])
                yield Group(key, around.key, task, dag.heads[task], count=count if count >= 0 else None, total=total)
            yield from self._groups(inner, Group(f"{key}/{index}", key, task, inner.ends[0], index, total=total))

    @property
    def _top(self) -> Dag:
        assert self._root, "begin() first"
        return self._root

    def _walk(self, dag: Any, names: list[str], trail: list[str]) -> Iterator[tuple[str, list[str]]]:
        """The way to each task that is work, by the name that the worker calls it."""
        for name, task in dag["tasks"].items():
            component = self._component(task)
            if "dag" in component:
                inner = names if _GROUP.match(name) else [*names, name]
                yield from self._walk(component["dag"], inner, [*trail, name])
            else:
                yield "/".join([*names, name]), [*trail, name]

    def _leaves(self, way: Sequence[str]) -> set[str]:
        return {trail[-1] for trail in self._trails.values() if trail[: len(way)] == way}

    def _component(self, task: Any) -> Any:
        return self._spec["components"][task["componentRef"]["name"]]

    def _place(self, label: str) -> tuple[Dag, str]:
        """Where a task is; the groups around it are opened."""
        bare = re.sub(r"(\.\d+)+$", "", label)
        indices = iter([int(index) for index in label[len(bare) :].split(".")[1:]])
        *groups, task = self._trails[bare]
        dag = self._top
        for name in groups:
            dag = self._open(dag, name, next(indices) if _LOOP.match(name) else -1)
        return dag, task

    def _working(self, label: str) -> Node | None:
        """The pod of a task that is at work."""
        dag, task = self._place(label)
        pods = [n for n in below(dag.heads[task]) if n.kind == "Pod"] if task in dag.heads else []
        return pods[-1] if pods and not pods[-1].final else None

    def _open(self, dag: Dag, task: str, index: int) -> Dag:
        """The inside of a group, or of one iteration of a loop."""
        if found := dag.inner.get((task, index)):
            return found
        tasks = self._component(dag.tasks[task])["dag"]["tasks"]
        template = dag.tasks[task]["componentRef"]["name"]
        if task not in dag.heads or dag.heads[task].phase == "Omitted":
            self._end_before(dag, task)
            parent = self._hook(dag, task)
            before = self._before(dag, task)
            if index < 0:
                before = [self._driver(parent, task, "system-dag-driver", before)]
            loop = f"{template}-{task}-iterator" if index >= 0 else template
            dag.heads[task] = self._add(parent, task, loop, "DAG", "Running", after=before)
        head = dag.heads[task]
        if index < 0:
            inside = dag.inner[task, index] = Dag(head, tasks, [head])
            return inside
        if not head.children:
            driver = self._driver(head, "iteration", "system-dag-driver")
            group = f"{template}-iteration"
            self._add(head, "iteration-iterations", group, "TaskGroup", "Running", after=[driver])
        name = f"iteration-iterations({index}:{index})"
        one = self._add(head.children[-1], name, f"{template}-iteration", "DAG", "Running", beside=head)
        driver = self._driver(one, "iteration-item", "system-dag-driver")
        item = self._add(one, "iteration-item", template, "DAG", "Running", after=[driver])
        inside = dag.inner[task, index] = Dag(item, tasks, [item, one])
        return inside

    def _around(self, dag: Dag, task: str) -> tuple[Node, str]:
        """What a task's pod is put under, and the pod's name there. Its driver has run."""
        parent = self._hook(dag, task)
        dag.heads.pop(task, None)
        driver = self._driver(parent, task, "system-container-driver", self._before(dag, task))
        template = f"{self._prefix(dag, task)}system-container-executor"
        head = dag.heads[task] = self._add(parent, task, template, "DAG", "Running", after=[driver])
        return head, "executor"

    def _before(self, dag: Dag, task: str) -> list[Node]:
        """What a task comes after in its DAG; an exit task is in a hook, and comes after nothing there."""
        spec = dag.tasks[task]
        if spec.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
            return []
        return [outer_of(dag.heads[name]) for name in _dependencies(spec) if name in dag.heads]

    def _prefix(self, dag: Dag, task: str) -> str:
        return "retry-" if dag.tasks[task].get("retryPolicy") else ""

    def _hook(self, dag: Dag, task: str) -> Node:
        """What a task is put under: its DAG, or, for an exit task, the hook of the task that it waits for."""
        spec = dag.tasks[task]
        if spec.get("triggerPolicy", {}).get("strategy") != "ALL_UPSTREAM_TASKS_COMPLETED":
            return dag.node
        before = dag.heads[spec["dependentTasks"][0]]
        template = f"exit-hook-{dag.node.template}-{task}"
        waited = outer_of(before)
        found = next((child for child in waited.children if child.template == template), None)
        if found:
            return inner_of(found)
        return self._add(waited, f"{waited.display}.onExit", template, "DAG", "Running", beside=dag.node)

    def _driver(self, parent: Node, task: str, template: str, after: Sequence[Node] = ()) -> Node:
        """A driver that has run, as others see it."""
        phases = ("Pending", "Running", "Succeeded")
        node = self._add(parent, f"{task}-driver", template, "Pod", *phases, after=after)
        node.log.add(f"KFP driver of {task}")
        return outer_of(node)

    def _add(
        self,
        parent: Node | None,
        display: str,
        template: str,
        kind: str,
        *phases: str,
        beside: Node | None = None,
        attempt: bool = False,
        after: Sequence[Node] = (),
    ) -> Node:
        """One more node, and the Retry node that it is an attempt of, unless its parent is that.

        Those of a loop or a retry have names beside their parent's, not below it.
        """
        base = beside or parent
        name = f"{base.name}.{display}" if base else self.name
        if self._retries and not attempt and kind in ("Pod", "DAG"):
            retry = self._put(parent, Node(self.name, name, display, template, "Retry"))
            node = Node(self.name, f"{name}(0)", f"{display}(0)", template, kind, around=retry)
            parent = retry
        else:
            node = Node(self.name, name, display, template, kind)
        node.enter(self._now(), *phases)
        self._put(parent, node)
        outer_of(node).follow(after)
        return node

    def _put(self, parent: Node | None, node: Node) -> Node:
        self.nodes[node.id] = node
        if parent:
            parent.children = [child for child in parent.children if child.name != node.name] + [node]
        return node

    def _skip(self, dag: Dag, task: str) -> None:
        driver = self._driver(dag.node, task, "system-dag-driver", self._before(dag, task))
        template = dag.tasks[task]["componentRef"]["name"]
        dag.heads[task] = self._add(dag.node, task, template, "Skipped", "Skipped", after=[driver])

    def _end_before(self, dag: Dag, task: str) -> None:
        """A task starts, so what it waits for has ended: loops, whose number of iterations is not known before."""
        for before in _dependencies(dag.tasks[task]):
            for (name, _), inner in list(dag.inner.items()):
                if name == before:
                    self._close(inner)
            self._end_loop(dag, before)

    def _end_loop(self, dag: Dag, task: str) -> None:
        head = dag.heads.get(task)
        inner = [one for (name, _), one in dag.inner.items() if name == task]
        if head and inner and not head.final and all(one.ends[-1].final for one in inner):
            phase = _outcome([one.ends[-1] for one in inner])
            for node in (head.children[-1], head):
                if not node.final:
                    node.enter(self._now(), phase)

    def _settle(self, dag: Dag) -> None:
        """End the groups whose tasks have all ended, and omit the tasks that will not run."""
        for (task, index), inner in list(dag.inner.items()):
            self._settle(inner)
            iterations = [one for (name, _), one in dag.inner.items() if name == task]
            if index >= 0 and len(iterations) == _iterations(dag.tasks[task]):
                self._end_loop(dag, task)
        self._omit(dag)
        if all(task in dag.heads and dag.heads[task].final for task in dag.tasks):
            self._end(dag)

    def _close(self, dag: Dag) -> None:
        """End it as it is: what has not run by now will not."""
        for inner in list(dag.inner.values()):
            self._close(inner)
        for task in {name for name, index in dag.inner if index >= 0}:
            self._end_loop(dag, task)
        self._omit(dag)
        for task, spec in dag.tasks.items():
            ready = all(dag.heads.get(b) and dag.heads[b].phase == "Succeeded" for b in _dependencies(spec))
            if task not in dag.heads and ready and spec.get("triggerPolicy", {}).get("condition"):
                self._skip(dag, task)
        self._end(dag)

    def _end(self, dag: Dag) -> None:
        phase = _outcome(list(dag.heads.values()))
        children = [child for head in dag.heads.values() for child in outer_of(head).children]
        hooks = [inner_of(child) for child in children if child.display.endswith(".onExit")]
        for node in (*hooks, *dag.ends):
            if not node.final:
                node.enter(self._now(), _outcome(node.children) if node in hooks else phase)

    def _omit(self, dag: Dag) -> None:
        changed = True
        while changed:
            changed = False
            for task, spec in dag.tasks.items():
                if task in dag.heads or spec.get("triggerPolicy", {}).get("strategy"):
                    continue
                before = [dag.heads[name] for name in _dependencies(spec) if name in dag.heads]
                if any(head.final and head.phase != "Succeeded" for head in before):
                    template, after = spec["componentRef"]["name"], self._before(dag, task)
                    if self._has_driver(spec):
                        name = f"{task}-driver"
                        after = [self._add(dag.node, name, template, "Skipped", "Omitted", after=after)]
                    dag.heads[task] = self._add(dag.node, task, template, "Skipped", "Omitted", after=after)
                    changed = True

    def _has_driver(self, task: Any) -> bool:
        """Whether a task has a driver in its DAG: a loop has it inside, an importer has none."""
        component = self._component(task)
        executors = self._spec.get("deploymentSpec", {}).get("executors", {})
        imports = "importer" in executors.get(component.get("executorLabel", ""), {})
        return not imports and not ("parameterIterator" in task or "artifactIterator" in task)

    def _reopen(self, dag: Dag) -> None:
        now = self._now()
        for task, head in list(dag.heads.items()):
            inner = {key: one for key, one in dag.inner.items() if key[0] == task}
            if dag.tasks[task].get("triggerPolicy", {}).get("strategy"):
                del dag.heads[task]  # an exit task runs at the end of each attempt
                continue
            if head.phase in ("Succeeded", "Skipped"):
                continue
            if not inner:
                del dag.heads[task]
                drivers = (f"{task}-driver", f"{task}.onExit")
                dag.node.children = [
                    c for c in dag.node.children if c is not outer_of(head) and c.display not in drivers
                ]
                continue
            for one in inner.values():
                if one.ends[-1].phase != "Succeeded":
                    self._reopen(one)
            outer_of(head).children = [c for c in outer_of(head).children if not c.display.endswith(".onExit")]
            for node in (head, *(c for c in head.children if c.kind == "TaskGroup")):
                node.enter(now, "Running")
        for node in dag.ends:
            node.enter(now, "Running")


def _prefixes(names: list[str]) -> Iterator[list[str]]:
    return (names[:length] for length in range(1, len(names) + 1))


def _first(waiting: bool) -> tuple[str, ...]:
    return ("Pending",) if waiting else ("Pending", "Running")


def _outcome(nodes: Sequence[Node]) -> str:
    return "Failed" if any(node.phase in ("Failed", "Error") for node in nodes) else "Succeeded"


def _dependencies(task: Any) -> list[str]:
    """What a task waits for: said so, or by taking its outputs."""
    inputs = task.get("inputs", {})
    sources = [*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()]
    taken = [source.get("taskOutputParameter") or source.get("taskOutputArtifact") for source in sources]
    return list(dict.fromkeys([*task.get("dependentTasks", []), *(t["producerTask"] for t in taken if t)]))


def _iterations(task: Any) -> int:
    """How many iterations a loop has when the pipeline says it; -1 when a task does."""
    iterator = task.get("parameterIterator") or task.get("artifactIterator") or {}
    raw = iterator.get("items", {}).get("raw")
    return len(json.loads(raw)) if raw else -1
