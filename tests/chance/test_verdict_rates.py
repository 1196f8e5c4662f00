"""Challenger against champion: how often a verdict is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from compared_models import paired
from mlops_actions.evaluation import compare, resampling

PAIRS = 300
PROMISED = resampling.CHANCE / 2
"""The share of pairs without a difference that may be called worse, and that may be called better."""


def most(share: float, pairs: int = PAIRS) -> int:
    """How many of so many are not more than a share, at odds of one in 10,000."""
    return int(stats.binom.ppf(0.9999, pairs, share))


def alarms(name: str, make: Any, blocks: NDArray[Any] | None = None, draws: int = 200) -> int:
    """How often one of two models without a difference is called better or worse, of `PAIRS` pairs."""
    random = np.random.default_rng(11)
    more = {} if blocks is None else {"blocks": blocks}
    found = [paired(name, *make(random), **more, draws=draws).verdict for _ in range(PAIRS)]
    return sum(verdict != "cannot tell" for verdict in found)


def independent(random: np.random.Generator) -> tuple[NDArray[Any], ...]:
    label = (random.random(120) < 0.4).astype(float)
    return label, label + random.normal(0, 1.5, 120), label + random.normal(0, 1.5, 120)


def of_classes(random: np.random.Generator) -> tuple[NDArray[Any], ...]:
    label = (random.random(120) < 0.4).astype(float)
    return label, *(np.where(random.random(120) < 0.8, label, 1 - label) for _ in range(2))


BLOCKS = np.repeat(np.arange(20), 15)


def in_blocks(random: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """Errors that a day's rows have in common."""
    label = random.normal(size=300)
    return label, *(label + random.normal(size=20)[BLOCKS] + random.normal(size=300) for _ in range(2))


@pytest.mark.parametrize(("name", "make"), [("auc", independent), ("mae", independent), ("accuracy", of_classes)])
def test_of_equal_models_no_more_than_the_promised_share_alarms(name: str, make: Any) -> None:
    assert alarms(name, make) <= most(2 * PROMISED)


def test_of_equal_models_on_blocked_rows_only_the_bootstrap_of_blocks_keeps_the_promise() -> None:
    assert alarms("mae", in_blocks, BLOCKS) <= most(2 * PROMISED)
    assert alarms("mae", in_blocks) > most(2 * PROMISED) + 60  # rows as if they were independent


def test_what_is_said_to_be_enough_is_enough() -> None:
    def verdicts(rows: int, count: int) -> list[str]:
        random = np.random.default_rng(rows)
        found = []
        for _ in range(count):
            label = random.normal(size=rows)
            champion, challenger = (label + random.normal(0, 1, rows) for _ in range(2))
            found.append(paired("mae", label, challenger, champion, allowed=0.1, draws=200))
        needed.extend(one.rows_needed for one in found if one.rows_needed is not None)
        return ["acceptable" if one.surely_acceptable else one.verdict for one in found]

    needed: list[int] = []
    assert verdicts(100, 40).count("acceptable") < 20  # equal models, too few rows to tell that
    rows = int(np.median(needed))
    told = verdicts(rows, 100).count("acceptable")
    assert stats.binom.ppf(1e-4, 100, compare.POWER) <= told <= stats.binom.ppf(1 - 1e-4, 100, 0.95)


def test_a_difference_that_is_worth_telling_is_told() -> None:
    # 400 rows tell a champion whose AUC is 0.05 higher (of 0.76) with a chance of 4 in 5 or more
    random, told = np.random.default_rng(3), 0
    for _ in range(100):
        label = (random.random(400) < 0.5).astype(float)
        signal = label + random.normal(size=400)
        told += paired("auc", label, signal + random.normal(0, 0.75, 400), signal).verdict == "worse"
    assert told >= stats.binom.ppf(1e-4, 100, 0.8)
