"""What Katib's mutating webhook fills in.

Source: pkg/apis/controller/experiments/v1beta1/{experiment_defaults,constants}.go of github.com/kubeflow/katib.
"""

from __future__ import annotations

from typing import Any

METRICS_FILE = "/var/log/katib/metrics.log"
_CONDITION = 'status.conditions.#(type=="{}")#|#(status=="True")#'
_STRATEGY = {"minimize": "min", "maximize": "max"}
_TRAINING_JOBS = ("TFJob", "PyTorchJob", "XGBoostJob", "MPIJob")


def set_defaults(experiment: dict[str, Any]) -> None:
    """Fill in what the Experiment leaves out."""
    spec = experiment.setdefault("spec", {})
    spec.setdefault("parallelTrialCount", 3)
    spec["resumePolicy"] = spec.get("resumePolicy") or "Never"
    if spec.get("objective"):
        _objective(spec["objective"])
    if (spec.get("trialTemplate") or {}).get("trialSpec"):
        _template(spec["trialTemplate"])
    collector = spec.setdefault("metricsCollectorSpec", {})
    _collector(collector)
    for parameter in spec.get("parameters") or []:
        space = parameter.setdefault("feasibleSpace", {})
        space["distribution"] = space.get("distribution") or "uniform"


def _objective(objective: dict[str, Any]) -> None:
    strategies = objective.setdefault("metricStrategies", [])
    given = {strategy.get("name") for strategy in strategies}
    for metric in (objective.get("objectiveMetricName", ""), *(objective.get("additionalMetricNames") or [])):
        if metric not in given:
            strategies.append({"name": metric, "value": _STRATEGY.get(objective.get("type", ""), "latest")})


def _template(template: dict[str, Any]) -> None:
    kind = template["trialSpec"].get("kind", "")
    if kind in ("Job", "TrainJob", *_TRAINING_JOBS):
        done = "Succeeded" if kind in _TRAINING_JOBS else "Complete"
        template["successCondition"] = template.get("successCondition") or _CONDITION.format(done)
        template["failureCondition"] = template.get("failureCondition") or _CONDITION.format("Failed")
    if kind in _TRAINING_JOBS:
        template.setdefault("primaryPodLabels", {"training.kubeflow.org/job-role": "master"})
    if kind == "TrainJob":
        template.setdefault("primaryPodLabels", {"jobset.sigs.k8s.io/replicatedjob-name": "node"})


def _collector(spec: dict[str, Any]) -> None:
    kind = spec.setdefault("collector", {"kind": "StdOut"}).get("kind")
    if kind == "PrometheusMetric":
        http = spec.setdefault("source", {}).setdefault("httpGet", {})
        http["path"], http["port"] = http.get("path") or "/metrics", http.get("port") or 8080
    elif kind == "File":
        path = spec.setdefault("source", {}).setdefault("fileSystemPath", {})
        for name, value in (("kind", "File"), ("path", METRICS_FILE), ("format", "TEXT")):
            path[name] = path.get(name) or value
    elif kind == "TensorFlowEvent":
        path = spec.setdefault("source", {}).setdefault("fileSystemPath", {})
        path["kind"], path["path"] = path.get("kind") or "Directory", path.get("path") or "/var/log/katib/tfevent/"
