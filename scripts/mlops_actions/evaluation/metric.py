"""The table of metrics: which there are, of which tasks, and whether more is better.

Everything that has to know about a metric asks here. Nothing is computed here, so that inputs can be read without
numpy: the formula of a metric is the function of its name in `formulas.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import BadInput
from ..suggest import did_you_mean

Task = Literal["binary", "multiclass", "multilabel", "regression", "ranking", "forecasting", "scores"]
Of = Literal["score", "probability", "prediction", "column", ""]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: what it is called everywhere.
        higher_is_better: its direction.
        of: what it is computed of beside the labels: any score, a score from 0 to 1, or predicted classes; of a column
            of its name alone. "" for a metric that is not computed here and that pipelines are known to record.
        tasks: what it is computed for.
        at: the number after `@` of a metric that has one, such as `ndcg@10`; 0 for all.
        only_asked: whether it is computed only where a gate names it.
    """

    name: str
    higher_is_better: bool
    of: Of = ""
    tasks: tuple[Task, ...] = ()
    at: float | None = None
    only_asked: bool = False


_QUANTITIES: tuple[Task, ...] = ("regression", "forecasting")
_COMPUTED = (
    Metric("auc", True, "score", ("binary",)),
    Metric("average_precision", True, "score", ("binary",)),
    Metric("log_loss", False, "probability", ("binary", "multiclass")),
    Metric("brier", False, "probability", ("binary",)),
    Metric("accuracy", True, "prediction", ("binary", "multiclass", "multilabel")),
    Metric("precision", True, "prediction", ("binary",)),
    Metric("recall", True, "prediction", ("binary",)),
    Metric("f1", True, "prediction", ("binary",)),
    Metric("ece", False, "probability", ("binary",)),
    Metric("brier_reliability", False, "probability", ("binary",)),
    Metric("brier_resolution", True, "probability", ("binary",)),
    Metric("brier_uncertainty", False, "probability", ("binary",)),
    Metric("f1_macro", True, "prediction", ("multiclass", "multilabel")),
    Metric("f1_weighted", True, "prediction", ("multiclass",)),
    Metric("f1_micro", True, "prediction", ("multilabel",)),
    Metric("balanced_accuracy", True, "prediction", ("multiclass",)),
    Metric("hamming_loss", False, "prediction", ("multilabel",)),
    Metric("auc_macro", True, "score", ("multiclass", "multilabel")),
    Metric("auc_weighted", True, "score", ("multiclass", "multilabel")),
    Metric("average_precision_macro", True, "score", ("multilabel",)),
    Metric("top_accuracy", True, "score", ("multiclass",), 2, only_asked=True),
    Metric("rmse", False, "score", _QUANTITIES),
    Metric("mae", False, "score", _QUANTITIES),
    Metric("r2", True, "score", _QUANTITIES),
    Metric("mse", False, "score", _QUANTITIES, only_asked=True),
    Metric("mape", False, "score", _QUANTITIES, only_asked=True),
    Metric("pinball", False, "score", _QUANTITIES, 0.5, only_asked=True),
    Metric("smape", False, "score", ("forecasting",)),
    Metric("mase", False, "score", ("forecasting",)),
    Metric("ndcg", True, "score", ("ranking",), 0),
    Metric("map", True, "score", ("ranking",)),
    Metric("mrr", True, "score", ("ranking",)),
)
FOOTPRINT = ("model_mb", "memory_mb", "cold_ms", "latency_p50_ms", "latency_p95_ms")
"""What a model takes: its size, the most memory of a process that predicts with it, and times; see `golden.Tested`."""
TRAINING = ("training_loss_ratio", "training_overfit_ratio", "training_repeat_difference")
"""Whether a training is sane, see `training`."""
_RECORDED = (
    *(Metric(name, True) for name in ("mcc", "kappa", "iou", "bleu", "rouge", "exact_match")),
    *(Metric(name, False) for name in ("loss", "error", "rmsle", "perplexity", "latency")),
    *(Metric(name, False) for name in (*FOOTPRINT, *TRAINING)),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_COMPUTED, *_RECORDED)}
