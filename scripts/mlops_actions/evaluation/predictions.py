"""Predictions files: labels with scores or predicted classes, and what task they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..data.sources import DataSource
from ..data.tables import read_table
from ..errors import BadInput
from ..text import many
from .formulas import is_probability
from .metric import Metric, Task

_CLASSES = 50
"""Whole numbers with more values than that are quantities, unless there is a column of predicted classes."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a predictions file. `id` names a row in several files, or is ""."""

    label: str = "label"
    score: str = "score"
    prediction: str = "prediction"
    id: str = ""


@dataclass(frozen=True)
class Predictions:
    """A predictions file, read: arrays of one length; `score` or `prediction` may be None.

    Attributes:
        task: what is predicted.
        label, score, prediction: of a binary task labels and predictions are 1 for the positive class and 0 for the
            other one; of a multiclass task the names of classes.
        positive: the positive class of a binary task as the file has it; else "".
    """

    frame: pl.DataFrame
    task: Task
    label: NDArray[Any]
    score: NDArray[Any] | None
    prediction: NDArray[Any] | None
    positive: str = ""

    @property
    def task_in_words(self) -> str:
        """The task as a person is told it: `binary (the positive class is yes)`."""
        return f"{self.task} (the positive class is {self.positive})" if self.positive else self.task

    def values_of(self, metric: Metric) -> NDArray[Any] | None:
        """What a metric is computed of: the scores, or the predicted classes where it is of those; None without it."""
        if self.task not in metric.tasks:
            return None
        if metric.of == "prediction" and self.prediction is not None:
            return self.prediction
        usable = metric.of == "score" or (self.score is not None and is_probability(self.score))
        return self.score if usable else None

    def take(self, rows: pl.Series) -> Predictions:
        """Some of the rows, by their numbers."""
        index = rows.to_numpy()
        score = None if self.score is None else self.score[index]
        prediction = None if self.prediction is None else self.prediction[index]
        return Predictions(self.frame[index], self.task, self.label[index], score, prediction, self.positive)


