"""Evaluate a model: its metrics from its predictions, and the gates that they must pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..data.sources import Source
from ..data.tables import read_table
from ..errors import BadInput
from . import compare, metrics
from .champion import Champion
from .compare import Comparison
from .gates import Gate, threshold_gates
from .metrics import Task

_CLASSES = 50
_TOLERANCE = 1e-3  # a metric that pipeline and predictions give may differ by rounding


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a predictions file. `id` names a row in several files, or is ""."""

    label: str = "label"
    score: str = "score"
    prediction: str = "prediction"
    id: str = ""


@dataclass(frozen=True)
class Predictions:
    """A predictions file, read: arrays of one length; `score` or `prediction` may be None."""

    frame: pl.DataFrame
    task: Task
    label: NDArray[Any]
    score: NDArray[Any] | None
    prediction: NDArray[Any] | None

    def ranked(self, metric: str) -> NDArray[Any] | None:
        """What the metric is computed of: the scores, or the predicted classes where it is of those."""
        if metric in metrics.RANKED or self.prediction is None:
            return self.score
        return self.prediction


@dataclass(frozen=True)
class Request:
    """What to evaluate, and the gates.

    Attributes:
        predictions: the file, or None when only recorded metrics are gated.
        recorded: metrics that the pipeline gave.
        columns, task: how to read the file.
        primary: the metric that is compared; "" for the task's own.
        thresholds, slice_thresholds: limits by metric.
        slices: columns; `min_rows` is the least that a slice is judged by.
        champion: or None.
        max_regression: how much worse than the champion a metric may be; `*` is the primary one.
        beat_baseline: whether the primary metric must be better than that of a predictor without features.
    """

    predictions: Source | None
    recorded: Mapping[str, float]
    columns: Columns = Columns()
    task: Task | Literal["auto"] = "auto"
    primary: str = ""
    thresholds: Mapping[str, str] = field(default_factory=dict)
    slice_thresholds: Mapping[str, str] = field(default_factory=dict)
    slices: Sequence[str] = ()
    min_rows: int = 100
    champion: Champion | None = None
    max_regression: Mapping[str, float] = field(default_factory=lambda: {"*": 0.0})
    beat_baseline: bool = True


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        task: of the predictions; "" without a file.
        metrics: recorded and computed ones; where both have a name, the computed.
        gates: each with its answer.
        primary: name of the primary metric.
        baseline: metrics of the predictor without features.
        comparisons: with the champion.
        slices: metrics by slice.
        notes: what a reader should know.
        predictions: for pictures.
    """

    task: str
    metrics: dict[str, float]
    gates: list[Gate]
    primary: str
    baseline: dict[str, float]
    comparisons: list[Comparison]
    slices: list[dict[str, Any]]
    notes: list[str]
    predictions: Predictions | None = None

    @property
    def failed(self) -> list[Gate]:
        """Gates that the model does not pass."""
        return [gate for gate in self.gates if not gate.passed]


def evaluate(request: Request) -> Evaluation:
    """Compute the metrics and ask each gate.

    Raises:
        BadInput: the predictions cannot be read as asked, or there is nothing to evaluate.
    """
    if request.predictions is None and not request.recorded:
        raise BadInput("There is nothing to evaluate", fix="Give `predictions` or `metrics`")
    read = read_predictions(request.predictions, request.columns, request.task) if request.predictions else None
    computed = metrics.compute(read.task, read.label, read.score, read.prediction) if read else {}
    values = {**request.recorded, **computed}
    notes = [
        f"The pipeline says {name} {request.recorded[name]:.6g}, its predictions give {value:.6g}"
        for name, value in computed.items()
        if name in request.recorded and abs(request.recorded[name] - value) > _TOLERANCE * max(1.0, abs(value))
    ]
    primary = request.primary or (metrics.PRIMARY[read.task] if read else next(iter(request.recorded)))
    if primary not in values:
        raise BadInput(
            f"There is no metric {primary!r}", why=f"There is: {', '.join(sorted(values))}", fix="Set `primary-metric`"
        )
    gates = threshold_gates(request.thresholds, values)
    base = metrics.baseline(read.task, read.label) if read else {}
    if request.beat_baseline and primary in base:
        gates.append(_baseline_gate(primary, values[primary], base[primary]))
    comparisons = list(_against_champion(request, read, values, primary, notes))
    gates += [_champion_gate(c, request, primary) for c in comparisons]
    slices = list(_slices(read, request)) if read else []
    for part in slices:
        name = f"{part['column']}={part['value']}"
        gates += threshold_gates(request.slice_thresholds, part["metrics"], "slice", name)
    task = read.task if read else ""
    return Evaluation(task, values, gates, primary, base, comparisons, slices, notes, read)


def read_predictions(source: Source, columns: Columns, task: Task | Literal["auto"] = "auto") -> Predictions:
    """Read a predictions file, and find out what its task is if that is not said.

    Raises:
        BadInput: no such columns, missing values, or labels that do not fit the task.
    """
    frame = read_table(source)
    have = [name for name in (columns.score, columns.prediction) if name in frame.columns]
    if columns.label not in frame.columns or not have:
        need = columns.label if columns.label not in frame.columns else f"{columns.score} or {columns.prediction}"
        known = ", ".join(frame.columns)
        raise BadInput(
            f"{source.name} has no column {need}", why=f"It has: {known}",
            fix="Set `label-column`, `score-column` or `prediction-column`",
        )  # fmt: skip
    if frame.is_empty():
        raise BadInput(f"{source.name} has no rows", fix="Look at the step that wrote it")
    for name in (columns.label, *have):
        count = frame.get_column(name).null_count()
        if count:
            raise BadInput(f"{source.name} has {count} rows without {name}", fix="Give each test row a value")
    label = frame.get_column(columns.label)
    found: Task = _task(label, columns.score in have) if task == "auto" else task
    score = _numbers(frame, columns.score, source) if columns.score in have else None
    prediction = frame.get_column(columns.prediction) if columns.prediction in have else None
    if found == "multiclass":
        classes = prediction.cast(pl.String).to_numpy() if prediction is not None else None
        return Predictions(frame, found, label.cast(pl.String).to_numpy(), score, classes)
    labels = _numbers(frame, columns.label, source)
    if found == "binary" and not set(np.unique(labels)) <= {0.0, 1.0}:
        raise BadInput(f"The labels of {source.name} are not 0 and 1", fix="Set `task`, or write them so")
    own = _numbers(frame, columns.prediction, source) if prediction is not None else None
    if found == "regression" and score is None:
        score, own = own, None
    return Predictions(frame, found, labels, score, own)


def _task(label: pl.Series, scored: bool) -> Task:
    if label.dtype == pl.Boolean:
        return "binary"
    if not label.dtype.is_numeric():
        return "multiclass"
    distinct = set(label.unique().to_list())
    if distinct <= {0, 1}:
        return "binary"
    return "multiclass" if label.dtype.is_integer() and len(distinct) <= _CLASSES and not scored else "regression"


def _numbers(frame: pl.DataFrame, name: str, source: Source) -> NDArray[np.float64]:
    column = frame.get_column(name)
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise BadInput(f"{name} in {source.name} is {column.dtype}, not a number", fix="Set `task`, or write numbers")
    values: NDArray[np.float64] = column.cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all():
        raise BadInput(f"{name} in {source.name} has values that are not finite", fix="Look at the model")
    return values


def _baseline_gate(metric: str, value: float, base: float) -> Gate:
    sign = ">" if metrics.HIGHER_IS_BETTER.get(metric, True) else "<"
    passed = value > base if sign == ">" else value < base
    return Gate("baseline", metric, value, f"{sign} {base:.4g}", passed, "a predictor that knows no features")


def _champion_gate(comparison: Comparison, request: Request, primary: str) -> Gate:
    allowed = _allowed(request, comparison.metric, primary)
    sign = ">=" if metrics.HIGHER_IS_BETTER.get(comparison.metric, True) else "<="
    limit = f"{sign} {comparison.champion:.4g}" + (f" within {allowed:g}" if allowed else "")
    note = comparison.note
    if comparison.low is not None and comparison.high is not None:
        note = f"gain {comparison.gain:+.4g}, 95 % between {comparison.low:+.4g} and {comparison.high:+.4g}"
    return Gate("champion", comparison.metric, comparison.challenger, limit, comparison.acceptable(allowed), note)


def _allowed(request: Request, metric: str, primary: str) -> float:
    return request.max_regression.get(metric, request.max_regression.get("*", 0.0) if metric == primary else 0.0)


def _against_champion(
    request: Request, read: Predictions | None, values: Mapping[str, float], primary: str, notes: list[str]
) -> Iterator[Comparison]:
    champion = request.champion
    if champion is None:
        return
    pair = None
    if read and champion.predictions:
        pair = _pair(read, read_predictions(champion.predictions, request.columns, read.task), request.columns.id)
    for metric in dict.fromkeys([primary, *(m for m in request.max_regression if m != "*")]):
        if metric not in values:
            raise BadInput(f"There is no metric {metric!r} to compare", fix="Correct `max-regression`")
        both = [side.ranked(metric) for side in pair] if pair else []
        if read and pair and metric in metrics.HIGHER_IS_BETTER and both[0] is not None and both[1] is not None:
            yield compare.paired(metric, read.task, pair[0].label, both[0], both[1])
        elif metric in champion.metrics:
            note = "recorded values: not measured on the same rows"
            yield compare.recorded(metric, values[metric], champion.metrics[metric], note)
        else:
            notes.append(f"Version {champion.version} has no {metric} to compare with")


def _pair(ours: Predictions, theirs: Predictions, key: str) -> tuple[Predictions, Predictions] | None:
    """The two models' predictions of the same rows, in one order; None when they are not of the same rows."""
    if key and key in ours.frame.columns and key in theirs.frame.columns:
        left = ours.frame.select(pl.col(key)).with_row_index("\0ours")
        right = theirs.frame.select(pl.col(key)).with_row_index("\0theirs").unique(key, keep="first")
        rows = left.join(right, on=key, how="inner").sort("\0ours")
        if rows.height < len(ours.label) / 2:
            return None
        pair = _take(ours, rows.get_column("\0ours")), _take(theirs, rows.get_column("\0theirs"))
    else:
        pair = ours, theirs
    same = len(pair[0].label) == len(pair[1].label) and bool((pair[0].label == pair[1].label).all())
    return pair if same else None


