"""The pods of an Experiment: what keeps them from running, why they failed, and their logs before Katib deletes them.

Katib deletes the Job of a trial as soon as the trial has ended, and the log with it, so a log is fetched when its pod
ends. With the collectors StdOut and File the output of a trial's process is in the log of Katib's collector, which
prints it line by line.
Sources: pkg/webhook/v1beta1/pod/{inject_webhook,utils}.go, pkg/controller.v1beta1/consts of github.com/kubeflow/katib.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import RemoteFailed
from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import INJECTION_LABEL, Change, Cluster
from ...kubernetes.pods import Trouble, explain
from ...waiting import Clock
from ..experiment import Experiment
from .begin import needs_collector
from .status import Object
from .troubles import Troubles

_TRIAL_LABELS = (
    "katib.kubeflow.org/trial",
    "batch.kubernetes.io/job-name",
    "job-name",
    "training.kubeflow.org/job-name",
)
"""Labels that hold a trial's name: Katib's own, and those of the kinds that trials are, which bear the trial's name."""
_SUGGESTION = "katib.kubeflow.org/suggestion"
_COLLECTORS = ("metrics-logger-and-collector", "metrics-collector")
_STARTING = ("", "ContainerCreating", "PodInitializing")
_SLOW = 20.0
"""Seconds after which a pod that is being started is asked why it does not run."""
_LINES = 200
_PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [^\s\]]+\] ", re.MULTILINE)
"""What Katib's collector puts before each line that it prints: level, date, time, process and place (klog)."""
_OWN = re.compile(r"\ATrial Name: .*\n|^(Metrics reported\.|Failed to wait for worker container)[\s\S]*", re.MULTILINE)
"""What the collector says of itself, before and after what the trial printed."""


def printed(log: str) -> str:
    """What a trial printed, of the log of its container or of Katib's collector."""
    text = _PREFIX.sub("", log)
    return _OWN.sub("", text) or text


class NotInjected(RemoteFailed):
    """A trial's pod is without the container that collects its metrics."""


@dataclass
class _Waiting:
    """A pod that does not run yet, and when it is asked why."""

    pod: Object
    ask_at: float


