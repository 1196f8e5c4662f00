"""What a check found: how many rows fail, and the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl

from ..errors import Place
from .tables import FILE, ROW, Part, Table, python_rows

EXAMPLES = 20
"""Failing rows that are shown of each check."""


@dataclass
class Check:
    """One check of one column, or of the table (column ""), and how it went.

    Attributes:
        column: the column, or "".
        name: pandera's name for it with its arguments, such as `in_range(1, 12)`.
        failed: rows that fail; for a check of the table 1 or 0.
        why: what is wrong, in words; "" when nothing is.
        examples: the first failing rows: file, row (from 1) and value.
        place: the rule's place in the contract.
        shown: the columns whose values the examples have, if they are others than `column`.
    """

    column: str
    name: str
    failed: int = 0
    why: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list)
    place: Place | None = None
    shown: Sequence[str] = ()

    def sentence(self) -> str:
        """What is wrong, for a person."""
        what = f"{self.name} " if self.why.startswith("fails" if self.column else ("fails", "is ")) else ""
        return f"{self.column or 'the table'}: {what}{self.why}"

    def show(self, part: Part, rows: Sequence[int], values: Sequence[object]) -> None:
        """Keep failing rows (their numbers from 0) as examples, while there is room."""
        room = EXAMPLES - len(self.examples)
        self.examples += [
            {"file": part.name, "row": row + 1, "value": shown(value)} for row, value in zip(rows[:room], values)
        ]

    def show_rows(self, table: Table, rows: pl.DataFrame, columns: Sequence[str]) -> None:
        """Keep rows that were taken from `Table.rows` as examples, in their order, with the values of some columns."""
        first = rows.sort(FILE, ROW).head(EXAMPLES).select(FILE, ROW, *columns)
        for file, row, *values in python_rows(first):
            self.show(table.parts[file], [row], [together(values)])


def together(values: Sequence[object]) -> object:
    """The values of a row as one: a single one as it is, several separated by commas."""
    return values[0] if len(values) == 1 else ", ".join(str(shown(value)) for value in values)


def shown(value: object) -> object:
    """A value as JSON has it, cut short."""
    if value is None or isinstance(value, bool | int | float):
        return value if value == value else "NaN"
    return str(value)[:80]


def span_in_words(span: timedelta) -> str:
    """`36 h`, `35 d`."""
    hours = span.total_seconds() / 3600
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.4g} d"
