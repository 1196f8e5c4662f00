"""Times of two releases: the three verdicts; equal ones are seldom called slower, and slower ones never equal."""

from __future__ import annotations

import random
from collections.abc import Callable

from mlops_actions.serving import latency


def times(seed: int, scale: Callable[[int], float] = lambda _: 1.0, pairs: int = 480) -> list[float]:
    """Times of answers, about 2 ms, a few of them much longer."""
    chance = random.Random(seed)
    return [scale(i) * 0.002 * chance.lognormvariate(0.0, 0.3) for i in range(pairs)]


def test_the_three_verdicts_of_a_comparison() -> None:
    stable = times(1)
    assert latency.compare(stable, times(2), 2.0).verdict == "ok"
    assert latency.compare(stable, times(2, lambda _: 3.0), 2.0).verdict == "too slow"
    assert latency.compare(stable, times(2, lambda _: 2.0), 2.0).verdict == "cannot tell"
    assert latency.compare(stable, times(2, lambda i: 10.0 if i % 8 == 0 else 1.0), 2.0).verdict == "too slow", (
        "its tail"
    )
    few = latency.compare(times(1, pairs=40), times(2, pairs=40), 2.0)
    assert few.verdict == "cannot tell", "40 pairs say nothing of a 95th percentile"


def test_equal_releases_are_seldom_called_slower_and_slower_ones_never_equal() -> None:
    verdicts = [
        latency.compare(times(2 * i, pairs=120), times(2 * i + 1, lambda _: 2.1, pairs=120), 2.0).verdict
        for i in range(40)
    ]
    assert "ok" not in verdicts
    verdicts = [latency.compare(times(2 * i), times(2 * i + 1, lambda _: 1.9), 2.0).verdict for i in range(40)]
    assert "too slow" not in verdicts
