"""Trials under way: each is started, watched, ended early if it falls behind, and judged when it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from .collectors import Reader, Unreadable
from .engine import Trial
from .experiment import Experiment
from .metrics import Observation, counted
from .processes import Ended, Processes
from .runners import Place, Runner
from .stopping import Limit, MedianStop

_LOOK = 0.25
"""Seconds between two looks at what running trials report, when they may be stopped early."""


@dataclass
class _Running:
    trial: Trial
    reader: Reader
    limit: Limit | None
    reported: list[Observation] = field(default_factory=list)


class Trials:
    """Several trials of one Experiment at a time. As a context manager: none is left behind, however it is left."""

    def __init__(self, experiment: Experiment, runner: Runner, place: Place) -> None:
        self._experiment, self._runner, self._place = experiment, runner, place
        self._processes = Processes()
        self._running: dict[int, _Running] = {}
        stopping = experiment.spec.early_stopping
        self._stopping = MedianStop(stopping, experiment.spec.objective) if stopping else None

    def __enter__(self) -> Trials:
        """Itself."""
        self._processes.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        """End all that run."""
        self.stop()
        self._processes.__exit__()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def running(self) -> list[Trial]:
        """Those that run."""
        return [running.trial for running in self._running.values()]

    def recall(self, trials: Iterable[Trial]) -> None:
        """Learn from trials of an earlier run when to stop others, by what they left."""
        for trial in trials:
            if self._stopping and trial.state == "Succeeded":
                reader = self._runner.reader(trial)
                with suppress(Unreadable):
                    self._stopping.learn(self._objective(reader.read(ended=True)))
                reader.close()

    def start(self, trial: Trial) -> None:
        """Start a trial.

        Raises:
            BadInput: its command cannot be started.
        """
        launch = self._runner.begin(trial)
        limit = self._stopping.limit() if self._stopping else None
        self._running[trial.number] = _Running(trial, self._runner.reader(trial), limit)
        self._processes.start(trial.number, launch)

    def next(self, until: float) -> Trial | None:
        """The next trial that has ended, judged; None at the time (of `time.monotonic`) until which to wait."""
        while True:
            watched = any(running.limit for running in self._running.values())
            ended = self._processes.next(min(until, time.monotonic() + _LOOK) if watched else until)
            if ended:
                return self._finish(ended)
            if time.monotonic() >= until:
                return None
            self._look()

    def stop(self) -> None:
        """End all that run."""
        self._processes.stop()
        for running in self._running.values():
            running.reader.close()
        self._running.clear()
        self._runner.close()

    def _look(self) -> None:
        """End the trials that have fallen behind."""
        for number, running in self._running.items():
            if running.limit and not running.limit.missed():
                with suppress(Unreadable):  # it is said when the trial has ended
                    self._report(running, running.reader.read())
                if running.limit.missed():
                    self._processes.end(number)

    def _report(self, running: _Running, reported: list[Observation]) -> None:
        running.reported += reported
        for value in self._objective(reported):
            if running.limit:
                running.limit.observe(value)

    def _finish(self, ended: Ended) -> Trial:
        running = self._running.pop(ended.number)
        stopped = running.limit.missed() if running.limit and ended.asked else ""
        trial = replace(running.trial, seconds=ended.seconds)
        try:
            self._report(running, running.reader.read(ended=True))
            trial = self._judged(trial, ended, running.reported, stopped)
        except Unreadable as error:
            trial = replace(trial, state="Failed", message=str(error))
        running.reader.close()
        self._runner.ended(trial)
        if self._stopping and trial.state == "Succeeded":
            self._stopping.learn(self._objective(running.reported))
        return trial

    def _judged(self, trial: Trial, ended: Ended, reported: list[Observation], stopped: str) -> Trial:
        """What became of a trial, by its exit and what it reported."""
        objective = self._experiment.spec.objective
        metrics = counted(reported, objective)
        value = metrics.get(objective.objective_metric_name)
        if stopped:
            return replace(trial, state="EarlyStopped", metrics=metrics, value=value, message=stopped)
        if ended.asked:
            return replace(trial, state="Failed", message=f"it ran longer than {self._place.timeout:g} s")
        if ended.code:
            how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
            cause = self._runner.cause(trial, ended.code)
            message = f"it ended with {how}" + (f": {cause.message}" if cause.message else "")
            return replace(trial, state="Failed", message=message, own=cause.own)
        if value is None:
            return replace(trial, state="MetricsUnavailable", metrics=metrics, message=self._unreported(trial))
        return replace(trial, state="Succeeded", metrics=metrics, value=value)

    def _unreported(self, trial: Trial) -> str:
        """Why a trial that ended well has no value."""
        collector, name = (
            self._experiment.spec.metrics_collector_spec,
            self._experiment.spec.objective.objective_metric_name,
        )
        wanted = " or ".join(collector.formats) or f"{name}=<number>"
        where = {
            "File": f" in {collector.path}" + (" as JSON" if collector.json_lines else f" as {wanted}"),
            "TensorFlowEvent": f" in event files in {collector.path}",
            "PrometheusMetric": f" at {collector.path}, port {collector.port}",
        }
        return f"it never reported {name!r}{where.get(collector.collector.kind, f' as {wanted}')}"

    def _objective(self, reported: Iterable[Observation]) -> list[float]:
        name = self._experiment.spec.objective.objective_metric_name
        return [observation.value for observation in reported if observation.name == name]


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a trial's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
