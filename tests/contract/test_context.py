"""What git says of a checkout, and what may be changed from there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlops_actions.github.context import read_context


def test_a_commit_without_a_branch_is_not_the_default_branch(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    git("commit", "--allow-empty", "-m", "one")
    assert read_context({}, tmp_path).trusted
    git("checkout", "--detach")
    assert read_context({}, tmp_path).branch == "HEAD"
    assert not read_context({}, tmp_path).trusted
