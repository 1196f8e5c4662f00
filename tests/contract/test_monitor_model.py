"""monitor-model: a registered version against new data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import Run
from mlops_actions.registry.manifest import Lineage, Manifest, Move
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.store import Store


def outputs(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def store(tmp_path: Path, mlops: Run) -> Store:
    """A registered champion whose training data validate-data has seen."""
    random = np.random.default_rng(1)
    for name, mean in (("train", 0), ("same", 0), ("moved", 2)):
        frame = pl.DataFrame({"x": random.normal(mean, size=1000), "k": random.choice(["a", "b"], 1000)})
        frame.write_csv(tmp_path / f"{name}.csv")
    store = Store((tmp_path / "store").as_uri())
    seen = mlops("validate-data", "--data", "train.csv", "--store", store.url, "--json")
    registry = Registry(store)
    file = registry.put_bytes(b"model", "model.pkl")
    lineage = Lineage(parameters={"months": 1, "depth": 3}, data_fingerprint=outputs(seen.stdout)["fingerprint"])
    draft = Manifest(
        name="delays", version=1, created="2013-01-01", digest=file.digest, identity="x", files=[file], lineage=lineage
    )
    manifest, _ = registry.register(lambda n: draft.model_copy(update={"version": n}))
    registry.move_alias(manifest, "champion", Move(version=1, at="2013-01-01"))
    return store


def test_moved_data_fails_and_says_what_to_train_again_with(tmp_path: Path, store: Store, mlops: Run) -> None:
    call = ("monitor-model", "--store", store.url, "--model", "delays", "--data", "moved.csv", "--json")
    done = mlops(*call, "--retrain", "months=2", "--retrain", "data=$files")
    assert done.returncode == 1, done.stderr
    assert "delays version 1 should be trained again: 1 of 2 columns have drifted, x most" in done.stderr
    found = outputs(done.stdout)
    assert (found["drift"], found["drifted"], found["version"]) == (True, ["x"], 1)
    assert found["retrain-parameters"] == {"months": "2", "depth": 3, "data": "moved.csv"}
    assert found["score"] > 0.2
    assert [one["column"] for one in found["record"]["details"]["distributions"]["columns"]] == ["x"]
    reported = mlops(*call, "--on-drift", "report")
    assert reported.returncode == 0
    assert outputs(reported.stdout)["drift"] is True


def test_data_that_has_not_moved_passes_and_is_found_again(tmp_path: Path, store: Store, mlops: Run) -> None:
    summary = tmp_path / "summary.md"
    call = ("monitor-model", "--store", store.url, "--model", "delays", "--data", "same.csv")
    done = mlops(*call, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 0, done.stdout
    assert "none of 2 columns has drifted" in summary.read_text()
    again = outputs(mlops(*call, "--json").stdout)
    assert again["record"]["reused"] is True and again["retrain-parameters"] == {}


def test_training_data_that_has_changed_since_is_not_taken(tmp_path: Path, store: Store, mlops: Run) -> None:
    (tmp_path / "train.csv").write_text("x,k\n1.5,a\n")
    call = ("monitor-model", "--store", store.url, "--model", "delays", "--data", "same.csv")
    done = mlops(*call)
    assert done.returncode == 2
    assert "train.csv is not what delays version 1 was trained on anymore" in done.stderr
    assert mlops(*call, "--reference", "moved.csv").returncode == 1


def test_a_model_that_is_not_registered_is_bad_input(mlops: Run) -> None:
    done = mlops("monitor-model", "--model", "nobody", "--data", "x.csv")
    assert done.returncode == 2
    assert "Unknown model 'nobody'" in done.stderr
