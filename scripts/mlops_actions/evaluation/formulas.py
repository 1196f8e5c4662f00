"""Formulas of the metrics in `metric.py`, on arrays; no estimator library is needed.

Each formula takes labels and what the metric is computed of, and gives a `Statistic`: the metric as a function of the
rows' weights. So one formula serves for rows that count alike, for sample weights, and for the resamples of a
bootstrap, and what does not depend on the weights (the order of the scores, the loss of a row) is found once.

Definitions are scikit-learn's, which tests hold them to. Labels and predictions of a binary task are 1 for the positive
class and 0 for the other one, those of a multiclass task numbers of classes from 0. A value that is not defined (one
class only) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[NDArray[Any]], Array]
"""A metric as a function of weights: of an array of draws × rows, the metric of each draw."""
MOST = 15
"""The greatest count of a row in a resample, which are given as bytes; a greater one is as good as impossible."""
LANES = 8
"""Draws of such counts that are worked on at a time: a word of 64 bits is a row of them."""
GROUP, GROUPS = 16, 128
_CELLS = 131_072
BINS = 10
"""Bins of equal width, from 0 to 1, of the metrics of calibration."""


@dataclass(frozen=True)
class Sums:
    """A metric that depends on the rows only by weighted sums over them.

    Attributes:
        columns: what is summed, rows × columns.
        combine: the metric, of the sums: an array of columns × draws.
    """

    columns: Array
    combine: Callable[[Array], Array]

    def __call__(self, weights: NDArray[Any]) -> Array:
        """The metric of each draw."""
        size = max(1, _CELLS // len(weights))  # as many rows at a time as stay in the processor's cache, as floats
        pieces = (slice(start, start + size) for start in range(0, len(self.columns), size))
        sums = sum(weights[:, piece] @ self.columns[piece] for piece in pieces)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.combine(np.asarray(sums).T), dtype=float)

    def weighted(self, weight: Array) -> Sums:
        """The same of rows that count by a weight."""
        return Sums(self.columns * weight[:, None], self.combine)

    def of_units(self, units: NDArray[np.intp], count: int) -> Sums:
        """The same with the sums of each unit in the place of its rows."""
        return Sums(by(units, self.columns.T, count).T, self.combine)


def by(codes: NDArray[np.intp], weights: Iterable[NDArray[Any]], size: int) -> Array:
    """The sums of weights by code: of the rows of each draw an array of draws × codes."""
    return np.stack([np.bincount(codes, one, minlength=size) for one in weights])


def over(part: Array, whole: Array) -> Array:
    """A share; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def mean(values: Array) -> Sums:
    """The mean of a value of each row."""
    columns = np.column_stack([np.ones(len(values)), values])
    return Sums(columns, lambda s: s[1] / s[0])


def auc(label: Array, score: Array) -> Statistic:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half."""
    there = label > 0.5
    # among equal scores once the negative rows are first, and once the positive ones: the mean counts each tie half
    first, last = np.lexsort((there, score)), np.lexsort((~there, score))
    wins = [_wins(order, there) for order in ([first] if np.array_equal(first, last) else [first, last])]

    def of(weights: NDArray[Any]) -> Array:
        with np.errstate(invalid="ignore"):
            found = [np.mean([np.divide(*one(draws)) for one in wins], axis=0) for draws in _packed(weights)]
        return np.concatenate(found)[: len(weights)]

    return of


def _packed(weights: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some draws at a time, as arrays of rows × draws whose row is a word: `LANES` of counts, or one of floats."""
    counts = weights.dtype == np.uint8
    for start in range(0, len(weights), LANES if counts else 1):
        some = weights[start : start + (LANES if counts else 1)]
        if counts and len(some) < LANES:
            some = np.pad(some, ((0, LANES - len(some)), (0, 0)))
        yield np.ascontiguousarray(some.T, dtype=np.uint8 if counts else np.float64)


