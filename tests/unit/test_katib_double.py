"""The double of Katib by itself: templates, output, conditions and counts, held to what real Katib wrote."""

from __future__ import annotations

import copy
import json
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("kubernetes", reason="no kubernetes client: `pip install kubernetes`")

from doubles.katib import ANNOTATION, Faults, conditions, metrics
from doubles.katib.algorithms import MedianStop, NoMoreSuggestions, Refused, suggest, validate_settings
from doubles.katib.collector import StopRules, json_metrics, observation_log, text_metrics
from doubles.katib.controller import Queue
from doubles.katib.defaults import set_defaults
from doubles.katib.double import difference
from doubles.katib.experiments import judge, new_trial, summarize
from doubles.katib.injection import LABEL, InjectionError, inject
from doubles.katib.manifest import TemplateError, matching, run_spec
from doubles.katib.validation import aggregate, validate

DATA = Path(__file__).resolve().parents[1] / "data" / "katib"
PUBLISHED = yaml.safe_load((DATA / "statuses.yaml").read_text())
ENABLED = {LABEL: "enabled"}


def experiment(example: str = "random") -> dict[str, Any]:
    """A published example, as the webhook leaves it."""
    body: dict[str, Any] = yaml.safe_load((DATA / f"example-{example}.yaml").read_text())
    set_defaults(body)
    return body


def trial(name: str, *states: str, loss: str = "", owner: dict[str, Any] | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "metadata": {"name": name},
        "spec": {"objective": (owner or experiment())["spec"]["objective"], "parameterAssignments": []},
        "status": {},
    }
    for state in states:
        conditions.put(body, state, f"Trial{state}", "")
    if loss:
        body["status"]["observation"] = {"metrics": [{"name": "loss", "min": loss, "max": loss, "latest": loss}]}
    return body


@pytest.mark.parametrize("example", ["random", "grid", "tpe", "median-stop"])
def test_published_examples_are_admitted(example: str) -> None:
    body = experiment(example)
    assert validate(body, None, ENABLED, body["spec"]["trialTemplate"]["trialSpec"]) == []


def test_defaults_are_those_of_the_webhook() -> None:
    body = experiment()
    del body["spec"]["parallelTrialCount"]
    body["spec"]["objective"].update(type="maximize", additionalMetricNames=["accuracy"])
    del body["spec"]["objective"]["metricStrategies"]
    set_defaults(body)
    spec = body["spec"]
    assert (spec["parallelTrialCount"], spec["resumePolicy"]) == (3, "Never")
    assert spec["objective"]["metricStrategies"] == [
        {"name": "loss", "value": "max"},
        {"name": "accuracy", "value": "max"},
    ]
    assert spec["metricsCollectorSpec"] == {"collector": {"kind": "StdOut"}}
    assert spec["trialTemplate"]["successCondition"] == 'status.conditions.#(type=="Complete")#|#(status=="True")#'
    assert spec["parameters"][0]["feasibleSpace"]["distribution"] == "uniform"


def _change(path: str, value: Any) -> Any:
    def change(body: dict[str, Any]) -> None:
        *parts, last = path.split(".")
        found: Any = body
        for part in parts:
            found = found[int(part)] if part.isdigit() else found[part]
        if value is None:
            del found[last]
        else:
            found[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_change("spec.algorithm.algorithmName", "magic"), "spec.algorithm.algorithmName: Invalid value"),
        (_change("spec.objective.objectiveMetricName", ""), "spec.objective.objectiveMetricName: Required value"),
        (_change("spec.objective.type", "best"), "must be minimize or maximize"),
        (_change("spec.objective", None), "spec.objective: Required value: must be specified"),
        (_change("spec.parameters.0.parameterType", "float"), "parameterType: float is not supported"),
        (_change("spec.parameters.0.feasibleSpace", {"list": ["1"]}), "feasibleSpace.list is not supported"),
        (_change("spec.parameters", None), "spec.parameters or spec.nasConfig must be specified"),
        (_change("spec.trialTemplate.trialParameters.0.reference", "rate"), "parameter reference rate does not exist"),
        (_change("spec.trialTemplate.trialParameters.0.name", "rate"), "not found in spec.trialTemplate"),
        (_change("spec.trialTemplate.primaryContainerName", ""), "spec.trialTemplate.primaryContainerName: Required"),
        (_change("spec.maxTrialCount", 2), "should be less than or equal to spec.maxTrialCount"),
        (_change("spec.resumePolicy", "Sometimes"), "invalid ResumePolicyType"),
        (
            _change("spec.metricsCollectorSpec.collector.kind", "PrometheusMetric"),
            "GetMetricsCollectorConfigData failed",
        ),
        (_change("metadata.name", "9lives"), "metadata.name: Invalid value"),
        (_change("metadata.name", "a" * 41), "may not be longer than 40 characters"),
        (_change("spec.parameters.0.feasibleSpace", {}), "feasibleSpace must be specified"),
    ],
)
def test_wrong_experiment_is_refused_with_katibs_words(change: Any, why: str) -> None:
    body = experiment()
    change(body)
    assert why in aggregate(validate(body, None, ENABLED, body["spec"]["trialTemplate"]["trialSpec"]))


