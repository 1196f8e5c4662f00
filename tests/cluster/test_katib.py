"""The engine `katib` runs Experiments on a real Kubernetes: how they end, what is reused, what is explained.

Katib is the double under tests/doubles/katib, or the cluster's own where KATIB is `real`; the tests that make Katib go
wrong need the double.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

import clusters
from given import cluster_inputs
from mlops_actions.errors import BadInput, Cancelled, ComponentFailed, RemoteFailed
from mlops_actions.kubernetes import rights
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.objects import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    EXPERIMENT,
    JOB,
    POD,
    RESOURCE_QUOTA,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    TRIAL,
    Cluster,
    Kind,
)
from mlops_actions.tuning.engine import Outcome, Trial, TuneRequest
from mlops_actions.tuning.katib import begin, manifest, troubles
from mlops_actions.tuning.katib.context import KatibContext
from mlops_actions.tuning.katib.engine import KatibEngine
from mlops_actions.tuning.reading import Document, read
from mlops_actions.waiting import Clock

pytestmark = clusters.needs_kubernetes
only_double = pytest.mark.skipif(os.environ.get("KATIB") == "real", reason="the cluster's Katib cannot be made to fail")
KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"
IMAGE = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
KINDS = {
    kind.kind: kind for kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING)
}  # fmt: skip
LEARN = "(echo epoch 1; echo loss=${trialParameters.learningRate})"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace in which Katib runs trials as pods."""
    with clusters.namespace() as name, clusters.katib(name):
        yield name


@contextmanager
def katib_without(what: Literal["webhooks", "controllers"], name: str) -> Iterator[None]:
    """Katib's double in a namespace, of which a part does not run."""
    from doubles.katib import KatibDouble

    with KatibDouble(os.environ["KUBECONFIG"], name) as double:
        double.stop_webhooks() if what == "webhooks" else double.stop()
        yield


LIMIT = 300.0
"""Seconds that a limit is set to in tests: long enough for a busy machine, and jumped to when its time has come."""


class Jumping(Clock):
    """The machine's clock, which jumps ahead of every limit when something holds."""

    def __init__(self) -> None:
        self.when: Callable[[], object] = lambda: False
        self._ahead = 0.0

    def now(self) -> float:
        if not self._ahead and self.when():
            self._ahead = LIMIT
        return super().now() + self._ahead


class World:
    """A consumer: its Experiment, its cluster, and what it was told."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.key = uuid.uuid4().hex
        self.cluster = clusters.administrator(namespace)
        self.said: list[str] = []
        self.begun: list[str] = []
        self.ended: list[Trial] = []
        self.best: list[str] = []
        self.recalled: list[str] = []
        self.stopped: list[int] = []
        self.variables: dict[str, str] = {}
        self.store_secret = ""
        self.on_waiting: Callable[[], None] = lambda: None
        self.clock = Jumping()

    def has_said(self, text: str) -> bool:
        return any(text in said for said in self.said)

    def resumed(self, trials: list[Trial]) -> None:
        self.recalled = [trial.name for trial in trials]

    def started(self, trial: Trial, running: int) -> None:
        self.begun.append(trial.name)

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        self.ended.append(trial)
        self.best.append(best.name if best else "")

    def waiting(self, running: int, pending: int) -> None:
        self.on_waiting()

    def interrupted(self, best: Trial | None, done: int) -> None:
        self.stopped.append(done)

    def document(self, script: str = LEARN, *, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Document:
        """Katib's random example, with a line of shell for the training in the image."""
        values = yaml.safe_load((KATIB / "example-random.yaml").read_text())
        spec = values["spec"]
        del spec["objective"]["goal"]
        spec |= {"maxTrialCount": 2, "parallelTrialCount": 2, "maxFailedTrialCount": 1}
        spec["parameters"].pop()
        spec["trialTemplate"]["trialParameters"].pop()
        job = spec["trialTemplate"]["trialSpec"]["spec"]
        job["backoffLimit"] = 0
        job["template"]["spec"]["terminationGracePeriodSeconds"] = 1
        job["template"]["spec"]["containers"] = [
            {
                "name": "training-container",
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", f": ${{trialParameters.learningRate}}; {clusters.COLLECTED}; {script}"],
            }
        ]
        change(values)
        file = self.folder / "experiment.yaml"
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        return read(file, "experiment.yaml")

    def run(self, document: Document, **request: Any) -> Outcome:
        """Run it as the command does."""
        spec = document.experiment.spec
        counts = {"parallel": spec.parallel_trial_count, "max_trials": spec.max_trial_count}
        keep = request.pop("keep", True)
        asked = {"key": self.key, "run": "run-1", **counts, **request}
        context = KatibContext(
            self.folder,
            {},
            self.folder / "state",
            cluster=lambda: self.cluster,
            variables=self.variables,
            store_secret=self.store_secret,
            keep=keep,
            say=self.said.append,
            clock=self.clock,
        )
        return KatibEngine(context).run(TuneRequest(document, **asked), self)

    @property
    def name(self) -> str:
        """Of the Experiment in the cluster."""
        return f"random-{self.key[:8]}"

    def experiment(self) -> dict[str, Any] | None:
        """The object in the cluster."""
        return self.cluster.get(EXPERIMENT, self.name)

    def of_this(self, kind: Kind) -> list[dict[str, Any]]:
        """The objects of a kind that are there for the Experiment."""
        found = self.cluster.list(kind)
        return [body for body in found if body["metadata"]["name"].startswith(self.name)]