"""Every metric whose direction is known, those that are computed here first."""
PRIMARY: dict[Task, tuple[str, ...]] = {
    "binary": ("auc", "f1"),
    "multiclass": ("f1_macro", "log_loss"),
    "multilabel": ("f1_macro", "auc_macro"),
    "regression": ("rmse",),
    "ranking": ("ndcg",),
    "forecasting": ("mase", "mae"),
    "scores": (),
}
"""What a task's models are compared by: the first of these that the predictions allow."""
_SAME = {"roc_auc": "auc", "f1_score": "f1", "r2_score": "r2", "logloss": "log_loss", "brier_score": "brier"}


def named(name: str) -> Metric | None:
    """The metric of the table that a name is exactly, such as `auc` or `ndcg@10`; None when it is none."""
    base, sign, number = name.partition("@")
    metric = METRICS.get(base)
    if not sign or metric is None:
        return metric
    try:
        return None if metric.at is None else replace(metric, name=name, at=float(number))
    except ValueError:
        return None


def computed(task: Task, asked: Mapping[str, object] | None = None) -> list[Metric]:
    """The metrics that are computed for a task, with those that are only computed because a gate names them."""
    more = [metric for name in asked or () if (metric := named(name)) and task in metric.tasks]
    shown = [metric for metric in _COMPUTED if task in metric.tasks and not metric.only_asked]
    return list({metric.name: metric for metric in (*shown, *more)}.values())


def find(name: str) -> Metric | None:
    """The metric that a name stands for, as pipelines write it: `evaluate.auc`, `val_log_loss`, `train/roc_auc`."""
    if exact := named(name):
        return exact
    last = name.replace("/", ".").rpartition(".")[2].lower().replace("-", "_").partition("@")[0]
    negated, words = last.startswith("neg_"), last.removeprefix("neg_").split("_")
    for start in range(len(words)):
        rest = "_".join(words[start:])
        if found := METRICS.get(_SAME.get(rest, rest)):
            # scikit-learn's scorers `neg_…` are errors with their sign turned
            return Metric(found.name, not found.higher_is_better) if negated else found
    return None


def is_higher_better(
    name: str, limits: Mapping[str, str] | None = None, directions: Mapping[str, bool] | None = None
) -> bool:
    """The direction of a metric.

    Args:
        name: the metric.
        limits: thresholds by name; the sign of one says which way a metric goes that the table does not have.
        directions: whether more is better, of metrics that the user has defined.

    Raises:
        BadInput: it is not known.
    """
    if directions and name in directions:
        return directions[name]
    if found := find(name):
        return found.higher_is_better
    limit = (limits or {}).get(name, "")
    if (">" in limit) != ("<" in limit):  # of a range neither side says it
        return ">" in limit
    known = ", ".join(METRICS)
    raise BadInput(
        f"It is not known whether more of the metric {name!r} is better or worse",
        why=f"The metrics whose direction is known: {known}",
        fix=f'Give it one threshold with a sign, such as `{name}: ">= 0"`, or use one of these',
    )


def unknown(name: str, values: Mapping[str, object]) -> BadInput:
    """The error for a metric that is not among the values."""
    if name in FOOTPRINT:
        fix = "Name it in `thresholds` or `max-regression`, or give it in `metrics`"
        return BadInput(f"{name} was not measured", why="It is one of the model and not of predictions", fix=fix)
    if name in TRAINING:
        fix = "Set `training` to the code that trains, or let the pipeline log it"
        return BadInput(f"{name} was not measured", why="It is one of a training, and `training` is not set", fix=fix)
    fix = did_you_mean(name, values, "Use one of these")
    return BadInput(f"Unknown metric {name!r}", why=f"The metrics are: {', '.join(sorted(values)) or 'none'}", fix=fix)
