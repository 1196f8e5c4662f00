"""The rewriter of own `uses:`: what it changes, what it leaves, and the copy that it makes."""

from __future__ import annotations

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
