"""Katib's controller of Experiments.

Source: pkg/controller.v1beta1/experiment/{experiment_controller,experiment_controller_util,util/status_util}.go of
github.com/kubeflow/katib.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from . import conditions, metrics
from .api import CONFIG_MAP, EXPERIMENT, SUGGESTION, TRIAL, Object
from .controller import Context, ReconcileError, owned_by, set_finalizer
from .defaults import set_defaults
from .faults import Faults
from .injection import EXPERIMENT_LABEL
from .manifest import TemplateError, run_spec
from .validation import aggregate, restartable, validate

FINALIZER = "update-prometheus-metrics"
_LISTS = {
    "Killed": ("killedTrialList", "trialsKilled"),
    "Failed": ("failedTrialList", "trialsFailed"),
    "Succeeded": ("succeededTrialList", "trialsSucceeded"),
    "EarlyStopped": ("earlyStoppedTrialList", "trialsEarlyStopped"),
    "Running": ("runningTrialList", "trialsRunning"),
    "MetricsUnavailable": ("metricsUnavailableTrialList", "trialMetricsUnavailable"),
}
"""By the first condition that is true, in this order; a trial with none of them is pending."""


class Experiments:
    """Brings Experiments further."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._late: dict[tuple[str, str], float] = {}

    def reconcile(self, namespace: str, name: str) -> None:
        """One look at one Experiment."""
        context = self._context
        body = context.of(EXPERIMENT, namespace).get(name)
        if body is None or set_finalizer(context, EXPERIMENT, body, FINALIZER):
            return None
        faults = context.faults(body)
        _in_order(body, faults)
        if faults.not_validated and not self._admit(body):
            return self._write(body, faults)
        if conditions.has(body, *conditions.EXPERIMENT_ENDED) and not self._restart_or_clean(body):
            return None
        status = body.setdefault("status", {})
        if not conditions.has(body, "Created"):
            status.setdefault("startTime", conditions.now())
            status.setdefault("completionTime", None)
            status.setdefault("currentOptimalTrial", {"observation": {}})
            conditions.put(body, "Created", "ExperimentCreated", "Experiment is created")
        else:
            self._advance(body, faults)
        return self._write(body, faults)

    def _admit(self, body: Object) -> bool:
        """What the webhooks would have done: without them, a wrong Experiment fails."""
        set_defaults(body)
        labels = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
        why = aggregate(validate(body, None, labels, trial_spec(self._context, body)))
        if why and not conditions.has(body, "Failed"):
            conditions.put(body, "Failed", "ExperimentFailed", why)
            body["status"]["completionTime"] = conditions.now()
        return not why

    def _restart_or_clean(self, body: Object) -> bool:
        """Of one that has ended: whether it goes on."""
        spec, status = body["spec"], body["status"]
        if spec["resumePolicy"] in ("Never", "FromVolume"):
            self._finish_suggestion(body)
        more = spec.get("maxTrialCount")
        again = more > status.get("trials", 0) if more is not None else False
        if (again and restartable(body)) or (more is None and status.get("trials", 0) != 0):
            conditions.remove(body, "Succeeded")
            conditions.remove(body, "Failed")
            conditions.put(body, "Restarting", "ExperimentRestarting", "Experiment is restarted")
            if spec["resumePolicy"] == "FromVolume":
                self._restart_suggestion(body)
            return True
        return bool(status.get("trialsRunning", 0))

    def _finish_suggestion(self, body: Object) -> None:
        suggestion = self._suggestion(body)
        running = conditions.find(suggestion, "Running") if suggestion else None
        restarting = running and running["status"] == "False" and running["reason"] == "Experiment is restarting"
        if suggestion is None or conditions.has(suggestion, "Succeeded", "Failed") or restarting:
            return
        reason = "Suggestion is succeeded"
        if running:
            conditions.put(suggestion, "Running", reason, "Suggestion is not running", status="False")
        if conditions.find(suggestion, "DeploymentReady"):
            conditions.put(suggestion, "DeploymentReady", reason, "Deployment is not ready", status="False")
        kept = "suggestion volume is not deleted, can be restarted"
        message = "can't be restarted" if body["spec"]["resumePolicy"] == "Never" else kept
        conditions.put(suggestion, "Succeeded", "Experiment is succeeded", f"Suggestion is succeeded, {message}")
        self._context.write_status(SUGGESTION, suggestion)

    def _restart_suggestion(self, body: Object) -> None:
        suggestion = self._suggestion(body)
        if suggestion is None:
            return
        conditions.remove(suggestion, "Succeeded")
        reason, message = "Experiment is restarting", "Suggestion is not running"
        conditions.put(suggestion, "Running", reason, message, status="False")
        self._context.write_status(SUGGESTION, suggestion)

    def _suggestion(self, body: Object) -> Object | None:
        return self._context.of(SUGGESTION, body["metadata"]["namespace"]).get(body["metadata"]["name"])

    def _advance(self, body: Object, faults: Faults) -> None:
        """Sum the trials up, end if it is time, else see that as many trials run as shall."""
        trials = self._context.trials(body["metadata"]["namespace"], body["metadata"]["name"])
        if trials:
            reached = summarize(body, trials, faults.optimal_after)
            if not conditions.has(body, *conditions.EXPERIMENT_ENDED):
                judge(body, reached)
        if not conditions.has(body, *conditions.EXPERIMENT_ENDED):
            self._balance(body, trials, faults)

    def _balance(self, body: Object, trials: list[Object], faults: Faults) -> None:
        spec, status = body["spec"], body["status"]
        parallel = spec["parallelTrialCount"]
        active = status.get("trialsPending", 0) + status.get("trialsRunning", 0)
        # As in Katib: trials whose metrics are unavailable are not counted here.
        ended = sum(status.get(f"trials{state}", 0) for state in ("Succeeded", "Failed", "Killed", "EarlyStopped"))
        if active > parallel:
            self._delete(body, trials, active - parallel)
        elif active < parallel:
            most = spec.get("maxTrialCount")
            wanted = parallel if most is None else min(parallel, most - ended)
            if wanted > active:
                self._create(body, trials, wanted - active, faults)

    def _create(self, body: Object, trials: list[Object], count: int, faults: Faults) -> None:
        context, meta = self._context, body["metadata"]
        # An early stopped trial whose observation is missing is not counted, so that nothing new is asked for it.
        missing = sum(conditions.has(t, "EarlyStopped") and not metrics.is_observed(t) for t in trials)
        requests = len(trials) + count - missing
        suggestion = self._suggestion(body)
        if suggestion is None:
            made = context.api.create(SUGGESTION, _new_suggestion(body, requests), meta["namespace"])
            if made:
                context.of(SUGGESTION, meta["namespace"]).put(made)
                # Katib's controller looks again before its cache has it, makes it once more, and says so
                why = f'suggestions.kubeflow.org "{meta["name"]}" already exists'
                event = ("Warning", "ReconcileError", f"Failed to reconcile: {why}")
                context.event(body, *event, "experiment-controller")
            return
        if conditions.has(suggestion, "Failed"):
            conditions.end(body, "Failed", "ExperimentFailed", "Suggestion has failed")
            return
        given = (suggestion.get("status") or {}).get("suggestions") or []
        names = {trial["metadata"]["name"] for trial in trials}
        for assignment in given if len(given) > len(trials) else []:
            if assignment["name"] not in names:
                self._create_trial(body, assignment)
        if suggestion["spec"].get("requests") != requests:
            suggestion["spec"]["requests"] = requests
            context.of(SUGGESTION, meta["namespace"]).put(context.api.replace(SUGGESTION, suggestion))
        if faults.suggestion == "ends" and faults.suggestions <= len(given) <= len(trials):
            judge(body, False, no_more_suggestions=True)

    def _create_trial(self, body: Object, assignment: Mapping[str, Any]) -> None:
        context, namespace = self._context, body["metadata"]["namespace"]
        try:
            trial = new_trial(body, assignment, trial_spec(context, body) or {})
        except TemplateError as error:
            raise ReconcileError(str(error)) from error
        made = context.api.create(TRIAL, trial, namespace)
        if made:
            context.of(TRIAL, namespace).put(made)

    def _delete(self, body: Object, trials: list[Object], count: int) -> None:
        """Delete the youngest trials, whatever their state, as Katib does, and forget their suggestions."""
        context, namespace = self._context, body["metadata"]["namespace"]
        youngest = sorted(trials, key=lambda trial: str(trial["metadata"]["creationTimestamp"]), reverse=True)[:count]
        gone = {trial["metadata"]["name"] for trial in youngest}
        for name in gone:
            context.api.delete(TRIAL, name, namespace)
        suggestion = self._suggestion(body)
        if suggestion:
            left = [s for s in suggestion["status"].get("suggestions") or [] if s["name"] not in gone]
            suggestion["spec"]["requests"] = len(left)
            written = context.api.replace(SUGGESTION, suggestion)
            written["status"].update(suggestions=left, suggestionCount=len(left))
            context.write_status(SUGGESTION, written)

    def _write(self, body: Object, faults: Faults) -> None:
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        if faults.status_late:
            since = self._late.setdefault(key, time.monotonic())
            left = since + faults.status_late - time.monotonic()
            if left > 0:
                self._context.queue.add(("Experiment", *key), left)
                return
            del self._late[key]
        _in_order(body, faults)
        self._context.write_status(EXPERIMENT, body)


