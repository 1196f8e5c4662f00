"""Checks that need no more than one row, each as one polars expression; all of them are counted in one go a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import polars as pl
from pandera.api.checks import Check as PanderaCheck
from pandera.api.polars.types import PolarsData
from pandera.backends.polars import builtin_checks as _registers_them  # noqa: F401
from pandera.backends.polars.checks import PolarsCheckBackend

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from .contract import Contract, has_type
from .findings import EXAMPLES, Check, together
from .tables import Batch, Table, as_read, python_rows


@dataclass(frozen=True)
class RowCheck:
    """One check of each row.

    Attributes:
        check: what it is called, and where what is found is counted.
        passes: a boolean; a row fails where it is false, and passes where it is true or null.
        shown: the columns whose values are shown of failing rows.
    """

    check: Check
    passes: pl.Expr
    shown: Sequence[str]


class RowChecks:
    """Takes batches, and counts the rows that fail.

    Args:
        checks: what is asked.
        table: whose rows will come.

    Raises:
        BadInput: a check cannot be made of its columns.
    """

    def __init__(self, checks: Sequence[RowCheck], table: Table) -> None:
        self._checks = list(checks)
        self._rows = 0
        self._counts = [(~item.passes).sum().alias(str(number)) for number, item in enumerate(self._checks)]
        empty = pl.DataFrame(schema=table.schema | {as_read(name): pl.String() for name in table.texts})
        try:  # all at once: one by one takes a second for a thousand columns
            kinds = empty.select(item.passes.alias(str(number)) for number, item in enumerate(self._checks)).dtypes
        except (pl.exceptions.PolarsError, TypeError):
            kinds = [_kind_of(item, empty) for item in self._checks]
        for item, kind in zip(self._checks, kinds):
            if kind not in (pl.Boolean, pl.Null):
                raise _misfit(item, f"It gives {kind} and not true or false")

    def update(self, batch: Batch) -> None:
        """Check the next rows."""
        self._rows += batch.frame.height
        if not self._checks:
            return
        try:
            counts = batch.frame.select(self._counts).row(0)
        except pl.exceptions.PolarsError as error:
            raise self._culprit(batch, error) from error
        for item, count in zip(self._checks, counts):
            if count:
                item.check.failed += int(count)
                if len(item.check.examples) < EXAMPLES:
                    self._show(item, batch)

    def results(self) -> list[Check]:
        """What was found."""
        for item in self._checks:
            if item.check.failed:
                item.check.why = f"fails in {item.check.failed:,} of {self._rows:,} rows"
        return [item.check for item in self._checks]

    def _show(self, item: RowCheck, batch: Batch) -> None:
        rows = batch.frame.select((~item.passes).arg_true().head(EXAMPLES)).to_series()
        values = python_rows(batch.frame.select(pl.col(item.shown).gather(rows)))
        item.check.show(batch.part, [batch.start + row for row in rows], [together(value) for value in values])

    def _culprit(self, batch: Batch, error: Exception) -> BadInput:
        for item, count in zip(self._checks, self._counts):
            try:
                batch.frame.select(count)
            except pl.exceptions.PolarsError as own:
                return _misfit(item, own)
        return BadInput("Cannot run the checks", why=str(error))


def _kind_of(item: RowCheck, empty: pl.DataFrame) -> pl.DataType:
    try:
        return empty.select(item.passes).to_series().dtype
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise _misfit(item, error) from error


def _misfit(item: RowCheck, error: object) -> BadInput:
    of = f"of the column {item.check.column}" if item.check.column else "of the table"
    why = str(error).strip().split("\n")[0][:300]
    what = f"Cannot run the check {item.check.name} {of}"
    return BadInput(what, why=why, fix="Correct the contract", place=item.check.place)


def of_columns(table: Table, contract: Contract) -> list[RowCheck]:
    """The contract's checks of columns; a column of a wrong type has none, since the type is found fault with."""
    made = []
    for rule, column, spec in contract.columns_of(table.schema):
        if not has_type(spec, table.schema[column]):
            continue
        if column in table.texts:
            place = contract.place("columns", rule, "dtype")
            check = Check(column, f"readable({table.texts[column]})", place=place)
            text = pl.col(as_read(column))
            made.append(RowCheck(check, text.is_null() | pl.col(column).is_not_null(), [as_read(column)]))
        if not spec.nullable:
            check = Check(column, "not_nullable", place=contract.place("columns", rule, "nullable"))
            made.append(RowCheck(check, _present(column, table.schema[column]), [column]))
        for test in spec.checks:
            if test.name != "unique_values_eq":
                check = Check(column, check_name(test), place=contract.place_of_check(rule, str(test.name)))
                made.append(RowCheck(check, _expression(test, column), [column]))
    return made


