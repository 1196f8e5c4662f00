"""The command line: which options it takes, and what it refuses before anything is done."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mlops_actions.cli import main


@pytest.mark.parametrize(
    ("call", "option"),
    [
        ("run --model a --dry-run --model=b", "--model"),
        ("evaluate-model --primary-metric auc --primary-metric auc", "--primary-metric"),
        ("runs show last --store a --store b", "--store"),
        ("infer-schema -o a.yaml --output b.yaml data.csv", "--output"),
    ],
)
def test_an_option_with_one_value_is_given_once(call: str, option: str) -> None:
    done = CliRunner().invoke(main, call.split())
    assert done.exit_code == 2 and f"Option '{option}' is given 2 times. Give it once." in done.output


def test_an_option_with_several_values_and_a_switch_may_be_repeated() -> None:
    for call in ("run --only a --only b", "plan --reuse --no-reuse", "runs --where a=1 --where b=2"):
        done = CliRunner().invoke(main, [*call.split(), "--no-such-option"])
        assert done.exit_code == 2 and "No such option '--no-such-option'" in done.output
