"""Evaluate a model: its metrics from its predictions, and the gates that they must pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from ..data.sources import DataSource
from ..data.tables import unknown_column
from ..errors import BadInput
from . import compare, metrics
from .champion import Champion
from .compare import Comparison
from .gates import Gate, threshold_gates
from .metric import METRICS, PRIMARY, Task, is_higher_better, unknown
from .predictions import Columns, Predictions, read_predictions

_QUARTERED = 50
"""A column of numbers with more values than that is sliced by quarters."""
_TOLERANCE = 1e-3  # a metric that pipeline and predictions give may differ by rounding


@dataclass(frozen=True)
class EvaluationRequest:
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

    predictions: DataSource | None
    recorded: Mapping[str, float]
    columns: Columns = field(default_factory=Columns)
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
        task: of the predictions; None without a file.
        metrics: recorded and computed ones; where both have a name, the computed.
        gates: each with its answer.
        primary: name of the primary metric.
        baseline: metrics of the predictor without features.
        comparisons: with the champion.
        slices: metrics by slice.
        notes: what a reader should know.
        unchecked: gates that were asked for and could not be checked, with the reason.
        predictions: for pictures.
    """

    task: Task | None
    metrics: dict[str, float]
    gates: list[Gate]
    primary: str
    baseline: dict[str, float]
    comparisons: list[Comparison]
    slices: list[dict[str, Any]]
    notes: list[str]
    unchecked: list[str]
    predictions: Predictions | None = None

    @property
    def failed(self) -> list[Gate]:
        """Gates that the model does not pass."""
        return [gate for gate in self.gates if not gate.passed]

    @property
    def checked(self) -> bool:
        """Whether at least one gate was checked, and none that was asked for was left out."""
        return bool(self.gates) and not self.unchecked


def evaluate(request: EvaluationRequest) -> Evaluation:
    """Compute the metrics and ask each gate.

    Raises:
        BadInput: the predictions cannot be read as asked, there is nothing to evaluate, or a metric or the direction of
            one is not known.
    """
    if request.predictions is None and not request.recorded:
        raise BadInput("Nothing to evaluate", fix="Give `predictions` or `metrics`")
    read = read_predictions(request.predictions, request.columns, request.task) if request.predictions else None
    task = read.task if read else None
    computed = metrics.compute(read.task, read.label, read.score, read.prediction) if read else {}
    if read and not computed:
        columns = f"{request.columns.score} or {request.columns.prediction}"
        raise BadInput(
            f"No metric of a {read.task} task can be computed",
            why=f"The predictions lack the column {columns} that it needs",
            fix="Set `task`, `score-column` or `prediction-column`",
        )
    values = {**request.recorded, **computed}
    notes = [
        f"The pipeline says {name} {request.recorded[name]:.6g}, its predictions give {value:.6g}"
        for name, value in computed.items()
        if name in request.recorded and abs(request.recorded[name] - value) > _TOLERANCE * max(1.0, abs(value))
    ]
    primary = request.primary or next((name for name in PRIMARY[task] if name in computed) if task else iter(values))
    if primary not in values:
        raise unknown(primary, values)
    unchecked: list[str] = []
    gates = threshold_gates(request.thresholds, values, task)
    base = metrics.baseline(read.task, read.label) if read else {}
    if request.beat_baseline and primary in base:
        gates.append(_baseline_gate(primary, values[primary], base[primary]))
    comparisons = list(_against_champion(request, read, values, primary, unchecked))
    gates += [_champion_gate(c, request, primary) for c in comparisons]
    slices = list(_slices(read, request)) if read else []
    for part in slices:
        name = f"{part['column']}={part['value']}"
        gates += threshold_gates(request.slice_thresholds, part["metrics"], task, "slice", name)
    if request.slice_thresholds and not slices:
        unchecked.append(f"No slice has {request.min_rows} rows or more" if request.slices else "No `slices` are named")
    return Evaluation(task, values, gates, primary, base, comparisons, slices, notes, unchecked, read)


def _baseline_gate(name: str, value: float, base: float) -> Gate:
    higher = is_higher_better(name)
    limit = f"{'>' if higher else '<'} {base:.4g}"
    passed = value > base if higher else value < base
    return Gate("baseline", name, value, limit, passed, "a predictor that knows no features")


