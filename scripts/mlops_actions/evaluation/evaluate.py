"""Evaluate a model: its metrics from its predictions, and the gates that they must pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.sources import DataSource
from ..data.tables import unknown_column
from ..errors import BadInput
from ..text import many, sentence
from . import baselines, compare, fairness, metrics
from .baselines import History
from .champion import Champion
from .compare import Comparison
from .custom import Consumer, CustomMetric, Measured, measure
from .gates import (
    UNDEFINED,
    Gate,
    Interval,
    Limit,
    check_known,
    compared,
    each_limit,
    judged,
    missing,
    threshold_gates,
)
from .metric import PRIMARY, Metric, Task, is_higher_better, named, unknown
from .predictions import Columns, Predictions, check_ids, read_predictions, same_type, with_classes
from .resampling import CHANCE, SHOWN, Units, around, bootstrap, interval, standard_error
from .slices import Entry, Slice, sized_slices
from .training import Sanity, training_gates

_OTHER_ROWS = "Give test rows of all classes, with the columns that it needs, or name another metric"
_NO_WORSE = "no worse than the champion"
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
        slices: columns and expressions; `min_rows` is the least that a slice or group is judged by.
        champion: or None.
        max_regression: how much worse than the champion a metric may be; `*` is the primary one.
        baselines: what the primary metric must be better than, see `baselines.NAMES`; None for `constant` where it is
            defined.
        history: what a season-naive forecast knows; None without one.
        groups, fairness: columns of groups, and limits of `fairness.METRICS` between them.
        unsure: whether a gate passes that chance decides and the rows cannot tell.
        custom: metrics of the consumer's own; `consumer` is where they run.
        slice_regression: how much worse than the champion a metric may be in a slice; `*` is the primary one.
        sanity: of the training; None when it was not looked at.
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
    baselines: Sequence[str] | None = None
    history: History | None = None
    groups: Sequence[str] = ()
    fairness: Mapping[str, str] = field(default_factory=dict)
    unsure: bool = True
    custom: Mapping[str, CustomMetric] = field(default_factory=dict)
    consumer: Consumer | None = None
    slice_regression: Mapping[str, float] = field(default_factory=dict)
    sanity: Sanity | None = None

    @property
    def directions(self) -> dict[str, bool]:
        """Whether more is better, of the consumer's own metrics."""
        return {name: metric.direction == "maximize" for name, metric in self.custom.items()}

    def higher(self, name: str) -> bool:
        """Whether more of a metric is better; BadInput when that is not known."""
        return is_higher_better(name, self.thresholds, self.directions)

    @property
    def asked(self) -> dict[str, object]:
        """The metrics that a gate names."""
        named = {**self.thresholds, **self.slice_thresholds, **self.max_regression, self.primary: ""}
        return {name: "" for name in named if name not in ("", "*")}


