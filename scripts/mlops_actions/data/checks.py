"""A table against a contract: every check is made, and what fails is counted with its first rows."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

import polars as pl
from pandera.api.checks import Check as PanderaCheck

from ..errors import BadInput, Place
from .contract import Contract
from .personal import Personal
from .tables import Part, Table, unreadable

EXAMPLES = 20
"""Failing rows that are shown of each check."""
_LOOKED_AT = 100_000  # rows with suspicious keys that are compared by the keys themselves
_FUTURE = timedelta(days=1)  # clocks and time zones differ by less


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
    """

    column: str
    name: str
    failed: int = 0
    why: str = ""
    examples: list[dict[str, Any]] = field(default_factory=list)
    place: Place | None = None

    def sentence(self) -> str:
        """What is wrong, for a person."""
        what = f"{self.name} " if self.why.startswith("fails") else ""
        return f"{self.column or 'the table'}: {what}{self.why}"

    def fail(self, part: Part, rows: Sequence[int], values: Sequence[object], count: int) -> None:
        """Count failing rows, and keep the first ones."""
        self.failed += count
        room = EXAMPLES - len(self.examples)
        first = [{"file": part.name, "row": row + 1, "value": shown(v)} for row, v in zip(rows[:room], values)]
        self.examples += first


@dataclass(frozen=True)
class _RowCheck:
    """A check that is made of each row on its own: `test` is true where the row passes."""

    check: Check
    column: str
    pandera: PanderaCheck | None

    def passes(self, batch: pl.DataFrame) -> pl.Series:
        if self.pandera is None:
            values = batch.get_column(self.column)
            present = values.is_not_null()
            return present & values.is_not_nan().fill_null(False) if values.dtype.is_float() else present
        output = self.pandera(batch.lazy(), self.column).check_output
        passed: pl.Series = output.collect().to_series()
        return passed


class RowChecks:
    """The checks that need no more than one row, made batch by batch.

    Args:
        table: what is checked; columns of a wrong type are left out, since `structure` says so.
        contract: what is asked.
    """

    def __init__(self, table: Table, contract: Contract) -> None:
        self._rows = 0
        self._checks: list[_RowCheck] = []
        for rule, column, spec in _columns(table, contract):
            if spec.dtype is not None and not spec.dtype.check(table.schema[column]):
                continue
            if not spec.nullable:
                check = Check(column, "not_nullable", place=contract.place("columns", rule, "nullable"))
                self._checks.append(_RowCheck(check, column, None))
            for test in spec.checks:
                if test.name != "unique_values_eq":
                    place = _check_place(contract, rule, str(test.name))
                    self._checks.append(_RowCheck(Check(column, _check_name(test), place=place), column, test))

    def update(self, part: Part, start: int, batch: pl.DataFrame) -> None:
        """Check the next rows."""
        self._rows += batch.height
        for item in self._checks:
            try:
                passed = item.passes(batch)
            except (pl.exceptions.PolarsError, TypeError) as error:
                raise BadInput(
                    f"The check {item.check.name} cannot be made of the column {item.column}",
                    why=str(error).split("\n")[0][:300], fix="Correct the contract", place=item.check.place,
                ) from error  # fmt: skip
            if not passed.all():
                rows = (~passed).arg_true()
                first = rows.head(EXAMPLES)
                values = batch.get_column(item.column).gather(first).to_list()
                item.check.fail(part, [start + row for row in first.to_list()], values, len(rows))

    def results(self) -> list[Check]:
        """What was found."""
        for item in self._checks:
            if item.check.failed:
                item.check.why = f"fails in {item.check.failed:,} of {self._rows:,} rows"
        return [item.check for item in self._checks]


