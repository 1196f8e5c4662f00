"""evaluate-model in a run of the chain, and against a champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import Run
from mlops_actions.records import Record
from mlops_actions.registry.manifest import File, Manifest, Move
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.store import Store

DIGEST = "sha256:" + "0" * 64


def predictions(path: Path, noise: float) -> Path:
    random = np.random.default_rng(7)
    truth = random.normal(size=2000)
    label = (truth + random.normal(size=2000) > 0).astype(int)
    pl.DataFrame({"label": label, "score": 1 / (1 + np.exp(-truth - noise * random.normal(size=2000)))}).write_parquet(
        path
    )
    return path


def trained(store: Store, path: Path, **metrics: float) -> None:
    """What run-pipeline leaves in the store for the actions after it."""
    uri = store.put_file(path, "artifacts/k/evaluate/predictions")
    record = Record(
        action="run-pipeline", run="r", started="2013-01-01T00:00:00+00:00", seconds=1, subject={"model": DIGEST},
        outputs={"predictions-uri": uri, "metrics": metrics},
    )  # fmt: skip
    store.put_json("runs/r/run-pipeline.json", record.model_dump(mode="json"))


def champion(store: Store, path: Path) -> None:
    registry = Registry(store)
    kept: File = registry.put_file(path, "predictions.parquet")
    draft = Manifest(
        name="delays", version=1, created="2013-01-01", digest=DIGEST, identity="x", files=[kept], predictions=kept
    )
    manifest, _ = registry.register(lambda n: draft.model_copy(update={"version": n}))
    registry.move_alias(manifest, "champion", Move(version=1, at="2013-01-01"))


def outputs(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_the_runs_model_is_judged_by_thresholds_and_has_curves(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    path = predictions(tmp_path / "predictions.parquet", 0.5)
    path.rename(tmp_path / "predictions")  # as artifacts are named: without a suffix
    trained(store, tmp_path / "predictions", seconds=3.0)
    call = (
        "evaluate-model",
        "--json",
        "--run",
        "r",
        "--store",
        store.url,
        "--thresholds",
        "seconds<10",
        "--thresholds",
    )
    done = mlops(*call, "auc>=0.6")
    assert done.returncode == 0, done.stderr
    found = outputs(done.stdout)
    assert (found["verdict"], found["gates-passed"], found["gates-failed"]) == ("passed", 3, 0)
    assert found["record"]["subject"] == {"model": DIGEST}
    assert found["champion-version"] is None
    curves = found["record"]["details"]["curves"]
    assert set(curves) >= {"roc", "pr"} and curves["roc"][-1] == [1, 1]
    assert outputs(mlops(*call, "auc>=0.6").stdout)["record"]["reused"] is True
    assert mlops(*call, "auc>=0.6", "--thresholds", "auc>=0.99").returncode == 2
    refused = mlops(*call, "auc>=0.99")
    assert refused.returncode == 1
    assert "1 of 3 gates failed: auc is" in refused.stderr


def test_a_worse_model_does_not_pass_the_champion(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    champion(store, predictions(tmp_path / "champion.parquet", 0.1))
    worse = predictions(tmp_path / "worse.parquet", 3.0)
    summary = tmp_path / "summary.md"
    call = ("evaluate-model", "--store", store.url, "--model", "delays", "--predictions", worse)
    done = mlops(*call, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1, done.stdout
    assert "1 of 2 gates failed: auc is" in done.stdout
    assert "| ❌ | champion | auc |" in summary.read_text()
    allowed = mlops(*call, "--max-regression", "0.5", "--json")
    assert (allowed.returncode, outputs(allowed.stdout)["champion-version"]) == (0, 1)


def test_nothing_to_evaluate_is_bad_input(mlops: Run) -> None:
    done = mlops("evaluate-model")
    assert done.returncode == 2
    assert "No predictions or metrics to evaluate" in done.stderr


@pytest.mark.parametrize("name", ["predictions", "history"])
def test_predictions_and_history_are_one_file_each(tmp_path: Path, mlops: Run, name: str) -> None:
    (tmp_path / "parts").mkdir()
    for part in ("1", "2"):
        predictions(tmp_path / "parts" / f"{part}.parquet", 0.5)
    done = mlops("evaluate-model", "--metrics", "auc=0.7", f"--{name}", tmp_path / "parts")
    assert (done.returncode, f"`{name}` names 2 files" in done.stderr) == (2, True), done.stderr


def test_a_model_that_no_gate_checked_is_unchecked_and_not_passed(tmp_path: Path, mlops: Run) -> None:
    path = predictions(tmp_path / "p.parquet", 0.5)
    call = ("evaluate-model", "--json", "--run", "r", "--store", (tmp_path / "store").as_uri(), "--predictions", path)
    done = mlops(*call, "--baselines", "[]")
    assert done.returncode == 0, done.stderr
    found = outputs(done.stdout)
    assert (found["verdict"], found["record"]["verdict"]) == ("unchecked", "unchecked")
    assert "nothing was checked: no gate is set" in found["record"]["reason"]
    assert "nothing was checked" in done.stderr and "The task is binary (the positive class is 1)" in done.stderr
    assert "verdict" not in outputs(mlops(*call).stdout)["record"]


COSTS = """
def cost(rows):
    rows = rows.to_dict("records") if hasattr(rows, "columns") else rows
    wrong = [r["label"] for r in rows if (r["score"] >= 0.5) != (r["label"] == 1)]
    return sum(5 if label == 1 else 1 for label in wrong) / len(rows)


