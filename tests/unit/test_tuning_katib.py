"""The engine `katib`: what it applies, how it reads what Katib writes, and what a person sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from given import no_cluster
from mlops_actions.errors import BadInput, Place
from mlops_actions.kubernetes.objects import Change
from mlops_actions.tuning.engine import Trial, TuneRequest
from mlops_actions.tuning.experiment import Experiment
from mlops_actions.tuning.katib import manifest, status
from mlops_actions.tuning.katib.context import KatibContext
from mlops_actions.tuning.katib.trials import Trials
from mlops_actions.tuning.katib.troubles import Troubles
from mlops_actions.tuning.katib.unreported import unreported
from mlops_actions.tuning.progress import TuningProgress
from mlops_actions.tuning.reading import Document, read
from mlops_actions.waiting import Clock

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"
KEY = "0123456789abcdef0123456789abcdef"


def values_of(**spec: Any) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((KATIB / "example-random.yaml").read_text())
    values["spec"] |= spec
    return values


def experiment(**spec: Any) -> Experiment:
    return Experiment.model_validate(values_of(**spec))


def document(folder: Path, values: dict[str, Any]) -> Document:
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return read(folder / "experiment.yaml", "experiment.yaml")


def request(of: Document, **given: Any) -> TuneRequest:
    return TuneRequest(of, KEY, **{"parallel": 3, "max_trials": 12, **given})


def body(*conditions: str, name: str = "random-x", metrics: dict[str, tuple[str, str, str]] | None = None) -> Any:
    """A Trial with conditions `Type` or `Type=False`, and metrics as (min, max, latest)."""
    observed = [{"name": n, "min": v[0], "max": v[1], "latest": v[2]} for n, v in (metrics or {}).items()]
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-01-31T12:00:00Z"},
        "spec": {"parameterAssignments": [{"name": "lr", "value": "0.02"}, {"name": "momentum", "value": "0.7"}]},
        "status": {
            "conditions": [
                {"type": text.partition("=")[0], "status": text.partition("=")[2] or "True", "message": text}
                for text in conditions
            ],
            "startTime": "2026-01-31T12:00:00Z",
            "completionTime": "2026-01-31T12:01:30Z",
            "observation": {"metrics": observed} if metrics else None,
        },
    }


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], "Pending"),
        (["Created"], "Pending"),
        (["Created", "Running"], "Running"),
        (["Succeeded", "Running=False", "Created"], "Succeeded"),
        (["Created", "Running=False", "Failed"], "Failed"),
        (["Created", "Running", "EarlyStopped"], "EarlyStopped"),
        (["Created", "Running=False", "MetricsUnavailable"], "MetricsUnavailable"),
        (["Created", "Running=False", "Succeeded=False"], "MetricsUnavailable"),
        (["Created", "Running=False", "Killed"], "Killed"),
    ],
)
def test_state_of_a_trial_in_all_releases_and_any_order_of_conditions(conditions: list[str], state: str) -> None:
    for order in (conditions, conditions[::-1]):
        found = status.trial(body(*order, metrics={"loss": ("0.1", "0.9", "0.5")}), experiment(), 4)
        assert (found.state, found.number) == (state, 4)


@pytest.mark.parametrize(("strategy", "value"), [("min", 0.1), ("max", 0.9), ("latest", 0.5)])
def test_value_that_counts_is_that_of_the_strategy(strategy: str, value: float) -> None:
    objective = {
        "type": "minimize",
        "objectiveMetricName": "loss",
        "metricStrategies": [{"name": "loss", "value": strategy}],
    }
    found = status.trial(body("Succeeded", metrics={"loss": ("0.1", "0.9", "0.5")}), experiment(objective=objective), 0)
    assert found.value == found.metrics["loss"] == value
    assert found.seconds == 90


def test_value_that_is_no_number_is_none() -> None:
    late = status.trial(body("Succeeded", metrics={"loss": ("unavailable", "unavailable", "0.5")}), experiment(), 0)
    assert (late.state, late.value) == ("Succeeded", 0.5)
    text = status.trial(body("Succeeded", metrics={"loss": ("unavailable", "unavailable", "nan")}), experiment(), 0)
    assert (text.state, text.value) == ("MetricsUnavailable", None)
    assert "'loss' is not a number" in text.message


def test_parameters_have_the_types_of_the_search_space() -> None:
    space = [
        {"name": "depth", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "9"}},
        {"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0", "max": "1"}},
        {"name": "rate", "parameterType": "discrete", "feasibleSpace": {"list": ["0.1", "0.2"]}},
        {"name": "kind", "parameterType": "categorical", "feasibleSpace": {"list": ["sgd", "adam"]}},
    ]
    trial = body("Running")
    given = {"depth": "3.0", "lr": "1e-3", "rate": "0.10", "kind": "sgd", "architecture": "[[3]]"}
    trial["spec"]["parameterAssignments"] = [{"name": name, "value": value} for name, value in given.items()]
    found = status.trial(trial, experiment(parameters=space), 0).parameters
    assert found == {"depth": 3, "lr": 0.001, "rate": "0.1", "kind": "sgd", "architecture": "[[3]]"}
    assert isinstance(found["depth"], int)


def test_reason_of_a_failure_is_the_jobs() -> None:
    trial = body("Failed")
    trial["status"]["conditions"][0]["message"] = "Trial has failed. Job message: Job was active too long"
    assert status.trial(trial, experiment(), 0).message == "Job was active too long"


def test_name_is_short_enough_for_what_katib_makes_of_it() -> None:
    values = values_of()
    values["metadata"]["name"] = "an-experiment-with-a-name-of-30--and-some-more"
    name = manifest.name(Experiment.model_validate(values), KEY)
    assert name == "an-experiment-with-a-name-of-30-01234567"
    assert len(name) <= 40
    assert manifest.name(experiment(), KEY) == "random-01234567"


def test_what_is_applied_is_the_yaml_with_what_the_request_sets(tmp_path: Path) -> None:
    values = values_of()
    values["metadata"] |= {"uid": "1", "resourceVersion": "2", "labels": {"team": "flights"}}
    values["status"] = {"trials": 3}
    given = document(tmp_path, values)
    made = manifest.body(request(given, parallel=2, max_trials=2, trial_timeout=90.5, run="run-7"), "staging")
    assert made["metadata"] == {
        "name": "random-01234567",
        "namespace": "staging",
        "labels": {"team": "flights", "mlops-actions/key": KEY},
        "annotations": {"mlops-actions/experiment": "random", "mlops-actions/run": "run-7"},
    }
    assert "status" not in made
    counts = {key: made["spec"].pop(key) for key in ("parallelTrialCount", "maxTrialCount", "maxFailedTrialCount")}
    assert counts == {"parallelTrialCount": 2, "maxTrialCount": 2, "maxFailedTrialCount": 2}
    assert made["spec"]["trialTemplate"]["trialSpec"]["spec"].pop("activeDeadlineSeconds") == 91
    assert all(made["spec"][key] == values["spec"][key] for key in made["spec"])
    assert given.values["spec"]["maxTrialCount"] == 12, "what was read is not changed"


def container_of(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("env", [{}, {"env": []}, {"env": [{"name": "OWN", "value": "1"}]}])
def test_template_is_sent_as_it_was_written_when_there_is_nothing_to_add(env: dict[str, Any], tmp_path: Path) -> None:
    values = values_of()
    container_of(values).update(env)
    given = request(document(tmp_path, values))
    for variables in ({}, {"EMPTY": ""}):
        context = KatibContext(tmp_path, {}, tmp_path, variables=variables, cluster=no_cluster)
        made = manifest.furnished(manifest.body(given, "staging"), given, context)
        assert made["spec"]["trialTemplate"] == values["spec"]["trialTemplate"]


@pytest.mark.parametrize("env", [{}, {"env": []}])
def test_variables_are_added_to_a_container_that_has_none(env: dict[str, Any], tmp_path: Path) -> None:
    values = values_of()
    container_of(values).update(env)
    given = request(document(tmp_path, values))
    context = KatibContext(tmp_path, {}, tmp_path, variables={"STORE": "s3://x"}, cluster=no_cluster)
    made = manifest.furnished(manifest.body(given, "staging"), given, context)
    assert container_of(made)["env"] == [{"name": "STORE", "value": "s3://x"}]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("[]", "containers[0].command` is empty, which Katib does not accept"),
        ("map[a:1]", "containers[0].command` is not a field of a Job, or not in Kubernetes' own form: map[a:1]"),
    ],
)
def test_template_that_katib_cannot_convert_is_told_at_its_line(value: str, what: str, tmp_path: Path) -> None:
    given = document(tmp_path, values_of())
    why = 'spec.trialTemplate: Invalid value: "": invalid spec.trialTemplate: unable to convert:'
    why += f' /spec/template/spec/containers/0/command - {value} to Job, converted template: {{"kind":"Job"}}'
    error = manifest.refused(given, "The cluster refused", why)
    assert what in error.what
    assert error.fix
    line = (tmp_path / "experiment.yaml").read_text().splitlines()[((error.place or Place("")).line or 1) - 1]
    assert line.strip() == "command:"


def test_shorter_deadline_of_the_yaml_stays(tmp_path: Path) -> None:
    values = values_of()
    values["spec"]["trialTemplate"]["trialSpec"]["spec"]["activeDeadlineSeconds"] = 30
    made = manifest.body(request(document(tmp_path, values), trial_timeout=90), "staging")
    assert made["spec"]["trialTemplate"]["trialSpec"]["spec"]["activeDeadlineSeconds"] == 30


def test_time_of_a_trial_that_is_no_job_cannot_be_limited(tmp_path: Path) -> None:
    values = values_of()
    values["spec"]["trialTemplate"]["trialSpec"] |= {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    given = document(tmp_path, values)
    manifest.body(request(given), "staging")
    with pytest.raises(BadInput, match="`trial-timeout` is not supported") as error:
        manifest.body(request(given, trial_timeout=90), "staging")
    assert error.value.place == given.place(("spec", "trialTemplate", "trialSpec", "kind"))


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ('spec.parameters[1].feasibleSpace.max: Required value: feasibleSpace.max must be specified', "max: '0.9'"),
        ('metadata.name: Invalid value: "x": name must consist of', "name: random"),
        ("spec.trialTemplate.trialParameters[0].reference: Invalid value", "reference: lr"),
        ("spec.algorithm.nowhere: it is not there", "algorithm:"),
        ("it says nothing of a field", "apiVersion: kubeflow.org/v1beta1"),
    ],
)  # fmt: skip
def test_refusal_is_told_at_the_line_that_it_speaks_of(message: str, line: str, tmp_path: Path) -> None:
    given = document(tmp_path, values_of())
    place = manifest.place(given, message)
    assert isinstance(place, Place)
    assert (tmp_path / "experiment.yaml").read_text().splitlines()[(place.line or 0) - 1].strip() == line


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it printed nothing, or its log is gone"),
        ("epoch 1\nvalid-loss=0.25\n", "did you mean `objectiveMetricName: valid-loss`?"),
        ("epoch 1\nloss = nan\n", "but as 'loss = nan'"),
        ("accuracy=0.9\n", "it printed accuracy=0.9"),
        ('{"epoch": 1, "f1": "0.4"}\n', "it printed epoch=1, f1=0.4"),
        ("all is well\n", "it printed no metric at all"),
        ("loss=0.25\n", "where Katib does not look"),
    ],
)
def test_metric_that_is_missing_is_explained_by_what_was_printed(log: str, words: str) -> None:
    cause = unreported(experiment(), log)
    assert words in cause.message
    assert cause.fix


class Told:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def resumed(self, trials: list[Trial]) -> None:
        self.steps += [f"resumed {trial.name}" for trial in trials]

    def started(self, trial: Trial, running: int) -> None:
        self.steps.append(f"started {trial.name} {running}")

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        self.steps.append(f"{trial.state} {trial.name} {best.name if best else '-'} {done}")

    def waiting(self, running: int, pending: int) -> None:
        pass

    def interrupted(self, best: Trial | None, done: int) -> None:
        pass


def test_each_step_of_a_trial_is_told_once_even_when_its_status_goes_back() -> None:
    told = Told()
    trials = Trials(retained(), told, lambda trial: trial)
    done = {"loss": ("0.1", "0.1", "0.1")}

    def see(*bodies: Any) -> int:
        for one in bodies:
            trials.see(Change("MODIFIED", one))
        return trials.tell()

    assert see(body("Created", name="b"), body("Created", name="a")) == 0
    assert (trials.running, trials.pending) == ([], ["a", "b"])
    see(body("Running", name="a"))
    see(body("Created", name="a"), body("Running", name="a"))
    assert see(body("Running=False", "Succeeded", name="a", metrics=done)) == 1
    assert see(body("Running", name="a"), body("Created", name="a")) == 0
    assert see(body("Running", "EarlyStopped", name="b")) == 0
    assert trials.unobserved == ["b"]
    assert trials.awaited
    assert see(body("Running", "EarlyStopped", name="b", metrics={"loss": ("0.3", "0.3", "0.3")})) == 1
    assert not trials.unobserved
    assert told.steps == ["started a 1", "Succeeded a a 1", "started b 1", "EarlyStopped b a 2"]
    assert [trial.number for trial in trials.ended.values()] == [0, 1]


def retained() -> Experiment:
    """One whose trials' Jobs stay, so that Katib reads the values of those that it stops early."""
    return experiment(trialTemplate=values_of()["spec"]["trialTemplate"] | {"retain": True})