def trial_spec(context: Context, body: Mapping[str, Any]) -> Object | None:
    """The template of the trials' objects, from the Experiment or from the ConfigMap that it names."""
    template = body["spec"].get("trialTemplate") or {}
    if template.get("trialSpec"):
        found: Object = template["trialSpec"]
        return found
    source = template.get("configMap") or {}
    if not source.get("configMapName"):
        return None
    held = context.api.get(CONFIG_MAP, source["configMapName"], source.get("configMapNamespace", ""))
    text = ((held or {}).get("data") or {}).get(source.get("templatePath", ""))
    return yaml.safe_load(text) if text else None


def summarize(body: Object, trials: Sequence[Mapping[str, Any]], optimal_after: int = 0) -> bool:
    """Write the counts, the lists and the best trial into the status; whether the goal is reached."""
    status, objective = body["status"], body["spec"]["objective"]
    lists: dict[str, list[str]] = {state: [] for state in (*_LISTS, "Pending")}
    for trial in trials:
        state = next((state for state in _LISTS if conditions.has(dict(trial), state)), "Pending")
        lists[state].append(trial["metadata"]["name"])
    for state, (names, number) in {**_LISTS, "Pending": ("pendingTrialList", "trialsPending")}.items():
        # Go leaves out what is empty or 0.
        for field, value in ((names, lists[state]), (number, len(lists[state]))):
            status.pop(field, None)
            if value:
                status[field] = value
    status["trials"] = len(trials)
    best, value = metrics.best(trials, objective["type"])
    ended = len(trials) - len(lists["Running"]) - len(lists["Pending"])
    if best is not None and ended >= optimal_after:
        status["currentOptimalTrial"] = {
            "bestTrialName": best["metadata"]["name"],
            "parameterAssignments": best["spec"]["parameterAssignments"],
            "observation": {"metrics": best["status"]["observation"]["metrics"]},
        }
    goal = objective.get("goal")
    if goal is None or value is None:
        return False
    return value <= goal if objective["type"] == "minimize" else value >= goal


