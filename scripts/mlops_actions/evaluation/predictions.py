"""Predictions files: labels with scores or predicted classes, and what task they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..data.sources import DataSource
from ..data.tables import read_table, unknown_column
from ..errors import BadInput
from ..text import many
from . import formulas
from .formulas import Statistic, classes_of, is_probability
from .metric import Metric, Task

_CLASSES = 50
"""Whole numbers with more values than that are quantities, unless there is a column of predicted classes."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a predictions file; "" for one that it need not have.

    Attributes:
        label, score, prediction: the truth, and what the model said. Where there is one for each class or label, the
            names begin so: `score_cat`, `score_dog`.
        id: names a row in several files.
        weight: how much a row counts.
        block: what a row is not independent of, such as its day or user.
        query: what rows are ranked within.
        series, time, horizon: of forecasts: which series, the time that is forecast, and how many steps ahead.
    """

    label: str = "label"
    score: str = "score"
    prediction: str = "prediction"
    id: str = ""
    weight: str = ""
    block: str = ""
    query: str = ""
    series: str = ""
    time: str = ""
    horizon: str = ""


@dataclass(frozen=True)
class Predictions:
    """A predictions file, read: arrays of one length; what it does not have is None.

    Attributes:
        task: what is predicted.
        label, score, prediction: of a binary task labels and predictions are 1 for the positive class and 0 for the
            other one; of a multiclass task numbers of `classes`, with a column of scores for each class; of a
            multilabel task all have a column for each label.
        positive: the positive class of a binary task as the file has it; else "".
        classes: the names of classes, of labels, or of the columns of scores.
        weight: how much each row counts.
        blocks: the number of each row's block, for resampling.
        query: of a ranking task the number of each row's query.
        scale: of a forecast the error of the season-naive forecast in its series' history, see `baselines`.
        frame: all columns.
    """

    task: Task
    label: NDArray[Any]
    score: NDArray[Any] | None = None
    prediction: NDArray[Any] | None = None
    positive: str = ""
    classes: tuple[str, ...] = ()
    weight: NDArray[Any] | None = None
    blocks: NDArray[Any] | None = None
    query: NDArray[Any] | None = None
    scale: NDArray[Any] | None = None
    frame: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def task_in_words(self) -> str:
        """The task as a person is told it: `binary (the positive class is yes)`."""
        return f"{self.task} (the positive class is {self.positive})" if self.positive else self.task

    def one_class(self, columns: Columns) -> str:
        """That all labels are of one class, in words; "" if they are not, or if the task has no classes."""
        labels = self.frame.get_column(columns.label) if self.task in ("binary", "multiclass") else pl.Series()
        if labels.n_unique() != 1:
            return ""
        said = f"all {len(labels):,} labels are" if len(labels) > 1 else "the only label is"
        return f"there is only one class: {said} {labels[0]}"

    def values_of(self, metric: Metric) -> NDArray[Any] | None:
        """What a metric is computed of: the scores, or the predicted classes where it is of those; None without it."""
        if metric.of == "column":
            return _numbers(self.frame.get_column(metric.name), "The predictions file")
        if self.task not in metric.tasks or (metric.name == "mase" and self.scale is None):
            return None
        if metric.of == "prediction":
            return self.predicted
        usable = metric.of == "score" or (self.score is not None and is_probability(self.score))
        return self.score if usable else None

    def statistic(self, metric: Metric) -> Statistic | None:
        """A metric as a function of the rows' weights; None when the rows lack what it is computed of."""
        values = self.values_of(metric)
        if values is None:
            return None
        if metric.of == "column":
            return formulas.mean(values)
        arguments: list[Any] = [self.label, values]
        if self.task == "ranking":
            arguments.append(self.query)
        if metric.name == "mase":
            arguments.append(self.scale)
        if metric.at is not None:
            arguments.append(metric.at)
        made: Statistic = getattr(formulas, metric.name.partition("@")[0])(*arguments)
        return made

    @property
    def predicted(self) -> NDArray[Any] | None:
        """The predicted classes: given, else those with a probability of 0.5 or more, or with the highest one."""
        if self.prediction is not None or self.score is None or not is_probability(self.score):
            return self.prediction
        return self.score.argmax(1) if self.task == "multiclass" else classes_of(self.score)

    def take(self, rows: NDArray[Any]) -> Predictions:
        """Some of the rows, by their numbers."""
        arrays = ("label", "score", "prediction", "weight", "blocks", "query", "scale")
        some: dict[str, Any] = {name: None if (all_ := getattr(self, name)) is None else all_[rows] for name in arrays}
        if some["query"] is not None:
            some["query"] = np.unique(some["query"], return_inverse=True)[1]
        return replace(self, frame=self.frame[rows], **some)


