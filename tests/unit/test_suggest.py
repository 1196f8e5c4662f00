"""Suggestions for misspelt names."""

from __future__ import annotations

import pytest

from mlops_actions.suggest import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("aucc", ["auc", "rmse"], "Did you mean `auc`?"),
        ("Carrier", ["carrier", "flight"], "Did you mean `carrier`?"),
        ("acc", ["auc", "accuracy"], "Did you mean `accuracy`?"),
        ("zzz", ["auc", "rmse"], "Known: auc, rmse"),
        ("zzz", [], ""),
        (7, [1, 2], "Known: 1, 2"),
    ],
)
def test_what_is_near_is_suggested_and_else_what_there_is(name: object, known: list[object], said: str) -> None:
    assert did_you_mean(name, known) == said


def test_what_to_say_when_nothing_is_near_may_be_given() -> None:
    assert did_you_mean("zzz", ["a"], "Correct it") == "Correct it"
    assert did_you_mean("zzz", ["a"], "It has: {}") == "It has: a"
    assert did_you_mean("zzz", map(str, range(40))).endswith(", 29 and 10 more")
