"""Challenger against champion on the same rows: is it better, is it worse, or can these rows not tell?

The gain is the metric's difference, positive where the challenger is better whichever way the metric goes. Its 95 %
interval is found by:

- `DeLong` for `auc`, where rows are independent and count alike (E. DeLong, D. DeLong and D. Clarke-Pearson, "Comparing
  the Areas under Two or More Correlated Receiver Operating Characteristic Curves", Biometrics 44, 1988);
- `McNemar` for `accuracy` likewise, by the rows that only one of them predicts right: McNemar's test (Psychometrika 12,
  1947), turned into an interval by T. Tango ("Equivalence test and confidence interval for the difference in
  proportions for the paired-sample design", Statistics in Medicine 17, 1998);
- `bootstrap` of rows, or of blocks of rows, for everything else (see `resampling`).

The challenger is `better` when the whole interval lies above 0, and `worse` when it lies below what is allowed to be
lost. Of two models without a difference, at most 2.5 % are called worse, and 2.5 % better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from ..text import many
from .formulas import Array
from .metric import FOOTPRINT, TRAINING, Metric
from .predictions import Predictions
from .resampling import CHANCE, DRAWS, SEED, Units, around, bootstrap, of_placements, placements, standard_error

POWER = 0.8
"""Chance of telling, with as many rows as are said to be enough."""
_WITHOUT_ROWS = (*FOOTPRINT, *TRAINING)
Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Comparison:
    """A metric of two models.

    Attributes:
        metric: its name.
        challenger, champion: the values.
        gain: how much better the challenger is.
        allowed: how much worse it may be.
        low, high: the 95 % interval of the gain; None when nothing can be said about chance.
        rows: how many rows both have; `units` of them are independent (blocks, where blocks were asked for).
        units: see above.
        method: `DeLong`, `McNemar`, `bootstrap of rows`, `bootstrap of blocks`, or `recorded` for values that were
            measured on different rows.
        rows_needed: see `enough`; None where that is not known or not needed.
        absent: how many more rows the champion was measured on, which the challenger has not predicted.
        note: why there is no interval.
    """

    metric: str
    challenger: float
    champion: float
    gain: float
    allowed: float = 0.0
    low: float | None = None
    high: float | None = None
    rows: int = 0
    units: int = 0
    method: str = "recorded"
    rows_needed: int | None = None
    absent: int = 0
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """What can be said. Without an interval: of values measured on other rows the values themselves decide."""
        if self.low is None or self.high is None:
            if self.method != "recorded":
                return "cannot tell"
            return "worse" if self.gain < -self.allowed else "better" if self.gain > 0 else "cannot tell"
        return "worse" if self.high < -self.allowed else "better" if self.low > 0 else "cannot tell"

    @property
    def surely_acceptable(self) -> bool:
        """Whether the challenger is certain to lose no more than is allowed.

        Values of other rows are not certain, nor is one without the rows that it has not predicted; those that need no
        rows, such as a model's size, are.
        """
        if self.absent:
            return False
        if self.low is None:
            return self.method == "recorded" and self.metric in _WITHOUT_ROWS and self.gain >= -self.allowed
        return self.low > 0 or self.low >= -self.allowed

    def sentence(self) -> str:
        """The finding in words."""
        if self.low is None or self.high is None:
            return self.note
        said = f"{self.verdict}: gain {self.gain:+.4g}, 95 % between {self.low:+.4g} and {self.high:+.4g}"
        if self.verdict == "cannot tell" and self.surely_acceptable:
            said = said.replace("cannot tell", f"not worse than the allowed {self.allowed:g}", 1)
        elif self.rows_needed is not None:
            of = f"the allowed {self.allowed:g}" if self.allowed else "a difference of this size"
            said += f"; {self.rows_needed:,} rows would be enough for {of} ({POWER:.0%} power)"
        blocks = f" ({self.units:,})" if self.units != self.rows else ""
        absent = f"; without {many(self.absent, 'row')} of the champion's" if self.absent else ""
        return f"{said}; {self.method}{blocks}{absent}"


def recorded(
    metric: str, challenger: float, champion: float, *, higher_is_better: bool, allowed: float = 0.0
) -> Comparison:
    """Compare two values that were measured on different rows."""
    gain = challenger - champion if higher_is_better else champion - challenger
    note = "recorded values" if metric in _WITHOUT_ROWS else "recorded values: not measured on the same rows"
    return Comparison(metric, challenger, champion, gain, allowed, note=note)


def paired(
    metric: Metric,
    challenger: Predictions,
    champion: Predictions,
    *,
    allowed: float = 0.0,
    draws: int = DRAWS,
    seed: int = SEED,
    chance: float = CHANCE,
) -> Comparison | None:
    """Compare a metric of two models' predictions of the same rows; None when one lacks what it is computed of.

    Args:
        metric: by which.
        challenger, champion: the predictions; blocks and weights are those of the challenger.
        allowed: how much worse the challenger may be.
        draws, seed: of a bootstrap.
        chance: with which the interval misses the truth; smaller where several comparisons are made.
    """
    sides = challenger.statistic(metric), champion.statistic(metric)
    if sides[0] is None or sides[1] is None:
        return None
    rows, blocks = len(challenger.label), challenger.blocks
    units = Units.of(rows, blocks, challenger.weight)
    sign = 1.0 if metric.higher_is_better else -1.0
    new, old = units.value(sides[0], rows), units.value(sides[1], rows)
    found = Comparison(metric.name, new, old, sign * (new - old), allowed, rows=rows, units=units.count)
    method, interval = _interval(metric, challenger, champion, chance)
    if not method:
        method = "bootstrap of rows" if blocks is None else "bootstrap of blocks"
        of_new, of_old = units.statistic(sides[0]), units.statistic(sides[1])
        differences = bootstrap(lambda weights: of_new(weights) - of_old(weights), units.count, rows, draws, seed)
        interval = around(new - old, standard_error(differences, units.count), units.count, chance)
    if interval is not None and not metric.higher_is_better:
        interval = -interval[1], -interval[0]
    return _told(found, method, interval, blocks is not None, chance)


def drawn(
    name: str,
    values: Sequence[float],
    error: float,
    rows: int,
    units: int,
    *,
    allowed: float,
    higher_is_better: bool,
) -> Comparison:
    """Compare two models' values of a metric, whose difference has a standard error by a bootstrap."""
    new, old = values
    sign = 1.0 if higher_is_better else -1.0
    found = Comparison(name, new, old, sign * (new - old), allowed, rows=rows, units=units)
    method = "bootstrap of rows" if units == rows else "bootstrap of blocks"
    return _told(found, method, around(sign * (new - old), error, units), units != rows)


