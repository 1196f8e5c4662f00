"""Baselines, trained on the spot: what a model must be better than to be worth anything.

`constant` knows only the labels' distribution: the share of positives, the mean, or the commonest class. `linear` is a
linear or logistic regression of the columns of numbers that the predictions file has beside its own, by
cross-validation on the same rows. `season-naive` forecasts what was one season earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special

from ..data.sources import DataSource
from ..data.tables import read_table, unknown_column
from ..errors import BadInput
from .formulas import Array
from .predictions import Columns, Predictions

NAMES = ("constant", "linear", "season-naive")
WORDS = {
    "constant": "a predictor that knows no features",
    "linear": "a linear model of the features, by cross-validation",
    "season-naive": "what was one season earlier",
}
LINEAR = ("binary", "multiclass", "regression", "forecasting")
"""Tasks that a linear model is trained for."""
_FOLDS = 5
_RIDGE = 1.0
_FITTED = 50_000
"""Rows that a linear model is fitted to at most."""


@dataclass(frozen=True)
class History:
    """What a season-naive forecast knows: labels before the test rows, and how many steps a season has."""

    source: DataSource
    season: int


def constant(found: Predictions) -> Predictions | None:
    """The predictor that knows only the labels' distribution; None of a task that has none."""
    label, weight, rows = found.label, found.weight, len(found.label)
    if found.task == "multiclass":
        shares = np.bincount(label, weight, minlength=len(found.classes)) / (rows if weight is None else weight.sum())
        said = np.full(rows, shares.argmax())
        score = None if found.score is None else np.tile(shares, (rows, 1))
        return replace(found, score=score, prediction=said)
    if found.task == "multilabel":
        shares = np.average(label, axis=0, weights=weight)
        return replace(
            found, score=np.tile(shares, (rows, 1)), prediction=np.tile((shares >= 0.5).astype(float), (rows, 1))
        )
    if found.task in ("ranking", "scores"):
        return None if found.task == "scores" else replace(found, score=np.zeros(rows))
    return replace(found, score=np.full(rows, float(np.average(label, weights=weight))), prediction=None)


def linear(found: Predictions, columns: Columns) -> Predictions | None:
    """The linear model's predictions of the same rows; None when there are no columns of features, or no such task."""
    if found.task not in LINEAR:
        return None
    own = {*vars(columns).values()}
    prefixes = tuple(f"{name}_" for name in (columns.label, columns.score, columns.prediction))
    names = [
        name for name, kind in found.frame.schema.items()
        if kind.is_numeric() and name not in own and not name.startswith(prefixes)
    ]  # fmt: skip
    if not names:
        return None
    x = found.frame.select(pl.col(names).cast(pl.Float64).fill_nan(None)).to_numpy()
    x = np.where(np.isfinite(x), x, np.nan)
    with np.errstate(all="ignore"):
        middle = np.nan_to_num(np.nanmean(np.where(np.isnan(x).all(0), 0, x), axis=0))
    x = np.where(np.isnan(x), middle, x) - middle
    x = np.column_stack([np.ones(len(x)), x / np.where((spread := x.std(0)) > 0, spread, 1)])
    folds = _folds(found)
    predict = _regressed if found.task in ("regression", "forecasting") else _classified
    width = len(found.classes) if found.task == "multiclass" else 1
    score = np.empty((len(x), width))
    for fold in range(_FOLDS):
        train = np.flatnonzero(folds != fold)
        train = train if len(train) <= _FITTED else np.random.default_rng(0).choice(train, _FITTED, replace=False)
        if len(train) and (folds == fold).any():
            score[folds == fold] = predict(x[train], found.label[train], x[folds == fold], width)
    if found.task == "multiclass":
        return replace(found, score=score if found.score is not None else None, prediction=score.argmax(1))
    return replace(found, score=score[:, 0], prediction=None)


