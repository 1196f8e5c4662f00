"""test-model: the same model in several environments."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import docker_engine
from conftest import ROOT, Run
from mlops_actions import environments
from mlops_actions.records import Record
from mlops_actions.stores.store import Store
from mlops_actions.waiting import wait_until

REQUIREMENTS = ROOT / "examples" / "flight-delays" / "requirements.txt"

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


SETS = """
test-model:
  model-uri: model.json
  golden: golden.csv
  predict: hooks.py:load
  matrix:
    locked: {requirements: lock.txt, dependencies: locked}
    lowest: {requirements: ranges.txt, dependencies: lowest}
    newest: {requirements: ranges.txt, dependencies: newest}
    useless: {requirements: lock.txt, dependencies: newest}
    unbounded: {requirements: open.txt, dependencies: lowest}
    impossible: {requirements: both.txt, dependencies: lowest}
    neither: {requirements: both.txt}
    garbled: {requirements: garbled.txt, dependencies: newest}
    future: {requirements: lock.txt, python: "3.99"}
    gpu: {gpu: true}
"""


def test_the_versions_of_an_environment_are_the_locked_the_lowest_or_the_newest(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "mlops.yaml").write_text(SETS)
    (tmp_path / "lock.txt").write_text("MarkupSafe==2.1.4\n")
    (tmp_path / "ranges.txt").write_text("MarkupSafe>=2.1.3,<2.1.6\n")
    (tmp_path / "open.txt").write_text("MarkupSafe\n")
    (tmp_path / "both.txt").write_text("MarkupSafe>=2.1.4\nMarkupSafe<2.1.4\n")
    (tmp_path / "garbled.txt").write_text("MarkupSafe=2\n")
    for name, version in (("locked", "2.1.4"), ("lowest", "2.1.3"), ("newest", "2.1.5")):
        done = mlops("test-model", "--store", store.url, "--run", "r", "--variant", name)
        assert done.returncode == 0, done.stderr
        facts = record(store, f"test-model@{name}").details["facts"]
        assert facts["packages"]["MarkupSafe"] == version
    assert "The environments of this run" in done.stderr and "lowest" in done.stderr
    locks = {path.name.partition("-")[0]: path for path in (environments.cache_folder() / "locks").glob("*.txt")}
    assert {"locked", "lowest", "newest"} <= set(locks)
    assert all("--hash=sha256:" in path.read_text() for path in locks.values())
    for name, words in (
        ("useless", "lock.txt pins every package, so that `newest` has nothing to choose from"),
        ("unbounded", "markupsafe in open.txt has no lower bound"),
        ("impossible", "Resolving the lowest versions of both.txt failed: No solution found"),
        ("neither", "unsatisfiable. Change the requirements."),
        ("garbled", "Resolving the newest versions of garbled.txt failed: Couldn't parse"),
        ("future", "Cannot create an environment for Python '3.99'"),
    ):
        done = mlops("test-model", "--store", store.url, "--run", "r", "--variant", name)
        said = " ".join(done.stderr.split())
        assert done.returncode == 2 and words in said and ".." not in said, done.stderr
        assert record(store, f"test-model@{name}").verdict == "bad-input"


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine may have a GPU")
def test_an_environment_that_must_have_a_gpu_says_that_there_is_none(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "mlops.yaml").write_text(SETS)
    done = mlops("test-model", "--store", store.url, "--run", "r", "--variant", "gpu")
    assert done.returncode == 2
    assert "must have a GPU, and none is here. nvidia-smi is not installed" in done.stderr
    assert record(store, "test-model@gpu").verdict == "bad-input"


DOUBLE = """
def load(path):
    return lambda rows: [2 * float(x) for x in (rows["x"] if hasattr(rows, "columns") else [r["x"] for r in rows])]
"""
TROUBLED = """
import os, threading, time
def load(path):
    time.sleep(0.3)  # cold, and not to be seen in warm latency
    busy = threading.Lock()
    def predict(rows):
        alone = busy.acquire(blocking=False)
        try:
            time.sleep(0.001)
            one, several = {"batch": (2, 2), "threads": (0, 1)}[os.environ["TROUBLE"]]
            wrong = one if len(rows) == 1 else 0 if alone else several
            return [2 * float(row["x"]) + wrong for row in rows]
        finally:
            if alone:
                busy.release()
    return predict
