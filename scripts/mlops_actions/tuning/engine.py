"""What an engine that runs an Experiment is given, tells meanwhile, and gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ..text import many
from ..waiting import Clock
from .experiment import Experiment
from .space import Value

if TYPE_CHECKING:
    from .reading import Document

State = Literal["Pending", "Running", "Succeeded", "EarlyStopped", "Failed", "MetricsUnavailable", "Killed"]
"""Katib's conditions of a trial. `MetricsUnavailable`: it ended well and did not report the objective's metric.
`Pending`: it is made and does not run yet, as its pod waits for a node or an image."""
End = Literal["GoalReached", "MaxTrialsReached", "SearchSpaceExhausted", "TimeLimit", "Stalled"]
"""Why an Experiment is complete. The first three are Katib's; the others are limits that a `TuneRequest` sets."""
PARENT = "pbt.suggestion.katib.kubeflow.org/parent"
"""Katib's label of a trial that goes on from another's checkpoints: that one's name."""
Isolation = Literal["process", "container"]
AtLimit = Literal["fail", "best"]
"""What a limit makes of an Experiment: an error, or the best trial so far as its result."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0, in the order in which they were started.
        name: `<experiment>-<number>`.
        parameters: by the names of the search space.
        state: where it is.
        metrics: the value that counts of each metric that it reported.
        value: of the objective, if it succeeded or was stopped early.
        seconds: how long it ran.
        message: why it failed, or was stopped.
        recalled: it was done in an earlier, interrupted run.
        labels: what the algorithm says of it, by Katib's names.
        own: whether it failed by its own doing; see `Cause.own`.
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
    labels: Mapping[str, str] = field(default_factory=dict)
    own: bool = True

    @property
    def failed(self) -> bool:
        """Whether it counts against `maxFailedTrialCount`."""
        return self.state in ("Failed", "MetricsUnavailable")


class Cause(NamedTuple):
    """Why a trial has failed.

    Attributes:
        message: what happened.
        fix: what to do about it; "" when its own log has to say that.
        own: whether it failed by its own doing, and not by another system's: Katib's, the cluster's, Docker's, KFP's.
    """

    message: str
    fix: str = ""
    own: bool = True


@dataclass(frozen=True)
class TuningContext:
    """What an engine may use.

    Attributes:
        folder: the consumer's folder, where local trials run.
        environ: the variables of every local trial; PATH finds the consumer's Python first.
        state: the engine's own folder for this Experiment: its journal and the trials' logs.
        variables: for the trials' pods: how to reach the store, without secrets.
        clock: what time is measured and waited with.
            say: told what a person should know at once, beside how trials end: a warning, a line.
            mask: told every secret that comes up, before anything is printed.
    """

    folder: Path
    environ: Mapping[str, str]
    state: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = Clock()  # noqa: RUF009 - it has no state
    say: Callable[[str], None] = lambda _: None
    mask: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Pipeline:
    """A pipeline whose runs are the trials.

    Attributes:
        argv: the command that runs it, but for its parameters and the run's name.
        environ: the variables of that command.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class TuneRequest:
    """What an engine is asked to do.

    Attributes:
        document: the Experiment and its YAML as it was written; it has passed the checks.
        key: hash of all that decides the result.
        parallel: how many trials at a time.
        max_trials: how many trials complete the Experiment; None for no limit.
        fresh: start over, whatever an earlier run has left.
        trial_timeout: seconds that a trial may take; 0 for no limit.
        timeout: seconds that all of it may take; 0 for no limit.
        stall_timeout: seconds in which at least one trial has to end; 0 for no limit.
        at_limit: what `timeout` and `stall_timeout` make of the Experiment.
        isolation: what local trials run as: processes in the consumer's environment, or containers of the image.
        image: the image of the trials instead of the one in the Experiment; "" for that.
        pipeline: what local trials run instead of the trial template; None for that.
        run: name of the chain's run, for whoever finds the Experiment in a cluster.
        logs: whether the whole log of every trial is wanted; else only what explains a failure need be fetched.
    """

    document: Document
    key: str
    parallel: int
    max_trials: int | None
    fresh: bool = False
    trial_timeout: float = 0.0
    timeout: float = 0.0
    stall_timeout: float = 0.0
    at_limit: AtLimit = "fail"
    isolation: Isolation = "process"
    image: str = ""
    pipeline: Pipeline | None = None
    run: str = ""
    logs: bool = False

    @property
    def experiment(self) -> Experiment:
        """The Experiment, typed."""
        return self.document.experiment


@dataclass(frozen=True)
class Outcome:
    """How an Experiment succeeded.

    Attributes:
        end: why it is complete.
        trials: all that ended, by number.
        best: the one with the best objective.
        value: of its objective.
        seed: what all that is random was decided by; None when only the engine knows.
        importances: each parameter's share in the objective; empty when it cannot be told.
        logs: the log file of each trial that has one here, by number.
        resumed: how many trials were taken from an earlier run.
    """

    end: End
    trials: tuple[Trial, ...]
    best: Trial
    value: float
    seed: int | None
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

    def waiting(self, running: int, pending: int) -> None:
        """About once a second: so many trials run, and so many wait to."""

    def interrupted(self, best: Trial | None, done: int) -> None:
        """The run ends before the Experiment does; it can be resumed."""


class Engine(Protocol):
    """Runs an Experiment to its end."""

    def run(self, request: TuneRequest, watcher: Watcher) -> Outcome:
        """Run it, or go on with it.

        Raises:
            ComponentFailed: too many trials failed, or none succeeded, by their own doing.
            RemoteFailed: the same, by something else; or a limit was met and `at_limit` is "fail".
            BadInput: a trial's command cannot be started, or the engine cannot honour the Experiment.
            Cancelled: a signal came; the trials have been ended.
        """


def too_many_failures(failures: int, allowed: int | None) -> str:
    """What happened when an Experiment failed because its trials did, by its `maxFailedTrialCount`."""
    return f"{many(failures, 'trial')} failed, and `maxFailedTrialCount` is {allowed}"


def best_of(experiment: Experiment, trials: Iterable[Trial]) -> Trial | None:
    """The trial with the best objective, of those that succeeded or were stopped early; of equals the first."""
    best: Trial | None = None
    for trial in trials:
        if trial.state not in ("Succeeded", "EarlyStopped") or trial.value is None:
            continue
        if best is None or best.value is None or experiment.spec.objective.better(trial.value, best.value):
            best = trial
    return best


def trial_name(experiment: Experiment, number: int) -> str:
    """The name of a local trial, counted from 1."""
    return f"{experiment.name}-{number + 1:04d}"
