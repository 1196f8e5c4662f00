"""The data contract: pandera's own YAML of a polars schema, and what pandera has no words for under `table`.

A contract without `table` is what `pandera.io.polars_io.to_yaml` writes, and `polars_io.from_yaml` reads every contract
(it leaves `table` alone). Where pandera passes over a misspelt key in silence, here it is refused, and so is one
without a value, and what pandera can and a contract does not do.

```yaml
schema_type: polars_dataframe
strict: true                            # no other columns
unique: [flight, time_hour]             # together they name a row
columns:
  distance: {dtype: Int64, in_range: {min_value: 1, max_value: 6000}}
  tailnum: {dtype: String, nullable: true, str_matches: "^N"}
table:
  rows: {min: 20000}
  freshness: {column: time_hour, max-age: 35d}
  forbidden: ["passenger_*"]
  personal-data: {allow: [phone_model]}
  checks: {departs-before-arrival: "sched_dep < sched_arr"}     # SQL; false fails, null passes
  foreign-keys: [{columns: carrier, table: "store:data/airlines.parquet"}]
  training:                             # a table that a model is trained on
    label: late
    min-class-share: 0.05
    known-later: ["arr_*"]
    held-out: {data: "store:test/*.parquet", columns: [flight, time_hour]}
  serving: {data: online.parquet, keys: [flight]}               # no skew between training and serving
  drift: {distance: {psi: 0.1}, carrier: {new-categories: false}}
```

`rules.py` says what each of these means.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import polars as pl
from pandera.io import polars_io
from pandera.polars import Check, Column, DataFrameSchema
from pydantic import BaseModel, ValidationError

from ..errors import BadInput, Mistakes, Place
from ..inputs import NO_VALUE
from ..misfits import misfit
from ..suggest import did_you_mean
from ..yaml_io import read_text, read_yaml
from .rules import ColumnRules, ContractFile, TableRules
from .tables import named_zone

CHECKS = (
    "equal_to", "eq", "not_equal_to", "ne", "greater_than", "gt", "greater_than_or_equal_to", "ge", "less_than", "lt",
    "less_than_or_equal_to", "le", "in_range", "between", "isin", "notin", "str_matches", "str_contains",
    "str_startswith", "str_endswith", "str_length", "unique_values_eq",
)  # fmt: skip
"""pandera's built-in checks of polars columns."""
_OF_LISTS = {"isin", "notin", "unique_values_eq"}
_ALIASES = {"equal_to": "eq", "not_equal_to": "ne", "greater_than": "gt", "greater_than_or_equal_to": "ge",
            "less_than": "lt", "less_than_or_equal_to": "le", "in_range": "between"}  # fmt: skip
_Model = TypeVar("_Model", bound=BaseModel)
Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Contract:
    """A contract that was read.

    Attributes:
        name: the file's name, for messages; "" without a file.
        schema: pandera's schema.
        rules: of the table.
        lines: the line of each key, by path.
        text: the file's content.
    """

    name: str = ""
    schema: DataFrameSchema = field(default_factory=lambda: DataFrameSchema({}))
    rules: TableRules = field(default_factory=lambda: TableRules.model_construct())
    lines: Mapping[Path_, int] = field(default_factory=dict)
    text: str = ""

    def place(self, *path: str | int) -> Place | None:
        """Where a rule stands, or the nearest key above it; None without a file."""
        while path and path not in self.lines:
            path = path[:-1]
        return Place(self.name, self.lines.get(path, 1)) if self.name else None

    def place_of_check(self, rule: str, name: str) -> Place | None:
        """Where a column's check stands: under its name, an alias of it, or `checks`."""
        for path in ((name,), (_ALIASES.get(name, name),), ("checks", name), ("checks",)):
            if ("columns", rule, *path) in self.lines:
                return self.place("columns", rule, *path)
        return self.place("columns", rule)

    def columns_of(self, schema: Collection[str]) -> Iterator[tuple[str, str, Column]]:
        """The contract's columns that a table has: (name or pattern in the contract, column, pandera's column)."""
        for rule, spec in self.schema.columns.items():
            if spec.regex:
                yield from ((rule, column, spec) for column in schema if re.match(rule, column))
            elif rule in schema:
                yield rule, rule, spec

    def types(self) -> dict[str, pl.DataType]:
        """The types of columns that are named (not by a pattern)."""
        columns = self.schema.columns.items()
        return {name: column.dtype.type for name, column in columns if column.dtype is not None and not column.regex}