def faults(**given: Any) -> Callable[[dict[str, Any]], None]:
    """Have the double go wrong for an Experiment."""

    def change(values: dict[str, Any]) -> None:
        values["metadata"]["annotations"] = {"doubles/faults": json.dumps(given)}

    return change


def containers(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the trial's pod."""
    found: list[dict[str, Any]] = values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    return found


def status_of(body: dict[str, Any] | None, condition: str) -> str:
    """The status of a condition; "" when there is none."""
    found = (body or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in found if c["type"] == condition), "")


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is quiet looked at within seconds."""
    for name in ("_EVERY", "_SOON"):
        monkeypatch.setattr(troubles, name, 1.0)


def as_account(admin: Cluster, account: str) -> Cluster:
    """The cluster, with the rights of a service account."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": admin.token(account)}
    return connect(cluster_inputs(yaml.safe_dump(config), namespace=admin.namespace), {})


def until(holds: Callable[[], object]) -> None:
    """Wait for what is under way."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def world(namespace: str, tmp_path: Path) -> Iterator[World]:
    """Its Experiments are deleted afterwards."""
    made = World(namespace, tmp_path)
    yield made
    for found in made.cluster.list(EXPERIMENT):
        made.cluster.delete(EXPERIMENT, found["metadata"]["name"])


def test_experiment_runs_to_its_end_and_the_best_is_the_best(world: World) -> None:
    outcome = world.run(world.document())
    assert outcome.end == "MaxTrialsReached"
    assert [trial.state for trial in outcome.trials] == ["Succeeded"] * 2
    assert outcome.value == outcome.best.value == min(trial.value or 9 for trial in outcome.trials)
    for trial in outcome.trials:
        assert trial.value == pytest.approx(trial.parameters["lr"])
        assert isinstance(trial.parameters["lr"], float)
    names = [trial.name for trial in outcome.trials]
    assert sorted(world.begun) == sorted(trial.name for trial in world.ended) == sorted(names)
    made = world.experiment()
    assert made is not None
    assert made["metadata"]["labels"]["mlops-actions/key"] == world.key
    assert made["metadata"]["annotations"]["mlops-actions/experiment"] == "random"
    assert made["metadata"]["annotations"]["mlops-actions/run"] == "run-1"


def test_two_jobs_with_one_key_run_one_experiment(world: World, namespace: str, tmp_path: Path) -> None:
    document = world.document()
    other = World(namespace, tmp_path)
    other.key = world.key
    outcomes: list[Outcome] = []
    jobs = [threading.Thread(target=lambda job=job: outcomes.append(job.run(document))) for job in (world, other)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    first, second = outcomes
    assert [trial.name for trial in first.trials] == [trial.name for trial in second.trials]
    assert (first.best.name, first.best.number, first.value) == (second.best.name, second.best.number, second.value)
    assert len(world.of_this(EXPERIMENT)) == 1


def test_complete_experiment_is_reused_and_another_key_is_another_experiment(world: World) -> None:
    document = world.document()
    first = world.run(document)
    again = world.run(document)
    assert again.resumed == 2
    assert sorted(world.recalled) == sorted(trial.name for trial in first.trials)
    assert (again.best.name, again.value) == (first.best.name, first.value)
    assert any("already ran" in said for said in world.said)
    other = world.run(document, key=uuid.uuid4().hex, max_trials=1)
    assert len(other.trials) == 1
    assert not {trial.name for trial in other.trials} & set(world.recalled)


def test_fresh_begins_anew(world: World) -> None:
    document = world.document()
    first = world.run(document, max_trials=1)
    again = world.run(document, max_trials=1, fresh=True)
    assert again.resumed == 0
    assert again.best.name != first.best.name
    assert len(world.of_this(TRIAL)) == 1


def test_failed_trials_end_it_with_the_last_lines_of_the_log(world: World) -> None:
    broken = world.document("(echo about to break; sleep 2; exit 7)")
    with pytest.raises(ComponentFailed, match="1 trial failed, and `maxFailedTrialCount` is 1") as failed:
        world.run(broken, parallel=1)
    assert "exit code 7" in failed.value.why
    assert "with lr=0.0" in failed.value.why
    assert failed.value.log == "about to break"
    assert world.stopped == [1]
    first = world.ended[0].name
    with pytest.raises(ComponentFailed):
        world.run(broken, parallel=1)
    assert world.ended[-1].name != first, "a failed Experiment is created again"
    assert any("created again: it had failed" in said for said in world.said)


def test_metric_that_was_never_printed_is_told_with_the_one_that_was(world: World) -> None:
    with pytest.raises(ComponentFailed) as failed:
        world.run(world.document("(echo epoch 1; echo valid-loss=0.25)"), parallel=1)
    assert "it never reported 'loss' as loss=<number>, but printed valid-loss=0.25" in failed.value.why
    assert "objectiveMetricName: valid-loss" in failed.value.why
    assert failed.value.log.splitlines()[-2:] == ["epoch 1", "valid-loss=0.25"]


def test_trial_that_ended_before_katibs_collector_is_told(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        containers(values)[0]["command"][-1] = ": ${trialParameters.learningRate}; echo loss=0.5"

    with pytest.raises(RemoteFailed, match="1 trial failed, and `maxFailedTrialCount` is 1") as failed:
        world.run(world.document(change=change), parallel=1)
    assert "it ended before Katib's metrics collector had started" in failed.value.why
    assert "Let each trial run for some seconds" in failed.value.fix


@only_double
def test_database_manager_that_does_not_respond_is_told(world: World) -> None:
    with pytest.raises(RemoteFailed, match="1 trial failed, and `maxFailedTrialCount` is 1") as failed:
        world.run(world.document(change=faults(database_down=True)), parallel=1)
    assert "Katib's database manager cannot be reached" in failed.value.why
    assert "katib.kubeflow.org/component" in failed.value.fix
    assert "loss=0." in failed.value.log, "the trial itself is well"


def test_trial_that_kubernetes_tries_again_is_told(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        values["spec"]["trialTemplate"]["trialSpec"]["spec"]["backoffLimit"] = 1

    with pytest.raises(ComponentFailed, match="1 trial failed"):
        world.run(world.document("(echo about to break; exit 7)", change=change), parallel=1, max_trials=1)
    (said,) = (text for text in world.said if "runs it again" in text)
    assert "its container training-container ended with exit code 7. Kubernetes runs it again: attempt 2 of 2" in said


def test_metric_outside_the_collected_output_is_told(world: World) -> None:
    with pytest.raises(ComponentFailed, match="Katib does not look"):
        world.run(world.document("echo loss=0.25; true"), parallel=1)


def test_other_experiment_of_that_name_is_left_alone(world: World) -> None:
    document = world.document()
    body = manifest.body(TuneRequest(document, world.key, 1, 1), world.namespace)
    del body["metadata"]["labels"]
    world.cluster.apply(EXPERIMENT, body)
    with pytest.raises(BadInput, match=rf"name {world.name} belongs to an Experiment .* that is not this one") as error:
        world.run(document)
    assert str(error.value.place) == "experiment.yaml:5:3"
    assert world.experiment()


def test_what_katibs_webhook_refuses_is_told_at_its_line(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        values["spec"]["algorithm"]["algorithmName"] = "clairvoyance"

    document = world.document(change=change)
    with pytest.raises(BadInput, match="clairvoyance") as error:
        world.run(document)
    line = (world.folder / "experiment.yaml").read_text().splitlines()[(error.value.place.line or 1) - 1]
    assert "clairvoyance" in line
    assert world.experiment() is None


@pytest.mark.parametrize(("key", "value"), [("env", []), ("tty", False), ("comand", ["x"])])
def test_template_that_katib_cannot_convert_is_told_at_its_line(world: World, key: str, value: Any) -> None:
    def change(values: dict[str, Any]) -> None:
        containers(values)[0][key] = value

    with pytest.raises(BadInput, match=key) as error:
        world.run(world.document(change=change))
    line = (world.folder / "experiment.yaml").read_text().splitlines()[(error.value.place.line or 1) - 1]
    assert key in line or "- name: training-container" in line
    assert error.value.exit_code == 2


def test_namespace_without_katibs_label_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with clusters.namespace(labels={}) as name:
        world = World(name, tmp_path)
        with pytest.raises(BadInput, match="would not collect metrics in the namespace") as error:
            world.run(world.document())
        assert "metrics-collector-injection=enabled" in error.value.fix
        assert not world.cluster.list(EXPERIMENT)


@only_double
def test_collector_that_was_not_added_ends_it_at_once(world: World) -> None:
    with pytest.raises(RemoteFailed, match="did not add its metrics collector to the pod random-") as failed:
        world.run(world.document(change=faults(not_injected=True)))
    assert "mutatingwebhookconfiguration" in failed.value.fix
    assert status_of(world.experiment(), "Failed") == "True"


@only_double
def test_pod_that_no_node_takes_is_told_once_and_ends_with_the_stall_limit(world: World) -> None:
    world.clock.when = lambda: world.has_said("does not run")
    with pytest.raises(RemoteFailed, match="ended no trial within 300 s") as failed:
        world.run(world.document(change=faults(unschedulable=True)), stall_timeout=LIMIT)
    said = [text for text in world.said if "does not run" in text]
    assert len(said) == 1
    assert "node" in said[0]
    assert "node" in failed.value.why


def test_image_that_cannot_be_pulled_ends_it_without_any_limit(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        containers(values)[0]["image"] = "localhost:1/nobody/nothing:0"

    world.clock.when = lambda: world.has_said("localhost:1/nobody/nothing:0")
    with pytest.raises(RemoteFailed, match="the nodes cannot pull an image") as failed:
        world.run(world.document(change=change))
    assert "localhost:1/nobody/nothing:0" in failed.value.why
    assert "127.0.0.1:1" in failed.value.why or "localhost:1/v2" in failed.value.why
    assert status_of(world.experiment(), "Failed") == "True"


@pytest.mark.parametrize(("quota", "who"), [({"requests.memory": "200Mi"}, "has no pod"), ({"pods": "0"}, "algorithm")])
def test_pods_that_a_quota_forbids_are_told(
    quota: dict[str, str], who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(values: dict[str, Any]) -> None:
        containers(values)[0]["resources"] = {"limits": {"memory": "1Gi"}}

    impatient(monkeypatch)
    with clusters.namespace() as name, clusters.katib(name):
        world = World(name, tmp_path)
        world.cluster.apply(
            RESOURCE_QUOTA,
            {"metadata": {"name": "small", "namespace": name}, "spec": {"hard": quota}},
        )
        until(lambda: (world.cluster.get(RESOURCE_QUOTA, "small") or {}).get("status", {}).get("used"))
        world.clock.when = lambda: world.has_said("exceeded quota: small")
        with pytest.raises(RemoteFailed, match="did not end within 300 s") as failed:
            world.run(world.document(change=change), timeout=LIMIT)
    assert "exceeded quota: small" in failed.value.why
    assert who in failed.value.why


@only_double
def test_algorithm_whose_service_does_not_start_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    said = "service of the algorithm is not ready", "Cannot pull the image"  # the latter of the service's pod
    world.clock.when = lambda: all(world.has_said(text) for text in said)
    with pytest.raises(RemoteFailed, match="ended no trial within 300 s") as failed:
        world.run(world.document(change=faults(suggestion="never-ready")), stall_timeout=LIMIT)
    assert said[0] in failed.value.why


@only_double
def test_algorithm_that_refuses_its_settings_ends_it_with_the_reason(world: World) -> None:
    with pytest.raises(BadInput, match="service of the algorithm refuses") as failed:
        world.run(world.document(change=faults(suggestion="fails")))
    assert "Validation failed" in failed.value.why


@only_double
def test_controllers_that_do_not_run_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(troubles, "_NEVER", 3.0)
    with clusters.namespace() as name, katib_without("controllers", name):
        world = World(name, tmp_path)
        with pytest.raises(RemoteFailed, match="Katib has not picked up the Experiment") as failed:
            world.run(world.document())
    assert "katib-controller" in failed.value.fix
    assert world.has_said("Katib has not picked up the Experiment")


@only_double
def test_webhooks_that_do_not_respond_are_told_within_a_minute(tmp_path: Path) -> None:
    with clusters.namespace() as name, katib_without("webhooks", name):
        world = World(name, tmp_path)
        world.clock.when = lambda: world.has_said("does not respond")
        with pytest.raises(RemoteFailed, match="Katib's webhook does not respond") as failed:
            world.run(world.document())
    assert "katib-controller" in failed.value.fix
    assert "failed calling webhook" in failed.value.why


@only_double
def test_controllers_that_stop_midway_are_told_and_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    monkeypatch.setattr(troubles, "_NEVER", 10.0)
    with pytest.raises(RemoteFailed, match="Katib has not noticed") as failed:
        world.run(world.document(change=faults(stops_after=1)), max_trials=4)
    assert "katib-controller" in failed.value.fix
    assert "1 trial ended; the best of them" in failed.value.why


def test_limit_gives_the_best_so_far_and_stops_the_trials(world: World) -> None:
    slow = world.document("(echo loss=${trialParameters.learningRate}; sleep 1)")
    world.clock.when = lambda: len(world.ended) >= 2
    outcome = world.run(slow, max_trials=50, timeout=LIMIT, at_limit="best")
    assert outcome.end == "TimeLimit"
    assert outcome.best.state == "Succeeded"
    assert {trial.state for trial in outcome.trials} <= {"Succeeded", "Killed"}
    assert status_of(world.experiment(), "Succeeded") == "True"
    until(lambda: not world.of_this(JOB))
    again = world.run(slow, max_trials=50)
    assert (again.end, again.best.name) == ("TimeLimit", outcome.best.name)


@pytest.mark.parametrize("keep", [True, False])
def test_cancel_stops_trials_and_keeps_or_deletes_the_experiment(world: World, keep: bool) -> None:
    def cancel() -> None:
        pods = [pod for pod in world.of_this(POD) if "katib.kubeflow.org/trial" in pod["metadata"]["labels"]]
        if any(pod["status"]["phase"] == "Running" for pod in pods):
            raise Cancelled(15)

    world.on_waiting = cancel
    with pytest.raises(Cancelled):
        world.run(world.document("sleep 600"), keep=keep)
    assert world.stopped == [0]
    until(lambda: not world.of_this(JOB))
    if keep:
        assert status_of(world.experiment(), "Failed") == "True"
        states = [status_of(trial, "Killed") for trial in world.of_this(TRIAL)]
        assert states
        assert set(states) == {"True"}
    else:
        until(lambda: world.experiment() is None)


def test_experiment_without_a_count_of_trials_stays_stopped(world: World) -> None:
    def cancel() -> None:
        if world.ended:
            raise Cancelled(15)

    def change(values: dict[str, Any]) -> None:
        del values["spec"]["maxTrialCount"]

    world.on_waiting = cancel
    with pytest.raises(Cancelled):
        world.run(world.document(change=change), max_trials=None)
    until(lambda: not world.of_this(JOB))
    stopped = world.experiment()
    assert status_of(stopped, "Failed") == "True"
    assert not status_of(stopped, "Restarting")


def test_experiment_that_somebody_deletes_is_an_error(world: World) -> None:
    def delete() -> None:
        world.cluster.delete(EXPERIMENT, world.name)

    world.on_waiting = delete
    with pytest.raises(RemoteFailed, match="was deleted while it ran"):
        world.run(world.document("sleep 600"))


def test_more_trials_are_asked_of_an_experiment_that_may_resume(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        values["spec"]["resumePolicy"] = "LongRunning"

    document = world.document(change=change)
    first = world.run(document, max_trials=2)
    assert len(first.trials) == 2
    more = world.run(document, max_trials=4)
    assert (len(more.trials), more.resumed, more.end) == (4, 2, "MaxTrialsReached")
    assert {trial.name for trial in first.trials} < {trial.name for trial in more.trials}


def test_more_trials_of_an_experiment_that_may_not_resume_are_refused_in_our_words(world: World) -> None:
    document = world.document()
    world.run(document)
    found = world.experiment()
    context = KatibContext(world.folder, {}, world.folder, say=world.said.append, cluster=lambda: world.cluster)
    assert found is not None
    with pytest.raises(BadInput, match="cannot be changed to `maxTrialCount: 4`") as error:
        begin._changed(world.cluster, TuneRequest(document, world.key, 2, 4), found, {"maxTrialCount": 4}, context)
    assert "`resumePolicy` is LongRunning or FromVolume" in error.value.why
    assert "reuse: false" in error.value.fix


def test_trial_that_takes_too_long_fails(world: World) -> None:
    with pytest.raises(ComponentFailed, match="1 trial failed") as failed:
        world.run(world.document("sleep 600"), trial_timeout=3, parallel=1)
    assert "eadline" in failed.value.why


def test_killed_job_that_is_run_again_goes_on_with_the_experiment(world: World) -> None:
    class Killed(BaseException):
        """As if this process had gone."""

    def kill() -> None:
        if world.ended:
            raise Killed

    document = world.document("(echo loss=${trialParameters.learningRate}; sleep 1)")
    world.on_waiting = kill
    with pytest.raises(Killed):
        world.run(document, max_trials=4)
    again = World(world.namespace, world.folder)
    again.key = world.key
    outcome = again.run(document, max_trials=4)
    assert len(outcome.trials) == 4
    assert {trial.name for trial in world.ended} <= set(again.recalled)
    assert outcome.resumed == len(again.recalled)
    assert not set(again.recalled) & {trial.name for trial in again.ended}, "each is told once"


@pytest.mark.parametrize("retain", [True, False])
def test_early_stopped_trials_count_with_their_value_if_katib_can_read_it(
    world: World, retain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(values: dict[str, Any]) -> None:
        settings = [{"name": "min_trials_required", "value": "1"}, {"name": "start_step", "value": "2"}]
        values["spec"]["earlyStopping"] = {"algorithmName": "medianstop", "algorithmSettings": settings}
        values["spec"]["trialTemplate"]["retain"] = retain

    # every trial is worse than the one before it, by the clock
    document = world.document("(for i in 1 2 3 4 5 6; do echo loss=$(date +%s); sleep 0.5; done)", change=change)
    if not retain:
        impatient(monkeypatch)
        world.clock.when = lambda: world.has_said("it starts no other trial until it has")
        with pytest.raises(RemoteFailed, match="ended no trial within 300 s") as failed:
            world.run(document, max_trials=3, parallel=1, stall_timeout=LIMIT)
        assert "Set `retain: true`" in failed.value.why
        assert [trial.state for trial in world.ended] == ["Succeeded", "EarlyStopped"]
        assert all(trial.value is not None for trial in world.ended), "its log has it"
        return
    outcome = world.run(document, max_trials=3, parallel=1)
    assert [trial.state for trial in outcome.trials] == ["Succeeded", "EarlyStopped", "EarlyStopped"]
    assert all(trial.value is not None and trial.value > outcome.value for trial in outcome.trials[1:])


@only_double
def test_katibs_restart_and_late_words_change_nothing(tmp_path: Path) -> None:
    from doubles.katib import KatibDouble

    with (
        clusters.namespace() as name,
        KatibDouble(
            os.environ["KUBECONFIG"], name, trials="simulated", conditions="reversed", optimal_after=99, status_late=0.3
        ) as double,
    ):
        world = World(name, tmp_path)
        restarted = threading.Event()

        def restart() -> None:
            if len(world.ended) >= 5 and not restarted.is_set():
                restarted.set()
                double.restart()

        world.on_waiting = restart
        outcome = world.run(world.document(), max_trials=60, parallel=5)
        assert restarted.is_set()
        names = [trial.name for trial in world.ended]
        assert len(names) == len(set(names)) == len(outcome.trials) == 60
        assert sorted(world.begun) == sorted(names)
        assert outcome.value == min(trial.value or 9 for trial in outcome.trials)
        assert not (world.experiment() or {})["status"]["currentOptimalTrial"].get("bestTrialName")
        assert world.cluster.requests < 30


def test_goal_ends_it_early(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        values["spec"]["objective"]["goal"] = 5.0

    outcome = world.run(world.document(change=change), parallel=1, max_trials=9)
    assert outcome.end == "GoalReached"
    assert len(outcome.trials) < 9


def test_experiment_whose_parameters_do_not_match_the_template_is_refused_at_its_line(world: World) -> None:
    def change(values: dict[str, Any]) -> None:
        values["spec"]["trialTemplate"]["trialParameters"][0]["reference"] = "rate"

    with pytest.raises(BadInput, match="rate") as error:
        world.run(world.document(change=change))
    line = (world.folder / "experiment.yaml").read_text().splitlines()[(error.value.place.line or 1) - 1]
    assert "trialParameters" in line or "reference" in line


def test_cluster_without_katib_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin, "EXPERIMENT", replace(EXPERIMENT, version="v0"))
    with pytest.raises(RemoteFailed, match="does not know experiments") as failed:
        world.run(world.document())
    assert "Install Katib" in failed.value.fix


def test_namespace_that_is_not_there_is_told(tmp_path: Path) -> None:
    world = World("no-such-namespace", tmp_path)
    with pytest.raises(BadInput, match="namespace no-such-namespace does not exist"):
        world.run(world.document())


def test_rights_of_the_manifest_suffice_and_without_any_the_missing_one_is_named(world: World) -> None:
    account = f"tuner-{world.key[:8]}"
    documents = list(yaml.safe_load_all(rights.manifest(world.namespace, account, parts=["katib"])))
    admin = world.cluster
    try:
        admin.apply(SERVICE_ACCOUNT, documents[0])
        world.cluster = as_account(admin, account)
        with pytest.raises(RemoteFailed, match=r"may not get experiments.kubeflow.org in the namespace") as failed:
            world.run(world.document())
        assert "mlops rbac" in failed.value.fix
        for document in documents[1:]:
            admin.apply(KINDS[document["kind"]], document)
        until(lambda: world.cluster.may("patch", TRIAL, subresource="status"))
        world.clock.when = lambda: world.begun
        with pytest.raises(RemoteFailed, match="did not end within 300 s"):
            world.run(world.document("sleep 600"), timeout=LIMIT)
        assert status_of(world.experiment(), "Failed") == "True", "it may be kept"
        assert not [said for said in world.said if "is deleted" in said]
    finally:
        world.cluster = admin
        for document in documents:
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])


def test_trials_get_the_stores_variables_and_keys_and_the_image_that_was_built(world: World) -> None:
    world.store_secret = f"keys-{world.key[:8]}"
    clusters.make_secret(world.namespace, world.store_secret, {"AWS_ACCESS_KEY_ID": "0.125"})
    world.variables = {"AWS_ENDPOINT_URL": "0.5", "OWN": "never"}

    def change(values: dict[str, Any]) -> None:
        containers(values)[0] |= {"image": "nobody/nothing:0", "env": [{"name": "OWN", "value": "0.25"}]}

    document = world.document("echo loss=$AWS_ACCESS_KEY_ID extra=$AWS_ENDPOINT_URL own=$OWN", change=change)
    outcome = world.run(document, max_trials=1, image=IMAGE, logs=True)
    assert outcome.value == 0.125
    assert "loss=0.125 extra=0.5 own=0.25" in outcome.logs[0].read_text()
