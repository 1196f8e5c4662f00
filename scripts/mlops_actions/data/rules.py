"""What may stand in a contract: pandera's keys, and under `table` the rules that pandera has no words for.

Whatever is written here asks for something: a key that would be read and ignored is refused. Nothing here needs polars
or pandera.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..inputs import Written, kebab
from ..yaml_io import load_yaml

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)")
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: object) -> timedelta:
    """`90min`, `12h`, `35d` or `2w` as a duration.

    Raises:
        ValueError: it is not one.
    """
    match = _DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError("must be a number with min, h, d or w, such as 36h or 35d")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _once(names: list[str]) -> list[str]:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"has {twice} twice")
    return names


Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_once)]
"""One name, or a list of them."""


Share = Annotated[float, Field(ge=0, le=1)]


class Rule(Written):
    """What asks for at least one thing, and has no infinite limit."""

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="after")
    def _asks(self) -> Rule:
        if not self.model_fields_set:
            raise ValueError(f"must not be empty; it takes {', '.join(map(kebab, type(self).model_fields))}")
        return self


class Rows(Rule):
    """How many rows there must be."""

    min: int = Field(1, ge=0)
    max: int | None = None

    @model_validator(mode="after")
    def _possible(self) -> Rows:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"must have a max of at least its min, {self.min}")
        return self


class Freshness(Rule):
    """How old the newest row may be."""

    column: str
    max_age: timedelta

    @field_validator("max_age", mode="before")
    @classmethod
    def _duration(cls, value: object) -> timedelta:
        return parse_duration(value)


class PersonalData(Rule):
    """Columns that look personal and are known to be harmless."""

    allow: list[str] = Field([], min_length=1)


class ForeignKey(Rule):
    """Every value of `columns` (a row with a null among them is left out, as in SQL) is in another table.

    `table` has that table's files, as `data` of the action; `keys` its columns, by default of the same names.
    """

    columns: Names
    table: Names
    keys: Names = Field([])


class HeldOut(Rule):
    """Rows that are kept for testing and must not be here: files, and the columns that tell rows apart (all)."""

    data: Names
    columns: Names = Field([])


class Training(Rule):
    """What is asked of a table that a model is trained on (data rules of the ML Test Score).

    Attributes:
        label: the column that the model predicts.
        features: its inputs; by default all other columns.
        max_power: a feature that alone predicts the label better leaks it. 0 is no better than a guess, 1 is perfect.
        min_class_share: the least share of rows that a class of the label may have.
        prediction_time: the column of the time when the prediction is asked for.
        known_at: features, each with the column of the time when its value became known: not after the prediction.
        known_later: columns, by names or patterns, whose values are only known after the prediction: must be absent.
        held_out: rows of the test set.
    """

    label: str = Field("", min_length=1)
    features: Names = Field([])
    max_power: float = Field(0.95, gt=0, le=1)
    min_class_share: float = Field(0.0, ge=0, le=0.5)
    prediction_time: str = Field("", min_length=1)
    known_at: dict[str, str] = Field({}, min_length=1)
    known_later: Names = Field([])
    held_out: HeldOut | None = None

    @model_validator(mode="after")
    def _together(self) -> Training:
        for name, needed in (("features", "label"), ("max_power", "label"), ("min_class_share", "label"),
                             ("known_at", "prediction_time"), ("prediction_time", "known_at")):  # fmt: skip
            if {name, needed} & self.model_fields_set == {name}:
                raise ValueError(f"has `{kebab(name)}`, which needs `{kebab(needed)}`")
        return self


class Serving(Rule):
    """What the online store gave for the same keys: train/serve skew is a row whose values differ.

    Attributes:
        data: the files of what was served.
        keys: the columns that name a row.
        columns: which to compare; by default all that both have.
        tolerance: numbers that differ by no more than this share of the larger one are equal.
        max_share: the share of rows that may differ.
    """

    data: Names
    keys: Names
    columns: Names = Field([])
    tolerance: float = Field(1e-6, ge=0)
    max_share: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _apart(self) -> Serving:
        if both := [name for name in self.columns if name in self.keys]:
            raise ValueError(f"has {both[0]} among its `keys` and its `columns`")
        return self


class DriftLimits(Rule):
    """What a column's distance from the reference may be, instead of the one limit of all columns.

    Attributes:
        psi, js, ks: limits of the population stability index, the Jensen-Shannon distance (0 to 1) and the
            Kolmogorov-Smirnov statistic (0 to 1).
        new_categories, vanished_categories: False: a category that the reference lacks, or that is gone, is drift.
    """

    psi: float | None = Field(None, gt=0)
    js: float | None = Field(None, gt=0, le=1)
    ks: float | None = Field(None, gt=0, le=1)
    new_categories: bool = True
    vanished_categories: bool = True


class TableRules(Rule):
    """What is asked of the table as a whole.

    Attributes:
        nulls: the largest share of rows in which a column may be null, by column.
        duplicates: the largest share of rows that may be the same as another row.
        not_constant: columns that must have more than one value.
        checks: SQL expressions of a row's columns, by a name that says what they ask. As in SQL's CHECK, a row fails
            where one is false, and passes where it is null. One of aggregates fails where it is null, too.
    """

    rows: Rows = Rows(min=1)
    nulls: dict[str, Share] = Field({}, min_length=1)
    duplicates: Share | None = None
    not_constant: Names = Field([])
    freshness: Freshness | None = None
    forbidden: list[str] = Field([], min_length=1)
    personal_data: PersonalData = PersonalData.model_construct()
    checks: dict[Text, Text] = Field({}, min_length=1)
    foreign_keys: list[ForeignKey] = Field([], min_length=1)
    training: Training | None = None
    serving: Serving | None = None
    drift: dict[str, DriftLimits] = Field({}, min_length=1)

    def tables(self) -> Iterator[list[str]]:
        """The other tables that the rules name, each by its patterns."""
        yield from (key.table for key in self.foreign_keys)
        if self.training and self.training.held_out:
            yield self.training.held_out.data
        if self.serving:
            yield self.serving.data


class _Pandera(Written):
    """Keys of pandera's, which are in snake_case."""

    model_config = ConfigDict(alias_generator=None)

    title: str = ""
    description: str = ""
    coerce: bool = False
    default: Any = False
    drop_invalid_rows: bool = False
    add_missing_columns: bool = False
    report_duplicates: Literal["all"] = "all"

    @field_validator("coerce", "default", "drop_invalid_rows", "add_missing_columns", mode="before")
    @classmethod
    def _only_looks(cls, value: object) -> object:
        if value is not False:
            raise ValueError("must be taken out: it changes data, and a contract only looks at it")
        return value


