"""Ending an Experiment before its time.

Katib has no way to ask for it (kubeflow/katib issue 934): a lower `maxTrialCount` is refused, and trials that run go on
after the Experiment has ended (issue 855). What its controllers obey are conditions: of a Trial that is `Killed` they
delete the Job, as for the trials that Katib's own early stopping ends by writing their status, and for an Experiment
that is complete they start no trial and take the algorithm's service away. So these are written, and all that was found
stays to be looked at. Deleting the Experiment ends everything, too, and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Literal

from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import EXPERIMENT, TRIAL, Cluster, Kind
from .begin import trials_of
from .status import ENDED, Object, completed, holds

_ATTEMPTS = 5


def stop(
    cluster: Cluster,
    name: str,
    *,
    verdict: Literal["Succeeded", "Failed"],
    reason: str,
    message: str,
    keep: bool,
    say: Callable[[str], None],
) -> None:
    """End an Experiment and its trials now; one that has ended or is gone is left as it is.

    Args:
        cluster, name: which.
        verdict, reason, message: the condition that it ends with.
        keep: whether its objects stay; if not, or if we may not write a status, it is deleted.
        say: told of a deletion that was not asked for.
    """
    found = cluster.get(EXPERIMENT, name)
    if found is None or (keep and completed(found)):
        return
    if keep:
        try:
            _mark(cluster, found, verdict, reason, message)
            return
        except ClusterFailed as error:
            if error.reason != "Forbidden":
                raise
            say(f"The Experiment {name} is deleted, since it cannot be kept: {error}")
    cluster.delete(EXPERIMENT, name)


def _mark(cluster: Cluster, found: Object, verdict: str, reason: str, message: str) -> None:
    name, spec = found["metadata"]["name"], found["spec"]
    if not spec.get("maxTrialCount"):
        # Katib restarts a complete Experiment that has no such limit
        trials = (found.get("status") or {}).get("trials") or 0
        cluster.patch(EXPERIMENT, name, {"spec": {"maxTrialCount": trials + spec.get("parallelTrialCount", 3) + 1}})
    _end(cluster, EXPERIMENT, name, verdict, reason, message)
    for _ in range(2):  # again for trials that were being made meanwhile
        for trial in trials_of(cluster, name):
            if not any(holds(trial, state) for state in ENDED):
                _end(cluster, TRIAL, trial["metadata"]["name"], "Killed", "TrialKilled", message)


def _end(cluster: Cluster, kind: Kind, name: str, type_: str, reason: str, message: str) -> None:
    """Write the condition with which an object ends, unless Katib wrote one meanwhile."""
    ends = ENDED if kind is TRIAL else ("Succeeded", "Failed")
    for attempt in range(_ATTEMPTS):
        found = cluster.get(kind, name)
        if found is None or any(holds(found, end) for end in ends):
            return
        try:
            cluster.patch(kind, name, _patch(found, type_, reason, message), subresource="status")
            return
        except ClusterFailed as error:
            if error.status != 409 or attempt == _ATTEMPTS - 1:
                raise


def _patch(found: Object, type_: str, reason: str, message: str) -> Object:
    """The change of a status that holds only if nobody changed the object since it was read."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    changed = {"lastUpdateTime": now, "lastTransitionTime": now}
    conditions = [
        {**c, "status": "False", **changed} if c["type"] == "Running" and c["status"] == "True" else c
        for c in (found.get("status") or {}).get("conditions") or []
    ]
    end = {"type": type_, "status": "True", "reason": reason, "message": message, **changed}
    return {
        "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
        "status": {"conditions": [*conditions, end], "completionTime": now},
    }
