"""Formulas of the metrics in `metric.py`, on arrays; no estimator library is needed.

Definitions are scikit-learn's, which tests hold them to. Scores of a binary task are probabilities of the positive
class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def auc(label: Array, score: Array) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half.

    By ranks (Mann-Whitney U). NaN when there is only one class.
    """
    positive = label > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(score)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def average_precision(label: Array, score: Array) -> float:
    """Precision averaged over the steps of recall, equal scores being one step."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(label[order] > 0.5)
    if not len(hits) or not hits[-1]:
        return float("nan")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def log_loss(label: Array, score: Array) -> float:
    """Mean negative log-likelihood, in nats.

    As in scikit-learn, a probability is at least one epsilon of its type away from 0 and 1.
    """
    epsilon = np.finfo(score.dtype).eps
    there, not_there = (np.clip(p, epsilon, 1 - epsilon).astype(np.float64) for p in (score, 1 - score))
    return float(-np.mean(np.where(label > 0.5, np.log(there), np.log(not_there))))


def brier(label: Array, score: Array) -> float:
    """Mean squared error of the probabilities."""
    return float(np.mean((score - label) ** 2))


def accuracy(label: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Share of rows predicted right."""
    return float(np.mean(label == prediction))


def precision(label: Array, prediction: Array) -> float:
    """Share of the rows predicted as 1 that are; 0 where there are none."""
    return _share(float(np.sum((label == 1) & (prediction == 1))), float(np.sum(prediction == 1)))


def recall(label: Array, prediction: Array) -> float:
    """Share of the rows that are 1 which are predicted so; 0 where there are none."""
    return _share(float(np.sum((label == 1) & (prediction == 1))), float(np.sum(label == 1)))


def f1(label: Array, prediction: Array) -> float:
    """The harmonic mean of precision and recall; 0 where there is nothing to divide by."""
    hit = float(np.sum((label == 1) & (prediction == 1)))
    return _share(2 * hit, float(np.sum(prediction == 1) + np.sum(label == 1)))


def f1_macro(label: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The mean of the F1 of each class that is in the labels or the predictions."""
    _, codes = np.unique(np.concatenate([label, prediction]), return_inverse=True)
    there, said = codes[: len(label)], codes[len(label) :]
    size = int(codes.max()) + 1
    hits = np.bincount(there[there == said], minlength=size)
    return float(np.mean(2 * hits / (np.bincount(there, minlength=size) + np.bincount(said, minlength=size))))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def rmse(label: Array, score: Array) -> float:
    """Root of the mean squared error, in the label's unit."""
    return float(np.sqrt(np.mean((score - label) ** 2)))


def mae(label: Array, score: Array) -> float:
    """Mean absolute error, in the label's unit."""
    return float(np.mean(np.abs(score - label)))


def r2(label: Array, score: Array) -> float:
    """Share of the label's variance that is explained; NaN when it has none."""
    total = float(np.sum((label - label.mean()) ** 2))
    return 1 - float(np.sum((score - label) ** 2)) / total if total else float("nan")


def classes_of(probability: Array) -> Array:
    """The class, 0 or 1, that a probability of the positive class stands for."""
    return (probability >= 0.5).astype(float)


def is_probability(score: Array) -> bool:
    """Whether all scores are between 0 and 1."""
    return bool(len(score)) and float(score.min()) >= 0 and float(score.max()) <= 1