def test_placeholder_without_a_trial_parameter_is_refused() -> None:
    body = experiment()
    del body["spec"]["trialTemplate"]["trialParameters"][1]
    errors = validate(body, None, ENABLED, body["spec"]["trialTemplate"]["trialSpec"])
    assert "parameters: [${trialParameters.momentum}] in spec.trialTemplate not found" in aggregate(errors)


def test_namespace_without_the_label_is_refused() -> None:
    body = experiment()
    errors = validate(body, None, {}, body["spec"]["trialTemplate"]["trialSpec"])
    assert errors == [
        'Cannot create the Experiment "random" in namespace "kubeflow": the namespace lacks label '
        '"katib.kubeflow.org/metrics-collector-injection: enabled"'
    ]


def test_only_counts_of_an_experiment_can_be_changed() -> None:
    old = experiment()
    new = copy.deepcopy(old)
    template = new["spec"]["trialTemplate"]["trialSpec"]
    new["spec"]["maxTrialCount"] = 20
    assert validate(new, old, ENABLED, template) == []
    new["spec"]["objective"]["goal"] = 0.1
    assert "are editable" in aggregate(validate(new, old, ENABLED, template))


def test_ended_experiment_restarts_only_by_its_resume_policy() -> None:
    old = experiment()
    conditions.put(old, "Succeeded", "ExperimentMaxTrialsReached", "")
    new = copy.deepcopy(old)
    new["spec"]["maxTrialCount"] = 20
    template = new["spec"]["trialTemplate"]["trialSpec"]
    assert "Experiment can be restarted" in aggregate(validate(new, old, ENABLED, template))
    for body in (old, new):
        body["spec"]["resumePolicy"] = "LongRunning"
    assert validate(new, old, ENABLED, template) == []


def test_template_is_filled_with_parameters_and_metadata() -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": {"team": "blue"}, "annotations": {"a/b": "c"}},
        "spec": {"x": "${trialParameters.lr} ${trialParameters.n}/${trialParameters.ns} ${trialParameters.k}"},
        "more": ["${trialParameters.v}", "${trialParameters.l}${trialParameters.a}"],
    }
    references = {
        "lr": "lr", "n": "${trialSpec.Name}", "ns": "${trialSpec.Namespace}", "k": "${trialSpec.Kind}",
        "v": "${trialSpec.APIVersion}", "l": "${trialSpec.Labels[team]}", "a": "${trialSpec.Annotations[a/b]}",
    }  # fmt: skip
    template = {"trialParameters": [{"name": name, "reference": to} for name, to in references.items()]}
    filled = run_spec(template, job, "t-1", "space", [{"name": "lr", "value": "0.1"}])
    assert filled["spec"]["x"] == "0.1 t-1/space Job"
    assert filled["more"] == ["batch/v1", "bluec"]
    assert (filled["metadata"]["name"], filled["metadata"]["namespace"]) == ("t-1", "space")


