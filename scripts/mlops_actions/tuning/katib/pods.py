"""The pods of an Experiment: what keeps them from running, why they failed, and their logs before Katib deletes them.

Katib deletes the Job of a trial as soon as the trial has ended, and the log with it, so a log is fetched when its pod
ends. With the collectors StdOut and File the output of a trial's process is in the log of Katib's collector.
Sources: pkg/webhook/v1beta1/pod/{inject_webhook,utils}.go, pkg/controller.v1beta1/consts of github.com/kubeflow/katib.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ...errors import RemoteFailed
from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import INJECTION_LABEL, POD, Change, Cluster
from ...kubernetes.pods import PULLING, UNPULLED, Trouble, explain
from ...waiting import Clock
from ..engine import Cause
from ..experiment import Experiment
from . import collector_log
from .begin import needs_collector
from .collector_log import COLLECTORS, CollectorLog
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
_STARTING = ("", "ContainerCreating", "PodInitializing")
_SLOW = 20.0
"""Seconds after which a pod that is starting is asked why it does not run."""
_LINES = 200
_BACKOFF_LIMIT = 6
"""Kubernetes' default of a Job's `backoffLimit`."""
_KILLED = (137, 143)
"""Exit codes of a container that is ended because its pod is deleted: by SIGKILL, by SIGTERM."""


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
        self._logs, self._troubles, self._clock = logs, troubles, clock
        # the value of a trial that is stopped early is in its log, wherever in it
        self._every, self._whole = every, every or experiment.spec.early_stopping is not None
        self._seen: dict[str, object] = {}
        self._fetched: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._unpulled: dict[str, float] = {}
        self._failures: dict[str, Trouble] = {}
        self._failed: dict[str, dict[str, int]] = {}
        self._collectors: dict[str, CollectorLog] = {}
        self._asked: dict[_State, float] = {}
        self.trials: set[str] = set()
        self.curious = True

    def log(self, trial: str) -> str:
        """What is known of a trial's log: what the trial printed."""
        try:
            return self.path(trial).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def path(self, trial: str) -> Path:
        """Where the log of a trial is, if it was fetched."""
        return self._logs / f"{trial}.log"

    def collector(self, trial: str) -> CollectorLog:
        """What is known of the log of a trial's metrics collector."""
        return self._collectors.get(trial, CollectorLog())

    def failure(self, trial: str) -> Cause | None:
        """Which container of a trial's pod failed and why; None when none is known to have."""
        trouble = self._failures.get(trial)
        if trouble is None:
            return None
        if trouble.container in COLLECTORS:
            return collector_log.cause(self.collector(trial).failure, trouble.container, trouble.exit_code)
        if not trouble.container:  # the pod as a whole, such as when its node is gone
            return Cause(trouble.message, trouble.advice, own=trouble.reason == "DeadlineExceeded")
        return Cause(f"its container {trouble.container} {trouble.message.removeprefix('it ')}", trouble.advice)

    def unpulled(self) -> bool:
        """Whether Kubernetes has been trying for too long to pull an image that a pod needs."""
        return any(self._clock.now() - since >= PULLING for since in self._unpulled.values())

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
            if state.ends and (self._whole or self.curious or state.failed):
                self._fetch(pod, trial)
        self._judge(pod, trial)

    def visit(self, trial: str) -> None:
        """Look at the pods of a trial now, if nothing is known of its log: it has ended, and they are still there."""
        if self.path(trial).exists() or trial in self._collectors:
            return
        try:
            pods = self._cluster.list(POD, labels=f"{_TRIAL_LABELS[0]}={trial}")
        except ClusterFailed:
            return  # what it would have explained is told without it
        for pod in pods:
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
        self._fetched.discard(name)
        self._started(name)

    def _started(self, name: str) -> None:
        """A pod waits no more."""
        self._waiting.pop(name, None)
        self._unpulled.pop(name, None)
        self._troubles.over(name)

    def _judge(self, pod: Object, trial: str) -> None:
        """See whether a pod waits, runs or failed."""
        name, state = pod["metadata"]["name"], _state(pod)
        if state.failed or not state.waits:
            self._started(name)
        if state.failed and trial:
            trouble = explain(self._cluster, self._causes(pod))
            if trouble and trouble.reason != "Failed":
                self._failures[trial] = trouble
        elif state.waits:
            known = self._waiting.get(name)
            self._waiting[name] = _Waiting(pod, known.ask_at if known else self._clock.now() + _SLOW)
            if any(reason in UNPULLED for reason in state.reasons):
                self._unpulled.setdefault(name, self._clock.now())
            if state.tells:
                self._explain(pod)
        if trial and (state.phase == "Failed" or state.restarts):
            self._tell_of_retry(pod, trial, state)

    def _tell_of_retry(self, pod: Object, trial: str, state: _State) -> None:
        """Say that Kubernetes tries a trial again, and why it has to."""
        failures = self._failed.setdefault(trial, {})
        failures[pod["metadata"]["name"]] = state.restarts + (state.phase == "Failed")
        job = self._experiment.spec.trial_template.trial_spec or {}
        limit, attempts = (job.get("spec") or {}).get("backoffLimit", _BACKOFF_LIMIT), sum(failures.values())
        if job.get("kind") != "Job" or not isinstance(limit, int) or attempts > limit:
            return
        why = self.failure(trial)
        cause = f": {why.message}" if why else ""
        text = (
            f"{trial} failed{cause}. Kubernetes runs it again: attempt {attempts + 1} of {limit + 1} (`backoffLimit`)"
        )
        self._troubles.found(trial, f"retry{cause}", text)

    def _causes(self, pod: Object) -> Object:
        """A pod without what is only a consequence in its status.

        The containers of a pod that is deleted are ended by a signal, and a collector fails with what it watches.
        """
        status = pod.get("status") or {}
        statuses = status.get("containerStatuses") or []
        if pod["metadata"].get("deletionTimestamp"):
            statuses = [one for one in statuses if _exit_code(one) not in _KILLED]
        primary = self._experiment.spec.trial_template.primary_container_name
        own = [one for one in statuses if one["name"] == primary and _exit_code(one)]
        return {**pod, "status": {**status, "containerStatuses": own or statuses}}

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
        wanted = {custom["name"]} if custom else set(COLLECTORS)
        if not wanted & names:
            raise NotInjected(
                f"Katib did not add its metrics collector to the pod {pod['metadata']['name']}",
                why=f"Its containers are {', '.join(sorted(names))}, so that its trial would never end",
                fix=f"Check that the namespace has the label {INJECTION_LABEL}=enabled, and that Katib's webhook runs"
                " (kubectl get mutatingwebhookconfiguration katib.kubeflow.org)",
            )

    def _fetch(self, pod: Object, trial: str) -> None:
        """Keep what a pod's containers have printed: the trial's lines in a file, the collector's words in memory."""
        name = pod["metadata"]["name"]
        if name in self._fetched:
            return
        self._fetched.add(name)
        containers = {container["name"] for container in pod["spec"]["containers"]}
        tail, printed = None if self._whole else _LINES, ""
        try:
            for container in containers & {self._experiment.spec.trial_template.primary_container_name}:
                printed = self._cluster.logs(name, container=container, tail=tail)
            for container in containers & set(COLLECTORS):
                told = collector_log.parse(self._cluster.logs(name, container=container, tail=tail))
                self._collectors[trial], printed = told, printed + told.printed
        except ClusterFailed as error:
            self._troubles.found(name, "logs", f"Cannot read the log of the pod {name}: {error}")
        if printed.strip():
            self._logs.mkdir(parents=True, exist_ok=True)
            self.path(trial).write_text(printed, encoding="utf-8")