def read_predictions(source: DataSource, columns: Columns, task: Task | Literal["auto"] = "auto") -> Predictions:
    """Read a predictions file, and find out what its task is if that is not said.

    Two classes are a binary task, whatever they are called; the positive class is the greater one, which is the one of
    `predict_proba(x)[:, 1]` in scikit-learn.

    Raises:
        BadInput: no such columns, missing values, labels that do not fit the task, or a task that cannot be told.
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
        raise BadInput(f"{source.name} has no rows", fix="Check the step that wrote it")
    for name in (columns.label, *have):
        count = frame.get_column(name).null_count()
        if count:
            raise BadInput(f"{source.name} has {many(count, 'row')} without {name}", fix="Give each test row a value")
    label = frame.get_column(columns.label)
    scores = frame.get_column(columns.score) if columns.score in have else None
    classes = frame.get_column(columns.prediction) if columns.prediction in have else None
    found: Task = _task(label, scores, classes, source) if task == "auto" else task
    score = _numbers(scores, source) if scores is not None else None
    if found == "regression":
        own = _numbers(classes, source) if classes is not None else None
        return Predictions(frame, found, _numbers(label, source), own if score is None else score, None)
    names = _named(label)
    said = _named(classes) if classes is not None else None
    if found == "binary" and classes is not None and _is_probability(classes) and score is None:
        score, said = _numbers(classes, source), None
    if said is not None:
        _check_same_classes(names, said, source)
    if found == "multiclass":
        return Predictions(frame, found, names.to_numpy(), score, said.to_numpy() if said is not None else None)
    positive = _positive_of(names if said is None else pl.concat([names.alias(""), said.alias("")]), source)
    label_, said_ = (None if s is None else (s == positive).cast(pl.Float64).to_numpy() for s in (names, said))
    assert label_ is not None
    return Predictions(frame, found, label_, score, said_, positive)


def _task(label: pl.Series, scores: pl.Series | None, classes: pl.Series | None, source: DataSource) -> Task:
    if not label.dtype.is_numeric():  # texts, booleans, categories
        names = _named(label) if classes is None else pl.concat([_named(label).alias(""), _named(classes).alias("")])
        return "binary" if names.n_unique() <= 2 else "multiclass"
    if not _whole(label):
        return "regression"
    distinct = set(label.unique().to_list())
    if distinct <= {0, 1} or distinct <= {-1, 1}:
        other = set(classes.unique().to_list()) - distinct if classes is not None and _whole(classes) else set()
        return "binary" if not other or scores is not None or other <= {0, 1} or distinct <= {-1, 1} else "multiclass"
    if classes is not None and _whole(classes):
        only_known = set(classes.unique().to_list()) <= distinct
        if only_known or (label.dtype.is_integer() and len(distinct) <= _CLASSES):
            return "multiclass" if len(distinct) > 2 or not only_known else "binary"
    if scores is not None and label.dtype.is_integer() and len(distinct) <= _CLASSES and _is_probability(scores):
        if len(distinct) == 2:
            return "binary"
        raise BadInput(
            f"The task of {source.name} is unclear",
            why=f"Its labels are {len(distinct)} whole numbers, and its scores look like probabilities",
            fix="Set `task`; for `multiclass` give a column of predicted classes",
        )
    return "regression"


def _whole(values: pl.Series) -> bool:
    """Whether all values are whole numbers, whatever their type."""
    if values.dtype.is_integer():
        return True
    return values.dtype.is_float() and bool((values.is_finite() & (values == values.round())).all())


def _is_probability(values: pl.Series) -> bool:
    """Whether all values are from 0 to 1, and some lie between."""
    if not values.dtype.is_float():
        return False
    return bool(values.is_between(0, 1).all()) and not _whole(values)


def _named(values: pl.Series) -> pl.Series:
    """Classes by name: 1 and 1.0 are the same one."""
    whole = values.dtype.is_float() and _whole(values)
    named: pl.Series = (values.cast(pl.Int64, strict=False) if whole else values).cast(pl.String)
    return named


def _check_same_classes(names: pl.Series, said: pl.Series, source: DataSource) -> None:
    """Classes that are written in two ways (True and 1) would give an accuracy of 0."""
    labels, predictions = (sorted(set(values.to_list())) for values in (names, said))
    if len(labels) > 1 and not set(labels) & set(predictions):
        raise BadInput(
            f"No prediction in {source.name} is one of its labels",
            why=f"The labels are {', '.join(labels[:5])}; the predictions are {', '.join(predictions[:5])}",
            fix="Write the classes of both in the same way",
        )


def _positive_of(names: pl.Series, source: DataSource) -> str:
    """The greater of two classes by number or, where one is not a number, by name."""
    distinct: list[str] = names.unique().to_list()
    if len(distinct) > 2:
        raise BadInput(
            f"The labels of {source.name} are not two classes",
            why=f"There are {len(distinct)}: {', '.join(sorted(distinct)[:5])}, …",
            fix="Set `task`, or write two classes",
        )
    if set(distinct) <= {"0", "1", "-1"} or set(distinct) <= {"false", "true"}:
        return "true" if distinct[0] in ("false", "true") else "1"
    try:
        return max(distinct, key=float)
    except ValueError:
        return max(distinct)


def _numbers(column: pl.Series, source: DataSource) -> NDArray[Any]:
    """A column as numbers; those of 32 bits stay so, because they round otherwise."""
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise BadInput(
            f"{column.name} in {source.name} has the type {column.dtype}, which is not a number",
            fix="Set `task`, or write numbers",
        )
    values: NDArray[Any] = (column if column.dtype == pl.Float32 else column.cast(pl.Float64)).to_numpy()
    if not np.isfinite(values).all():
        raise BadInput(f"{column.name} in {source.name} has values that are not finite", fix="Check the model")
    return values