@pytest.mark.parametrize("reference", ["${trialSpec.Labels[none]}", "${trialSpec.Labels}", "lr2"])
def test_reference_to_nothing_is_an_error(reference: str) -> None:
    template = {"trialParameters": [{"name": "x", "reference": reference}]}
    with pytest.raises(TemplateError):
        run_spec(template, {"kind": "Job"}, "t", "n", [])


def test_success_condition_is_looked_up_in_the_object() -> None:
    expression = 'status.conditions.#(type=="Complete")#|#(status=="True")#'
    done = {"type": "Complete", "status": "True", "message": "yes"}
    assert matching({"status": {"conditions": [{"type": "Suspended", "status": "True"}, done]}}, expression) == done
    assert matching({"status": {"conditions": [{**done, "status": "False"}]}}, expression) is None
    assert matching({}, expression) is None


def test_conditions_move_to_the_end_and_keep_their_time() -> None:
    body: dict[str, Any] = {}
    conditions.put(body, "Created", "TrialCreated", "Trial is created")
    conditions.put(body, "Running", "TrialRunning", "Trial is running")
    before = copy.deepcopy(body)
    conditions.put(body, "Running", "TrialRunning", "another message")
    assert body == before
    conditions.end(body, "Failed", "TrialFailed", "Trial has failed")
    told = [{key: c[key] for key in ("message", "reason", "status", "type")} for c in body["status"]["conditions"]]
    assert told == PUBLISHED["trial-failed"]["conditions"]


def test_status_is_the_one_that_katib_published() -> None:
    expected = PUBLISHED["experiment-running"]["status"]
    body = experiment()
    body["spec"]["objective"] = {"type": "maximize", "objectiveMetricName": "Validation-accuracy", "goal": 0.99}
    set_defaults(body)
    best = expected["currentOptimalTrial"]
    trials = [trial(name, "Created", "Running", owner=body) for name in expected["runningTrialList"]]
    for name in expected["succeededTrialList"]:
        one = trial(name, "Created", "Succeeded", owner=body)
        worse = {"name": "Validation-accuracy", "min": "0.1", "max": "0.2", "latest": "0.15"}
        one["status"]["observation"] = {"metrics": [worse]}
        if name == best["bestTrialName"]:
            one["status"]["observation"] = best["observation"]
            one["spec"]["parameterAssignments"] = best["parameterAssignments"]
        trials.append(one)
    conditions.put(body, "Created", "ExperimentCreated", "Experiment is created")
    reached = summarize(body, trials)
    judge(body, reached)
    assert not reached
    told = {key: value for key, value in body["status"].items() if key != "conditions"}
    assert told == {key: value for key, value in expected.items() if key not in ("conditions", "startTime")}
    _same_conditions(body, expected["conditions"])


def test_early_stopped_trials_are_listed_as_katib_published() -> None:
    expected = PUBLISHED["experiment-early-stopped"]["status"]
    body = experiment("median-stop")
    # As Katib leaves it: the trial is early stopped, and still running.
    trials = [trial(n, "Created", "Running", "EarlyStopped", owner=body) for n in expected["earlyStoppedTrialList"]]
    trials += [trial(name, "Succeeded", loss="0.3", owner=body) for name in expected["succeededTrialList"]]
    conditions.put(body, "Created", "ExperimentCreated", "Experiment is created")
    judge(body, summarize(body, trials))
    shown = ("earlyStoppedTrialList", "succeededTrialList", "trials", "trialsEarlyStopped", "trialsSucceeded")
    assert {key: body["status"][key] for key in shown} == {key: expected[key] for key in shown}
    assert "runningTrialList" not in body["status"]


