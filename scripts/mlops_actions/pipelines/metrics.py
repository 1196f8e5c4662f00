"""Metrics that components logged to their Metrics and ClassificationMetrics artifacts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .engine import Artifact

CLASSIFICATION = ("system.ClassificationMetrics", "system.SlicedClassificationMetrics")
METRICS = ("system.Metrics", *CLASSIFICATION)
_PICTURES = ("confusionMatrix", "confidenceMetrics", "evaluationMetrics")
_ROC_POINTS = 60  # enough for a curve; scikit-learn may give one for each row of the test data


def flat_metrics(artifacts: Iterable[Artifact]) -> dict[str, float]:
    """Every logged number by its name; by `task.name`, or `task.artifact.name`, when several have the same name."""
    found = [
        (artifact, name, value)
        for artifact in artifacts
        if artifact.type in METRICS
        for name, value in artifact.metadata.items()
        if _is_number(value) and name not in _PICTURES
    ]
    plain = Counter(name for _, name, _ in found)
    of_task = Counter((artifact.task, name) for artifact, name, _ in found)
    metrics = {}
    for artifact, name, value in found:
        if plain[name] == 1:
            key = name
        elif of_task[artifact.task, name] == 1:
            key = f"{artifact.task}.{name}"
        else:
            key = f"{artifact.task}.{artifact.name}.{name}"
        metrics[key] = value
    return metrics


def left_out(artifacts: Iterable[Artifact]) -> list[str]:
    """What was logged as a metric and is none, a sentence each: NaN, an infinity (JSON has neither), text."""
    return [
        f"The metric {artifact.task}.{name} is "
        + ("not a finite number" if value is None or isinstance(value, float) else f"{str(value)!r}, not a number")
        + ", and is left out"
        for artifact in artifacts
        if artifact.type in METRICS
        for name, value in artifact.metadata.items()
        if value is None or (artifact.type == "system.Metrics" and not _is_number(value))
    ]


def classifications(artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """The confusion matrix (`categories`, `matrix`: a row a true class) and ROC (`fpr`, `tpr`, `threshold`) of each
    ClassificationMetrics artifact that has one.
    """
    found = []
    for artifact in artifacts:
        if artifact.type not in CLASSIFICATION:
            continue
        entry: dict[str, Any] = {"task": artifact.task, "name": artifact.name}
        matrix = artifact.metadata.get("confusionMatrix")
        if isinstance(matrix, Mapping):
            entry["categories"] = [str(spec.get("displayName", "")) for spec in matrix.get("annotationSpecs", [])]
            entry["matrix"] = [list(row.get("row", [])) for row in matrix.get("rows", [])]
        points = artifact.metadata.get("confidenceMetrics")
        if isinstance(points, list) and points:
            entry["roc"] = [
                {
                    "fpr": point.get("falsePositiveRate", 0.0),
                    "tpr": point.get("recall", 0.0),
                    "threshold": point.get("confidenceThreshold", 0.0),
                }
                for point in _thinned(points)
            ]
        if len(entry) > 2:
            found.append(entry)
    return found


def logged(artifact: Artifact) -> dict[str, Any]:
    """What was logged to an artifact, without curves and matrices, which may be too long for a step's output."""
    return {name: value for name, value in artifact.metadata.items() if name not in _PICTURES}


def _thinned(points: list[Any]) -> list[Any]:
    """Points of a curve, evenly taken, with the first and the last."""
    if len(points) <= _ROC_POINTS:
        return points
    step = (len(points) - 1) / (_ROC_POINTS - 1)
    return [points[round(i * step)] for i in range(_ROC_POINTS)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
