"""The state machine of a run, the pace of questions, the loop around both, and what a failure's log tells."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

import kfp_recorded
from doubles.kfp.synthetic import Step, synthetic_run
from doubles.kfp.world import Settings, World
from given import kfp_inputs
from kfp_worlds import Told
from mlops_actions.errors import ComponentFailed, MlopsError, RemoteFailed
from mlops_actions.pipelines.engine import TaskResult
from mlops_actions.pipelines.kfp.client.api import ApiError, KfpApi
from mlops_actions.pipelines.kfp.run import failure, logs, watching
from mlops_actions.pipelines.kfp.run.argo import hash_of
from mlops_actions.pipelines.kfp.run.log_follower import Found, LogFollower
from mlops_actions.pipelines.kfp.run.logs import Logs, component_lines
from mlops_actions.pipelines.kfp.run.nodes import Task
from mlops_actions.pipelines.kfp.run.tracking import Tracker
from mlops_actions.pipelines.kfp.run.watching import Limits, Pace, TimedOut, Watcher, listed
from mlops_actions.pipelines.kfp.settings import KfpSettings
from mlops_actions.pipelines.spec import Pipeline
from mlops_actions.waiting import Clock

SETTINGS = KfpSettings(kfp_inputs("http://h"))
SPEC = {
    "pipelineInfo": {"name": "p"},
    "root": {"dag": {"tasks": {name: {"componentRef": {"name": "c"}} for name in ("a", "b")}}},
    "components": {"c": {"executorLabel": "exec"}},
    "deploymentSpec": {"executors": {"exec": {"container": {"resources": {"resourceMemoryLimit": "1Gi"}}}}},
}  # fmt: skip


def _details(task: str, state: str, executor: str = "", attempts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The nodes of a task, and of the workflow."""
    executors = [executor or (attempts[-1] if attempts else state), *attempts]
    names = ["w.root", f"w.root.{task}-driver", f"w.root.{task}", f"w.root.{task}.executor"]
    names += [f"w.root.{task}.executor({i})" for i in range(len(attempts))]
    states = ["RUNNING", "SUCCEEDED", state, *executors]
    children = [*names[1:4], ""] + [""] * len(attempts)
    nodes = [
        {"task_id": name, "display_name": name.rpartition(".")[2], "state": node_state, "child_tasks": _ids(child)}
        for name, node_state, child in zip(names, states, children)
    ]
    nodes[3]["child_tasks"] = _ids(*names[4:])
    return [{"task_id": "w", "display_name": "w", "state": "RUNNING", "child_tasks": _ids("w.root")}, *nodes]


def _ids(*names: str) -> list[dict[str, str]]:
    return [{"pod_name": f"w-{hash_of(name)}"} for name in names if name]


def _pod(task: str, attempt: str = "") -> str:
    return f"w-system-container-impl-{hash_of(f'w.root.{task}.executor{attempt}')}"