def structure(table: Table, contract: Contract) -> list[Check]:
    """Columns that must or must not be there, their types and order, and whether the files agree."""
    schema, found = contract.schema, []
    if len(table.parts) > 1:
        check = Check("", "files_agree", len(table.differences), "; ".join(table.differences[:5]))
        found.append(check)
    matched: dict[str, list[str]] = {rule: [] for rule in schema.columns}
    for rule, column, spec in _columns(table, contract):
        matched[rule].append(column)
        if spec.dtype is not None:
            actual, place = table.schema[column], contract.place("columns", rule, "dtype")
            wrong = not spec.dtype.check(actual)
            why = f"is {actual}, not {spec.dtype}" if wrong else ""
            found.append(Check(column, f"dtype({spec.dtype})", int(wrong), why, place=place))
    for rule, columns in matched.items():
        if not columns and schema.columns[rule].required:
            what = "no column matches it" if schema.columns[rule].regex else "the column is missing"
            found.append(Check(rule, "present", 1, what, place=contract.place("columns", rule)))
    if schema.strict:
        known = {column for columns in matched.values() for column in columns}
        extra = [column for column in table.schema if column not in known]
        why = f"not in the contract: {', '.join(extra)}" if extra else ""
        found.append(Check("", "no_other_columns", len(extra), why, place=contract.place("strict")))
    if schema.ordered:
        order = [column for rule in schema.columns for column in matched[rule]]
        wrong = order != [column for column in table.schema if column in set(order)]
        found.append(Check("", "ordered", int(wrong), "columns are in another order" if wrong else "",
                           place=contract.place("ordered")))  # fmt: skip
    for name, count, cells in unreadable(table, EXAMPLES):
        kind = table.texts[name]
        place = contract.place("columns", name, "dtype")
        check = Check(name, f"readable({kind})", why=f"fails in {count:,} rows", place=place)
        for part, row, value in cells:
            check.fail(part, [row], [value], 0)
        check.failed = count
        found.append(check)
    return found


def whole(table: Table, contract: Contract, rows: int, as_of: datetime) -> list[Check]:
    """The checks that need all rows: unique keys, sets of values, number of rows, freshness, forbidden columns."""
    found = list(_unique(table, contract))
    for rule, column, spec in _columns(table, contract):
        place = _check_place(contract, rule, "unique_values_eq")
        found += [_values_equal(table, column, t, place) for t in spec.checks if t.name == "unique_values_eq"]
    rules = contract.rules
    few, many = rows < rules.rows.min, rules.rows.max is not None and rows > rules.rows.max
    if contract.name:
        limit = f"rows({rules.rows.min}, {'∞' if rules.rows.max is None else rules.rows.max})"
        why = f"there are {rows:,}" if few or many else ""
        found.append(Check("", limit, int(few or many), why, place=contract.place("table", "rows")))
    if rules.freshness:
        found.append(_fresh(table, contract, as_of))
    for index, pattern in enumerate(rules.forbidden):
        hits = [c for c in table.schema if fnmatch.fnmatchcase(c.lower(), pattern.lower())]
        why = f"there is {', '.join(hits)}" if hits else ""
        place = contract.place("table", "forbidden", index)
        found.append(Check("", f"forbidden({pattern})", len(hits), why, place=place))
    return found


def personal(found: Sequence[Personal], contract: Contract) -> list[Check]:
    """Columns that look personal and are not allowed."""
    allowed = set(contract.rules.personal_data.allow)
    place = contract.place("table", "personal-data")
    return [Check(p.column, "personal_data", 1, f"looks personal: {p.why}", place=place) for p in found
            if p.column not in allowed]  # fmt: skip


def _columns(table: Table, contract: Contract) -> Iterator[tuple[str, str, Any]]:
    """The contract's columns that the table has: (name or pattern in the contract, column, pandera's column)."""
    for rule, spec in contract.schema.columns.items():
        if spec.regex:
            yield from ((rule, column, spec) for column in table.schema if re.match(rule, column))
        elif rule in table.schema:
            yield rule, rule, spec


def _unique(table: Table, contract: Contract) -> Iterator[Check]:
    keys = [([column], contract.place("columns", rule, "unique"))
            for rule, column, spec in _columns(table, contract) if spec.unique]  # fmt: skip
    together = contract.schema.unique
    if together:
        keys.append((list(together), contract.place("unique")))
    for names, place in keys:
        check = Check(", ".join(names), "unique", place=place)
        absent = [name for name in names if name not in table.schema]
        if absent:
            check.failed, check.why = 1, f"there is no column {absent[0]}"
        else:
            _count_duplicates(table, names, check)
        yield check


