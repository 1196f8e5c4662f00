"""Whether the pods of a release come up, and what they say when they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ...errors import MlopsError
from ...kubernetes.objects import POD, REPLICA_SET, Cluster, Object
from ...kubernetes.pods import PULLING, UNPULLED, Trouble, explain, explain_owner, last_event, log_tail
from ..engine import NotServed
from .names import pod_selector

_PATIENCE = (
    (r"InvalidImageName|ErrImageNeverPull|CrashLoopBackOff", 0.0),
    (r"Image.*(not found|manifest unknown|unauthorized|denied|forbidden|40[13])", 5.0),
    (r"|".join(UNPULLED), PULLING),
    (r"FailedCreate|quota|violates PodSecurity", 3.0),
    (r"Unschedulable", 60.0),
)
"""Seconds for which a trouble may pass by itself, by the first pattern in `reason: message`. CrashLoopBackOff has
crashed twice."""
_USUAL = 30.0
_PAUSE = 1.0
_LINES = 20


def wait_for_pods(cluster: Cluster, model: str, release: str, wanted: int, timeout: float) -> None:
    """Wait until a release has its pods, and all are ready.

    Args:
        cluster: where.
        model, release: whose pods.
        wanted: how many must be ready.
        timeout: seconds.

    Raises:
        NotServed: one has a trouble that does not pass, or the time is over.
    """
    clock, labels = cluster.clock, pod_selector(model, release)
    began, since = clock.now(), dict[str, float]()
    while True:
        pods = living(cluster, labels)
        if len(pods) >= wanted and all(map(is_ready, pods)):
            return
        found = list(_troubles(cluster, pods, labels))
        over = clock.now() - began >= timeout
        for trouble in found:
            first = since.setdefault(trouble.reason, clock.now())
            if over or clock.now() - first >= _patience(cluster, pods, trouble):
                raise NotServed(str(trouble), digest_of(cluster, model, release), trouble.advice)
        if over:
            ready = sum(map(is_ready, pods))
            why = next((said for pod in pods if (said := last_event(cluster, pod, "Unhealthy"))), "")
            text = f"{ready} of {wanted} pods were ready within {timeout:g} s" + (f": {why}" if why else "")
            fix = "See its log; raise `timeout` if it only needs longer to load"
            raise NotServed(text, digest_of(cluster, model, release), fix)
        clock.wait(_PAUSE)


def living(cluster: Cluster, labels: str) -> list[Object]:
    """The pods of a selector that are not about to end."""
    return [pod for pod in cluster.list(POD, labels=labels) if not pod["metadata"].get("deletionTimestamp")]


def is_ready(pod: Object) -> bool:
    """Whether a pod is sent requests."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def digest_of(cluster: Cluster, model: str, release: str) -> str:
    """What is wrong with the pods of a release, and the last lines of their logs, for a person to read."""
    labels, parts = pod_selector(model, release), list[str]()
    pods = living(cluster, labels)
    for pod in sorted(pods, key=is_ready)[:3]:
        about = f"pod {pod['metadata']['name']}"
        trouble = explain(cluster, pod)
        said = "" if is_ready(pod) else last_event(cluster, pod, "Unhealthy")
        parts.append(f"{about}: {trouble or said or ('ready' if is_ready(pod) else 'not ready')}")
        try:
            log = log_tail(cluster, pod, lines=_LINES)
        except MlopsError as error:
            log = str(error) if error.exit_code == 3 and "may not" in error.what else ""  # a container that never ran
        parts += [f"  {line}" for line in log.splitlines()]
    parts += [str(trouble) for trouble in _of_owners(cluster, labels)]
    return "\n".join(parts)


def _troubles(cluster: Cluster, pods: Sequence[Object], labels: str) -> Iterator[Trouble]:
    for pod in pods:
        if not is_ready(pod) and (trouble := explain(cluster, pod)):
            yield trouble
    yield from _of_owners(cluster, labels)


def _of_owners(cluster: Cluster, labels: str) -> Iterator[Trouble]:
    """Why no pods are made: a quota, a policy, a service account that is not there."""
    for owner in cluster.list(REPLICA_SET, labels=labels):
        status = owner.get("status") or {}
        wanted = (owner.get("spec") or {}).get("replicas") or 0
        if (status.get("replicas") or 0) < wanted and (trouble := explain_owner(cluster, owner)):
            yield trouble


def _patience(cluster: Cluster, pods: Sequence[Object], trouble: Trouble) -> float:
    if trouble.reason == "Unschedulable" and any(last_event(cluster, pod, "TriggeredScaleUp") for pod in pods):
        return float("inf")  # a node is on its way
    text = str(trouble)
    return next((seconds for pattern, seconds in _PATIENCE if re.search(pattern, text, re.IGNORECASE)), _USUAL)
