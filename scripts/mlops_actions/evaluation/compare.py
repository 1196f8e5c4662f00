"""Challenger against champion on the same rows: a paired bootstrap of a metric's difference.

Rows are drawn with replacement, the same rows for both models, and the metric's difference is taken each time: its
2.5 and 97.5 percentiles are the 95 % interval (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13). The seed is fixed: the same predictions give the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .metrics import Task

DRAWS = 1_000
ROWS = 5_000
"""Rows that are drawn of at most; with more, an evenly spaced part of them stands for all."""
SEED = 20_130_101


@dataclass(frozen=True)
class Comparison:
    """A metric of two models.

    Attributes:
        metric: its name.
        challenger, champion: the values.
        gain: how much better the challenger is; positive is better whichever way the metric goes.
        low, high: the 95 % interval of the gain; None when the rows are not the same.
        p_worse: share of draws in which the challenger is worse; None likewise.
        rows: how many rows both have.
        note: how the comparison was made, if not by bootstrap.
    """

    metric: str
    challenger: float
    champion: float
    gain: float
    low: float | None = None
    high: float | None = None
    p_worse: float | None = None
    rows: int = 0
    note: str = ""

    def acceptable(self, allowed: float) -> bool:
        """Whether the challenger is not worse than `allowed`.

        With an interval it is refused only when the loss is certain to be over what is allowed: the whole interval
        lies below -allowed. Without one the values themselves decide.
        """
        return (self.gain if self.high is None else self.high) >= -allowed


def recorded(metric: str, challenger: float, champion: float, note: str) -> Comparison:
    """Compare two values that were measured on different rows."""
    return Comparison(metric, challenger, champion, _gain(metric, challenger, champion), note=note)


def paired(
    metric: str,
    task: Task,
    label: NDArray[Any],
    challenger: NDArray[Any],
    champion: NDArray[Any],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Compare two models' scores (or predicted classes, for metrics of classes) of the same rows."""

    def measure(values: NDArray[Any], rows: NDArray[Any] | slice) -> float:
        if metric in metrics.RANKED:
            return metrics.RANKED[metric](label[rows], values[rows])
        classes = (values[rows] >= 0.5).astype(float) if task == "binary" and values.dtype.kind == "f" else values[rows]
        return metrics.compute(task, label[rows], None, classes).get(metric, float("nan"))

    everything = slice(None)
    new, old = measure(challenger, everything), measure(champion, everything)
    pool = np.arange(len(label)) if len(label) <= ROWS else np.linspace(0, len(label) - 1, ROWS).astype(int)
    random = np.random.default_rng(seed)
    gains = []
    for _ in range(draws):
        rows = random.choice(pool, len(pool))
        gains.append(_gain(metric, measure(challenger, rows), measure(champion, rows)))
    known = np.array([gain for gain in gains if np.isfinite(gain)])
    gain = _gain(metric, new, old)
    if not len(known):
        return Comparison(metric, new, old, gain, rows=len(label), note="the interval is not defined on these rows")
    # a part of the rows has a wider interval than all of them: it is drawn in around the full gain
    shrink = np.sqrt(len(pool) / len(label))
    low, high = (float(gain + (q - known.mean()) * shrink) for q in np.percentile(known, [2.5, 97.5]))
    return Comparison(metric, new, old, gain, low, high, float(np.mean(known < 0)), len(label))


def _gain(metric: str, challenger: float, champion: float) -> float:
    return challenger - champion if metrics.HIGHER_IS_BETTER.get(metric, True) else champion - challenger