@dataclass(frozen=True)
class _Pair:
    """Predictions of the same rows; `absent` is how many more the champion has predicted."""

    challenger: Predictions
    champion: Predictions
    absent: int

    @property
    def sides(self) -> tuple[Predictions, Predictions]:
        return self.challenger, self.champion


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
        small: rows of the slices that have too few to be judged, by entry and value.
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
    small: dict[str, dict[str, int]]
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
    for name, value in request.recorded.items():
        if not math.isfinite(value):
            raise BadInput(f"The recorded metric {name} is {value}, which is not a number", fix="Correct `metrics`")
    for name in (*request.slice_thresholds, *request.slice_regression):
        name = request.primary if name == "*" else name
        if name in request.custom:
            raise BadInput(f"The custom metric {name} is not computed by slice", fix="Name a metric of the task")
    read = read_predictions(request.predictions, request.columns, request.task) if request.predictions else None
    naive = None
    if read and request.history:
        naive = baselines.season_naive(read, request.columns, request.history)
        read = replace(read, scale=naive.scale)
    task = read.task if read else None
    computed = metrics.compute(read, request.asked) if read else {}
    if read and not computed:
        columns = f"{request.columns.score} or {request.columns.prediction}"
        one_class = read.one_class(request.columns)
        raise BadInput(
            f"No metric of a {read.task} task can be computed",
            why=sentence(one_class) or f"The predictions lack the column {columns} that it needs",
            fix=_OTHER_ROWS if one_class else "Set `task`, `score-column` or `prediction-column`",
        )
    notes = [sentence(one_class)] if read and (one_class := read.one_class(request.columns)) else []
    pair = _pair(request, read, notes) if read else None
    measured = _measured(request, pair.sides if pair else (read,) if read else ())
    values = {**request.recorded, **computed, **{name: one.values[0] for name, one in measured.items()}}
    notes += [
        f"The pipeline says {name} {request.recorded[name]:.6g}, its predictions give {value:.6g}"
        for name, value in computed.items()
        if name in request.recorded and abs(request.recorded[name] - value) > _TOLERANCE * max(1.0, abs(value))
    ]
    preferred = (name for name in PRIMARY[task] if name in computed) if task else iter(())
    primary = request.primary or next(preferred, next(iter(computed or values)))
    if primary not in values:
        raise _without_value(primary, values, read, request.columns)
    known = {metric.name: metric for metric in metrics.of_task(read, request.asked)} if read else {}
    unchecked: list[str] = []

    def interval_of(name: str) -> Interval | None:
        if name in measured:
            return measured[name].interval
        return interval(known[name], read) if read and name in known else None

    limits = dict(request.thresholds)
    sane = training_gates(request.sanity, limits) if request.sanity else []
    values |= request.sanity.values if request.sanity else {}
    gates = [*threshold_gates(limits, values, task, interval_of, _undefined(read, request.columns)), *sane]
    base = baselines.constant(read) if read else None
    gates += _baseline_gates(request, read, primary, known.get(primary), base, naive)
    comparisons = list(_against_champion(request, read, pair, values, known, measured, primary, unchecked))
    gates += [_champion_gate(c, request) for c in comparisons]
    slices: list[dict[str, Any]] = []
    entries = sized_slices(read.frame, request.slices, request.min_rows) if read else []
    if read and entries:
        gates += _slices(request, read, entries, known, slices)
        gates += _champion_of_slices(request, read, entries, pair, known, primary, comparisons, unchecked)
    else:
        why = "there are no predictions" if request.slices else "no `slices` are named"
        gates += [missing("slice", name, text, why) for name, text in request.slice_thresholds.items()]
        gates += [
            missing("champion", f"each slice's {primary if name == '*' else name}", _NO_WORSE, why)
            for name in request.slice_regression
        ]
    gates += _fairness_gates(request, read)
    of_base = metrics.compute(base, request.asked) if base else {}
    small = {entry.name: {part.value: len(part.rows) for part in entry.small} for entry in entries if entry.small}
    return Evaluation(task, values, gates, primary, of_base, comparisons, slices, small, notes, unchecked, read)


def _undefined(read: Predictions | None, columns: Columns) -> str:
    """Why a metric of the task is not defined on rows."""
    return (read.one_class(columns) if read else "") or UNDEFINED


def _without_value(name: str, values: Mapping[str, float], read: Predictions | None, columns: Columns) -> BadInput:
    """The error for a metric to compare by that has no value: there is none of that name, or these rows lack it."""
    metric = named(name)
    if read is None or metric is None or read.task not in metric.tasks:
        return unknown(name, values)
    return BadInput(f"{name} cannot be computed", why=sentence(_undefined(read, columns)), fix=_OTHER_ROWS)


def _measured(request: EvaluationRequest, sides: Sequence[Predictions]) -> dict[str, Measured]:
    """The consumer's own metrics of one or two models."""
    if not request.custom:
        return {}
    if not sides or request.consumer is None:
        raise BadInput("`custom-metrics` are computed from predictions, and there are none")
    units = Units.of(len(sides[0].label), sides[0].blocks)
    return measure(request.custom, [side.frame for side in sides], units, request.consumer)


