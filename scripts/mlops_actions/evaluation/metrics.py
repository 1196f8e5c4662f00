"""All metrics of predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .metric import Metric, computed, find
from .predictions import Predictions
from .resampling import Units


def compute(found: Predictions, asked: Mapping[str, object] | None = None) -> dict[str, float]:
    """All metrics that the task and the columns allow; those that are not defined (one class only) are left out.

    Args:
        found: the predictions.
        asked: names of metrics that gates name: some are computed only then.
    """
    values = {metric.name: value_of(metric, found) for metric in of_task(found, asked)}
    return {name: value for name, value in values.items() if value is not None and np.isfinite(value)}


def of_task(found: Predictions, asked: Mapping[str, object] | None = None) -> list[Metric]:
    """The metrics that are computed; of a file of scores the means of its columns of numbers."""
    if found.task != "scores":
        return computed(found.task, asked)
    known = ((name, find(name)) for name in found.classes)
    return [Metric(name, metric is None or metric.higher_is_better, "column", ("scores",)) for name, metric in known]


def value_of(metric: Metric, found: Predictions) -> float | None:
    """A metric; None when the predictions lack what it is computed of, NaN when it is not defined on them."""
    statistic = found.statistic(metric)
    return None if statistic is None else Units(found.weight, None, len(found.label)).value(statistic, len(found.label))
