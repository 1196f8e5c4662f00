"""Distances of two distributions, and how likely they are by chance; `drift.py` says what each is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

_EXPECTED = 5.0  # W. G. Cochran's rule for the chi-square test, 1954
_MANY = 20.0  # rows of a bin with which G is as good as chi-square


def psi(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any]) -> float:
    """The population stability index of two arrays of shares, none of which is 0."""
    return float(np.sum((current - reference) * np.log(current / reference)))


def excess(before: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> float:
    """How far the shares of two arrays of counts are apart, beyond what chance makes of rare bins; 0 or more.

    It is Σ (p - q)² / m, m the share in both together, which is near the PSI of small moves; of disjoint bins it is 4
    where both have as many rows. Pearson's chi-square is this times the rows, and without a move its mean is
    (bins - 1)·N / (N - 1), whatever they hold (J. B. S. Haldane, 1940), which is taken off.
    """
    rows, own, total = float(before.sum()), float(now.sum()), float(before.sum() + now.sum())
    if not rows or not own:
        return 0.0
    pooled = before + now
    chi_square = float(((now - own * pooled / total) ** 2 / pooled).sum()) * total**2 / (rows * own)
    by_chance = (len(pooled) - 1) * total / (total - 1)
    return max(0.0, chi_square - by_chance) * total / (rows * own)


def jensen_shannon(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any]) -> float:
    """The Jensen-Shannon distance of two arrays of shares, with base 2: from 0 to 1."""
    middle = (reference + current) / 2
    divergence = (special.rel_entr(reference, middle) + special.rel_entr(current, middle)).sum() / 2
    return float(np.sqrt(max(0.0, divergence / np.log(2))))


def homogeneity(before: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> float:
    """The p-value of the hypothesis that two arrays of counts have the same shares; 1 where there is one bin.

    Pearson's chi-square test; where a bin expects fewer than `_EXPECTED` rows, Wilks' likelihood-ratio test, whose
    statistic G is bounded by the logarithm of how unlikely a rare row is, and so does not take one for drift.
    """
    observed = np.array([before, now], dtype=float)
    if observed.shape[1] < 2:
        return 1.0
    rows, columns = observed.sum(axis=1, keepdims=True), observed.sum(axis=0)
    expected = rows * columns / observed.sum()
    freedom = observed.shape[1] - 1
    if expected.min() >= _EXPECTED:
        return float(special.chdtrc(freedom, ((observed - expected) ** 2 / expected).sum()))
    statistic = 2 * special.rel_entr(observed, expected).sum()
    mean, variance = _moments_of_g(columns, float(rows.min() / rows.sum()))
    by_moments = special.gammaincc(mean**2 / variance, statistic * mean / variance) if variance else 1.0
    return float(max(by_moments, special.chdtrc(freedom, statistic)))


def _moments_of_g(counts: np.ndarray[Any, Any], share: float) -> tuple[float, float]:
    """Mean and variance of G for bins with these counts in both tables, of which one has a share of the rows.

    A bin's rows in the smaller table are binomial. With many rows a bin adds 1 and 2, with few of them more or less.
    """
    mean = variance = 0.0
    for count, times in zip(*np.unique(counts, return_counts=True)):
        if count * share >= _MANY:
            own_mean, own_variance = 1.0, 2.0
        else:
            seen = np.arange(min(int(count), int(_MANY + 12 * np.sqrt(_MANY))) + 1.0)
            chance = np.exp(
                special.gammaln(count + 1) - special.gammaln(seen + 1) - special.gammaln(count - seen + 1)
                + special.xlogy(seen, share) + special.xlog1py(count - seen, -share)
            )  # fmt: skip
            parts = special.rel_entr(seen, count * share) + special.rel_entr(count - seen, count * (1 - share))
            own_mean = float((chance * 2 * parts).sum())
            own_variance = float((chance * (2 * parts - own_mean) ** 2).sum())
        mean, variance = mean + times * own_mean, variance + times * own_variance
    bound = 1 - 1 / len(counts)  # the number of rows of each table is given
    return mean * bound, variance * bound


def kolmogorov_smirnov(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The two-sample statistic of sorted numbers, and its p-value by Kolmogorov's limiting distribution."""
    distance = 0.0
    for points in (x, y):
        shares = (np.searchsorted(values, points, side="right") / len(values) for values in (x, y))
        distance = max(distance, float(np.abs(np.subtract(*shares)).max()))
    return distance, float(special.kolmogorov(distance * np.sqrt(len(x) * len(y) / (len(x) + len(y)))))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's method, in their order."""
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.minimum(1, np.maximum.accumulate(np.array(p)[order] * factors)) if len(p) else np.array([])
    back: list[float] = adjusted[np.argsort(order)].tolist()
    return back