def _take(side: Predictions, rows: pl.Series) -> Predictions:
    index = rows.to_numpy()
    score = None if side.score is None else side.score[index]
    prediction = None if side.prediction is None else side.prediction[index]
    return Predictions(side.frame[index], side.task, side.label[index], score, prediction)


def _slices(read: Predictions, request: Request) -> Iterator[dict[str, Any]]:
    for column in request.slices:
        if column not in read.frame.columns:
            known = ", ".join(read.frame.columns)
            raise BadInput(f"The predictions have no column {column!r}", why=f"They have: {known}", fix="Correct it")
        for value, rows in _groups(read.frame.get_column(column)):
            part = _take(read, rows)
            if len(rows) >= request.min_rows:
                found = metrics.compute(part.task, part.label, part.score, part.prediction)
                yield {"column": column, "value": value, "rows": len(rows), "metrics": found}


def _groups(values: pl.Series) -> Iterator[tuple[str, pl.Series]]:
    """Row numbers by value, or by quarter for numbers of many values."""
    keys = values.cast(pl.String)
    if values.dtype.is_numeric() and values.n_unique() > _CLASSES:
        numbers = values.cast(pl.Float64)
        edges = np.unique(np.quantile(numbers.drop_nulls().to_numpy(), [0.25, 0.5, 0.75]))
        keys = numbers.cut(edges.tolist()).cast(pl.String)
    frame = pl.DataFrame({"key": keys.fill_null("(null)"), "value": values}).with_row_index("row")
    grouped = frame.group_by("key").agg(pl.col("value").min(), pl.col("row").sort()).sort("value", nulls_last=True)
    for key, _, rows in grouped.iter_rows():
        yield str(key), pl.Series(rows)
