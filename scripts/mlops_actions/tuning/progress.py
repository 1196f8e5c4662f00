"""What a person sees while an Experiment runs: lines for the trials that end, and what runs now.

A line for each trial; of more than 200, a hundred or so of them, each that is the best so far, and the first that fail.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..console import Console
from ..text import many
from ..waiting import Clock
from .engine import Trial
from .experiment import Experiment

_LINES = 100
_FAILURES = 20
_QUIET = 60.0
"""Seconds without a line after which one says what goes on."""


class TuningProgress:
    """Tells a console.

    Args:
        console: which.
        experiment: whose trials.
        total: how many trials there will be at most; None when it is not known.
        clock: to measure with.
    """

    def __init__(
        self,
        console: Console,
        experiment: Experiment,
        total: int | None,
        clock: Clock = Clock(),  # noqa: B008 - it has no state
    ) -> None:
        self._console, self._objective, self._total = console, experiment.spec.objective, total
        self._names = [parameter.name for parameter in experiment.spec.parameters]
        self._clock = clock
        self._every = max(1, (total or 0) // _LINES)
        self._running = self._done = self._failures = 0
        self._best: Trial | None = None
        self._began: tuple[float, int] | None = None  # when the first trial started, and how many were done then
        self._spoke = clock.now()
        # a double with five digits takes at most ten characters; a list's widest item is known
        self._widths = {
            p.name: len(p.name) + 1 + max(map(len, p.feasible_space.values or ["-1.2345e-05"]))
            for p in experiment.spec.parameters
        }

    def resumed(self, trials: list[Trial]) -> None:
        """Say that work of an earlier run is taken up."""
        self._done = len(trials)
        count = many(len(trials), "finished trial")
        self._console.say(f"Resuming with {count} of an earlier run")

    def started(self, trial: Trial, running: int) -> None:
        """Show what runs."""
        self._running = running
        self._began = self._began or (self._clock.now(), self._done)
        self._console.status(f"{running} running; last started: {trial.name} {shown(trial.parameters)}")

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        """A line for the trial, unless there are many."""
        self._running -= 1
        self._done, self._best = done, best
        self._failures += trial.failed
        if best is trial or done % self._every == 0 or (trial.failed and self._failures <= _FAILURES):
            self._say(self._row(trial, best, done))
        if self._running > 0:
            self._console.status(f"{self._running} running")

    def waiting(self, running: int, pending: int) -> None:
        """Show what runs, and when it may end; as a line when there was none for a minute."""
        total = f"/{self._total}" if self._total else ""
        waiting = f", {pending} waiting to run" if pending else ""
        best = f", best {short(self._best.value)}" if self._best else ""
        text = f"{self._done}{total} done, {running} running{waiting}{best}{self._estimate()}"
        if self._clock.now() - self._spoke >= _QUIET:
            self._say(text)
        else:
            self._console.status(text)

    def _estimate(self) -> str:
        """How long it will take yet, by the trials that ended since this began."""
        if not self._total or self._began is None or self._done <= self._began[1]:
            return ""
        each = (self._clock.now() - self._began[0]) / (self._done - self._began[1])
        left = each * (self._total - self._done)
        return f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"

    def _say(self, text: str) -> None:
        self._spoke = self._clock.now()
        self._console.say(text)

    def _row(self, trial: Trial, best: Trial | None, done: int) -> str:
        of = f"/{self._total}" if self._total else ""
        width = len(str(self._total or 100))
        parameters = "  ".join(
            self._column(name, f"{name}={short(trial.parameters.get(name, '–'))}") for name in self._names
        )
        name = self._objective.objective_metric_name
        result = f"{name}={short(trial.value)}" if trial.value is not None else trial.state
        if trial.state == "EarlyStopped" and trial.value is not None:
            result += "  stopped early"
        if best is trial:
            result += "  ★ best"
        elif trial.failed:
            result += f": {trial.message}"
        elif best and best.value is not None:
            result += f"  (best {short(best.value)})"
        row = [f"{done:>{width}}{of}", trial.name, parameters, self._column("", result), f"{trial.seconds:.1f} s"]
        return "  ".join(row)

    def interrupted(self, best: Trial | None, done: int) -> None:
        """Say what was found so far."""
        if best and best.value is not None:
            found = f"{self._objective.objective_metric_name}={short(best.value)} with {shown(best.parameters)}"
            self._console.say(f"Stopped after {many(done, 'trial')}. Best so far: {found} ({best.name})")
        else:
            self._console.say(f"Stopped after {many(done, 'trial')}, of which none succeeded")

    def _column(self, key: str, text: str) -> str:
        """Text as wide as the widest of its column so far, so that lines stand below each other."""
        self._widths[key] = min(48, max(self._widths.get(key, 0), len(text)))
        return text.ljust(self._widths[key])


def short(value: object) -> str:
    """A value for a table: numbers with five significant digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def shown(parameters: Mapping[str, object]) -> str:
    """Parameters in a line."""
    return " ".join(f"{name}={short(value)}" for name, value in parameters.items())