def with_classes(found: Predictions, classes: tuple[str, ...]) -> Predictions:
    """Predictions of a multiclass task whose classes are numbered as in a longer list of them."""
    places = np.array([classes.index(name) for name in found.classes])
    score = None
    if found.score is not None:
        score = np.zeros((len(found.label), len(classes)))
        score[:, places] = found.score
    said = None if found.prediction is None else places[found.prediction]
    return replace(found, label=places[found.label], score=score, prediction=said, classes=classes)


def read_predictions(source: DataSource, columns: Columns, task: Task | Literal["auto"] = "auto") -> Predictions:
    """Read a predictions file, and find out what its task is if that is not said.

    Two classes are a binary task, whatever they are called; the positive class is the greater one, which is the one of
    `predict_proba(x)[:, 1]` in scikit-learn.

    Raises:
        BadInput: no such columns, missing values, several rows of one id, labels that do not fit the task, or a task
            that cannot be told.
    """
    frame = read_table(source)
    if frame.is_empty():
        raise BadInput(f"{source.name} has no rows", fix="Check the step that wrote it")
    found = _read(frame, columns, task, source)
    weight = None
    if columns.weight:
        weight = _weights(_column(frame, columns.weight, "weight-column", source), source)
    if columns.id:
        check_ids(frame, columns.id, source)
    blocks, query = (
        _codes(_column(frame, name, f"{what}-column", source)) if name else None
        for name, what in ((columns.block, "block"), (columns.query, "query"))
    )
    if blocks is None:
        blocks = query  # rows of one query are not independent
    elif query is not None:
        _check_within(query, blocks, columns, source)
    if found.task == "ranking" and query is None:
        raise BadInput("A ranking task needs to know what its rows are ranked within", fix="Set `query-column`")
    if found.task == "ranking" and weight is not None:
        raise BadInput("Ranking metrics take no weights", fix="Leave `weight-column` out")
    return replace(found, weight=weight, blocks=blocks, query=query, frame=frame)


def _read(frame: pl.DataFrame, columns: Columns, task: Task | Literal["auto"], source: DataSource) -> Predictions:
    if task == "scores":
        used = {value for value in vars(columns).values() if value != columns.score}
        of_numbers = (one for one in frame.get_columns() if one.dtype.is_numeric() or one.dtype == pl.Boolean)
        names = tuple(one.name for one in of_numbers if one.name not in used)
        return Predictions("scores", np.zeros(frame.height), classes=names)
    parts = [_parts(frame, name) for name in (columns.label, columns.score, columns.prediction)]
    if task == "auto":
        if columns.query:
            task = "ranking"
        elif columns.label not in frame.columns and parts[0] and (parts[1] or parts[2]):
            task = "multilabel"
        elif columns.horizon or columns.series or columns.time:
            task = "forecasting"
    if task == "multilabel":
        return _multilabel(frame, parts, source)
    label, score, said = (
        frame.get_column(name) if name in frame.columns else None
        for name in (columns.label, columns.score, columns.prediction)
    )
    if label is None or (score is None and said is None and not parts[1]):
        need = columns.label if label is None else f"{columns.score} or {columns.prediction}"
        raise BadInput(
            f"{source.name} has no column {need}", why=f"It has: {', '.join(frame.columns)}",
            fix="Set `label-column`, `score-column` or `prediction-column`",
        )  # fmt: skip
    for one in (label, score, said):
        if one is not None and one.null_count():
            count = many(one.null_count(), "row")
            raise BadInput(f"{source.name} has {count} without {one.name}", fix="Give each test row a value")
    if said is not None and not {f"{columns.score}_{name}" for name in _named(label).unique()} <= set(parts[1]):
        parts[1] = []  # other columns whose names begin so
    if task == "auto":
        task = "multiclass" if score is None and parts[1] else _task(label, score, said, source)
    found: Task = task
    if found == "multiclass":
        return _multiclass(label, said, frame.select(parts[1]), columns.score, source)
    if found != "binary":
        values = score if score is not None else said
        assert values is not None
        return Predictions(found, _numbers(label, source.name), _numbers(values, source.name))
    return _binary(label, score, said, source)


