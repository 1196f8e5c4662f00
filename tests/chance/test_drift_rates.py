"""Drift: how often samples of one distribution alarm, and that those of two do, over kinds of columns and sizes."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from scipy import stats

from drift_columns import one, series
from mlops_actions.data.drift import CHANCE, compare_columns, judge


def draws(kind: str, random: np.random.Generator, rows: int) -> pl.Series:
    if kind == "normal":
        return series(random.normal(size=rows))
    if kind == "mostly 0":
        return series(np.where(random.random(rows) < 0.7, 0.0, random.exponential(size=rows)))
    if kind == "with nulls":
        return series(np.where(random.random(rows) < 0.05, np.nan, random.normal(size=rows))).fill_nan(None)
    if kind == "rare flag":
        return series(random.random(rows) < 0.002)
    if kind == "weekday":
        return series(random.integers(1, 8, rows))
    if kind == "100 categories":
        return series(random.integers(0, 100, rows)).cast(pl.String)
    return series((1 / (1 - random.random(rows) * 0.999)).astype(int)).cast(pl.String)  # 1,000, most of them rare


KINDS = ("normal", "mostly 0", "with nulls", "rare flag", "weekday", "100 categories", "1,000 categories")
SIZES = ((2000, 30), (2000, 300), (800, 800), (200, 200), (60, 2000))


def test_two_samples_of_one_distribution_give_no_more_alarms_than_promised() -> None:
    """One alarm in a thousand, of this column alone, and whatever its distances: what is over the 99.99 % bound of a
    binomial of that rate is not chance; of each kind and pair of sizes, and of all together. At one in a hundred the
    bound is a sharper one."""
    pairs, found = 100, list[float]()
    for (before, now), kind in itertools.product(SIZES, KINDS):
        random = np.random.default_rng(17)
        p = [compare_columns("c", draws(kind, random, before), draws(kind, random, now)).p for _ in range(pairs)]
        for rate in (0.001, 0.01):
            assert sum(one < rate for one in p) <= stats.binom.ppf(0.9999, pairs, rate), (kind, before, now)
        found += p
    for rate in (0.001, 0.01, 0.05):
        assert sum(one < rate for one in found) <= stats.binom.ppf(0.9999, len(found), rate)


def test_a_table_that_has_not_moved_alarms_no_more_often_than_promised() -> None:
    """One false alarm in a thousand tables, however many columns they have and whatever the limits."""
    random, kinds, pairs = np.random.default_rng(23), ("normal", "rare flag", "weekday", "1,000 categories"), 150
    alarms = 0
    for _ in range(pairs):
        found = [compare_columns(kind, draws(kind, random, 500), draws(kind, random, 200)) for kind in kinds * 2]
        alarms += any(column.drifted for column in judge(found, max_psi=1e-9))
    assert alarms <= stats.binom.ppf(0.9999, pairs, CHANCE)


def test_few_rows_of_the_same_distribution_are_not_drift_although_their_psi_is_large() -> None:
    random = np.random.default_rng(3)
    reference = random.normal(size=20_000)
    found = [one(reference, random.normal(size=25)) for _ in range(200)]
    assert sum(column.psi > 0.2 for column in found) > 100
    assert sum(column.drifted for column in found) <= 3


def test_many_columns_that_have_not_moved_give_no_alarm_where_each_alone_would() -> None:
    random = np.random.default_rng(11)
    found = [
        compare_columns(f"c{i}", series(random.normal(size=300)), series(random.normal(size=30))) for i in range(500)
    ]
    assert sum(column.p < 0.01 and column.psi > 0.2 for column in found) >= 2
    assert not any(column.drifted for column in judge(found))


@pytest.mark.parametrize(("before", "now"), [(4000, 100), (4000, 400), (1000, 1000)])
def test_categories_that_moved_are_drift_at_any_size(before: int, now: int) -> None:
    random = np.random.default_rng(5)
    old = draws("100 categories", random, before)
    moved = series(np.where(random.random(now) < 0.4, 3, random.integers(0, 100, now))).cast(pl.String)
    replaced = series(random.integers(100, 200, now)).cast(pl.String)
    assert one(old, moved).drifted and one(old, replaced).drifted


@pytest.mark.parametrize("rows", [1000, 20_000])
def test_rare_categories_that_are_replaced_or_vanish_are_drift_and_the_same_ones_are_not(rows: int) -> None:
    random = np.random.default_rng(3)
    old, same = (series(random.integers(0, 1000, rows)).cast(pl.String) for _ in range(2))
    replaced = series(random.integers(500, 1500, rows)).cast(pl.String)
    fewer = series(random.integers(0, 500, rows)).cast(pl.String)
    for moved in (replaced, fewer):
        assert one(old, moved).drifted and one(old, moved).psi > 0.5
    assert not one(old, same).drifted
    copy = one(old, old.shuffle(seed=1))
    assert (copy.psi, copy.p) == (0, 1)
