"""Versions that are rolled out and back as often as CHANGES says, and what that took, as a line of a test's output."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

LIGHT = ("--answers", "5", "--max-slowdown", "50", "--measure", "5", "--undecided-latency", "pass")
"""What lets a rollout end soon on a machine that does much else: it is not its times that are tested."""


LIMIT = 900 + 120 * int(os.environ.get("CHANGES", 0))
"""Seconds after which a test of them hangs."""


def changes(usual: int) -> int:
    """How often: CHANGES, else so often."""
    return int(os.environ.get("CHANGES", usual))


def out_and_back(times: int, rollout: Callable[[], None], rollback: Callable[[], None]) -> str:
    """Roll out and back so many times; how long each took."""
    seconds: dict[str, list[float]] = {"rollouts": [], "rollbacks": []}
    for _ in range(times):
        for kind, work in (("rollouts", rollout), ("rollbacks", rollback)):
            began = time.monotonic()
            work()
            seconds[kind].append(time.monotonic() - began)
    return ", ".join(
        f"{len(taken)} {kind} (median {statistics.median(taken):.1f} s, at most {max(taken):.1f} s)"
        for kind, taken in seconds.items()
    )


def told(place: str, what: str, answers: Mapping[str, int], failed: int) -> None:
    """Print what was seen."""
    print(f"{place}: {what}: {sum(answers.values()):,} requests, {failed} failed")


def with_usual(given: Sequence[str], usual: Mapping[str, str]) -> list[str]:
    """Options as given, and the usual ones that are not among them: none may be given twice."""
    return [*given, *(word for name, value in usual.items() if name not in given for word in (name, value))]
