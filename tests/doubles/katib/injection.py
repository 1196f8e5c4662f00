"""What Katib's webhook does to a trial's pod: labels, the metrics collector, and a command whose output goes to a file.

Source: pkg/webhook/v1beta1/pod/{inject_webhook,utils}.go of github.com/kubeflow/katib. What was copied with care: the
words of the command are joined without quoting; the training container's own log is empty with the StdOut collector,
since its output goes to the file and is printed by the collector.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .collector import UNREACHABLE
from .defaults import METRICS_FILE

Object = dict[str, Any]
LABEL = "katib.kubeflow.org/metrics-collector-injection"
EXPERIMENT_LABEL = "katib.kubeflow.org/experiment"
TRIAL_LABEL = "katib.kubeflow.org/trial"
COLLECTOR = "metrics-logger-and-collector"
COLLECTED = ("StdOut", "File")
"""The kinds of collectors that the double has."""
RESOURCES = {
    "limits": {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "5Gi"},
    "requests": {"cpu": "50m", "memory": "10Mi", "ephemeral-storage": "500Mi"},
}
"""What Katib's configuration gives the containers that it makes: any quota of the namespace counts them."""
_PROGRAM = Path(__file__).with_name("collector.py").read_text()


class InjectionError(Exception):
    """The pod is refused, as Katib refuses it: its creation fails with HTTP 400."""


def inject(pod: Object, trial: Mapping[str, Any], image: str, *, database_down: bool = False) -> None:
    """Change a trial's pod before it is made.

    Args:
        pod: is changed.
        trial: that owns the pod's owner.
        image: with Python, for the collector.
        database_down: Katib's database manager does not respond to it.

    Raises:
        InjectionError: the pod has no container with the primary container's name.
    """
    spec = trial["spec"]
    labels = pod["metadata"].setdefault("labels", {})
    own = dict(labels)
    labels.update({**(trial["metadata"].get("labels") or {}), TRIAL_LABEL: trial["metadata"]["name"]})
    primary = spec.get("primaryPodLabels")
    if primary and any(own.get(name) != value for name, value in primary.items()):
        return
    collector = spec["metricsCollector"]["collector"]
    if collector["kind"] in ("None", "Push"):
        return
    if collector["kind"] == "Custom":
        pod["spec"]["containers"].append(collector["customCollector"])
        pod["spec"]["shareProcessNamespace"] = True
        return
    path = _path(spec["metricsCollector"])
    database = UNREACHABLE if database_down else "katib-db-manager.kubeflow:6789"
    pod["spec"]["containers"].append(_collector(trial, path, image, database))
    pod["spec"]["shareProcessNamespace"] = True
    mount = {"name": "metrics-volume", "mountPath": posixpath.dirname(path)}
    for container in pod["spec"]["containers"]:
        if container["name"] in (COLLECTOR, spec["primaryContainerName"]):
            container.setdefault("volumeMounts", []).append(dict(mount))
    pod["spec"].setdefault("volumes", []).append({"name": "metrics-volume", "emptyDir": {}})
    _wrap(pod, trial, path, redirect=collector["kind"] == "StdOut")


def _path(spec: Mapping[str, Any]) -> str:
    return METRICS_FILE if spec["collector"]["kind"] == "StdOut" else str(spec["source"]["fileSystemPath"]["path"])


def _collector(trial: Mapping[str, Any], path: str, image: str, database: str) -> Object:
    spec = trial["spec"]
    objective, collector = spec["objective"], spec["metricsCollector"]
    source = collector.get("source") or {}
    metrics = [objective["objectiveMetricName"], *(objective.get("additionalMetricNames") or [])]
    words = ["-t", trial["metadata"]["name"], "-m", ";".join(metrics), "-o-type", objective["type"]]
    words += ["-s-db", database, "-path", path]
    if (source.get("filter") or {}).get("metricsFormat"):
        words += ["-f", ";".join(source["filter"]["metricsFormat"])]
    kind = collector["collector"]["kind"]
    words += ["-format", source["fileSystemPath"]["format"] if kind == "File" else "TEXT"]
    for rule in spec.get("earlyStoppingRules") or []:
        words += ["-stop-rule", f"{rule['name']};{rule['value']};{rule['comparison']};{rule.get('startStep', 0)}"]
    return {
        "name": COLLECTOR,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _PROGRAM],
        "args": words,
        "resources": RESOURCES,
    }


def _wrap(pod: Object, trial: Mapping[str, Any], path: str, *, redirect: bool) -> None:
    name = trial["spec"]["primaryContainerName"]
    container = next((c for c in pod["spec"]["containers"] if c["name"] == name), None)
    if container is None:
        raise InjectionError(f"unable to find primary container: primary container: {name}")
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if not container.get("command"):
        # Katib asks the registry for the image's entry point.
        raise InjectionError(f"Failed to get container image {container.get('image')!r} info from registry")
    shell = ["sh", "-c"]
    if words[0] in ("sh", "bash") and words[1:2] == ["-c"]:
        shell, words = words[:2], words[2:]
    if redirect:
        words.append(f"1>{path} 2>&1")
    folder = posixpath.dirname(path)
    marker = f"{folder}/$$$$.pid"
    if trial["spec"].get("earlyStoppingRules") is not None:
        words += [
            "||",
            f"if test -f {marker} && [ $(head -n 1 {folder}/$$.pid) = early-stopped ]; "
            "then echo Training Container was Early Stopped; else echo Training Container was Failed; exit 1; fi",
        ]
    words += ["&&", f"echo completed > {marker}"]
    container["command"], container["args"] = shell, [" ".join(words)]
