"""Metrics, held to scikit-learn's values of the same arrays, or to the published formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from numpy.typing import NDArray

from mlops_actions.actions import evaluate_model
from mlops_actions.errors import BadInput
from mlops_actions.evaluation import baselines, metrics
from mlops_actions.evaluation.curves import calibration, curves, precision_recall, roc
from mlops_actions.evaluation.metric import METRICS, find, is_higher_better, named
from mlops_actions.evaluation.predictions import Predictions

LABEL = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1], dtype=float)
SCORE = np.array([0.1, 0.4, 0.35, 0.35, 0.8, 0.4, 0.05, 0.9, 0.6, 0.2])  # with ties across classes


def value(name: str, found: Predictions) -> float:
    metric = named(name)
    assert metric is not None
    got = metrics.value_of(metric, found)
    assert got is not None
    return got


def weights(seed: int, rows: int, *, weighted: bool) -> NDArray[Any] | None:
    return np.random.default_rng(seed).random(rows) if weighted else None


def test_binary_metrics() -> None:
    found = metrics.compute(Predictions("binary", LABEL, SCORE))
    expected = {
        "auc": 0.72, "average_precision": 0.7592857142857143, "log_loss": 0.5918607917556946, "brier": 0.21275,
        "accuracy": 0.6, "precision": 2 / 3, "recall": 0.4, "f1": 0.5,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_metrics_are_scikit_learns_with_ties_and_weights(seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    label = (random.random(60) < 0.4).astype(float)
    score = random.integers(0, 12, 60) / 11  # ties, and probabilities of 0 and 1
    w = weights(seed, 60, weighted=weighted)
    found = metrics.compute(Predictions("binary", label, score, weight=w))
    said = (score >= 0.5).astype(float)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(label, score, sample_weight=w))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(label, score, sample_weight=w))
    assert found["log_loss"] == pytest.approx(sk.log_loss(label, score, sample_weight=w))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(label, score, sample_weight=w))
    for name in ("accuracy", "precision", "recall", "f1"):
        assert found[name] == pytest.approx(getattr(sk, f"{name}_score")(label, said, sample_weight=w))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_metrics_are_scikit_learns(seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    label = np.append(np.arange(4), random.integers(0, 4, 56))
    score = random.integers(1, 5, (60, 4)).astype(float)
    score /= score.sum(1, keepdims=True)
    w = weights(seed, 60, weighted=weighted)
    found = Predictions("multiclass", label, score, classes=tuple("abcd"), weight=w)
    said = score.argmax(1)
    got = metrics.compute(found, {"top_accuracy@2": "", "top_accuracy@3": ""})
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(label, said, sample_weight=w))
    assert got["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label, said, sample_weight=w))
    for average in ("macro", "weighted"):
        assert got[f"f1_{average}"] == pytest.approx(sk.f1_score(label, said, average=average, sample_weight=w))
    assert got["log_loss"] == pytest.approx(sk.log_loss(label, score, sample_weight=w))
    for k in (2, 3):
        assert got[f"top_accuracy@{k}"] == pytest.approx(sk.top_k_accuracy_score(label, score, k=k, sample_weight=w))
    sides = np.eye(4)[label]
    for average in ("macro", "weighted"):
        expected = sk.roc_auc_score(sides, score, average=average, sample_weight=w)
        assert got[f"auc_{average}"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel_metrics_are_scikit_learns(seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    label = (random.random((50, 3)) < [0.2, 0.5, 0.7]).astype(float)
    score = random.integers(0, 9, (50, 3)) / 8
    w = weights(seed, 50, weighted=weighted)
    said = (score >= 0.5).astype(float)
    got = metrics.compute(Predictions("multilabel", label, score, classes=tuple("abc"), weight=w))
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(label, said, sample_weight=w))
    assert got["hamming_loss"] == pytest.approx(sk.hamming_loss(label, said, sample_weight=w))
    for average in ("micro", "macro"):
        expected = sk.f1_score(label, said, average=average, sample_weight=w, zero_division=0)
        assert got[f"f1_{average}"] == pytest.approx(expected)
    assert got["auc_macro"] == pytest.approx(sk.roc_auc_score(label, score, average="macro", sample_weight=w))
    expected = sk.average_precision_score(label, score, average="macro", sample_weight=w)
    assert got["average_precision_macro"] == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_metrics_are_scikit_learns(weighted: bool) -> None:
    random = np.random.default_rng(1)
    label, w = random.normal(5, 2, 40), weights(2, 40, weighted=weighted)
    score = label + random.normal(size=40)
    asked = {"mse": "", "mape": "", "pinball@0.9": ""}
    got = metrics.compute(Predictions("regression", label, score, weight=w), asked)
    assert got == pytest.approx(
        {
            "rmse": sk.root_mean_squared_error(label, score, sample_weight=w),
            "mae": sk.mean_absolute_error(label, score, sample_weight=w),
            "r2": sk.r2_score(label, score, sample_weight=w),
            "mse": sk.mean_squared_error(label, score, sample_weight=w),
            "mape": sk.mean_absolute_percentage_error(label, score, sample_weight=w),
            "pinball@0.9": sk.mean_pinball_loss(label, score, alpha=0.9, sample_weight=w),
        }
    )


def test_errors_of_forecasts_are_those_of_the_published_formulas() -> None:
    label, score, scale = np.array([10.0, 0, 4]), np.array([8.0, 0, 6]), np.array([2.0, 1, 4])
    got = metrics.compute(Predictions("forecasting", label, score, scale=scale))
    assert got["smape"] == pytest.approx((2 * 2 / 18 + 0 + 2 * 2 / 10) / 3)
    assert got["mase"] == pytest.approx((2 / 2 + 0 + 2 / 4) / 3)
    assert "mase" not in metrics.compute(Predictions("forecasting", label, score))


@pytest.mark.parametrize("seed", range(4))
def test_ranking_metrics_are_scikit_learns_for_each_query(seed: int) -> None:
    random = np.random.default_rng(seed)
    query = np.sort(random.integers(0, 8, 60))
    query = np.unique(query, return_inverse=True)[1]
    shuffle = random.permutation(60)
    label, score, query = random.integers(0, 3, 60).astype(float), random.integers(0, 6, 60) / 5, query[shuffle]
    found = Predictions("ranking", label, score, query=query, blocks=query)
    rows = [np.flatnonzero(query == q) for q in range(query.max() + 1)]
    several = [r for r in rows if len(r) > 1]
    for name, k in (("ndcg", None), ("ndcg@3", 3)):
        expected = [sk.ndcg_score([label[r]], [score[r]], k=k) for r in several]
        expected += [float(label[r][0] > 0) for r in rows if len(r) == 1]
        assert value(name, found) == pytest.approx(np.mean(expected))
    positive = [r for r in rows if (label[r] > 0).any()]
    expected = [sk.average_precision_score(label[r] > 0, score[r]) for r in positive]
    assert value("map", found) == pytest.approx(np.mean(expected))
    expected = [1 / np.sum(score[r] >= score[r][label[r] > 0].max()) for r in positive]
    assert value("mrr", found) == pytest.approx(np.mean(expected))


def test_a_query_without_relevant_rows_has_no_rank_and_no_gain() -> None:
    query = np.array([0, 0, 1, 1])
    found = Predictions("ranking", np.array([1.0, 0, 0, 0]), np.array([0.1, 0.9, 0.5, 0.2]), query=query)
    assert (value("mrr", found), value("map", found)) == (0.5, 0.5)
    assert value("ndcg", found) == pytest.approx((1 / np.log2(3) + 0) / 2)


def test_the_parts_of_the_brier_score_are_the_whole_where_scores_do_not_vary_in_a_bin() -> None:
    random = np.random.default_rng(3)
    score = random.integers(0, 10, 400) / 10 + 0.05
    label = (random.random(400) < score**2).astype(float)
    got = metrics.compute(Predictions("binary", label, score))
    parts = got["brier_reliability"] - got["brier_resolution"] + got["brier_uncertainty"]
    assert parts == pytest.approx(got["brier"])
    bins = [np.flatnonzero(np.isclose(score, s)) for s in np.unique(score)]
    expected = sum(len(b) / 400 * abs(label[b].mean() - score[b].mean()) for b in bins)
    assert got["ece"] == pytest.approx(expected)


def test_what_is_not_defined_is_left_out() -> None:
    found = metrics.compute(Predictions("binary", np.zeros(4), np.array([-1.0, 0.0, 2.0, 3.0])))
    assert found == {}  # one class: no ranking; no probabilities: no loss, no classes
    one_class = metrics.compute(Predictions("binary", np.zeros(4), np.array([0.1, 0.2, 0.3, 0.9])))
    assert not {"auc", "average_precision"} & set(one_class) and one_class["accuracy"] == 0.75
    assert "r2" not in metrics.compute(Predictions("regression", np.ones(5), np.arange(5.0)))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(2)
    label, score = (random.random(80) < 0.3).astype(float), random.integers(0, 9, 80).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p in score[label == 1] for n in score[label == 0]]
    auc = value("auc", Predictions("binary", label, score))
    assert auc == pytest.approx(np.mean(pairs))
    x, y = roc(label, score)
    assert float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) == pytest.approx(auc)


def baseline(task: Any, label: Any, **more: Any) -> dict[str, float]:
    made = baselines.constant(Predictions(task, label, **more))
    assert made is not None
    return metrics.compute(made)


def test_the_constant_baseline_knows_only_the_labels() -> None:
    binary = baseline("binary", LABEL)
    assert (binary["auc"], binary["brier"]) == (0.5, 0.25)
    assert binary["log_loss"] == pytest.approx(np.log(2))
    assert baseline("regression", np.array([1.0, 3.0])) == {"rmse": 1.0, "mae": 1.0, "r2": 0.0}
    assert baseline("multiclass", np.array([0, 0, 1]), classes=("a", "b"))["accuracy"] == pytest.approx(2 / 3)


def test_calibration_of_a_calibrated_score_is_the_diagonal() -> None:
    random = np.random.default_rng(4)
    score = random.random(100_000)
    means, shares = calibration((random.random(100_000) < score).astype(float), score)
    assert np.abs(means - shares).max() < 0.02


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_curve

    recall, precision = precision_recall(LABEL, SCORE)
    expected = precision_recall_curve(LABEL, SCORE)
    assert precision[::-1] == pytest.approx(expected[0][:-1]) and recall[::-1] == pytest.approx(expected[1][:-1])


def test_curves_suit_the_task_and_stay_small() -> None:
    random = np.random.default_rng(4)
    score = random.random(10_000)
    label = (random.random(10_000) < score).astype(float)
    binary = curves(Predictions("binary", label, score, positive="late"))
    assert set(binary) == {"roc", "pr", "calibration", "confusion"}
    assert binary["roc"][0] == [0, 0] and binary["roc"][-1] == [1, 1] and len(binary["roc"]) == 100
    assert binary["confusion"]["classes"] == ["negative", "late"]
    assert np.sum(binary["confusion"]["counts"]) == 10_000
    assert curves(Predictions("binary", np.ones(3), np.ones(3))) == {}
    many = np.arange(400) % 20
    several = curves(Predictions("multiclass", many, prediction=many, classes=tuple(map(str, range(20)))))
    assert np.array(several["confusion"]["counts"]).shape == (12, 12)
    assert np.trace(several["confusion"]["counts"]) == 240
    assert curves(Predictions("regression", score, score))["predicted"][0] == [float(f"{score[0]:.4g}")] * 2


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if "binary" in metric.tasks])
def test_the_direction_of_a_metric_is_that_of_its_formula(name: str) -> None:
    label = np.array([0.0, 1.0, 1.0, 0.0])
    better, worse = (value(name, Predictions("binary", label, abs(label - off))) for off in (0.1, 0.9))
    if name == "brier_uncertainty":
        assert better == worse
    elif name != "brier_resolution":  # which does not see that scores are the wrong way round
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
    found = value("log_loss", Predictions("binary", label, score))
    assert found == pytest.approx(expected, rel=1e-12 if kind == "float64" else 1e-8)


def test_macro_f1_of_a_thousand_classes_is_that_of_each_class_alone() -> None:
    random = np.random.default_rng(3)
    label, prediction = random.integers(0, 1_000, 20_000), random.integers(0, 1_010, 20_000)
    found = value("f1_macro", Predictions("multiclass", label, prediction=prediction))
    assert found == pytest.approx(sk.f1_score(label, prediction, average="macro"))


def test_each_metric_that_is_computed_is_in_the_documentation() -> None:
    text = evaluate_model.__doc__ or ""
    assert [name for name, metric in METRICS.items() if metric.of and f"`{name}`" not in text.replace("@", "`@")] == []
