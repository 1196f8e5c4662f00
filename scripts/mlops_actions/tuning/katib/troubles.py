"""What keeps an Experiment from going on, found by looking, and said once instead of waited for without end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import EVENT, JOB, SUGGESTION, Cluster
from ...kubernetes.pods import explain_owner
from ...waiting import Clock
from ..experiment import Experiment
from .status import Object, condition, holds

CONTROLLER = (
    "Check that katib-controller runs, and its log (kubectl get pods --all-namespaces --selector"
    " katib.kubeflow.org/component=controller)"
)
_EVERY = 15.0
"""Seconds between two looks; each may ask the cluster for some objects."""
_SOON = 30.0
"""Seconds after which a step that takes Katib a few is worth a word."""
_NEVER = 300.0
"""Seconds after which a step that takes Katib a few is not waited for any more."""
_FEW = 3
"""How many trials are looked at: what stops Katib stops it for all."""
_RACE = re.compile(r"already exists|the object has been modified", re.IGNORECASE)
"""Warnings that Katib's controllers give when they overtake each other; they mean nothing."""


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
        unobserved: the trials that were stopped early and of which Katib has no value yet.
    """

    seconds: float
    active: set[str]
    with_pods: set[str]
    unobserved: list[str]


class Stuck(NamedTuple):
    """A step that Katib does not take: of which object, what, and what to do.

    Attributes:
        patient: it may well be taken after a long while, so that only the user's limits end it.
    """

    name: str
    what: str
    fix: str = CONTROLLER
    patient: bool = False


class Watchdog:
    """Looks at an Experiment in which nothing happens.

    Args:
        cluster, name: whose, and which.
        experiment: typed.
        troubles: told of what is found.
        clock: to look at.

    Attributes:
        gave_up: the step that was waited for in vain; None while there is hope.
    """

    def __init__(self, cluster: Cluster, name: str, experiment: Experiment, troubles: Troubles, clock: Clock) -> None:
        self._cluster, self._name, self._troubles, self._clock = cluster, name, troubles, clock
        self._jobs = (experiment.spec.trial_template.trial_spec or {}).get("kind") == "Job"
        self._began = self._looked = clock.now()
        self._since: dict[str, float] = {}
        self.gave_up: Stuck | None = None

    def look(self, experiment: Object, seen: Quiet) -> None:
        """Find out why nothing happens; does nothing when it was called a moment ago.

        Args:
            experiment: as it was seen last.
            seen: what else is known.
        """
        now = self._clock.now()
        if now - self._looked < _EVERY:
            return
        self._looked = now
        created = holds(experiment, "Created")
        if created and seen.seconds < _SOON:
            self._follow({})
            return
        steps = self._steps(seen) if created else self._unseen(now - self._began)
        self._follow({step.name: step for step in steps})

    def _follow(self, steps: dict[str, Stuck]) -> None:
        """Say which steps are not taken, and give up on one after a while."""
        for gone in self._since.keys() - steps.keys():
            self._troubles.over(gone)
        now = self._clock.now()
        self._since = {name: self._since.get(name, now) for name in steps}
        for name, step in steps.items():
            waited = now - self._since[name]
            if waited >= _EVERY:  # what was seen only once may be just under way
                self._troubles.found(name, step.what, f"{step.what}. {step.fix}" if step.fix else step.what)
            if waited >= _NEVER and not step.patient:
                self.gave_up = step

    def _unseen(self, waited: float) -> Iterator[Stuck]:
        if waited >= _SOON:
            yield Stuck(self._name, f"Katib has not picked up the Experiment {self._name}")

    def _steps(self, seen: Quiet) -> Iterator[Stuck]:
        if not seen.active:
            yield from self._no_trials(seen.unobserved)
        for trial in sorted(seen.active)[:_FEW] if self._jobs else ():
            yield from self._trial(trial, has_pod=trial in seen.with_pods)

    def _trial(self, trial: str, *, has_pod: bool) -> Iterator[Stuck]:
        """What a trial waits for: its Job, its Job's pod, or that Katib takes note of its Job's end."""
        try:
            job = self._cluster.get(JOB, trial)
        except ClusterFailed:
            return
        if job is None:
            if not has_pod:
                warning = self._warning(trial)
                what = f"Katib has not created the Job of the trial {trial}"
                yield Stuck(f"{trial}/job", f"{what}: {warning}" if warning else what)
        elif holds(job, "Complete") or holds(job, "Failed"):
            what = f"The Job of the trial {trial} has ended, and Katib has not noticed"
            warning = self._warning(trial)
            yield Stuck(f"{trial}/job", f"{what}: {warning}" if warning else what)
        elif not has_pod and (trouble := explain_owner(self._cluster, job)):
            # by a quota, a policy, a service account that does not exist, a webhook that does not respond
            yield Stuck(f"{trial}/pod", f"{trial} has no pod: {trouble.message}", trouble.advice, patient=True)

    def _no_trials(self, unobserved: list[str]) -> Iterator[Stuck]:
        """No trial runs, and Katib starts none."""
        if unobserved:
            what = f"{unobserved[0]} was stopped early, and Katib deleted its Job before it had read its value"
            yield Stuck(self._name, f"{what}; it starts no other trial until it has", RETAIN)
            return
        suggestion = self._cluster.get(SUGGESTION, self._name)
        if suggestion is None:
            why = self._warning(self._name)
            yield Stuck(self._name, f"Katib has not asked for parameters{f': {why}' if why else ''}")
            return
        ready = condition(suggestion, "DeploymentReady")
        if ready is None or ready.get("status") != "True":
            said = (ready or {}).get("message") or "its Deployment is not ready"
            why = self._warning(f"{self._name}-", "FailedCreate") or self._warning(self._name) or said
            what = f"The service of the algorithm is not ready (Suggestion {self._name}): {why}"
            fix = "Ask for a higher quota, or wait until others have ended" if "exceeded quota" in why else ""
            yield Stuck(self._name, what, fix, patient=True)
        elif warning := self._warning(self._name):
            what = f"The service of the algorithm gives no parameters (Suggestion {self._name}): {warning}"
            yield Stuck(self._name, what, "Check the log of its pod")
        else:
            yield Stuck(self._name, f"Katib starts no trial of the Experiment {self._name}")

    def _warning(self, name: str, reason: str = "") -> str:
        """The last warning about objects of a name, or of names that begin so if there is a reason; "" for none."""
        fields = f"type=Warning,reason={reason}" if reason else f"type=Warning,involvedObject.name={name}"
        try:
            events = self._cluster.list(EVENT, fields=fields)
        except ClusterFailed:
            return ""  # who may not see events does without
        about = [
            event
            for event in events
            if str(event["involvedObject"].get("name")).startswith(name) and not _RACE.search(_message(event))
        ]
        return _message(max(about, key=_time)) if about else ""


RETAIN = "Set `retain: true` in `trialTemplate`, as Katib's example of early stopping does"


def why_no_suggestion(cluster: Cluster, name: str) -> str:
    """What the algorithm's service said against the Experiment; "" when it did not fail."""
    suggestion = cluster.get(SUGGESTION, name)
    failed = condition(suggestion, "Failed") if suggestion else None
    return str(failed.get("message") or "") if failed and failed.get("status") == "True" else ""


def _message(event: Object) -> str:
    text = str(event.get("message") or event.get("reason") or "")
    return text.removeprefix("(combined from similar events): ").strip()


def _time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
