"""What a person sees while an Experiment runs: a line for each trial that ends, and on a terminal what runs now."""

from __future__ import annotations

from collections.abc import Mapping

from ..github.console import Console
from .engine import Trial
from .experiment import Experiment


class Progress:
    """Tells a console.

    Args:
        console: which.
        experiment: whose trials.
        total: how many trials there will be at most; None when it is not known.
    """

    def __init__(self, console: Console, experiment: Experiment, total: int | None) -> None:
        self._console, self._objective, self._total = console, experiment.spec.objective, total
        self._names = [parameter.name for parameter in experiment.spec.parameters]
        self._running = 0
        # a double with five digits takes at most ten characters; a list's widest item is known
        self._widths = {
            p.name: len(p.name) + 1 + max(map(len, p.feasible_space.values or ["-1.2345e-05"]))
            for p in experiment.spec.parameters
        }

    def resumed(self, trials: list[Trial]) -> None:
        """Say that work of an earlier run is taken up."""
        count = f"{len(trials)} finished trial{'s' * (len(trials) != 1)}"
        self._console.say(f"Going on from {count} of an earlier run")

    def started(self, trial: Trial, running: int) -> None:
        """Show what runs."""
        self._running = running
        self._console.status(f"{running} running; last started: {trial.name} {shown(trial.parameters)}")

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        """A line for the trial."""
        self._running -= 1
        of = f"/{self._total}" if self._total else ""
        width = len(str(self._total or 100))
        parameters = "  ".join(self._column(name, f"{name}={short(trial.parameters[name])}") for name in self._names)
        name = self._objective.objective_metric_name
        result = f"{name}={short(trial.value)}" if trial.value is not None else trial.state
        if best is trial:
            result += "  ★ best"
        elif trial.failed:
            result += f": {trial.message}"
        elif best and best.value is not None:
            result += f"  (best {short(best.value)})"
        row = [f"{done:>{width}}{of}", trial.name, parameters, self._column("", result), f"{trial.seconds:.1f} s"]
        self._console.say("  ".join(row))
        if self._running > 0:
            self._console.status(f"{self._running} running")

    def interrupted(self, best: Trial | None, done: int) -> None:
        """Say what was found so far."""
        if best and best.value is not None:
            found = f"{self._objective.objective_metric_name}={short(best.value)} with {shown(best.parameters)}"
            self._console.say(f"Stopped after {done} trials. Best so far: {found} ({best.name})")
        else:
            self._console.say(f"Stopped after {done} trials, of which none succeeded")

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
