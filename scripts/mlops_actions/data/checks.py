"""What a contract asks of a table beside the checks of its rows: structure, number of rows, freshness, and so on."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import polars as pl
from pandera.api.checks import Check as PanderaCheck

from ..errors import BadInput, Place
from .contract import Contract, has_type
from .findings import Check, span_in_words
from .keys import UniqueKey
from .personal import Personal
from .profile import ColumnProfile
from .rowchecks import RowCheck
from .tables import Table, python_rows

_FUTURE = timedelta(days=1)  # clocks and time zones differ by less


def structure(table: Table, contract: Contract) -> list[Check]:
    """Columns that must or must not be there, their types and order, and whether the files agree."""
    schema, found = contract.schema, []
    if len(table.parts) > 1:
        found.append(Check("", "files_agree", len(table.differences), "; ".join(table.differences[:5])))
    matched: dict[str, list[str]] = {rule: [] for rule in schema.columns}
    for rule, column, spec in contract.columns_of(table.schema):
        matched[rule].append(column)
        if spec.dtype is not None:
            actual, place = table.schema[column], contract.place("columns", rule, "dtype")
            wrong = not has_type(spec, actual)
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
    for index, pattern in enumerate(contract.rules.forbidden):
        found.append(absent(table, "forbidden", pattern, contract.place("table", "forbidden", index)))
    return found


def absent(table: Table, name: str, pattern: str, place: Place | None, because: str = "") -> Check:
    """That no column's name matches a pattern, whatever the case."""
    hits = [column for column in table.schema if fnmatch.fnmatchcase(column.lower(), pattern.lower())]
    why = f"there is {', '.join(hits)}{because}" if hits else ""
    return Check("", f"{name}({pattern})", len(hits), why, place=place)


def unique_keys(table: Table, contract: Contract) -> list[UniqueKey]:
    """The keys that the contract asks to be unique, of which rows are to be given."""
    keys = [UniqueKey(table, [column], contract.place("columns", rule, "unique"))
            for rule, column, spec in contract.columns_of(table.schema) if spec.unique]  # fmt: skip
    if together := contract.schema.unique:
        keys.append(UniqueKey(table, list(together), contract.place("unique")))
    rules = contract.rules
    if rules.duplicates is not None:
        columns = flat_columns(table) or list(table.schema)
        keys.append(UniqueKey(table, columns, contract.place("table", "duplicates"), rules.duplicates))
    return keys


def flat_columns(table: Table) -> list[str]:
    """The columns whose values can be compared: all but nested ones."""
    return [name for name, kind in table.schema.items() if not kind.is_nested() and kind != pl.Object]


def of_profile(columns: Sequence[ColumnProfile], contract: Contract) -> list[Check]:
    """Shares of nulls, and columns that are constant; a column that is absent fails."""
    rules, known, found = contract.rules, {column.name: column for column in columns}, []
    for name, most in rules.nulls.items():
        check, column = Check(name, f"nulls({most:g})", place=contract.place("table", "nulls", name)), known.get(name)
        share = column.nulls / column.rows if column and column.rows else 0.0
        if column is None or share > most:
            check.failed = column.nulls if column else 1
            check.why = f"{share:.3g} of the rows are null" if column else "the column is missing"
        found.append(check)
    for index, name in enumerate(rules.not_constant):
        place = contract.place("table", "not-constant", index) or contract.place("table", "not-constant")
        check, column = Check(name, "not_constant", place=place), known.get(name)
        if column is None:
            check.failed, check.why = 1, "the column is missing"
        elif column.distinct is None:
            check.failed, check.why = 1, f"is {column.type}, whose values are not compared"
        elif column.rows > 1 and column.distinct - bool(column.nulls) < 2:
            check.failed, check.why = (
                1,
                "every row has the same value" if column.distinct > bool(column.nulls) else ("every row is null"),
            )
        found.append(check)
    return found