def broken(rows):
    raise RuntimeError("no such tariff")


def text(rows):
    return float("nan")


def none(rows):
    return None


def words(rows):
    return "x"
"""


def custom(function: str, direction: str = "minimize") -> str:
    return json.dumps({"cost": {"function": function, "direction": direction}})


def test_a_metric_of_ones_own_is_computed_compared_and_gated(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    champion(store, predictions(tmp_path / "champion.parquet", 0.1))
    worse = predictions(tmp_path / "worse.parquet", 3.0)
    (tmp_path / "costs.py").write_text(COSTS)
    call = ("evaluate-model", "--json", "--store", store.url, "--model", "delays", "--predictions", worse)
    asked = ("--primary-metric", "cost", "--thresholds", "cost<=9", "--custom-metrics", custom("costs:cost"))
    done = mlops(*call, *asked, "--working-directory", tmp_path)
    assert done.returncode == 1, done.stderr
    found = outputs(done.stdout)["record"]
    gates = {gate["kind"]: gate for gate in found["details"]["gates"]}
    assert gates["threshold"]["passed"] and gates["threshold"]["low"] < found["outputs"]["metrics"]["cost"]
    assert gates["champion"]["verdict"] == "worse" and gates["champion"]["note"].endswith("bootstrap of rows")
    assert gates["champion"]["evidence"] == str(worse) and gates["champion"]["margin"] < 0


@pytest.mark.parametrize(
    ("metric", "code", "words"),
    [
        (custom("costs:broken"), 1, "cost cannot be computed by costs:broken. RuntimeError: no such tariff"),
        (custom("costs:text"), 1, "The metric cost is nan"),
        (custom("costs:none"), 1, "by costs:none. It returned None, which is not a number. Correct its function"),
        (custom("costs:words"), 1, "by costs:words. It returned 'x', which is not a number"),
        (custom("costs:missing"), 2, "by costs:missing. costs has no `missing`. Correct `function` of"),
        (custom("nofile.py:ok"), 2, "by nofile.py:ok. The file nofile.py does not exist. Correct `function` of"),
        (custom("nowhere:cost"), 2, "Add nowhere to the `requirements`"),
        (custom("costs:cost", "lower"), 2, "The custom metric cost is not described: direction"),
        (custom("costs"), 2, "The custom metric cost is not described: function"),
        (custom("costs:cost").replace('cost"', 'auc"', 1), 2, "has the name of one that is known"),
    ],
)
def test_a_metric_of_ones_own_that_does_not_work_is_told(
    tmp_path: Path, mlops: Run, metric: str, code: int, words: str
) -> None:
    (tmp_path / "costs.py").write_text(COSTS)
    path = predictions(tmp_path / "p.parquet", 0.5)
    call = ("evaluate-model", "--store", (tmp_path / "store").as_uri(), "--working-directory", tmp_path)
    done = mlops(*call, "--predictions", path, "--custom-metrics", metric)
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "metric_worker.py" not in done.stderr and "Rejected" not in done.stderr


TRAINED = """
import json, math, random