def _binary(label: pl.Series, score: pl.Series | None, said: pl.Series | None, source: DataSource) -> Predictions:
    names = _named(label)
    scores = _numbers(score, source.name) if score is not None else None
    classes = _named(said) if said is not None else None
    if said is not None and _is_probability(said) and scores is None:
        scores, classes = _numbers(said, source.name), None
    if classes is not None:
        _check_same_classes(names, classes, source)
    labels = names.unique().to_list()
    both = {*labels, *(classes.unique().to_list() if classes is not None else ())}
    if len(labels) > 2:
        raise BadInput(
            f"The labels of {source.name} are not two classes", why=f"There are {len(labels)}: {_listed(labels)}",
            fix="Set `task`, or write two classes",
        )  # fmt: skip
    if said is not None and classes is not None and len(both) > 2:
        fault = _where(said, ~classes.is_in(labels).to_numpy(), "not one of the labels")
        raise BadInput(
            f"{said.name} in {source.name} is {fault}", why=f"The labels are {_listed(labels)}",
            fix="Write the same two classes to both columns, or set `task: multiclass`",
        )  # fmt: skip
    positive = _positive_of(sorted(both))
    label_, said_ = (None if s is None else (s == positive).cast(pl.Float64).to_numpy() for s in (names, classes))
    assert label_ is not None
    return Predictions("binary", label_, scores, said_, positive)


def _multiclass(
    label: pl.Series, said: pl.Series | None, scores: pl.DataFrame, prefix: str, source: DataSource
) -> Predictions:
    """Labels by name, with predicted classes, or a column of probabilities of each class, `score_<class>`."""
    names = _named(label)
    predicted = _named(said) if said is not None else None
    if predicted is not None:
        _check_same_classes(names, predicted, source)
    of_scores = [name.removeprefix(f"{prefix}_") for name in scores.columns]
    others = sorted({*names.unique(), *(predicted.unique() if predicted is not None else ())} - set(of_scores))
    if of_scores and others:
        raise BadInput(
            f"{source.name} has no column of scores of the class {others[0]}",
            why=f"It has those of: {', '.join(of_scores[:20])}",
            fix=f"Write `{prefix}_{others[0]}`",
        )
    classes = tuple(sorted([*of_scores, *others]))
    codes = {name: number for number, name in enumerate(classes)}
    label_, said_ = (
        None if one is None else one.replace_strict(codes, return_dtype=pl.Int64).to_numpy()
        for one in (names, predicted)
    )
    assert label_ is not None
    matrix = _matrix(scores, [f"{prefix}_{name}" for name in classes], source) if of_scores else None
    if matrix is not None and is_probability(matrix) and np.abs(matrix.sum(1) - 1).max() > 1e-3:
        row = int(np.abs(matrix.sum(1) - 1).argmax())
        raise BadInput(
            f"The probabilities of row {row + 1} of {source.name} sum to {matrix[row].sum():.4g}, not to 1",
            fix=f"Write the probability of each class to `{prefix}_<class>`",
        )
    return Predictions("multiclass", label_, matrix, said_, classes=classes)


def _multilabel(frame: pl.DataFrame, parts: list[list[str]], source: DataSource) -> Predictions:
    """0 or 1 for each label in `label_<name>`, with `score_<name>` or `prediction_<name>`."""
    names, *others = ([name.split("_", 1)[1] for name in part] for part in parts)
    for other in others:
        if other and sorted(other) != sorted(names):
            odd = sorted(set(other) ^ set(names))[0]
            raise BadInput(f"{source.name} does not have the label {odd} in all of its columns")
    if not names or not any(others):
        raise BadInput(
            f"{source.name} has no columns of a multilabel task", why=f"It has: {', '.join(frame.columns)}",
            fix="Write `label_<name>` and `score_<name>` or `prediction_<name>` for each label",
        )  # fmt: skip
    label, score, said = (_matrix(frame, sorted(part), source).astype(np.float64) if part else None for part in parts)
    for name in (*parts[0], *parts[2]):
        column = frame.get_column(name)
        if fault := _where(column, ~np.isin(_numbers(column, source.name), (0, 1)), "neither 0 nor 1"):
            raise BadInput(f"{name} in {source.name} is {fault}", fix="Write 1 where a row has the label, else 0")
    assert label is not None
    return Predictions("multilabel", label, score, said, classes=tuple(sorted(names)))


def _parts(frame: pl.DataFrame, prefix: str) -> list[str]:
    return [name for name in frame.columns if name.startswith(f"{prefix}_")]


