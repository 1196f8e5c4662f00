"""The data rules of the ML Test Score for a table that a model is trained on: leakage, class balance, held-out rows.

E. Breck et al., "The ML Test Score: A Rubric for ML Production Readiness and Technical Debt Reduction", 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ..errors import BadInput
from ..suggest import did_you_mean
from . import checks, keys
from .contract import Contract
from .findings import Check
from .rowchecks import RowCheck
from .rules import HeldOut, Training
from .tables import Table

SAMPLE = 200_000
"""About so many rows a feature's power is measured on, see `Table.sample`."""
CLASSES = 20
"""A label of numbers with more values than that is a quantity, and not a class."""
_BINS = 64


def structure(table: Table, contract: Contract) -> list[Check]:
    """That columns which are only known after the prediction are not there.

    Raises:
        BadInput: the rules name a column that the data lacks.
    """
    rules = contract.rules.training
    if rules is None:
        return []
    for key, names in (
        ("label", [rules.label] if rules.label else []),
        ("features", rules.features),
        ("prediction-time", [rules.prediction_time] if rules.prediction_time else []),
        ("known-at", [*rules.known_at, *rules.known_at.values()]),
    ):
        if absent := [name for name in names if name not in table.schema]:
            place = contract.place("table", "training", key)
            fix = did_you_mean(absent[0], table.schema, "The data has: {}")
            raise BadInput(f"`{key}` names the unknown column {absent[0]!r}", fix=fix, place=place)
        if unfit := [name for name in names if key in ("label", "features") and not _fit(table.schema[name])]:
            what = f"`{key}` names the column {unfit[0]!r}, which cannot be judged"
            place = contract.place("table", "training", key)
            raise BadInput(what, why=f"It is {table.schema[unfit[0]]}", fix="Take it out", place=place)
    because = ", only known after the prediction"
    return [
        checks.absent(table, "known_later", pattern, contract.place("table", "training", "known-later", index), because)
        for index, pattern in enumerate(rules.known_later)
    ]


def of_rows(table: Table, contract: Contract, held_out: Table | None) -> list[RowCheck]:
    """That a feature is not younger than the prediction, and that no row is in the test set too."""
    rules, made = contract.rules.training, []
    if rules is None:
        return []
    for feature, time in rules.known_at.items():
        place = contract.place("table", "training", "known-at", feature)
        shown = [time, rules.prediction_time]
        check = Check(feature, f"known_at({time} <= {rules.prediction_time})", place=place, shown=shown)
        made.append(RowCheck(check, pl.col(time) <= pl.col(rules.prediction_time), shown))
    if rules.held_out and held_out:
        made.append(_held_out(table, contract, rules.held_out, held_out))
    return made


def _held_out(table: Table, contract: Contract, rule: HeldOut, other: Table) -> RowCheck:
    place = contract.place("table", "training", "held-out")
    columns = rule.columns or [name for name in table.schema if name in other.schema]
    if not columns:
        raise BadInput("The held-out rows have no column of this table", fix="Correct `held-out`", place=place)
    name = f"not_in({', '.join(rule.data)})"
    check = Check("", name, place=place, shown=columns)
    return RowCheck(check, ~keys.is_known(columns, other, columns, table, place, nulls=True), columns)


def of_label(table: Table, contract: Contract) -> list[Check]:
    """The shares of the label's classes, and features that alone predict it too well."""
    rules = contract.rules.training
    if rules is None or not rules.label:
        return []
    rows = int(table.frame.select(pl.len()).collect(engine="streaming").item())
    names = rules.features or [name for name, kind in table.schema.items() if _fit(kind)]
    names = [name for name in names if name != rules.label]
    label = table.sample([rules.label], SAMPLE, rows).to_series()
    found = _balance(table, contract, rules)
    known = label.is_not_null()
    target = _Target(label.filter(known))
    if target.constant:
        place = contract.place("table", "training", "label")
        return found or [Check(rules.label, "class_share(0)", 1, "has only one class", place=place)]
    for name in names:
        feature = table.sample([name], SAMPLE, rows).to_series()
        value = target.power(feature.filter(known))
        check = Check(name, f"no_leak({rules.label})", place=contract.place("table", "training", "max-power"))
        if value > rules.max_power:
            check.failed = 1
            check.why = (
                f"alone predicts {rules.label} with a power of {value:.3f}, and {rules.max_power:g} is the limit"
            )
        found.append(check)
    return found


def _fit(kind: pl.DataType) -> bool:
    return not kind.is_nested() and kind not in (pl.Binary, pl.Object, pl.Null)


