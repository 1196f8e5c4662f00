"""Gates: limits in words, and an evaluation's verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel, ValidationError

from mlops_actions.actions.evaluate_model import EvaluateModelInputs
from mlops_actions.data.sources import DataSource
from mlops_actions.errors import BadInput
from mlops_actions.evaluation.champion import Champion
from mlops_actions.evaluation.evaluate import Evaluation, EvaluationRequest, evaluate
from mlops_actions.evaluation.gates import (
    Allowances,
    Gate,
    Limit,
    Limits,
    Slices,
    judged,
    parse_limits,
    threshold_gates,
)
from mlops_actions.evaluation.predictions import Columns, read_predictions


class Model(BaseModel):
    slices: Slices = []
    limits: Limits = {}
    allowed: Allowances = {}


def limit_of(text: str) -> Limit:
    (limit,) = parse_limits(text, "x")
    return limit


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ("auc>=0.65", {"auc": ">= 0.65"}),
        ("auc >= 0.65\nbrier<0.2", {"auc": ">= 0.65", "brier": "< 0.2"}),
        ("auc=>= 0.65", {"auc": ">= 0.65"}),
        ("# at least\nauc>=0.65\n# brier<0.1", {"auc": ">= 0.65"}),
        ("auc=0.65, log_loss=0.5", {"auc": ">= 0.65", "log_loss": "<= 0.5"}),
        ("auc: '>= 0.65'", {"auc": ">= 0.65"}),
        ('{"evaluate.auc": ">= 1e-2"}', {"evaluate.auc": ">= 0.01"}),
        ({"auc": ">= 0.65", "rmse": 12}, {"auc": ">= 0.65", "rmse": "<= 12"}),
        ("", {}),
        ("\n  auc >= .65 ,\n\n rmse<=+12.5\nlift==2\nbias > -1e-3\n", {
            "auc": ">= 0.65", "rmse": "<= 12.5", "lift": "== 2", "bias": "> -0.001"}),
        ("auc: >= 0.65", {"auc": ">= 0.65"}),
        ('  {"auc": 0.65}', {"auc": ">= 0.65"}),
        ("rmse: 12", {"rmse": "<= 12"}),
        ("auc>=0.9,auc<=0.99", {"auc": ">= 0.9, <= 0.99"}),
        ("lift<=0\nauc=0.7\nlift>=0", {"lift": "<= 0, >= 0", "auc": ">= 0.7"}),
        ('auc: ">= 0.9, <= 0.99"', {"auc": ">= 0.9, <= 0.99"}),
        ({"auc": ">= 0.9, <= 0.99"}, {"auc": ">= 0.9, <= 0.99"}),
        ('{"auc": "0.9, < 0.99"}', {"auc": ">= 0.9, < 0.99"}),
        ("auc>=0.9999999", {"auc": ">= 0.9999999"}),
        ("rmse<=1234567.8", {"rmse": "<= 1234567.8"}),
    ],
)  # fmt: skip
def test_limits_are_read(given: object, limits: dict[str, str]) -> None:
    assert Model.model_validate({"limits": given}).limits == limits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("auc>=high", "auc: '>=high' is not a limit; write one like '>= 0.65'"),
        ({"auc": "=> 1"}, "auc: '=> 1' is not a limit; did you mean '>= 1'\\?"),
        ("auc=>0.5", "auc: '=>0.5' is not a limit; did you mean '>= 0.5'\\?"),
        ("rmse =< 12", "rmse: '=< 12' is not a limit; did you mean '<= 12'\\?"),
        ("auc<=1e999", "auc: '<=1e999' is not a limit"),
        ("auc>=0.9,auc>=0.8", "auc: `>= 0.9` and `>= 0.8`: a metric has one limit, or one floor and one ceiling"),
        ("auc=0.9\nauc>0.8", "auc: `>= 0.9` and `> 0.8`: a metric has one limit"),
        ({"auc": "== 0.9, <= 1"}, "auc: `== 0.9` and `<= 1`: a metric has one limit"),
        ({"auc": ">= 0.1, <= 0.9, < 0.8"}, "a metric has one limit, or one floor and one ceiling"),
        ({"auc": ">= 0.99, <= 0.9"}, "auc: no number is >= 0.99 and <= 0.9"),
        ({"auc": "> 0.9, <= 0.9"}, "auc: no number is > 0.9 and <= 0.9"),
        ({"auc": ">= 0.9,"}, "auc: '' is not a limit"),
        ({"auc": True}, "auc: 'True' is not a limit"),
        ({"auc": None}, "auc: 'None' is not a limit"),
        ("auc=", "auc: '=' is not a limit"),
        ("auc", "valid dictionary"),
        (["auc>=1"], r"valid dictionary[^\n]*input_value=\['auc>=1'\]"),
        ("auc: [", "is not valid YAML"),
    ],
)
def test_what_is_no_limit_is_refused(given: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Model.model_validate({"limits": given})


@pytest.mark.parametrize(
    ("sign", "below", "at", "above"),
    [(">=", False, True, True), (">", False, False, True), ("<=", True, True, False), ("<", True, False, False),
     ("==", False, True, False)],
)  # fmt: skip
def test_a_limit_holds_on_its_side(sign: str, below: bool, at: bool, above: bool) -> None:
    limit = limit_of(f"{sign} 0.5")
    assert [limit.holds(value) for value in (0.4, 0.5, 0.6)] == [below, at, above]
    assert str(limit) == f"{sign} 0.5"


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("0.01", {"*": 0.01}),
        ("1e-3", {"*": 0.001}),
        (0.01, {"*": 0.01}),
        ("auc=0.01\nrmse=2", {"auc": 0.01, "rmse": 2}),
        ({"auc": 1}, {"auc": 1}),
        (0, {"*": 0}),
        ("auc: 0.01", {"auc": 0.01}),
    ],
)
def test_allowances_are_read(given: object, allowed: dict[str, float]) -> None:
    assert Model.model_validate({"allowed": given}).allowed == allowed


@pytest.mark.parametrize("given", [True, "true", "much", [1], -1, "-0.1", "auc=-1", "inf", {"auc": "nan"}])
def test_what_is_no_allowance_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Model.model_validate({"allowed": given})


@pytest.mark.parametrize(
    ("limit", "value", "holds"),
    [("<= 0.01", 0.86 - 0.85, True), ("== 0.3", 0.1 + 0.2, True), ("> 0.3", 0.1 + 0.2, False),
     (">= 0.8", 0.7999999999999999, True), ("<= 0.01", 0.01000001, False), (">= 1e-20", 0.9e-20, False),
     ("<= 0", 5e-17, True), ("> 0", 5e-17, False), (">= 0", -5e-17, True), ("<= 0", 1e-11, False), ("== 0", 0.0, True),
     ("<= 1", float("inf"), False), ("<= 0", float("inf"), False)],
)  # fmt: skip
def test_what_floating_point_adds_decides_no_gate(limit: str, value: float, holds: bool) -> None:
    assert limit_of(limit).holds(value) is holds


def test_nan_is_within_no_limit() -> None:
    assert not any(limit_of(f"{sign} 0").holds(float("nan")) for sign in (">=", "<=", ">", "<", "=="))


def test_each_limit_is_a_question_with_its_answer() -> None:
    limits, values = {"auc": "0.7", "f1": ">= 0.5", "lift": "< 2"}, {"auc": 0.7, "lift": 3.0}
    note = "it is not defined on these rows, or the predictions lack its column"
    found = threshold_gates(limits, values, "binary", {"auc": (0.6, 0.8)}.get)
    assert found == [
        Gate("threshold", "auc", 0.7, ">= 0.7", True, bound=0.7, low=0.6, high=0.8),
        Gate("threshold", "f1", None, ">= 0.5", False, note),
        Gate("threshold", "lift", 3.0, "< 2", False, bound=2),
    ]
    assert [gate.margin for gate in found] == [0, None, -1]
    assert found[2].sentence() == "lift is 3, and must be < 2"


@pytest.mark.parametrize(
    ("interval", "unsure", "verdict", "passed"),
    [
        ((0.6, 0.7), True, "passed", True),
        ((0.6, 0.7), False, "passed", True),
        ((0.4, 0.6), True, "cannot tell", True),
        ((0.4, 0.6), False, "cannot tell", False),
        ((0.3, 0.49), True, "failed", False),
        (None, True, "cannot tell", True),
        (None, False, "cannot tell", False),
    ],
)
def test_where_chance_decides_the_whole_interval_must_be_beyond_the_limit(
    interval: Any, unsure: bool, verdict: str, passed: bool
) -> None:
    gate = judged("slice", "part=a auc", 0.55, limit_of(">= 0.5"), interval, unsure, "")
    assert (gate.verdict, gate.passed) == (verdict, passed)


@pytest.mark.parametrize(
    ("metric", "task"), [("rmse", "binary"), ("auc", "regression"), ("auc", None), ("lift", "binary")]
)
def test_a_limit_of_a_metric_that_the_task_does_not_have_is_bad_input(metric: str, task: Any) -> None:
    with pytest.raises(BadInput, match=f"Unknown metric '{metric}'"):
        threshold_gates({metric: ">= 0"}, {"f1": 0.5}, task)


def test_a_value_that_is_missing_is_said_to_be() -> None:
    assert Gate("threshold", "f1", None, ">= 0.5", False).sentence() == "f1 is missing, and must be >= 0.5"


def predictions(folder: Path, name: str = "p.parquet", noise: float = 1.0, **more: Any) -> DataSource:
    random = np.random.default_rng(7)
    truth = random.normal(size=1000)
    label = (truth + random.normal(size=1000) > 0).astype(int)
    score = 1 / (1 + np.exp(-np.clip(truth + noise * random.normal(size=1000), -50, 50)))
    part = np.where(np.arange(1000) < 950, "big", "small")
    frame = pl.DataFrame({"id": np.arange(1000), "label": label, "score": score, "part": part, **more})
    frame.write_parquet(folder / name)
    return DataSource(name, folder / name)


def verdicts(found: Evaluation) -> dict[tuple[str, str], bool]:
    return {(gate.kind, gate.metric): gate.passed for gate in found.gates}


def test_thresholds_baseline_and_slices(tmp_path: Path) -> None:
    found = evaluate(
        EvaluationRequest(
            predictions(tmp_path), {"train_seconds": 9.0},
            thresholds={"auc": ">= 0.99", "train_seconds": "< 10"},
            slices=["part"], slice_thresholds={"auc": ">= 0.6"}, min_rows=100,
        )
    )  # fmt: skip
    assert verdicts(found) == {
        ("threshold", "auc"): False,
        ("threshold", "train_seconds"): True,
        ("baseline", "auc"): True,
        ("slice", "part=big auc"): True,  # the small one has too few rows to be judged
    }
    assert found.failed[0].sentence().startswith("auc is 0.") and "must be >= 0.99" in found.failed[0].sentence()


def test_a_model_that_knows_nothing_does_not_beat_the_baseline(tmp_path: Path) -> None:
    found = evaluate(EvaluationRequest(predictions(tmp_path, noise=1e6), {}, primary="log_loss"))
    assert verdicts(found) == {("baseline", "log_loss"): False}
    assert (
        evaluate(EvaluationRequest(predictions(tmp_path, noise=1e6), {}, primary="log_loss", baselines=())).gates == []
    )


def test_a_metric_that_the_pipeline_overstates_is_noted_and_the_computed_one_counts(tmp_path: Path) -> None:
    found = evaluate(EvaluationRequest(predictions(tmp_path), {"auc": 0.999}, thresholds={"auc": ">= 0.9"}))
    assert not verdicts(found)["threshold", "auc"]
    assert found.notes == [f"The pipeline says auc 0.999, its predictions give {found.metrics['auc']:.6g}"]


def test_a_challenger_that_is_worse_on_the_same_rows_is_refused(tmp_path: Path) -> None:
    champion = Champion(3, {}, predictions(tmp_path, "champion.parquet", noise=0.1))
    worse = predictions(tmp_path, noise=3.0)
    found = evaluate(EvaluationRequest(worse, {}, champion=champion))
    assert verdicts(found)["champion", "auc"] is False
    assert found.comparisons[0].rows == 1000
    allowed = evaluate(EvaluationRequest(worse, {}, champion=champion, max_regression={"auc": 0.5, "brier": 0.0}))
    assert verdicts(allowed)["champion", "auc"] is True
    assert verdicts(allowed)["champion", "brier"] is False


def test_rows_are_matched_by_their_id(tmp_path: Path) -> None:
    ours = predictions(tmp_path)
    shuffled = pl.read_parquet(ours.path).sample(900, shuffle=True, seed=1)
    shuffled.write_parquet(tmp_path / "champion.parquet")
    champion = Champion(1, {"auc": 0.5}, DataSource("champion.parquet", tmp_path / "champion.parquet"))
    found = evaluate(EvaluationRequest(ours, {}, Columns(id="id"), champion=champion))
    assert (found.comparisons[0].rows, found.comparisons[0].gain) == (900, 0.0)
    by_position = evaluate(EvaluationRequest(ours, {}, champion=champion)).comparisons[0]
    assert by_position.champion == 0.5 and "not measured on the same rows" in by_position.note


@pytest.mark.parametrize("written", [pl.String, pl.Float64, pl.Int32, pl.Categorical])
def test_an_id_is_the_same_one_whichever_type_it_is_written_in(tmp_path: Path, written: Any) -> None:
    ours = predictions(tmp_path)
    theirs = tmp_path / "champion.parquet"
    pl.read_parquet(ours.path).with_columns(pl.col("id").cast(pl.String).cast(written)).reverse().write_parquet(theirs)
    champion = Champion(1, {"auc": 0.5}, DataSource("champion.parquet", theirs))
    found = evaluate(EvaluationRequest(ours, {}, Columns(id="id"), champion=champion))
    assert (found.comparisons[0].rows, found.comparisons[0].gain) == (1000, 0.0)


def test_ids_whose_types_cannot_be_compared_are_bad_input_with_both(tmp_path: Path) -> None:
    ours = predictions(tmp_path)
    theirs = tmp_path / "champion.parquet"
    pl.read_parquet(ours.path).with_columns(pl.from_epoch("id")).write_parquet(theirs)
    champion = Champion(1, {"auc": 0.5}, DataSource("champion.parquet", theirs))
    with pytest.raises(BadInput, match=r"id has the type Int64, and Datetime\(.*\) in those of the champion"):
        evaluate(EvaluationRequest(ours, {}, Columns(id="id"), champion=champion))


def test_a_champion_without_ids_blocks_and_weights_is_found_by_its_order(tmp_path: Path) -> None:
    ours = predictions(tmp_path, w=[1.0, 2.0] * 500, day=np.arange(1000) // 10)
    theirs = tmp_path / "champion.parquet"
    pl.read_parquet(ours.path).select("label", "score").write_parquet(theirs)
    champion = Champion(1, {}, DataSource("champion.parquet", theirs))
    columns = Columns(id="id", weight="w", block="day")
    found = evaluate(EvaluationRequest(ours, {}, columns, champion=champion)).comparisons[0]
    assert (found.rows, found.units, found.gain) == (1000, 100, 0.0)


def test_without_the_champions_predictions_its_recorded_metric_decides(tmp_path: Path) -> None:
    found = evaluate(EvaluationRequest(predictions(tmp_path), {}, champion=Champion(1, {"auc": 0.99})))
    assert verdicts(found)["champion", "auc"] is False
    none = evaluate(EvaluationRequest(predictions(tmp_path), {}, champion=Champion(1, {})))
    assert none.comparisons == [] and none.unchecked == ["Version 1 has no auc to compare with"] and not none.checked


def test_recorded_metrics_alone_can_be_gated() -> None:
    found = evaluate(EvaluationRequest(None, {"rmse": 3.0}, thresholds={"rmse": "<= 2"}, primary="rmse"))
    assert verdicts(found) == {("threshold", "rmse"): False}
    with pytest.raises(BadInput, match="Nothing to evaluate"):
        evaluate(EvaluationRequest(None, {}))


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ({"label": [0, 1, 1], "score": [0.1, 0.9, 0.5]}, "binary"),
        ({"label": [True, False, True], "score": [0.1, 0.9, 0.5]}, "binary"),
        ({"label": ["a", "b", "c"], "prediction": ["a", "b", "b"]}, "multiclass"),
        ({"label": [0, 1, 2], "prediction": [0, 1, 1]}, "multiclass"),
        ({"label": [0.5, 1.5, 9.0], "score": [1.0, 2.0, 8.0]}, "regression"),
        ({"label": [10, 20, 35], "score": [1.0, 2.0, 8.0]}, "regression"),
        ({"label": [0.5, 1.5, 9.0], "prediction": [1.0, 2.0, 8.0]}, "regression"),
        ({"label": [-1, 1, -1, 1], "score": [0.1, 0.9, 0.2, 0.8]}, "binary"),
        ({"label": [-1, 1, -1], "score": [-3.5, 0.2, -0.1]}, "binary"),
        ({"label": ["no", "yes", "no"], "score": [0.1, 0.9, 0.2]}, "binary"),
        ({"label": ["no", "yes", "no"], "prediction": ["no", "no", "no"]}, "binary"),
        ({"label": ["no", "yes", "no"], "prediction": ["no", "maybe", "no"]}, "multiclass"),
        ({"label": [1, 2, 1], "score": [0.1, 0.9, 0.5]}, "binary"),
        ({"label": [0, 1, 2, 0, 1, 2], "prediction": [0.0, 1.0, 2.0, 0.0, 1.0, 1.0]}, "multiclass"),
        ({"label": [0.0, 1.0, 2.0], "prediction": [0, 1, 1]}, "multiclass"),
        ({"label": [0, 1, 2, 0], "prediction": [0, 1, 2, 0], "score": [0.9, 0.8, 0.7, 0.9]}, "multiclass"),
        ({"label": [0, 1, 1], "prediction": [0.2, 0.7, 0.9]}, "binary"),
        ({"label": [3, 7], "score": [3.1, 6.8]}, "regression"),
    ],
)
def test_the_task_is_seen_from_the_labels(tmp_path: Path, columns: dict[str, Any], task: str) -> None:
    pl.DataFrame(columns).write_csv(tmp_path / "p.csv")
    found = evaluate(EvaluationRequest(DataSource("p.csv", tmp_path / "p.csv"), {}))
    assert found.task == task and found.primary in found.metrics


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"y": [1], "score": [0.5]}, "no column label"),
        ({"label": [1]}, "no column score or prediction"),
        ({"label": [1, None], "score": [0.5, 0.5]}, "1 row without label"),
        ({"label": [1, 0], "score": [0.5, float("nan")]}, "not finite"),
        ({"label": [1, 0], "score": ["a", "b"]}, "not a number"),
        ({"label": [0, 1, 2], "score": [0.1, 0.9, 0.5]}, "task of p.parquet is unclear"),
    ],
)
def test_predictions_that_cannot_be_used_are_bad_input(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(BadInput, match=words):
        read_predictions(DataSource("p.parquet", tmp_path / "p.parquet"), Columns())


def read(folder: Path, **columns: Any) -> DataSource:
    pl.DataFrame(columns).write_csv(folder / "p.csv")
    return DataSource("p.csv", folder / "p.csv")


def test_classes_are_the_same_whether_written_as_whole_numbers_or_not(tmp_path: Path) -> None:
    found = evaluate(
        EvaluationRequest(read(tmp_path, label=[0, 1, 2, 0, 1, 2], prediction=[0.0, 1.0, 2.0, 0.0, 1.0, 1.0]), {})
    )
    assert found.metrics["accuracy"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("labels", "positive"), [([-1, 1, -1, 1], "1"), (["no", "yes", "no", "yes"], "yes"), ([1, 2, 1, 2], "2")]
)
def test_two_classes_are_binary_and_the_greater_one_is_positive(tmp_path: Path, labels: Any, positive: str) -> None:
    found = evaluate(EvaluationRequest(read(tmp_path, label=labels, score=[0.1, 0.9, 0.2, 0.8]), {}))
    assert found.metrics["auc"] == found.metrics["accuracy"] == 1.0
    assert found.predictions and found.predictions.task_in_words == f"binary (the positive class is {positive})"


def test_a_task_that_was_named_is_taken(tmp_path: Path) -> None:
    source = read(tmp_path, label=[0, 1, 2], score=[0.1, 0.9, 0.5])
    assert read_predictions(source, Columns(), "regression").task == "regression"
    with pytest.raises(BadInput, match=r"not two classes\. There are 3"):
        read_predictions(source, Columns(), "binary")
    with pytest.raises(BadInput, match="No metric of a multiclass task"):
        evaluate(EvaluationRequest(source, {}, task="multiclass"))


@pytest.mark.parametrize("limits", [{"thresholds": {"aucc": ">= 0.7"}}, {"slice_thresholds": {"aucc": ">= 0.7"}}])
def test_a_threshold_on_an_unknown_metric_is_bad_input_with_the_list(tmp_path: Path, limits: Any) -> None:
    with pytest.raises(BadInput, match="Unknown metric 'aucc'") as raised:
        evaluate(EvaluationRequest(predictions(tmp_path), {"custom": 1.0}, slices=["part"], **limits))
    assert "accuracy, auc, average_precision" in raised.value.why
    assert raised.value.fix == "Did you mean `auc`?"


def test_a_bare_limit_of_a_metric_whose_direction_is_not_known_needs_a_sign() -> None:
    with pytest.raises(ValidationError, match="lift: 2 needs a sign"):
        Model.model_validate({"limits": "lift=2"})
    assert Model.model_validate({"limits": "lift>=2"}).limits == {"lift": ">= 2"}


def test_a_metric_that_a_slice_does_not_define_does_not_pass(tmp_path: Path) -> None:
    source = predictions(tmp_path, part=["a"] * 999 + ["b"])
    found = evaluate(EvaluationRequest(source, {}, slices=["part"], slice_thresholds={"auc": ">= 0.1"}, min_rows=1))
    assert verdicts(found)["slice", "part=b auc"] is False


def test_a_comparison_of_a_metric_of_unknown_direction_is_bad_input(tmp_path: Path) -> None:
    champion = Champion(1, {"lift": 2.0})
    asked = {"recorded": {"lift": 3.0}, "primary": "lift", "champion": champion}
    with pytest.raises(BadInput, match="more of the metric 'lift'"):
        evaluate(EvaluationRequest(None, **asked))
    assert verdicts(evaluate(EvaluationRequest(None, **asked, thresholds={"lift": ">= 1"})))["champion", "lift"] is True
    assert verdicts(evaluate(EvaluationRequest(None, **asked, thresholds={"lift": "< 9"})))["champion", "lift"] is False


def test_a_limit_does_not_turn_the_direction_of_a_metric_that_is_known(tmp_path: Path) -> None:
    better = Champion(1, {"auc": 0.9985, "evaluate.rmse": 1.0})
    asked: Any = {"recorded": {"auc": 0.915, "evaluate.rmse": 2.0}, "champion": better}
    for name, limit in (("auc", "<= 0.999"), ("auc", ">= 0.5, <= 0.999"), ("evaluate.rmse", ">= 0.1")):
        found = evaluate(EvaluationRequest(None, **asked, primary=name, thresholds={name: limit}))
        assert verdicts(found)["champion", name] is False
        assert all(gate.passed for gate in found.gates if gate.kind == "threshold")


def test_a_range_does_not_say_which_way_a_metric_goes() -> None:
    asked: Any = {"recorded": {"lift": 3.0}, "primary": "lift", "champion": Champion(1, {"lift": 2.0})}
    with pytest.raises(BadInput, match="more of the metric 'lift'") as raised:
        evaluate(EvaluationRequest(None, **asked, thresholds={"lift": ">= 1, <= 9"}))
    assert "one threshold with a sign" in raised.value.fix


def test_a_floor_and_a_ceiling_are_two_gates(tmp_path: Path) -> None:
    both, no_more = {"auc": ">= 0.1, <= 0.3"}, {"demographic_parity_difference": ">= 0, <= 1"}
    source = predictions(tmp_path)
    request = EvaluationRequest(
        source, {}, thresholds=both, slices=["part"], slice_thresholds=both, groups=["part"], fairness=no_more
    )
    found = evaluate(request).gates
    assert [(gate.limit, gate.passed) for gate in found if gate.kind == "threshold"] == [
        (">= 0.1", True), ("<= 0.3", False)
    ]  # fmt: skip
    slices = [gate for gate in found if gate.kind == "slice"]
    assert {(gate.limit, gate.passed) for gate in slices} == {(">= 0.1", True), ("<= 0.3", False)}
    alone = [one for one in evaluate(EvaluationRequest(
        source, {}, slices=["part"], slice_thresholds={"auc": ">= 0.1"})).gates if one.kind == "slice"]  # fmt: skip
    assert [gate.note for gate in slices if gate.limit == ">= 0.1"] == [gate.note for gate in alone]
    assert [gate.limit for gate in found if gate.kind == "fairness"] == [">= 0", "<= 1"]


def test_gates_that_checked_nothing_have_not_passed(tmp_path: Path) -> None:
    assert not evaluate(EvaluationRequest(None, {"rmse": 3.0})).checked
    assert not evaluate(EvaluationRequest(predictions(tmp_path), {}, baselines=())).checked
    assert evaluate(EvaluationRequest(predictions(tmp_path), {})).checked
    few = evaluate(
        EvaluationRequest(predictions(tmp_path), {}, slices=["part"], slice_thresholds={"auc": ">= 0.6"}, min_rows=9999)
    )
    assert [gate.sentence() for gate in few.failed] == [
        "part auc is missing, and must be >= 0.6: no slice of it has 9,999 rows"
    ]


@pytest.mark.parametrize(
    ("text", "read"), [("auc=0.7\nn=3", {"auc": 0.7, "n": 3.0}), ('{"auc": 1}', {"auc": 1.0}), ("", {})]
)
def test_recorded_metrics_are_numbers_by_name(text: str, read: dict[str, float]) -> None:
    assert EvaluateModelInputs.model_validate({"metrics": text}).metrics == read
    for wrong in ('{"auc": "x"}', "[1]", '{"auc": [1]}', "{auc"):
        with pytest.raises(ValueError, match="metrics"):
            EvaluateModelInputs.model_validate({"metrics": wrong})


@pytest.mark.parametrize(
    ("given", "slices"),
    [
        ("carrier, origin", ["carrier", "origin"]),
        ("carrier\nnight: hour IN (22, 23)", ["carrier", "night: hour IN (22, 23)"]),
        (["carrier", {"night": "hour >= 22"}], ["carrier", "night: hour >= 22"]),
        ("", []),
    ],
)
def test_slices_are_columns_and_expressions(given: object, slices: list[str]) -> None:
    assert Model.model_validate({"slices": given}).slices == slices
