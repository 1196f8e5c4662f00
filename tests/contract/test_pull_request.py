"""A pull request with keys that write only below `pulls/`, to which the default branch's work is there to read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

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
    said = run(on_pull, "register-model", "--model", "m", code=3)
    assert "access denied" in said
    for path in ("models/m/aliases/champion.json", "runs/1/evaluate-model.json", "work/x.json", "pulls.json"):
        with pytest.raises(RemoteFailed, match="access denied"):
            seen.put(path, b"{}")