def load(path):
    factor = json.loads(path.read_text())["factor"]
    return lambda rows: [factor * float(row["x"]) for row in rows]

def losses(rows):
    return [1.0, 0.5, 0.1 if rows is None else 0.001]

def unsteady(rows):
    return [1.0, 0.5 * random.random(), math.nan if rows else 0.1]

def broken(rows):
    raise ValueError("no data")
"""


def test_size_memory_latency_and_training_are_gates(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    (tmp_path / "own.py").write_text(TRAINED)
    (tmp_path / "model.json").write_text('{"factor": 2}')
    (tmp_path / "golden.csv").write_text("x,score\n1,2\n2,4\n")
    uris = {"model-uri": store.put_file(tmp_path / "model.json", "artifacts/k/train/model.json")}
    uris |= {"golden-uri": store.put_file(tmp_path / "golden.csv", "artifacts/k/train/golden.csv")}
    record = Record(
        action="run-pipeline", run="r", started="2013-01-01T00:00:00+00:00", seconds=1, subject={"model": DIGEST},
        outputs={"metrics": {"auc": 0.7}, **uris},
    )  # fmt: skip
    store.put_json("runs/r/run-pipeline.json", record.model_dump(mode="json"))
    call = ("evaluate-model", "--run", "r", "--store", store.url, "--json", "--predict", "own.py:load")
    limits = "model_mb <= 1\nmemory_mb <= 1e4\nlatency_p95_ms <= 1e4\ncold_ms <= 1e-3"
    done = mlops(*call, "--thresholds", limits, "--training", "own.py:losses")
    assert done.returncode == 1, done.stderr
    gates = {one["metric"]: one for one in outputs(done.stdout)["record"]["details"]["gates"]}
    assert [name for name, one in gates.items() if not one["passed"]] == ["cold_ms"]
    assert gates["model_mb"]["value"] < 0.001 < gates["memory_mb"]["value"] and gates["cold_ms"]["value"] > 0
    assert round(gates["training_loss_ratio"]["value"], 6) == 0.1
    assert outputs(done.stdout)["metrics"]["training_repeat_difference"] == 0
    unsteady = mlops(*call, "--training", "own.py:unsteady")
    assert unsteady.returncode == 1 and "2 of 3 gates failed" in unsteady.stderr
    assert "training_overfit_ratio is missing, and must be <= 0.1: the loss of step 3 is nan" in unsteady.stderr
    for function, code, words in (
        ("own.py:broken", 1, "The training by own.py:broken failed. ValueError: no data"),
        ("own.py:absent", 2, "own.py has no `absent`. Correct `training`"),
        ("absent.py:losses", 2, "The file absent.py does not exist. Correct `training`"),
        ("gone:train", 2, "gone"),
    ):
        wrong = mlops(*call, "--training", function)
        assert wrong.returncode == code and words in wrong.stderr, wrong.stderr


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("model_mb <= 1", "No model to measure model_mb with: run-pipeline gave none in this run"),
        ("memory_mb <= 1", "No model to measure"),
    ],
)
def test_what_cannot_be_measured_is_bad_input(tmp_path: Path, mlops: Run, limit: str, words: str) -> None:
    done = mlops("evaluate-model", "--metrics", "auc=0.7", "--thresholds", limit)
    assert done.returncode == 2 and words in done.stderr, done.stderr
