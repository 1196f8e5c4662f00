"""`scripts/rewrite-uses` as it is called, in a checkout: the copy for act, the release, and the check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

SCRIPT = ROOT / "scripts" / "rewrite-uses"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with an action, a workflow that uses it, a script, and files that git ignores."""
    root = tmp_path / "checkout"
    (root / ".github/workflows").mkdir(parents=True)
    (root / "actions/x").mkdir(parents=True)
    (root / "scripts").mkdir()
    (root / ".github/workflows/w.yml").write_text("jobs:\n  a:\n    steps:\n      - uses: $/actions/x\n")
    (root / "actions/x/action.yml").write_text("runs:\n  using: composite\n")
    (root / "scripts/tool").write_text("- uses: $/actions/x\n")
    (root / "scripts/tool").chmod(0o755)
    (root / ".gitignore").write_text("cache/\n")
    (root / "cache").mkdir()
    (root / "cache/big").write_text("x")
    git(root, "init", "-q")
    git(root, "add", ".")
    return root


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_has_the_working_tree_with_own_uses_as_act_knows_them(checkout: Path, tmp_path: Path) -> None:
    (checkout / "new.txt").write_text("not yet tracked")
    (checkout / "scripts/tool").write_text("- uses: $/actions/x # changed\n")
    copied = run("copy", tmp_path / "copy", "--root", checkout, "--repository", "o/r")
    assert copied.returncode == 0, copied.stderr
    found = content(tmp_path / "copy")
    assert b"uses: o/r/actions/x@act\n" in found[".github/workflows/w.yml"]
    assert found["scripts/tool"] == b"- uses: $/actions/x # changed\n"
    assert found["new.txt"] == b"not yet tracked"
    assert "cache/big" not in found
    assert not any(name.startswith(".git/") for name in found)


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither modes nor links by default")
def test_the_copy_keeps_modes_and_links(checkout: Path, tmp_path: Path) -> None:
    (checkout / "link").symlink_to("scripts/tool")
    (checkout / "folder-link").symlink_to("scripts")
    run("copy", tmp_path / "copy", "--root", checkout)
    assert os.access(tmp_path / "copy/scripts/tool", os.X_OK)
    assert not os.access(tmp_path / "copy/.gitignore", os.X_OK)
    assert (tmp_path / "copy/link").readlink() == Path("scripts/tool")
    assert (tmp_path / "copy/folder-link").readlink() == Path("scripts")


def test_a_second_copy_writes_only_what_changed_and_removes_what_is_gone(checkout: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    run("copy", target, "--root", checkout)
    assert "0 written" in run("copy", target, "--root", checkout).stdout
    untouched = (target / "scripts/tool").stat().st_mtime_ns
    (checkout / "actions/x/action.yml").unlink()
    (checkout / "actions/x").rmdir()
    (checkout / "actions/x").write_text("a file now")
    (checkout / ".gitignore").write_text("cache/\n# more\n")
    again = run("copy", target, "--root", checkout)
    assert "2 written or removed" in again.stdout  # the file where the folder was, and .gitignore
    assert (target / "actions/x").read_text() == "a file now"
    assert (target / "scripts/tool").stat().st_mtime_ns == untouched


def test_a_copy_inside_the_checkout_does_not_hold_itself(checkout: Path) -> None:
    for _ in range(2):
        assert run("copy", checkout / "out/copy", "--root", checkout).returncode == 0
    assert not (checkout / "out/copy/out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious").write_text("keep")
    refused = run("copy", tmp_path / "mine", "--root", checkout)
    assert refused.returncode == 2
    assert "no copy of ours" in refused.stderr
    assert content(tmp_path / "mine") == {"precious": b"keep"}
    assert run("copy", checkout, "--root", checkout).returncode == 2
    assert run("copy", tmp_path, "--root", checkout).returncode == 2


def test_a_release_changes_workflows_in_place_and_only_once(checkout: Path) -> None:
    first = run("release", "v1.2.3", COMMIT, "--root", checkout, "--repository", "o/r")
    assert first.stdout == ".github/workflows/w.yml\n"
    text = (checkout / ".github/workflows/w.yml").read_text()
    assert f"- uses: o/r/actions/x@{COMMIT} # v1.2.3\n" in text
    assert (checkout / "scripts/tool").read_text() == "- uses: $/actions/x\n"
    assert run("release", "v1.2.3", COMMIT, "--root", checkout, "--repository", "o/r").stdout == ""


@pytest.mark.parametrize(("version", "commit"), [("1.2.3", COMMIT), ("v1", COMMIT), ("v1.2.3", COMMIT[:12])])
def test_a_release_needs_a_full_version_and_commit(checkout: Path, version: str, commit: str) -> None:
    before = content(checkout / ".github")
    refused = run("release", version, commit, "--root", checkout)
    assert refused.returncode == 2
    assert refused.stderr.startswith("rewrite-uses: ")
    assert content(checkout / ".github") == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("./actions/x", "say `uses: $/actions/x`, not `./actions/x`"),
        ("o/r/actions/x@v1", "say `uses: $/actions/x`, not `o/r/actions/x@v1`"),
        ("$/actions/y", "`$/actions/y`: there is no actions/y/action.yml"),
        ("$/actions/x@v1", "takes no @ref"),
        ("$/.github/workflows/no.yml", "there is no workflow .github/workflows/no.yml"),
    ],
)
def test_check_names_the_place_of_a_wrong_use(checkout: Path, value: str, message: str) -> None:
    (checkout / ".github/workflows/w.yml").write_text(f"jobs:\n  a:\n    steps:\n      - uses: {value}\n")
    checked = run("check", "--root", checkout, "--repository", "o/r")
    assert checked.returncode == 1
    assert checked.stdout.startswith(".github/workflows/w.yml:4:15: ")
    assert message in checked.stdout


def test_check_passes_own_and_foreign_uses_and_refuses_an_action_that_uses_a_sibling(checkout: Path) -> None:
    workflow = "jobs:\n  a:\n    uses: $/.github/workflows/w.yml\n  b:\n    steps:\n      - uses: a/b@c\n"
    (checkout / ".github/workflows/v.yml").write_text(workflow)
    assert run("check", "--root", checkout).returncode == 0
    (checkout / "actions/x/action.yml").write_text("runs:\n  steps:\n    - uses: $/actions/x\n")
    assert "actions/x/action.yml:3:13: an action uses no other" in run("check", "--root", checkout).stdout


def test_what_is_no_repository_is_said(tmp_path: Path) -> None:
    refused = run("check", "--root", tmp_path)
    assert refused.returncode == 2
    assert "not a git repository" in refused.stderr
