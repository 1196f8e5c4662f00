"""What git says of a checkout, and what may be changed from there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mlops_actions.github.context import read_context


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def cloned(tmp_path: Path) -> tuple[Path, Path]:
    """A repository with a commit on the branch `trunk`, and a clone of it."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    git(there, "init", "-b", "trunk")
    git(there, "commit", "--allow-empty", "-m", "one")
    git(tmp_path, "clone", str(there), str(here))
    return there, here


def test_outside_git_nothing_is_known_and_anything_may_be_changed(tmp_path: Path) -> None:
    found = read_context({}, tmp_path)
    assert (found.commit, found.branch, found.default_branch) == ("", "", "") and found.trusted


def test_the_default_branch_is_the_remotes(tmp_path: Path) -> None:
    _, here = cloned(tmp_path)
    git(here, "config", "user.name", "ann")
    found = read_context({}, here)
    assert (found.branch, found.default_branch, found.actor, found.trusted) == ("trunk", "trunk", "ann", True)
    git(here, "checkout", "-b", "topic")
    assert not read_context({}, here).trusted


def test_a_commit_without_a_branch_is_not_the_default_branch(tmp_path: Path) -> None:
    git(tmp_path, "init", "-b", "main")
    git(tmp_path, "commit", "--allow-empty", "-m", "one")
    found = read_context({}, tmp_path)
    assert found.trusted and (found.branch, found.default_branch, found.run) == ("main", "", "")
    assert re.fullmatch(r"[0-9a-f]{40}", found.commit)
    git(tmp_path, "checkout", "--detach")
    assert read_context({}, tmp_path).branch == "HEAD"
    assert not read_context({}, tmp_path).trusted


def test_act_whose_event_says_nothing_is_as_a_terminal(tmp_path: Path) -> None:
    there, here = cloned(tmp_path)
    act = {"GITHUB_ACTIONS": "true", "ACT": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REF_NAME": "topic"}
    assert read_context(act, there).trusted, "it has no remote"
    assert not read_context(act, here).trusted
    assert read_context({**act, "GITHUB_REF_NAME": "trunk"}, here).trusted
    assert not read_context({**act, "GITHUB_EVENT_NAME": "pull_request"}, there).trusted
    assert not read_context({**act, "ACT": ""}, there).trusted
