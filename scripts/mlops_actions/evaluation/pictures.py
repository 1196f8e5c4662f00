"""Pictures of an evaluation, as PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there is no screen on a runner

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from . import formulas
from .predictions import Predictions

BLUE, GREY, RED = "#0969da", "#8c959f", "#cf222e"
_POINTS = 5_000


def draw(found: Predictions, path: Path) -> Path | None:
    """Draw what suits the task: ROC and calibration, the confusion matrix, or predicted against actual.

    None when the predictions have nothing to draw.
    """
    if found.task == "binary" and found.score is not None and 0 < found.label.mean() < 1:
        figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
        _roc(axes[0], found.label, found.score)
        _calibration(axes[1], found.label, found.score)
        _scores(axes[2], found.label, found.score)
    elif found.task == "multiclass" and found.prediction is not None:
        figure, axis = plt.subplots(figsize=(5.5, 5), layout="constrained")
        names = np.array(found.classes, dtype=object)
        _confusion(axis, names[found.label], names[found.prediction])
    elif found.task in ("regression", "forecasting") and found.score is not None:
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
        _residuals(axes[0], axes[1], found.label, found.score)
    else:
        return None
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def calibration(label: formulas.Array, score: formulas.Array, bins: int = 10) -> tuple[formulas.Array, formulas.Array]:
    """Mean score and observed share of positives in bins of equal numbers of rows, from the lowest scores up."""
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), bins) if len(part)]
    return np.array([score[part].mean() for part in parts]), np.array([label[part].mean() for part in parts])


def roc(label: formulas.Array, score: formulas.Array) -> tuple[formulas.Array, formulas.Array]:
    """False and true positive rates at each distinct score, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum(label[order] > 0.5)[ends]
    false = ends + 1 - hits
    return np.append(0.0, false / false[-1]), np.append(0.0, hits / hits[-1])


def _roc(axis: Axes, label: formulas.Array, score: formulas.Array) -> None:
    x, y = roc(label, score)
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    axis.plot(x, y, color=BLUE)
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    _finish(axis, f"ROC, area {area:.3f}", "false positive rate", "true positive rate")
    axis.set_aspect("equal")


def _calibration(axis: Axes, label: formulas.Array, score: formulas.Array) -> None:
    x, y = calibration(label, score)
    top = float(max(x.max(), y.max())) * 1.05
    axis.plot([0, top], [0, top], color=GREY, linestyle=":", linewidth=1)
    axis.plot(x, y, color=BLUE, marker="o", markersize=4)
    _finish(axis, "Calibration, tenths of the rows", "mean score", "share of positives")


def _scores(axis: Axes, label: formulas.Array, score: formulas.Array) -> None:
    edges = np.linspace(float(score.min()), float(score.max()) or 1.0, 41)
    for value, name, color in ((0, "negative", GREY), (1, "positive", RED)):
        part = score[label == value]
        axis.hist(
            part.tolist(), edges.tolist(), weights=np.full(len(part), 1 / len(part)), color=color, alpha=0.6, label=name
        )
    axis.legend(frameon=False, fontsize=9)
    _finish(axis, "Scores by label", "score", "share of rows")


def _confusion(axis: Axes, label: NDArray[np.object_], prediction: NDArray[np.object_]) -> None:
    names, counts = np.unique(label, return_counts=True)
    names = np.sort(names[np.argsort(-counts)][:12])
    shares = np.array([[np.mean(prediction[label == row] == column) for column in names] for row in names])
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.5 else "black"
        axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color=color)
    axis.set_xticks(range(len(names)), [str(name) for name in names], rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), [str(name) for name in names], fontsize=8)
    axis.set(title="Share of each class predicted as", xlabel="predicted", ylabel="actual")


def _residuals(left: Axes, right: Axes, label: formulas.Array, score: formulas.Array) -> None:
    kept = np.linspace(0, len(label) - 1, min(len(label), _POINTS)).astype(int)
    ends = [float(min(label.min(), score.min())), float(max(label.max(), score.max()))]
    left.plot(ends, ends, color=GREY, linestyle=":", linewidth=1)
    left.scatter(label[kept], score[kept], s=6, alpha=0.3, color=BLUE, linewidths=0)
    _finish(left, "Predicted against actual", "actual", "predicted")
    right.hist((score - label)[kept].tolist(), 40, color=BLUE)
    _finish(right, "Errors", "predicted - actual", "rows")


def _finish(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
