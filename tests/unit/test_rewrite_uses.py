"""The rewriter of own `uses:`: what it changes, what it leaves, and the copy that it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "rewrite-uses"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _load() -> ModuleType:
    loader = SourceFileLoader("rewrite_uses", str(SCRIPT))
    spec = spec_from_loader("rewrite_uses", loader)
    assert spec
    module = module_from_spec(spec)
    sys.modules["rewrite_uses"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


rewriter = _load()


def act(text: str) -> str:
    return str(rewriter.rewrite(text, lambda own: f"o/r/{own}@act"))


def released(text: str) -> str:
    return str(rewriter.rewrite(text, lambda own: f"o/r/{own}@{COMMIT}", "v1.2.3"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("      - uses: $/actions/x", "      - uses: o/r/actions/x@act"),
        ("        uses: $/actions/x", "        uses: o/r/actions/x@act"),
        ("    uses: $/.github/workflows/x.yml", "    uses: o/r/.github/workflows/x.yml@act"),
        ("- uses: '$/actions/x'", "- uses: 'o/r/actions/x@act'"),
        ('- "uses": "$/actions/x" # why', '- "uses": "o/r/actions/x@act" # why'),
        ("- uses:   $/actions/x   # why", "- uses:   o/r/actions/x@act   # why"),
        ("steps: [{uses: $/actions/x, with: {a: b}}]", "steps: [{uses: o/r/actions/x@act, with: {a: b}}]"),
        ("- {name: a, uses: $/actions/x}", "- {name: a, uses: o/r/actions/x@act}"),
        ("- name: don't\n  uses: $/actions/x", "- name: don't\n  uses: o/r/actions/x@act"),
        ("- run: |\n    echo\n- uses: $/actions/x", "- run: |\n    echo\n- uses: o/r/actions/x@act"),
        ("- if: a == '|'\n  uses: $/actions/x", "- if: a == '|'\n  uses: o/r/actions/x@act"),
        ('- name: "two\n    lines"\n  uses: $/actions/x', '- name: "two\n    lines"\n  uses: o/r/actions/x@act'),
    ],
)
def test_own_uses_are_rewritten_and_the_rest_of_the_line_stays(before: str, after: str) -> None:
    assert act(before) == after
    assert act(after) == after


@pytest.mark.parametrize(
    "text",
    [
        "- uses: actions/checkout@v4",
        "- uses: ./actions/x",
        "- uses: other/$/actions/x@v1",
        "# - uses: $/actions/x",
        "- run: 'echo' # uses: $/actions/x",
        "- run: |\n    uses: $/actions/x\n",
        "- run: |\n\n    cat <<E\n      - uses: $/actions/x\n    E\n",
        "- run: >-  # folded\n    uses: $/actions/x\n",
        "-   run: |2-\n      uses: $/actions/x\n",
        "- |\n  uses: $/actions/x",
        "- name: 'a, uses: $/actions/x'",
        '- name: "a\n    uses: $/actions/x\n    b"',
        "- reuses: $/actions/x",
        "- with: $/actions/x",
    ],
)
def test_nothing_else_is_touched(text: str) -> None:
    assert act(text) == text
    assert released(text) == text


def test_the_step_after_a_script_is_seen_at_its_own_indentation() -> None:
    text = "steps:\n  - run: |\n      uses: $/actions/no\n    env:\n      A: b\n  - uses: $/actions/yes\n"
    assert [use.value for use in rewriter.uses(text)] == ["$/actions/yes"]


def test_a_release_names_the_commit_and_keeps_the_version_beside_it() -> None:
    assert released("- uses: $/actions/x") == f"- uses: o/r/actions/x@{COMMIT} # v1.2.3"
    assert released("- uses: $/actions/x  # why") == f"- uses: o/r/actions/x@{COMMIT} # v1.2.3 # why"
    once = released("a:\n  - uses: '$/actions/x'\n  - uses: a/b@c # d\n")
    assert once == f"a:\n  - uses: 'o/r/actions/x@{COMMIT}' # v1.2.3\n  - uses: a/b@c # d\n"
    assert released(once) == once


def test_line_ends_stay_as_they_are() -> None:
    assert act("- uses: $/actions/x\r\n- run: a\r\n") == "- uses: o/r/actions/x@act\r\n- run: a\r\n"
    assert released("- uses: $/actions/x\r\n") == f"- uses: o/r/actions/x@{COMMIT} # v1.2.3\r\n"
    assert act("- uses: $/actions/x") == "- uses: o/r/actions/x@act"


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
