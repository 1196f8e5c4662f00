"""The golden rule: when a prediction agrees, and how a model is asked."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlops_actions.evaluation import golden, golden_worker


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


def test_a_model_of_texts_is_given_the_one_column_as_a_series() -> None:
    class Frame(list):  # type: ignore[type-arg]
        """As much of a pandas table as is looked at; as a pandas table, it has its columns' names for items."""

        def __init__(self, texts: list[str]) -> None:
            super().__init__(["text"])
            self.shape = (len(texts), 1)
            self.dtypes = self.iloc = self
            self._texts = texts

        def __getitem__(self, key: Any) -> Any:
            return self._texts if isinstance(key, tuple) else type("dtype", (), {"kind": "O"})

    for texts in (["a", "bbb"], ["ccc"]):
        rows, found = golden_worker.asked(
            lambda rows: [len(text) for text in rows], Frame(texts), len(texts), table_only=False
        )
        assert (rows, found) == (texts, [len(text) for text in texts])
        with_table = golden_worker.asked(
            lambda rows: [len(text) for text in rows], Frame(texts), len(texts), table_only=True
        )
        assert with_table[1] == [4]


def test_percentiles_are_nearest_ranks() -> None:
    times = [float(i) for i in range(1, 101)]
    assert (golden.percentile(times, 50), golden.percentile(times, 95)) == (50, 95)
    assert golden.percentile([7.0], 95) == 7