def _run(state: str, *tasks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    details = {node["task_id"]: node for task in tasks for node in task}
    root = [child for task in tasks for child in task[1]["child_tasks"]]
    details.update({"w.root": {**details["w.root"], "child_tasks": root}} if root else {})
    return {"run_id": "r", "state": state, "run_details": {"task_details": list(details.values())}, **more}


def _tracker() -> tuple[Tracker, Told]:
    told = Told()
    return Tracker(SPEC, told), told


def test_each_transition_is_told_once() -> None:
    tracker, told = _tracker()
    for state in ("PENDING", "PENDING", "RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"):
        tracker.feed(_run("RUNNING", _details("a", "RUNNING" if state == "PENDING" else state, state)), 0.0)
    assert told.events == [("a", "started"), ("a", "succeeded")]


def test_a_task_that_was_never_seen_to_run_has_started_all_the_same() -> None:
    tracker, told = _tracker()
    assert tracker.feed(_run("RUNNING", _details("a", "SUCCEEDED")), 0.0)
    assert not tracker.feed(_run("RUNNING", _details("a", "SUCCEEDED")), 0.0), "nothing is new"
    assert told.events == [("a", "started"), ("a", "succeeded")]


def test_a_snapshot_that_lags_behind_takes_nothing_back() -> None:
    tracker, told = _tracker()
    tracker.feed(_run("SUCCEEDED", _details("a", "SUCCEEDED")), 0.0)
    tracker.feed(_run("RUNNING", _details("a", "RUNNING")), 0.0)
    tracker.feed(_run("RUNNING"), 0.0)
    assert (tracker.state, told.states()) == ("SUCCEEDED", {"a": "succeeded"})


@pytest.mark.parametrize(("state", "ended"), [
    ("SUCCEEDED", True), ("FAILED", True), ("CANCELED", True), ("SKIPPED", True), ("PENDING", False), ("", False),
    ("RUNTIME_STATE_UNSPECIFIED", False), ("CANCELING", False), ("PAUSED", False), ("HIBERNATED", False),
])  # fmt: skip
def test_only_what_is_known_to_be_an_end_is_one(state: str, ended: bool) -> None:
    tracker, _ = _tracker()
    tracker.feed(_run(state), 0.0)
    assert tracker.ended is ended


def test_states_out_of_the_ordinary_are_said_once() -> None:
    tracker, told = _tracker()
    for state in ("RUNNING", "PAUSED", "RUNNING", "PAUSED", "NEW_STATE", "NEW_STATE", "CANCELING", "CANCELED"):
        tracker.feed(_run(state), 0.0)
    assert [note.split(" in ")[0] for note in told.notes] == [
        "The run is paused", "The run is", "The run is being cancelled",
    ]  # fmt: skip


def test_attempts_of_a_task_are_told() -> None:
    tracker, told = _tracker()
    tracker.feed(_run("RUNNING", _details("a", "RUNNING", attempts=["RUNNING"])), 0.0)
    for _ in range(2):
        tracker.feed(_run("RUNNING", _details("a", "RUNNING", attempts=["FAILED", "RUNNING"])), 0.0)
    tracker.feed(_run("RUNNING", _details("a", "SUCCEEDED", attempts=["FAILED", "SUCCEEDED"])), 0.0)
    assert told.events == [("a", "started"), ("a", "succeeded")]
    assert told.notes == ["a: attempt 1 failed; retrying"]
    assert tracker.of_pod(_pod("a", "(0)")) == tracker.of_pod(_pod("a", "(1)")) == "a"


def test_a_retried_run_tells_what_runs_again_and_keeps_what_was_done() -> None:
    tracker, told = _tracker()
    tracker.feed(_run("FAILED", _details("a", "SUCCEEDED"), _details("b", "FAILED")), 0.0)
    tracker.retried()
    tracker.feed(_run("RUNNING", _details("a", "SUCCEEDED"), _details("b", "RUNNING")), 0.0)
    tracker.feed(_run("SUCCEEDED", _details("a", "SUCCEEDED"), _details("b", "SUCCEEDED")), 0.0)
    assert told.events[-4:] == [("b", "started"), ("b", "failed"), ("b", "started"), ("b", "succeeded")]
    assert ([t.state for t in tracker.results()], tracker.attempts) == (["succeeded", "succeeded"], 2)


def test_logs_are_kept_only_of_what_runs_or_has_failed_and_only_their_end() -> None:
    tracker, _ = _tracker()
    tracker.feed(_run("RUNNING", _details("a", "RUNNING"), _details("b", "RUNNING")), 0.0)
    for number in range(1000):
        tracker.logged("a", str(number))
        tracker.logged("b", str(number))
    tracker.feed(_run("RUNNING", _details("a", "SUCCEEDED"), _details("b", "FAILED")), 0.0)
    assert list(tracker.logs) == ["b"]
    assert len(tracker.logs["b"]) == logs.LOG_LINES


def test_results_tell_what_was_not_seen() -> None:
    tracker, told = _tracker()
    tracker.feed(_run("SUCCEEDED", _details("a", "SUCCEEDED")), 0.0)
    tracker.settle(TaskResult("a", "succeeded", 1.0))
    tracker.settle(TaskResult("b", "reused", 2.0))
    assert told.events[-1] == ("b", "reused")
    assert len(told.results) == 2


class Time(Clock):
    """A clock that a test drives: waiting takes no time, and does what is planned for the moments that pass."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.plan: list[tuple[float, Any]] = []

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        until = self.seconds + max(seconds, 0.001)
        for moment, act in sorted(self.plan, key=lambda entry: entry[0]):
            if moment <= until:
                self.seconds = max(self.seconds, moment)
                self.plan.remove((moment, act))
                act()
                if wake is not None and wake.is_set():
                    return True
        self.seconds = until
        return bool(wake and wake.is_set())


def test_questions_stay_below_thirty_a_minute_however_much_changes() -> None:
    now, pace, asked = 0.0, Pace(0.0), list[float]()
    while now < 1200.0:
        pace.spend(now)
        asked.append(now)
        now += pace.pause(now, lively=True, ending=False)
    assert all(sum(at <= one < at + 60 for one in asked) < 30 for at in asked)
    pace = Pace(now)
    while now < 2400.0:
        pace.spend(now)
        now += pace.pause(now, lively=True, ending=True)
    assert pace.asked / 20 < 30


def test_a_change_is_looked_at_quickly_and_an_end_even_when_the_budget_is_spent() -> None:
    pace = Pace(0.0)
    assert pace.pause(0.0, lively=False, ending=False) == watching.SLOW
    assert pace.pause(0.0, lively=True, ending=False) == watching.QUICK
    pace.spend(0.0, int(watching.BURST) + 3)
    assert pace.pause(0.0, lively=True, ending=False) == watching.SLOWER
    assert pace.pause(0.0, lively=True, ending=True) == watching.QUICK


class Script:
    """An API that shows a run by a function of the time, and sources that find what they are told to."""

    def __init__(self, clock: Time, shows: Any) -> None:
        self._clock, self._shows = clock, shows
        self.asked: list[float] = []

    def get(self, path: str, **query: object) -> Any:
        self.asked.append(self._clock.now())
        found = self._shows(self._clock.now())
        if isinstance(found, Exception):
            raise found
        return found


class Plan:
    """Sources that find what a test says."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.found: list[Found] = []
        self.followed: set[str] = set()

    def find(self, found: Found) -> None:
        self.found.append(found)
        self.wake.set()

    def follow(self, pods: Iterable[str]) -> None:
        self.followed |= set(pods)

    def drain(self) -> list[Found]:
        self.wake.clear()
        found, self.found = self.found, []
        return found

    def stop(self, patience: float = 0.0) -> None:
        pass


def _watch(
    clock: Time, shows: Any, limits: Limits | None = None, plan: Plan | None = None
) -> tuple[Watcher, Told, Script]:
    tracker, told = _tracker()
    script = Script(clock, shows)
    watcher = Watcher(
        cast(KfpApi, script), "r", tracker, cast(LogFollower, plan or Plan()), told, clock, limits or Limits(),
    )  # fmt: skip
    return watcher, told, script


def test_a_long_wait_asks_seldom_and_an_end_that_a_log_announces_is_seen_within_a_second() -> None:
    clock, plan = Time(), Plan()
    end = 1801.0
    clock.plan = [(end, lambda: plan.find(Found("end", _pod("a"))))]

    def shows(now: float) -> Any:
        return (
            _run("SUCCEEDED", _details("a", "SUCCEEDED"))
            if now >= end + 0.3
            else _run("RUNNING", _details("a", "RUNNING"))
        )

    watcher, _, script = _watch(clock, shows, plan=plan)
    watcher.until_end()
    assert plan.followed == {_pod("a")}
    assert clock.now() - (end + 0.3) < 1.0
    assert len(script.asked) / (end / 60) < 30
    assert watcher.pace.asked == len(script.asked)


def test_an_end_that_nothing_announces_is_seen_with_the_next_question() -> None:
    clock = Time()
    watcher, _, script = _watch(clock, lambda now: _run("SUCCEEDED" if now > 100.0 else "RUNNING"))
    watcher.until_end()
    assert clock.now() - 100.0 <= watching.SLOW
    assert len(script.asked) < 60


def test_tasks_that_the_api_does_not_show_are_taken_from_ml_metadata_and_that_is_said_once() -> None:
    clock, told, asked = Time(), Told(), list[float]()
    tracker = Tracker(SPEC, told)

    def elsewhere() -> list[Task]:
        asked.append(clock.now())
        return [Task("a", "succeeded" if clock.now() > 60 else "running", began=1.0, ended=9.0)]

    shows = Script(clock, lambda now: {"run_id": "r", "state": "SUCCEEDED" if now > 90 else "RUNNING"})
    watcher = Watcher(
        cast(KfpApi, shows), "r", tracker, cast(LogFollower, Plan()), told, clock, Limits(), elsewhere
    )  # fmt: skip
    watcher.until_end()
    assert told.events == [("a", "started"), ("a", "succeeded")]
    assert len([note for note in told.notes if "come from ML Metadata" in note]) == 1
    assert len(asked) * 2 + len(shows.asked) <= 30 * 2, "two minutes at most"


def test_a_failed_run_is_looked_at_until_it_shows_the_task_that_failed() -> None:
    clock = Time()

    def shows(now: float) -> Any:
        return _run("FAILED" if now > 9 else "RUNNING", _details("a", "FAILED" if now > 10 else "RUNNING"))

    watcher, told, _ = _watch(clock, shows)
    watcher.until_end()
    assert told.states() == {"a": "failed"}


def test_limits_count_from_when_the_run_and_the_task_were_seen_to_begin() -> None:
    clock = Time()

    def shows(now: float) -> Any:
        return _run("RUNNING", _details("a", "RUNNING" if now > 50.0 else "PENDING"), _details("b", "PENDING"))

    watcher, _, _ = _watch(clock, shows, Limits(task=30.0))
    with pytest.raises(TimedOut, match=r"The task 'a' did not end within 30 s\. Still running: a; waiting: b"):
        watcher.until_end()
    assert 80.0 <= clock.now() < 90.0
    clock.seconds = 0.0
    watcher, _, _ = _watch(clock, shows, Limits(run=60.0))
    with pytest.raises(TimedOut, match="did not end within 60 s"):
        watcher.until_end()


def test_a_run_that_waits_only_for_an_image_that_cannot_be_pulled_is_ended() -> None:
    clock, plan = Time(), Plan()
    missing = Found("trouble", _pod("a"), "ErrImagePull: Cannot pull the image x:1", "a", "Push it", unpulled=True)
    clock.plan = [(3.0, lambda: plan.find(missing))]
    busy = 400.0  # until then another task works

    def shows(now: float) -> Any:
        return _run("RUNNING", _details("a", "PENDING"), _details("b", "RUNNING" if now < busy else "SUCCEEDED"))

    watcher, _, _ = _watch(clock, shows, plan=plan)
    with pytest.raises(TimedOut, match=r"nodes cannot pull the image of a\..*waiting: a\..*image x:1\. Push it\. Run"):
        watcher.until_end()
    assert clock.now() >= busy
    clock.seconds, pulled = 0.0, Found("pod", _pod("a"), "Running", "a")
    clock.plan = [(3.0, lambda: plan.find(missing)), (90.0, lambda: plan.find(pulled))]
    watcher, _, _ = _watch(clock, lambda now: _run("SUCCEEDED" if now > 300 else "RUNNING"), plan=plan)
    watcher.until_end()


def test_a_run_that_is_gone_is_an_error() -> None:
    watcher, _, _ = _watch(Time(), lambda now: ApiError("no", status=404) if now > 5 else _run("RUNNING"))
    with pytest.raises(RemoteFailed, match=r"no longer exists in KFP\. A user"):
        watcher.until_end()


def test_troubles_of_pods_are_warnings_of_their_tasks() -> None:
    clock, plan = Time(), Plan()
    clock.plan = [(3.0, lambda: plan.find(Found("trouble", _pod("a"), "ImagePullBackOff: no such image")))]
    watcher, told, _ = _watch(
        clock, lambda now: _run("FAILED" if now > 9 else "RUNNING", _details("a", "PENDING")), plan=plan
    )
    watcher.until_end()
    assert told.warnings == ["a: ImagePullBackOff: no such image"]


def test_hundreds_of_tasks_are_followed_with_little_memory_and_each_told_once() -> None:
    world = World(Settings(), Clock())
    steps = [Step(f"t{i}", float(i), float(i + 20)) for i in range(200)]
    run = synthetic_run(world, steps, "wide", {})
    tracker = Tracker(run.spec, told := Told())
    began = run.states[0][0]
    for now in range(0, 240, 20):
        tracker.feed(
            {"state": "RUNNING", "run_details": {"task_details": run.workflow.details(run.id, began + now)}}, now
        )
        assert len(tracker.running) <= 21
        assert not tracker.logs
    assert len(told.results) == 200
    assert [name for name, state in told.events if state == "started"] == [f"t{i}" for i in range(200)]


def test_sentences_name_a_few_tasks() -> None:
    assert listed([f"t{i}" for i in range(12)]).endswith("t9, 2 more")


LOG = """\
I0101 10:00:00.000000      24 launcher_v2.go:90] input ComponentSpec:{}
loading
Traceback (most recent call last):
  File "/usr/lib/python3.11/runpy.py", line 1, in main
  File "/tmp/tmp.1/ephemeral_component.py", line 9, in train
    fit()
  File "/tmp/tmp.1/ephemeral_component.py", line 21, in fit
    raise KeyError("x")
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/tmp/tmp.1/ephemeral_component.py", line 12, in train
    import sklearn
ModuleNotFoundError: No module named 'sklearn'
I0101 10:00:01.000000      24 launcher_v2.go:151] publish success.
F0101 10:00:01.000000      24 main.go:49] failed to execute component: exit status 1
""".splitlines()


class NoLogs:
    """A KFP that has no logs."""

    namespace = ""

    def stream(self, path: str, **query: object) -> Any:
        raise ApiError("HTTP 404")


class OneLog(NoLogs):
    """A KFP whose API has this log of every pod."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = list(lines)

    def stream(self, path: str, **query: object) -> Any:
        return super().stream(path) if path.startswith("/k8s/") else self._lines


def _report(tmp_path: Path, api: NoLogs) -> failure.FailureReport:
    reader = Logs(cast(KfpApi, api), "r", lambda: "")
    return failure.FailureReport(Pipeline(tmp_path / "p.py", SPEC), tmp_path, reader, None, "http://h/#/r")


def _failed(tmp_path: Path, lines: Sequence[str], **error: Any) -> MlopsError:
    """The failure of a run whose task `a` failed and printed these lines."""
    tracker, _ = _tracker()
    details = _details("a", "FAILED")
    details[4] |= error
    tracker.feed(_run("FAILED", details), 0.0)
    return _report(tmp_path, OneLog(lines)).error(tracker)


def test_the_last_exception_of_a_log_is_the_reason_and_a_missing_module_has_advice(tmp_path: Path) -> None:
    error = _failed(tmp_path, LOG)
    assert isinstance(error, ComponentFailed)
    assert error.why.startswith("ModuleNotFoundError: No module named 'sklearn'. It ended with exit code 1")
    assert "packages_to_install" in error.fix and "http://h/#/r" in error.fix
    assert "launcher_v2.go" not in error.log
    assert failure._line(LOG) == 12


def test_a_real_log_is_told_without_the_lines_of_launcher_and_executor(tmp_path: Path) -> None:
    error = _failed(tmp_path, kfp_recorded.lines("failing-pod.log"))
    assert "ValueError: invalid literal for int() with base 10: 'no number'. It ended with exit code 1" in error.why
    assert error.log.splitlines()[:4] == [
        "No log from KFP's UI: HTTP 404", "about to fail", "on stderr", "Traceback (most recent call last):",
    ]  # fmt: skip
    assert error.log.endswith("ValueError: invalid literal for int() with base 10: 'no number'")


def test_an_error_of_the_log_reader_is_no_line_of_the_log_though_its_status_is_200(tmp_path: Path) -> None:
    error = _failed(tmp_path, [kfp_recorded.lines("log-none.txt")[-1]])
    assert not isinstance(error, ComponentFailed), "nothing shows that it was the component"
    assert "error_message" not in error.log
    ui, api, archive = error.log.splitlines()
    assert ui.startswith("No log from KFP's UI: ")
    assert (api.startswith("No log from KFP's API: ") and "NoSuchKey" in api) or "blob" in api
    assert archive == "No log from the archive: the place is unknown: set `archived-logs`"


def test_a_killed_task_names_its_memory_limit(tmp_path: Path) -> None:
    for how in ("exit status 137", "signal: killed"):
        error = _failed(tmp_path, [f"F0101 10:00:01.000000 24 main.go:49] failed to execute component: {how}"])
        assert "memory runs out: its limit is 1Gi" in error.why


def test_a_log_that_ends_without_a_reason_is_one_of_a_task_that_was_killed(tmp_path: Path) -> None:
    error = _failed(tmp_path, [LOG[0], "taking all memory"])
    assert "it was killed, as it is when memory runs out" in error.why and "limit is 1Gi" in error.why
    assert error.log.endswith("taking all memory")


def test_without_a_log_the_message_of_kfp_is_the_reason(tmp_path: Path) -> None:
    error = _failed(tmp_path, [], error={"message": "pod deleted"})
    assert "pod deleted" in error.why and isinstance(error, RemoteFailed)


def test_a_run_that_fails_before_its_first_task_tells_what_its_driver_said(tmp_path: Path) -> None:
    tracker, _ = _tracker()
    top = {"task_id": "w", "display_name": "w", "child_tasks": _ids("w.root-driver")}
    driver = {"task_id": "d", "display_name": "root-driver", "state": "FAILED", "error": {"message": "no rights"}}
    tracker.feed(_run("FAILED", [top, {**driver, "child_tasks": []}]), 0.0)
    error = _report(tmp_path, NoLogs()).error(tracker)
    assert (error.what, "no rights" in error.why) == ("The run failed before its first task", True)


def test_what_was_wrong_with_pods_meanwhile_stands_in_the_failure(tmp_path: Path) -> None:
    tracker, told = _tracker()
    tracker.feed(_run("FAILED", _details("a", "FAILED")), 0.0)
    tracker.warn("a", "ImagePullBackOff: no such image")
    assert "Seen meanwhile: a: ImagePullBackOff: no such image" in _report(tmp_path, NoLogs()).error(tracker).why
    assert told.warnings == ["a: ImagePullBackOff: no such image"]


def test_the_launchers_own_lines_are_no_lines_of_the_task() -> None:
    assert list(component_lines([*LOG[:2], "I am 12 years old"])) == ["loading", "I am 12 years old"]
    last = ["Error: exit status 1", LOG[-1], "Error: exit status 1"]
    assert list(component_lines(last)) == last[:1], "the component's own, and Argo's word of the launcher"


class Reader:
    """KFP's API alone: each reading of a log is what a test says, lines or an error after some."""

    def __init__(self, *openings: list[Any]) -> None:
        self._openings = list(openings)
        self.opened: list[str] = []

    def stream(self, path: str, **query: object) -> Any:
        if path.startswith("/k8s/"):
            raise ApiError("none", status=404)
        self.opened.append(path)
        for line in self._openings.pop(0) if self._openings else [ApiError("none", status=500)]:
            if isinstance(line, Exception):
                raise line
            yield line


class Now(Clock):
    """A clock whose pauses take no time."""

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        return bool(wake and wake.is_set())


def _follower(reader: Reader) -> LogFollower:
    return LogFollower(Logs(cast(KfpApi, reader), "r", lambda: ""), "r", Now())


def _all(follower: LogFollower, reader: Reader) -> list[tuple[str, str]]:
    """What was found when all that the reader has was read, and the tasks have ended."""
    while reader._openings:
        threading.Event().wait(0.001)
    for thread, ended in list(follower._open.values()):
        ended.set()
        thread.join(10)
    return [(found.kind, found.text) for found in follower.drain()]


def test_a_log_that_cannot_be_followed_is_read_again_and_each_line_told_once() -> None:
    cut = ApiError("cut", transient=True)
    reader = Reader(["a", cut], ["a", "b", cut], *[["a", "b"]] * 10, ["a", "b", "c"])
    follower = _follower(reader)
    follower.follow(["pod"])
    assert _all(follower, reader) == [("line", "a"), ("line", "b"), ("line", "c"), ("end", "")]


def test_a_log_that_cannot_be_read_says_nothing_of_its_pods_end() -> None:
    reader = Reader()
    follower = _follower(reader)
    follower.follow(["pod"])
    assert _all(follower, reader) == [("unread", "")]


def test_a_reader_that_opens_no_log_is_soon_not_asked_any_more() -> None:
    reader = Reader()
    follower = _follower(reader)
    for number in range(20):
        follower.follow([f"pod-{number}"])
        _all(follower, reader)
    assert len(set(reader.opened)) == 2


def test_only_a_few_logs_are_followed_at_a_time() -> None:
    follower = _follower(Reader(*[["x"]] * 20))
    follower.follow([f"pod-{number}" for number in range(20)])
    assert len(follower._open) <= 4
    follower.stop()


def test_what_the_launcher_prints_of_outputs_is_not_the_components() -> None:
    log = [
        "of the component",
        "I1128 11:33:44.602942      15 launcher_v2.go:1230] ExecutorOutput: {",
        '  "parameterValues": {',
        '    "Output": 3',
        "  }",
        "}",
        "I1128 11:33:44.917173      15 launcher_v2.go:206] publish success.",
        "after it",
    ]
    assert list(component_lines(log)) == ["of the component", "after it"]
