"""Drift: known values of the index, and what must and must not count as drift."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.spatial import distance

from drift_columns import one, series
from mlops_actions.data.distances import holm, homogeneity, jensen_shannon, kolmogorov_smirnov, psi
from mlops_actions.data.drift import Drift, compare, compare_columns, judge
from mlops_actions.data.rules import DriftLimits
from mlops_actions.data.sources import DataSource
from mlops_actions.data.tables import Table, open_table
from mlops_actions.data.validate import distributions
from mlops_actions.errors import BadInput

RANDOM = np.random.default_rng(1)


def table(folder: Path, name: str, **columns: object) -> Table:
    pl.DataFrame(columns).write_parquet(folder / name)
    return open_table([DataSource(name, folder / name)])


def test_psi_of_known_shares() -> None:
    # by hand: (0.4 - 0.5) ln(0.4 / 0.5) + (0.6 - 0.5) ln(0.6 / 0.5)
    expected = 0.1 * math.log(0.5 / 0.4) + 0.1 * math.log(0.6 / 0.5)
    assert psi(np.array([0.5, 0.5]), np.array([0.4, 0.6])) == pytest.approx(expected)
    assert psi(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == 0


def test_categories_are_compared_by_their_shares() -> None:
    found = compare_columns("c", series(["a", "b"] * 5000), series(["a"] * 4000 + ["b"] * 6000))
    assert found.psi == pytest.approx(0.1 * math.log(0.5 / 0.4) + 0.1 * math.log(0.6 / 0.5), rel=1e-3)
    assert dict(zip(found.bins, found.current)) == {"a": 0.4, "b": 0.6}
    assert not judge([found])[0].drifted


@pytest.mark.parametrize(
    ("before", "now", "drifted"),
    [
        (RANDOM.normal(size=5000), RANDOM.normal(size=5000), False),
        (RANDOM.normal(size=5000), RANDOM.normal(1.0, size=5000), True),
        (RANDOM.normal(size=5000), RANDOM.normal(0, 3.0, size=5000), True),
        ([0.0] * 900 + [1.0] * 100, [0.0] * 500 + [1.0] * 500, True),
        ([5.0] * 100, [5.0] * 100, False),
        ([5.0] * 100, [7.0] * 100, True),
        ([1.0, 2.0, 3.0, 4.0] * 50, [1.0, 2.0, None, None] * 50, True),
        (["a", "b"] * 100, ["a", "c"] * 100, True),
        (["a", "b"] * 100, ["b", "a"] * 100, False),
        ([1, 2, 3] * 100, [1, 2, 4] * 100, True),
        ([True, False] * 100, [True] * 200, True),
        ([None] * 100, [None] * 100, False),
    ],
    ids=["same normal", "mean", "spread", "shares of two numbers", "same constant", "other constant", "nulls",
         "new value", "other order", "new small integer", "booleans", "all null"],
)  # fmt: skip
def test_what_is_drift(before: object, now: object, drifted: bool) -> None:
    assert one(before, now).drifted is drifted


def test_ks_agrees_with_scipys_definition() -> None:
    found = compare_columns("c", series([1.0, 2.0, 3.0, 4.0]), series([3.0, 4.0, 5.0, 6.0]))
    assert found.ks == pytest.approx(0.5)
    assert 0 < found.p <= 1


def test_limits_that_a_column_does_not_have_are_refused(tmp_path: Path) -> None:
    before = table(tmp_path, "a.parquet", x=[float(i) for i in range(500)], k=["a", "b"] * 250)
    for name, limit, words in (("k", {"ks": 0.1}, "compared as categories"),
                               ("x", {"new_categories": False}, "compared as numbers")):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            compare(before, before, limits={name: DriftLimits(**limit)})


def test_a_column_of_numbers_that_is_null_now_is_over_its_ks(tmp_path: Path) -> None:
    before = table(tmp_path, "a.parquet", x=[float(i) for i in range(500)])
    now = table(tmp_path, "b.parquet", x=[float("nan")] * 500)
    assert [c.why for c in compare(before, now, limits={"x": DriftLimits(ks=0.5)}).drifted] == ["KS 1 over 0.5"]


def test_a_table_is_compared_worst_first_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    n = 1000
    random = np.random.default_rng(5)
    same = {"id": [f"k{i}" for i in range(n)], "when": ["2013-01-01T00:00:00Z"] * n, "list": [[1]] * n}
    before = table(tmp_path, "a.parquet", **same, x=random.normal(size=n), k=["a"] * n, gone=[1] * n)
    now = table(tmp_path, "b.parquet", **same, x=random.normal(3, size=n), k=["a"] * n, new=[1] * n)
    found = compare(before, now)
    assert [c.column for c in found.columns] == ["x", "k"]
    assert [c.column for c in found.drifted] == ["x"]
    assert found.share == 0.5
    assert set(found.skipped) == {"id", "when", "list", "gone"}
    assert compare(before, now, ["k"]).drifted == []
    with pytest.raises(BadInput, match="The data has no column 'gone'"):
        compare(before, now, ["gone"])
    changed = table(tmp_path, "c.parquet", x=["a"] * n, k=["a"] * n)
    assert compare(before, changed).skipped["x"] == "is String, and Float64 in the reference"
    for named in ({"columns": ["x", "k"]}, {"limits": {"x": DriftLimits(psi=0.1)}}):
        with pytest.raises(BadInput, match=r"'x' cannot be compared.* It is String, and Float64 in the reference"):
            compare(before, changed, **named)


def test_what_is_shown_of_a_column_are_the_bins_that_moved_most() -> None:
    many = compare_columns("k", series([f"v{i}" for i in range(40)] * 5), series([f"w{i}" for i in range(40)] * 5))
    found = Drift([compare_columns("x", series(RANDOM.normal(size=100)), series(RANDOM.normal(size=100))), many], {})
    shown = distributions(found, "before", "now")
    assert shown["names"] == ["before", "now"] and [one["column"] for one in shown["columns"]] == ["x", "k"]
    assert all(len(one["bins"]) <= 12 for one in shown["columns"])
    kept = [abs(old - new) for _, old, new in shown["columns"][1]["bins"]]
    moves = sorted((abs(a - b) for a, b in zip(many.reference, many.current)), reverse=True)
    assert sorted(kept, reverse=True) == pytest.approx(moves[: len(kept)], abs=2e-4)


def test_distances_of_known_shares() -> None:
    # by hand: m = (0.5, 0.5); KL(p‖m) of disjoint halves is 1 bit
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert jensen_shannon(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == 0
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3·0.01, 2·0.03, and no less than that
    assert holm([]) == []


def test_new_and_vanished_categories_are_named_with_their_shares() -> None:
    found = one(["a"] * 500 + ["b"] * 500, ["a"] * 750 + ["c"] * 250)
    assert (found.new, found.vanished) == ({"c": 0.25}, {"b": 0.5})


def test_a_column_has_limits_of_its_own() -> None:
    before, now = ["a"] * 5000 + ["b"] * 5000, ["a"] * 6000 + ["b"] * 3990 + ["c"] * 10
    assert not one(before, now).drifted
    assert one(before, now, psi=0.03).why.startswith("PSI")
    assert not one(before, now, psi=0.5).drifted
    assert one(before, now, js=0.05).why.startswith("JS")
    assert one(before, now, **{"new-categories": False}).why == "new: c"
    assert not one(before, before, psi=0.0001, **{"new-categories": False}).drifted
    numbers = np.arange(1000.0)
    assert one(numbers, numbers + 150, ks=0.1).why == "KS 0.15 over 0.1"


def test_limits_of_a_column_that_is_not_there_are_bad_input(tmp_path: Path) -> None:
    a = table(tmp_path, "a.parquet", x=[1.0, 2.0])
    with pytest.raises(BadInput, match="no column 'y'"):
        compare(a, a, limits={"y": DriftLimits(psi=0.1)})


def test_the_tests_agree_with_scipys() -> None:
    random = np.random.default_rng(4)
    before, now = random.normal(size=5000).round(1), random.normal(0.05, size=3000).round(1)
    theirs = stats.ks_2samp(before, now, method="asymp")
    statistic, p = kolmogorov_smirnov(np.sort(before), np.sort(now))
    assert statistic == pytest.approx(theirs.statistic)
    assert p == pytest.approx(theirs.pvalue, rel=0.1)  # scipy takes the exact distribution of a similar size
    counts = np.array([50, 30, 20]), np.array([45, 40, 5])
    assert homogeneity(*counts) == pytest.approx(stats.chi2_contingency(counts, correction=False).pvalue)
    shares = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    assert jensen_shannon(*shares) == pytest.approx(distance.jensenshannon(*shares, base=2))


def test_the_test_of_few_rows_agrees_with_the_exact_one() -> None:
    # the probability of counts that are no likelier, over all tables with these margins, by enumeration
    before, now = np.array([7.0, 1.0, 2.0]), np.array([1.0, 4.0, 2.0])
    margins, size = (before + now).astype(int), int(now.sum())
    tables = [(a, b, size - a - b) for a in range(margins[0] + 1) for b in range(margins[1] + 1)
              if 0 <= size - a - b <= margins[2]]  # fmt: skip
    chances = [stats.multivariate_hypergeom.pmf(one, margins, size) for one in tables]
    own = stats.multivariate_hypergeom.pmf(now.astype(int), margins, size)
    exact = sum(chance for chance in chances if chance <= own * (1 + 1e-9))
    assert homogeneity(before, now) == pytest.approx(exact, abs=0.03)
