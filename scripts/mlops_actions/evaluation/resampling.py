"""The bootstrap: how much a statistic of rows would vary, had other rows been drawn.

Rows are drawn with replacement and the statistic is taken each time; the standard deviation of the draws is its
standard error (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 6). Where rows are not
independent, whole blocks of them are drawn: the units of chance are the days or users, not the rows (A. Davison and
D. Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). The interval is the estimate ± Student's t
with one degree of freedom less than there are units, and the error of multinomial draws is enlarged by √(m / (m - 1)):
without both, intervals of few units are too narrow (T. Hesterberg, "What Teachers Should Know About the Bootstrap",
2015, section 3.3).

A draw is a weight for each unit, which a `Statistic` takes. From `POISSON` units on they are independent counts with
the mean and the variance of Poisson(1) (N. Chamandy et al., "Estimating Uncertainty for Massive Data Streams", 2012),
which are drawn faster; mean and variance are all that a standard error needs of independent weights (P. Barbe and
P. Bertail, "The Weighted Bootstrap", 1995). Draws are made in chunks of bounded size on all processors; each chunk has
its own seed, so that the same rows give the same answer on any machine.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .formulas import LANES, MOST, Array, Statistic, Sums

if TYPE_CHECKING:
    from .metric import Metric
    from .predictions import Predictions

CHANCE = 0.05
"""That an interval misses the truth: half of it to each side."""
DRAWS = 1_000
SHOWN = 200
"""Draws for the interval of one model's metric, which needs no more than the standard error to a twentieth."""
SEED = 20_130_101
POISSON = 20_000
FEWEST = 5
"""Units; of fewer, nothing is said about chance."""
_CELLS = 2_000_000
_PIECE = 131_072
_COUNTS = (94, 95, 46, 16, 4, 1)
"""Of 256 numbers of 8 bits, how many stand for the counts 0 to 5: within 0.0043 of each share of Poisson(1), with its
mean and variance to the last digit, and a third central moment of 0.98 and a fourth of 3.81 in the place of 1 and 4."""
_STEPS = np.cumsum(_COUNTS)[:-1].astype(np.uint8)
"""The count of such a number is how many of these steps it reaches."""


@dataclass(frozen=True)
class Units:
    """What is drawn: the rows themselves, or blocks of them.

    Attributes:
        weight: of the rows.
        codes: the block of each row, from 0; None when each row is one.
        count: how many units there are.
    """

    weight: Array | None
    codes: NDArray[np.intp] | None
    count: int

    @classmethod
    def of(cls, rows: int, blocks: NDArray[Any] | None = None, weight: Array | None = None) -> Units:
        """Rows, or blocks of them that a value of each row names."""
        if blocks is None:
            return cls(weight, None, rows)
        names, codes = np.unique(blocks, return_inverse=True)
        return cls(weight, codes.astype(np.intp), len(names))

    def value(self, statistic: Statistic, rows: int) -> float:
        """The statistic of all rows."""
        weight = np.ones(rows) if self.weight is None else self.weight
        return float(statistic(weight[None, :])[0])

    def statistic(self, of_rows: Statistic) -> Statistic:
        """A statistic of rows as one of units."""
        weight, codes = self.weight, self.codes
        if isinstance(of_rows, Sums):
            weighted = of_rows if weight is None else of_rows.weighted(weight)
            return weighted if codes is None else weighted.of_units(codes, self.count)
        if codes is None and weight is None:
            return of_rows

        def of_units(weights: NDArray[Any]) -> Array:
            spread = weights if codes is None else weights.T.take(codes, axis=0).T
            if weight is None:
                return of_rows(spread)
            # one after the other: as floats, all draws of a chunk would be eight times as large
            return np.concatenate([of_rows((draw * weight)[None, :]) for draw in spread])

        return of_units


