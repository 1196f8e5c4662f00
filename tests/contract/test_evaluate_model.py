"""evaluate-model in a run of the chain, and against a champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

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


def test_the_runs_model_is_judged_by_thresholds_and_has_a_picture(tmp_path: Path, mlops: Run) -> None:
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
        "auc>=0.6",
    )
    done = mlops(*call)
    assert done.returncode == 0, done.stderr
    found = outputs(done.stdout)
    assert (found["verdict"], found["gates-passed"], found["gates-failed"]) == ("passed", 3, 0)
    assert found["record"]["subject"] == {"model": DIGEST}
    assert found["champion-version"] is None
    picture = found["record"]["details"]["pictures"][0]["uri"]
    assert store.get(picture.removeprefix(store.url + "/")).startswith(b"\x89PNG")
    assert outputs(mlops(*call).stdout)["record"]["reused"] is True
    refused = mlops(*call, "--thresholds", "auc>=0.99")
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
    assert "Nothing to evaluate" in done.stderr


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
