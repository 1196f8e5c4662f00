"""What is made of a real server's responses: each recording is replayed, and its tasks are told as they were."""

from __future__ import annotations

import random

import pytest

import kfp_recorded as recorded
from kfp_worlds import Told
from mlops_actions.pipelines.kfp.run.nodes import Task, tasks_of
from mlops_actions.pipelines.kfp.run.tracking import Tracker

STATES = {
    "hello": {"hello": ("succeeded", 6)},
    "good": {"load": ("succeeded", 6), "train": ("succeeded", 7), "judge": ("succeeded", 6)},
    "failing": {"load": ("succeeded", 7), "broken": ("failed", 6)},
    "retried": {"work": ("succeeded", 39), "after": ("succeeded", 5)},
    "running": {"first": ("reused", 0), "wait": ("running", 0)},
    "uiterm": {"first": ("reused", 0), "wait": ("succeeded", 46)},
    "terminated": {"hello": ("failed", 63)},
    "branch": {
        "nested/judge": ("succeeded", 7), "load": ("succeeded", 9), "load-2": ("succeeded", 8), "judge": ("skipped", 0),
        "judge-2": ("reused", 0), "judge-3.0": ("succeeded", 7), "judge-3.1": ("succeeded", 9),
        "judge-3.2": ("succeeded", 6), "total": ("succeeded", 6), "last": ("succeeded", 5),
    },
}  # fmt: skip


def _tasks(name: str) -> dict[str, Task]:
    details = recorded.run(name)["run_details"]["task_details"]
    return {task.label: task for task in tasks_of(recorded.spec(name), details)}


@pytest.mark.parametrize("name", recorded.RUNS)
def test_tasks_have_their_names_states_and_durations(name: str) -> None:
    assert {label: (task.state, task.seconds) for label, task in _tasks(name).items()} == STATES[name]


@pytest.mark.parametrize("name", [name for name in recorded.RUNS if name != "retried"])
def test_one_attempt_is_one(name: str) -> None:
    assert [task.failed_pods for task in _tasks(name).values()] == [()] * len(STATES[name])


def test_attempts_of_a_task_are_one_task_with_each_pod_by_its_name() -> None:
    spec = recorded.spec("retried")
    spec["root"]["dag"]["tasks"]["work"]["retryPolicy"] = {"maxRetryCount": 2}
    work, after = tasks_of(spec, recorded.run("retried")["run_details"]["task_details"])
    assert work.failed_pods == ("retried-bztrl-retry-system-container-impl-3532174987",)
    assert work.pod == "retried-bztrl-retry-system-container-impl-4136316366"
    assert (work.state, work.retries, after.failed_pods) == ("succeeded", 2, ())
    told = Told()
    Tracker(spec, told).feed(recorded.run("retried"), 0.0)
    assert told.notes == ["work: attempt 1 failed; retried"], "also of one that ended between two looks"


def test_pods_have_the_names_that_kubernetes_knows() -> None:
    assert _tasks("hello")["hello"].pod == "hello-ptw8q-system-container-impl-3483819089"
    assert _tasks("failing")["broken"].pod == "failing-gf9xq-system-container-impl-1262809941"
    assert _tasks("running")["first"].pod == "", "it was reused, and has none"
    pods = [task.pod for task in _tasks("branch").values() if task.state == "succeeded"]
    assert len(set(pods)) == len(pods)


@pytest.mark.parametrize("name", recorded.RUNS)
def test_order_and_duplicates_do_not_matter_and_missing_rows_invent_nothing(name: str) -> None:
    spec, details = recorded.spec(name), recorded.run(name)["run_details"]["task_details"]
    for seed in range(5):
        twice = [dict(row) for row in details * 2]
        random.Random(seed).shuffle(twice)
        assert {task.label: task.state for task in tasks_of(spec, twice)} == {
            label: state for label, (state, _) in STATES[name].items()
        }
        some = random.Random(seed).sample(details, len(details) // 2)
        assert {task.label for task in tasks_of(spec, some)} <= STATES[name].keys()


@pytest.mark.parametrize("name", ["failing", "branch", "uiterm"])
def test_a_run_is_told_once_and_in_the_order_of_its_tasks(name: str) -> None:
    told = Told()
    tracker = Tracker(recorded.spec(name), told)
    tracker.feed(recorded.run(name), 0.0)
    tracker.feed(recorded.run(name), 1.0)
    assert told.states() == {label: state for label, (state, _) in STATES[name].items()}
    assert len(told.results) == len(STATES[name])
    if name == "failing":
        assert told.events == [("load", "started"), ("load", "succeeded"), ("broken", "started"), ("broken", "failed")]


@pytest.mark.parametrize(("name", "terminated"), [("terminated", True), ("failing", False), ("uiterm", False)])
def test_a_run_that_a_person_terminated_says_so(name: str, terminated: bool) -> None:
    tracker = Tracker(recorded.spec(name), Told())
    tracker.feed(recorded.run(name), 0.0)
    assert (tracker.ended, tracker.terminated) == (True, terminated)