def _balance(table: Table, contract: Contract, rules: Training) -> list[Check]:
    if not rules.min_class_share:
        return []
    counts = table.frame.select(pl.col(rules.label).drop_nulls().value_counts()).unnest(rules.label)
    classes = dict(counts.collect(engine="streaming").iter_rows())
    total = sum(classes.values())
    rare = {name: count / total for name, count in classes.items() if count < rules.min_class_share * total}
    place = contract.place("table", "training", "min-class-share")
    check = Check(rules.label, f"class_share({rules.min_class_share:g})", len(rare), place=place)
    if len(classes) < 2:
        check.failed, check.why = 1, "has only one class"
    elif rare:
        least = sorted(rare.items(), key=lambda item: item[1])[:5]
        check.why = f"rare: {', '.join(f'{name} has {share:.2%}' for name, share in least)}"
    return [check]


class _Target:
    """A label, and how well one feature alone predicts it.

    A feature is put into bins (its values, or 64 quantiles; null is one), the label's mean in a bin, or its most
    frequent class, is what that bin predicts, and each half of the rows is predicted by the other half, so that a
    feature with a value of its own in each row gains nothing. Power is 2·AUC - 1 for two classes, the share of the
    errors of guessing the most frequent class that is avoided for more, and R² for quantities: 0 is no better than a
    guess, 1 is perfect.
    """

    def __init__(self, label: pl.Series) -> None:
        distinct = label.n_unique()
        self.constant = distinct < 2
        self._quantity = label.dtype.is_numeric() and distinct > CLASSES
        codes = label.cast(pl.Float64) if self._quantity else label.rank("dense").cast(pl.Int64) - 1
        self._y: np.ndarray[Any, Any] = codes.to_numpy()
        self._classes = distinct
        self._half = np.random.default_rng(0).random(len(label)) < 0.5

    def power(self, feature: pl.Series) -> float:
        bins = _binned(feature)
        if self._quantity or self._classes == 2:
            guess = np.empty(len(bins))
            for half in (self._half, ~self._half):
                guess[half] = self._means(bins, ~half)[bins[half]]
            return self._explained(guess) if self._quantity else self._gini(guess)
        picked = np.empty(len(bins), dtype=np.int64)
        for half in (self._half, ~self._half):
            picked[half] = self._modes(bins, ~half)[bins[half]]
        errors = float(np.mean(picked != self._y))
        return 1 - errors / (1 - float(np.bincount(self._y).max()) / len(self._y))

    def _means(self, bins: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        size = int(bins.max()) + 1
        prior = float(self._y[rows].mean()) if rows.any() else 0.0
        sums = np.bincount(bins[rows], weights=self._y[rows], minlength=size)
        means: np.ndarray[Any, Any] = (sums + prior) / (np.bincount(bins[rows], minlength=size) + 1)
        return means

    def _modes(self, bins: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        order = np.argsort(np.bincount(self._y[rows], minlength=self._classes))  # ties go to the frequent classes
        modes = np.full(int(bins.max()) + 1, order[-1])
        counts = np.zeros(len(modes))
        for label in order[::-1]:
            own = np.bincount(bins[rows & (self._y == label)], minlength=len(modes))
            modes[own > counts] = label
            counts = np.maximum(counts, own)
        return modes

    def _explained(self, guess: np.ndarray[Any, Any]) -> float:
        return 1 - float(np.mean((self._y - guess) ** 2) / np.var(self._y))

    def _gini(self, guess: np.ndarray[Any, Any]) -> float:
        ranks = pl.Series(guess).rank("average").to_numpy()
        ones = float(self._y.sum())
        zeros = len(self._y) - ones
        area = (float(ranks[self._y == 1].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
        return 2 * area - 1


def _binned(feature: pl.Series) -> np.ndarray[Any, Any]:
    """A bin's number for each row, from 0."""
    if feature.dtype.is_temporal():
        feature = feature.to_physical()
    if feature.dtype.is_float():
        feature = feature.fill_nan(None)
    if feature.dtype.is_numeric() and feature.n_unique() > _BINS:
        values = feature.cast(pl.Float64)
        edges = np.unique(np.quantile(values.drop_nulls().to_numpy(), np.linspace(0, 1, _BINS + 1)[1:-1]))
        inside = np.searchsorted(edges, values.fill_null(0).to_numpy(), side="right") + 1
        numbered: np.ndarray[Any, Any] = np.where(feature.is_null().to_numpy(), 0, inside)
        return numbered
    texts = feature if feature.dtype.is_numeric() else feature.cast(pl.String)
    codes: np.ndarray[Any, Any] = texts.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return codes
