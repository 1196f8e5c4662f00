"""What a report draws of predictions, as numbers: curves of a few hundred points at most, and the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formulas
from .predictions import Predictions

POINTS = 100
"""Of a curve; more cannot be told apart in a picture."""
CLASSES = 12
"""Of a confusion matrix: the most frequent ones."""


def curves(found: Predictions) -> dict[str, Any]:
    """What suits the task: `roc`, `pr` and `calibration`, `confusion`, or `predicted`. Curves are lists of points.

    Nothing where the predictions have nothing to draw.
    """
    label, score = found.label, found.score
    if found.task == "binary" and score is not None and 0 < label.mean() < 1:
        made: dict[str, Any] = {"roc": _points(*roc(label, score)), "pr": _points(*precision_recall(label, score))}
        if found.predicted is not None:  # the scores are probabilities
            made["calibration"] = _points(*calibration(label, score))
            names = tuple(found.classes) if len(found.classes) == 2 else ("negative", found.positive or "positive")
            made["confusion"] = _confusion(label.astype(int), found.predicted.astype(int), names)
        return made
    if found.task == "multiclass" and found.predicted is not None:
        return {"confusion": _confusion(label, found.predicted, found.classes)}
    if found.task in ("regression", "forecasting") and score is not None:
        return {"predicted": _points(label, score)}
    return {}


def calibration(label: formulas.Array, score: formulas.Array, bins: int = 10) -> tuple[formulas.Array, formulas.Array]:
    """Mean score and observed share of positives in bins of equal numbers of rows, from the lowest scores up."""
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), bins) if len(part)]
    return np.array([score[part].mean() for part in parts]), np.array([label[part].mean() for part in parts])


def roc(label: formulas.Array, score: formulas.Array) -> tuple[formulas.Array, formulas.Array]:
    """False and true positive rates at each distinct score, from (0, 0) to (1, 1)."""
    hits, false = _counts(label, score)
    return np.append(0.0, false / false[-1]), np.append(0.0, hits / hits[-1])


def precision_recall(label: formulas.Array, score: formulas.Array) -> tuple[formulas.Array, formulas.Array]:
    """Recall and precision at each distinct score, from the highest on, as scikit-learn's `precision_recall_curve`."""
    hits, false = _counts(label, score)
    return hits / hits[-1], hits / (hits + false)


def _counts(label: formulas.Array, score: formulas.Array) -> tuple[formulas.Array, formulas.Array]:
    """True and false positives when all rows from a score up are taken for positive, at each distinct score."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(label[order] > 0.5)[ends]
    return hits, ends + 1 - hits


def _confusion(label: NDArray[Any], predicted: NDArray[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """How many rows of each class were predicted as each; rows are the true classes, those with most rows."""
    sizes = np.bincount(label, minlength=len(names))
    kept = np.sort(np.argsort(-sizes, kind="stable")[:CLASSES])
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (label, predicted), 1)
    return {"classes": [str(names[one]) for one in kept], "counts": counts[np.ix_(kept, kept)].tolist()}


def _points(x: formulas.Array, y: formulas.Array) -> list[list[float]]:
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    return [[float(f"{a:.4g}"), float(f"{b:.4g}")] for a, b in zip(x[kept].tolist(), y[kept].tolist())]
