"""Tasks out of Argo's nodes, with the edges that Argo draws: what waits for a task hangs on what ended it.

`test_kfp_recorded.py` has a real server's nodes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from mlops_actions.pipelines.kfp.run.argo import (
    executor_template,
    hash_of,
    label_of,
    pod_name,
    seconds_since_1970,
    workflow_of,
)
from mlops_actions.pipelines.kfp.run.nodes import tasks_of

Json = dict[str, Any]
CONTAINER = {"executorLabel": "exec"}


def _task(component: str, **more: Any) -> Json:
    return {"componentRef": {"name": component}, **more}


def _spec(tasks: Json, **components: Any) -> Json:
    return {
        "pipelineInfo": {"name": "p"},
        "root": {"dag": {"tasks": tasks}},
        "components": {"c": CONTAINER, **components},
    }


class Graph:
    """`task_details` of a server whose nodes are not tried again; a node is given once with its state, by its path."""

    def __init__(self) -> None:
        self._nodes: dict[str, Json] = {}
        self.add("", "RUNNING")

    def add(self, path: str, state: str, *after: str, second: int = 0, **more: Any) -> Graph:
        ended = state in ("SUCCEEDED", "FAILED", "SKIPPED")
        self._nodes[path] = {
            "task_id": f"id of {path}",
            "display_name": path.rpartition("/")[2] or "p-x7k2p",
            "state": state,
            "start_time": f"2026-01-01T00:00:{second:02d}Z",
            "end_time": f"2026-01-01T00:00:{second + 5:02d}Z" if ended else "0001-01-01T00:00:00Z",
            **more,
        }
        inside = "" if path in ("root", "root-driver") else "root."
        child = {"pod_name": f"p-x7k2p-{hash_of(f'p-x7k2p.{inside}' + path.replace('/', '.'))}"}
        for one in after:
            self._nodes[one].setdefault("child_tasks", []).append(child)
        return self

    def container(self, path: str, *after: str, state: str = "SUCCEEDED", second: int = 0) -> Graph:
        """A task: its driver, its DAG and its executor."""
        self.add(f"{path}-driver", "SUCCEEDED", *after, second=second)
        self.add(path, state, f"{path}-driver", second=second)
        return self.add(f"{path}/executor", state, path, second=second)

    @property
    def details(self) -> list[Json]:
        return list(self._nodes.values())


def _rooted() -> Graph:
    return Graph().add("root-driver", "SUCCEEDED", "").add("root", "RUNNING", "root-driver")


def _states(spec: Json, graph: Graph) -> dict[str, str]:
    return {task.label: task.state for task in tasks_of(spec, graph.details)}


def test_what_waits_for_a_task_is_no_part_of_it() -> None:
    spec = _spec({"a": _task("c"), "b": _task("c", dependentTasks=["a"]), "d": _task("c", dependentTasks=["b"])})
    graph = _rooted().container("a", "root").container("b", "a/executor", state="RUNNING", second=9)
    assert _states(spec, graph) == {"a": "succeeded", "b": "running"}
    graph.container("d", "b/executor", state="PENDING", second=14)
    assert _states(spec, graph)["d"] == "waiting"


def test_a_task_after_a_nested_pipeline_with_tasks_of_the_same_name_is_the_outer_one() -> None:
    nested = {"dag": {"tasks": {"train": _task("c")}}}
    spec = _spec({"n": _task("n"), "train": _task("c", dependentTasks=["n"])}, n=nested)
    graph = _rooted().add("n-driver", "SUCCEEDED", "root").add("n", "SUCCEEDED", "n-driver")
    graph.container("n/train", "n").container("train", "n/train/executor", state="RUNNING", second=7)
    assert _states(spec, graph) == {"n/train": "succeeded", "train": "running"}


def test_iterations_are_told_apart_also_in_loops_of_loops() -> None:
    loop = {"items": {"raw": "[1,2]"}}
    inner = {"dag": {"tasks": {"t": _task("c")}}}
    outer = {"dag": {"tasks": {"for-loop-2": _task("inner", parameterIterator=loop)}}}
    spec = _spec(
        {"for-loop-1": _task("outer", parameterIterator=loop), "z": _task("c", dependentTasks=["for-loop-1"])},
        inner=inner,
        outer=outer,
    )
    graph = _rooted()

    def iterate(path: str, above: str) -> list[str]:
        graph.add(path, "SUCCEEDED", above).add(f"{path}/iteration-driver", "SUCCEEDED", path)
        graph.add(f"{path}/iteration-iterations", "SUCCEEDED", f"{path}/iteration-driver")
        items = []
        for i in (0, 1):
            one = f"{path}/iteration-iterations({i}:{i})"
            graph.add(one, "SUCCEEDED", f"{path}/iteration-iterations")
            graph.add(f"{one}/iteration-item-driver", "SUCCEEDED", one)
            graph.add(f"{one}/iteration-item", "SUCCEEDED", f"{one}/iteration-item-driver")
            items.append(f"{one}/iteration-item")
        return items

    last = ""
    for item in iterate("for-loop-1", "root"):
        for leaf in iterate(f"{item}/for-loop-2", item):
            graph.container(f"{leaf}/t", leaf)
            last = f"{leaf}/t/executor"
    graph.container("z", last)
    assert set(_states(spec, graph)) == {"t.0.0", "t.0.1", "t.1.0", "t.1.1", "z"}


def test_attempts_of_a_task_are_one_task() -> None:
    spec = _spec({"a": _task("c")})
    graph = _rooted().add("a-driver", "SUCCEEDED", "root").add("a", "RUNNING", "a-driver")
    graph.add("a/executor", "RUNNING", "a").add("a/executor(0)", "FAILED", "a/executor", second=1)
    graph.add("a/executor(1)", "RUNNING", "a/executor", second=9)
    (task,) = tasks_of(spec, graph.details)
    assert (task.state, len(task.failed_pods)) == ("running", 1)
    assert task.pod not in task.failed_pods


def test_a_task_whose_executor_was_skipped_is_reused_and_one_that_was_skipped_is_not() -> None:
    spec = _spec({"a": _task("c"), "b": _task("c")})
    graph = _rooted().add("a-driver", "SUCCEEDED", "root").add("a", "SUCCEEDED", "a-driver")
    graph.add("a/executor", "SKIPPED", "a").add("b-driver", "SUCCEEDED", "root").add("b", "SKIPPED", "b-driver")
    assert _states(spec, graph) == {"a": "reused", "b": "skipped"}


def test_every_task_of_a_group_that_was_skipped_is_skipped() -> None:
    group = {"dag": {"tasks": {"x": _task("c"), "condition-2": _task("inner")}}}
    spec = _spec({"condition-1": _task("g")}, g=group, inner={"dag": {"tasks": {"y": _task("c")}}})
    graph = _rooted().add("condition-1-driver", "SUCCEEDED", "root").add("condition-1", "SKIPPED", "condition-1-driver")
    assert _states(spec, graph) == {"x": "skipped", "y": "skipped"}


@pytest.mark.parametrize("numbered", [False, True], ids=["pod", "retried"])
def test_a_driver_that_failed_is_its_tasks_failure(numbered: bool) -> None:
    spec = _spec({"a": _task("c")})
    graph = _rooted().add("a-driver", "FAILED", "root", error={"code": 2, "message": "no such secret"})
    if numbered:
        graph.add("a-driver(0)", "FAILED", "a-driver")
    (task,) = tasks_of(spec, graph.details)
    assert (task.label, task.state, task.message) == ("a", "failed", "no such secret")
    assert task.pod


def test_importers_are_single_pods() -> None:
    assert _states(_spec({"i": _task("c")}), _rooted().add("i", "RUNNING", "root")) == {"i": "running"}


def test_an_exit_task_hangs_on_a_hook() -> None:
    policy = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    last = _task("c", dependentTasks=["exit-handler-1"], triggerPolicy=policy)
    spec = _spec({"exit-handler-1": _task("g"), "last": last}, g={"dag": {"tasks": {"a": _task("c")}}})
    graph = _rooted().add("exit-handler-1-driver", "SUCCEEDED", "root")
    graph.add("exit-handler-1", "FAILED", "exit-handler-1-driver").container(
        "exit-handler-1/a", "exit-handler-1", state="FAILED"
    )
    graph.add("exit-handler-1.onExit", "RUNNING", "exit-handler-1")
    graph.container("exit-handler-1.onExit/last", "exit-handler-1.onExit")
    assert _states(spec, graph) == {"a": "failed", "last": "succeeded"}


def test_order_duplicates_missing_names_and_missing_nodes_do_no_harm() -> None:
    spec = _spec({name: _task("c") for name in "abd"})
    graph = _rooted().container("a", "root").container("b", "root").container("d", "root")
    for seed in range(20):
        details = [dict(detail) for detail in graph.details * 2]
        random.Random(seed).shuffle(details)
        assert {task.label for task in tasks_of(spec, details)} == {"a", "b", "d"}
        some = details[: len(details) // 2]
        for detail in some[:2]:
            detail.pop("display_name")
        assert {task.label for task in tasks_of(spec, some)} <= {"a", "b", "d"}
    assert tasks_of(spec, []) == []


@pytest.mark.parametrize("task", [{}, {"retryPolicy": {"maxRetryCount": 2}}])
@pytest.mark.parametrize("settings", [{}, {"podMetadata": {"labels": {"a": "b"}}}])
def test_the_name_of_a_pod_tells_its_workflow(task: Json, settings: Json) -> None:
    name = "my-retry-system-x7k2p"
    assert workflow_of(pod_name(name, executor_template(task, settings), f"{name}.root.a.executor")) == name


@pytest.mark.parametrize(
    ("node", "label"),
    [
        ("w.root.a.executor", "a"),
        ("w(0).root(0).a-driver(0)", "a"),
        ("w(0).root(0).n(0).a(0).executor(1)", "n/a"),
        ("w(0).root(0).exit-handler-1.onExit(0).last(0).executor(0)", "last"),
        ("w.root.for-loop-1.iteration-iterations(2:2).iteration-item.n.a.executor", "n/a.2"),
        ("w(0).root(0).for-loop-3(0).iteration-iterations(2:2)(0).iteration-item(0).executor(0)", "for-loop-3.2"),
        ("w(0).root-driver(0)", "root"),
    ],
)
def test_the_label_of_a_task_is_in_the_full_name_of_each_of_its_nodes(node: str, label: str) -> None:
    assert label_of(node) == label


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.999999999Z", 10.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        (None, 0.0),
        ("soon", 0.0),
    ],
)
def test_times_of_the_api(time: object, seconds: float) -> None:
    assert seconds_since_1970(time) == seconds
