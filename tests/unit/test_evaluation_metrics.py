"""Metrics, held to values that scikit-learn 1.9 computed of the same arrays."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_actions.errors import BadInput
from mlops_actions.evaluation import compare, formulas, metrics
from mlops_actions.evaluation.metric import METRICS, find, is_higher_better
from mlops_actions.evaluation.pictures import calibration, roc

AUC = METRICS["auc"]
LABEL = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1], dtype=float)
SCORE = np.array([0.1, 0.4, 0.35, 0.35, 0.8, 0.4, 0.05, 0.9, 0.6, 0.2])  # with ties across classes


def test_binary_metrics() -> None:
    assert metrics.compute("binary", LABEL, SCORE, None) == pytest.approx(
        {
            "auc": 0.72,
            "average_precision": 0.7592857142857143,
            "log_loss": 0.5918607917556946,
            "brier": 0.21275,
            "accuracy": 0.6,
            "precision": 2 / 3,
            "recall": 0.4,
            "f1": 0.5,
        }
    )


def test_regression_metrics() -> None:
    label, score = np.array([3.0, -0.5, 2.0, 7.0, 4.2]), np.array([2.5, 0.0, 2.0, 8.0, 3.9])
    expected = {"rmse": 0.5639148871948674, "mae": 0.46, "r2": 0.9480256276150627}
    assert metrics.compute("regression", label, score, None) == pytest.approx(expected)


def test_multiclass_metrics() -> None:
    label, prediction = np.array(list("aabbccca")), np.array(list("abbbccad"))
    assert metrics.compute("multiclass", label, None, prediction) == {"accuracy": 0.625, "f1_macro": 0.5}


def test_what_is_not_defined_is_left_out() -> None:
    found = metrics.compute("binary", np.zeros(4), np.array([-1.0, 0.0, 2.0, 3.0]), None)
    assert found == {}  # one class: no ranking; no probabilities: no loss, no classes


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(2)
    label, score = (random.random(80) < 0.3).astype(float), random.integers(0, 9, 80).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p in score[label == 1] for n in score[label == 0]]
    assert formulas.auc(label, score) == pytest.approx(np.mean(pairs))
    x, y = roc(label, score)
    assert float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) == pytest.approx(formulas.auc(label, score))


def test_the_baseline_knows_only_the_labels() -> None:
    binary = metrics.baseline("binary", LABEL)
    assert (binary["auc"], binary["brier"]) == (0.5, 0.25)
    assert binary["log_loss"] == pytest.approx(np.log(2))
    assert metrics.baseline("regression", np.array([1.0, 3.0])) == {"rmse": 1.0, "mae": 1.0, "r2": 0.0}
    assert metrics.baseline("multiclass", np.array(list("aab")))["accuracy"] == pytest.approx(2 / 3)


def test_calibration_of_a_calibrated_score_is_the_diagonal() -> None:
    random = np.random.default_rng(4)
    score = random.random(100_000)
    means, shares = calibration((random.random(100_000) < score).astype(float), score)
    assert np.abs(means - shares).max() < 0.02


def scores(noise: float, rows: int = 3_000) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    random = np.random.default_rng(6)
    truth = random.normal(size=rows)
    label = (truth + random.normal(size=rows) > 0).astype(float)
    return label, 1 / (1 + np.exp(-(truth + noise * random.normal(size=rows))))


def test_bootstrap_tells_a_worse_model_from_an_equal_one() -> None:
    label, good = scores(0.0)
    _, bad = scores(2.0)
    worse = compare.paired(AUC, "binary", label, bad, good, draws=200)
    assert worse.gain < 0 and worse.high is not None and worse.high < 0
    assert not worse.acceptable(0.0) and worse.acceptable(0.5)
    better = compare.paired(AUC, "binary", label, good, bad, draws=200)
    assert better.gain == -worse.gain and better.acceptable(0.0) and better.p_worse == 0
    same = compare.paired(AUC, "binary", label, good, good, draws=50)
    assert (same.gain, same.low, same.high) == (0, 0, 0) and same.acceptable(0.0)


def test_a_loss_within_noise_does_not_count_on_the_same_rows() -> None:
    label, good = scores(0.0, rows=200)
    random = np.random.default_rng(8)
    noisy = [good + 0.02 * random.normal(size=200) for _ in range(8)]
    found = [compare.paired(AUC, "binary", label, other, good, draws=200) for other in noisy]
    losses = [one for one in found if one.gain < 0]
    assert losses and all(one.acceptable(0.0) for one in losses)


def test_an_error_that_falls_is_a_gain() -> None:
    label = np.arange(300.0)
    found = compare.paired(METRICS["rmse"], "regression", label, label + 1, label + 2, draws=50)
    assert found.gain == pytest.approx(1) and found.acceptable(0.0)
    assert compare.recorded("rmse", 3.0, 2.0, "", higher_is_better=False).gain == -1
    assert not compare.recorded("rmse", 3.0, 2.0, "", higher_is_better=False).acceptable(0.5)


def test_the_interval_covers_what_it_should_also_when_only_a_part_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    label, good = scores(0.0, rows=4_000)
    _, bad = scores(1.0, rows=4_000)
    full = compare.paired(AUC, "binary", label, bad, good, draws=400)
    monkeypatch.setattr(compare, "ROWS", 1_000)
    part = compare.paired(AUC, "binary", label, bad, good, draws=400)
    assert full.low is not None and full.high is not None and part.low is not None and part.high is not None
    assert part.gain == full.gain
    assert (part.high - part.low) == pytest.approx(full.high - full.low, rel=0.3)


def test_the_same_predictions_give_the_same_interval() -> None:
    label, good = scores(0.0, rows=300)
    _, bad = scores(1.0, rows=300)
    one, other = (compare.paired(AUC, "binary", label, bad, good, draws=50) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.of])
def test_each_metric_of_the_table_has_a_formula(name: str) -> None:
    label = np.array([0.0, 1.0, 1.0, 0.0])
    better = METRICS[name].function(label, label)
    worse = METRICS[name].function(label, 1 - label)
    assert (better > worse) is METRICS[name].higher_is_better


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("auc", True), ("evaluate.auc", True), ("val_log_loss", False), ("train/roc_auc", True), ("test-error", False),
        ("rmse", False), ("neg_mean_squared_error", True), ("p95_latency", False), ("balanced_accuracy", True),
        ("mape", False), ("f1", True), ("val_loss", False),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric_is_seen_from_its_name(name: str, higher: bool) -> None:
    assert is_higher_better(name) is higher


def test_a_metric_whose_direction_is_not_known_is_bad_input_unless_its_threshold_has_a_sign() -> None:
    assert find("lift") is None
    with pytest.raises(BadInput, match=r"'lift' is better or worse.*auc, average_precision") as raised:
        is_higher_better("lift")
    assert '`lift: ">= 0"`' in raised.value.fix
    assert is_higher_better("lift", {"lift": ">= 2"})
    assert not is_higher_better("lift", {"lift": "< 2"})


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_log_loss_is_scikit_learns_also_where_a_probability_is_0_or_1(kind: str) -> None:
    # sklearn.metrics.log_loss([0, 1, 1, 0, 1], [0, 1, 0, 1, 0.25]) of scikit-learn 1.9, by the type of the scores
    label, score = np.array([0.0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 0.25], dtype=kind)
    expected = {"float64": 14.69472022787084, "float32": 6.654212951660156}[kind]
    assert formulas.log_loss(label, score) == pytest.approx(expected, rel=1e-12 if kind == "float64" else 1e-8)


def test_macro_f1_of_a_thousand_classes_is_that_of_each_class_alone() -> None:
    random = np.random.default_rng(3)
    label, prediction = random.integers(0, 1_000, 20_000), random.integers(0, 1_010, 20_000)
    alone = [formulas.f1((label == c).astype(float), (prediction == c).astype(float)) for c in range(1_010)]
    assert formulas.f1_macro(label, prediction) == pytest.approx(np.mean(alone))