"""


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("batch", "2 of 2 rows predicted by themselves and together differ, by 2 at worst"),
        ("threads", "rows predicted in 4 threads at once differ, by 1 at worst"),
    ],
)
def test_what_single_rows_and_threads_are_given_is_compared(
    tmp_path: Path, mlops: Run, trouble: str, words: str
) -> None:
    consumer(tmp_path)
    (tmp_path / "hooks.py").write_text(TROUBLED)
    done = mlops(*CALL, "--absolute-tolerance", "0.5", TROUBLE=trouble)
    assert done.returncode == 1 and words in done.stderr
    found = outputs(done.stdout)
    assert found["cold-ms"] > 300 > found["latency-p95-ms"] and found["peak-memory-mb"] > 1


def test_expectations_cold_start_and_memory_are_gates(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "mlops.yaml").write_text("""
test-model:
  expectations:
    more-is-more: {change: {x: x + 1}, expect: increasing}
    more-is-less: {change: {x: x + 1}, where: x > 1, expect: decreasing}
""")
    done = mlops(*CALL, "--store", store.url, "--variant", "v", "--max-cold-ms", "0.001", "--max-memory-mb", "0.5")
    assert done.returncode == 1
    checks = {one["name"]: one for one in record(store, "test-model@v").details["checks"]}
    assert [name for name, one in checks.items() if one["passed"] is False] == ["more-is-less", "cold start", "memory"]
    assert checks["more-is-less"]["said"].endswith("1 of 1 predictions went up, row 2 the most by 2: from 4.0 to 6.0")
    (tmp_path / "mlops.yaml").write_text("test-model:\n  expectations: {it: {change: {y: 1}}}\n")
    wrong = mlops(*CALL, "--store", store.url)
    assert wrong.returncode == 2 and "mlops.yaml:2" in wrong.stderr
    assert "The golden file has no column 'y'. It has: x" in wrong.stderr


@pytest.mark.skipif(bool(docker_engine.missing()), reason=docker_engine.missing() or "-")
def test_a_model_is_tested_in_an_image(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "mlops.yaml").write_text("test-model: {matrix: {image: {image: built}, none: {image: absent:1}}}")
    call = (*CALL, "--store", store.url)
    with docker_engine.docker_engine() as engine:
        unbuilt = mlops(*call, "--variant", "image", **engine.environ)
        assert unbuilt.returncode == 2 and "build-image gave none in this run" in unbuilt.stderr
        (tmp_path / "hooks.py").write_text(DOUBLE)  # the image has pandas
        (tmp_path / "Dockerfile").write_text(f"FROM {docker_engine.python_image(engine, REQUIREMENTS)}\n")
        built = mlops("build-image", "--run", "r", "--store", store.url, "--image", "m", **engine.environ)
        assert built.returncode == 0, built.stderr
        done = mlops(*call, "--variant", "image", **engine.environ)
        assert done.returncode == 0, done.stderr
        facts = record(store, "test-model@image").details["facts"]
        assert facts["python"].startswith("3.11") and "scikit-learn" in facts["packages"]
        absent = mlops(*call, "--variant", "none", **engine.environ)
        assert absent.returncode == 3 and "the image absent:1" in absent.stderr
        (tmp_path / "hooks.py").write_text("import time\ndef load(path): time.sleep(600)")
        slow = mlops(*call, "--variant", "image", "--timeout", "5", **engine.environ)
        assert slow.returncode == 1 and "did not finish within 5 s" in slow.stderr
        assert wait_until(lambda: engine.docker("ps", "--quiet") == "", 30), "its container is gone"


@pytest.mark.skipif(bool(docker_engine.missing_registry()), reason=docker_engine.missing_registry() or "-")
def test_an_image_of_a_private_registry_is_pulled_with_a_login(tmp_path: Path, mlops: Run) -> None:
    store = consumer(tmp_path)
    (tmp_path / "mlops.yaml").write_text("test-model: {matrix: {image: {image: built}}}")
    call = (*CALL, "--store", store.url, "--variant", "image")
    user = ("--registry-username", docker_engine.USER)
    with docker_engine.docker_engine() as engine, docker_engine.registry(login=True) as address:
        environ = {**engine.environ, "DOCKER_CONFIG": str(tmp_path / "nobody")}
        secret = {"MLOPS_REGISTRY_PASSWORD": docker_engine.PASSWORD}
        (tmp_path / "hooks.py").write_text(DOUBLE)
        (tmp_path / "Dockerfile").write_text(f"FROM {docker_engine.python_image(engine, REQUIREMENTS)}\n")
        image = ("--image", f"{address}/team/m", "--push", *user)
        built = mlops("build-image", "--run", "r", "--store", store.url, *image, **environ, **secret)
        assert built.returncode == 0, built.stderr
        for name in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{address}/team/m").split():
            engine.docker("rmi", "--force", name)
        refused = mlops(*call, **environ)
        assert refused.returncode == 3
        assert f"Cannot pull the image {address}/team/m" in refused.stderr and "access denied" in refused.stderr
        assert "registry-username" in refused.stderr and "REGISTRY_PASSWORD" in refused.stderr
        done = mlops(*call, *user, **environ, **secret)
        assert done.returncode == 0, done.stderr
        assert docker_engine.PASSWORD not in done.stdout + done.stderr
