"""Challenger against champion: intervals, verdicts, and how often they are wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from numpy.typing import NDArray
from scipy import stats

from compared_models import paired
from mlops_actions.evaluation import formulas, resampling
from mlops_actions.evaluation.compare import Comparison, enough, recorded
from mlops_actions.evaluation.metric import METRICS
from mlops_actions.evaluation.predictions import Predictions


def scores(noise: float, rows: int = 3_000) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(6)
    truth = random.normal(size=rows)
    label = (truth + random.normal(size=rows) > 0).astype(float)
    return label, 1 / (1 + np.exp(-(truth + noise * random.normal(size=rows))))


def test_a_worse_model_is_told_from_an_equal_one() -> None:
    (label, good), (_, bad) = scores(0.0), scores(2.0)
    worse = paired("auc", label, bad, good)
    assert worse.verdict == "worse" and worse.method == "DeLong" and not worse.surely_acceptable
    assert paired("auc", label, bad, good, allowed=0.5).surely_acceptable
    better = paired("auc", label, good, bad)
    assert better.gain == pytest.approx(-worse.gain) and better.verdict == "better"
    same = paired("auc", label, good, good)
    assert (same.gain, same.low, same.high, same.verdict) == (0, 0, 0, "cannot tell")
    assert same.surely_acceptable


def test_an_error_that_falls_is_a_gain() -> None:
    label = np.arange(300.0)
    found = paired("rmse", label, label + 1, label + 2, draws=50)
    assert found.gain == pytest.approx(1) and found.verdict == "better" and found.method == "bootstrap of rows"


def test_values_of_other_rows_are_compared_as_they_are() -> None:
    assert recorded("rmse", 3.0, 2.0, higher_is_better=False).verdict == "worse"
    assert not recorded("rmse", 3.0, 2.0, higher_is_better=False, allowed=1.5).surely_acceptable
    assert recorded("model_mb", 3.0, 2.0, higher_is_better=False, allowed=1.5).surely_acceptable
    assert recorded("auc", 0.8, 0.7, higher_is_better=True).verdict == "better"


def test_the_same_predictions_give_the_same_interval() -> None:
    (label, good), (_, bad) = scores(0.0, 300), scores(1.0, 300)
    assert paired("brier", label, bad, good, draws=50) == paired("brier", label, bad, good, draws=50)


@pytest.mark.parametrize(("name", "method"), [("auc", "DeLong"), ("accuracy", "McNemar")])
def test_the_exact_methods_and_the_bootstrap_agree(name: str, method: str) -> None:
    (label, good), (_, bad) = scores(0.0, 2_000), scores(1.0, 2_000)
    if name == "accuracy":
        good, bad = formulas.classes_of(good), formulas.classes_of(bad)
    exact, drawn = (paired(name, label, bad, good, **more) for more in ({}, {"blocks": np.arange(2_000)}))
    assert (exact.method, drawn.method) == (method, "bootstrap of blocks")
    for of in ("low", "high"):
        assert getattr(exact, of) == pytest.approx(getattr(drawn, of), rel=0.12)


def test_at_no_difference_the_interval_of_accuracy_is_mcnemars_test() -> None:
    # rows that only one predicts right: 12 of the challenger's, and ever more of the champion's
    label = np.ones(100)

    def pair(won: int, lost: int) -> Comparison:
        champion, challenger = np.ones(100), np.ones(100)
        champion[:won], challenger[won : won + lost] = 0, 0
        return paired("accuracy", label, challenger, champion)

    for lost in range(12):
        rejects = (12 - lost) / math.sqrt(12 + lost) > float(stats.norm.ppf(0.975))
        assert (pair(12, lost).verdict == "better") is rejects
    nothing = pair(0, 0)
    assert nothing.gain == 0 and nothing.low == pytest.approx(-nothing.high) and 0 < nothing.high < 0.05  # type: ignore
    everything = pair(100, 0)
    assert everything.high == 1 and everything.verdict == "better"


def test_the_interval_of_an_area_is_that_of_the_published_method() -> None:
    # DeLong's covariance by its definition: placements of each positive among the negatives and the other way round
    random = np.random.default_rng(5)
    label = (random.random(60) < 0.4).astype(float)
    sides = [random.integers(0, 8, 60) + 2 * label for _ in range(2)]
    wins = [np.array([[(p > n) + (p == n) / 2 for n in s[label == 0]] for p in s[label == 1]]) for s in sides]
    of_positive, of_negative = ((wins[0] - wins[1]).mean(axis) for axis in (1, 0))
    error = math.sqrt(of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative))
    reach = stats.t.ppf(0.975, min(len(of_positive), len(of_negative)) - 1) * error
    found = paired("auc", label, *sides)
    assert (found.low, found.high) == pytest.approx((found.gain - reach, found.gain + reach))


def test_how_many_rows_are_enough_grows_with_the_square() -> None:
    one = enough(1_000, 0.02, 0.01)
    assert enough(1_000, 0.04, 0.01) == pytest.approx(4 * one, abs=4)
    assert enough(1_000, 0.02, 0.005) == pytest.approx(4 * one, abs=4)
    assert (
        enough(1_000, 2 * stats.norm.ppf(0.975) * 0.01, (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.01) == 1_000
    )


def test_few_blocks_cannot_tell() -> None:
    label = np.arange(40.0)
    found = paired("mae", label, label + 1, label + 2, blocks=np.arange(40) % 4)
    assert found.verdict == "cannot tell" and "they are 4 blocks" in found.sentence()
    assert not found.surely_acceptable


def test_a_sentence_says_what_can_be_told() -> None:
    (label, good), (_, bad) = scores(0.0, 200), scores(0.3, 200)
    unsure = paired("auc", label, bad, good, allowed=0.001)
    assert unsure.sentence().startswith("cannot tell: gain ") and unsure.sentence().endswith("; DeLong")
    assert f"{unsure.rows_needed:,} rows would be enough for the allowed 0.001 (80% power)" in unsure.sentence()
    assert paired("auc", label, bad, good, allowed=0.5).sentence().startswith("not worse than the allowed 0.5: gain")
    assert (
        paired("brier", label, bad, good, blocks=np.arange(200) // 10).sentence().endswith("bootstrap of blocks (20)")
    )


def test_weights_count_in_value_and_interval() -> None:
    label, challenger, champion = np.zeros(200), np.ones(200), np.zeros(200)
    challenger[100:] = 0.5
    found = paired("mae", label, challenger, champion, weight=np.repeat([3.0, 1.0], 100))
    assert found.challenger == pytest.approx((3 * 1 + 1 * 0.5) / 4) and found.verdict == "worse"
    unweighted = paired("mae", label, challenger, champion)
    assert unweighted.challenger == 0.75


@pytest.mark.parametrize("units", [500, resampling.POISSON])
def test_draws_have_the_error_that_theory_says(units: int) -> None:
    values = np.random.default_rng(1).exponential(size=units)
    drawn = resampling.bootstrap(formulas.mean(values), units, units, 200)
    error = resampling.standard_error(drawn, units)
    assert error == pytest.approx(values.std(ddof=1) / math.sqrt(units), rel=0.2)
    assert np.array_equal(drawn, resampling.bootstrap(formulas.mean(values), units, units, 200))


def test_a_resample_is_the_metric_of_the_rows_that_were_drawn() -> None:
    random = np.random.default_rng(9)
    label, score = (random.random(30) < 0.5).astype(float), random.integers(0, 6, 30) / 5
    counts = random.integers(0, 4, (5, 30)).astype(np.uint8)
    for name in ("auc", "average_precision", "log_loss", "f1", "ece"):
        of_weights = Predictions("binary", label, score).statistic(METRICS[name])
        assert of_weights is not None
        for draw, got in zip(counts, of_weights(counts)):
            rows = np.repeat(np.arange(30), draw)
            alone = Predictions("binary", label[rows], score[rows]).statistic(METRICS[name])
            assert alone is not None and got == pytest.approx(alone(np.ones((1, len(rows))))[0])


@pytest.mark.parametrize("values", [1 << 40, 50])
def test_of_many_rows_a_resample_of_auc_is_scikit_learns_also_with_the_highest_counts(values: int) -> None:
    random = np.random.default_rng(4)
    label = (random.random(70_000) < 0.3).astype(float)
    score = random.integers(0, values, len(label)) / values + label / 9
    counts = random.integers(0, formulas.MOST + 1, (3, len(label))).astype(np.uint8)
    counts[2] = formulas.MOST
    expected = [sk.roc_auc_score(label, score, sample_weight=draw) for draw in counts]
    assert formulas.auc(label, score)(counts) == pytest.approx(expected, rel=1e-12)
    assert formulas.auc(label, score)(counts * 0.5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [500, 3_000_000])
@pytest.mark.parametrize("draws", [1, 20])
def test_there_are_as_many_draws_as_are_asked_for(rows: int, draws: int) -> None:
    drawn = resampling.bootstrap(lambda weights: weights.sum(1) / 500, 500, rows, draws)
    assert drawn.tolist() == [1.0] * draws


def test_counts_of_many_rows_are_as_poissons() -> None:
    counts: list[NDArray[Any]] = []

    def keep(weights: NDArray[Any]) -> NDArray[np.float64]:
        counts.append(weights)
        return np.zeros(len(weights))

    resampling.bootstrap(keep, 100_000, 100_000, 8)
    drawn = np.concatenate(counts).astype(float)
    assert drawn.mean() == pytest.approx(1, abs=0.005) and drawn.var() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(drawn) - np.eye(len(drawn))).max() < 0.02
    shares = np.bincount(drawn.astype(int).ravel()) / drawn.size
    assert shares == pytest.approx(stats.poisson.pmf(np.arange(len(shares)), 1), abs=0.006)


def test_blocks_are_drawn_whole() -> None:
    random = np.random.default_rng(9)
    label, score = random.normal(size=40), random.normal(size=40)
    blocks = random.integers(0, 6, 40)
    of_rows = Predictions("regression", label, score).statistic(METRICS["rmse"])
    assert of_rows is not None
    units = resampling.Units.of(40, blocks)
    counts = random.integers(0, 3, (4, 6)).astype(np.uint8)
    assert units.statistic(of_rows)(counts) == pytest.approx(of_rows(counts[:, blocks]))