@dataclass(frozen=True)
class _State:
    """What matters of a pod's status.

    Attributes:
        phase: Kubernetes' own.
        waits: it does not run yet, or not again.
        tells: its status says why.
        ends: its containers have ended, or it is being deleted.
        failed: a container ended with an error and none waits, or the pod was taken away.
        reasons: why containers wait.
        restarts: how often a container was started again.
    """

    phase: str
    waits: bool
    tells: bool
    ends: bool
    failed: bool
    reasons: tuple[str, ...]
    restarts: int


def _exit_code(container: Object) -> int:
    return int(((container.get("state") or {}).get("terminated") or {}).get("exitCode") or 0)


def _state(pod: Object) -> _State:
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "")
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [container.get("state") or {} for container in containers]
    reasons = tuple(str(state["waiting"].get("reason") or "") for state in states if "waiting" in state)
    unscheduled = any(
        c.get("type") == "PodScheduled" and c.get("status") == "False" for c in status.get("conditions") or []
    )
    ended = phase in ("Succeeded", "Failed")
    return _State(
        phase,
        waits=not ended and (phase == "Pending" or bool(reasons)),
        tells=unscheduled or any(reason not in _STARTING for reason in reasons),
        ends=ended or bool(pod["metadata"].get("deletionTimestamp")),
        failed=phase == "Failed" or (any(map(_exit_code, containers)) and not reasons),
        reasons=reasons,
        restarts=max((int(one.get("restartCount") or 0) for one in containers), default=0),
    )
