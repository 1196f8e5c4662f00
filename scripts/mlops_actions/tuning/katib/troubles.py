"""What keeps an Experiment from going on, found by looking, and said once instead of waited for for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import RemoteFailed
from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import EVENT, JOB, SUGGESTION, Cluster
from ...kubernetes.pods import explain_owner
from ...waiting import Clock
from .status import Object, condition, holds

_EVERY = 15.0
"""Seconds between two looks; each may ask the cluster for some objects."""
_SOON = 30.0
"""Seconds after which a step that takes Katib a few is worth a word."""
_NEVER = 300.0
"""Seconds after which a controller that has not taken notice of an Experiment is not there."""


class Troubles:
    """What is wrong now; each reason is said once.

    Args:
        say: told of it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._now: dict[str, tuple[str, str]] = {}
        self._told: set[str] = set()

    def found(self, where: str, reason: str, text: str) -> None:
        """Something is wrong with an object.

        Args:
            where: the object's name.
            reason: what has this in common with the same trouble of other objects.
            text: what, why and what to do.
        """
        self._now[where] = (reason, text)
        if reason not in self._told:
            self._told.add(reason)
            self._say(text)

    def over(self, where: str) -> None:
        """Nothing is wrong with an object any more."""
        self._now.pop(where, None)

    @property
    def now(self) -> str:
        """All that is wrong now, each reason once; "" when nothing is."""
        return "; ".join(dict(self._now.values()).values())


@dataclass(frozen=True)
class Quiet:
    """What is known of an Experiment in which nothing happens.

    Attributes:
        seconds: since it or a trial changed.
        active: the trials that have not ended.
        with_pods: the trials of which a pod was seen.
        unobserved: the trials that were stopped early and have no value yet.
    """

    seconds: float
    active: set[str]
    with_pods: set[str]
    unobserved: list[str]


class Watchdog:
    """Looks at an Experiment in which nothing happens.

    Args:
        cluster, name: whose, and which.
        troubles: told of what is found.
        clock: to look at.
    """

    def __init__(self, cluster: Cluster, name: str, troubles: Troubles, clock: Clock) -> None:
        self._cluster, self._name, self._troubles, self._clock = cluster, name, troubles, clock
        self._began = self._looked = clock.now()

    def look(self, experiment: Object, seen: Quiet) -> None:
        """Find out why nothing happens; does nothing when it was called a moment ago.

        Args:
            experiment: as it was seen last.
            seen: what else is known.

        Raises:
            RemoteFailed: no controller takes notice of the Experiment.
        """
        now = self._clock.now()
        if now - self._looked < _EVERY:
            return
        self._looked = now
        if not holds(experiment, "Created"):
            self._unseen(now - self._began)
            return
        self._troubles.over(self._name)
        if seen.seconds < _SOON:
            return
        if not seen.active:
            self._no_trials()
        for trial in seen.unobserved[:1]:
            text = (
                f"{trial} was stopped early, and Katib did not read its value before it deleted its Job; it makes no"
                " other trial until it has: set `retain: true` in `trialTemplate`, as Katib's example does"
            )
            self._troubles.found(trial, "unobserved", text)
        for trial in sorted(seen.active - seen.with_pods)[:1]:  # what keeps one from its pod keeps them all
            self._no_pod(trial)

    def _unseen(self, waited: float) -> None:
        if waited > _NEVER:
            raise RemoteFailed(
                f"Katib takes no notice of the Experiment {self._name}",
                why=f"It has no condition after {waited:.0f} s",
                fix="See that katib-controller runs (kubectl get pods --all-namespaces --selector"
                " katib.kubeflow.org/component=controller) and what it logs",
            )
        if waited > _SOON:
            text = f"Katib has not taken notice of the Experiment {self._name} yet: is its controller running?"
            self._troubles.found(self._name, "unseen", text)

    def _no_pod(self, trial: str) -> None:
        """What makes a trial's pod is kept from it: by a quota, a policy, a service account that there is not."""
        job = self._cluster.get(JOB, trial)
        trouble = explain_owner(self._cluster, job) if job else None
        why = trouble.message if trouble else self._warning(trial)
        if why:
            advice = f". {trouble.advice}" if trouble and trouble.advice else ""
            self._troubles.found(trial, trouble.reason if trouble else why, f"{trial} has no pod: {why}{advice}")

    def _no_trials(self) -> None:
        """The algorithm's service gives no parameters for trials."""
        suggestion = self._cluster.get(SUGGESTION, self._name)
        if suggestion is None:
            why = self._warning(self._name) or "Katib has not asked for parameters"
            self._troubles.found(self._name, "no suggestion", f"No trial is made: {why}")
            return
        ready = condition(suggestion, "DeploymentReady")
        if ready is None or ready.get("status") != "True":
            said = (ready or {}).get("message") or "its Deployment is not ready"
            why = self._warning(self._name) or self._warning(f"{self._name}-", "FailedCreate") or said
            text = f"The service of the algorithm is not ready (Suggestion {self._name}): {why}"
        elif warning := self._warning(self._name):
            text = f"The service of the algorithm gives no parameters (Suggestion {self._name}): {warning}"
        else:
            return
        self._troubles.found(self._name, "suggestion", text)

    def _warning(self, name: str, reason: str = "") -> str:
        """The last warning about objects of a name, or of names that begin so if there is a reason; "" for none."""
        fields = f"type=Warning,reason={reason}" if reason else f"type=Warning,involvedObject.name={name}"
        try:
            events = self._cluster.list(EVENT, fields=fields)
        except ClusterFailed:
            return ""  # who may not see events does without
        about = [event for event in events if str(event["involvedObject"].get("name")).startswith(name)]
        last = max(about, key=_time, default=None)
        return str(last.get("message") or last.get("reason") or "").strip() if last else ""


def why_no_suggestion(cluster: Cluster, name: str) -> str:
    """What the algorithm's service said against the Experiment; "" when it did not fail."""
    suggestion = cluster.get(SUGGESTION, name)
    failed = condition(suggestion, "Failed") if suggestion else None
    return str(failed.get("message") or "") if failed and failed.get("status") == "True" else ""


def _time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
