"""The table of metrics: which there are, of which tasks, and whether more is better.

Everything that has to know about a metric asks here. Nothing is computed here, so that inputs can be read without
numpy: the formula of a metric is the function of its name in `formulas.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import BadInput
from ..suggest import did_you_mean

Task = Literal["binary", "multiclass", "regression"]
Of = Literal["score", "probability", "prediction", ""]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what it is called everywhere.
        higher_is_better: its direction.
        of: what it is computed of beside the labels: any score, a score from 0 to 1, or predicted classes. "" for a
            metric that is not computed here and that pipelines are known to record.
        tasks: what it is computed for.
    """

    name: str
    higher_is_better: bool
    of: Of = ""
    tasks: tuple[Task, ...] = ()

    @property
    def function(self) -> Callable[[Any, Any], float]:
        """Its formula, of labels and what `of` says."""
        from . import formulas

        found: Callable[[Any, Any], float] = getattr(formulas, self.name)
        return found


_COMPUTED = (
    Metric("auc", True, "score", ("binary",)),
    Metric("average_precision", True, "score", ("binary",)),
    Metric("log_loss", False, "probability", ("binary",)),
    Metric("brier", False, "probability", ("binary",)),
    Metric("accuracy", True, "prediction", ("binary", "multiclass")),
    Metric("precision", True, "prediction", ("binary",)),
    Metric("recall", True, "prediction", ("binary",)),
    Metric("f1", True, "prediction", ("binary",)),
    Metric("f1_macro", True, "prediction", ("multiclass",)),
    Metric("rmse", False, "score", ("regression",)),
    Metric("mae", False, "score", ("regression",)),
    Metric("r2", True, "score", ("regression",)),
)
_RECORDED = (
    *(Metric(name, True) for name in ("f1_micro", "f1_weighted", "ndcg", "mrr", "mcc", "kappa", "iou", "bleu")),
    *(Metric(name, False) for name in ("loss", "error", "mse", "rmsle", "mape", "smape", "perplexity", "latency")),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_COMPUTED, *_RECORDED)}
"""Every metric whose direction is known, those that are computed here first."""
PRIMARY: dict[Task, tuple[str, ...]] = {
    "binary": ("auc", "f1"),
    "multiclass": ("f1_macro",),
    "regression": ("rmse",),
}
"""What a task's models are compared by: the first of these that the predictions allow."""
_SAME = {"roc_auc": "auc", "f1_score": "f1", "r2_score": "r2", "logloss": "log_loss", "brier_score": "brier"}


def computed(task: Task) -> list[Metric]:
    """The metrics that are computed for a task."""
    return [metric for metric in _COMPUTED if task in metric.tasks]


def find(name: str) -> Metric | None:
    """The metric that a name stands for, as pipelines write it: `evaluate.auc`, `val_log_loss`, `train/roc_auc`."""
    last = name.replace("/", ".").rpartition(".")[2].lower().replace("-", "_")
    negated, words = last.startswith("neg_"), last.removeprefix("neg_").split("_")
    for start in range(len(words)):
        rest = "_".join(words[start:])
        if found := METRICS.get(_SAME.get(rest, rest)):
            # scikit-learn's scorers `neg_…` are errors with their sign turned
            return Metric(found.name, not found.higher_is_better) if negated else found
    return None


def is_higher_better(name: str, limits: Mapping[str, str] | None = None) -> bool:
    """The direction of a metric.

    Args:
        name: the metric.
        limits: thresholds by name; the sign of one says which way a metric of the user's own goes.

    Raises:
        BadInput: it is not known.
    """
    sign = (limits or {}).get(name, "").lstrip()[:1]
    if sign in (">", "<"):
        return sign == ">"
    if found := find(name):
        return found.higher_is_better
    known = ", ".join(METRICS)
    raise BadInput(
        f"It is not known whether more of the metric {name!r} is better or worse",
        why=f"The metrics whose direction is known: {known}",
        fix=f'Give it a threshold with a sign, such as `{name}: ">= 0"`, or use one of these',
    )


def unknown(name: str, values: Mapping[str, float]) -> BadInput:
    """The error for a metric that is not among the values."""
    fix = did_you_mean(name, values, "Use one of these")
    return BadInput(f"Unknown metric {name!r}", why=f"The metrics are: {', '.join(sorted(values)) or 'none'}", fix=fix)