class Pods:
    """What the pods of an Experiment tell.

    Args:
        cluster: where they are.
        body: the Experiment there.
        experiment: typed.
        logs: the folder for the logs of trials.
        every: keep the whole log of every trial, not only the end of those that explain failures.
        troubles: told of what keeps a pod from running.
        clock: to look at.

    Attributes:
        curious: whether logs of pods that end well are fetched, too: metrics may be absent.
        trials: those of which a pod was seen.
    """

    def __init__(
        self,
        cluster: Cluster,
        body: Object,
        experiment: Experiment,
        logs: Path,
        *,
        every: bool,
        troubles: Troubles,
        clock: Clock,
    ) -> None:
        self._cluster, self._experiment = cluster, experiment
        self._name, self._since = body["metadata"]["name"], body["metadata"]["creationTimestamp"]
        self._logs, self._every, self._troubles, self._clock = logs, every, troubles, clock
        self._seen: dict[str, object] = {}
        self._fetched: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._failures: dict[str, Trouble] = {}
        self._asked: dict[_State, float] = {}
        self.trials: set[str] = set()
        self.curious = True

    def log(self, trial: str) -> str:
        """What is known of a trial's log."""
        try:
            return self.path(trial).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def path(self, trial: str) -> Path:
        """Where the log of a trial is, if it was fetched."""
        return self._logs / f"{trial}.log"

    def failure(self, trial: str) -> str:
        """Why the pod of a trial failed; "" when it is not known to have."""
        found = self._failures.pop(trial, None)
        return found.message if found else ""

    def see(self, change: Change) -> None:
        """Take in what happened to a pod of the namespace.

        Raises:
            NotInjected: Katib did not add its metrics collector to it, so that its trial would never end.
        """
        pod = change.object
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels") or {}
        found = next((labels[label] for label in _TRIAL_LABELS if label in labels), "")
        trial = found if found.startswith(f"{self._name}-") else ""
        if not trial and labels.get(_SUGGESTION) != self._name:
            return
        if pod["metadata"].get("creationTimestamp", self._since) < self._since:
            return  # of an Experiment that had this name before
        if change.type == "DELETED":
            self._forget(name)
            return
        state = _state(pod)
        if self._seen.get(name) == state:
            return
        self._seen[name] = state
        if trial:
            self.trials.add(trial)
            self._check_collector(pod)
            self._fetch(pod, trial)
        self._judge(pod, trial)

    def look(self) -> None:
        """Ask why pods that have been starting for a while do not run: only their events may tell."""
        for waiting in list(self._waiting.values()):
            if self._clock.now() >= waiting.ask_at:
                waiting.ask_at = self._clock.now() + _SLOW
                self._explain(waiting.pod)

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._waiting.pop(name, None)
        self._fetched.discard(name)
        self._troubles.over(name)

    def _judge(self, pod: Object, trial: str) -> None:
        """See whether a pod waits, runs or failed."""
        name, state = pod["metadata"]["name"], _state(pod)
        if state.failed:
            self._waiting.pop(name, None)
            self._troubles.over(name)
            trouble = explain(self._cluster, self._causes(pod)) if trial else None
            if trouble and trouble.reason != "Failed":
                self._failures[trial] = trouble
        elif state.waits:
            known = self._waiting.get(name)
            self._waiting[name] = _Waiting(pod, known.ask_at if known else self._clock.now() + _SLOW)
            if state.tells:
                self._explain(pod)
        else:
            self._waiting.pop(name, None)
            self._troubles.over(name)

    def _causes(self, pod: Object) -> Object:
        """A pod without what is only a consequence in its status.

        The containers of a pod that is deleted are ended by a signal, and a collector fails with what it watches.
        """
        status = pod.get("status") or {}
        statuses = status.get("containerStatuses") or []
        primary = self._experiment.spec.trial_template.primary_container_name
        own = [one for one in statuses if one["name"] == primary and _exit_code(one)]
        if pod["metadata"].get("deletionTimestamp"):
            statuses = []
        return {**pod, "status": {**status, "containerStatuses": own if statuses and own else statuses}}

    def _explain(self, pod: Object) -> None:
        """Say why a pod does not run; of many in the same state only one is asked about."""
        name, state, now = pod["metadata"]["name"], _state(pod), self._clock.now()
        if now - self._asked.get(state, -math.inf) < _SLOW:
            return
        self._asked[state] = now
        trouble = explain(self._cluster, pod)
        if trouble is None:
            self._troubles.over(name)
            return
        text = f"The pod {name} does not run: {trouble.message}"
        # Kubernetes gives one trouble several reasons in turn (ErrImagePull, ImagePullBackOff); the remedy is the same.
        reason = trouble.advice or trouble.reason
        self._troubles.found(name, reason, f"{text}. {trouble.advice}" if trouble.advice else text)

    def _check_collector(self, pod: Object) -> None:
        spec, template = pod["spec"], self._experiment.spec.trial_template
        names = {c["name"] for c in (*spec["containers"], *(spec.get("initContainers") or []))}
        labels = pod["metadata"].get("labels") or {}
        primary = template.primary_pod_labels.items() <= labels.items()
        if not primary or template.primary_container_name not in names or not needs_collector(self._experiment):
            return
        custom = self._experiment.spec.metrics_collector_spec.collector.custom_collector
        wanted = {custom["name"]} if custom else set(_COLLECTORS)
        if not wanted & names:
            raise NotInjected(
                f"Katib did not add its metrics collector to the pod {pod['metadata']['name']}",
                why=f"Its containers are {', '.join(sorted(names))}, so that its trial would never end",
                fix=f"See that the namespace has the label {INJECTION_LABEL}=enabled, and that Katib's webhook answers"
                " (kubectl get mutatingwebhookconfiguration katib.kubeflow.org)",
            )

    def _fetch(self, pod: Object, trial: str) -> None:
        """Keep a pod's log while there is one."""
        name, state = pod["metadata"]["name"], _state(pod)
        wanted = self._every or self.curious or state.failed
        if not state.ends or not wanted or name in self._fetched:
            return
        self._fetched.add(name)
        containers = {container["name"] for container in pod["spec"]["containers"]}
        primary = self._experiment.spec.trial_template.primary_container_name
        for container in (primary, *_COLLECTORS):
            if container not in containers:
                continue
            try:
                text = self._cluster.logs(name, container=container, tail=None if self._every else _LINES)
            except ClusterFailed as error:
                self._troubles.found(name, "logs", f"The log of the pod {name} cannot be read: {error}")
                return
            if text.strip():
                self._logs.mkdir(parents=True, exist_ok=True)
                self.path(trial).write_text(printed(text), encoding="utf-8")
                return


@dataclass(frozen=True)
class _State:
    """What matters of a pod's status.

    Attributes:
        waits: it does not run yet, or not again.
        tells: its status says why.
        ends: its containers have ended, or it is being deleted.
        failed: a container ended with an error and none waits, or the pod was taken away.
    """

    waits: bool
    tells: bool
    ends: bool
    failed: bool
    reasons: tuple[str, ...]


def _exit_code(container: Object) -> int:
    return int(((container.get("state") or {}).get("terminated") or {}).get("exitCode") or 0)


def _state(pod: Object) -> _State:
    status = pod.get("status") or {}
    phase = status.get("phase")
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [container.get("state") or {} for container in containers]
    reasons = tuple(str(state["waiting"].get("reason") or "") for state in states if "waiting" in state)
    unscheduled = any(
        c.get("type") == "PodScheduled" and c.get("status") == "False" for c in status.get("conditions") or []
    )
    ended = phase in ("Succeeded", "Failed")
    return _State(
        waits=not ended and (phase == "Pending" or bool(reasons)),
        tells=unscheduled or any(reason not in _STARTING for reason in reasons),
        ends=ended or bool(pod["metadata"].get("deletionTimestamp")),
        failed=phase == "Failed" or (any(map(_exit_code, containers)) and not reasons),
        reasons=reasons,
    )