def test_value_of_a_stopped_trial_is_awaited_only_if_katib_will_read_it() -> None:
    for of, awaited in ((retained(), True), (experiment(), False)):
        trials = Trials(of, Told(), lambda trial: trial)
        trials.see(Change("MODIFIED", body("Running", "EarlyStopped", name="b")))
        trials.tell()
        assert (trials.awaited, "b" in trials.ended, trials.unobserved) == (awaited, not awaited, ["b"])
        trials.tell(last=True)
        assert trials.ended["b"].state == "EarlyStopped"


def test_trial_that_is_deleted_while_it_runs_was_killed() -> None:
    told = Told()
    trials = Trials(experiment(), told, lambda trial: trial)
    trials.see(Change("ADDED", body("Running", name="a")))
    trials.tell()
    trials.see(Change("DELETED", {"metadata": {"name": "a"}}))
    trials.see(Change("DELETED", {"metadata": {"name": "unknown"}}))
    assert told.steps == ["started a 1", "Killed a - 1"]


def test_trials_of_an_earlier_job_are_recalled_and_those_that_run_are_told() -> None:
    told = Told()
    trials = Trials(experiment(), told, lambda trial: trial)
    trials.recall([body("Running", name="b"), body("Succeeded", name="a", metrics={"loss": ("1", "1", "1")})])
    trials.tell()
    assert told.steps == ["resumed a", "started b 1"]
    assert trials.best is not None
    assert trials.best.recalled


