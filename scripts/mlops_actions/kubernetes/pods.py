"""Why a pod does not run, or has failed: what Kubernetes knows, in one sentence, with what to do about it.

States: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import MlopsError
from .objects import EVENT, Cluster, Object

_WAITING = ("ContainerCreating", "PodInitializing", "")
"""Reasons of a container that waits as it should."""
UNPULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
"""Reasons of a container whose image its node cannot get."""
PULLING = 120.0
"""Seconds for which Kubernetes may try to pull an image, which it does about four times."""

_ADVICE = (
    (r"Image.*(not found|manifest unknown|does not exist)", "Push the image first, or correct its name and tag"),
    (r"Image.*(unauthorized|authentication|denied|forbidden|401|403)", "Give the pod's service account a pull secret"),
    (r"Image.*(x509|HTTP response to HTTPS)", "Let the nodes trust the registry, or use one with a known certificate"),
    (r"InvalidImageName", "Correct the image's name"),
    (r"Image", "Check the image's name, and that the nodes can reach its registry"),
    (r"OOMKilled", "Raise the container's memory limit, or let it need less"),
    (r"(configmap|secret|serviceaccount).*not found", "Create what is missing in that namespace, or correct its name"),
    (r"persistentvolumeclaim", "Create the claim, with a storage class that the cluster has"),
    (r"Insufficient", "Request less, add nodes, or wait for others to finish"),
    (r"untolerated taint", "Add a toleration of the nodes' taint"),
    (r"node affinity|node selector|didn't match", "Correct the node selector or affinity: no node has those labels"),
    (r"exceeded quota", "Request less, wait for others to finish, or ask for a higher quota of the namespace"),
    (r"must specify", "Give the containers the requests or limits that the namespace's quota asks for"),
    (r"DeadlineExceeded", "Raise `activeDeadlineSeconds`, or let it take less time"),
    (r"Evicted", "Give the container requests that are what it needs, so that its node keeps room for it"),
    (r"Preempt|DisruptionTarget|NodeShutdown|NodeLost", "Run it again: its node was taken away, not its own fault"),
    (
        r"StartError|RunContainerError|ContainerCannotRun|CreateContainerError",
        "Correct the command, or the image",
    ),
    (r"forbidden: violates PodSecurity", "Meet the namespace's pod security standard, or use another namespace"),
)
"""What to do, by the first pattern that is found in `reason: message`."""


@dataclass(frozen=True)
class Trouble:
    """Why something does not run, or has failed.

    Attributes:
        reason: Kubernetes' own word, such as `ImagePullBackOff`.
        message: what happened, with the names and limits that matter.
        advice: what to do; "" if that is for the log to say.
        container: which; "" if it is the pod as a whole.
        exit_code: of the container; None if it has not ended.
    """

    reason: str
    message: str
    advice: str = ""
    container: str = ""
    exit_code: int | None = None

    def __str__(self) -> str:
        where = f"{self.container}: " if self.container else ""
        return f"{where}{self.reason}: {self.message}"


def explain(cluster: Cluster, pod: Object) -> Trouble | None:
    """Why a pod does not run, or has failed; None if it runs, has succeeded, or is on its way."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded":
        return None
    if phase == "Failed" and status.get("reason"):  # evicted, over its deadline, its node is gone
        return _trouble(status["reason"], status.get("message") or "The pod was ended")
    found = _container(pod)
    if found and found.reason.startswith(("ErrImage", "ImagePull")) and ":" not in found.message:
        more = last_event(cluster, pod, "Failed")  # before Kubernetes 1.31 the state does not say why
        return _trouble(found.reason, f"{found.message}: {more}", found.container) if more else found
    if found:
        return found
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _trouble(condition.get("reason") or "Unschedulable", condition.get("message") or "")
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _trouble("DisruptionTarget", condition.get("message") or condition.get("reason") or "")
    if phase == "Failed":
        return _trouble("Failed", status.get("message") or "The pod failed, and Kubernetes does not say why")
    if phase == "Pending":
        for reason in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedScheduling"):
            message = last_event(cluster, pod, reason)
            if message:
                return _trouble(reason, message)
    return None


def explain_owner(cluster: Cluster, owner: Object) -> Trouble | None:
    """Why what makes pods (a Job, a ReplicaSet) has failed or makes none: its conditions, then a quota or a policy."""
    for condition in (owner.get("status") or {}).get("conditions") or []:
        if condition.get("type") in ("Failed", "ReplicaFailure") and condition.get("status") == "True":
            return _trouble(condition.get("reason") or "Failed", condition.get("message") or "")
    message = last_event(cluster, owner, "FailedCreate")
    return _trouble("FailedCreate", message) if message else None