def bootstrap(statistic: Statistic, units: int, rows: int, draws: int = DRAWS, seed: int = SEED) -> Array:
    """A statistic of units, which stand for so many rows, of each of so many resamples."""
    size = LANES if units >= POISSON else max(LANES, _CELLS // max(units, rows) // LANES * LANES)
    starts = range(0, draws, size)

    def chunk(start: int) -> Array:
        return statistic(_weights(min(size, draws - start), units, seed + start))

    if len(starts) == 1:
        return chunk(0)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return np.concatenate(list(threads.map(chunk, starts)))


def standard_error(draws: Array, units: int) -> float:
    """The standard error that draws show; NaN when the statistic is not defined for one in ten of them."""
    known = draws[np.isfinite(draws)]
    if units < FEWEST or len(known) < 0.9 * len(draws):
        return math.nan
    enlarged = math.sqrt(units / (units - 1)) if units < POISSON else 1.0
    return float(np.std(known, ddof=1)) * enlarged


def around(value: float, error: float, units: int, chance: float = CHANCE) -> tuple[float, float] | None:
    """The interval around a value that misses the truth with a chance; None when the error is not known."""
    if not math.isfinite(error + value):
        return None
    reach = float(stats.t.ppf(1 - chance / 2, units - 1)) * error
    return value - reach, value + reach


def interval(metric: Metric, found: Predictions, chance: float = CHANCE) -> tuple[float, float] | None:
    """The interval of a metric; None when it is not defined on these rows.

    Of shares of independent rows (accuracy, precision, recall) it is Wilson's (Journal of the American Statistical
    Association 22, 1927), of `auc` DeLong's, of everything else the bootstrap's.
    """
    statistic = found.statistic(metric)
    if statistic is None:
        return None
    rows = len(found.label)
    if found.blocks is None and found.weight is None and found.label.ndim == 1:
        values = found.values_of(metric)
        if metric.name == "auc":
            assert values is not None
            return of_placements(*placements(found.label, values), chance)
        if metric.name in ("accuracy", "precision", "recall") and isinstance(statistic, Sums):
            hits, of = statistic.columns[:, 0], {"precision": 1, "recall": 2}.get(metric.name)
            share = statistic.columns[:, 1] if of is None else hits
            return _wilson(share.sum(), rows if of is None else statistic.columns[:, of].sum(), chance)
    units = Units.of(rows, found.blocks, found.weight)
    drawn = bootstrap(units.statistic(statistic), units.count, rows, SHOWN)
    return around(units.value(statistic, rows), standard_error(drawn, units.count), units.count, chance)


def _wilson(hits: float, of: float, chance: float) -> tuple[float, float] | None:
    if not of:
        return None
    found = stats.binomtest(round(hits), round(of)).proportion_ci(1 - chance, "wilson")
    return float(found.low), float(found.high)


def of_placements(positive: Array, negative: Array, chance: float = CHANCE) -> tuple[float, float] | None:
    """DeLong's interval of an area under the ROC curve, or of the difference of two, by the rows' placements."""
    fewest = min(len(positive), len(negative))
    if fewest < 2:
        return None
    error = math.sqrt(positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative))
    return around(float(positive.mean()), error, fewest, chance)


def placements(label: Array, score: Array) -> tuple[Array, Array]:
    """Of each positive row the share of negative ones below it, of each negative row that of positive ones above it.

    Ties count half. In the order of the rows, so that those of two models can be subtracted.
    """
    positive, negative = score[label > 0.5], score[label <= 0.5]
    low, high = np.sort(negative), np.sort(positive)
    below = (np.searchsorted(low, positive, "left") + np.searchsorted(low, positive, "right")) / 2
    above = len(high) - (np.searchsorted(high, negative, "left") + np.searchsorted(high, negative, "right")) / 2
    return below / max(len(low), 1), above / max(len(high), 1)


def _weights(draws: int, units: int, seed: int) -> NDArray[np.uint8]:
    """How often each unit is in each draw; of `POISSON` units and more of at most `LANES` draws."""
    random = np.random.Generator(np.random.SFC64(seed))
    if units >= POISSON:
        counts: NDArray[np.uint8] = np.empty(units * LANES, dtype=np.uint8)
        reached = np.empty(_PIECE, dtype=np.bool_)
        for start in range(0, len(counts), _PIECE):
            piece = counts[start : start + _PIECE]
            numbers = random.integers(0, 2**64, len(piece) // 8, dtype=np.uint64).view(np.uint8)
            np.greater_equal(numbers, _STEPS[0], out=piece.view(np.bool_))
            for step in _STEPS[1:]:
                piece += np.greater_equal(numbers, step, out=reached[: len(piece)]).view(np.uint8)
        by_draw: NDArray[np.uint8] = counts.reshape(units, LANES).T[:draws]
        return by_draw
    drawn = random.integers(0, units, (draws, units))
    drawn += np.arange(draws)[:, None] * units
    found = np.bincount(drawn.ravel(), minlength=draws * units)
    return np.minimum(found, MOST).astype(np.uint8).reshape(draws, units)
