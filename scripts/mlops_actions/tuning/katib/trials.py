"""The trials of an Experiment as they come, run and end; each step is told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...kubernetes.objects import Change
from ..engine import Trial, Watcher, best_of
from ..experiment import Experiment
from . import status
from .status import Object


class Trials:
    """What is known of the trials.

    A trial that has ended is not looked at again: its status may go back when Katib or the API server restarts.

    Args:
        experiment: that they are of.
        watcher: told of their steps.
        explained: completes a trial that ended, by why it failed.

    Attributes:
        best: the best so far.
        ended: by name, in the order of their end.
        unobserved: the names of those that were stopped early, and of which Katib has no value yet.
    """

    def __init__(self, experiment: Experiment, watcher: Watcher, explained: Callable[[Trial], Trial]) -> None:
        self._experiment, self._watcher, self._explained = experiment, watcher, explained
        self._news: dict[str, Object] = {}
        self._active: dict[str, Trial] = {}
        self._made: dict[str, tuple[str, str]] = {}
        # Katib reads the value of a trial that was stopped early only if it does not delete the trial's Job
        self._retained = experiment.spec.trial_template.retain
        self.best: Trial | None = None
        self.ended: dict[str, Trial] = {}
        self.unobserved: list[str] = []

    @property
    def running(self) -> list[str]:
        """The names of those that run."""
        return [trial.name for trial in self._active.values() if trial.state != "Pending"]

    @property
    def pending(self) -> list[str]:
        """The names of those that are made and do not run."""
        return [trial.name for trial in self._active.values() if trial.state == "Pending"]

    @property
    def awaited(self) -> bool:
        """Whether Katib has yet to write the value of one that was stopped early."""
        return any(trial.state == "EarlyStopped" for trial in self._active.values())

    @property
    def reliable(self) -> bool:
        """Whether a trial that ends well can be expected to have reported its metric: all did so far."""
        return self.best is not None and not any(trial.state == "MetricsUnavailable" for trial in self.ended.values())

    def in_order(self) -> list[Trial]:
        """Those that ended, numbered anew in the order in which they were made: the same for whoever watches, while the
        order in which a job hears of trials that are made at a time is chance.
        """
        ordered = sorted(self.ended.values(), key=lambda trial: self._made[trial.name])
        return [replace(trial, number=number) for number, trial in enumerate(ordered)]

    def recall(self, bodies: list[Object]) -> None:
        """Take up what an earlier job left."""
        for body in sorted(bodies, key=status.created):
            trial = status.trial(body, self._experiment, self._number())
            self._made[trial.name] = status.created(body)
            if status.active(trial) or self._waits_for_value(trial):
                self._news[trial.name] = body
            else:
                self._end(replace(self._explained(trial) if trial.value is None else trial, recalled=True))
        if self.ended:
            self._watcher.resumed(list(self.ended.values()))

    def see(self, change: Change) -> None:
        """Take in what happened to one."""
        name = change.object["metadata"]["name"]
        if change.type != "DELETED":
            self._news[name] = change.object
            self._made[name] = status.created(change.object)
        elif name in self._active:
            self._finish(replace(self._active[name], state="Killed", message="it was deleted"))

    def tell(self, *, last: bool = False) -> int:
        """Tell of what was taken in since the last time, in the order in which the trials were made.

        Args:
            last: nothing more comes, so that what waits for its value ends without one.

        Returns:
            How many trials ended.
        """
        news, self._news, before = self._news, {}, len(self.ended)
        for body in sorted(news.values(), key=status.created):
            self._step(body)
        for trial in [trial for trial in self._active.values() if last and trial.state == "EarlyStopped"]:
            self._finish(trial)
        return len(self.ended) - before

    def _step(self, body: Object) -> None:
        name = body["metadata"]["name"]
        known = self._active.get(name)
        trial = status.trial(body, self._experiment, known.number if known else self._number())
        waits = self._waits_for_value(trial)
        if name in self.ended:
            return
        if trial.state == "Pending" and known and known.state != "Pending":
            return
        self._active[name] = trial
        if trial.state != "Pending" and (known is None or known.state == "Pending"):
            self._watcher.started(replace(trial, state="Running"), len(self.running))
        if not status.active(trial) and not waits:
            self._finish(trial)

    def _waits_for_value(self, trial: Trial) -> bool:
        """Whether a trial was stopped early, and Katib will write its value a while later."""
        missing = trial.state == "EarlyStopped" and trial.value is None
        if missing and trial.name not in self.unobserved:
            self.unobserved.append(trial.name)
        elif not missing and trial.name in self.unobserved:
            self.unobserved.remove(trial.name)
        return missing and self._retained

    def _finish(self, trial: Trial) -> None:
        self._active.pop(trial.name, None)
        trial = self._explained(trial)
        self._end(trial)
        self._watcher.finished(trial, self.best, len(self.ended))

    def _end(self, trial: Trial) -> None:
        self.ended[trial.name] = trial
        self.best = best_of(self._experiment, [self.best, trial] if self.best else [trial])

    def _number(self) -> int:
        return len(self.ended) + len(self._active)
