"""A first contract from data: what holds of these rows, in pandera's YAML, with comments that say what was seen."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import date, datetime, timezone
from typing import Any, Literal

import polars as pl

from ..errors import BadInput
from .checks import flat_columns
from .keys import UniqueKey
from .personal import Sampler
from .profile import ColumnProfile, Profile
from .sources import DataSource
from .tables import Table, open_table
from .validate import one_pass

Strictness = Literal["loose", "normal", "strict"]
"""`loose`: names and types. `normal`: nulls, uniqueness, few values, and ranges that leave room. `strict`: ranges as
they were seen, and no other columns."""
FEW = 20
"""Texts and whole numbers of a column with at most so many values are listed."""
_INTEGERS: dict[Any, tuple[int, int]] = {
    pl.Int8: (-(2**7), 2**7 - 1), pl.Int16: (-(2**15), 2**15 - 1), pl.Int32: (-(2**31), 2**31 - 1),
    pl.Int64: (-(2**63), 2**63 - 1), pl.UInt8: (0, 2**8 - 1), pl.UInt16: (0, 2**16 - 1), pl.UInt32: (0, 2**32 - 1),
    pl.UInt64: (0, 2**64 - 1),
}  # fmt: skip
_REPEATED = 20  # … if each is there so many times on average
_WRITTEN = (pl.String, pl.Boolean, pl.Date, pl.Datetime, pl.Time, pl.Duration, pl.Categorical)
_HEAD = """\
# What {names} must be, inferred from {rows:,} rows. Read it, tighten it, and delete what does not hold for ever:
# what was seen once is not a rule. The format is pandera's YAML of a polars schema; `table` has what pandera lacks.
schema_type: polars_dataframe
strict: {strict}{why}
columns:
"""


def infer(sources: Sequence[DataSource], strictness: Strictness = "normal") -> str:
    """A contract that the data passes, as YAML. Values of columns that look personal are not in it.

    Raises:
        BadInput: a file cannot be read, or there are no rows.
    """
    table = open_table(sources)
    profile, sampler = Profile(table.schema), Sampler(table.schema)
    rows = one_pass(table, [profile, sampler])
    if not rows:
        raise BadInput(f"The data has no rows: {sources[0].name}", fix="Give data to infer from")
    columns = profile.columns()
    personal = {one.column: one.why for one in sampler.judge()}
    unique, duplicates = _unique(table, columns) if strictness != "loose" else (set(), None)
    values = _few_values(table, [c for c in columns if c.name not in personal]) if strictness != "loose" else {}
    names = sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"
    why = "" if strictness == "strict" else "  # true: no other columns"
    text = _HEAD.format(names=names, rows=rows, strict=str(strictness == "strict").lower(), why=why)
    for column in columns:
        text += _column(column, strictness, column.name in unique, values.get(column.name), personal.get(column.name))
    return text + _rules(columns, rows, strictness, list(personal), duplicates)


def _column(
    column: ColumnProfile, strictness: Strictness, unique: bool, values: list[Any] | None, personal: str | None
) -> str:
    rules, seen = [], []
    kind = column.type
    if kind.is_integer() or kind.is_float() or kind in _WRITTEN:
        rules.append(f"dtype: {_text(str(kind))}")
    else:
        seen.append(f"{kind}, which pandera's YAML has no name for")
    nulls = column.nulls or strictness == "loose" or (kind.is_float() and _has_nan(column))
    if nulls:
        rules.append("nullable: true")
    if column.nulls == column.rows:
        seen.append("every row is null: is it needed?")
    elif column.nulls:
        seen.append(f"{column.nulls / column.rows:.2g} of the rows are null")
    if unique:
        rules.append("unique: true")
    elif column.distinct == 1 and not column.nulls:
        seen.append("constant: every row has the same value")
    elif column.distinct is not None:
        count = f"{column.distinct:,}" if column.exact else f"about {float(f'{column.distinct:.2g}'):,.0f}"
        seen.append(f"{count} values")
    if personal:
        seen.append(f"looks personal ({personal}): drop it, or allow it below")
    elif values is not None:
        rules.append(f"isin: [{', '.join(_text(value) for value in values)}]")
    elif strictness != "loose" and (limits := _limits(column, strictness, unique)):
        rules.append(f"in_range: {{min_value: {_text(limits[0])}, max_value: {_text(limits[1])}}}")
        if strictness == "normal":
            seen.append(f"from {_rounded(column.least)} to {_rounded(column.greatest)}")
    comment = f"  # {'; '.join(seen)}" if seen else ""
    return f"  {_text(column.name)}: {{{', '.join(rules)}}}{' '.join(comment.splitlines())}\n"


def _rules(
    columns: Sequence[ColumnProfile], rows: int, strictness: Strictness, personal: list[str], duplicates: int | None
) -> str:
    least = {"loose": 1, "normal": max(1, rows // 2), "strict": max(1, rows * 9 // 10)}[strictness]
    lines = ["table:", f"  rows: {{min: {least}}}  # there were {rows:,}"]
    if strictness != "loose":
        lines += _wholes(columns, rows, strictness, duplicates)
    if time := next((c for c in columns if c.type in (pl.Date, pl.Datetime)), None):
        lines.append(f"  # freshness: {{column: {_text(time.name)}, max-age: 7d}}  # how old the newest row may be")
    if personal:
        lines.append(f"  # personal-data: {{allow: [{', '.join(map(_text, personal))}]}}  # if they are harmless")
    else:
        lines.append('  # forbidden: ["*_email", "passport*"]')
    lines += [
        '  # checks: {ends-after-start: "started <= ended OR ended IS NULL"}  # SQL of a row; false fails',
        "  # foreign-keys: [{columns: carrier, table: airlines.csv}]  # every value is in another table",
        "  # training: {label: late, min-class-share: 0.05}  # leakage, class balance, rows of the test set",
    ]
    return "\n".join(lines) + "\n"


def _wholes(columns: Sequence[ColumnProfile], rows: int, strictness: Strictness, duplicates: int | None) -> list[str]:
    """Rules of what goes wrong in a whole column or table: it is null, constant, or its rows are there twice."""
    lines = []
    nulls = [column for column in columns if 0 < column.nulls < column.rows]
    if nulls:
        lines.append("  nulls:  # the largest share of rows that may be null")
        lines += [f"    {_text(c.name)}: {_share(c.nulls / c.rows, strictness)}" for c in nulls]
    if duplicates is not None and duplicates <= rows / 2:
        share = _share(duplicates / rows, strictness)
        lines.append(f"  duplicates: {share}  # the largest share of rows that may be the same as another one")
    # months and weekdays may be the same in all rows of another file, and flags too
    varied = [
        c.name for c in columns
        if c.distinct and c.distinct - bool(c.nulls) > 1 and (c.type == pl.String or c.type.is_numeric())
        and not (c.type.is_integer() and c.distinct <= FEW)
    ]  # fmt: skip
    if varied:
        lines.append(f"  not-constant: [{', '.join(map(_text, varied))}]")
    return lines


def _share(seen: float, strictness: Strictness) -> float:
    """A limit for a share: what was seen, or with room below 1."""
    if strictness == "strict":
        return math.ceil(seen * 10_000) / 10_000
    return math.ceil(min(2 * seen + 0.05, (1 + seen) / 2) * 10_000) / 10_000


def _unique(table: Table, columns: Sequence[ColumnProfile]) -> tuple[set[str], int | None]:
    """Columns of which every value is there once (floats are not keys); without any, how many rows are there twice."""
    likely = [
        c for c in columns
        if c.rows > 1 and not c.type.is_float() and c.distinct and c.distinct > 0.8 * c.rows and not c.nulls
    ]  # fmt: skip
    keys = [UniqueKey(table, [column.name], None) for column in likely]
    flat = flat_columns(table)
    whole = UniqueKey(table, flat, None, 1.0)
    one_pass(table, [*keys, *([whole] if flat else [])])
    unique = {column.name for column, key in zip(likely, keys) if not key.results()[0].failed}
    if unique or not flat:
        return unique, None
    whole.results()
    return unique, whole.shared


def _few_values(table: Table, columns: Sequence[ColumnProfile]) -> dict[str, list[Any]]:
    few = [
        c.name for c in columns
        if (c.type == pl.String or c.type.is_integer()) and c.exact and c.distinct
        and c.distinct <= FEW and c.distinct * _REPEATED <= c.rows and c.nulls < c.rows
        and not (c.type.is_integer() and (_contiguous(c) or _years(c)))  # a range says it, or the next year breaks it
    ]  # fmt: skip
    values = [pl.col(name).drop_nulls().unique().sort().implode() for name in few]
    return dict(zip(few, table.frame.select(values).collect(engine="streaming").row(0) if few else []))


def _limits(column: ColumnProfile, strictness: Strictness, unique: bool) -> tuple[Any, Any] | None:
    """The least and greatest value; leaving room, unless strict, to round numbers that do not cross zero."""
    low, high = column.least, column.greatest
    numeric = column.type.is_integer() or column.type.is_float()
    if low is None or not (numeric or column.type == pl.Datetime or column.type == pl.Date):
        return None
    if not numeric and (isinstance(low, str) or isinstance(high, str)):
        return None  # a year that Python does not have
    if isinstance(low, float) and (_has_nan(column) or not (math.isfinite(low) and math.isfinite(high))):
        return None
    if strictness == "strict":
        return low, high
    if not numeric or unique or _years(column):  # later rows have later times and numbers
        return None
    room = (high - low) / 2 or abs(high) / 2 or 1
    step = 10.0 ** math.floor(math.log10(room))
    least, greatest = math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step
    least, greatest = (0 if low >= 0 else least), (0 if high <= 0 else greatest)
    if column.type.is_integer():
        if _contiguous(column):  # months, weekdays, flags
            return low, high
        first, last = _INTEGERS.get(column.type.base_type(), (-(2**127), 2**127 - 1))
        return max(int(least), first), min(int(greatest), last)
    return float(f"{least:.6g}"), float(f"{greatest:.6g}")


def _contiguous(column: ColumnProfile) -> bool:
    """Whether a column has few whole numbers, and each between its least and greatest, time and again."""
    if not (column.exact and column.distinct) or column.distinct * _REPEATED > column.rows:
        return False
    return column.distinct <= FEW and column.distinct == column.greatest - column.least + 1 + bool(column.nulls)


def _years(column: ColumnProfile) -> bool:
    """Whether all values are whole numbers that are years of our time, under a name that says so."""
    named = re.search(r"(?:^|_|\b)(?:year|yr)(?:$|_|\b)", column.name, re.IGNORECASE)
    return (
        bool(named) and column.type.is_integer() and 1800 <= int(column.least or 0) <= int(column.greatest or 0) < 2200
    )


def _has_nan(column: ColumnProfile) -> bool:
    return column.mean is not None and math.isnan(column.mean)


def _rounded(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(value: object) -> str:
    """A value as YAML; a time as YAML's own."""
    if isinstance(value, datetime):  # the contract takes a time without a zone for UTC
        moment = value.astimezone(timezone.utc) if value.tzinfo else value
        return f"{moment:%Y}".zfill(4) + f"{moment:-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    plain = text.replace("_", "a").isalnum() and text.isascii() and text[0].isalpha()
    words = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
    if plain and text.lower() not in words:
        return text
    # YAML takes more than JSON does for the end of a line
    return "".join(
        char if char.isprintable() else f"\\U{ord(char):08x}" for char in json.dumps(text, ensure_ascii=False)
    )
