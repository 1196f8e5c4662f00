"""The local engine: trials on this machine, parameters by the algorithms, a journal to go on from."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BadInput, ComponentFailed, RemoteFailed
from ..text import many
from .algorithms.base import Task
from .algorithms.table import algorithm
from .engine import End, Outcome, Trial, TuneRequest, TuningContext, Watcher, best_of, too_many_failures, trial_name
from .importance import importances
from .journal import Journal
from .runners import PipelineRunner, Place, ProcessRunner, Runner
from .trials import Trials, tail


class LocalEngine:
    """Runs Experiments on this machine."""

    def __init__(self, context: TuningContext) -> None:
        self._context = context

    def run(self, request: TuneRequest, watcher: Watcher) -> Outcome:
        """See `Engine.run`."""
        spec = request.experiment.spec
        limits = (request.max_trials, request.timeout, request.stall_timeout, spec.objective.goal is not None)
        if not any(limits) and spec.algorithm.algorithm_name not in ("grid", "hyperband"):
            raise BadInput(
                "The Experiment would never end",
                why="It has neither `maxTrialCount` nor a goal",
                fix="Give `max-trials`, or add one of them",
            )
        state = self._context.state
        (state / "logs").mkdir(parents=True, exist_ok=True)
        place = Place(self._context.folder, self._context.environ, state, _time_for_a_trial(request))
        given = spec.algorithm.settings.get("random_state")
        journal = Journal(state / "journal.jsonl", seed=int(given) if given else None, fresh=request.fresh)
        try:
            with Trials(request.experiment, _runner(request, place), place) as trials:
                return _Run(request, watcher, journal, trials, place).to_the_end()
        finally:
            journal.close()


class _Run:
    """One run of one Experiment: what is under way, and what to do next."""

    def __init__(self, request: TuneRequest, watcher: Watcher, journal: Journal, trials: Trials, place: Place) -> None:
        self._request, self._watcher, self._journal, self._trials = request, watcher, journal, trials
        self._experiment, self._place = request.experiment, place
        spec = self._experiment.spec
        task = Task(
            self._experiment.name,
            spec.parameters,
            spec.algorithm.settings,
            spec.objective.type == "minimize",
            journal.seed,
        )
        self._algorithm = algorithm(spec.algorithm.algorithm_name, task)
        self._began = self._last_end = time.monotonic()
        self._done: list[Trial] = []
        self._best: Trial | None = None
        self._failures = 0
        self._again: deque[Trial] = deque()

    def to_the_end(self) -> Outcome:
        """Start and collect trials until the Experiment is complete."""
        self._recall()
        with self._told_if_interrupted():
            while (end := self._end()) is None:
                while len(self._trials) < self._request.parallel and (trial := self._next()):
                    self._trials.start(trial)
                    self._watcher.started(trial, len(self._trials))
                self._journal.sync()  # while the trials run, so that none waits for the disk
                if len(self._trials) and (ended := self._trials.next(min(self._limits().values()))):
                    self._finish(ended)
        best = self._best
        if best is None or best.value is None:
            raise self._failed("No trial succeeded")
        killed = [Trial(t.number, t.name, t.parameters, "Killed", message="not needed") for t in self._trials.running]
        done = sorted(self._done, key=lambda trial: trial.number)
        logs = {trial.number: self._place.log(trial) for trial in done}
        return Outcome(
            end,
            (*done, *killed),
            best,
            best.value,
            self._journal.seed,
            importances(self._experiment.spec.parameters, done, self._experiment.spec.objective.type == "minimize"),
            {number: log for number, log in logs.items() if log.exists()},
            sum(trial.recalled for trial in done),
        )

    def _recall(self) -> None:
        """Take up what an earlier run left: what ended is kept, what ran is run again with the same parameters."""
        for trial in self._journal.past:
            if trial.state == "Running":
                self._algorithm.recall(trial)
            else:
                self._algorithm.tell(trial)
                self._count(trial)
        self._again.extend(trial for _, trial in sorted(self._journal.trials.items()) if trial.state == "Running")
        self._trials.recall(self._done)
        if self._done:
            self._watcher.resumed(list(self._done))

    def _next(self) -> Trial | None:
        """The trial to start next, or None when none is to be started now."""
        if self._again:
            return self._again.popleft()
        number = len(self._journal.trials)
        sizes = [size for size in (self._request.max_trials, self._algorithm.size) if size is not None]
        if number >= min(sizes, default=math.inf) or (suggestion := self._algorithm.ask(number)) is None:
            return None
        name = trial_name(self._experiment, number)
        trial = Trial(number, name, suggestion.parameters, "Running", labels=suggestion.labels)
        self._journal.started(trial)
        return trial

    def _finish(self, trial: Trial) -> None:
        self._journal.finished(trial)
        self._algorithm.tell(trial)
        self._last_end = time.monotonic()
        self._count(trial)
        self._watcher.finished(trial, self._best, len(self._done))

    def _count(self, trial: Trial) -> None:
        self._done.append(trial)
        self._failures += trial.failed
        self._best = best_of(self._experiment, sorted(filter(None, (self._best, trial)), key=lambda t: t.number))

    def _end(self) -> End | None:
        """Why the Experiment is complete, or None while it is not; in the order in which Katib looks.

        Sources: UpdateExperimentStatusCondition of pkg/controller.v1beta1/experiment/util/status_util.go.

        Raises:
            ComponentFailed: too many trials failed.
            RemoteFailed: the same, by something else; or a limit was met and is to be an error.
        """
        if self._best and self._best.value is not None and self._experiment.spec.objective.reached(self._best.value):
            return "GoalReached"
        allowed = self._experiment.spec.max_failed_trial_count
        if allowed is not None and self._failures >= max(allowed, 1):
            raise self._failed(too_many_failures(self._failures, allowed))
        if self._request.max_trials is not None and len(self._done) >= self._request.max_trials:
            return "MaxTrialsReached"
        if self._algorithm.size is not None and len(self._done) >= self._algorithm.size:
            return "SearchSpaceExhausted"
        met = [end for end, when in self._limits().items() if time.monotonic() >= when]
        if met and (self._request.at_limit == "fail" or self._best is None):
            raise self._too_late(met[0])
        return met[0] if met else None

    def _limits(self) -> dict[End, float]:
        """When the Experiment ends at the latest, by each of the request's limits."""
        return {
            "TimeLimit": self._began + (self._request.timeout or math.inf),
            "Stalled": self._last_end + (self._request.stall_timeout or math.inf),
        }

    def _failed(self, what: str) -> ComponentFailed | RemoteFailed:
        """The Experiment's failure, told by the trial that failed last."""
        self._journal.gave_up()
        last = next((trial for trial in reversed(self._done) if trial.failed), None)
        if last is None:
            return ComponentFailed(what)
        parameters = " ".join(f"{name}={value}" for name, value in last.parameters.items())
        log = tail(self._place.log(last))
        return (ComponentFailed if last.own else RemoteFailed)(
            what,
            why=f"The last, {last.name} with {parameters}: {last.message}" + ("" if log else "; it printed nothing"),
            fix=_fix(last),
            log=log,
        )

    def _too_late(self, end: End) -> RemoteFailed:
        best, name = self._best, self._experiment.spec.objective.objective_metric_name
        so_far = f"; the best of them, {best.name}, has {name}={best.value:g}" if best else ""
        stalled = end == "Stalled"
        limit = "stall-timeout" if stalled else "timeout"
        return RemoteFailed(
            f"No trial ended within {self._request.stall_timeout:g} s"
            if stalled
            else f"The Experiment did not end within {self._request.timeout:g} s",
            why=f"{many(len(self._done), 'trial')} ended{so_far}",
            fix=f"Run it again, and it goes on from there; or raise `{limit}`, or lower `max-trials`"
            + ("; `at-limit: best` takes the best so far" if best else ""),
            log=tail(self._place.log(self._trials.running[0])) if stalled and len(self._trials) else "",
        )

    @contextmanager
    def _told_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._trials.stop()
            self._watcher.interrupted(self._best, len(self._done))
            raise


def _runner(request: TuneRequest, place: Place) -> Runner:
    if request.pipeline:
        return PipelineRunner(request.experiment, request.pipeline, request.run, place)
    if request.isolation == "container":
        from .containers import ContainerRunner

        return ContainerRunner(request.document, place, request.image)
    return ProcessRunner(request.document, place)


def _fix(failed: Trial) -> str:
    """What to do about a trial that failed."""
    if not failed.own:
        return "Run this again when that works"
    if failed.state == "Failed":
        return "Correct it, or raise `maxFailedTrialCount` if some combinations may fail"
    return "Report the metric in that form, or correct `objectiveMetricName` or `metricsFormat`"


def _time_for_a_trial(request: TuneRequest) -> float:
    """Seconds; 0 for no limit."""
    own = None if request.pipeline else request.document.job.spec.active_deadline_seconds
    return min((float(limit) for limit in (request.trial_timeout, own) if limit), default=0.0)