def judge(body: Object, reached: bool, *, no_more_suggestions: bool = False) -> None:
    """End the Experiment if there is a reason to, else it is running."""
    spec, status = body["spec"], body["status"]
    failed = status.get("trialsFailed", 0) + status.get("trialMetricsUnavailable", 0)
    others = sum(status.get(f"trials{state}", 0) for state in ("Succeeded", "Killed", "EarlyStopped"))
    active = status.get("trialsPending", 0) + status.get("trialsRunning", 0)
    most, most_failed = spec.get("maxTrialCount"), spec.get("maxFailedTrialCount")
    because = "Experiment has succeeded because"
    if reached:
        end = ("Succeeded", "ExperimentGoalReached", f"{because} Objective goal has reached")
    elif most_failed is not None and failed and failed >= most_failed:
        end = ("Failed", "ExperimentFailed", "Experiment has failed because max failed count has reached")
    elif most is not None and failed + others >= most:
        end = ("Succeeded", "ExperimentMaxTrialsReached", f"{because} max trial count has reached")
    elif no_more_suggestions and not active:
        end = ("Succeeded", "ExperimentSuggestionEndReached", f"{because} suggestion service has reached the end")
    else:
        conditions.put(body, "Running", "ExperimentRunning", "Experiment is running")
        return
    conditions.end(body, *end)
    status["completionTime"] = conditions.now()


def new_trial(body: Object, assignment: Mapping[str, Any], template: Mapping[str, Any]) -> Object:
    """The Trial of a suggestion.

    Raises:
        TemplateError: the template cannot be filled in.
    """
    meta, spec = body["metadata"], body["spec"]
    name, trial_template = assignment["name"], spec["trialTemplate"]
    given = assignment["parameterAssignments"]
    wanted: Object = {
        "objective": spec["objective"],
        "parameterAssignments": given,
        "runSpec": run_spec(trial_template, template, name, meta["namespace"], given),
        "metricsCollector": spec["metricsCollectorSpec"],
        "primaryContainerName": trial_template["primaryContainerName"],
        "successCondition": trial_template["successCondition"],
        "failureCondition": trial_template["failureCondition"],
    }
    if trial_template.get("retain"):
        wanted["retainRun"] = True
    if trial_template.get("primaryPodLabels"):
        wanted["primaryPodLabels"] = trial_template["primaryPodLabels"]
    if spec.get("earlyStopping") and assignment.get("earlyStoppingRules"):
        wanted["earlyStoppingRules"] = assignment["earlyStoppingRules"]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {**(meta.get("labels") or {}), EXPERIMENT_LABEL: meta["name"]},
            "ownerReferences": owned_by(body),
        },
        "spec": wanted,
    }


def _new_suggestion(body: Object, requests: int) -> Object:
    meta, spec = body["metadata"], body["spec"]
    wanted = {"algorithm": spec["algorithm"], "requests": requests, "resumePolicy": spec["resumePolicy"]}
    if spec.get("earlyStopping"):
        wanted["earlyStopping"] = spec["earlyStopping"]
    own = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if meta.get(key)}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Suggestion",
        "metadata": {**own, "ownerReferences": owned_by(body)},
        "spec": wanted,
    }


def _in_order(body: Object, faults: Faults) -> None:
    """Turn the list of conditions round: when it is read, and again when it is written."""
    if faults.conditions == "reversed" and (body.get("status") or {}).get("conditions"):
        body["status"]["conditions"].reverse()