def _baseline_gates(
    request: EvaluationRequest,
    read: Predictions | None,
    primary: str,
    metric: Metric | None,
    constant: Predictions | None,
    naive: Predictions | None,
) -> Iterator[Gate]:
    for name in ("constant",) if request.baselines is None else request.baselines:
        words, ours = baselines.WORDS[name], read
        if read is None or metric is None or ours is None:
            if request.baselines is not None:
                why = f"{primary} is not computed from predictions here"
                yield missing("baseline", primary, f"better than that of {words}", why)
            continue
        sign = ">" if request.higher(metric.name) else "<"
        made = {"constant": constant, "season-naive": naive}.get(name)
        if name == "linear":
            made = baselines.linear(read, request.columns)
        elif name == "season-naive" and made is not None:
            defined = np.flatnonzero(np.isfinite(made.score)) if made.score is not None else np.array([], dtype=int)
            made, ours = (made.take(defined), read.take(defined)) if len(defined) else (None, read)
        base = metrics.value_of(metric, made) if made is not None else None
        value = metrics.value_of(metric, ours)
        if base is None or value is None or not math.isfinite(base):
            if request.baselines is not None:
                yield missing("baseline", metric.name, f"{sign} that of {words}", _why_no_baseline(name, read, naive))
            continue
        gate = compared("baseline", metric.name, value, Limit(sign, base), None, words)
        yield replace(gate, limit=f"{sign} {base:g}")


def _why_no_baseline(name: str, read: Predictions, naive: Predictions | None) -> str:
    if name == "constant":
        return f"a {read.task} task has no such predictor, or the metric is not defined for it"
    if name == "season-naive":
        return "set `history`" if naive is None else "`history` knows no test row's label of one season earlier"
    if read.task not in baselines.LINEAR:
        return f"a {read.task} task has no linear model here"
    return "the predictions have no columns of features"


def _champion_gate(found: Comparison, request: EvaluationRequest) -> Gate:
    higher = request.higher(found.metric)
    limit = f"{'>=' if higher else '<='} {found.champion:.4g}" + (f" within {found.allowed:g}" if found.allowed else "")
    passed = found.surely_acceptable or (found.verdict != "worse" and request.unsure)
    low = high = None
    if found.low is not None and found.high is not None:
        ends = (found.low, found.high) if higher else (-found.high, -found.low)
        low, high = (found.champion + end for end in ends)
    bound = found.champion - found.allowed if higher else found.champion + found.allowed
    note = found.sentence()
    verdict = found.verdict if passed or found.verdict == "worse" else "cannot tell"
    return Gate("champion", found.metric, found.challenger, limit, passed, note, bound, low, high, verdict)


def _against_champion(
    request: EvaluationRequest,
    read: Predictions | None,
    pair: _Pair | None,
    values: Mapping[str, float],
    known: Mapping[str, Metric],
    measured: Mapping[str, Measured],
    primary: str,
    unchecked: list[str],
) -> Iterator[Comparison]:
    champion = request.champion
    names = dict.fromkeys([primary, *(m for m in request.max_regression if m != "*")])
    for name in names:
        if name not in values:
            raise _without_value(name, values, read, request.columns)
    if champion is None:
        return
    for name in names:
        higher = request.higher(name)
        allowed = request.max_regression.get(name, request.max_regression.get("*", 0.0) if name == primary else 0.0)
        found = None
        if pair and name in measured:
            one, rows = measured[name], len(pair.challenger.label)
            found = compare.drawn(
                name, one.values, one.error, rows, one.units, allowed=allowed, higher_is_better=higher
            )
        elif pair and name in known:
            found = compare.paired(replace(known[name], higher_is_better=higher), *pair.sides, allowed=allowed)
        if pair and found is not None and math.isfinite(found.gain):
            yield replace(found, absent=pair.absent)
        elif name in champion.metrics:
            was = champion.metrics[name]
            yield compare.recorded(name, values[name], was, higher_is_better=higher, allowed=allowed)
        else:
            unchecked.append(f"Version {champion.version} has no {name} to compare with")


