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

from .formulas import classes_of
from .metric import Metric, Task

DRAWS = 1_000
ROWS = 5_000
"""Rows that are drawn of at most; of more, so many at random stand for all."""
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


def recorded(metric: str, challenger: float, champion: float, note: str, *, higher_is_better: bool) -> Comparison:
    """Compare two values that were measured on different rows."""
    gain = challenger - champion if higher_is_better else champion - challenger
    return Comparison(metric, challenger, champion, gain, note=note)


def paired(
    metric: Metric,
    task: Task,
    label: NDArray[Any],
    challenger: NDArray[Any],
    champion: NDArray[Any],
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Comparison:
    """Compare two models' scores (or predicted classes, for metrics of classes) of the same rows."""
    if metric.of == "prediction":
        label, challenger, champion = _classes(task, label, challenger, champion)
    sign = 1.0 if metric.higher_is_better else -1.0
    new, old = metric.function(label, challenger), metric.function(label, champion)
    random = np.random.default_rng(seed)
    pool = np.arange(len(label)) if len(label) <= ROWS else random.choice(len(label), ROWS, replace=False)
    gains = []
    for _ in range(draws):
        rows = random.choice(pool, len(pool))
        gains.append(
            sign * (metric.function(label[rows], challenger[rows]) - metric.function(label[rows], champion[rows]))
        )
    known = np.array([gain for gain in gains if np.isfinite(gain)])
    gain = sign * (new - old)
    if not len(known):
        note = "the interval is not defined on these rows"
        return Comparison(metric.name, new, old, gain, rows=len(label), note=note)
    # a part of the rows has a wider interval than all of them: it is drawn in around the full gain
    shrink = np.sqrt(len(pool) / len(label))
    low, high = (float(gain + (q - known.mean()) * shrink) for q in np.percentile(known, [2.5, 97.5]))
    return Comparison(metric.name, new, old, gain, low, high, float(np.mean(known < 0)), len(label))


def _classes(task: Task, label: NDArray[Any], *sides: NDArray[Any]) -> list[NDArray[Any]]:
    """Labels and predicted classes as numbers: names take long to compare a thousand times."""
    if task == "binary":
        return [label, *(classes_of(side) for side in sides)]
    _, codes = np.unique(np.concatenate([label, *sides]), return_inverse=True)
    return np.split(codes, len(sides) + 1)
