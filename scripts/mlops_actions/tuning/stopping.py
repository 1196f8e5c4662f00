"""Median stopping, as Katib has it: a trial that is worse than the others were at its age is ended.

What Katib calls the median is the mean over the trials that have succeeded, each with the mean of its first values; a
trial has the limit that held when it was started. Sources: pkg/earlystopping/v1beta1/medianstop/service.py and
pkg/metricscollector/v1beta1/file-metricscollector/rules.go of github.com/kubeflow/katib.
"""

from __future__ import annotations

from collections.abc import Sequence

from .experiment import EarlyStopping, Objective


class MedianStop:
    """Learns from trials that succeeded, and gives those that start the limit that holds.

    Args:
        stopping: how it is to be done; it has passed the checks.
        objective: what is optimised.
    """

    def __init__(self, stopping: EarlyStopping, objective: Objective) -> None:
        settings = stopping.settings
        self._required = int(settings.get("min_trials_required", "3"))
        self._steps = int(settings.get("start_step", "4"))
        self._objective = objective
        self._means: list[float] = []

    def learn(self, values: Sequence[float]) -> None:
        """A trial has succeeded with these values of the objective, in their order."""
        first = values[: self._steps]
        if first:
            self._means.append(sum(first) / len(first))

    def limit(self) -> Limit | None:
        """For a trial that starts now; None while too few have succeeded."""
        if len(self._means) < self._required:
            return None
        return Limit(self._objective, sum(self._means) / len(self._means), self._steps)


class Limit:
    """What one trial has to keep up with: its best value so far, from a number of values on.

    Attributes:
        value: which its best must not be worse than.
    """

    def __init__(self, objective: Objective, value: float, steps: int) -> None:
        self.value = value
        self._objective, self._steps = objective, steps
        self._count, self._best = 0, 0.0
        self._missed = ""

    def observe(self, value: float) -> None:
        """The trial has reported one more value of the objective."""
        self._best = value if not self._count or self._objective.better(value, self._best) else self._best
        self._count += 1
        if self._count >= self._steps and self._objective.better(self.value, self._best) and not self._missed:
            name, count = self._objective.objective_metric_name, self._count
            self._missed = f"{name} was {self._best:.5g} at best after {count} values, and others had {self.value:.5g}"

    def missed(self) -> str:
        """How it was missed, in words; "" while it was not."""
        return self._missed
