"""Conditions, as Katib sets them.

Source: pkg/apis/controller/{experiments,suggestions,trials}/v1beta1/util.go of github.com/kubeflow/katib. A condition
that changes moves to the end of the list; one whose status and reason are the same is left as it is.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

Object = dict[str, Any]


def now() -> str:
    """The time as Kubernetes writes it, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(body: Object, type_: str) -> Object | None:
    """The condition of a type."""
    return next((c for c in body.get("status", {}).get("conditions") or [] if c["type"] == type_), None)


def has(body: Object, *types: str) -> bool:
    """Whether one of the conditions is true."""
    return any((found := find(body, type_)) is not None and found["status"] == "True" for type_ in types)


def remove(body: Object, type_: str) -> None:
    """Drop a condition."""
    status = body.setdefault("status", {})
    status["conditions"] = [c for c in status.get("conditions") or [] if c["type"] != type_]


def put(body: Object, type_: str, reason: str, message: str, *, status: str = "True") -> None:
    """Set a condition."""
    known, moment = find(body, type_), now()
    if known and known["status"] == status and known["reason"] == reason:
        return
    since = known["lastTransitionTime"] if known and known["status"] == status else moment
    remove(body, type_)
    body["status"]["conditions"].append(
        {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastUpdateTime": moment,
            "lastTransitionTime": since,
        }
    )


def end(body: Object, type_: str, reason: str, message: str) -> None:
    """Set a condition with which an Experiment, a Suggestion or a Trial ends: it is no longer running."""
    running = find(body, "Running")
    if running:
        put(body, "Running", running["reason"], running["message"], status="False")
    put(body, type_, reason, message)


TRIAL_ENDED = ("Succeeded", "Failed", "Killed", "EarlyStopped", "MetricsUnavailable")
EXPERIMENT_ENDED = ("Succeeded", "Failed")