def has_type(spec: Column, actual: pl.DataType) -> bool:
    """Whether a column of a table has the type that the contract gives it, if it gives one."""
    if spec.dtype is None:
        return True
    asked = spec.dtype.type  # pandera does not know integers of 128 bits
    return bool(spec.dtype.check(actual)) or asked == actual or named_zone(asked) == actual


def read_contract(path: Path, name: str) -> Contract:
    """Read and check a contract.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        BadInput: it does not exist, or is wrong; with its line.
    """
    text = read_text(path, name, "Correct `contract`, or write one with `mlops infer-schema`")
    values, places = read_yaml(text, name)
    lines = {path: line for path, (line, _) in places.items()}
    if not isinstance(values, dict):
        raise BadInput(f"The contract {name} is not a mapping", fix="Start with `columns:`", place=Place(name, 1))
    draft, mistakes = Contract(name, lines=lines), Mistakes()
    document = _valid(ContractFile, values, (), draft)
    columns = {}
    for column, rules in document.columns.items():
        with mistakes.collected():
            columns[column] = _column(column, rules, draft)
    mistakes.refuse()
    schema = DataFrameSchema(
        columns, strict=document.strict, ordered=document.ordered, unique=document.unique, name=document.name
    )
    return Contract(name, schema, document.table, lines, text)


def _valid(model: type[_Model], values: Mapping[Any, Any], path: Path_, draft: Contract) -> _Model:
    mistakes = Mistakes()
    try:
        return model.model_validate({str(key): value for key, value in values.items()})
    except ValidationError as error:
        for one in error.errors():
            where, fix = (*path, *(part for part in one["loc"] if part != "[key]")), ""
            if one["type"] == "extra_forbidden" and len(one["loc"]) == 1:
                fix = did_you_mean(where[-1], [*model.model_fields, *(CHECKS if path else ())], "Known here: {}")
            mistakes.add(_mistake(where, draft, misfit(".".join(map(str, where)), one), fix=fix))
    mistakes.refuse()
    raise AssertionError("An error of pydantic tells at least one mistake")


def _mistake(path: Path_, draft: Contract, what: str, why: object = "", fix: str = "") -> BadInput:
    text = str(why).split("\n")[0][:300]
    return BadInput(f"The contract's {what}", why=text[:1].upper() + text[1:], fix=fix, place=draft.place(*path))


def _column(name: str, values: Mapping[str, Any], draft: Contract) -> Column:
    """A column of pandera's schema.

    Its checks are made here: pandera 0.35 imports pandas, which is not installed here, to read those of a column that
    has a type, and passes over those beside `checks`.
    """
    path = ("columns", name)
    rules = _valid(ColumnRules, {k: v for k, v in values.items() if k not in CHECKS}, path, draft)
    try:
        kind = _deserialize({"columns": {name: {"dtype": rules.dtype}}}).columns[name].dtype
        if rules.regex:
            re.compile(name)
    except Exception as error:  # of pandera, polars or re
        fix = "See pandera's documentation of polars schemas"
        raise _mistake(path, draft, f"column {name} cannot be understood", error, fix) from error
    column = Column(kind, nullable=rules.nullable, unique=rules.unique, required=rules.required, regex=rules.regex)
    column.checks = [
        _check(*check, kind.type if kind else None, draft) for check in _checks(values, rules, path, draft)
    ]
    return column