def test_trouble_is_said_once_a_reason_and_is_remembered_while_it_lasts() -> None:
    said: list[str] = []
    troubles = Troubles(said.append)
    for pod in ("a", "b", "a"):
        troubles.found(pod, "Unschedulable", "no node has room")
    troubles.found("c", "ErrImagePull", "no such image")
    assert said == ["no node has room", "no such image"]
    assert troubles.now == "no node has room; no such image"
    troubles.over("a")
    troubles.over("c")
    assert troubles.now == "no node has room"
    troubles.over("b")
    assert not troubles.now


class Hands(Clock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class Lines:
    """A console that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown = ""

    def say(self, text: str) -> None:
        self.said.append(text)

    def status(self, text: str) -> None:
        self.shown = text


def progress(total: int | None) -> tuple[TuningProgress, Lines, Hands]:
    console, clock = Lines(), Hands()
    return TuningProgress(console, experiment(), total, clock), console, clock  # type: ignore[arg-type]


def trial(number: int, value: float | None, state: Any = "Succeeded") -> Trial:
    return Trial(number, f"random-{number}", {"lr": 0.02, "momentum": 0.7}, state, {}, value, 1.0, "exit code 3")


def test_thousand_trials_are_told_in_a_hundred_lines_and_each_best_one() -> None:
    shown, console, _ = progress(1000)
    best: Trial | None = None
    for number in range(1000):
        one = trial(number, 1.0 / (1 + number // 100))
        best = one if best is None or (one.value or 0) < (best.value or 0) else best
        shown.started(one, 1)
        shown.finished(one, best, number + 1)
    assert len([line for line in console.said if "★" in line]) == 10
    assert 100 <= len(console.said) <= 110


def test_of_many_failures_the_first_are_told() -> None:
    shown, console, _ = progress(1000)
    for number in range(1000):
        shown.started(trial(number, None), 1)
        shown.finished(trial(number, None, "Failed"), None, number + 1)
    assert all("Failed: exit code 3" in line for line in console.said)
    assert len(console.said) == 20 + 98


def test_hundred_trials_are_told_one_by_one() -> None:
    shown, console, _ = progress(100)
    for number in range(100):
        shown.started(trial(number, 1.0), 1)
        shown.finished(trial(number, 1.0), None, number + 1)
    assert len(console.said) == 100


def test_what_runs_is_shown_with_an_estimate_and_said_once_a_minute() -> None:
    shown, console, clock = progress(10)
    shown.waiting(0, 2)
    assert console.shown == "0/10 done, 0 running, 2 waiting to run"
    shown.started(trial(0, None), 1)
    clock.time = 30.0
    one = trial(0, 0.5)
    shown.finished(one, one, 1)
    said = len(console.said)
    for second in range(31, 220):
        clock.time = float(second)
        shown.waiting(3, 0)
    assert console.said[said:] == [
        "1/10 done, 3 running, best 0.5, about 14 min left",
        "1/10 done, 3 running, best 0.5, about 22 min left",
        "1/10 done, 3 running, best 0.5, about 32 min left",
    ]