def _same_conditions(body: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    keys = ("type", "status", "reason", "message")
    told = [{key: c[key] for key in keys} for c in body["status"]["conditions"]]
    assert told == [{key: c[key] for key in keys} for c in expected]


@pytest.mark.parametrize(
    ("states", "spec", "ending"),
    [
        (["Succeeded"] * 12, {}, ("Succeeded", "ExperimentMaxTrialsReached")),
        (["Failed"] * 3, {}, ("Failed", "ExperimentFailed")),
        (["Failed", "MetricsUnavailable", "Failed"], {}, ("Failed", "ExperimentFailed")),
        (["Failed"], {"maxFailedTrialCount": 0}, ("Failed", "ExperimentFailed")),
        (["Killed", "EarlyStopped"], {"maxTrialCount": 2}, ("Succeeded", "ExperimentMaxTrialsReached")),
        (["Failed"] * 2 + ["Running"], {}, ("Running", "ExperimentRunning")),
    ],
)
def test_experiment_ends_for_katibs_reasons(states: list[str], spec: dict[str, Any], ending: tuple[str, str]) -> None:
    body = experiment()
    body["spec"].update(spec)
    conditions.put(body, "Running", "ExperimentRunning", "Experiment is running")
    reached = summarize(body, [trial(f"t{number}", state) for number, state in enumerate(states)])
    judge(body, reached)
    last = body["status"]["conditions"][-1]
    assert (last["type"], last["reason"]) == ending
    assert ("completionTime" in body["status"]) == (ending[0] != "Running")


def test_goal_ends_the_experiment_with_the_best_trial() -> None:
    body = experiment()
    conditions.put(body, "Created", "ExperimentCreated", "Experiment is created")
    trials = [trial("a", "Succeeded", loss="0.5"), trial("b", "Succeeded", loss="0.001"), trial("c", "Running")]
    assert summarize(body, trials)
    judge(body, True)
    assert body["status"]["currentOptimalTrial"]["bestTrialName"] == "b"
    assert body["status"]["conditions"][-1]["reason"] == "ExperimentGoalReached"


def test_grid_ends_when_no_suggestion_is_left_and_no_trial_runs() -> None:
    body = experiment("grid")
    body["status"] = {"trialsRunning": 1}
    judge(body, False, no_more_suggestions=True)
    assert body["status"]["conditions"][-1]["type"] == "Running"
    body["status"]["trialsRunning"] = 0
    judge(body, False, no_more_suggestions=True)
    assert body["status"]["conditions"][-1]["reason"] == "ExperimentSuggestionEndReached"


def test_text_is_read_as_katibs_collector_reads_it() -> None:
    lines = [
        "2024-01-02T03:04:05.123456789Z INFO loss=0.5 accuracy = .9e-1",
        "loss=0.25 other=3",
        "nothing here",
        "the loss fell: loss=-1E2",
    ]
    found = text_metrics(lines, ["loss", "accuracy"], [])
    assert [(item["name"], item["value"]) for item in found] == [
        ("loss", "0.5"), ("accuracy", ".9e-1"), ("loss", "0.25"), ("loss", "-1E2"),
    ]  # fmt: skip
    assert found[0]["timestamp"] == "2024-01-02T03:04:05.123456789Z"
    assert found[2]["timestamp"] == "0001-01-01T00:00:00Z"
    custom = text_metrics(
        ["{metricName: loss, metricValue: 0.7}"], ["loss"], [r"{metricName: (\w+), metricValue: (.*)}"]
    )
    assert custom[0]["value"] == "0.7"


def test_json_values_count_only_as_text() -> None:
    lines = ['{"loss": "0.5", "accuracy": 0.9, "timestamp": 1700000000.5}', "", '{"loss": "0.4"}']
    found = json_metrics(lines, ["loss", "accuracy"])
    assert [(item["name"], item["value"]) for item in found] == [("loss", "0.5"), ("loss", "0.4")]
    assert found[0]["timestamp"] == "2023-11-14T22:13:20.500000Z"
    with pytest.raises(ValueError):
        json_metrics(["not json"], ["loss"])


def test_observation_has_least_greatest_and_latest_by_time() -> None:
    lines = [
        "2024-01-01T00:00:02Z loss=0.2",
        "2024-01-01T00:00:03Z loss=0.9",
        "2024-01-01T00:00:01+00:00 loss=0.1",
    ]
    strategies = [{"name": "loss", "value": "min"}, {"name": "accuracy", "value": "max"}]
    found = metrics.observation(text_metrics(lines, ["loss"], []), strategies)["metrics"]
    by_name = {item["name"]: item for item in found}
    assert by_name["loss"] == {"name": "loss", "min": "0.1", "max": "0.9", "latest": "0.9"}
    assert by_name["accuracy"]["latest"] == "unavailable"


def test_objective_that_was_never_printed_is_unavailable() -> None:
    logs = observation_log(text_metrics(["accuracy=0.9"], ["loss", "accuracy"], []), ["loss", "accuracy"])
    body = trial("t")
    body["status"]["observation"] = metrics.observation(logs, body["spec"]["objective"]["metricStrategies"])
    assert metrics.objective_value(body) == "unavailable"
    assert not metrics.is_observed(body)


def test_median_stop_gives_rules_when_enough_trials_have_succeeded() -> None:
    service = MedianStop([{"name": "min_trials_required", "value": "2"}, {"name": "start_step", "value": "2"}])
    objective = {"type": "minimize", "objectiveMetricName": "loss"}
    service.learn("a", [1.0, 3.0, 100.0])
    assert service.rules(objective) == []
    service.learn("b", [4.0, 4.0])
    assert service.rules(objective) == [{"name": "loss", "value": "3.0", "comparison": "greater", "startStep": 2}]


def test_stop_rule_compares_the_best_value_from_the_start_step_on() -> None:
    rules = StopRules([("loss", 3.0, "greater", 2)], "loss", "minimize")
    assert not rules.met("loss", 9.0)
    assert rules.met("loss", 8.0)
    good_at_first = StopRules([("loss", 3.0, "greater", 2)], "loss", "minimize")
    assert not good_at_first.met("loss", 1.0)
    assert not good_at_first.met("loss", 8.0)


def test_grid_goes_through_all_combinations_and_ends() -> None:
    body = experiment("grid")
    given = suggest(body, 0, 45)
    assert len({json.dumps(one) for one in given}) == 45
    assert given[0] == [{"name": "lr", "value": "0.01"}, {"name": "momentum", "value": "0.5"}]
    with pytest.raises(NoMoreSuggestions):
        suggest(body, 44, 2)
    body["spec"]["maxTrialCount"] = 46
    with pytest.raises(Refused, match="Max Trial Count: 46 > all possible search combinations: 45"):
        validate_settings(body)


def test_random_values_are_in_the_feasible_space() -> None:
    body = experiment()
    for one in suggest(body, 0, 50):
        values = {item["name"]: float(item["value"]) for item in one}
        assert 0.01 <= values["lr"] <= 0.05
        assert 0.5 <= values["momentum"] <= 0.9
    assert suggest(body, 0, 2)[1] == suggest(body, 1, 1)[0]


def test_trial_of_a_suggestion_has_labels_owner_and_filled_template() -> None:
    body = experiment("median-stop")
    body["metadata"].update(uid="u", labels={"team": "blue"})
    rule = {"name": "loss", "value": "3.0", "comparison": "greater", "startStep": 2}
    assignment = {
        "name": "median-stop-x",
        "parameterAssignments": suggest(body, 0, 1)[0],
        "earlyStoppingRules": [rule],
    }
    made = new_trial(body, assignment, body["spec"]["trialTemplate"]["trialSpec"])
    assert made["metadata"]["labels"] == {"team": "blue", "katib.kubeflow.org/experiment": "median-stop"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert made["spec"]["retainRun"] is True
    assert made["spec"]["earlyStoppingRules"] == [rule]
    assert made["spec"]["runSpec"]["metadata"]["name"] == "median-stop-x"
    assert "${trialParameters" not in json.dumps(made["spec"]["runSpec"])


def _pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [{"name": "training-container", "image": "i", **container}]}}


