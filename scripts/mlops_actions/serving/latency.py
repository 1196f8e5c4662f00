"""Is a release slower than the one that serves, or than a limit? Judgements of answers' times with three verdicts.

Both releases are asked in turn, a pair of requests at a time, each first in every other pair, so that what the machine
does meanwhile meets both. Of the two ratios, candidate's to stable's median and 95th percentile, intervals come from a
bootstrap of pairs (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). There are looks
after more and more pairs until the answer is clear; the risk of 5 % is divided among them (Bonferroni). Of two limits
that must both be kept each is tested with the whole risk (R. L. Berger, "Multiparameter Hypothesis Testing and
Acceptance Sampling", Technometrics 24, 1982).

Of a limit for a percentile it is counted how many answers took longer. If the percentile is within the limit, they are
at most that share of all, so the count is judged by the binomial distribution, whatever the times are distributed like
(W. J. Conover, "Practical Nonparametric Statistics", 1999, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["ok", "too slow", "cannot tell"]
LOOKS = (120, 240, 480, 960)
"""Pairs after which it is looked."""
_RISK = 0.05 / len(LOOKS)
_ENOUGH = 99  # the least n with 0.95^n < _RISK / 2: of fewer, even the largest may lie below the 95th percentile
_SHARES = 0.5, 0.95  # the quantiles that are compared
_DRAWS = 2_000
_SEED = 20_130_101


@dataclass(frozen=True)
class Ratio:
    """Candidate's time to stable's, with the interval that it lies in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Compared:
    """What a comparison came to. Times are seconds; `pairs` were measured; no ratio may be above `most`."""

    rule: ClassVar[str] = "max-slowdown"
    verdict: Verdict
    median: Ratio
    p95: Ratio
    pairs: int
    stable: tuple[float, float]
    candidate: tuple[float, float]
    most: float

    def __str__(self) -> str:
        old, new = (f"{1000 * one[0]:.3g} ms" for one in (self.stable, self.candidate))
        ratios = f"ratio {self.median}; 95th percentile, ratio {self.p95}"
        return f"median {old} → {new}, {ratios}; {self.pairs} pairs; the limit is {self.most:g}"

    def measured(self) -> dict[str, float]:
        """Its numbers, for a record."""
        values = {
            "stable_ms": 1000 * self.stable[0],
            "candidate_ms": 1000 * self.candidate[0],
            "stable_p95_ms": 1000 * self.stable[1],
            "candidate_p95_ms": 1000 * self.candidate[1],
            "ratio": self.median.value,
            "ratio_low": self.median.low,
            "ratio_high": self.median.high,
            "p95_ratio_low": self.p95.low,
            "p95_ratio_high": self.p95.high,
        }
        return {"pairs": self.pairs, **{name: round(value, 3) for name, value in values.items()}}


@dataclass(frozen=True)
class Limit:
    """How long answers may take: this percentile of them at most so many seconds."""

    seconds: float
    percentile: int = 95


@dataclass(frozen=True)
class Limited:
    """What a limit came to: `value` is the percentile in seconds, `over` of the `answers` took longer."""

    rule: ClassVar[str] = "max-latency-ms"
    verdict: Verdict
    value: float
    over: int
    answers: int
    limit: Limit

    def __str__(self) -> str:
        found = f"{self.limit.percentile}th percentile {1000 * self.value:.3g} ms"
        return f"{found}; {self.over} of {self.answers} took longer than the limit of {1000 * self.limit.seconds:g} ms"

    def measured(self) -> dict[str, float]:
        """Its numbers, for a record."""
        found = {f"p{self.limit.percentile}_ms": round(1000 * self.value, 3), "limit_ms": 1000 * self.limit.seconds}
        return {"answers": self.answers, "over": self.over, **found}


def within(times: Sequence[float], limit: Limit) -> Limited:
    """Judge times by a limit.

    Args:
        times: seconds of answers.
        limit: that they are to keep to.

    Returns: `ok` when few enough take longer for the percentile to be within the limit for certain, `too slow` when
        too many do, else `cannot tell`: at fewer than 99 answers of a 95th and 505 of a 99th percentile at least.
    """
    count, over, share = len(times), sum(one > limit.seconds for one in times), 1 - limit.percentile / 100
    slow, fine = at_least(over, count, share) < _RISK / 2, 1 - at_least(over + 1, count, share) < _RISK / 2
    verdict: Verdict = "too slow" if slow else "ok" if fine else "cannot tell"
    value = float(np.quantile(np.asarray(times, float), limit.percentile / 100)) if count else 0.0
    return Limited(verdict, value, over, count, limit)


def at_least(successes: int, trials: int, share: float) -> float:
    """The chance of so many successes or more (binomial); summed from logarithms, as the terms are tiny."""
    terms = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(successes, trials + 1)
    )  # fmt: skip
    return math.fsum(math.exp(term) for term in terms)


def compare(stable: Sequence[float], candidate: Sequence[float], most: float) -> Compared:
    """Judge pairs of times.

    Args:
        stable, candidate: seconds of each pair's two answers.
        most: how many times stable's the candidate's may be.

    Returns: `ok` when both intervals are within the limit, `too slow` when one is beyond it, else `cannot tell`.
    """
    old, new = np.asarray(stable, float), np.asarray(candidate, float)
    rows = np.random.default_rng(_SEED).integers(0, len(old), (_DRAWS, len(old)))
    ratios = _ratios(old, new, rows)
    slow = ratios[0].low > most or (ratios[1].low > most and len(old) >= _ENOUGH)
    fine = all(one.high <= most for one in ratios) and len(old) >= _ENOUGH
    verdict: Verdict = "too slow" if slow else "ok" if fine else "cannot tell"
    times = [(float(np.quantile(one, 0.5)), float(np.quantile(one, 0.95))) for one in (old, new)]
    return Compared(verdict, ratios[0], ratios[1], len(old), times[0], times[1], most)


def slower(stable: Sequence[float], candidate: Sequence[float], most: float) -> bool:
    """Whether the median of answers that were not given in pairs is beyond the limit for certain."""
    if min(len(stable), len(candidate)) < 10:
        return False
    random = np.random.default_rng(_SEED)
    old, new = (
        np.median(np.asarray(one, float)[random.integers(0, len(one), (_DRAWS, len(one)))], axis=1)
        for one in (stable[-LOOKS[-1] :], candidate[-LOOKS[-1] :])
    )
    return bool(np.quantile(new / old, _RISK / 2) > most)


def _ratios(old: NDArray[Any], new: NDArray[Any], rows: NDArray[Any]) -> list[Ratio]:
    """Those of the medians and of the 95th percentiles."""
    values, drawn = (
        np.quantile(a, _SHARES, axis=-1) / np.quantile(b, _SHARES, axis=-1)
        for a, b in ((new, old), (new[rows], old[rows]))
    )
    bounds = np.quantile(drawn, [_RISK / 2, 1 - _RISK / 2], axis=-1)
    return [Ratio(*map(float, one)) for one in zip(values, *bounds)]
