"""The engine `katib` explains: which container of a trial failed and why, and what Katib waits for in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from given import no_cluster
from mlops_actions.errors import RemoteFailed
from mlops_actions.kubernetes.failures import ClusterFailed
from mlops_actions.kubernetes.objects import Change
from mlops_actions.tuning.engine import Trial
from mlops_actions.tuning.experiment import Experiment
from mlops_actions.tuning.katib import collector_log
from mlops_actions.tuning.katib.begin import through_webhook
from mlops_actions.tuning.katib.context import KatibContext
from mlops_actions.tuning.katib.explaining import Explainer
from mlops_actions.tuning.katib.pods import Pods
from mlops_actions.tuning.katib.troubles import Quiet, Troubles, Watchdog
from mlops_actions.waiting import Clock

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"


def experiment(**spec: Any) -> Experiment:
    values: dict[str, Any] = yaml.safe_load((KATIB / "example-random.yaml").read_text())
    values["spec"] |= spec
    return Experiment.model_validate(values)


class Hands(Clock):
    """A clock that is set by hand, and goes on when it is waited with."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: object = None) -> bool:
        self.time += seconds
        return False


def klog(text: str, place: str = "main.go:139", level: str = "I") -> str:
    """A line as Katib's collector prints it."""
    return f"{level}1123 07:18:34.268978      14 {place}] {text}\n"


REPORTED = klog('Metrics reported. :\nmetric_logs:{time_stamp:"0001" metric:{name:"loss" value:"0.25"}}')
STOPPED = klog("Training container is early stopped")
TOO_LATE = klog("Failed to wait for worker container: unable to find main pid from the process list [1 23]", level="F")
CHILDREN = klog("Multiple children processes are not supported. Children processes: [1 2]", level="F")
NO_DATABASE = klog(
    'Failed to Report logs: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while'
    ' dialing: dial tcp: lookup katib-db-manager.kubeflow on 10.96.0.10:53: no such host"',
    level="F",
)
NO_FILE = klog("Failed to collect logs: failed to open the file: open /x: no such file", level="F")
STACK = "goroutine 1 [running]:\nmain.main()\n"


def test_what_a_trial_printed_is_told_from_the_collectors_own_words() -> None:
    warning = "Metrics will not have timestamp since epoch 1 doesn't begin with timestamp string"
    log = klog("Trial Name: random-x") + klog("epoch 1") + klog("I0131 12:00:00.1 7 train.go:9] loss=0.25") + klog("")
    log += klog(warning, "file-metricscollector.go:103", "W")
    log += klog("Objective metric loss is not found in training logs", "file-metricscollector.go:180")
    found = collector_log.parse(log + REPORTED)
    assert found.printed == "epoch 1\nI0131 12:00:00.1 7 train.go:9] loss=0.25\n\n"
    assert (found.stopped, found.failure) == (False, "")


@pytest.mark.parametrize(
    ("log", "message", "fix"),
    [
        (TOO_LATE + STACK, "it ended before Katib's metrics collector had started", "sleep 10"),
        (NO_DATABASE + STACK, "database manager cannot be reached, so that its metrics were not stored", "mysql"),
        (CHILDREN + STACK, "Katib could not stop it early", "start one process"),
        (NO_FILE + STACK, "open /x: no such file", "Write that file"),
        (klog("what", level="F"), "metrics collector (container metrics-collector) ended with exit code 255: what", ""),
        ("Traceback (most recent call last):\n  x\nException: Unable to find main pid\n", "had started", "sleep 10"),
    ],
    ids=["too late", "no database", "children", "no file", "unknown", "TensorFlow"],
)
def test_collector_that_fails_is_told_with_its_cause(log: str, message: str, fix: str) -> None:
    cause = collector_log.cause(collector_log.parse(log).failure, "metrics-collector", 255)
    assert message in cause.message
    assert fix in cause.fix


def test_collector_that_fails_with_its_trial_has_no_cause_of_its_own() -> None:
    text = "Failed to wait for worker container: training container is failed. Unable to read file /var/log/7.pid"
    assert not collector_log.parse(klog("epoch 1") + klog(text, level="F") + STACK).failure


class Logs:
    """A cluster that has only the logs of containers, by the first word of their names."""

    def __init__(self, **logs: str) -> None:
        self._logs = logs

    def logs(self, pod: str, *, container: str, tail: int | None) -> str:
        return self._logs.get(container.partition("-")[0], "")

    def list(self, *_: Any, **__: Any) -> list[Any]:
        return []


def pod(number: int = 0, phase: str = "Failed", **exits: int) -> Any:
    """A pod of the trial `random-x`, whose containers ended with exit codes, by the first word of their names."""
    names = {"training": "training-container", "metrics": "metrics-logger-and-collector"}
    ended = {name: {"terminated": {"exitCode": code, "reason": "Error"}} for name, code in exits.items()}
    return {
        "metadata": {"name": f"random-x-{number}", "labels": {"katib.kubeflow.org/trial": "random-x"}},
        "spec": {"containers": [{"name": name} for name in names.values()]},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": names[name], "state": state} for name, state in ended.items()],
        },
    }


