"""Katib's controller of Trials, with what its database keeps.

Source: pkg/controller.v1beta1/trial/{trial_controller,trial_controller_util}.go and
pkg/earlystopping/v1beta1/medianstop/service.py of github.com/kubeflow/katib.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.client.exceptions import ApiException

from . import conditions, metrics
from .algorithms import MedianStop
from .api import EXPERIMENT, JOB, POD, TRIAL, Kind, Object
from .collector import REPORT, StopRules, observation_log
from .controller import Context, ReconcileError, Simulated, owned_by, set_finalizer
from .injection import COLLECTOR, EXPERIMENT_LABEL, TRIAL_LABEL
from .manifest import matching

FINALIZER = "clean-metrics-in-db"
_LATE = 1.0
"""Seconds from a simulated trial's condition EarlyStopped to its value."""
_NOWHERE = {"doubles/no-such-node": "true"}


class Trials:
    """Brings Trials further."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._logs: dict[tuple[str, str], list[dict[str, str]]] = {}
        """What the collectors reported, as Katib's database keeps it, by the trial's namespace and name."""
        self._started: dict[tuple[str, str], float] = {}
        self._stopped: dict[tuple[str, str], float] = {}

    def reconcile(self, namespace: str, name: str) -> None:
        """One look at one Trial."""
        context = self._context
        body = context.of(TRIAL, namespace).get(name)
        if body is None or set_finalizer(context, TRIAL, body, FINALIZER):
            return
        status, before = body.setdefault("status", {}), conditions.has(body, *conditions.TRIAL_ENDED)
        if not conditions.has(body, "Created"):
            status.setdefault("startTime", conditions.now())
            status.setdefault("completionTime", None)
            conditions.put(body, "Created", "TrialCreated", "Trial is created")
        elif context.simulate:
            self._simulate(body)
        else:
            self._advance(body)
        context.write_status(TRIAL, body)
        if conditions.has(body, *conditions.TRIAL_ENDED) and not before:
            context.ended[namespace, body["metadata"]["labels"][EXPERIMENT_LABEL]].add(name)

    def stop_rules(self, experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The early stopping rules that the next trials of an Experiment get."""
        asked = experiment["spec"].get("earlyStopping")
        if not asked:
            return []
        meta, objective = experiment["metadata"], experiment["spec"]["objective"]
        service = MedianStop(asked.get("algorithmSettings") or [])
        for trial in self._context.trials(meta["namespace"], meta["name"]):
            if conditions.has(trial, "Succeeded"):
                logs = self._logs.get((meta["namespace"], trial["metadata"]["name"]), [])
                name = objective["objectiveMetricName"]
                service.learn(trial["metadata"]["name"], [float(log["value"]) for log in logs if log["name"] == name])
        return service.rules(objective)

    def _advance(self, body: Object) -> None:
        """With a real object that runs the trial."""
        ended = conditions.has(body, *conditions.TRIAL_ENDED)
        job = self._job(body, ended)
        if job is None or (ended and not conditions.has(body, "EarlyStopped")):
            return
        spec = body["spec"]
        failed = matching(job, spec["failureCondition"])
        succeeded = None if failed else matching(job, spec["successCondition"])
        if failed:
            self._end(body, "Failed", failed)
        elif succeeded:
            self._succeed(body, succeeded)
        elif not conditions.has(body, "Running", "EarlyStopped"):
            conditions.put(body, "Running", "TrialRunning", "Trial is running")
            self._tell(body, "Normal", "JobRunning", "is running")

    def _job(self, body: Object, ended: bool) -> Object | None:
        """The object that runs the trial: made if there is none, deleted when the trial has ended without `retain`."""
        context, meta = self._context, body["metadata"]
        wanted = dict(body["spec"]["runSpec"])
        kind = self._kind(wanted)
        found = context.of(JOB, meta["namespace"]).get(meta["name"]) if kind == JOB else None
        found = found or context.api.get(kind, meta["name"], meta["namespace"])
        if found is None and not ended:
            wanted["metadata"] = {**wanted["metadata"], "ownerReferences": owned_by(body)}
            if context.faults(self._experiment(body)).unschedulable:
                wanted["spec"]["template"]["spec"]["nodeSelector"] = _NOWHERE
            try:
                found = context.api.create(kind, wanted, meta["namespace"])
            except ApiException as error:
                raise ReconcileError(json.loads(error.body or "{}").get("message", str(error))) from error
            self._tell(body, "Normal", "JobCreated", "has been created")
        elif found is not None and ended and not body["spec"].get("retainRun"):
            if not found["metadata"].get("deletionTimestamp"):
                context.api.delete(kind, meta["name"], meta["namespace"], "Foreground")
                self._tell(body, "Normal", "JobDeleted", "has been deleted")
            return None
        return found

    def _kind(self, wanted: Object) -> Kind:
        version, name = wanted["apiVersion"], wanted["kind"]
        if (version, name) == ("batch/v1", "Job"):
            return JOB
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            resources = self._context.api.call("GET", prefix)["resources"]
        except ApiException:
            resources = []
        for resource in resources:
            if resource["kind"] == name and "/" not in resource["name"]:
                return Kind(prefix, resource["name"], name)
        raise ReconcileError(f'no matches for kind "{name}" in version "{version}"')

    def _succeed(self, body: Object, condition: Object) -> None:
        """The trial's object has succeeded: what did its collector report?"""
        report = self._report(body)
        kind = body["spec"]["metricsCollector"]["collector"]["kind"]
        if report is None and kind != "Push":
            # Without a collector in its pod a trial stays running for ever: issues 1801 and 2614.
            self._again(body, 1.0)
            return
        if report and report["early_stopped"] and not conditions.has(body, "EarlyStopped"):
            self._stop_early(body)
            self._again(body)
            return
        logs = report["metric_logs"] if report else observation_log([], _metric_names(body))
        self._observe(body, logs)
        if conditions.has(body, "EarlyStopped"):
            return
        if metrics.is_observed(body):
            self._end(body, "Succeeded", condition)
        else:
            self._end(body, "MetricsUnavailable", condition)

    def _report(self, body: Object) -> Object | None:
        """What the collector printed last; None when there is none, or it has not ended."""
        context, meta = self._context, body["metadata"]
        pods = context.api.list(POD, meta["namespace"], f"{TRIAL_LABEL}={meta['name']}")["items"]
        for pod in pods:
            if pod["status"]["phase"] == "Succeeded" and any(c["name"] == COLLECTOR for c in pod["spec"]["containers"]):
                for line in reversed(
                    context.api.log(pod["metadata"]["name"], COLLECTOR, meta["namespace"]).split("\n")
                ):
                    if REPORT in line:
                        found: Object = json.loads(line.partition(REPORT)[2])
                        return found
        return None

    def _observe(self, body: Object, logs: Sequence[dict[str, str]]) -> None:
        self._logs[body["metadata"]["namespace"], body["metadata"]["name"]] = list(logs)
        if not (body["status"].get("observation") or {}).get("metrics"):
            body["status"]["observation"] = metrics.observation(logs, body["spec"]["objective"]["metricStrategies"])

    def _stop_early(self, body: Object) -> None:
        """As the early stopping service does: the condition is only added; `Running` stays true."""
        conditions.put(body, "EarlyStopped", "TrialEarlyStopped", "Trial is early stopped")

    def _end(self, body: Object, how: str, condition: Mapping[str, Any]) -> None:
        texts = {
            "Succeeded": ("TrialSucceeded", "Trial has succeeded"),
            "Failed": ("TrialFailed", "Trial has failed"),
            "MetricsUnavailable": ("MetricsUnavailable", "Metrics are not available"),
            "Killed": ("TrialKilled", "Trial is killed"),
        }
        if conditions.has(body, "EarlyStopped"):
            return
        reason, message = texts[how]
        if condition.get("message"):
            message += f". Job message: {condition['message']}"
        if condition.get("reason"):
            reason += f". Job reason: {condition['reason']}"
        conditions.end(body, how, reason, message)
        body["status"]["completionTime"] = conditions.now()
        if how == "MetricsUnavailable":
            self._tell(body, "Warning", "MetricsUnavailable", "", before="Metrics are not available for")
        else:
            done = "has succeeded" if how == "Succeeded" else f"has failed. {condition.get('message', '')}"
            self._tell(body, "Normal", f"Job{how}", done)

    def _simulate(self, body: Object) -> None:
        """Without pods: running, so long as it is said, and then the end."""
        meta, spec = body["metadata"], body["spec"]
        if conditions.has(body, *conditions.TRIAL_ENDED):
            self._observe_stopped(body)
            return
        faults = self._context.faults(self._experiment(body))
        key = (meta["namespace"], meta["name"])
        if not conditions.has(body, "Running"):
            if not faults.unschedulable:
                conditions.put(body, "Running", "TrialRunning", "Trial is running")
                self._started[key] = time.monotonic()
            return
        assert self._context.simulate
        fate = self._context.simulate({a["name"]: a["value"] for a in spec["parameterAssignments"]})
        left = self._started.setdefault(key, time.monotonic()) + fate.seconds - time.monotonic()
        if left > 0 or faults.not_injected:
            if not faults.not_injected:
                self._again(body, left)
            return
        self._end_simulated(body, fate)

    def _observe_stopped(self, body: Object) -> None:
        """Katib writes the value of a trial that was stopped early a while later, if its object is still there."""
        spec, key = body["spec"], (body["metadata"]["namespace"], body["metadata"]["name"])
        if not conditions.has(body, "EarlyStopped") or not spec.get("retainRun") or metrics.is_observed(body):
            return
        left = self._stopped.setdefault(key, time.monotonic()) + _LATE - time.monotonic()
        if left > 0:
            self._again(body, left)
            return
        assert self._context.simulate
        fate = self._context.simulate({a["name"]: a["value"] for a in spec["parameterAssignments"]})
        self._observe(body, observation_log(_simulated_logs(spec, fate)[0], _metric_names(body)))

    def _end_simulated(self, body: Object, fate: Simulated) -> None:
        if fate.ends != "Succeeded":
            self._end(body, fate.ends, {})
            return
        reported, stopped = _simulated_logs(body["spec"], fate)
        if stopped:
            self._stop_early(body)
            self._again(body)
        else:
            self._observe(body, observation_log(reported, _metric_names(body)))
            self._end(body, "Succeeded" if metrics.is_observed(body) else "MetricsUnavailable", {})

    def _experiment(self, body: Object) -> Object | None:
        meta = body["metadata"]
        return self._context.of(EXPERIMENT, meta["namespace"]).get(meta["labels"][EXPERIMENT_LABEL])

    def _again(self, body: Object, after: float = 0.0) -> None:
        self._context.queue.add(("Trial", body["metadata"]["namespace"], body["metadata"]["name"]), after)

    def _tell(self, body: Object, kind: str, reason: str, what: str, before: str = "") -> None:
        text = f"{before} Job {body['metadata']['name']} {what}".strip()
        self._context.event(body, kind, reason, text, "trial-controller")


def _metric_names(body: Mapping[str, Any]) -> list[str]:
    objective = body["spec"]["objective"]
    return [objective["objectiveMetricName"], *(objective.get("additionalMetricNames") or [])]


def _simulated_logs(spec: Mapping[str, Any], fate: Simulated) -> tuple[list[dict[str, str]], bool]:
    """What a simulated trial reports before it ends or is stopped; whether it was stopped."""
    objective = spec["objective"]
    given = [
        (r["name"], float(r["value"]), r["comparison"], r.get("startStep", 0))
        for r in spec.get("earlyStoppingRules") or []
    ]
    rules = StopRules(given, objective["objectiveMetricName"], objective["type"])
    logs = []
    reported = {name: fate.metrics.get(name, fate.metrics.get("*", ())) for name in _metric_names({"spec": spec})}
    for step in range(max((len(values) for values in reported.values()), default=0)):
        for name, values in reported.items():
            if step < len(values):
                when = f"2001-01-01T00:00:00.{step:09d}Z"
                logs.append({"timestamp": when, "name": name, "value": str(values[step])})
                if given and rules.met(name, values[step]):
                    return logs, True
    return logs, False