def _pair(request: EvaluationRequest, ours: Predictions, notes: list[str]) -> _Pair | None:
    """The two models' predictions of the same rows, in one order; None when they are not of the same rows."""
    champion, key = request.champion, request.columns.id
    if champion is None or champion.predictions is None:
        return None
    # blocks and weights are those of the challenger; a champion from before there were ids is found by its order
    columns = replace(request.columns, id="", weight="", block="")
    theirs, version = read_predictions(champion.predictions, columns, ours.task), champion.version
    here, there, why = len(ours.label), len(theirs.label), ""
    if key and key in theirs.frame.columns:
        check_ids(theirs.frame, key, champion.predictions)
        ids = same_type(ours.frame.get_column(key), theirs.frame.get_column(key))
        left, right = (one.alias("id").to_frame().with_row_index(name) for one, name in zip(ids, "ab", strict=True))
        rows = left.join(right, on="id", how="inner").sort("a")
        if rows.height < max(here, there) / 2:
            why = f"only {rows.height:,} of {here:,} are among its {there:,}"
        else:
            ours, theirs = ours.take(rows.get_column("a").to_numpy()), theirs.take(rows.get_column("b").to_numpy())
    elif here != there:
        why = f"there are {here:,} rows, and version {version} was measured on {there:,}: set `id-column`"
    if not why and ours.task == "multiclass" and ours.classes != theirs.classes:
        classes = tuple(sorted({*ours.classes, *theirs.classes}))
        ours, theirs = with_classes(ours, classes), with_classes(theirs, classes)
    if not why and ours.task != "scores":
        same = ours.positive == theirs.positive and ours.classes == theirs.classes
        same = same and ours.label.shape == theirs.label.shape
        why = "" if same and bool((ours.label == theirs.label).all()) else "their labels differ"
    if why:
        notes.append(f"The rows are not those of version {version}: {why}")
        return None
    if absent := there - len(theirs.label):
        notes.append(f"{absent:,} of the {many(there, 'row')} that version {version} was measured on are not predicted")
    return _Pair(ours, replace(theirs, scale=ours.scale, query=ours.query), absent)


def _slices(
    request: EvaluationRequest,
    read: Predictions,
    entries: Sequence[Entry],
    known: Mapping[str, Metric],
    shown: list[dict[str, Any]],
) -> Iterator[Gate]:
    """The gates of slices, with intervals of which none misses the truth with 95 % certainty (Bonferroni)."""
    enough = [part for entry in entries for part in entry.large]
    looked_at = len(enough) * len(request.slice_thresholds)
    for part in enough:
        own = read.take(part.rows)
        values = metrics.compute(own, request.asked)
        shown.append({"column": part.column, "value": part.value, "rows": len(part.rows), "metrics": values})
        check_known(request.slice_thresholds, dict.fromkeys([*known, *values], 0.0), read.task)
        for name, limit in each_limit(request.slice_thresholds):
            yield _slice_gate(request, part, own, values, known, looked_at, name, limit)
    for entry in entries:
        for name, text in request.slice_thresholds.items() if not entry.large else ():
            yield missing("slice", f"{entry.name} {name}", text, _too_small(request))


def _too_small(request: EvaluationRequest) -> str:
    return f"no slice of it has {many(request.min_rows, 'row')}"


def _champion_of_slices(
    request: EvaluationRequest,
    read: Predictions,
    entries: Sequence[Entry],
    pair: _Pair | None,
    known: Mapping[str, Metric],
    primary: str,
    comparisons: list[Comparison],
    unchecked: list[str],
) -> Iterator[Gate]:
    """The gates of each slice against the champion on the same rows, with Bonferroni's correction."""
    champion = request.champion
    allowed = {primary if name == "*" else name: value for name, value in request.slice_regression.items()}
    for name in allowed:
        if name not in known:
            raise unknown(name, known)
    if champion is None or not allowed:
        return
    if pair is None:
        unchecked.append(f"The slices cannot be compared with version {champion.version}: the rows are not the same")
        return
    looked_at = sum(len(entry.large) for entry in entries) * len(allowed)
    places = _places(read, pair.challenger, request.columns.id)
    for name, most in allowed.items():
        metric = replace(known[name], higher_is_better=request.higher(name))
        for entry in entries:
            if not entry.large:
                yield missing("champion", f"{entry.name} {name}", _NO_WORSE, _too_small(request))
            for part in entry.large:
                title, rows = f"{part.name} {name}", places[part.rows]
                sides = [side.take(rows[rows >= 0]) for side in pair.sides]
                if len(sides[0].label) < request.min_rows:
                    why = f"version {champion.version} has predicted {len(sides[0].label):,} of its {len(rows):,} rows"
                    gate = missing("champion", title, _NO_WORSE, why)
                    yield replace(gate, passed=request.unsure, verdict="cannot tell")
                    continue
                one = compare.paired(metric, sides[0], sides[1], allowed=most, chance=CHANCE / looked_at)
                if one is None or not math.isfinite(one.gain):
                    yield missing("champion", title, _NO_WORSE, _undefined(sides[0], request.columns))
                    continue
                one = replace(one, absent=pair.absent)
                comparisons.append(replace(one, metric=title))
                gate = _champion_gate(one, request)
                yield replace(gate, metric=title, note=f"{gate.note}; corrected for {looked_at} looked at")


