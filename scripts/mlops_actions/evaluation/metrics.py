"""All metrics of predictions, and those of a baseline that knows nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formulas import Array, classes_of, is_probability
from .metric import Task, computed


def compute(task: Task, label: NDArray[Any], score: Array | None, prediction: NDArray[Any] | None) -> dict[str, float]:
    """All metrics that the task and the columns allow; those that are not defined (one class only) are left out."""
    probability = score if score is not None and is_probability(score) else None
    if task == "binary" and prediction is None and probability is not None:
        prediction = classes_of(probability)
    of = {"score": score, "probability": probability, "prediction": prediction}
    found = {m.name: m.function(label, values) for m in computed(task) if (values := of[m.of]) is not None}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def baseline(task: Task, label: NDArray[Any]) -> dict[str, float]:
    """The metrics of a predictor that knows only the labels' distribution: the prevalence, mean or commonest class."""
    if task == "multiclass":
        classes, counts = np.unique(label, return_counts=True)
        return compute(task, label, None, np.full(len(label), classes[counts.argmax()]))
    constant = np.full(len(label), float(np.mean(label)))
    return compute(task, label, constant, None)
