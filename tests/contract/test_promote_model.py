"""promote-model as it is called: an alias moves when the evidence is there, and only then."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import servers
from conftest import MLOPS, Run
from mlops_actions.records import Record
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.digests import file_digest
from mlops_actions.stores.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    url = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLOPS_STORE", url)
    monkeypatch.setenv("MLOPS_RUN", "here")
    return Store(url)


def checked(
    store: Store, model: Path, action: str, verdict: str = "passed", variant: str = "", started: str = "2026-01-01"
) -> None:
    """What a check of the model leaves behind."""
    name = f"{action}@{variant}" if variant else action
    values: dict[str, Any] = {"verdict": verdict, "details": {"variant": variant} if variant else {}}
    record = Record(
        action=action, run="here", started=started, seconds=1.0, reason=f"{action} says {verdict}",
        subject={"model": file_digest(model)}, **values,
    )  # fmt: skip
    store.put_json(f"runs/here/{name}.json", record.model_dump(mode="json"))


def version(mlops: Run, model: Path, content: bytes) -> None:
    model.write_bytes(content)
    done = mlops("register-model", "--model", "m", "--model-uri", model)
    assert done.returncode == 0, done.stderr


def outputs(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_without_evidence_nothing_moves(store: Store, mlops: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"1")
    checked(store, model, "evaluate-model")
    version(mlops, model, b"1")
    done = mlops("promote-model", "--json")
    assert done.returncode == 1
    assert "Version 1 of m may not become champion: test-model: it was never run for these bytes" in done.stderr
    assert outputs(done)["changed"] is False
    assert Registry(store).alias("m", "champion") is None


def test_all_environments_must_have_passed(store: Store, mlops: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"1")
    checked(store, model, "evaluate-model")
    checked(store, model, "test-model", variant="py3.10")
    checked(store, model, "test-model", "rejected", variant="py3.12")
    version(mlops, model, b"1")
    done = mlops("promote-model")
    assert done.returncode == 1
    refusal = done.stderr.split("Rejected:")[1]
    assert "test-model (py3.12): test-model says rejected" in refusal and "py3.10" not in refusal
    checked(store, model, "test-model", variant="py3.12")
    version(mlops, model, b"1")
    done = mlops("promote-model", "--json")
    assert done.returncode == 1, "a check does not take the place of one that was started at the same time and failed"
    checked(store, model, "test-model", variant="py3.12", started="2026-01-02")
    version(mlops, model, b"1")
    done = mlops("promote-model", "--json")
    assert done.returncode == 0 and outputs(done)["version"] == 1, done.stderr


def test_a_check_that_began_another_run_counts_without_registering_again(
    store: Store, mlops: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"1")
    checked(store, model, "evaluate-model")
    version(mlops, model, b"1")
    for entry in list(store.list("runs/here/")):
        store.delete(entry.path)
    checked(store, model, "run-pipeline", started="2026-01-02")
    checked(store, model, "evaluate-model", "rejected", started="2026-01-03")
    done = mlops("promote-model", "--model", "m", "--requires", "evaluate-model")
    assert done.returncode == 1 and "evaluate-model says rejected" in done.stderr, done.stderr
    checked(store, model, "evaluate-model", started="2026-01-04")
    done = mlops("promote-model", "--model", "m", "--requires", "evaluate-model", "--json")
    assert done.returncode == 0 and outputs(done)["version"] == 1, done.stderr


def test_a_model_of_rejected_data_is_not_promoted_unless_that_is_asked_for(
    store: Store, mlops: Run, tmp_path: Path
) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"1")
    for action in ("evaluate-model", "test-model"):
        checked(store, model, action)
    run = Record(
        action="run-pipeline", run="here", started="2026-01-01", seconds=1.0, subject={"model": file_digest(model)},
        outputs={"data-fingerprint": "sha256:d"},
    )  # fmt: skip
    looked = Record(
        action="validate-data", run="here", started="2026-01-01", seconds=1.0, subject={"data": "sha256:d"},
        verdict="rejected", reason="3 of 5 checks failed",
    )  # fmt: skip
    for record in (run, looked):
        store.put_json(f"runs/here/{record.action}.json", record.model_dump(mode="json"))
    version(mlops, model, b"1")
    done = mlops("promote-model")
    assert done.returncode == 1 and "validate-data: 3 of 5 checks failed" in done.stderr, done.stderr
    assert Registry(store).alias("m", "champion") is None
    assert mlops("promote-model", "--requires", "evaluate-model").returncode == 0, "it was asked for by name"


def test_champion_moves_and_remembers(store: Store, mlops: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.joblib"
    for content in (b"1", b"2"):
        model.write_bytes(content)
        checked(store, model, "evaluate-model")
        checked(store, model, "test-model", variant="py3.12")
        version(mlops, model, content)
        done = mlops("promote-model", "--json", "--reason", f"because {content!r}")
        assert done.returncode == 0, done.stderr
    assert outputs(done)["version"] == 2 and outputs(done)["previous-version"] == 1
    again = outputs(mlops("promote-model", "--json"))
    assert (again["changed"], again["version"]) == (False, 2)
    back = mlops("promote-model", "--model", "m", "--version", "1", "--json")
    assert outputs(back)["previous-version"] == 2
    alias = Registry(store).alias("m", "champion")
    assert alias and [(m.version, m.previous) for m in alias.history] == [(1, 2), (2, 1), (1, None)]
    assert [move.reason for move in alias.history] == ["", "because b'2'", "because b'1'"]


def test_policy_file_decides(store: Store, mlops: Run, tmp_path: Path) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"1")
    run = Record(
        action="run-pipeline", run="here", started="2026-01-01T00:00:00", seconds=1.0,
        subject={"model": file_digest(model)}, outputs={"metrics": {"auc": 0.69}},
    )  # fmt: skip
    store.put_json("runs/here/run-pipeline.json", run.model_dump(mode="json"))
    version(mlops, model, b"1")
    (tmp_path / "policy.yaml").write_text("requires: []\nmetrics:\n  auc: {min: 0.7}\n")
    done = mlops("promote-model", "--policy", "policy.yaml")
    assert done.returncode == 1 and "auc ≥ 0.7: 0.69" in done.stderr
    (tmp_path / "policy.yaml").write_text("requires: []\nmetrics:\n  auc: {min: 0.6}\n")
    assert mlops("promote-model", "--policy", "policy.yaml").returncode == 0
    (tmp_path / "policy.yaml").write_text("requirements: []\n")
    done = mlops("promote-model", "--policy", "policy.yaml")
    assert done.returncode == 2 and "policy.yaml" in done.stderr and "`requirements`" in done.stderr


def test_commands_name_the_model_in_the_same_ways_and_a_misspelt_one_leaves_nothing_behind(
    store: Store, mlops: Run, tmp_path: Path
) -> None:
    version(mlops, tmp_path / "model.joblib", b"1")
    before = [entry.path for entry in store.list("models/")]
    for command in (("history", "n"), ("rollback", "--model", "n"), ("drill", "n"), ("score", "--model", "n"),
                    ("deploy-model", "--model", "n", "--stop")):  # fmt: skip
        done = mlops(*command)
        assert done.returncode == 2 and "Unknown model 'n'" in done.stderr and "It has m" in done.stderr, done.stderr
    assert [entry.path for entry in store.list("models/")] == before
    done = mlops("history", "m", "--model", "n")
    assert done.returncode == 2 and "MODEL is m, and --model n: name one" in done.stderr
    done = mlops("history", "--model", "m")
    assert done.returncode == 0 and "m has not been deployed yet" in done.stderr


def test_alias_and_version_that_do_not_exist(store: Store, mlops: Run, tmp_path: Path) -> None:
    done = mlops("promote-model")
    assert done.returncode == 2 and "No model is named" in done.stderr
    done = mlops("promote-model", "--model", "m", "--version", "7")
    assert done.returncode == 2 and "Unknown model 'm'" in done.stderr
    done = mlops("promote-model", "--model", "m", "--alias", "Not/An/Alias")
    assert done.returncode == 2 and "alias" in done.stderr


@pytest.mark.parametrize("kind", ["seaweedfs", "minio"])
def test_promotions_at_once_leave_a_whole_history(kind: str, mlops: Run, tmp_path: Path) -> None:
    """On real S3 servers all succeed, and each move is in the history."""
    server: servers.S3 = getattr(servers, kind)()
    url = server.new_store()
    environ = {**os.environ, **server.environ(url)}
    model = tmp_path / "model.joblib"
    for content in (b"1", b"2", b"3"):
        model.write_bytes(content)
        done = mlops("register-model", "--model", "m", "--model-uri", model, **server.environ(url))
        assert done.returncode == 0, done.stderr
    command = [str(MLOPS), "promote-model", "--model", "m", "--requires", "[]", "--json", "--version"]
    jobs = [
        subprocess.Popen([*command, n], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in ("1", "2", "3")
    ]
    ends = [job.communicate(timeout=240) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], ends
    alias = Registry(Store(url, server.options())).alias("m", "champion")
    assert alias and sorted(move.version for move in alias.history) == [1, 2, 3]
    chain = list(reversed(alias.history))
    assert [move.previous for move in chain] == [None, *(move.version for move in chain[:-1])]