def season_naive(found: Predictions, columns: Columns, history: History) -> Predictions:
    """The label of the last season that was known when the forecast was made; NaN where there is none.

    For `h` steps ahead and seasons of `m` steps that is the label of `m · ⌈h / m⌉` steps before. Each row also gets the
    scale of `mase`: the mean error of the season-naive forecast in the history of its series.

    Raises:
        BadInput: a column is missing.
    """
    past = read_table(history.source)
    if not columns.time:
        raise BadInput("A season-naive forecast needs the time of each row", fix="Set `time-column`")
    series = [columns.series] if columns.series else []
    for name in (columns.label, columns.time, *series):
        for frame, file in ((past, history.source.name), (found.frame, "The predictions file")):
            if name not in frame.columns:
                raise unknown_column(name, file, frame.columns)
    keys = [pl.col(name).cast(pl.String) for name in series] or [pl.lit("").alias("series")]
    wanted = [*keys, pl.col(columns.time).alias("time"), pl.col(columns.label).cast(pl.Float64).alias("label")]
    try:
        known = pl.concat(
            [
                one.select(*wanted, pl.lit(before).alias("before"))
                for one, before in ((past, True), (found.frame, False))
            ],
            how="vertical_relaxed",
        )
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{columns.time} is of another type in {history.source.name}", why=str(error)) from None
    key = known.columns[0]
    steps = known.get_column("time").unique().sort().to_frame().with_row_index("step")
    known = known.join(steps, on="time", how="left").unique([key, "step"], keep="first", maintain_order=True)
    ahead = found.frame.get_column(columns.horizon).cast(pl.Int64) if columns.horizon in found.frame.columns else 1
    m = history.season
    asked = found.frame.select([*keys, pl.col(columns.time).alias("time")]).join(
        steps, on="time", how="left", maintain_order="left"
    )
    back = asked.with_columns((pl.col("step").cast(pl.Int64) - (pl.lit(ahead) + m - 1) // m * m).alias("step"))
    known = known.with_columns(pl.col("step").cast(pl.Int64))
    naive = back.join(known.select(key, "step", "label"), on=[key, "step"], how="left", maintain_order="left")
    trained = known.filter("before").sort(key, "step")
    errors = trained.with_columns((pl.col("label") - pl.col("label").shift(m).over(key)).abs().alias("error"))
    scales = errors.group_by(key).agg(pl.col("error").mean())
    scale = asked.join(scales, on=key, how="left", maintain_order="left").get_column("error").to_numpy()
    score = naive.get_column("label").to_numpy().astype(np.float64)
    known_scale = bool((np.nan_to_num(scale.astype(np.float64)) > 0).all())
    return replace(found, score=score, prediction=None, scale=scale if known_scale else None)


def _folds(found: Predictions) -> NDArray[Any]:
    """The fold of each row; rows of one block are in one fold."""
    units = np.arange(len(found.label)) if found.blocks is None else found.blocks
    names, codes = np.unique(units, return_inverse=True)
    folds: NDArray[Any] = (np.random.default_rng(0).permutation(len(names)) % _FOLDS)[codes]
    return folds


def _regressed(x: Array, label: Array, asked: Array, _: int) -> Array:
    penalty = _RIDGE * np.diag(np.append(0.0, np.ones(x.shape[1] - 1)))
    weights: Array = np.linalg.solve(x.T @ x + penalty, x.T @ label)
    return (asked @ weights)[:, None]


def _classified(x: Array, label: Array, asked: Array, classes: int) -> Array:
    """Logistic regression; of several classes the softmax of one row of weights each."""
    count = max(classes, 2)
    there = label.astype(np.intp)[:, None] == np.arange(count)

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(x.shape[1], count)
        logs = special.log_softmax(x @ weights, axis=1)
        slope = x.T @ (np.exp(logs) - there) + _RIDGE * weights
        return float(-logs[there].sum() + _RIDGE / 2 * (weights**2).sum()), slope.ravel()

    found = optimize.minimize(loss, np.zeros(x.shape[1] * count), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    shares: Array = special.softmax(asked @ found.x.reshape(x.shape[1], count), axis=1)
    return shares if classes > 1 else shares[:, 1:]
