"""Tasks, slices, groups and baselines of predictions files, and what is wrong with such a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_actions.data.sources import DataSource
from mlops_actions.errors import BadInput
from mlops_actions.evaluation.baselines import History
from mlops_actions.evaluation.champion import Champion
from mlops_actions.evaluation.custom import CustomMetric
from mlops_actions.evaluation.evaluate import Evaluation, EvaluationRequest, evaluate
from mlops_actions.evaluation.predictions import Columns
from mlops_actions.evaluation.training import sanity
from mlops_actions.records import Record
from mlops_actions.reports.sections import section

RANDOM = np.random.default_rng(5)
ROWS = 600


def file(folder: Path, columns: Any, name: str = "p.parquet") -> DataSource:
    pl.DataFrame(columns).write_parquet(folder / name)
    return DataSource(name, folder / name)


def judge(folder: Path, columns: Any, task: Any = "auto", **asked: Any) -> Evaluation:
    names = asked.pop("names", {})
    return evaluate(EvaluationRequest(file(folder, columns), {}, Columns(**names), task, **asked))


def gates(found: Evaluation, kind: str) -> dict[str, Any]:
    return {gate.metric: gate for gate in found.gates if gate.kind == kind}


def test_probabilities_of_classes_by_name(tmp_path: Path) -> None:
    columns = {
        "label": ["cat", "dog", "eel", "dog"], "score_cat": [0.7, 0.2, 0.1, 0.5], "score_dog": [0.2, 0.7, 0.3, 0.4],
        "score_eel": [0.1, 0.1, 0.6, 0.1],
    }  # fmt: skip
    found = judge(tmp_path, columns, thresholds={"top_accuracy@2": ">= 1", "log_loss": "<= 1"})
    assert found.task == "multiclass" and found.metrics["accuracy"] == 0.75
    assert found.metrics["log_loss"] == pytest.approx(-np.log([0.7, 0.7, 0.6, 0.4]).mean())
    assert not found.failed


def test_labels_side_by_side_are_a_multilabel_task(tmp_path: Path) -> None:
    columns = {
        "label_a": [1, 0, 1, 0],
        "label_b": [0, 0, 1, 1],
        "score_a": [0.9, 0.2, 0.4, 0.1],
        "score_b": [0.1, 0.6, 0.7, 0.8],
    }
    found = judge(tmp_path, columns)
    assert found.task == "multilabel" and found.metrics["hamming_loss"] == 0.25 and found.metrics["auc_macro"] == 1


def test_a_query_column_is_a_ranking_task_and_queries_are_what_chance_draws(tmp_path: Path) -> None:
    query = np.repeat(np.arange(60), 10)
    label = RANDOM.integers(0, 2, ROWS)
    columns = {"query": query, "label": label, "score": label + RANDOM.normal(0, 0.5, ROWS)}
    worse = {**columns, "score": label + RANDOM.normal(0, 3, ROWS)}
    champion = Champion(1, {}, file(tmp_path, columns, "c.parquet"))
    found = judge(tmp_path, worse, names={"query": "query"}, champion=champion, thresholds={"ndcg@3": ">= 0"})
    assert found.task == "ranking" and {"ndcg", "ndcg@3", "map", "mrr"} <= set(found.metrics)
    assert (found.comparisons[0].verdict, found.comparisons[0].units) == ("worse", 60)


def series(start: int, stop: int, noise: float) -> dict[str, Any]:
    time = np.arange(start, stop)
    rows = [(name, t, 10 * (t % 7) + (50 if name == "b" else 0)) for name in "ab" for t in time]
    names, times, labels = zip(*rows)
    label = np.array(labels, dtype=float) + np.random.default_rng(start).normal(0, 1, len(rows))
    return {"series": names, "time": times, "label": label, "score": label + noise * RANDOM.normal(size=len(rows))}


@pytest.mark.parametrize(("noise", "better"), [(0.1, True), (20.0, False)])
def test_a_forecast_is_judged_against_the_season_before(tmp_path: Path, noise: float, better: bool) -> None:
    history = History(file(tmp_path, series(0, 70, 0), "h.parquet"), season=7)
    names = {"series": "series", "time": "time", "horizon": "h"}
    columns = {**series(70, 84, noise), "h": [*range(1, 15)] * 2}
    found = judge(tmp_path, columns, names=names, history=history, baselines=["season-naive"], slices=["h"])
    assert found.task == "forecasting" and found.primary == "mase"
    (gate,) = gates(found, "baseline").values()
    assert gate.passed is better and gate.note == "what was one season earlier"
    # the forecast of two seasons ahead knows only the last season of the history
    known, now = pl.read_parquet(history.source.path), pl.DataFrame(columns)
    last = known.filter(pl.col("time") >= 63).with_columns(pl.col("time") % 7)
    joined = now.with_columns(pl.col("time") % 7).join(last, on=["series", "time"], maintain_order="left")
    of_series = known.with_columns(pl.col("label").diff(7).over("series").abs().alias("e")).group_by("series")
    scale = now.join(of_series.agg(pl.col("e").mean()), on="series", maintain_order="left")["e"]
    assert gate.bound == pytest.approx(((joined["label"] - joined["label_right"]).abs() / scale).mean())
    assert found.metrics["mase"] == pytest.approx(((now["label"] - now["score"]).abs() / scale).mean())


def test_scores_of_rows_are_metrics_with_intervals(tmp_path: Path) -> None:
    columns = {
        "id": np.arange(200),
        "rouge": RANDOM.random(200),
        "exact_match": RANDOM.random(200) < 0.5,
        "text": ["x"] * 200,
    }
    found = judge(
        tmp_path, columns, "scores", names={"id": "id"}, thresholds={"rouge": ">= 0.2", "exact_match": ">= 0.9"}
    )
    assert found.metrics == pytest.approx(
        {"rouge": columns["rouge"].mean(), "exact_match": columns["exact_match"].mean()}
    )
    rouge, exact = gates(found, "threshold")["rouge"], gates(found, "threshold")["exact_match"]
    assert rouge.passed and not exact.passed
    error = columns["rouge"].std(ddof=1) / 200**0.5
    assert (rouge.high - rouge.low) == pytest.approx(2 * 1.97 * error, rel=0.2)


def features(rows: int = ROWS, noise: float = 0.3) -> dict[str, Any]:
    random = np.random.default_rng(8)
    x = random.normal(size=(rows, 2))
    label = (x[:, 0] - x[:, 1] + random.normal(size=rows) > 0).astype(int)
    score = 1 / (1 + np.exp(-(x[:, 0] - x[:, 1] + noise * random.normal(size=rows))))
    return {"label": label, "score": score, "x": x[:, 0], "y": x[:, 1]}


def test_a_linear_model_of_the_features_is_a_baseline(tmp_path: Path) -> None:
    (gate,) = gates(judge(tmp_path, features(noise=3.0), baselines=["linear"]), "baseline").values()
    assert not gate.passed and 0.75 < gate.bound < 0.9
    columns = {"label": ["a", "b", "c"] * 50, "prediction": ["a", "b", "c"] * 50, "x": [0.0, 1, 5] * 50}
    (gate,) = gates(judge(tmp_path, columns, baselines=["linear"]), "baseline").values()
    assert gate.bound > 0.6
    numbers = {"label": np.arange(90.0) * 2 + 1, "score": np.zeros(90), "x": np.arange(90.0)}
    (gate,) = gates(judge(tmp_path, numbers, baselines=["linear"]), "baseline").values()
    assert not gate.passed and gate.bound < 2


@pytest.mark.parametrize("baseline", ["linear", "season-naive"])
def test_a_baseline_that_cannot_be_trained_is_not_passed(tmp_path: Path, baseline: str) -> None:
    found = judge(tmp_path, {"label": [0, 1, 1, 0], "score": [0.1, 0.9, 0.8, 0.3]}, baselines=[baseline])
    assert [gate.value for gate in found.failed] == [None]


def sliced(bad: float) -> dict[str, Any]:
    random = np.random.default_rng(2)
    part = np.arange(2_000) % 20
    label = random.integers(0, 2, 2_000)
    right = random.random(2_000) < np.where(part == 3, bad, 0.8)
    return {
        "label": label,
        "prediction": np.where(right, label, 1 - label),
        "part": [f"p{p}" for p in part],
        "hour": part,
    }


def test_a_slice_fails_only_when_its_corrected_interval_is_beyond_the_limit(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"slices": ["part"], "slice_thresholds": {"accuracy": ">= 0.8"}, "baselines": []}
    equal = judge(tmp_path, sliced(0.8), **asked)
    assert len(equal.gates) == 20 and any(gate.value < 0.8 for gate in equal.gates) and not equal.failed
    worst = judge(tmp_path, sliced(0.4), **asked)
    assert [gate.metric for gate in worst.failed] == ["part=p3 accuracy"]
    assert worst.failed[0].note.endswith("with Bonferroni's correction for 20 looked at")
    strict = judge(tmp_path, sliced(0.8), **asked, unsure=False)
    assert len(strict.failed) > 10


def test_a_slice_may_be_an_expression_and_one_that_is_named_must_be_there(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"slice_thresholds": {"accuracy": ">= 0.5"}, "baselines": []}
    found = judge(tmp_path, sliced(0.8), slices=["night: hour >= 15 OR hour IN (1, 2)", "never: hour > 99"], **asked)
    assert [(s["column"], s["rows"]) for s in found.slices] == [("night", 700)]
    assert [gate.sentence() for gate in found.failed] == [
        "never accuracy is missing, and must be >= 0.5: no slice of it has 100 rows"
    ]
    for wrong in ("x: hour >", "x: nowhere > 1", "x: MAX(hour) > 1"):
        with pytest.raises(BadInput, match="The slice 'x' is not an expression of the rows"):
            judge(tmp_path, sliced(0.8), slices=[wrong], **asked)


def test_fairness_between_groups_is_fairlearns(tmp_path: Path) -> None:
    columns = {
        "label": [1, 1, 0, 0, 1, 1, 0, 0, 1, 0], "prediction": [1, 0, 1, 0, 1, 1, 1, 1, 0, 0],
        "sex": ["f"] * 4 + ["m"] * 4 + ["x"] * 2,
    }  # fmt: skip
    limits = {
        "demographic_parity_difference": "<= 0.4",
        "demographic_parity_ratio": ">= 0.5",
        "equalized_odds_difference": "<= 0.5",
    }
    found = judge(tmp_path, columns, groups=["sex"], fairness=limits, min_rows=4, baselines=[])
    by_name = {name.split()[1]: gate for name, gate in gates(found, "fairness").items()}
    # selected: f 2/4, m 4/4; true positives f 1/2, m 2/2; false positives f 1/2, m 2/2
    assert {name: gate.value for name, gate in by_name.items()} == {
        "demographic_parity_difference": 0.5, "demographic_parity_ratio": 0.5, "equalized_odds_difference": 0.5,
    }  # fmt: skip
    assert [gate.metric for gate in found.failed] == ["sex demographic_parity_difference"]
    few = judge(tmp_path, columns, groups=["sex"], fairness=limits, min_rows=9, baselines=[])
    assert len(few.failed) == 3 and "fewer than two groups have 9 rows" in few.failed[0].sentence()
    with pytest.raises(BadInput, match="Unknown metric 'parity'"):
        judge(tmp_path, columns, groups=["sex"], fairness={"parity": "<= 1"})
    with pytest.raises(BadInput, match="Set `groups`"):
        judge(tmp_path, columns, fairness=limits)


TWO = {"label": [0, 1], "score": [0.1, 0.9]}
OF_CLASSES = {"label": ["a", "b"], "score_a": [0.5, 0.5], "score_b": [0.5, 0.9]}
WITHIN = {"query": "q", "block": "d"}


@pytest.mark.parametrize(
    ("columns", "names", "task", "words"),
    [
        (
            {**TWO, "score": [0.1, np.inf]},
            {},
            "auto",
            "score in p.parquet is missing or not finite in 1 row, first in row 2 (inf)",
        ),
        ({**TWO, "w": [1, -1]}, {"weight": "w"}, "auto", "w in p.parquet is negative in 1 row, first in row 2 (-1)"),
        ({**TWO, "w": [0, 0]}, {"weight": "w"}, "auto", "w in p.parquet is 0 in all of 2 rows"),
        (TWO, {"id": "nosuch"}, "auto", "p.parquet has no column 'nosuch'"),
        ({**TWO, "k": [7, None]}, {"id": "k"}, "auto", "p.parquet has 1 row without k"),
        ({**TWO, "k": [7, 7]}, {"id": "k"}, "auto", "p.parquet has several rows of one k: 7 is in 2 rows"),
        (
            {"label": [0, 1, 1], "score": [0.1, 0.9, 0.5], "prediction": [0, 7, 1]},
            {},
            "auto",
            "prediction in p.parquet is not one of the labels in 1 row, first in row 2 (7). The labels are 0, 1. Write",
        ),
        (
            {"label": ["a", "b", "c"], "prediction": ["a", "b", "b"]},
            {},
            "binary",
            "The labels of p.parquet are not two classes. There are 3: a, b, c. Set",
        ),
        ({**TWO, "w": [1, None]}, {"weight": "w"}, "auto", "1 row without w"),
        (TWO, {"weight": "w"}, "auto", "p.parquet has no column 'w'"),
        (TWO, {"block": "day"}, "auto", "p.parquet has no column 'day'"),
        (TWO, {}, "ranking", "Set `query-column`"),
        (OF_CLASSES, {}, "auto", "The probabilities of row 2 of p.parquet sum to 1.4"),
        ({**OF_CLASSES, "label": ["a", "c"]}, {}, "auto", "no column of scores of the class c"),
        ({"label_a": [0, 1], "label_b": [0, 1], "score_a": [0.5, 0.9]}, {}, "auto", "have the label b in all"),
        (
            {"label_a": [0, 2], "score_a": [0.5, 0.9]},
            {},
            "auto",
            "label_a in p.parquet is neither 0 nor 1 in 1 row, first in row 2 (2)",
        ),
        ({**TWO, "q": [1, 1], "d": [1, 2]}, WITHIN, "auto", "A q of p.parquet has several values of d"),
        ({"label": [0, 0], "score": [-3.0, 9.0]}, {}, "binary", "There is only one class: all 2 labels are 0"),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_clear_error(
    tmp_path: Path, columns: Any, names: Any, task: Any, words: str
) -> None:
    with pytest.raises(BadInput) as raised:
        judge(tmp_path, columns, task, names=names)
    assert words in str(raised.value)


@pytest.mark.parametrize(("label", "name"), [(1, "1"), (0, "0"), ("no", "no")])
def test_rows_of_only_one_class_are_told_to_be(tmp_path: Path, label: Any, name: str) -> None:
    columns = {"label": [label] * 400, "score": np.linspace(0.1, 0.9, 400), "part": ["a", "b"] * 200}
    words = f"there is only one class: all 400 labels are {name}"
    found = judge(tmp_path, columns, "binary", thresholds={"auc": ">= 0.6"}, baselines=[])
    assert found.notes == [words.capitalize()]
    assert [gate.sentence() for gate in found.failed] == [f"auc is missing, and must be >= 0.6: {words}"]
    champion = Champion(1, {"auc": 0.7})
    for asked in ({"primary": "auc"}, {"max_regression": {"auc": 0.1}, "champion": champion}):
        with pytest.raises(BadInput, match=f"auc cannot be computed. {words.capitalize()}"):
            judge(tmp_path, columns, "binary", **asked)
    sliced = judge(tmp_path, columns, "binary", slices=["part"], slice_thresholds={"auc": ">= 0.6"})
    assert f"all 200 labels are {name}" in sliced.failed[-1].sentence()


@pytest.mark.parametrize(
    ("name", "fix"), [("training_loss_ratio", "Set `training`"), ("model_mb", "Name it in `thresholds`")]
)
def test_what_was_not_measured_is_told_with_what_to_set(tmp_path: Path, name: str, fix: str) -> None:
    for asked in ({"thresholds": {name: "< 1"}}, {"primary": name}):
        with pytest.raises(BadInput, match=f"{name} was not measured") as raised:
            judge(tmp_path, features(100), **asked)
        assert raised.value.fix.startswith(fix)


def test_recorded_metrics_must_be_numbers() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(BadInput, match="recorded metric auc is"):
            evaluate(EvaluationRequest(None, {"auc": value}))


def test_rows_that_are_not_the_champions_are_told_with_the_reason(tmp_path: Path) -> None:
    columns = features(100)
    other = Champion(4, {"auc": 0.5}, file(tmp_path, features(90), "c.parquet"))
    assert judge(tmp_path, columns, champion=other).notes == [
        "The rows are not those of version 4: there are 100 rows, and version 4 was measured on 90: set `id-column`"
    ]
    flipped = file(tmp_path, {**columns, "label": 1 - columns["label"]}, "c.parquet")
    assert "their labels differ" in judge(tmp_path, columns, champion=Champion(4, {"auc": 0.5}, flipped)).notes[0]
    twice = Champion(4, {}, file(tmp_path, {**columns, "id": [0] * 100}, "c.parquet"))
    with pytest.raises(BadInput, match=r"c\.parquet has several rows of one id: 0 is in 100 rows"):
        judge(tmp_path, {**columns, "id": np.arange(100)}, names={"id": "id"}, champion=twice)


def test_a_baseline_that_is_named_and_cannot_be_had_fails(tmp_path: Path) -> None:
    recorded = EvaluationRequest(None, {"rmse": 3.0})
    assert evaluate(recorded).gates == []
    found = evaluate(replace(recorded, baselines=["constant", "linear"])).failed
    assert [gate.kind for gate in found] == ["baseline", "baseline"]
    assert found[1].sentence() == (
        "rmse is missing, and must be better than that of a linear model of the features, by cross-validation: rmse is"
        " not computed from predictions here"
    )
    scores = {"id": np.arange(20), "rouge": RANDOM.random(20)}
    assert judge(tmp_path, scores, "scores", names={"id": "id"}).gates == []
    (gate,) = judge(tmp_path, scores, "scores", names={"id": "id"}, baselines=["constant"]).failed
    assert gate.note == "a scores task has no such predictor, or the metric is not defined for it"


def test_slices_that_are_too_small_are_told_and_own_metrics_are_not_of_slices(tmp_path: Path) -> None:
    columns = {**features(400), "part": ["a"] * 397 + ["b"] * 3}
    found = judge(tmp_path, columns, slices=["part"], slice_thresholds={"auc": ">= 0.1"})
    assert found.small == {"part": {"b": 3}} and [one["value"] for one in found.slices] == ["a"]
    own = {"own": CustomMetric(function="own.py:own", direction="maximize")}
    for more in ({"slice_thresholds": {"own": ">= 1"}}, {"slice_regression": {"*": 0.1}, "primary": "own"}):
        with pytest.raises(BadInput, match="The custom metric own is not computed by slice"):
            judge(tmp_path, columns, slices=["part"], custom=own, **more)


def test_rows_that_only_the_champion_has_predicted_are_told_and_are_no_proof(tmp_path: Path) -> None:
    every = {**features(400, 0.8), "id": np.arange(400)}
    champion = Champion(4, {"auc": 0.9}, file(tmp_path, every, "c.parquet"))
    better = {**features(400, 0.1), "id": np.arange(400)}
    asked: dict[str, Any] = {"names": {"id": "id"}, "baselines": [], "champion": champion}

    def found(rows: int, **more: Any) -> Evaluation:
        return judge(tmp_path, {name: values[:rows] for name, values in better.items()}, **asked, **more)

    assert found(400, unsure=False).gates[0].passed and not found(400).notes
    some = found(300)
    assert some.notes == ["100 of the 400 rows that version 4 was measured on are not predicted"]
    assert some.gates[0].passed and some.gates[0].note.endswith("; without 100 rows of the champion's")
    (gate,) = found(300, unsure=False).failed
    assert gate.verdict == "cannot tell" and "100 rows of the champion's" in gate.sentence()
    assert found(150).notes == ["The rows are not those of version 4: only 150 of 150 are among its 400"]
    (gate,) = found(150, unsure=False).failed
    assert "recorded values" in gate.note
    parts = {"slices": ["part"], "slice_regression": {"*": 0.0}}
    better["part"] = np.array(["x", "y"])[np.arange(400) % 2]
    assert [gate.metric for gate in found(300, unsure=False, **parts).failed] == ["auc", "part=x auc", "part=y auc"]
    assert not found(400, unsure=False, **parts).failed


def test_a_challenger_that_rows_cannot_tell_from_the_champion_passes_unless_proof_is_asked(tmp_path: Path) -> None:
    champion = Champion(1, {}, file(tmp_path, features(200, 0.3), "c.parquet"))
    columns = features(200, 0.32)
    asked: dict[str, Any] = {"champion": champion, "baselines": [], "max_regression": {"auc": 0.0005}}
    (gate,) = judge(tmp_path, columns, **asked).gates
    assert (gate.verdict, gate.passed) == ("cannot tell", True) and "rows would be enough for the allowed" in gate.note
    assert gate.low < gate.value < gate.high and gate.bound == pytest.approx(gate.value - gate.margin)
    (strict,) = judge(tmp_path, columns, **asked, unsure=False).gates
    assert not strict.passed
    blocked = judge(
        tmp_path, {**columns, "day": np.arange(200) // 10}, names={"block": "day"}, **{**asked, "champion": None}
    )
    assert blocked.gates == []


def test_values_of_other_rows_are_no_proof(tmp_path: Path) -> None:
    columns = {**features(200), "id": np.arange(200)}
    other = file(tmp_path, {**columns, "id": np.arange(200) + 1000}, "c.parquet")
    asked: dict[str, Any] = {"names": {"id": "id"}, "baselines": []}
    for champion in (Champion(4, {"auc": 0.5}, other), Champion(4, {"auc": 0.5})):
        (gate,) = judge(tmp_path, columns, champion=champion, **asked).gates
        assert (gate.passed, gate.verdict) == (True, "better")
        strict = judge(tmp_path, columns, champion=champion, **asked, unsure=False)
        (gate,) = strict.failed
        assert gate.verdict == "cannot tell"
        assert (
            "cannot tell whether it is >= 0.5, and `if-cannot-tell` is `fail` (recorded values: not" in gate.sentence()
        )
    better = Champion(4, {"auc": 0.9999999})
    (gate,) = judge(tmp_path, columns, champion=better, **asked, unsure=False).failed
    assert gate.verdict == "worse"


def test_a_models_size_is_compared_without_rows() -> None:
    asked: dict[str, Any] = {"primary": "model_mb", "champion": Champion(1, {"model_mb": 3.0}), "unsure": False}
    assert not evaluate(EvaluationRequest(None, {"model_mb": 2.0}, **asked)).failed
    assert evaluate(EvaluationRequest(None, {"model_mb": 4.0}, **asked)).failed


def test_a_report_shows_interval_and_verdict_of_each_gate(tmp_path: Path) -> None:
    champion = Champion(1, {}, file(tmp_path, features(200, 0.3), "c.parquet"))
    asked: dict[str, Any] = {"thresholds": {"auc": ">= 0.6"}, "max_regression": {"auc": 0.0005}, "baselines": []}
    found = judge(tmp_path, features(200, 0.32), champion=champion, **asked)
    details = {"gates": [{**vars(gate), "margin": gate.margin} for gate in found.gates], "champion": {"version": 1}}
    record = Record(action="evaluate-model", started="2013-01-01T00:00:00+00:00", seconds=1, details=details)
    rows = [line for line in section(record).splitlines() if "auc" in line]
    assert rows[0].startswith("| ✅ | threshold | auc |") and " to 0." in rows[0]
    assert rows[1].startswith("| ⚪ | champion | auc |") and "cannot tell: gain" in rows[1] and "DeLong" in rows[1]


def test_models_that_name_other_classes_are_compared_by_name(tmp_path: Path) -> None:
    columns = {"label": ["b", "c"] * 100, "prediction": ["b", "c"] * 100}
    champion = Champion(1, {}, file(tmp_path, {**columns, "prediction": ["a", "c"] * 100}, "c.parquet"))
    asked: dict[str, Any] = {"champion": champion, "primary": "accuracy", "baselines": []}
    found = judge(tmp_path, columns, "multiclass", **asked)
    assert (found.comparisons[0].champion, found.comparisons[0].verdict) == (0.5, "better")


def test_other_columns_may_begin_as_scores_do(tmp_path: Path) -> None:
    columns = {"label": ["a", "b", "c"], "prediction": ["a", "b", "b"], "score_version": [1, 1, 2]}
    assert judge(tmp_path, columns).metrics["accuracy"] == pytest.approx(2 / 3)


def test_a_slice_that_is_worse_than_the_champions_fails_although_the_whole_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    truth, night = random.normal(size=4000), np.arange(4000) % 4 == 0
    label = (truth > 0).astype(int)
    columns = {"label": label, "time": np.where(night, "night", "day")}
    noise = random.normal(size=4000)
    old = {"score": 1 / (1 + np.exp(-truth - 0.5 * noise)), **columns}
    new = {"score": 1 / (1 + np.exp(-truth - np.where(night, 1.5, 0.1) * noise)), **columns}
    champion = Champion(3, {}, file(tmp_path, old, "old"))
    asked = {"slices": ["time"], "max_regression": {"*": 0.05}, "baselines": []}
    made = EvaluationRequest(file(tmp_path, new, "new"), {}, champion=champion, **asked)
    assert not evaluate(made).failed
    found = evaluate(replace(made, slice_regression={"*": 0.01}))
    assert [gate.metric for gate in found.failed] == ["time=night auc"]
    assert "corrected for 2 looked at" in found.failed[0].note
    other = replace(champion, predictions=file(tmp_path, {name: value[:100] for name, value in old.items()}, "other"))
    unsure = evaluate(replace(made, champion=replace(other, metrics={"auc": 0.5}), slice_regression={"*": 0.01}))
    assert not unsure.checked and "slices cannot be compared with version 3" in unsure.unchecked[0]
    few = evaluate(replace(made, slices=["time", "dusk: time = 'dusk'"], slice_regression={"*": 0.5}))
    assert [gate.sentence() for gate in few.failed] == [
        "dusk auc is missing, and must be no worse than the champion: no slice of it has 100 rows"
    ]
    none = evaluate(replace(made, slices=[], champion=None, slice_regression={"*": 0.5}))
    assert [gate.sentence() for gate in none.failed] == [
        "each slice's auc is missing, and must be no worse than the champion: no `slices` are named"
    ]


def test_a_slice_that_the_champion_has_not_predicted_cannot_be_told(tmp_path: Path) -> None:
    rows = np.arange(900)
    random = np.random.default_rng(3)
    columns = {"id": rows, "label": (random.random(900) < 0.5).astype(int), "part": np.array([*"abc"])[rows // 300]}
    new = {**columns, "score": np.clip(columns["label"] * 0.6 + random.random(900) * 0.4, 0, 1), "hour": rows / 900}
    old = {name: value[:650] for name, value in new.items()}
    request = EvaluationRequest(
        file(tmp_path, new, "new"), {}, Columns(id="id"), champion=Champion(3, {}, file(tmp_path, old, "old")),
        slices=["part", "hour"], slice_regression={"*": 0.01},
    )  # fmt: skip
    gates = {gate.metric: gate for gate in evaluate(request).gates if gate.kind == "champion" and "=" in gate.metric}
    assert len(gates) == 7 and all(gate.passed for gate in gates.values())
    told = {name: gate.note for name, gate in gates.items() if gate.value is None}
    last = next(name for name in gates if name.startswith("hour=(0.749"))
    assert told == {
        "part=c auc": "version 3 has predicted 50 of its 300 rows",
        last: "version 3 has predicted 0 of its 225 rows",
    }
    strict = evaluate(replace(request, unsure=False))
    assert {gate.metric for gate in strict.failed} >= {"part=c auc", last}


def test_a_baseline_that_cannot_be_made_fails_with_its_reason(tmp_path: Path) -> None:
    columns = {"label": [0, 2, 1] * 9, "score": [0.1, 0.9, 0.3] * 9, "q": [*range(9)] * 3, "x": [1.5, 2.5, 0.5] * 9}
    request = EvaluationRequest(file(tmp_path, columns, "p"), {}, Columns(query="q"), "ranking", baselines=["linear"])
    (gate,) = evaluate(request).failed
    assert gate.note == "a ranking task has no linear model here"
    (gate,) = evaluate(replace(request, columns=Columns(), task="regression", baselines=["season-naive"])).failed
    assert gate.note == "set `history`"


@pytest.mark.parametrize("asked", [{"max_regression": {"acu": 0.1}}, {"slice_regression": {"acu": 0.1}}])
def test_a_metric_to_compare_by_is_known_without_a_champion_too(tmp_path: Path, asked: Any) -> None:
    source = file(tmp_path, {"label": [0, 1] * 9, "score": [0.1, 0.9] * 9, "part": ["a"] * 18}, "p")
    with pytest.raises(BadInput, match="Unknown metric 'acu'"):
        evaluate(EvaluationRequest(source, {}, slices=["part"], **asked))


@pytest.mark.parametrize(
    ("first", "again", "few", "failed"),
    [
        ([1.0, 0.5], [1.0, 0.5], [1.0, 0.01], {}),
        ([1.0, 1.5], [1.0, 1.5], [1.0, 0.01], {"training_loss_ratio": 1.5}),
        ([1.0, 0.5], [1.0, 0.6], [1.0, 0.01], {"training_repeat_difference": 0.1}),
        ([1.0, 0.5], [1.0, 0.5], [1.0, 0.5], {"training_overfit_ratio": 0.5}),
        ([1.0, np.nan], [1.0, 0.5], [1.0, 0.01], {"training_loss_ratio": None, "training_repeat_difference": None}),
        ([1.0, 0.5], [1.0], [1.0, np.inf], {"training_overfit_ratio": None, "training_repeat_difference": None}),
        ([-1.0, -2.0], [-1.0, -2.0], [1.0, 0.0], {"training_loss_ratio": None, "training_repeat_difference": None}),
    ],
)  # fmt: skip
def test_a_training_must_be_sane(first: Any, again: Any, few: Any, failed: dict[str, float | None]) -> None:
    found = evaluate(EvaluationRequest(None, {"auc": 0.7}, sanity=sanity([first, again, few]), baselines=[]))
    shown = {gate.metric: gate.value if gate.value is None else round(gate.value, 9) for gate in found.failed}
    assert shown == failed
    assert all(gate.kind == "training" for gate in found.gates) and len(found.gates) == 3


def test_limits_of_a_training_are_the_users_and_a_pipeline_may_measure_itself() -> None:
    curves = sanity([[1.0, 0.5], [1.0, 0.6], [1.0, 0.5]])
    limits = {"training_repeat_difference": "<= 0.2", "training_overfit_ratio": "<= 0.5"}
    assert not evaluate(EvaluationRequest(None, {"auc": 0.7}, thresholds=limits, sanity=curves, baselines=[])).failed
    logged = {"training_loss_ratio": 1.5}
    found = evaluate(EvaluationRequest(None, logged, thresholds={"training_loss_ratio": "< 1"}, baselines=[]))
    assert [gate.metric for gate in found.failed] == ["training_loss_ratio"]
