"""Watch a model in use: has its data moved from what it was trained on, is it fresh, are its predictions still good?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from string import Template
from typing import Any

import polars as pl

from ..data import drift
from ..data.checks import age_of, newest_of
from ..data.sources import DataSource
from ..data.tables import open_table
from ..data.validate import fingerprint
from ..errors import BadInput
from ..evaluation import metrics
from ..evaluation.metric import PRIMARY, is_higher_better
from ..evaluation.predictions import Columns, read_predictions
from ..suggest import did_you_mean


@dataclass(frozen=True)
class MonitorRequest:
    """What to look at, and when it counts as drift.

    Attributes:
        data, reference: what comes now, and what the model was trained on.
        types: the contract's types of columns, for text formats.
        columns, max_psi: as of `drift.compare`.
        min_drifted_share: the least share of columns that must have drifted; 0: one is enough.
        time_column, max_age, as_of: the newest row may be that much older than `as_of`.
        predictions: predictions made in use, with labels that came since; None if there are none.
        prediction_columns: how to read them.
        registered: the version's metrics.
        metric: the one that is compared; "" for the task's own.
        max_regression: how much worse it may be.
    """

    data: Sequence[DataSource]
    reference: Sequence[DataSource]
    as_of: datetime
    types: Mapping[str, pl.DataType] = field(default_factory=dict)
    columns: Sequence[str] = ()
    max_psi: float = 0.2
    min_drifted_share: float = 0.0
    time_column: str = ""
    max_age: timedelta | None = None
    predictions: DataSource | None = None
    prediction_columns: Columns = field(default_factory=Columns)
    registered: Mapping[str, float] = field(default_factory=dict)
    metric: str = ""
    max_regression: float = 0.05


@dataclass(frozen=True)
class Quality:
    """A metric in use against the registered one; `worse` when the loss is more than is allowed, `task` in words."""

    metric: str
    live: float
    registered: float
    rows: int
    worse: bool
    task: str


@dataclass(frozen=True)
class Observation:
    """What was found. `reasons` says in words why the model should be trained again; empty when it need not."""

    drift: drift.Drift
    fingerprint: str
    rows: int
    reasons: list[str]
    age_hours: float | None = None
    quality: Quality | None = None

    @property
    def score(self) -> float:
        """The largest PSI."""
        return max((column.psi for column in self.drift.columns), default=0.0)


def observe(request: MonitorRequest) -> Observation:
    """Compare, and judge.

    Raises:
        BadInput: the data cannot be read, or has nothing to compare.
    """
    if request.max_age is not None and not request.time_column:
        raise BadInput("`max-age` needs to know which column has the time of a row", fix="Set `time-column`")
    if request.metric and request.predictions is None:
        why = "It is computed from predictions in use and their labels"
        fix = "Give `predictions`, or leave out `metric`"
        raise BadInput(f"The metric {request.metric} cannot be compared with the registered one", why=why, fix=fix)
    current = open_table(request.data, request.types)
    reference = open_table(request.reference, request.types)
    found = drift.compare(reference, current, request.columns, request.max_psi)
    if not found.columns:
        why = "; ".join(f"{name} {reason}" for name, reason in list(found.skipped.items())[:5])
        raise BadInput("No column can be compared", why=why, fix="Name some in `columns`")
    reasons = []
    if found.drifted and found.share >= request.min_drifted_share:
        worst = found.drifted[0]
        count = f"{len(found.drifted)} of {len(found.columns)} columns have drifted"
        reasons.append(f"{count}, {worst.column} most (PSI {worst.psi:.3g})")
    age = None
    if request.time_column:
        span = age_of(newest_of(current, request.time_column), request.as_of)
        if span is None:
            raise BadInput(f"The data has no column of times {request.time_column!r}", fix="Correct `time-column`")
        age = span.total_seconds() / 3600
        if request.max_age is not None and span > request.max_age:
            reasons.append(f"the newest row is {age:,.0f} h old")
    quality = _quality(request) if request.predictions else None
    if quality and quality.worse:
        reasons.append(f"{quality.metric} in use is {quality.live:.4g}, registered was {quality.registered:.4g}")
    digest, rows = fingerprint(request.data, request.types)
    return Observation(found, digest, rows, reasons, age, quality)


def retrain_parameters(
    template: Mapping[str, Any], known: Mapping[str, Any], facts: Mapping[str, str]
) -> dict[str, Any]:
    """What a retraining is started with: the version's own parameters with those of the template over them.

    Args:
        template: parameters; `$name` in a text is replaced by a fact.
        known: the version's parameters.
        facts: `files`, `fingerprint`, `version`, `as_of`.

    Raises:
        BadInput: the template names an unknown fact.
    """

    def fill(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return Template(value).substitute(facts)
        except (KeyError, ValueError) as error:
            fix = f"Known: {', '.join('$' + name for name in facts)}; write $$ for a dollar"
            raise BadInput(f"`retrain` has a placeholder that cannot be filled: {error}", fix=fix) from None

    return {**known, **{name: fill(value) for name, value in template.items()}}


def _quality(request: MonitorRequest) -> Quality:
    assert request.predictions is not None
    read = read_predictions(request.predictions, request.prediction_columns)
    live = metrics.compute(read)
    both = [name for name in live if name in request.registered]
    name = request.metric or next((n for n in PRIMARY[read.task] if n in both), PRIMARY[read.task][0])
    if name not in both:
        why = f"Live: {', '.join(live) or 'none'}; registered: {', '.join(request.registered) or 'none'}"
        raise BadInput(f"The metric {name!r} is not both registered and live", why=why, fix=did_you_mean(name, both))
    loss = request.registered[name] - live[name]
    loss = loss if is_higher_better(name) else -loss
    return Quality(
        name, live[name], request.registered[name], len(read.label), loss > request.max_regression, read.task_in_words
    )