def _places(read: Predictions, common: Predictions, key: str) -> NDArray[np.intp]:
    """For each row where it stands among those that the champion has predicted, too; -1 for one that it has not."""
    if len(common.label) == len(read.label):
        return np.arange(len(read.label))
    there = read.frame.get_column(key).is_in(common.frame.get_column(key).implode()).to_numpy()
    return np.where(there, np.cumsum(there) - 1, -1)


def _slice_gate(
    request: EvaluationRequest,
    part: Slice,
    own: Predictions,
    values: Mapping[str, float],
    known: Mapping[str, Metric],
    looked_at: int,
    name: str,
    limit: Limit,
) -> Gate:
    title = f"{part.name} {name}"
    if name not in values:
        return missing("slice", title, str(limit), _undefined(own, request.columns))
    found = interval(known[name], own, CHANCE / looked_at)
    corrected = f", with Bonferroni's correction for {looked_at} looked at" if looked_at > 1 else ""
    note = f"95 % between {found[0]:.4g} and {found[1]:.4g}{corrected}" if found else "no interval on these rows"
    return judged("slice", title, values[name], limit, found, request.unsure, note)


def _fairness_gates(request: EvaluationRequest, read: Predictions | None) -> Iterator[Gate]:
    for name in request.fairness:
        if name not in fairness.METRICS:
            raise unknown(name, dict.fromkeys(fairness.METRICS, 0.0))
    if request.fairness and not request.groups:
        raise BadInput("`fairness` needs to know the groups", fix="Set `groups` to the columns that name them")
    if request.groups and not request.fairness:
        raise BadInput(
            "`groups` are named, and nothing is asked of them", fix="Set `fairness` to limits, or leave out `groups`"
        )
    for column in request.groups if read else ():
        assert read is not None
        if column not in read.frame.columns:
            raise unknown_column(column, "The predictions file", read.frame.columns)
        groups = sized_slices(read.frame, [column], request.min_rows)[0].large
        for name, limit in each_limit(request.fairness):
            title = f"{column} {name}"
            if len(groups) < 2:
                why = f"fewer than two groups have {many(request.min_rows, 'row')}"
                yield missing("fairness", title, str(limit), why)
                continue
            rows = np.concatenate([group.rows for group in groups])
            own = read.take(rows)
            codes = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
            made = fairness.statistic(name, own, codes, len(groups))
            if made is None:
                yield missing("fairness", title, str(limit), "it needs the predicted classes of a binary task")
                continue
            units = Units.of(len(rows), own.blocks, own.weight)
            value = units.value(made, len(rows))
            drawn = bootstrap(units.statistic(made), units.count, len(rows), SHOWN)
            found = around(value, standard_error(drawn, units.count), units.count)
            if not math.isfinite(value):
                yield missing("fairness", title, str(limit), "it is not defined on these rows")
                continue
            note = f"of {len(groups)} groups with {many(request.min_rows, 'row')} or more"
            yield compared("fairness", title, value, limit, found, note)
    if request.fairness and read is None:
        for name, text in request.fairness.items():
            yield missing("fairness", name, text, "there are no predictions")
