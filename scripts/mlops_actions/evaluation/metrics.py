"""Metrics of predictions, and a baseline that knows nothing: formulas on arrays, no estimator library needed.

Definitions are scikit-learn's, which a test holds them to. Scores of a binary task are probabilities of the positive
class; a metric that needs probabilities is left out when a score is outside 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]
HIGHER_IS_BETTER = {
    "auc": True, "average_precision": True, "accuracy": True, "f1": True, "precision": True, "recall": True,
    "f1_macro": True, "r2": True, "log_loss": False, "brier": False, "rmse": False, "mae": False,
}  # fmt: skip
PRIMARY: dict[Task, str] = {"binary": "auc", "multiclass": "f1_macro", "regression": "rmse"}
_EPSILON = 1e-15


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
    """Mean negative log-likelihood, in nats."""
    p = np.clip(score, _EPSILON, 1 - _EPSILON)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))


def brier(label: Array, score: Array) -> float:
    """Mean squared error of the probabilities."""
    return float(np.mean((score - label) ** 2))


def accuracy(label: NDArray[Any], prediction: NDArray[Any]) -> float:
    """Share of rows predicted right."""
    return float(np.mean(label == prediction))


def precision_recall_f1(label: NDArray[Any], prediction: NDArray[Any], positive: object = 1) -> tuple[float, ...]:
    """Precision, recall and their harmonic mean for one class; 0 where there is nothing to divide by."""
    hit = float(np.sum((label == positive) & (prediction == positive)))
    said, there = float(np.sum(prediction == positive)), float(np.sum(label == positive))
    f1 = 2 * hit / (said + there) if said + there else 0.0
    return hit / said if said else 0.0, hit / there if there else 0.0, f1


def f1_macro(label: NDArray[Any], prediction: NDArray[Any]) -> float:
    """The mean of each class's F1."""
    classes = np.unique(np.concatenate([label, prediction]))
    return float(np.mean([precision_recall_f1(label, prediction, c)[2] for c in classes]))


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


RANKED: dict[str, Callable[[Array, Array], float]] = {
    "auc": auc, "average_precision": average_precision, "log_loss": log_loss, "brier": brier,
    "rmse": rmse, "mae": mae, "r2": r2,
}  # fmt: skip
"""Metrics of labels and scores."""


def compute(task: Task, label: NDArray[Any], score: Array | None, prediction: NDArray[Any] | None) -> dict[str, float]:
    """All metrics that the task and the columns allow; those that are not defined (one class only) are left out."""
    found: dict[str, float] = {}
    if task == "regression" and score is not None:
        found = {"rmse": rmse(label, score), "mae": mae(label, score), "r2": r2(label, score)}
    elif task == "multiclass" and prediction is not None:
        found = {"accuracy": accuracy(label, prediction), "f1_macro": f1_macro(label, prediction)}
    elif task == "binary":
        if score is not None:
            found = {"auc": auc(label, score), "average_precision": average_precision(label, score)}
        if score is not None and is_probability(score):
            found |= {"log_loss": log_loss(label, score), "brier": brier(label, score)}
            prediction = (score >= 0.5).astype(float) if prediction is None else prediction
        if prediction is not None:
            names = ("precision", "recall", "f1")
            found |= {"accuracy": accuracy(label, prediction)}
            found |= dict(zip(names, precision_recall_f1(label, prediction)))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def baseline(task: Task, label: NDArray[Any]) -> dict[str, float]:
    """The metrics of a predictor that knows only the labels' distribution: the prevalence, mean or commonest class."""
    if task == "multiclass":
        classes, counts = np.unique(label, return_counts=True)
        return compute(task, label, None, np.full(len(label), classes[counts.argmax()]))
    constant = np.full(len(label), float(np.mean(label)))
    return compute(task, label, constant, None)


def is_probability(score: Array) -> bool:
    """Whether all scores are between 0 and 1."""
    return bool(len(score)) and float(score.min()) >= 0 and float(score.max()) <= 1
