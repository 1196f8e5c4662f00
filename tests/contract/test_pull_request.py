"""A pull request with keys that write only below `pulls/`, to which the default branch's work is there to read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import servers
from conftest import ROOT, Run
from mlops_actions.errors import RemoteFailed
from mlops_actions.stores.store import Store


def test_a_pull_request_needs_only_to_read_the_store_and_to_write_below_pulls(mlops: Run, tmp_path: Path) -> None:
    owner, keys, url = servers.guarded()
    store, seen = Store(url, owner.options()), Store(url, keys.options())
    folder = tmp_path / "repository"
    shutil.copytree(ROOT / "examples" / "minimal", folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "abc"}}}))
    on_branch = {**owner.environ(url), "GITHUB_EVENT_NAME": "push", "GITHUB_RUN_ID": "1"}
    on_pull = {
        **keys.environ(url), "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_RUN_ID": "2",
    }  # fmt: skip

    def run(environ: dict[str, str], *command: str, code: int = 0) -> Any:
        done = mlops(*command, cwd=folder, GITHUB_ACTIONS="true", GITHUB_OUTPUT=str(tmp_path / "output"), **environ)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    pipeline = ("run-pipeline", "--pipeline", "pipeline.py")
    run(on_branch, *pipeline)
    run(on_branch, "register-model", "--model", "m")
    before = {entry.path: entry.version for entry in store.list()}
    assert "reused" in run(on_pull, *pipeline).lower()
    run(on_pull, *pipeline, "--parameters", "c=0.5")
    run(on_pull, "evaluate-model", "--model", "m")
    run(on_pull, "test-model")
    run(on_pull, "report")
    after = {entry.path: entry.version for entry in store.list()}
    new = {path for path in after if after[path] != before.get(path)}
    assert before.keys() <= after.keys() and new and {path.split("/")[0] for path in new} == {"pulls"}
    for path in ("models/m/aliases/champion.json", "runs/1/evaluate-model.json", "work/x.json", "pulls.json"):
        with pytest.raises(RemoteFailed, match="access denied"):
            seen.put(path, b"{}")


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target", "pull_request_review"])
def test_a_step_of_a_pull_request_neither_registers_nor_promotes_nor_deploys(
    mlops: Run, tmp_path: Path, event: str
) -> None:
    (tmp_path / "model.joblib").write_bytes(b"model")
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "abc"}}}))
    store, own = Store((tmp_path / "store").as_uri()), Store((tmp_path / "own").as_uri())
    github = {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "1", "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}
    register = ("register-model", "--model", "m", "--model-uri", "model.joblib")

    def run(*command: str, on: str, **environ: str) -> Any:
        return mlops(*command, cwd=tmp_path, **github, GITHUB_EVENT_NAME=on, **environ)

    assert run(*register, on="push", MLOPS_STORE=store.url).returncode == 0
    before = {entry.path: entry.version for entry in store.list()}
    promote = ("promote-model", "--model", "m", "--version", "1", "--requires", "[]")
    for command in (register, (*register, "--aliases", "champion"), promote, ("deploy-model", "--model", "m")):
        done = run(*command, on=event, MLOPS_STORE=store.url)
        assert done.returncode == 2 and f"A pull request may not run {command[0]}" in done.stdout, done.stdout
    after = {entry.path: entry.version for entry in store.list()}
    assert {path for path in after if not path.startswith("pulls/7/")} == before.keys()
    assert before.items() <= after.items()

    (tmp_path / "mlops.yaml").write_text(yaml.safe_dump({"environments": {"pull-request": {"store": own.url}}}))
    assert run(*register, "--environment", "pull-request", on=event).returncode == 0
    assert run(*promote, "--environment", "pull-request", on=event).returncode == 0
    assert own.exists("models/m/aliases/champion.json")
