"""What must hold of a model's predictions when its inputs are changed: invariance and direction.

The two kinds of tests beside fixed examples in CheckList (Ribeiro, Wu, Guestrin and Singh, "Beyond Accuracy: Behavioral
Testing of NLP Models with CheckList", ACL 2020): a change that does not matter must not change the prediction, and one
that does must move it the right way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..errors import BadInput
from ..inputs import Written
from ..values import parse_mappings
from .golden import Tolerance, difference

if TYPE_CHECKING:
    import polars as pl


class Expectation(Written):
    """One expectation: golden rows are changed, and predicted again."""

    change: dict[str, str | float | bool] = Field(
        min_length=1,
        description="Columns with their new values: a number, or an expression in SQL of the row's columns, such as"
        " `hour + 1`, `upper(name)` or `'AA'`.",
    )
    where: str = Field(default="", description="A condition in SQL: the rows that are changed. By default all.")
    expect: Literal["unchanged", "increasing", "decreasing"] = Field(
        default="unchanged", description="How the prediction may move: not at all, not down, or not up."
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        description="How far it may move the wrong way. By default as far as from a golden prediction.",
    )
    max_failures: float = Field(default=0.0, ge=0, lt=1, description="The share of rows that may fail.")


_ROW = "__row"
Expectations = Annotated[dict[str, Expectation], BeforeValidator(parse_mappings)]
"""Expectations by name."""


@dataclass(frozen=True)
class Changed:
    """The rows of an expectation: their numbers from 0, and the changed rows as tensors."""

    rows: list[int]
    inputs: list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """How an expectation went.

    Attributes:
        name: of the expectation.
        rows: how many were changed.
        failures: (row from 1, before, after) of those that moved the wrong way, the worst first.
        passed: whether that is no more than may be.
        said: the answer in words.
    """

    name: str
    rows: int
    failures: list[tuple[int, Any, Any]]
    passed: bool
    said: str


def change(frame: pl.DataFrame, name: str, asked: Expectation) -> Changed:
    """Change golden rows as an expectation says.

    Args:
        frame: the features.
        name, asked: the expectation.

    Raises:
        BadInput: a column does not exist, an expression cannot be understood, or gives what the column cannot hold.
    """
    import polars as pl

    from ..data.tables import unknown_column
    from .golden_rows import tensor

    def applied(key: str, text: object, made: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        try:
            return made()
        except pl.exceptions.PolarsError as error:
            why = str(error).split("\n")[0]
            fix = f"Write SQL of a row's columns, which are {', '.join(frame.columns)}; a text is 'in single quotes'"
            raise BadInput(f"`{key}` of the expectation {name!r} cannot be applied: {text}", why=why, fix=fix) from None

    rows = frame.with_row_index(_ROW)
    if asked.where:
        rows = applied("where", asked.where, lambda: rows.filter(pl.sql_expr(asked.where)))
    changed = rows
    for column, value in asked.change.items():
        if column not in frame.columns:
            raise unknown_column(column, "The golden file", frame.columns)

        def new(column: str = column, value: str | float | bool = value) -> pl.DataFrame:
            made = pl.sql_expr(value) if isinstance(value, str) else pl.lit(value)
            return rows.with_columns(made.cast(frame.schema[column]).alias(column))

        changed = changed.with_columns(applied(f"change.{column}", value, new)[column])
    same = pl.all_horizontal(pl.lit(True), *(rows[column].eq_missing(changed[column]) for column in asked.change))
    changed = changed.filter(~same)
    return Changed(changed.get_column(_ROW).to_list(), [tensor(changed[column]) for column in frame.columns])


def judge(
    name: str, asked: Expectation, rows: Sequence[int], before: Sequence[Any], after: Sequence[Any], usual: Tolerance
) -> Found:
    """Judge how predictions moved.

    Args:
        name, asked: the expectation.
        rows: numbers of the changed rows, from 0.
        before: the predictions of all golden rows.
        after: those of the changed rows.
        usual: how far a prediction may move where the expectation does not say.
    """
    moved = [(row, before[row], now, _wrong(asked.expect, before[row], now)) for row, now in zip(rows, after)]
    bad = [
        one for one in moved if one[3] > (usual.allowed(one[1]) if asked.tolerance is None else asked.tolerance)
    ]  # fmt: skip
    bad.sort(key=lambda one: -one[3])
    share = len(bad) / len(moved) if moved else 1.0
    passed = bool(moved) and share <= asked.max_failures
    words = {"unchanged": "changed", "increasing": "went down", "decreasing": "went up"}[asked.expect]
    if not moved:
        said = "no golden row is changed" + (f" where {asked.where}" if asked.where else ": they have these values")
    elif bad:
        row, was, now, far = bad[0]
        by = f" by {far:.3g}" if math.isfinite(far) else ""
        said = f"{len(bad)} of {len(moved)} predictions {words}, row {row + 1} the most{by}: from {was} to {now}"
    else:
        said = f"none of {len(moved)} predictions {words}"
    return Found(name, len(moved), [(row + 1, was, now) for row, was, now, _ in bad], passed, said)


def _wrong(expect: str, before: Any, after: Any) -> float:
    """How far a prediction moved the wrong way; infinite where there is no number to tell it by."""
    far = difference(before, after)
    if expect == "unchanged" or not math.isfinite(far) or far == 0:
        return far
    rose = float(after) > float(before)
    return far if rose == (expect == "decreasing") else 0.0