def of_expressions(table: Table, contract: Contract) -> tuple[list[RowCheck], list[RowCheck]]:
    """The contract's SQL expressions: those of one row, and those of the whole table (`AVG(delay) < 30`).

    Raises:
        BadInput: one cannot be understood, names an unknown column, or mixes a row with the whole table.
    """
    by_row, by_table = [], []
    empty = pl.DataFrame(schema=table.schema)
    for name, sql in contract.rules.checks.items():
        place = contract.place("table", "checks", name)
        expression = _sql(name, sql, place)
        used = expression.meta.root_names()
        if absent := [column for column in used if column not in table.schema]:
            fix = did_you_mean(absent[0], table.schema, "The data has: {}")
            raise BadInput(f"The check {name} names the unknown column {absent[0]!r}", fix=fix, place=place)
        if not used and "len()" not in str(expression):
            raise BadInput(f"The check {name} names no column", fix="Correct it, or take it out", place=place)
        shown = list(dict.fromkeys(used))
        item = RowCheck(Check("", name, place=place, shown=shown), expression, shown)
        if not _aggregates(expression, empty):
            by_row.append(item)
        elif _is_one_value(expression, empty):
            by_table.append(item)
        else:
            why, fix = "It mixes a row's values with the whole table's", "Make it of one row, or of aggregates only"
            raise BadInput(f"Cannot run the check {name}", why=why, fix=fix, place=place)
    return by_row, by_table


def check_name(test: PanderaCheck) -> str:
    """pandera's name of a check with its arguments, cut short."""
    text = str(test.error or test.name)
    return text if len(text) <= 80 else text[:77] + "…"


class _Selects:
    """Stands for a table where pandera's own function of a check says which expression it selects."""

    def select(self, expression: pl.Expr) -> pl.Expr:
        return expression


def _expression(test: PanderaCheck, column: str) -> pl.Expr:
    function = cast(Callable[[PolarsData], Any], PolarsCheckBackend(test).check_fn)
    expression: pl.Expr = function(PolarsData(cast(pl.LazyFrame, _Selects()), column))
    return expression


def _present(column: str, kind: pl.DataType) -> pl.Expr:
    """Not null, and as in pandera not NaN."""
    values = pl.col(column)
    return values.is_not_nan().fill_null(False) if kind.is_float() else values.is_not_null()


def _sql(name: str, sql: str, place: Place | None) -> pl.Expr:
    try:
        expression = pl.sql_expr(sql)
        if ".subplan" in str(expression):
            raise TypeError("A subquery is not an expression of a row")
    except (pl.exceptions.PolarsError, TypeError) as error:
        why = str(error).strip().split("\n")[0][:300]
        fix = "Write one SQL expression of the row's columns, such as `a < b OR c IS NULL`"
        raise BadInput(f"The check {name} cannot be understood", why=why, fix=fix, place=place) from None
    return expression


def _aggregates(expression: pl.Expr, empty: pl.DataFrame) -> bool:
    """Whether a part of it looks at more than one row: of a table without rows, an aggregate is one value."""
    if ".over(" in str(expression):
        return True
    parts = [expression]
    while parts:
        part = parts.pop()
        if _is_one_value(part, empty):
            return True
        parts += part.meta.pop()
    return False


def _is_one_value(part: pl.Expr, empty: pl.DataFrame) -> bool:
    if not part.meta.root_names() and "len()" not in str(part):
        return False  # a constant
    try:
        return empty.select(part).height == 1
    except pl.exceptions.PolarsError:
        return False  # which is said when the check is made