def _injected(body: dict[str, Any], pod: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body["metadata"].update(uid="u")
    assignment = {"name": "t", "parameterAssignments": suggest(body, 0, 1)[0]}
    made = new_trial(body, assignment, body["spec"]["trialTemplate"]["trialSpec"])
    made["spec"].update(spec)
    inject(pod, made, "python")
    return pod


def test_pod_gets_the_collector_and_writes_into_its_file() -> None:
    pod = _injected(experiment(), _pod(command=["python3", "train.py"], args=["--lr=1"]))
    training, collector = pod["spec"]["containers"]
    assert training["command"] == ["sh", "-c"]
    assert training["args"] == [
        "python3 train.py --lr=1 1>/var/log/katib/metrics.log 2>&1 && echo completed > /var/log/katib/$$$$.pid"
    ]
    assert collector["name"] == "metrics-logger-and-collector"
    assert training["volumeMounts"] == collector["volumeMounts"] == [
        {"name": "metrics-volume", "mountPath": "/var/log/katib"}
    ]  # fmt: skip
    assert pod["spec"]["shareProcessNamespace"] is True
    assert pod["metadata"]["labels"]["katib.kubeflow.org/trial"] == "t"


def test_pod_of_a_trial_with_stop_rules_tells_a_stop_from_a_failure() -> None:
    rule = {"name": "loss", "value": "3.0", "comparison": "greater", "startStep": 2}
    pod = _injected(experiment(), _pod(command=["sh", "-c", "train"]), earlyStoppingRules=[rule])
    training, collector = pod["spec"]["containers"]
    assert training["args"][0].startswith("train 1>/var/log/katib/metrics.log 2>&1 || if test -f ")
    assert collector["args"][-2:] == ["-stop-rule", "loss;3.0;greater;2"]


def test_pod_without_the_primary_container_is_refused() -> None:
    pod = {"metadata": {}, "spec": {"containers": [{"name": "other", "command": ["x"]}]}}
    with pytest.raises(InjectionError, match="unable to find primary container"):
        _injected(experiment(), pod)


def test_collector_program_that_starts_after_its_trial_has_ended_fails_as_katibs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program as the pod runs it: the trial's file and its marker are there, and its process is not."""
    (tmp_path / "metrics.log").write_text("loss=0.5\n")
    (tmp_path / "77.pid").write_text("completed\n")
    program = Path(__file__).resolve().parents[1] / "doubles" / "katib" / "collector.py"
    words = ["-t", "t", "-m", "loss", "-o-type", "minimize", "-path", str(tmp_path / "metrics.log"), "-format", "TEXT"]
    monkeypatch.setattr(sys, "argv", [str(program), *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program), run_name="__main__")
    assert ended.value.code == 255
    assert "] Failed to wait for worker container: unable to find main pid from the process list [" in (
        capsys.readouterr().out
    )


def test_what_was_lost_of_a_job_is_found_as_katib_finds_it() -> None:
    container = {"name": "t", "env": [], "resources": {"limits": {"memory": "1024Mi"}}}
    made = {"name": "t", "imagePullPolicy": "Always", "resources": {"limits": {"memory": "1Gi"}}}
    assert difference({"containers": [container]}, {"containers": [made]}) == ("/containers/0/env", "[]")
    assert difference({"containers": [container]}, {"containers": [{**made, "env": []}]}) is None
    assert difference({"backoffLimit": 0, "emptyDir": {}}, {"backoffLimit": 0, "emptyDir": {}}) is None
    assert difference({"tty": False}, {}) == ("/tty", "false")


def test_faults_of_an_experiment_are_in_its_annotation() -> None:
    body = {"metadata": {"annotations": {ANNOTATION: '{"suggestion": "never-ready"}'}}}
    assert Faults(stops_after=2).of(body) == Faults(suggestion="never-ready", stops_after=2)
    with pytest.raises(ValueError, match="there is no fault magic"):
        Faults().of({"metadata": {"annotations": {ANNOTATION: '{"magic": 1}'}}})


def test_queue_gives_each_key_once_and_the_earlier_first() -> None:
    queue = Queue()
    queue.add(("Trial", "n", "late"), 3600)
    queue.add(("Trial", "n", "now"))
    queue.add(("Trial", "n", "now"))
    assert queue.get(0) == ("Trial", "n", "now")
    assert queue.get(0) is None
    queue.add(("Trial", "n", "late"))
    assert queue.get(0) == ("Trial", "n", "late")


def test_queue_wakes_who_waits() -> None:
    queue = Queue()
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(queue.get(30)))
    waiting.start()
    queue.add(("Trial", "n", "t"))
    waiting.join(30)
    assert got == [("Trial", "n", "t")]