class ColumnRules(_Pandera):
    """What pandera's YAML has of a column, beside checks under their names."""

    dtype: str = Field("", min_length=1)
    nullable: bool = False
    required: bool = True
    regex: bool = False
    unique: bool = False
    checks: Any = ()

    @field_validator("checks")
    @classmethod
    def _several(cls, value: object) -> object:
        if not value or not isinstance(value, dict | list):
            raise ValueError("must be a mapping of checks, such as `{greater_than: 0}`, or pandera's list of them")
        return value


class ContractFile(_Pandera):
    """A whole contract."""

    schema_type: Literal["polars_dataframe"] = "polars_dataframe"
    version: Any = None
    api: Literal["polars"] = "polars"
    name: str | None = None
    columns: dict[str, dict[str, Any]] = Field({})
    strict: bool = False
    ordered: bool = False
    unique: Names | None = None
    unique_column_names: bool = False
    dtype: Any = None
    index: Any = None
    checks: Any = None
    table: TableRules = TableRules.model_construct()

    @field_validator("columns", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, dict):
            return {str(name) if type(name) is int else name: rules for name, rules in value.items()}
        return value

    @field_validator("dtype", "index", "checks")
    @classmethod
    def _elsewhere(cls, _: object, info: ValidationInfo) -> object:
        fix = {"dtype": "give each column its own", "index": "a polars table has none",
               "checks": "put them under a column, or SQL under `table.checks`"}[str(info.field_name)]  # fmt: skip
        raise ValueError(f"must be taken out: {fix}")


def tables_named(text: str) -> list[list[str]]:
    """The other tables that a contract's text names; none if it is wrong, which reading it will say."""
    try:
        values: Any = load_yaml(text)
        return list(TableRules.model_validate(values.get("table") or {}).tables())
    except (ValueError, AttributeError):
        return []


def table_name(patterns: list[str]) -> str:
    """What another table is known by."""
    return ", ".join(patterns)
