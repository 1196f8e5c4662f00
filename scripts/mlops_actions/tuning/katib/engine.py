"""The engine `katib`: an Experiment is applied, followed to its end whatever happens on the way, and explained."""

from __future__ import annotations

from typing import Literal

from ...errors import BadInput, Cancelled, ComponentFailed, MlopsError, RemoteFailed
from ...kubernetes.failures import ClusterFailed
from ...kubernetes.objects import EXPERIMENT, POD, TRIAL, Change, Cluster
from ...text import many
from ..engine import Cause, End, Outcome, Trial, TuneRequest, Watcher, too_many_failures
from ..importance import importances
from . import ending, manifest
from .begin import EXPERIMENT_LABEL, Begun, begin, trials_of
from .context import KatibContext
from .explaining import Explainer
from .feed import Feed, Selection
from .pods import NotInjected, Pods
from .status import ENDS, Object, completed
from .trials import Trials
from .troubles import CONTROLLER, Quiet, Troubles, Watchdog, why_no_suggestion

_TICK = 1.0
_LOG_LINES = 40
_LATE = 30.0
"""Seconds for which the values of trials that were stopped early are waited for when the Experiment has ended."""


class KatibEngine:
    """Runs Experiments on Katib.

    Args:
        context: what it may use.
    """

    def __init__(self, context: KatibContext) -> None:
        self._context = context

    def run(self, request: TuneRequest, watcher: Watcher) -> Outcome:
        """See `Engine.run`. An Experiment of the same key that runs or is complete is taken up."""
        cluster = self._context.cluster()
        try:
            begun = begin(cluster, request, self._context)
            return _Run(cluster, begun, request, watcher, self._context).to_the_end()
        except (Cancelled, KeyboardInterrupt):
            ending.stop(
                cluster,
                manifest.name(request.experiment, request.key),
                verdict="Failed",
                reason="ExperimentCancelled",
                message="The job that ran it was cancelled",
                keep=self._context.keep,
                say=self._context.say,
            )
            raise