def _matrix(frame: pl.DataFrame, names: list[str], source: DataSource) -> NDArray[Any]:
    return np.column_stack([_numbers(frame.get_column(name), source.name) for name in names])


def _column(frame: pl.DataFrame, name: str, setting: str, source: DataSource) -> pl.Series:
    if name not in frame.columns:
        raise unknown_column(name, source.name, frame.columns)
    column = frame.get_column(name)
    if column.null_count():
        raise BadInput(
            f"{source.name} has {many(column.null_count(), 'row')} without {name}", fix=f"Correct `{setting}`"
        )
    return column


def check_ids(frame: pl.DataFrame, name: str, source: DataSource) -> None:
    """Refuse ids that do not each name one row.

    Raises:
        BadInput: the column does not exist, is missing in a row, or has an id in several rows.
    """
    ids = _column(frame, name, "id-column", source)
    again = ids.filter(ids.is_duplicated())
    if len(again):
        raise BadInput(
            f"{source.name} has several rows of one {name}: {again[0]} is in {(again == again[0]).sum()} rows",
            why=f"{many(again.n_unique(), name)} {'is' if again.n_unique() == 1 else 'are'} in several rows",
            fix="Set `id-column` to a column that names each row once",
        )


def same_type(ours: pl.Series, theirs: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Two columns of ids, as text where they have different types: 7, 7.0 and "7" are one id.

    Raises:
        BadInput: the types cannot be compared.
    """
    if ours.dtype == theirs.dtype:
        return ours, theirs
    for one in (ours, theirs):
        if not (one.dtype.is_numeric() or one.dtype in (pl.String, pl.Categorical, pl.Enum)):
            raise BadInput(
                f"The ids of the two models' predictions cannot be compared: {ours.name} has the type {ours.dtype}, and"
                f" {theirs.dtype} in those of the champion",
                fix="Write ids of the same type, or set `id-column` to another column",
            )
    return _named(ours), _named(theirs)


def _weights(column: pl.Series, source: DataSource) -> NDArray[Any]:
    weight: NDArray[Any] = _numbers(column, source.name).astype(np.float64)
    fault = _where(column, weight < 0, "negative")
    if not fault and not weight.any():
        fault = f"0 in all of {many(len(weight), 'row')}"
    if fault:
        fix = "Write weights of 0 or more, at least one of them above 0, or correct `weight-column`"
        raise BadInput(f"{column.name} in {source.name} is {fault}", fix=fix)
    return weight


def _where(column: pl.Series, wrong: NDArray[Any], what: str) -> str:
    """In how many rows of a column something is wrong, and what the first of them has; "" if in none."""
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return ""
    value = column[int(rows[0])]
    return f"{what} in {many(len(rows), 'row')}, first in row {rows[0] + 1:,} ({'empty' if value is None else value})"


def _codes(column: pl.Series) -> NDArray[Any]:
    codes: NDArray[Any] = column.rank("dense").cast(pl.Int64).to_numpy() - 1
    return codes


def _check_within(query: NDArray[Any], blocks: NDArray[Any], columns: Columns, source: DataSource) -> None:
    pairs = len(np.unique(np.stack([query, blocks]), axis=1).T)
    if pairs > len(np.unique(query)):
        why = "A query is drawn as a whole, so all its rows must be in one block"
        raise BadInput(f"A {columns.query} of {source.name} has several values of {columns.block}", why=why)


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
            why=f"The labels are {_listed(labels)}; the predictions are {_listed(predictions)}",
            fix="Write the classes of both in the same way",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")


def _positive_of(distinct: list[str]) -> str:
    """The greater of two classes by number or, where one is not a number, by name."""
    if set(distinct) <= {"0", "1", "-1"} or set(distinct) <= {"false", "true"}:
        return "true" if distinct[0] in ("false", "true") else "1"
    try:
        return max(distinct, key=float)
    except ValueError:
        return max(distinct)


def _numbers(column: pl.Series, file: str) -> NDArray[Any]:
    """A column as numbers; those of 32 bits stay so, because they round otherwise."""
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise BadInput(
            f"{column.name} in {file} has the type {column.dtype}, which is not a number",
            fix="Set `task`, or write numbers",
        )
    values: NDArray[Any] = (column if column.dtype == pl.Float32 else column.cast(pl.Float64)).to_numpy()
    if not np.isfinite(values).all():
        fault = _where(column, ~np.isfinite(values), "missing or not finite")
        raise BadInput(f"{column.name} in {file} is {fault}", fix="Write a finite number to each row: check the model")
    return values
