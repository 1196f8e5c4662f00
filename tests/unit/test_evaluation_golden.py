"""The golden rule: when a prediction agrees, and how a model is asked."""

from __future__ import annotations

import math

import pytest

from mlops_actions.evaluation import golden


def test_texts_are_compared_as_they_are() -> None:
    assert golden.difference("late", "late") == 0
    assert golden.difference("late", "early") == math.inf
    assert golden.difference(math.nan, math.nan) == 0
    assert golden.difference(1.0, math.nan) == math.inf


@pytest.mark.parametrize(
    ("expected", "got", "right"),
    [
        (0.5, 0.5000015, True), (0.5, 0.50001, False), (math.nan, math.nan, True), (math.nan, None, True),
        (0.5, math.nan, False), (0.5, None, False), (1e6, 1e6 + 5, True), (0.5, "late", False), ("late", "late", True),
        ("late", "early", False), (1.0, 1, True), (1, "1", True), ("01", "1", False), (math.inf, math.inf, True),
        (math.inf, 1.0, False), (1.0, True, True),
    ],
)  # fmt: skip
def test_a_prediction_agrees_within_the_tolerance(expected: object, got: object, right: bool) -> None:
    assert (golden.agreement([expected], [got], golden.Tolerance()).mismatches == []) is right


def test_percentiles_are_nearest_ranks() -> None:
    times = [float(i) for i in range(1, 101)]
    assert (golden.percentile(times, 50), golden.percentile(times, 95)) == (50, 95)
    assert golden.percentile([7.0], 95) == 7