class _Run:
    """One Experiment from where it is to its end."""

    def __init__(
        self, cluster: Cluster, begun: Begun, request: TuneRequest, watcher: Watcher, context: KatibContext
    ) -> None:
        self._cluster, self._begun, self._request = cluster, begun, request
        self._watcher, self._context = watcher, context
        self._body: Object = begun.body
        self._name, self._uid = begun.body["metadata"]["name"], begun.body["metadata"]["uid"]
        self._experiment = request.experiment
        self._troubles = Troubles(context.say)
        self._pods = Pods(
            cluster,
            begun.body,
            self._experiment,
            context.state / "logs",
            every=request.logs,
            troubles=self._troubles,
            clock=context.clock,
        )
        self._watchdog = Watchdog(cluster, self._name, self._experiment, self._troubles, context.clock)
        self._explainer = Explainer(self._experiment, self._pods, self._troubles)
        self._trials = Trials(self._experiment, watcher, self._explainer.explained)
        self._began = self._changed = self._progressed = context.clock.now()

    def to_the_end(self) -> Outcome:
        """Follow it. What ends this before the Experiment ends is told to the watcher."""
        try:
            if self._begun.found:
                self._trials.recall(trials_of(self._cluster, self._name))
            return self._outcome(self._end() or self._follow())
        except BaseException:
            self._watcher.interrupted(self._trials.best, len(self._trials.ended))
            raise

    def _follow(self) -> End:
        kinds = {
            EXPERIMENT: Selection(known=self._body),
            TRIAL: Selection(labels=f"{EXPERIMENT_LABEL}={self._name}"),
            POD: Selection(),
        }
        with Feed(self._cluster, kinds, self._context.clock) as feed:
            while (end := self._end() or self._limit()) is None:
                for kind, change in feed.next(_TICK):
                    self._see(kind, change)
                self._tell()
                self._look()
        return end

    def _see(self, kind: object, change: Change) -> None:
        """Take in what happened to an object of this Experiment, or to any pod of the namespace."""
        about = change.object["metadata"]
        if kind is POD:
            try:
                self._pods.see(change)
            except NotInjected as failed:
                self._stop("Failed", "ExperimentFailed", failed.what)
                raise
            return
        self._changed = self._context.clock.now()
        if kind is TRIAL:
            if all(owner["uid"] == self._uid for owner in about.get("ownerReferences") or []):
                self._trials.see(change)
            return
        if change.type == "DELETED" or about["uid"] != self._uid:
            raise RemoteFailed(
                f"The Experiment {self._name} was deleted while it ran",
                why=self._so_far(),
                fix="Run this again: it starts over",
            )
        self._body = change.object

    def _tell(self, *, last: bool = False) -> None:
        if self._trials.tell(last=last):
            self._progressed = self._context.clock.now()
        self._pods.curious = not self._trials.reliable

    def _look(self) -> None:
        """Say what runs, and find out whether something is in the way."""
        running, pending = self._trials.running, self._trials.pending
        self._watcher.waiting(len(running), len(pending))
        self._pods.look()
        seen = Quiet(
            self._context.clock.now() - self._changed,
            active={*running, *pending}.difference(self._trials.unobserved),
            with_pods=self._pods.trials,
            unobserved=self._trials.unobserved,
        )
        self._watchdog.look(self._body, seen)

    def _end(self) -> End | None:
        """Why the Experiment is complete; None while it is not.

        Raises:
            ComponentFailed, RemoteFailed, BadInput: it failed.
        """
        found = completed(self._body)
        if found is None or self._is_from_before(found):
            return None
        self._sync()
        if found["type"] == "Failed":
            raise self._failed(found)
        reason = str(found.get("reason"))
        if reason not in ENDS:
            self._context.say(f"Katib ended the Experiment with an unknown reason: {reason}")
        return ENDS.get(reason, "MaxTrialsReached")

    def _is_from_before(self, found: Object) -> bool:
        """Whether an end is that of an Experiment that was asked for more trials, which Katib has not seen yet."""
        before, most = self._begun.before, self._request.max_trials or 0
        return (
            before is not None
            and found.get("lastTransitionTime") == before.get("lastTransitionTime")
            and len(self._trials.ended) < most
        )

    def _limit(self) -> End | None:
        """Whether a limit is met that ends the Experiment.

        Raises:
            RemoteFailed: it is met, and that is an error.
        """
        now, request = self._context.clock.now(), self._request
        name, longer = f"The Experiment {self._name}", "lower `max-trials`, or take the best so far by `at-limit: best`"
        if request.timeout and now - self._began >= request.timeout:
            what = f"{name} did not end within {request.timeout:g} s"
            return self._at_limit("TimeLimit", what, f"Raise `timeout`, {longer}")
        if request.stall_timeout and now - self._progressed >= request.stall_timeout:
            what = f"{name} ended no trial within {request.stall_timeout:g} s"
            return self._at_limit("Stalled", what, f"Raise `stall-timeout`, {longer}")
        if self._pods.unpulled():
            what = f"{name} cannot go on: the nodes cannot pull an image"
            return self._at_limit("Stalled", what, "Run this again when they can")
        if step := self._watchdog.gave_up:
            self._troubles.over(step.name)  # it is told as what ended this
            return self._at_limit("Stalled", step.what, step.fix or CONTROLLER)
        return None

    def _at_limit(self, end: End, what: str, fix: str) -> End:
        taken = self._request.at_limit == "best" and self._trials.best is not None
        try:
            self._stop("Succeeded" if taken else "Failed", f"Experiment{end}", what)
        except ClusterFailed as error:  # what stands in the way of the Experiment may stand in ours
            self._context.say(f"The Experiment {self._name} is left as it is: {error}")
        if taken:
            self._sync()
            return end
        raise RemoteFailed(what, why=self._so_far(), fix=fix)

    def _stop(self, verdict: Literal["Succeeded", "Failed"], reason: str, message: str) -> None:
        ending.stop(
            self._cluster,
            self._name,
            verdict=verdict,
            reason=reason,
            message=message,
            keep=self._context.keep,
            say=self._context.say,
        )

    def _sync(self) -> None:
        """Take in what the watch of trials may be behind with, and values that Katib writes after the end.

        Katib ends an Experiment before it writes the values of the trials that it has just stopped early, and one of
        these may be the best.
        """
        deadline = self._context.clock.now() + _LATE
        while True:
            active = self._trials.running or self._trials.pending
            if active or len(self._trials.ended) < ((self._body.get("status") or {}).get("trials") or 0):
                for body in trials_of(self._cluster, self._name):
                    self._trials.see(Change("MODIFIED", body))
            self._tell()
            if not self._trials.awaited or self._context.clock.now() >= deadline:
                break
            self._context.clock.wait(_TICK)
        self._tell(last=True)

    def _failed(self, found: Object) -> MlopsError:
        """The Experiment's failure: by its last trial that failed, or by what kept it from having any."""
        message = str(found.get("message") or found.get("reason") or "")
        if found.get("reason") == "ExperimentCancelled":
            return RemoteFailed(
                f"The Experiment {self._name} was cancelled by another job with the same key",
                why=self._so_far(),
                fix="Run this again: it starts over",
            )
        failures = len(self._failures())
        if failures:
            allowed = self._body["spec"].get("maxFailedTrialCount")
            return self._by_last_failure(too_many_failures(failures, allowed))
        if refused := why_no_suggestion(self._cluster, self._name):
            return BadInput(
                f"{self._request.document.name}: the service of the algorithm refuses the Experiment",
                why=refused,
                fix="Correct `algorithm`",
                place=self._request.document.place(("spec", "algorithm")),
            )
        return RemoteFailed(
            f"The Experiment {self._name} failed: {message}",
            place=manifest.place(self._request.document, message),
        )

    def _failures(self) -> list[Trial]:
        """The trials that count as failed for Katib, in the order of their end."""
        return [t for t in self._trials.ended.values() if t.failed or t.name in self._explainer.miscounted]

    def _by_last_failure(self, what: str) -> MlopsError:
        failures = self._failures()
        if not failures:
            return RemoteFailed(what, why=self._so_far())
        last = failures[-1]
        parameters = " ".join(f"{name}={value}" for name, value in last.parameters.items())
        cause = self._explainer.causes.get(last.name, Cause(last.message))
        return (ComponentFailed if last.own else RemoteFailed)(
            what,
            why=f"The last, {last.name} with {parameters}: {last.message}",
            fix=cause.fix,
            log="\n".join(self._pods.log(last.name).splitlines()[-_LOG_LINES:]),
        )

    def _so_far(self) -> str:
        best, name = self._trials.best, self._experiment.spec.objective.objective_metric_name
        found = f"; the best of them, {best.name}, has {name}={best.value:g}" if best else ""
        now = f". Still in the way: {self._troubles.now}" if self._troubles.now else ""
        return f"{many(len(self._trials.ended), 'trial')} ended{found}{now}"

    def _outcome(self, end: End) -> Outcome:
        best = self._best()
        if best is None or (value := best.value) is None:
            raise self._by_last_failure("No trial succeeded")
        trials = self._trials.in_order()
        best = next(trial for trial in trials if trial.name == best.name)
        if left := len(self._trials.running) + len(self._trials.pending):
            self._context.say(f"{many(left, 'trial')} not ended yet; Katib lets them finish")
        return Outcome(
            end,
            tuple(trials),
            best,
            value,
            None,
            self._importances(trials),
            {trial.number: path for trial in trials if (path := self._pods.path(trial.name)).exists()},
            sum(trial.recalled for trial in trials),
        )

    def _importances(self, trials: list[Trial]) -> dict[str, float]:
        spec = self._experiment.spec
        try:
            return importances(spec.parameters, trials, spec.objective.type == "minimize")
        except ValueError:
            return {}  # an algorithm of Katib's gave a value that is not in the search space

    def _best(self) -> Trial | None:
        """The best by the values of the trials. Katib's own word for it may be late, or absent."""
        best = self._trials.best
        named = ((self._body.get("status") or {}).get("currentOptimalTrial") or {}).get("bestTrialName")
        theirs = self._trials.ended.get(named or "")
        if best is None or theirs is None or theirs.name == best.name:
            return best
        if theirs.value == best.value:
            return theirs
        self._context.say(
            f"Katib names {theirs.name} as the best ({theirs.value}); {best.name} is better ({best.value})"
        )
        return best