def number_of_rows(contract: Contract, rows: int) -> list[Check]:
    """Whether there are enough and not too many; nothing without a contract."""
    asked = contract.rules.rows
    if not contract.name:
        return []
    wrong = rows < asked.min or (asked.max is not None and rows > asked.max)
    name = f"rows({asked.min}, {'∞' if asked.max is None else asked.max})"
    return [Check("", name, int(wrong), f"there are {rows:,}" if wrong else "", place=contract.place("table", "rows"))]


def sets_of_values(table: Table, contract: Contract) -> list[Check]:
    """Columns that must have each value of a list; values that are not in it are counted too, as in pandera."""
    return [
        _values_equal(table, column, test, contract.place_of_check(rule, "unique_values_eq"))
        for rule, column, spec in contract.columns_of(table.schema)
        for test in spec.checks
        if test.name == "unique_values_eq"
    ]


def of_whole_table(table: Table, items: Sequence[RowCheck]) -> list[Check]:
    """Checks that are one boolean of the whole table."""
    for item in items:
        value = table.frame.select(item.passes).collect(engine="streaming").item()
        if not value:  # null: of no values there is no average
            item.check.failed, item.check.why = 1, "is false" if value is False else "is null: there are no values"
    return [item.check for item in items]


def freshness(contract: Contract, newest: object, as_of: datetime) -> list[Check]:
    """Whether the newest row is young enough; `newest` is the greatest value of the rule's column, None without one."""
    rule = contract.rules.freshness
    if rule is None:
        return []
    place = contract.place("table", "freshness")
    check = Check(rule.column, f"freshness({span_in_words(rule.max_age)})", place=place)
    age = age_of(newest, as_of)
    if age is None:
        check.failed, check.why = 1, "the data has no such column of times"
    elif age > rule.max_age:
        check.failed, check.why = 1, f"the newest row is {span_in_words(age)} older than {as_of:%Y-%m-%d %H:%M}"
    elif age < -_FUTURE:
        check.failed, check.why = 1, f"the newest row is {span_in_words(-age)} after {as_of:%Y-%m-%d %H:%M}"
    return [check]


def personal(found: Sequence[Personal], contract: Contract) -> list[Check]:
    """Columns that look personal and are not allowed."""
    allowed = set(contract.rules.personal_data.allow)
    place = contract.place("table", "personal-data")
    return [Check(p.column, "personal_data", 1, f"looks personal: {p.why}", place=place) for p in found
            if p.column not in allowed]  # fmt: skip


def newest_of(table: Table, column: str) -> object:
    """The greatest value of a column; None without such a column."""
    if column not in table.schema:
        return None
    newest: object = python_rows(table.frame.select(pl.col(column).max()).collect(engine="streaming"))[0][0]
    return newest


def age_of(newest: object, as_of: datetime) -> timedelta | None:
    """How much older than `as_of` a time is; None if it is not a time. Texts are ISO 8601; without a zone it is UTC."""
    if isinstance(newest, str):
        try:
            newest = datetime.fromisoformat(newest.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(newest, date) and not isinstance(newest, datetime):
        newest = datetime(newest.year, newest.month, newest.day)
    if not isinstance(newest, datetime):
        return None
    return as_of - (newest if newest.tzinfo else newest.replace(tzinfo=timezone.utc))


def _values_equal(table: Table, column: str, test: PanderaCheck, place: Place | None) -> Check:
    if (kind := table.schema[column]).is_nested():
        what = f"Cannot run the check unique_values_eq of the column {column}"
        raise BadInput(what, why=f"Its values are {kind}", fix="Correct the contract", place=place)
    asked: set[Any] = set((test.statistics or {})["values"])
    values = table.frame.select(pl.col(column).drop_nulls().unique()).collect(engine="streaming")
    actual = set(values.to_series().to_list())
    missing, extra = (sorted(map(str, one)) for one in (asked - actual, actual - asked))
    parts = [f"{what}: {', '.join(values[:10])}" for what, values in (("missing", missing), ("not asked for", extra))
             if values]  # fmt: skip
    return Check(column, "unique_values_eq", len(missing) + len(extra), "; ".join(parts), place=place)