def pods(folder: Path, of: Experiment, say: Any = lambda _: None, clock: Clock | None = None, **logs: str) -> Pods:
    body = {"metadata": {"name": "random", "creationTimestamp": ""}}
    cluster: Any = Logs(**logs)
    return Pods(cluster, body, of, folder, every=False, troubles=Troubles(say), clock=clock or Hands())


def explained(folder: Path, state: Any, log: str, **exits: int) -> tuple[Trial, Explainer]:
    """What is made of a trial that ended so, by the log of its collector and the exit codes of its containers."""
    of = experiment(earlyStopping={"algorithmName": "medianstop", "algorithmSettings": []})
    seen = pods(folder, of, metrics=log)
    seen.see(Change("MODIFIED", pod(**exits)))
    explainer = Explainer(of, seen, Troubles(lambda _: None))
    return explainer.explained(Trial(0, "random-x", {}, state, message="Katib's words")), explainer


@pytest.mark.parametrize(
    ("log", "exits", "message", "own"),
    [
        (TOO_LATE, {"training": 0, "metrics": 255}, "it ended before Katib's metrics collector had started", False),
        (TOO_LATE, {"training": 7, "metrics": 255}, "its container training-container ended with exit code 7", True),
        (klog("loss=0.5") + NO_DATABASE, {"training": 0, "metrics": 255}, "database manager cannot be reached", False),
        ("", {}, "Katib's words", True),
    ],
    ids=["too late", "the trial", "no database", "unknown"],
)
def test_container_that_failed_is_named_and_why(
    log: str, exits: dict[str, int], message: str, own: bool, tmp_path: Path
) -> None:
    trial, explainer = explained(tmp_path, "Failed", log, **exits)
    assert trial.state == "Failed"
    assert message in trial.message
    assert explainer.causes["random-x"].fix
    assert explainer.causes["random-x"].own == own


def test_trial_that_was_stopped_early_counts_with_its_value_though_its_collector_failed(tmp_path: Path) -> None:
    log = klog("loss=0.5") + klog("loss=0.75") + STOPPED + CHILDREN
    trial, explainer = explained(tmp_path, "Failed", log, training=0, metrics=255)
    assert (trial.state, trial.value, explainer.miscounted) == ("EarlyStopped", 0.5, {"random-x"})
    assert "it was stopped early, and counts as failed for Katib" in trial.message


def test_value_of_a_stopped_trial_that_katib_did_not_read_is_taken_from_its_log(tmp_path: Path) -> None:
    trial, _ = explained(tmp_path, "EarlyStopped", klog("loss=0.5") + STOPPED, training=0, metrics=143)
    assert (trial.value, trial.metrics, trial.message) == (0.5, {"loss": 0.5}, "")
    lost, _ = explained(tmp_path / "other", "EarlyStopped", "", training=0, metrics=143)
    assert lost.value is None
    assert "retain: true" in lost.message


def test_each_failure_that_kubernetes_retries_is_said_with_its_attempt(tmp_path: Path) -> None:
    said: list[str] = []
    template = yaml.safe_load((KATIB / "example-random.yaml").read_text())["spec"]["trialTemplate"]
    template["trialSpec"]["spec"]["backoffLimit"] = 2
    seen = pods(tmp_path, experiment(trialTemplate=template), said.append)
    for number in range(3):
        seen.see(Change("MODIFIED", pod(number, training=3 + number, metrics=255)))
    first, second = said
    assert first.startswith("random-x failed: its container training-container ended with exit code 3. Kubernetes runs")
    assert "attempt 2 of 3" in first
    assert "attempt 3 of 3" in second


def test_image_that_cannot_be_pulled_for_two_minutes_is_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    clock, waiting = Hands(), pod(phase="Pending")
    seen = pods(tmp_path, experiment(), said.append, clock)
    why = 'failed to pull image "localhost:1/a/b:0": failed to do request: Head "https://localhost:1/v2": refused'

    def waits(reason: str) -> None:
        state = {"waiting": {"reason": reason, "message": why}}
        one = {"name": "training-container", "image": "localhost:1/a/b:0", "state": state}
        waiting["status"]["containerStatuses"] = [one]
        seen.see(Change("MODIFIED", waiting))

    waits("ErrImagePull")
    clock.time = 119
    waits("ImagePullBackOff")
    assert not seen.unpulled()
    clock.time = 121
    assert seen.unpulled()
    assert "localhost:1/a/b:0" in said[0]
    waiting["status"] = {"phase": "Running"}
    seen.see(Change("MODIFIED", waiting))
    assert not seen.unpulled()