def _told(
    found: Comparison, method: str, interval: tuple[float, float] | None, blocked: bool, chance: float = CHANCE
) -> Comparison:
    """A comparison with the interval of its gain, and with how many rows would be enough where that is not known."""
    if interval is None:
        known = "the interval is not defined on these rows"
        note = f"{known}: they are {many(found.units, 'block')}" if blocked else known
        return replace(found, method=method, note=note)
    low, high = interval
    found = replace(found, method=method, low=low, high=high)
    size = found.allowed or abs(found.gain)
    if found.verdict == "cannot tell" and not found.surely_acceptable and size:
        return replace(found, rows_needed=enough(found.rows, high - low, size, chance))
    return found


def _interval(
    metric: Metric, challenger: Predictions, champion: Predictions, chance: float
) -> tuple[str, tuple[float, float] | None]:
    """The interval of the difference by a method of the metric's own; "" where rows need a bootstrap."""
    if challenger.blocks is not None or challenger.weight is not None or challenger.label.ndim == 2:
        return "", None
    new, old = challenger.values_of(metric), champion.values_of(metric)
    assert new is not None and old is not None
    if metric.name == "accuracy":
        return "McNemar", _mcnemar(challenger.label, new, old, chance)
    if metric.name == "auc":
        return "DeLong", _delong(challenger.label, new, old, chance)
    return "", None


def enough(rows: int, width: float, size: float, chance: float = CHANCE) -> int:
    """How many rows tell a difference of a size with `POWER`, if the interval of so many rows has a width.

    n = ((z₀.₉₇₅ + z₀.₈) σ / size)², the sample size of a test of non-inferiority on pairs (S.-C. Chow, J. Shao and
    H. Wang, "Sample Size Calculations in Clinical Research", 2nd edition 2008, section 3.1), where σ / √rows is the
    standard error. With blocks, rows stand for as many more blocks of the same size.
    """
    z = stats.norm.ppf(1 - chance / 2)
    error = width / (2 * z)
    return math.ceil(float(rows * ((z + stats.norm.ppf(POWER)) * error / size) ** 2))


def _delong(label: Array, challenger: Array, champion: Array, chance: float) -> tuple[float, float] | None:
    """The interval of the difference of two areas, by the placements of each row among those of the other class."""
    (new_p, new_n), (old_p, old_n) = placements(label, challenger), placements(label, champion)
    return of_placements(new_p - old_p, new_n - old_n, chance)


def _mcnemar(
    label: NDArray[Any], challenger: NDArray[Any], champion: NDArray[Any], chance: float
) -> tuple[float, float]:
    """The interval of the difference of two accuracies: all differences that the score test does not reject.

    At a difference of 0 the test is McNemar's, without a correction for continuity.
    """
    right, was_right = label == challenger, label == champion
    won, lost, n = int(np.sum(right & ~was_right)), int(np.sum(~right & was_right)), len(label)
    z = float(stats.norm.ppf(1 - chance / 2))

    def score(difference: float) -> float:
        a, c = 2 * n, -lost * difference * (1 - difference)
        b = -won - lost + (2 * n - won + lost) * difference
        share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * share + difference * (1 - difference))
        return (won - lost - n * difference) / math.sqrt(variance) if variance > 0 else math.nan

    def end(side: float) -> float:
        near, far = (won - lost) / n - side * 1e-9, -side * (1 - 1e-9)
        if not (score(near) - side * z) * (score(far) - side * z) < 0:
            return -side  # every difference on this side is possible
        return float(optimize.brentq(lambda difference: score(difference) - side * z, near, far, xtol=1e-12))

    return end(1.0), end(-1.0)