def _checks(
    values: Mapping[str, Any], rules: ColumnRules, path: Path_, draft: Contract
) -> Iterator[tuple[Path_, str, Any]]:
    """The place, name and arguments of each check: a key of the column, or of `checks`, or an item of its list."""
    yield from (((*path, name), name, value) for name, value in values.items() if name in CHECKS)
    if isinstance(rules.checks, Mapping):
        yield from (((*path, "checks", name), str(name), value) for name, value in rules.checks.items())
        return
    for index, item in enumerate(rules.checks):
        where = (*path, "checks", index)
        try:
            yield where, item["options"]["check_name"], item
        except (TypeError, LookupError):
            fix = "Write `checks: {greater_than: 0}`, or pandera's `[{value: 0, options: {check_name: greater_than}}]`"
            what = f"`{'.'.join(map(str, where))}` has no `options.check_name`"
            raise _mistake(where, draft, what, fix=fix) from None


def _check(path: Path_, name: str, value: Any, kind: Any, draft: Contract) -> Check:
    where = ".".join(map(str, path))
    if name not in CHECKS:
        fix = did_you_mean(name, CHECKS, "Known here: {}")
        raise _mistake(path, draft, f"`{where}` is the unknown check {name!r}", fix=fix)
    if value is None:
        raise _mistake(path, draft, f"`{where}` {NO_VALUE}")
    given = dict(value) if isinstance(value, Mapping) else {"value": value}
    if isinstance(given.get("options"), Mapping):
        given |= given.pop("options")
    error, neutral = given.pop("error", None), {"check_name": name, "ignore_na": True, "raise_warning": False}
    parameters = inspect.signature(getattr(Check, name)).parameters.values()
    known = ["value", *(one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))]
    for key, argument in given.items():
        if key in neutral and argument != neutral[key]:  # it would be read and ignored
            raise _mistake((*path, key), draft, f"`{where}.{key}` must be {str(neutral[key]).lower()}")
        if key not in (*known, *neutral):
            fix = did_you_mean(key, known, "Known here: {}")
            raise _mistake((*path, key), draft, f"`{where}.{key}` is unknown", fix=fix)
    arguments = {k: _limits(v, kind) for k, v in given.items() if k in known and v is not None}
    if name in _OF_LISTS and not all(isinstance(v, list) and v for v in arguments.values()):
        raise _mistake(path, draft, f"`{where}` must be a list of values")
    try:
        check: Check = getattr(Check, name)(*[arguments.pop("value")] if "value" in arguments else [], **arguments)
    except Exception as cause:  # of pandera or re
        fix = "See pandera's documentation of its checks"
        raise _mistake(path, draft, f"`{where}` cannot be understood", cause, fix) from cause
    check.error = error or check.error
    return check


def _deserialize(values: dict[str, Any]) -> DataFrameSchema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not know integers of 128 bits
        schema: DataFrameSchema = polars_io.deserialize_schema(values)  # type: ignore[no-untyped-call]
    return schema


def _limits(value: Any, kind: Any) -> Any:
    """A check's arguments with texts as times where the column holds times, in its time zone."""
    if isinstance(value, dict):
        return {k: _limits(v, kind) for k, v in value.items()}
    if isinstance(value, list):
        if kind in (pl.Float32, pl.Float64):  # polars' is_in compares no numbers of different types
            return [float(v) if type(v) is int else v for v in value]
        return [_limits(v, kind) for v in value]
    if isinstance(value, str) and kind in (pl.Datetime, pl.Date):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime) and isinstance(kind, pl.Datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        if kind == pl.Date:
            return value.date()
        if isinstance(kind, pl.Datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            zone = getattr(named_zone(kind), "time_zone", None)
            # polars compares times of one zone only
            return aware.astimezone(ZoneInfo(zone)) if zone else aware.replace(tzinfo=None)
    return value