class Objects:
    """A cluster that has one object of each of some kinds, and events."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self._objects = objects

    def get(self, kind: Any, name: str) -> Any:
        return self._objects.get(kind.kind)

    def list(self, kind: Any, *, fields: str, namespace: str = "") -> list[Any]:
        wanted = dict(part.split("=") for part in fields.split(","))
        name, reason = wanted.get("involvedObject.name"), wanted.get("reason")
        events = self._objects.get("Event", [])
        events = [event for event in events if name in (None, event["involvedObject"]["name"])]
        return [event for event in events if reason in (None, event["reason"])]


def warning(name: str, message: str, reason: str = "ReconcileError") -> Any:
    about = {"name": name}
    return {"metadata": {}, "involvedObject": about, "reason": reason, "message": message, "lastTimestamp": "1"}


def watched(seconds: int, active: set[str], objects: dict[str, Any]) -> tuple[Watchdog, list[str]]:
    """A watchdog that has looked at a quiet Experiment for so long, and what it said."""
    said: list[str] = []
    clock = Hands()
    cluster: Any = Objects(objects)
    dog = Watchdog(cluster, "random", experiment(), Troubles(said.append), clock)
    created = {"status": {"conditions": [{"type": "Created", "status": "True"}]}}
    for second in range(seconds):
        clock.time = float(second)
        dog.look(created, Quiet(float(second), active, set(), []))
    return dog, said


def body(type_: str, status: str = "True") -> Any:
    return {"metadata": {"uid": "1"}, "status": {"conditions": [{"type": type_, "status": status}]}}


RACE = warning("random", 'Failed to reconcile: suggestions.kubeflow.org "random" already exists')


@pytest.mark.parametrize(
    ("active", "objects", "words"),
    [
        ({"random-x"}, {"Job": body("Complete")}, "The Job of the trial random-x has ended, and Katib has not noticed"),
        ({"random-x"}, {}, "Katib has not created the Job of the trial random-x"),
        (set(), {"Suggestion": body("DeploymentReady")}, "Katib starts no trial of the Experiment random"),
        (set(), {}, "Katib has not asked for parameters"),
    ],
    ids=["Job has ended", "no Job", "no trial", "no Suggestion"],
)
def test_katib_that_stops_midway_is_told_and_given_up_after_a_while(
    active: set[str], objects: dict[str, Any], words: str
) -> None:
    dog, said = watched(100, active, objects)
    assert len(said) == 1
    assert words in said[0]
    assert "katib-controller" in said[0]
    assert dog.gave_up is None
    dog, _ = watched(400, active, objects)
    assert dog.gave_up is not None
    assert words in dog.gave_up.what


def test_database_that_katibs_controller_cannot_reach_is_told_by_its_warning() -> None:
    event = warning("random-x", "Failed to reconcile: rpc error: connection refused")
    _, said = watched(100, {"random-x"}, {"Job": body("Complete"), "Event": [event]})
    assert "rpc error: connection refused" in said[0]


def test_cause_of_a_service_that_is_not_ready_is_looked_through_to() -> None:
    quota = warning("random-random-7f", "pods is forbidden: exceeded quota: small", "FailedCreate")
    objects = {"Suggestion": body("DeploymentReady", "False"), "Event": [RACE, quota]}
    dog, said = watched(900, set(), objects)
    assert len(said) == 1
    assert "(Suggestion random): pods is forbidden: exceeded quota: small. Ask for a higher quota" in said[0]
    assert dog.gave_up is None, "a quota may be free again"


def test_warnings_of_katibs_own_race_mean_nothing() -> None:
    _, said = watched(100, set(), {"Suggestion": body("DeploymentReady"), "Event": [RACE]})
    assert "already exists" not in said[0]


def test_long_trial_whose_job_runs_is_no_trouble() -> None:
    dog, said = watched(2000, {"random-x"}, {"Job": body("Suspended", "False")})
    assert (said, dog.gave_up) == ([], None)


def failed(why: str) -> ClusterFailed:
    error = ClusterFailed("failed", why=why)
    error.transient = True
    return error


def test_webhook_that_does_not_respond_is_waited_for_half_a_minute_and_told() -> None:
    said: list[str] = []
    context = KatibContext(Path(), {}, Path(), say=said.append, clock=Hands(), cluster=no_cluster)
    down = failed('HTTP 500 failed calling webhook "defaulter.experiment": connection refused')
    faults = [down, down]

    def call(repeat: bool) -> Any:
        assert not repeat
        if faults:
            raise faults.pop()
        return {"kind": "Experiment"}

    assert through_webhook(call, context) == {"kind": "Experiment"}
    assert said == ["Katib's webhook does not respond; retrying for 30 s"]
    faults[:] = [down] * 99
    with pytest.raises(RemoteFailed, match="webhook does not respond") as error:
        through_webhook(call, context)
    assert "katib-controller" in error.value.fix
    assert "connection refused" in error.value.why


def test_other_faults_of_the_cluster_are_tried_again_by_the_client() -> None:
    asked: list[bool] = []

    def call(repeat: bool) -> Any:
        asked.append(repeat)
        if not repeat:
            raise failed("HTTP 503")
        return {}

    through_webhook(call, KatibContext(Path(), {}, Path(), cluster=no_cluster))
    assert asked == [False, True]
