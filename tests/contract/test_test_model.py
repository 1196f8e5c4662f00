"""test-model: the same model in several environments."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from conftest import Run
from mlops_actions import environments
from mlops_actions.records import Record
from mlops_actions.stores.store import Store

TRAIN = """
import joblib, pandas
from sklearn.linear_model import LogisticRegression
x = pandas.DataFrame({"a": [0.0, 1, 2, 3, 4, 5], "b": [1.0, 0, 1, 0, 1, 0]})
model = LogisticRegression().fit(x, [0, 0, 1, 0, 1, 1])
joblib.dump(model, "model.joblib")
x.assign(score=model.predict_proba(x)[:, 1]).to_csv("golden.csv", index=False)
"""
HOOK = """
import json
def load(path):
    factor = json.loads(path.read_text())["factor"]
    return lambda rows: [factor * float(row["x"]) for row in rows]
"""


def outputs(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def record(store: Store, name: str) -> Record:
    return Record.model_validate(store.get_json(f"runs/r/{name}.json"))


def consumer(folder: Path) -> Store:
    (folder / "hooks.py").write_text(HOOK)
    (folder / "model.json").write_text('{"factor": 2}')
    (folder / "golden.csv").write_text("x,score\n1,2\n2,4\n")
    return Store((folder / "store").as_uri())


CALL = (
    "test-model",
    "--run",
    "r",
    "--json",
    "--model-uri",
    "model.json",
    "--golden",
    "golden.csv",
    "--predict",
    "hooks.py:load",
)


def test_each_variant_has_its_own_record_and_is_found_again(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    call = (*CALL, "--store", store.url)
    done = mlops(*call, "--variant", "one")
    assert done.returncode == 0, done.stderr
    found = outputs(done.stdout)
    assert (found["rows"], found["mismatches"], found["worst-difference"]) == (2, 0, 0.0)
    assert 0 < found["latency-p50-ms"] <= found["latency-p95-ms"]
    (tmp_path / "model.json").write_text('{"factor": 2.5}')
    other = mlops(*call, "--variant", "two")
    assert other.returncode == 1
    assert "2 of 2 golden predictions differ, by 1 at worst" in other.stderr
    assert [record(store, f"test-model@{v}").verdict for v in ("one", "two")] == ["passed", "rejected"]
    assert record(store, "test-model@one").subject != record(store, "test-model@two").subject
    (tmp_path / "model.json").write_text('{"factor": 2}')
    assert outputs(mlops(*call, "--variant", "one").stdout)["record"]["reused"] is True


def test_a_model_that_does_not_load_fails_its_variant_with_the_exception(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04cgone_module\nGone\n.")
    where = ("--run", "r", "--store", store.url, "--variant", "bare")
    call = ("test-model", *where, "--model-uri", "model.pkl", "--golden", "golden.csv")
    summary = tmp_path / "summary.md"
    done = mlops(*call, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1
    assert "does not load in this environment. ModuleNotFoundError: No module named 'gone_module'" in done.stdout
    assert "This environment has Python 3" in done.stdout
    found = record(store, "test-model@bare")
    assert found.verdict == "rejected" and found.details["facts"]["python"]
    assert "No module named 'gone_module'" in summary.read_text()


def test_latency_over_its_limit_is_refused(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    done = mlops(*CALL, "--max-latency-ms", "0.000001")
    assert done.returncode == 1
    assert "95th percentile of latency" in done.stderr


def test_a_scikit_learn_model_agrees_where_it_was_trained(tmp_path: Path, mlops: Run) -> None:
    (tmp_path / "requirements-new.txt").write_text("scikit-learn>=1.6\npandas\n")
    made = environments.ensure(
        "", environments.cache_folder(), requirements=[tmp_path / "requirements-new.txt"], python=""
    )
    subprocess.run([str(made.python), "-c", TRAIN], cwd=tmp_path, check=True)
    call = ("--model-uri", "model.joblib", "--golden", "golden.csv", "--requirements", "requirements-new.txt")
    done = mlops("test-model", "--json", *call)
    assert done.returncode == 0, done.stderr
    found = outputs(done.stdout)
    assert found["rows"] == 6 and found["mismatches"] == 0
    assert found["variant"].startswith("py3.") and found["variant"].endswith("-requirements-new")
    assert "scikit-learn" in found["record"]["details"]["facts"]["packages"]