def _count_duplicates(table: Table, names: list[str], check: Check) -> None:
    """Count the rows that share their key.

    A 64-bit hash of the key, not the key, is grouped by: 16 bytes a row. Rows whose hashes are equal are looked at
    again, so that the count is exact, unless there are very many of them: then a hash in 2^64 that is shared by
    chance makes no difference.
    """
    key = pl.struct(names).hash(seed=0)
    again = table.frame.select(key.alias("key")).group_by("key").len().filter(pl.col("len") > 1)
    suspects = again.collect(engine="streaming")
    if suspects.is_empty():
        return
    many = int(suspects.get_column("len").sum())
    wanted = suspects.get_column("key").head(_LOOKED_AT).implode()
    parts = [
        part.frame.select(names)
        .with_row_index("\0row")
        .filter(key.is_in(wanted))
        .with_columns(pl.lit(n).alias("\0file"))
        for n, part in enumerate(table.parts)
    ]
    few = parts if many <= _LOOKED_AT else [part.head(EXAMPLES) for part in parts]
    rows = pl.concat(few).collect(engine="streaming")
    if many <= _LOOKED_AT:
        rows = rows.filter(pl.struct(names).is_duplicated())
        many = rows.height
    check.failed, check.why = many, f"fails: {many:,} rows share their key" if many else ""
    for row in rows.sort("\0file", "\0row").head(EXAMPLES).iter_rows(named=True):
        value = row[names[0]] if len(names) == 1 else ", ".join(str(shown(row[name])) for name in names)
        check.fail(table.parts[row["\0file"]], [row["\0row"]], [value], 0)


def _values_equal(table: Table, column: str, test: PanderaCheck, place: Place | None) -> Check:
    asked = set((test.statistics or {})["values"])
    actual = set(table.frame.select(pl.col(column).drop_nulls().unique()).collect(engine="streaming").to_series())
    missing = sorted(map(str, asked - actual))
    why = f"missing: {', '.join(missing[:10])}" if missing else ""
    return Check(column, "unique_values_eq", len(missing), why, place=place)


def _fresh(table: Table, contract: Contract, as_of: datetime) -> Check:
    rule = contract.rules.freshness
    assert rule is not None
    check = Check(rule.column, f"freshness({_words(rule.max_age)})", place=contract.place("table", "freshness"))
    age = age_of(table, rule.column, as_of)
    if age is None:
        check.failed, check.why = 1, "there is no such column of times"
    elif age > rule.max_age:
        check.failed, check.why = 1, f"the newest row is {_words(age)} older than {as_of:%Y-%m-%d %H:%M}"
    elif age < -_FUTURE:
        check.failed, check.why = 1, f"the newest row is {_words(-age)} after {as_of:%Y-%m-%d %H:%M}"
    return check


def age_of(table: Table, column: str, as_of: datetime) -> timedelta | None:
    """How much older than `as_of` the newest value of a column of times is; None if the column has no times.

    Times without a zone are UTC.
    """
    kind = table.schema.get(column)
    if kind is None or (kind not in (pl.String, pl.Date) and not isinstance(kind, pl.Datetime)):
        return None
    newest: Any = table.frame.select(pl.col(column).max()).collect(engine="streaming").item()
    if isinstance(newest, str):
        try:
            newest = datetime.fromisoformat(newest.replace("Z", "+00:00"))
        except ValueError:
            return None
    if newest is None:
        return None
    if isinstance(newest, date) and not isinstance(newest, datetime):
        newest = datetime(newest.year, newest.month, newest.day)
    aware: datetime = newest if newest.tzinfo else newest.replace(tzinfo=timezone.utc)
    return as_of - aware


def _check_name(test: PanderaCheck) -> str:
    text = str(test.error or test.name)
    return text if len(text) <= 80 else text[:77] + "…"


def _check_place(contract: Contract, rule: str, name: str) -> Place | None:
    """Where a check stands: under its name, an alias of it, or `checks`."""
    aliases = {"equal_to": "eq", "not_equal_to": "ne", "greater_than": "gt", "greater_than_or_equal_to": "ge",
               "less_than": "lt", "less_than_or_equal_to": "le", "in_range": "between"}  # fmt: skip
    for path in ((name,), (aliases.get(name, name),), ("checks", name), ("checks",)):
        if ("columns", rule, *path) in contract.lines:
            return contract.place("columns", rule, *path)
    return contract.place("columns", rule)


def _words(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.4g} d"


def shown(value: object) -> object:
    """A value as JSON has it, cut short."""
    if value is None or isinstance(value, bool | int | float):
        return value if value == value else "NaN"
    return str(value)[:80]