def log_tail(cluster: Cluster, pod: Object, container: str = "", lines: int = 40) -> str:
    """The last lines of a container: of the one that failed, which is the earlier one if it was started again.

    Args:
        cluster: where.
        pod: the object.
        container: which; "" for the one that is in trouble, else the first.
        lines: how many.
    """
    about = pod["metadata"]
    if not container:
        trouble = _container(pod)
        container = (trouble.container if trouble else "") or pod["spec"]["containers"][0]["name"]
    state = next((one for one in _statuses(pod) if one.get("name") == container), {})
    again = bool(state.get("restartCount")) and "terminated" not in (state.get("state") or {})
    for previous in (True, False) if again else (False,):
        text = cluster.logs(
            about["name"],
            container=container,
            tail=lines,
            previous=previous,
            namespace=about.get("namespace") or "",
        )
        if text:
            return text.rstrip("\n")
    return ""


def _container(pod: Object) -> Trouble | None:
    """What is wrong with a container: one that cannot start, else the one that failed first."""
    statuses = list(_statuses(pod))
    for one in statuses:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in _WAITING:
            return _waiting(pod, one, waiting)
    ended = [(one, (one.get("state") or {}).get("terminated") or {}) for one in statuses]
    failed = [(one, end) for one, end in ended if end.get("exitCode")]
    if not failed:
        return None
    one, end = min(failed, key=lambda found: str(found[1].get("finishedAt") or ""))
    return _ended(pod, one, end)


def _statuses(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _waiting(pod: Object, one: Mapping[str, Any], waiting: Mapping[str, Any]) -> Trouble:
    reason, message = str(waiting["reason"]), str(waiting.get("message") or "")
    if reason == "CrashLoopBackOff":
        end = (one.get("lastState") or {}).get("terminated") or {}
        times = f"it was started {one.get('restartCount', 0) + 1} times"
        if not end:
            return _trouble(reason, times, one["name"])
        last = _ended(pod, one, end)
        return Trouble(reason, f"{last.message}; {times}", last.advice, one["name"], last.exit_code)
    if "Image" in reason:
        image = one.get("image")
        why = _shorter(message).removeprefix(f"{image}: ") if ":" in message else ""
        message = f"Cannot pull the image {image}" + (f": {why}" if why else "")
    return _trouble(reason, message, one["name"])


def _shorter(message: str) -> str:
    """Of an error that has the errors that it came from before it, the last."""
    before = r'(?:failed to (?:pull|resolve|do request)(?:"[^"]*"|[^":])*|Back-off pulling image "[^"]*")'
    return re.sub(rf"^.*{before}: *", "", message)


def _ended(pod: Object, one: Mapping[str, Any], end: Mapping[str, Any]) -> Trouble:
    code, reason = int(end.get("exitCode") or 0), str(end.get("reason") or "Error")
    words = str(end.get("message") or "").strip().rpartition("\n")[2]  # it may be the end of the log
    if reason == "OOMKilled":
        limit = _limit(pod, one["name"])
        message = f"it needed more memory than its limit of {limit}" if limit else "its node had no memory left"
    elif code > 128 and code - 128 in {number.value for number in signal.Signals}:
        message = f"it was ended by {signal.Signals(code - 128).name} (exit code {code})"
    else:
        message = f"it ended with exit code {code}"
    message += f": {words}" if words else ""
    return _trouble(reason, message, one["name"], code)


def _limit(pod: Object, container: str) -> str:
    spec = pod["spec"]
    for one in [*(spec.get("initContainers") or []), *spec["containers"]]:
        if one["name"] == container:
            return str(((one.get("resources") or {}).get("limits") or {}).get("memory") or "")
    return ""


def _trouble(reason: str, message: str, container: str = "", exit_code: int | None = None) -> Trouble:
    both = f"{reason}: {message}"
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, both, re.IGNORECASE)), "")
    return Trouble(reason, message, advice, container, exit_code)


def last_event(cluster: Cluster, item: Object, reason: str) -> str:
    """The latest event of a reason about an object; "" if there is none, or we may not see it."""
    about = item["metadata"]
    fields = f"involvedObject.uid={about['uid']},reason={reason}"
    try:
        events = cluster.list(EVENT, fields=fields, namespace=about.get("namespace") or "")
    except MlopsError:
        return ""  # what is explained must not be hidden by what could not be
    latest = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default={})
    return str(latest.get("message") or "")
