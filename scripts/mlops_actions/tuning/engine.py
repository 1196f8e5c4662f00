"""What an engine that runs an Experiment is given, tells meanwhile, and gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from .experiment import Experiment
from .space import Value

State = Literal["Running", "Succeeded", "Failed", "MetricsUnavailable", "Killed"]
"""Katib's conditions of a trial. `MetricsUnavailable`: it ended well and did not report the objective's metric."""
End = Literal["GoalReached", "MaxTrialsReached", "SearchSpaceExhausted"]
"""Why an Experiment succeeded, as Katib names it."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0, in the order in which they were started.
        name: `<experiment>-<number>`.
        parameters: by the names of the search space.
        state: where it is.
        metrics: the value that counts of each metric that it reported.
        value: of the objective, if it succeeded.
        seconds: how long it ran.
        message: why it failed.
        recalled: it was done in an earlier, interrupted run.
    """

    number: int
    name: str
    parameters: Mapping[str, Value]
    state: State = "Running"
    metrics: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    seconds: float = 0.0
    message: str = ""
    recalled: bool = False

    @property
    def failed(self) -> bool:
        """Whether it counts against `maxFailedTrialCount`."""
        return self.state in ("Failed", "MetricsUnavailable")


@dataclass(frozen=True)
class Request:
    """What an engine is asked to do.

    Attributes:
        experiment: it has passed the checks.
        parallel: how many trials at a time.
        max_trials: how many trials complete the Experiment; None for no limit.
        folder: the consumer's folder, where trials run.
        environ: the variables of every trial; PATH finds the consumer's Python first.
        state: the engine's own folder for this Experiment: its journal and the trials' logs.
        fresh: begin anew, whatever is in it.
        trial_timeout: seconds that a trial may take; 0 for no limit.
        timeout: seconds that all of it may take; 0 for no limit.
    """

    experiment: Experiment
    parallel: int
    max_trials: int | None
    folder: Path
    environ: Mapping[str, str]
    state: Path
    fresh: bool = False
    trial_timeout: float = 0.0
    timeout: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How an Experiment succeeded.

    Attributes:
        end: why it is complete.
        trials: all that ended, by number.
        best: the one with the best objective.
        value: of its objective.
        seed: what all that is random was decided by.
        importances: each parameter's share in the objective; empty when it cannot be told.
        logs: the log file of each trial, by number.
        resumed: how many trials were taken from an earlier run.
    """

    end: End
    trials: tuple[Trial, ...]
    best: Trial
    value: float
    seed: int
    importances: Mapping[str, float]
    logs: Mapping[int, Path]
    resumed: int


class Watcher(Protocol):
    """Is told what happens."""

    def resumed(self, trials: list[Trial]) -> None:
        """These trials were done in an earlier run."""

    def started(self, trial: Trial, running: int) -> None:
        """A trial began; so many run now."""

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        """A trial ended; the best so far; how many ended so far."""

    def interrupted(self, best: Trial | None, done: int) -> None:
        """The run ends before the Experiment does; it can be resumed."""


class Engine(Protocol):
    """Runs an Experiment to its end."""

    def run(self, request: Request, watcher: Watcher) -> Outcome:
        """Run it, or go on with it.

        Raises:
            RemoteFailed: too many trials failed, none succeeded, or the time is up.
            BadInput: a trial's command cannot be started.
        """


def best_of(experiment: Experiment, trials: list[Trial]) -> Trial | None:
    """The succeeded trial with the best objective; of equals the first, as Katib keeps it."""
    best: Trial | None = None
    for trial in trials:
        if trial.state != "Succeeded" or trial.value is None:
            continue
        if best is None or best.value is None or experiment.spec.objective.better(trial.value, best.value):
            best = trial
    return best


def trial_name(experiment: Experiment, number: int) -> str:
    """The name of a trial, counted from 1."""
    return f"{experiment.name}-{number + 1:04d}"
