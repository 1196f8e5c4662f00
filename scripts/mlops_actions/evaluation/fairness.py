"""Fairness by group: how far the groups of a column are apart in what the model decides of them.

`demographic_parity_difference` is the largest difference of the share of rows that are predicted positive,
`demographic_parity_ratio` the smallest ratio of it. `equalized_odds_difference` is the greater of the largest
difference of true positive rates and that of false positive rates (M. Hardt, E. Price and N. Srebro, "Equality of
Opportunity in Supervised Learning", 2016). Definitions are those of Fairlearn, but that a group without positives, or
without negatives, is not looked at for that rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formulas import Array, Statistic, by
from .predictions import Predictions

METRICS = ("demographic_parity_difference", "demographic_parity_ratio", "equalized_odds_difference")


def statistic(name: str, found: Predictions, codes: NDArray[Any], groups: int) -> Statistic | None:
    """One of `METRICS` as a function of weights; None when there are no predicted classes of a binary task.

    Args:
        name: which.
        found: the predictions.
        codes: the group of each row, from 0.
        groups: how many there are.
    """
    said = found.predicted
    if found.task != "binary" or said is None:
        return None
    label = found.label > 0.5

    def rate(weights: NDArray[Any], rows: NDArray[np.bool_]) -> Array:
        whole = by(codes, weights * rows, groups)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(by(codes, weights * rows * said, groups) / whole)

    def of(weights: NDArray[Any]) -> Array:
        if name == "equalized_odds_difference":
            return np.maximum(_spread(rate(weights, label)), _spread(rate(weights, ~label)))
        rates = rate(weights, np.ones(len(label), dtype=bool))
        if name == "demographic_parity_difference":
            return _spread(rates)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.fmin.reduce(rates, axis=1) / np.fmax.reduce(rates, axis=1))

    return of


def _spread(rates: Array) -> Array:
    return np.asarray(np.fmax.reduce(rates, axis=1) - np.fmin.reduce(rates, axis=1))
