"""Two models' predictions of the same rows, compared."""

from __future__ import annotations

from typing import Any

from mlops_actions.evaluation import compare
from mlops_actions.evaluation.compare import Comparison
from mlops_actions.evaluation.metric import METRICS
from mlops_actions.evaluation.predictions import Predictions


def paired(name: str, label: Any, challenger: Any, champion: Any, **more: Any) -> Comparison:
    metric = METRICS[name]
    task = metric.tasks[0]
    of = "prediction" if metric.of == "prediction" else "score"
    given = {key: more.pop(key) for key in ("blocks", "weight") if key in more}
    sides = [Predictions(task, label, **{of: side}, **given) for side in (challenger, champion)]
    found = compare.paired(metric, *sides, **more)
    assert found is not None
    return found
