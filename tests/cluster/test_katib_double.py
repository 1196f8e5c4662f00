"""The double of Katib on a real API server: Experiments run to their end, faults show, and what it writes is Katib's.

Needs KUBECONFIG, of an administrator, with a node; PYTHON_IMAGE, an image with Python 3 that the node has.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import clusters
from conftest import ROOT
from mlops_actions.waiting import Clock

pytest.importorskip("kubernetes", reason="no kubernetes client: `pip install kubernetes`")

from kubernetes.client.exceptions import ApiException

from doubles.katib import ANNOTATION, KatibDouble, Simulated
from doubles.katib.api import DEPLOYMENT, EVENT, EXPERIMENT, JOB, NAMESPACE, POD, SUGGESTION, TRIAL, VALIDATING, Api
from doubles.katib.injection import LABEL

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no kubernetes: set KUBECONFIG"),
    pytest.mark.skipif(
        os.environ.get("KATIB") == "real", reason="the cluster's own Katib would work at the same objects"
    ),
]
Object = dict[str, Any]
DATA = ROOT / "tests" / "data" / "katib"
STEPS = "import time\nfor step in range({steps}):\n    print('loss=%s' % ({loss}), flush=True)\n    time.sleep({pause})"


@pytest.fixture(scope="module")
def api() -> Api:
    return Api()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = f"katib-double-{uuid.uuid4().hex[:8]}"
    api.create(NAMESPACE, _namespace(name, {LABEL: "enabled"}))
    yield name
    api.delete(NAMESPACE, name)


def _namespace(name: str, labels: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def experiment(namespace: str, example: str = "random", **spec: Any) -> Object:
    """A published example, in this namespace, with other counts."""
    body: Object = yaml.safe_load((DATA / f"example-{example}.yaml").read_text())
    body["metadata"]["namespace"] = namespace
    body["spec"]["objective"].pop("goal")
    body["spec"].update({"maxTrialCount": 3, "parallelTrialCount": 3, "maxFailedTrialCount": 3, **spec})
    return body


def training(body: Object, program: str, *, collected: bool = True, **job: Any) -> Object:
    """Its trials run this Python program, in the image that the node has, when the collector is there to see it."""
    spec = body["spec"]["trialTemplate"]["trialSpec"]["spec"]
    spec.update(job)
    container = spec["template"]["spec"]["containers"][0]
    container.pop("resources", None)
    container.update(image=os.environ.get("PYTHON_IMAGE", "python:3.11-slim"), imagePullPolicy="IfNotPresent")
    program = f"# {'${trialParameters.learningRate}'} {'${trialParameters.momentum}'}\n{program}"
    # As in Katib, the words are joined without quoting: what has spaces is given to a shell as one word.
    script = f"python3 -c '{program}'".replace("print('", 'print("').replace("' %", '" %')
    container["command"] = ["sh", "-c", f"{clusters.COLLECTED}; {script}" if collected else script]
    return body


def until(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    """What comes at last; an error when it does not."""
    clock = Clock()
    end = clock.now() + seconds
    while clock.now() < end:
        found = what()
        if found:
            return found
        clock.wait(0.1)
    raise AssertionError(f"did not come within {seconds:.0f} s")


def has(body: Object | None, *types: str) -> bool:
    found = ((body or {}).get("status") or {}).get("conditions") or []
    return any(condition["type"] in types and condition["status"] == "True" for condition in found)


def ended(api: Api, body: Object, seconds: float = 120.0) -> Object:
    """The Experiment when it has ended."""
    meta = body["metadata"]

    def look() -> Object | None:
        found = api.get(EXPERIMENT, meta["name"], meta["namespace"])
        return found if has(found, "Succeeded", "Failed") else None

    found: Object = until(look, seconds)
    return found


def status(api: Api, namespace: str) -> Object:
    """Of the Experiment `random`, as far as there is one."""
    return (api.get(EXPERIMENT, "random", namespace) or {}).get("status") or {}


def trials(api: Api, namespace: str) -> list[Object]:
    return list(api.list(TRIAL, namespace)["items"])


def condition(body: Object, type_: str) -> Object:
    found = [c for c in body["status"]["conditions"] if c["type"] == type_]
    assert found, body["status"]
    return dict(found[0])


@pytest.mark.parametrize("example", ["random", "grid", "tpe"])
def test_published_example_runs_to_its_end(api: Api, namespace: str, example: str) -> None:
    body = training(experiment(namespace, example), STEPS.format(steps=3, loss="3 - step", pause=0.1))
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
        assert condition(done, "Succeeded")["reason"] == "ExperimentMaxTrialsReached"
        assert condition(done, "Running")["status"] == "False"
        told = done["status"]
        assert (told["trials"], told["trialsSucceeded"]) == (3, 3)
        assert told["completionTime"] >= told["startTime"]
        best = told["currentOptimalTrial"]
        assert best["bestTrialName"] in told["succeededTrialList"]
        assert best["observation"]["metrics"] == [{"name": "loss", "min": "1", "max": "3", "latest": "1"}]
        assert {a["name"] for a in best["parameterAssignments"]} == {"lr", "momentum"}
        for trial in trials(api, namespace):
            assert trial["metadata"]["name"].startswith(f"{example}-")
            assert trial["metadata"]["labels"]["katib.kubeflow.org/experiment"] == example
            assert condition(trial, "Succeeded")["reason"].startswith("TrialSucceeded")
        suggestion = until(lambda: _if(api.get(SUGGESTION, example, namespace), "Succeeded"))
        assert suggestion["status"]["suggestionCount"] == suggestion["spec"]["requests"] == 3
        # Katib deletes the objects of trials that are not retained, and the algorithm's service.
        until(lambda: not api.list(JOB, namespace)["items"])
        until(lambda: not api.list(DEPLOYMENT, namespace)["items"])


def _if(body: Object | None, type_: str) -> Object | None:
    return body if has(body, type_) else None


def test_median_stop_stops_bad_trials(api: Api, namespace: str) -> None:
    body = experiment(namespace, "median-stop", maxTrialCount=3, parallelTrialCount=1)
    # Every trial is worse than the one before it, by the clock.
    program = STEPS.format(steps=6, loss="time.time()", pause=0.4)
    training(body, program)
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
        assert (done["status"]["trialsSucceeded"], done["status"]["trialsEarlyStopped"]) == (1, 2)
        for name in done["status"]["earlyStoppedTrialList"]:
            trial = until(lambda name=name: _observed(api.get(TRIAL, name, namespace)))
            assert condition(trial, "EarlyStopped")["reason"] == "TrialEarlyStopped"
            assert condition(trial, "Running")["status"] == "True", "Katib leaves it so"
            assert trial["spec"]["earlyStoppingRules"][0]["comparison"] == "greater"
            (pod,) = api.list(POD, namespace, f"katib.kubeflow.org/trial={name}")["items"]
            told = api.log(pod["metadata"]["name"], "metrics-logger-and-collector", namespace)
            assert "Training container is early stopped" in told
            assert told.count("] loss=") < 6


def _observed(trial: Object | None) -> Object | None:
    return trial if ((trial or {}).get("status") or {}).get("observation") else None


def test_training_output_is_in_the_collectors_log(api: Api, namespace: str) -> None:
    body = training(experiment(namespace, maxTrialCount=1), STEPS.format(steps=2, loss="step", pause=0))
    body["spec"].update(parallelTrialCount=1, maxFailedTrialCount=1)
    body["spec"]["trialTemplate"]["retain"] = True
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        (name,) = ended(api, body)["status"]["succeededTrialList"]
        (pod,) = api.list(POD, namespace, f"katib.kubeflow.org/trial={name}")["items"]
        assert api.log(pod["metadata"]["name"], "training-container", namespace) == ""
        assert "] loss=1" in api.log(pod["metadata"]["name"], "metrics-logger-and-collector", namespace)
        assert api.get(JOB, name, namespace), "it is retained"
        reasons = {e["reason"] for e in api.list(EVENT, namespace)["items"] if e["involvedObject"]["kind"] == "Trial"}
        assert {"JobCreated", "JobRunning", "JobSucceeded"} <= reasons


def test_metrics_of_a_json_file_are_collected(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1)
    path = {"path": "/katib/metrics.json", "kind": "File", "format": "JSON"}
    body["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "File"}, "source": {"fileSystemPath": path}}
    training(body, 'open("/katib/metrics.json", "w").write("{\\"loss\\": \\"0.5\\"}\\n{\\"loss\\": \\"0.25\\"}\\n")')
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        best = ended(api, body)["status"]["currentOptimalTrial"]
        assert best["observation"]["metrics"] == [{"name": "loss", "min": "0.25", "max": "0.5", "latest": "0.25"}]


def test_metric_that_is_never_printed_is_unavailable(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1)
    training(body, 'print("accuracy=1")')
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
        assert condition(done, "Failed")["message"] == "Experiment has failed because max failed count has reached"
        assert done["status"]["trialMetricsUnavailable"] == 1
        (trial,) = trials(api, namespace)
        assert condition(trial, "MetricsUnavailable")["reason"].startswith("MetricsUnavailable")


def test_trial_that_fails_tells_the_jobs_reason(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1)
    training(body, "raise SystemExit(3)", backoffLimit=0)
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
        assert condition(done, "Failed")["reason"] == "ExperimentFailed"
        (trial,) = trials(api, namespace)
        assert condition(trial, "Failed")["reason"] == "TrialFailed. Job reason: BackoffLimitExceeded"
        assert "Job message: " in condition(trial, "Failed")["message"]


def test_without_the_collector_a_trial_runs_for_ever(api: Api, namespace: str) -> None:
    body = training(experiment(namespace), STEPS.format(steps=1, loss="1", pause=0), collected=False)
    with KatibDouble(namespaces=namespace, not_injected=True):
        api.create(EXPERIMENT, body, namespace)
        jobs = until(lambda: _all_done(api.list(JOB, namespace)["items"]))
        assert len(jobs) == 3
        Clock().wait(3)  # in which the controller looks again
        assert all(condition(trial, "Running")["status"] == "True" for trial in trials(api, namespace))
        assert status(api, namespace)["trialsRunning"] == 3
        (pod, *_) = api.list(POD, namespace, "job-name")["items"]
        assert [container["name"] for container in pod["spec"]["containers"]] == ["training-container"]


def _all_done(jobs: list[Object]) -> list[Object] | None:
    return jobs if jobs and all(job["status"].get("succeeded") for job in jobs) else None


def test_algorithm_service_that_never_gets_ready_shows(api: Api, namespace: str) -> None:
    body = training(experiment(namespace), "pass")
    body["metadata"]["annotations"] = {ANNOTATION: '{"suggestion": "never-ready"}'}
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)

        def waiting() -> str:
            for pod in api.list(POD, namespace, "katib.kubeflow.org/suggestion=random")["items"]:
                for container in pod["status"].get("containerStatuses") or []:
                    return str(container["state"].get("waiting", {}).get("reason", ""))
            return ""

        until(lambda: waiting() in ("ErrImagePull", "ImagePullBackOff"))
        ready = condition(api.get(SUGGESTION, "random", namespace) or {}, "DeploymentReady")
        assert (ready["status"], ready["reason"]) == ("False", "DeploymentNotReady")
        assert [c["type"] for c in status(api, namespace)["conditions"]] == ["Created"]
        assert not trials(api, namespace)


def test_trials_that_are_never_scheduled_stay_pending(api: Api, namespace: str) -> None:
    with KatibDouble(namespaces=namespace, unschedulable=True):
        api.create(EXPERIMENT, training(experiment(namespace), "pass"), namespace)

        def unschedulable() -> bool:
            pods = api.list(POD, namespace, "katib.kubeflow.org/trial")["items"]
            found = [c for pod in pods for c in pod["status"].get("conditions") or []]
            return any(c.get("reason") == "Unschedulable" for c in found)

        until(unschedulable)


def test_namespace_without_the_label_is_refused_at_admission(api: Api) -> None:
    name = f"katib-double-{uuid.uuid4().hex[:8]}"
    api.create(NAMESPACE, _namespace(name, {}))
    try:
        with KatibDouble(namespaces=name, trials="simulated"), pytest.raises(ApiException) as refused:
            api.create(EXPERIMENT, experiment(name), name)
    finally:
        api.delete(NAMESPACE, name)
    assert refused.value.status == 400
    told = json.loads(refused.value.body)["message"]
    assert told.startswith(
        'admission webhook "validator.experiment.katib.kubeflow.org" denied the request: Cannot create'
    )
    assert 'the namespace lacks label "katib.kubeflow.org/metrics-collector-injection: enabled"' in told


def test_wrong_experiment_is_refused_at_admission_and_by_a_dry_run(api: Api, namespace: str) -> None:
    body = experiment(namespace)
    body["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["contaners"] = []
    path = f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/experiments"
    with KatibDouble(namespaces=namespace, trials="simulated"):
        with pytest.raises(ApiException) as refused:
            api.call("POST", path, body, dryRun="All")
        assert "invalid spec.trialTemplate: unable to convert" in refused.value.body
        body = experiment(namespace)
        body["spec"]["algorithm"]["algorithmName"] = "magic"
        with pytest.raises(ApiException) as refused:
            api.create(EXPERIMENT, body, namespace)
        assert "spec.algorithm.algorithmName: Invalid value" in refused.value.body


def test_without_webhooks_a_wrong_experiment_fails(api: Api, namespace: str) -> None:
    body = experiment(namespace)
    body["spec"]["algorithm"]["algorithmName"] = "magic"
    with KatibDouble(namespaces=namespace, trials="simulated", not_validated=True):
        api.create(EXPERIMENT, body, namespace)
        assert "unable to get Suggestion config data" in condition(ended(api, body), "Failed")["message"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [{"name": "speed", "value": "1"}],
            "ValidateAlgorithmSettings Error: unknown setting speed for algorithm random",
        ),
        ([], "ValidateAlgorithmSettings Error: refused on demand"),
    ],
)
def test_settings_that_the_service_refuses_fail_the_experiment(
    api: Api, namespace: str, settings: list[dict[str, str]], message: str
) -> None:
    body = experiment(namespace)
    body["spec"]["algorithm"]["algorithmSettings"] = settings
    with KatibDouble(namespaces=namespace, trials="simulated", suggestion="" if settings else "fails"):
        api.create(EXPERIMENT, body, namespace)
        assert condition(ended(api, body), "Failed")["message"] == "Suggestion has failed"
        failed = condition(api.get(SUGGESTION, "random", namespace) or {}, "Failed")
        assert (failed["reason"], failed["message"]) == ("SuggestionFailed", f"Validation failed: {message}")


def test_experiment_ends_when_there_are_no_more_suggestions(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=10)
    with KatibDouble(namespaces=namespace, trials="simulated", suggestion="ends", suggestions=2):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
    assert condition(done, "Succeeded")["reason"] == "ExperimentSuggestionEndReached"
    assert done["status"]["trialsSucceeded"] == 2


def _fates(values: dict[str, Any]) -> Simulated:
    """One of the four ends, by a parameter; early stopping finds half of those that succeed too bad.

    Katib does not count trials without metrics among those that have ended when it starts more, so a few more than
    `maxTrialCount` may be there, begun or not, when it finds that there are enough.
    """
    momentum = float(values["momentum"])
    ends = ("Succeeded", "Failed", "Killed", "Succeeded")
    which = int(momentum * 1000) % 4
    return Simulated({} if which == 3 else {"loss": (momentum, momentum)}, ends=ends[which])


def test_simulated_trials_end_in_every_state(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=40, parallelTrialCount=10, maxFailedTrialCount=40)
    with KatibDouble(namespaces=namespace, trials="simulated", simulate=_fates):
        api.create(EXPERIMENT, body, namespace)
        told = ended(api, body)["status"]
        lists = ("succeededTrialList", "failedTrialList", "killedTrialList", "metricsUnavailableTrialList")
        assert all(told[name] for name in lists)
        counts = ("trialsSucceeded", "trialsFailed", "trialsKilled", "trialMetricsUnavailable")
        assert 40 <= sum(told[name] for name in counts) <= told["trials"] < 50
        assert [told[name] for name in counts] == [len(told[name]) for name in lists]
        best = told["currentOptimalTrial"]["observation"]["metrics"][0]["min"]
        observed = [t["status"]["observation"]["metrics"][0] for t in trials(api, namespace) if has(t, "Succeeded")]
        assert float(best) == min(float(metric["min"]) for metric in observed)


def test_objects_have_only_fields_of_katibs_own_models(api: Api, namespace: str) -> None:
    """In every state, and of their types: what the models do not know gets lost in reading."""
    models = pytest.importorskip("kubeflow_katib_api.models", reason="no kubeflow-katib-api: `pip install` it")
    body = experiment(namespace, "median-stop", maxTrialCount=40, parallelTrialCount=10, maxFailedTrialCount=40)
    body["spec"]["objective"]["additionalMetricNames"] = ["accuracy"]
    known = {EXPERIMENT: models.V1beta1Experiment, SUGGESTION: models.V1beta1Suggestion, TRIAL: models.V1beta1Trial}
    with KatibDouble(namespaces=namespace, trials="simulated", simulate=_fates):
        api.create(EXPERIMENT, body, namespace)
        assert ended(api, body)["status"]["earlyStoppedTrialList"]
        items = [(kind, item) for kind in known for item in api.list(kind, namespace)["items"]]
        assert {kind for kind, _ in items} == set(known)
        assert 40 <= sum(kind == TRIAL for kind, _ in items) < 50
        for kind, item in items:
            for part in ("spec", "status"):
                given = item.get(part, {})  # a trial that was made last has no status yet
                read = known[kind].from_dict({part: given}).to_dict()[part]
                assert _known(json.loads(json.dumps(read, default=_time))) == _known(given)


def _time(value: Any) -> str:
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _known(value: Any) -> Any:
    """Without null and empty values, which Go leaves out, and without what Katib lets pass as it is."""
    if isinstance(value, dict):
        inner = {k: _known(v) for k, v in value.items() if k not in ("runSpec", "trialSpec", "distribution")}
        return {key: item for key, item in inner.items() if item not in (None, {}, [])}
    return [_known(item) for item in value] if isinstance(value, list) else value


def test_goal_that_is_reached_ends_the_experiment(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=50, parallelTrialCount=1)
    body["spec"]["objective"]["goal"] = 0.6
    with KatibDouble(
        namespaces=namespace, trials="simulated", simulate=lambda v: Simulated({"loss": (float(v["momentum"]),)})
    ):
        api.create(EXPERIMENT, body, namespace)
        done = ended(api, body)
    assert condition(done, "Succeeded")["reason"] == "ExperimentGoalReached"
    assert done["status"]["trials"] < 50


def test_controllers_that_stop_leave_the_experiment_running_until_they_start_again(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=6, parallelTrialCount=1)
    with KatibDouble(namespaces=namespace, trials="simulated", stops_after=2) as double:
        api.create(EXPERIMENT, body, namespace)
        until(lambda: sum(has(trial, "Succeeded") for trial in trials(api, namespace)) == 2)
        Clock().wait(1)
        stuck = api.get(EXPERIMENT, "random", namespace) or {}
        assert has(stuck, "Running") and len(trials(api, namespace)) <= 3
        double.restart()
        until(lambda: sum(has(trial, "Succeeded") for trial in trials(api, namespace)) > 2)


def test_restarted_controllers_go_on_with_what_the_api_server_has(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=12, parallelTrialCount=2)
    slow = lambda values: Simulated({"loss": (1.0,)}, seconds=0.3)  # noqa: E731
    with KatibDouble(namespaces=namespace, trials="simulated", simulate=slow) as double:
        api.create(EXPERIMENT, body, namespace)
        until(lambda: trials(api, namespace))
        double.restart()
        done = ended(api, body)
    assert done["status"]["trialsSucceeded"] == 12


def test_status_can_lag_behind_the_trials(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=1, parallelTrialCount=1, maxFailedTrialCount=1)
    with KatibDouble(namespaces=namespace, trials="simulated", status_late=1.5):
        api.create(EXPERIMENT, body, namespace)
        until(lambda: any(has(trial, "Succeeded") for trial in trials(api, namespace)))
        assert not has(api.get(EXPERIMENT, "random", namespace), "Succeeded")
        ended(api, body)


def test_best_trial_can_be_missing_at_first_and_conditions_in_another_order(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=4, parallelTrialCount=1)
    seen: list[Object] = []
    slow = lambda values: Simulated({"loss": (1.0,)}, seconds=0.3)  # noqa: E731
    with KatibDouble(
        namespaces=namespace, trials="simulated", simulate=slow, optimal_after=4, conditions="reversed"
    ):  # fmt: skip
        api.create(EXPERIMENT, body, namespace)

        def look() -> bool:
            seen.append(api.get(EXPERIMENT, "random", namespace) or {})
            return has(seen[-1], "Succeeded")

        until(look)
    early = [one["status"] for one in seen if 0 < (one.get("status") or {}).get("trialsSucceeded", 0) < 4]
    assert early and all(told["currentOptimalTrial"] == {"observation": {}} for told in early)
    assert seen[-1]["status"]["currentOptimalTrial"]["bestTrialName"]
    assert [c["type"] for c in seen[-1]["status"]["conditions"]] == ["Succeeded", "Running", "Created"]


@pytest.mark.parametrize("policy", ["LongRunning", "FromVolume"])
def test_more_trials_restart_an_experiment_that_may_resume(api: Api, namespace: str, policy: str) -> None:
    body = experiment(namespace, maxTrialCount=2, parallelTrialCount=2, maxFailedTrialCount=2, resumePolicy=policy)
    with KatibDouble(namespaces=namespace, trials="simulated"):
        api.create(EXPERIMENT, body, namespace)
        ended(api, body)
        api.patch(EXPERIMENT, "random", {"spec": {"maxTrialCount": 5}}, namespace)
        until(lambda: has(api.get(EXPERIMENT, "random", namespace), "Restarting"))
        until(lambda: status(api, namespace).get("trialsSucceeded") == 5)
        done = ended(api, body)
        assert condition(done, "Restarting")["reason"] == "ExperimentRestarting"
        assert condition(done, "Succeeded")["reason"] == "ExperimentMaxTrialsReached"


def test_experiment_that_never_resumes_refuses_more_trials(api: Api, namespace: str) -> None:
    body = experiment(namespace)
    with KatibDouble(namespaces=namespace, trials="simulated"):
        api.create(EXPERIMENT, body, namespace)
        ended(api, body)
        with pytest.raises(ApiException) as refused:
            api.patch(EXPERIMENT, "random", {"spec": {"maxTrialCount": 9}}, namespace)
        assert "Experiment can be restarted if it is in succeeded state" in refused.value.body


def test_less_parallel_trials_delete_the_youngest(api: Api, namespace: str) -> None:
    body = experiment(namespace, maxTrialCount=10, parallelTrialCount=4)
    long = lambda values: Simulated({"loss": (1.0,)}, seconds=600)  # noqa: E731
    with KatibDouble(namespaces=namespace, trials="simulated", simulate=long):
        api.create(EXPERIMENT, body, namespace)
        until(lambda: status(api, namespace).get("trialsRunning") == 4)
        api.patch(EXPERIMENT, "random", {"spec": {"parallelTrialCount": 1}}, namespace)
        until(lambda: len(trials(api, namespace)) == 1)
        until(lambda: status(api, namespace).get("trialsRunning") == 1)


def test_deleted_experiment_takes_all_that_it_made_with_it(api: Api, namespace: str) -> None:
    body = training(experiment(namespace), STEPS.format(steps=100, loss="1", pause=1))
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        until(lambda: len(api.list(POD, namespace, "katib.kubeflow.org/trial")["items"]) == 3)
        api.delete(EXPERIMENT, "random", namespace)
        for kind in (EXPERIMENT, SUGGESTION, TRIAL, JOB, DEPLOYMENT):
            until(lambda kind=kind: not api.list(kind, namespace)["items"])


def test_finalizer_keeps_a_deleted_experiment_while_nobody_reconciles(api: Api, namespace: str) -> None:
    body = experiment(namespace)
    with KatibDouble(namespaces=namespace, trials="simulated") as double:
        api.create(EXPERIMENT, body, namespace)
        ended(api, body)
        double.stop()
        api.delete(EXPERIMENT, "random", namespace)
        kept = api.get(EXPERIMENT, "random", namespace) or {}
        assert kept["metadata"]["finalizers"] == ["update-prometheus-metrics"]
        double.start()
        until(lambda: api.get(EXPERIMENT, "random", namespace) is None)


def test_template_that_cannot_be_filled_is_told_in_an_event(api: Api, namespace: str) -> None:
    body = training(experiment(namespace), "pass")
    body["spec"]["trialTemplate"]["trialParameters"][0]["reference"] = "${trialSpec.Labels[team]}"
    with KatibDouble(namespaces=namespace):
        api.create(EXPERIMENT, body, namespace)
        until(lambda: [e for e in api.list(EVENT, namespace)["items"] if "failed to fetch Label" in e["message"]])
        assert has(api.get(EXPERIMENT, "random", namespace), "Created")


def test_two_doubles_in_two_namespaces_do_not_meet(api: Api, namespace: str) -> None:
    other = f"{namespace}-b"
    api.create(NAMESPACE, _namespace(other, {LABEL: "enabled"}))
    try:
        with (
            KatibDouble(namespaces=namespace, trials="simulated"),
            KatibDouble(namespaces=other, trials="simulated", suggestion="fails"),
        ):
            for space in (namespace, other):
                api.create(EXPERIMENT, experiment(space), space)
            assert has(ended(api, experiment(namespace)), "Succeeded")
            assert has(ended(api, experiment(other)), "Failed")
    finally:
        api.delete(NAMESPACE, other)


def _process(namespace: str, log: Path) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    command = [sys.executable, "-m", "doubles.katib", "--namespace", namespace, "--trials", "simulated"]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environ, stdout=file, stderr=file)
    until(lambda: "Katib's double runs in" in log.read_text())
    return process


def _finalizers(api: Api, namespace: str) -> list[str]:
    items = [item for kind in (EXPERIMENT, TRIAL) for item in api.list(kind, namespace)["items"]]
    return [name for item in items for name in item["metadata"].get("finalizers") or []]


def test_process_runs_until_it_is_told_to_end(api: Api, namespace: str, tmp_path: Path) -> None:
    """As it runs beside act."""
    process = _process(namespace, tmp_path / "log")
    try:
        body = experiment(namespace)
        api.create(EXPERIMENT, body, namespace)
        assert has(ended(api, body), "Succeeded")
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not _finalizers(api, namespace), "they would keep the namespace"


def test_webhooks_that_a_killed_process_leaves_refuse_all_and_can_be_released(
    api: Api, namespace: str, tmp_path: Path
) -> None:  # fmt: skip
    process = _process(namespace, tmp_path / "log")
    try:
        body = experiment(namespace)
        api.create(EXPERIMENT, body, namespace)
        ended(api, body)
    finally:
        process.kill()
        process.wait(60)
    other = experiment(namespace)
    other["metadata"]["name"] = "other"
    with pytest.raises(ApiException, match="failed calling webhook") as refused:
        api.create(EXPERIMENT, other, namespace)
    assert refused.value.status == 500
    assert _finalizers(api, namespace)
    KatibDouble(namespaces=namespace).release()
    assert not _finalizers(api, namespace)
    assert api.get(VALIDATING, f"katib-double-{namespace}") is None
