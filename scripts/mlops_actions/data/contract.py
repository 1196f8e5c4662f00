"""The data contract: pandera's own YAML of a polars schema, and what pandera has no words for under `table`.

A contract without `table` is what `pandera.io.polars_io.to_yaml` writes, and `polars_io.from_yaml` reads every contract
(it leaves `table` alone). Where pandera passes over a misspelt key in silence, here it is refused.

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

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from pandera.errors import SchemaDefinitionError
from pandera.io import polars_io
from pandera.polars import Column, DataFrameSchema
from pydantic import ValidationError

from ..errors import BadInput, Place
from ..inputs import NO_VALUE
from ..misfits import misfit
from ..suggest import did_you_mean
from ..yaml_io import read_text, read_yaml
from .rules import TableRules
from .tables import named_zone

CHECKS = (
    "equal_to", "eq", "not_equal_to", "ne", "greater_than", "gt", "greater_than_or_equal_to", "ge", "less_than", "lt",
    "less_than_or_equal_to", "le", "in_range", "between", "isin", "notin", "str_matches", "str_contains",
    "str_startswith", "str_endswith", "str_length", "unique_values_eq",
)  # fmt: skip
"""pandera's built-in checks of polars columns."""
_FRAME = ("schema_type", "version", "api", "name", "title", "description", "columns", "strict", "ordered", "unique")
_COLUMN = ("title", "description", "dtype", "nullable", "required", "regex", "unique", "checks")
_CHANGES = ("coerce", "default", "drop_invalid_rows", "add_missing_columns")
"""Keys of pandera's that change data. A contract only looks."""
_IGNORED = ("report_duplicates", "unique_column_names", "index", "dtype")
_FLAGS = ("nullable", "required", "regex", "strict", "ordered")
"""Keys that are true or false; older panderas write null for others that are not set, such as `unique` of the table."""
_OF_LISTS = {"isin", "notin", "unique_values_eq"}
_ALIASES = {"equal_to": "eq", "not_equal_to": "ne", "greater_than": "gt", "greater_than_or_equal_to": "ge",
            "less_than": "lt", "less_than_or_equal_to": "le", "in_range": "between"}  # fmt: skip
_MISFITS = (TypeError, ValueError, AttributeError, SchemaDefinitionError)
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
    rules: TableRules = field(default_factory=lambda: TableRules.model_validate({}))
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
    draft = Contract(name, lines=lines)
    _check_keys(values, draft)
    rules = _rules(values.pop("table", {}), draft)
    return Contract(name, _schema(values, draft), rules, lines, text)


def _check_keys(values: Mapping[str, Any], draft: Contract) -> None:
    _known(values, (*_FRAME, *_IGNORED, "table"), (), draft)
    kind = values.get("schema_type", "polars_dataframe")
    if kind != "polars_dataframe":
        raise BadInput(
            f"The contract is of the schema type {kind!r}", fix="Write `schema_type: polars_dataframe`",
            place=draft.place("schema_type"),
        )  # fmt: skip
    columns = values.get("columns", {})
    if not isinstance(columns, Mapping):
        raise BadInput("`columns` is not a mapping of names", place=draft.place("columns"))
    for column, rules in columns.items():
        if not isinstance(rules, Mapping):
            place = draft.place("columns", column)
            raise BadInput(f"The column {column} has no rules", fix="Write `{}` for none", place=place)
        _known(rules, (*_COLUMN, *_IGNORED, *CHECKS), ("columns", column), draft)
        if isinstance(rules.get("checks"), Mapping):
            _known(rules["checks"], CHECKS, ("columns", column, "checks"), draft)


def _known(values: Mapping[str, Any], known: Sequence[str], path: Path_, draft: Contract) -> None:
    for key, value in values.items():
        place = draft.place(*path, key)
        if value is None and (key in CHECKS or key in _FLAGS or (key == "unique" and path)):
            raise BadInput(f"The contract's `{'.'.join(map(str, (*path, key)))}` {NO_VALUE}", place=place)
        if key in known or (key in _CHANGES and not value):
            continue
        if key in _CHANGES:
            raise BadInput(f"`{key}` changes data, and a contract only looks at it", fix="Take it out", place=place)
        fix = did_you_mean(key, known, "Known here: {}")
        raise BadInput(f"The contract has the unknown key `{'.'.join(map(str, (*path, key)))}`", fix=fix, place=place)


def _rules(values: Any, draft: Contract) -> TableRules:
    try:
        return TableRules.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ("table", *first["loc"])
        text = f"The contract's {misfit('.'.join(map(str, path)), first)}"
        raise BadInput(text, fix="Correct it", place=draft.place(*path)) from None


def _schema(values: dict[str, Any], draft: Contract) -> DataFrameSchema:
    """pandera's schema, read in two halves.

    pandera 0.35 imports pandas, which is not installed here, to read a check of a column that has a type: so types
    are read without checks, and checks without types.
    """
    given = {str(name): dict(rules) for name, rules in values.get("columns", {}).items()}
    try:
        columns = _columns(given)
    except _MISFITS:
        for name, rules in given.items():  # which one it is
            _column(name, rules, draft)
        raise
    unique = values.get("unique")
    return DataFrameSchema(
        columns,
        strict=bool(values.get("strict", False)),
        ordered=bool(values.get("ordered", False)),
        unique=[unique] if isinstance(unique, str) else unique,
        name=values.get("name"),
    )


def _column(name: str, rules: dict[str, Any], draft: Contract) -> None:
    try:
        _columns({name: rules})
    except _MISFITS as error:
        raise BadInput(
            f"The contract's column {name} cannot be understood", why=str(error).split("\n")[0][:300],
            fix="See pandera's documentation of polars schemas", place=draft.place("columns", name),
        ) from error  # fmt: skip


def _columns(given: Mapping[str, dict[str, Any]]) -> dict[str, Column]:
    bare = {name: {k: v for k, v in rules.items() if k in _COLUMN and k != "checks"} for name, rules in given.items()}
    columns: dict[str, Column] = _deserialize({"columns": bare}).columns
    checks = {}
    for name, rules in given.items():
        for check in _OF_LISTS & rules.keys():
            if not isinstance(rules[check], list | dict):
                raise ValueError(f"{check} takes a list")
        dtype = columns[name].dtype
        kind = dtype.type if dtype is not None else None
        checks[name] = {k: _limits(v, kind) for k, v in rules.items() if k in CHECKS or k == "checks"}
    for name, column in _deserialize({"columns": checks}).columns.items():
        columns[name].checks = column.checks
    return columns


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
