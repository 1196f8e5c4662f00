"""What a contract asks under `table`: the rules that pandera has no words for. Nothing here needs polars or pandera."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from ..inputs import kebab
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


Names = Annotated[list[str], BeforeValidator(_listed)]
"""One name, or a list of them."""


Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=kebab)

    @field_validator("*", mode="before")
    @classmethod
    def _there(cls, value: object) -> object:
        if value is None:
            raise ValueError("is empty: write a value after it, or leave it out")
        return value


class Rows(_Part):
    """How many rows there must be."""

    min: int = Field(1, ge=0)
    max: int | None = None


class Freshness(_Part):
    """How old the newest row may be."""

    column: str
    max_age: timedelta

    @field_validator("max_age", mode="before")
    @classmethod
    def _duration(cls, value: object) -> timedelta:
        return parse_duration(value)


class PersonalData(_Part):
    """Columns that look personal and are known to be harmless."""

    allow: list[str] = []


class ForeignKey(_Part):
    """Every value of `columns` (a row with a null among them is left out, as in SQL) is in another table.

    `table` has that table's files, as `data` of the action; `keys` its columns, by default of the same names.
    """

    columns: Names = Field(min_length=1)
    table: Names = Field(min_length=1)
    keys: Names = []


class HeldOut(_Part):
    """Rows that are kept for testing and must not be here: files, and the columns that tell rows apart (all)."""

    data: Names = Field(min_length=1)
    columns: Names = []


class Training(_Part):
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

    label: str = ""
    features: Names = []
    max_power: float = Field(0.95, gt=0, le=1)
    min_class_share: float = Field(0.0, ge=0, le=0.5)
    prediction_time: str = ""
    known_at: dict[str, str] = {}
    known_later: Names = []
    held_out: HeldOut | None = None


class Serving(_Part):
    """What the online store gave for the same keys: train/serve skew is a row whose values differ.

    Attributes:
        data: the files of what was served.
        keys: the columns that name a row.
        columns: which to compare; by default all that both have.
        tolerance: numbers that differ by no more than this share of the larger one are equal.
        max_share: the share of rows that may differ.
    """

    data: Names = Field(min_length=1)
    keys: Names = Field(min_length=1)
    columns: Names = []
    tolerance: float = Field(1e-6, ge=0)
    max_share: float = Field(0.0, ge=0, lt=1)


class DriftLimits(_Part):
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


class TableRules(_Part):
    """What is asked of the table as a whole.

    Attributes:
        nulls: the largest share of rows in which a column may be null, by column.
        duplicates: the largest share of rows that may be the same as another row.
        not_constant: columns that must have more than one value.
        checks: SQL expressions of a row's columns, by a name that says what they ask. As in SQL's CHECK, a row fails
            where one is false, and passes where it is null.
    """

    rows: Rows = Rows.model_validate({})
    nulls: dict[str, Share] = {}
    duplicates: Share | None = None
    not_constant: Names = []
    freshness: Freshness | None = None
    forbidden: list[str] = []
    personal_data: PersonalData = PersonalData.model_validate({})
    checks: dict[str, str] = {}
    foreign_keys: list[ForeignKey] = []
    training: Training | None = None
    serving: Serving | None = None
    drift: dict[str, DriftLimits] = {}

    def tables(self) -> Iterator[list[str]]:
        """The other tables that the rules name, each by its patterns."""
        yield from (key.table for key in self.foreign_keys)
        if self.training and self.training.held_out:
            yield self.training.held_out.data
        if self.serving:
            yield self.serving.data


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