def _champion_gate(comparison: Comparison, request: EvaluationRequest, primary: str) -> Gate:
    allowed = _allowed(request, comparison.metric, primary)
    sign = ">=" if is_higher_better(comparison.metric, request.thresholds) else "<="
    limit = f"{sign} {comparison.champion:.4g}" + (f" within {allowed:g}" if allowed else "")
    note = comparison.note
    if comparison.low is not None and comparison.high is not None:
        note = f"gain {comparison.gain:+.4g}, 95 % between {comparison.low:+.4g} and {comparison.high:+.4g}"
    return Gate("champion", comparison.metric, comparison.challenger, limit, comparison.acceptable(allowed), note)


def _allowed(request: EvaluationRequest, name: str, primary: str) -> float:
    return request.max_regression.get(name, request.max_regression.get("*", 0.0) if name == primary else 0.0)


def _against_champion(
    request: EvaluationRequest,
    read: Predictions | None,
    values: Mapping[str, float],
    primary: str,
    unchecked: list[str],
) -> Iterator[Comparison]:
    champion = request.champion
    if champion is None:
        return
    pair = None
    if read and champion.predictions:
        pair = _pair(read, read_predictions(champion.predictions, request.columns, read.task), request.columns.id)
    for name in dict.fromkeys([primary, *(m for m in request.max_regression if m != "*")]):
        if name not in values:
            raise unknown(name, values)
        higher, known = is_higher_better(name, request.thresholds), METRICS.get(name)
        both = [side.values_of(known) for side in pair] if pair and known else [None]
        if pair and known and both[0] is not None and both[1] is not None:
            yield compare.paired(known, pair[0].task, pair[0].label, both[0], both[1])
        elif name in champion.metrics:
            note = "recorded values: not measured on the same rows"
            yield compare.recorded(name, values[name], champion.metrics[name], note, higher_is_better=higher)
        else:
            unchecked.append(f"Version {champion.version} has no {name} to compare with")


def _pair(ours: Predictions, theirs: Predictions, key: str) -> tuple[Predictions, Predictions] | None:
    """The two models' predictions of the same rows, in one order; None when they are not of the same rows."""
    if key and key in ours.frame.columns and key in theirs.frame.columns:
        left = ours.frame.select(pl.col(key)).with_row_index("\0ours")
        right = theirs.frame.select(pl.col(key)).with_row_index("\0theirs").unique(key, keep="first")
        rows = left.join(right, on=key, how="inner").sort("\0ours")
        if rows.height < len(ours.label) / 2:
            return None
        pair = ours.take(rows.get_column("\0ours")), theirs.take(rows.get_column("\0theirs"))
    else:
        pair = ours, theirs
    same = len(pair[0].label) == len(pair[1].label) and bool((pair[0].label == pair[1].label).all())
    return pair if same and pair[0].positive == pair[1].positive else None


def _slices(read: Predictions, request: EvaluationRequest) -> Iterator[dict[str, Any]]:
    for column in request.slices:
        if column not in read.frame.columns:
            raise unknown_column(column, "The predictions file", read.frame.columns)
        for value, rows in _groups(read.frame.get_column(column)):
            part = read.take(rows)
            if len(rows) >= request.min_rows:
                found = metrics.compute(part.task, part.label, part.score, part.prediction)
                yield {"column": column, "value": value, "rows": len(rows), "metrics": found}


def _groups(values: pl.Series) -> Iterator[tuple[str, pl.Series]]:
    """Row numbers by value, or by quarter for numbers of many values."""
    keys = values.cast(pl.String)
    if values.dtype.is_numeric() and values.n_unique() > _QUARTERED:
        numbers = values.cast(pl.Float64)
        edges = np.unique(np.quantile(numbers.drop_nulls().to_numpy(), [0.25, 0.5, 0.75]))
        keys = numbers.cut(edges.tolist()).cast(pl.String)
    frame = pl.DataFrame({"key": keys.fill_null("(null)"), "value": values}).with_row_index("row")
    grouped = frame.group_by("key").agg(pl.col("value").min(), pl.col("row").sort()).sort("value", nulls_last=True)
    for key, _, rows in grouped.iter_rows():
        yield str(key), pl.Series(rows)
