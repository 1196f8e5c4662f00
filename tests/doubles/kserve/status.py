"""The status of an InferenceService, as KServe 0.20 works it out (`inference_service_status.go`), true or not."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

from mlops_actions.kubernetes.objects import EVENT, Cluster, Object

from .manifest import NoRuntime

CONFLICT = (
    'Failed to update status for InferenceService "{name}": Operation cannot be fulfilled on'
    ' inferenceservices.serving.kserve.io "{name}": the object has been modified; please apply your changes to the'
    " latest version and try again"
)


def is_ready(isvc: Object) -> bool:
    """What the condition Ready says."""
    found = {one["type"]: one["status"] for one in (isvc.get("status") or {}).get("conditions") or []}
    return found.get("Ready") == "True"


def of(isvc: Object, mode: str, deployments: Sequence[Object], pods: Sequence[Object]) -> Object:
    """Of an InferenceService whose Deployments are these: the stable predictor's, then the canaries'."""
    about = isvc["metadata"]
    predictor = _predictor(deployments[0])
    ready = predictor["status"] == "True"
    waits = {"reason": "Predictor Deployment NotReady", "message": "Predictor HTTPRoute not created"}
    ingress = {"status": "True"} if ready else {"status": "False", **waits}
    url = f"http://{about['name']}-{about['namespace']}.example.com"
    inner = f"http://{about['name']}-predictor.{about['namespace']}.svc.cluster.local"
    told: Object = {
        "deploymentMode": mode,
        "conditions": _conditions(isvc, predictor, ingress, ingress),
        "components": {"predictor": {"url": url} if ready else {}},
        "modelStatus": _model(ready, pods),
    }
    if (seen := (deployments[0].get("status") or {}).get("observedGeneration")) is not None:
        told["observedGeneration"] = seen  # the Deployment's
    if ready:
        told |= {"url": url, "address": {"url": inner}}
    if len(deployments) > 1:
        told["canaryStatuses"] = [
            {
                "name": canary["predictor"]["name"],
                "ready": _predictor(one)["status"] == "True",
                "trafficPercent": canary.get("trafficPercent", 0),  # in force or not
                "modelStatus": {"transitionStatus": ""},
            }
            for canary, one in zip(isvc["spec"]["canary"], deployments[1:], strict=True)
        ]
    return told


def invalid(isvc: Object, mode: str, missing: NoRuntime) -> Object:
    """Of one that no runtime serves."""
    unknown = {"status": "Unknown"}
    return {
        "deploymentMode": mode,
        "conditions": _conditions(isvc, unknown, unknown, unknown),
        "modelStatus": {
            "transitionStatus": "InvalidSpec",
            "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
            "lastFailureInfo": {"reason": missing.reason, "message": str(missing)},
        },
    }


def stopped(mode: str) -> Object:
    """Of one that is stopped by its annotation."""
    off = {"status": "False", "reason": "Stopped"}
    conditions = [{"type": kind, **off} for kind in ("IngressReady", "PredictorReady", "Ready")]
    return {
        "deploymentMode": mode,
        "conditions": [*conditions, {"type": "Stopped", "status": "True", "severity": "Info"}],
        "modelStatus": {"transitionStatus": ""},
    }


def event(cluster: Cluster, isvc: Object, reason: str, message: str) -> None:
    """Record a Warning."""
    about, now = isvc["metadata"], datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    body: Object = {
        "metadata": {"name": f"{about['name']}.{uuid.uuid4().hex[:16]}", "namespace": about["namespace"]},
        "involvedObject": {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "name": about["name"],
            "namespace": about["namespace"],
            "uid": about["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "v1beta1Controllers"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    cluster.create(EVENT, body)


def _predictor(deployment: Object) -> Object:
    """The condition of a Deployment as the controller passes it on: available with old pods is ready."""
    found = {one["type"]: one for one in (deployment.get("status") or {}).get("conditions") or []}
    available, progressing = found.get("Available"), found.get("Progressing")
    told: Object = {"status": "False"}
    if available and available["status"] == "True":
        told = _passed(available, "True")
    if progressing and progressing["status"] == "False":
        told = _passed(progressing, "False")
    elif progressing and progressing.get("reason") == "NewReplicaSetAvailable":
        told = _passed(progressing, "True")
    if available and available["status"] == "False":
        told = _passed(available, "False")
    failure = found.get("ReplicaFailure")
    return _passed(failure, "False") if failure and failure["status"] == "True" else told


def _passed(condition: Object, status: str) -> Object:
    return {"status": status, "reason": condition.get("reason", ""), "message": condition.get("message", "")}


def _conditions(isvc: Object, predictor: Object, ingress: Object, ready: Object) -> list[Object]:
    before = {one["type"]: one for one in (isvc.get("status") or {}).get("conditions") or []}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = []
    for kind, what in (("IngressReady", ingress), ("PredictorReady", predictor), ("Ready", ready)):
        one = {"type": kind, **{key: value for key, value in what.items() if value}}
        same = before.get(kind, {}).get("status") == one["status"]
        found.append({**one, "lastTransitionTime": before[kind].get("lastTransitionTime", now) if same else now})
    return found


def _model(ready: bool, pods: Sequence[Object]) -> Object:
    """Of the first pod that is listed, whatever it is an old one of."""
    copies = {"failedCopies": 0}
    if ready:
        states = {"activeModelState": "Loaded", "targetModelState": "Loaded"}
        return {"transitionStatus": "UpToDate", "states": states, "copies": {**copies, "totalCopies": len(pods)}}
    target, why, how = "Pending", None, "InProgress"
    status = (pods[0].get("status") or {}) if pods else {}
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        ended = _failed(one)
        if ended is not None:
            target, how = "FailedToLoad", "BlockedByFailedLoad"
            why = {"reason": "ModelLoadFailed", "exitCode": ended.get("exitCode", 0)}
            why |= {"message": ended["message"]} if ended.get("message") else {}
            break
        if one["name"] == "storage-initializer" and "running" in (one.get("state") or {}):
            target = "Loading"
            break
    told: Object = {
        "transitionStatus": how,
        "states": {"activeModelState": "", "targetModelState": target},
        "copies": copies,
    }
    return {**told, "lastFailureInfo": why} if why else told


def _failed(container: Object) -> Object | None:
    state = container.get("state") or {}
    if (state.get("terminated") or {}).get("reason") == "Error":
        return dict(state["terminated"])
    if (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff":
        return dict((container.get("lastState") or {}).get("terminated") or {})
    return None