def _wins(order: NDArray[np.intp], there: NDArray[np.bool_]) -> Callable[[NDArray[Any]], tuple[Array, Array]]:
    """Of each draw the weight of pairs whose negative row comes before the positive one in an order, and of all pairs.

    The order is cut into blocks that stay in the processor's cache, a block into groups of `GROUP` groups of `GROUP`
    rows. In a block the n-th rows of all groups are beside each other, so that running sums within all groups are one
    addition of arrays a row; so it is with the sums of groups in turn, and only the sums of these are summed one after
    the other. Products and sums of `GROUP` counts of at most `MOST` fit 16 bits.
    """
    wide = min(GROUPS, -(-len(order) // GROUP**2))
    blocks = []
    for start in range(0, len(order), wide * GROUP**2):
        rows = order[start : start + wide * GROUP**2]
        places = np.full(wide * GROUP**2, -1)
        places[: len(rows)] = rows
        places = np.ascontiguousarray(places.reshape(wide, GROUP, GROUP).T.reshape(GROUP, GROUP * wide))
        absent = np.flatnonzero(places.ravel() < 0)
        places = np.maximum(places, 0)
        blocks.append((places, absent, -(~there[places]).astype(np.int64)))  # words of ones are rows that are negative

    def of(draws: NDArray[Any]) -> tuple[Array, Array]:
        words, lanes = draws.view(np.int64)[:, 0], draws.shape[1]
        kind = np.uint16 if draws.dtype == np.uint8 else np.float64
        won, before, all_positive = np.zeros(lanes), np.zeros(lanes), np.zeros(lanes)
        for places, absent, negative in blocks:
            taken = words.take(places)
            taken.reshape(-1)[absent] = 0
            lower = taken & negative
            taken ^= lower
            low, high, inside = _joined(lower.view(draws.dtype), taken.view(draws.dtype), kind)
            groups, positives, within = (sums.reshape(GROUP, -1).astype(np.float64) for sums in (low, high, inside))
            low, high, inside = _joined(groups, positives, np.float64)
            inside += within.sum(0)
            low, high, inside = (sums.reshape(-1, lanes) for sums in (low, high, inside))
            through = before + low.cumsum(0)
            won += (inside + high * (through - low)).sum(0)
            before = through[-1]
            all_positive += high.sum(0)
        return won, before * all_positive

    return of


def _joined(low: NDArray[Any], high: NDArray[Any], kind: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of each column the sums of both, and of each of `high` times all of `low` above it; `low` is used up."""
    for row in range(1, len(low)):
        np.add(low[row - 1], low[row], out=low[row])
    inside = low[:-1].astype(kind)
    inside *= high[1:]
    return low[-1], high.sum(0, dtype=kind), inside.sum(0, dtype=kind)


def average_precision(label: Array, score: Array) -> Statistic:
    """Precision averaged over the steps of recall, equal scores being one step."""
    order = np.argsort(-score, kind="stable")
    there = label[order] > 0.5
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)

    def of(weights: NDArray[Any]) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.array([_precise(draw.take(order), there, ends) for draw in weights])

    return of


def _precise(ordered: NDArray[Any], there: NDArray[np.bool_], ends: NDArray[np.intp]) -> float:
    """The average precision of rows in the order of falling scores, of which `ends` are the last ones of a score."""
    total, hits = (np.cumsum(values, dtype=float)[ends] for values in (ordered, ordered * there))
    return float((np.diff(hits, prepend=0.0) * over(hits, total)).sum() / hits[-1])


def log_loss(label: Array, score: Array) -> Sums:
    """Mean negative log-likelihood, in nats; of a multiclass task from probabilities of each class.

    As in scikit-learn, a probability is at least one epsilon of its type away from 0 and 1.
    """
    epsilon = np.finfo(score.dtype).eps
    if score.ndim == 2:
        there = np.take_along_axis(score, label.astype(np.intp)[:, None], 1)[:, 0]
        return mean(-np.log(np.clip(there, epsilon, 1 - epsilon).astype(np.float64)))
    there, not_there = (np.clip(p, epsilon, 1 - epsilon).astype(np.float64) for p in (score, 1 - score))
    return mean(-np.where(label > 0.5, np.log(there), np.log(not_there)))


def brier(label: Array, score: Array) -> Sums:
    """Mean squared error of the probabilities."""
    return mean((score - label) ** 2)


def accuracy(label: NDArray[Any], prediction: NDArray[Any]) -> Sums:
    """Share of rows predicted right; of a multilabel task with all labels right."""
    right = label == prediction
    return mean((right.all(1) if right.ndim == 2 else right).astype(float))


def _confusion(label: Array, prediction: Array, combine: Callable[[Array], Array]) -> Sums:
    """A metric of the sums of hits, rows predicted as 1, rows that are 1, and all rows."""
    there, said = label == 1, prediction == 1
    return Sums(np.column_stack([there & said, said, there, np.ones(len(label))]).astype(float), combine)


def precision(label: Array, prediction: Array) -> Sums:
    """Share of the rows predicted as 1 that are; 0 where there are none."""
    return _confusion(label, prediction, lambda s: over(s[0], s[1]))


def recall(label: Array, prediction: Array) -> Sums:
    """Share of the rows that are 1 which are predicted so; 0 where there are none."""
    return _confusion(label, prediction, lambda s: over(s[0], s[2]))


def f1(label: Array, prediction: Array) -> Sums:
    """The harmonic mean of precision and recall; 0 where there is nothing to divide by."""
    return _confusion(label, prediction, lambda s: over(2 * s[0], s[1] + s[2]))


def rmse(label: Array, score: Array) -> Sums:
    """Root of the mean squared error, in the label's unit."""
    squares = mean((score - label) ** 2)
    return Sums(squares.columns, lambda s: np.sqrt(s[1] / s[0]))


def mae(label: Array, score: Array) -> Sums:
    """Mean absolute error, in the label's unit."""
    return mean(np.abs(score - label))


def r2(label: Array, score: Array) -> Sums:
    """Share of the label's variance that is explained; NaN when it has none."""
    middle = label - label.mean()
    columns = np.column_stack([np.ones(len(label)), middle, middle**2, (score - label) ** 2])

    def combine(s: Array) -> Array:
        total = s[2] - s[1] ** 2 / s[0]
        return np.where(total > 1e-12 * s[2], 1 - s[3] / total, np.nan)

    return Sums(columns, combine)


def mse(label: Array, score: Array) -> Sums:
    """Mean squared error."""
    return mean((score - label) ** 2)


def mape(label: Array, score: Array) -> Sums:
    """Mean absolute error as a share of the label; as in scikit-learn a label of 0 counts as one epsilon."""
    return mean(np.abs(score - label) / np.maximum(np.abs(label), np.finfo(np.float64).eps))


def smape(label: Array, score: Array) -> Sums:
    """Symmetric mean absolute percentage error as a share, from 0 to 2; 0 for 0 forecast as 0.

    S. Makridakis, E. Spiliotis and V. Assimakopoulos, "The M4 Competition", International Journal of Forecasting 36,
    2020, without their factor of 100.
    """
    return mean(2 * over(np.abs(score - label), np.abs(label) + np.abs(score)))


def pinball(label: Array, score: Array, at: float) -> Sums:
    """Mean pinball loss of a forecast of a quantile, in the label's unit."""
    short = label - score
    return mean(np.maximum(at * short, (at - 1) * short))


def mase(label: Array, score: Array, scale: Array) -> Sums:
    """Mean absolute error, scaled by what the season-naive forecast has in the history of the series.

    R. Hyndman and A. Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting 22,
    2006.
    """
    return mean(np.abs(score - label) / scale)


def _of_classes(
    label: NDArray[Any], prediction: NDArray[Any], combine: Callable[[Array, Array, Array], Array]
) -> Statistic:
    """A metric of the sums of each class: hits, rows predicted as it, rows of it; arrays of draws × classes."""
    size = int(max(label.max(), prediction.max())) + 1
    hit = np.flatnonzero(label == prediction)

    def of(weights: NDArray[Any]) -> Array:
        hits = by(label[hit], weights.take(hit, axis=1), size)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(combine(hits, by(prediction, weights, size), by(label, weights, size)))

    return of


def f1_macro(label: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
    """The mean of the F1 of each class in the labels or predictions; of a multilabel task, of each label."""
    if label.ndim == 2:
        return _confusion_of_labels(label, prediction, lambda hit, said, there: over(2 * hit, said + there).mean(0))
    return _of_classes(
        label, prediction,
        lambda hit, said, there: over(2 * hit, said + there).sum(1) / (said + there > 0).sum(1),
    )  # fmt: skip


def f1_weighted(label: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
    """The mean of the F1 of each class, by how many rows it has."""
    return _of_classes(
        label, prediction, lambda hit, said, there: (over(2 * hit, said + there) * there).sum(1) / there.sum(1)
    )


def balanced_accuracy(label: NDArray[Any], prediction: NDArray[Any]) -> Statistic:
    """The mean of the recall of each class that is in the labels."""
    return _of_classes(label, prediction, lambda hit, _, there: over(hit, there).sum(1) / (there > 0).sum(1))


def top_accuracy(label: NDArray[Any], score: Array, at: float) -> Sums:
    """Share of rows whose class is among the `at` with the highest scores; of equal scores the later class is first."""
    top = np.argsort(score, axis=1, kind="stable")[:, ::-1][:, : int(at)]
    return mean((top == label[:, None]).any(1).astype(float))


def _one_against_rest(
    label: NDArray[Any], score: Array, of_one: Callable[[Array, Array], Statistic], *, weighted: bool
) -> Statistic:
    sides = label if label.ndim == 2 else (label[:, None] == np.arange(score.shape[1]))
    sides = sides.astype(np.float64)
    parts = [of_one(sides[:, number], score[:, number]) for number in range(score.shape[1])]

    def of(weights: NDArray[Any]) -> Array:
        values = np.stack([part(weights) for part in parts])
        share = (weights @ sides).T if weighted else np.ones_like(values)
        return np.asarray((values * share).sum(0) / share.sum(0))

    return of


def auc_macro(label: NDArray[Any], score: Array) -> Statistic:
    """The mean of the area under the ROC curve of each class against the rest; of a multilabel task, of each label."""
    return _one_against_rest(label, score, auc, weighted=False)


def auc_weighted(label: NDArray[Any], score: Array) -> Statistic:
    """The same, by how many rows each class has."""
    return _one_against_rest(label, score, auc, weighted=True)


def average_precision_macro(label: NDArray[Any], score: Array) -> Statistic:
    """The mean of the average precision of each label."""
    return _one_against_rest(label, score, average_precision, weighted=False)


def _binned(label: Array, score: Array, combine: Callable[[Array, Array, Array], Array]) -> Statistic:
    """A metric of the sums of each bin: rows, scores, labels; arrays of draws × bins."""
    bins = np.minimum((score * BINS).astype(np.intp), BINS - 1)

    def of(weights: NDArray[Any]) -> Array:
        scores, labels = (by(bins, (draw * values for draw in weights), BINS) for values in (score, label))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(combine(by(bins, weights, BINS), scores, labels))

    return of


def ece(label: Array, score: Array) -> Statistic:
    """Expected calibration error: how far the mean score of a bin is from its share of positives, over all rows.

    M. Naeini, G. Cooper and M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015; ten
    bins of equal width.
    """
    return _binned(label, score, lambda n, said, there: np.abs(said - there).sum(1) / n.sum(1))


def brier_reliability(label: Array, score: Array) -> Statistic:
    """The part of the Brier score that calibration could save; 0 is best.

    A. Murphy, "A New Vector Partition of the Probability Score", Journal of Applied Meteorology 12, 1973, with ten bins
    of equal width: the Brier score is reliability - resolution + uncertainty, but for what scores vary in a bin.
    """
    return _binned(label, score, lambda n, said, there: over((said - there) ** 2, n).sum(1) / n.sum(1))


def brier_resolution(label: Array, score: Array) -> Statistic:
    """How far the shares of positives in the bins are from that of all rows, squared; more is better."""

    def combine(n: Array, _: Array, there: Array) -> Array:
        share = (there.sum(1) / n.sum(1))[:, None]
        return np.asarray(((over(there, n) - share) ** 2 * n).sum(1) / n.sum(1))

    return _binned(label, score, combine)


def brier_uncertainty(label: Array, _: Array) -> Sums:
    """The Brier score of a predictor that knows only the share of positives."""
    return Sums(np.column_stack([np.ones(len(label)), label]), lambda s: s[1] / s[0] * (1 - s[1] / s[0]))


def _of_queries(values: Array, counted: NDArray[np.bool_], query: NDArray[np.intp]) -> Sums:
    """The mean of a value of each query, kept at its first row: whole queries are what weights are for."""
    first = np.unique(query, return_index=True)[1]
    columns = np.zeros((len(query), 2))
    columns[first, 0], columns[first, 1] = counted, np.where(counted, values, 0.0)
    return Sums(columns, lambda s: s[1] / s[0])


def ndcg(label: Array, score: Array, query: NDArray[np.intp], at: float) -> Sums:
    """Normalised discounted cumulative gain of each query, of its `at` first rows (0: of all), averaged.

    The gain of a row is its label, discounted by log₂(rank + 1). Rows of equal scores share their discounts, and a
    query without gain counts 0: both as in scikit-learn.
    """
    reached, best = (_discounted(label, by_, query, at) for by_ in (score, label))
    return _of_queries(over(reached, best), np.ones(len(reached), dtype=bool), query)


def _discounted(label: Array, score: Array, query: NDArray[np.intp], at: float) -> Array:
    order, rank = _ranked(score, query)
    discount = 1 / np.log2(rank + 1)
    if at:
        discount[rank > at] = 0
    ties = np.cumsum(np.append(True, (np.diff(score[order]) != 0) | (np.diff(query[order]) != 0))) - 1
    shared = (np.bincount(ties, discount) / np.bincount(ties))[ties]
    return np.bincount(query[order], shared * label[order]).astype(np.float64)


def _ranked(score: Array, query: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order of rows by query and falling score, and the rank of each row so ordered in its query, from 1."""
    order = np.lexsort((-score, query))
    counts = np.bincount(query)
    starts = np.cumsum(counts) - counts
    return order, np.arange(len(order)) - starts[query[order]] + 1


def map(label: Array, score: Array, query: NDArray[np.intp]) -> Sums:
    """Mean average precision: that of each query that has a row with a label over 0, equal scores being one step."""
    order, rank = _ranked(score, query)
    q, there = query[order], (label[order] > 0).astype(np.float64)
    total = np.bincount(q, there).astype(np.float64)
    hits = np.cumsum(there) - (np.cumsum(total) - total)[q]
    last = np.append((np.diff(score[order]) != 0) | (np.diff(q) != 0), True)
    ends = np.flatnonzero(last)
    steps = np.diff(np.append(0.0, np.cumsum(there)[ends]))  # positives of each step
    found = np.bincount(q[ends], steps * hits[ends] / rank[ends], minlength=len(total)).astype(np.float64)
    return _of_queries(over(found, total), total > 0, query)


def mrr(label: Array, score: Array, query: NDArray[np.intp]) -> Sums:
    """Mean reciprocal rank of the first row with a label over 0, of each query that has one; of equal scores the last.

    So a model that gives all rows one score gains nothing by the order of the file.
    """
    best = np.full(int(query.max()) + 1, -np.inf)
    np.maximum.at(best, query[label > 0], score[label > 0])
    rank = np.bincount(query, score >= best[query], minlength=len(best)).astype(np.float64)
    counted = np.isfinite(best)
    return _of_queries(np.where(counted, over(np.ones(len(best)), rank), 0), counted, query)


def classes_of(probability: Array) -> Array:
    """The class, 0 or 1, that a probability of the positive class stands for."""
    return (probability >= 0.5).astype(float)


def is_probability(score: Array) -> bool:
    """Whether all scores are between 0 and 1."""
    return bool(len(score)) and float(score.min()) >= 0 and float(score.max()) <= 1


def f1_micro(label: Array, prediction: Array) -> Sums:
    """F1 of all labels of all rows together."""
    return _confusion_of_labels(label, prediction, lambda hit, said, there: over(2 * hit.sum(0), (said + there).sum(0)))


def hamming_loss(label: Array, prediction: Array) -> Sums:
    """Share of labels that are wrong."""
    return mean((label != prediction).mean(1))


def _confusion_of_labels(label: Array, prediction: Array, combine: Callable[[Array, Array, Array], Array]) -> Sums:
    count = label.shape[1]
    columns = np.column_stack([label * prediction, prediction, label])
    return Sums(columns, lambda s: combine(s[:count], s[count : 2 * count], s[2 * count :]))
