"""Validate a table: against its contract, for personal data, and against a reference; and take its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ..errors import BadInput
from . import checks, drift
from .checks import Check
from .contract import Contract
from .fingerprint import Fingerprint
from .personal import Sampler
from .sources import Source
from .tables import Table, open_table, reading

PersonalDataRule = Literal["fail", "warn", "off"]


@dataclass(frozen=True)
class Request:
    """What to validate, and how.

    Attributes:
        sources: the data files.
        contract: what is asked of them; an empty one asks nothing.
        as_of: the time that freshness is measured against.
        personal_data: what a column that looks personal means.
        reference: files of a table to compare with, or none.
        columns: which columns to compare; by default all that can be.
        max_psi: the limit of drift.
    """

    sources: Sequence[Source]
    contract: Contract
    as_of: datetime
    personal_data: PersonalDataRule = "fail"
    reference: Sequence[Source] = ()
    columns: Sequence[str] = ()
    max_psi: float = 0.2


@dataclass(frozen=True)
class Validation:
    """What was found.

    Attributes:
        fingerprint: of the content, `sha256:<hex>`.
        rows: how many there are.
        checks: each check, passed or failed.
        warnings: columns that look personal, when that only warns.
        columns: a summary a column.
        drift: against the reference, if there is one.
    """

    fingerprint: str
    rows: int
    checks: list[Check]
    warnings: list[Check]
    columns: list[dict[str, Any]]
    drift: drift.Drift | None = None
    files: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.failed]


def validate(request: Request, say: Callable[[str], None] = lambda _: None) -> Validation:
    """Make every check; the data is read in batches, and nothing stops at the first failure.

    Raises:
        BadInput: a file cannot be read, there are no rows, or a check does not fit its column's type.
    """
    contract = request.contract
    table = open_table(request.sources, contract.types())
    found = checks.structure(table, contract)
    print_, sampler, row_checks = Fingerprint(table.schema), Sampler(table.schema), checks.RowChecks(table, contract)
    rows = 0
    for part, start, batch in table.batches():
        print_.update(batch)
        row_checks.update(part, start, batch)
        if request.personal_data != "off":
            sampler.update(batch)
        rows += batch.height
    if not rows:
        names = ", ".join(part.name for part in table.parts[:3])
        raise BadInput(f"The data has no rows: {names}", fix="Look at the step that wrote it")
    say(f"Read {rows:,} rows of {len(table.schema)} columns in {len(table.parts)} files")
    found += row_checks.results() + checks.whole(table, contract, rows, request.as_of)
    people = sampler.judge() if request.personal_data != "off" else []
    flagged = checks.personal(people, contract)
    if request.personal_data == "fail":
        found += flagged or [Check("", "no_personal_data")]
    hidden = {person.column for person in people}
    found = [replace(c, examples=[e | {"value": "(hidden)"} for e in c.examples]) if c.column in hidden else c
             for c in found]  # fmt: skip
    moved = None
    if request.reference:
        reference = open_table(request.reference, contract.types())
        moved = drift.compare(reference, table, request.columns, request.max_psi)
    return Validation(
        print_.value(), rows, found, flagged if request.personal_data == "warn" else [],
        _summary(table, hidden), moved, [part.name for part in table.parts],
    )  # fmt: skip


def fingerprint(sources: Sequence[Source], types: Mapping[str, pl.DataType] | None = None) -> tuple[str, int]:
    """A table's fingerprint and number of rows; `types` as of `open_table`."""
    table = open_table(sources, types)
    taken, rows = Fingerprint(table.schema), 0
    for _, _, batch in table.batches():
        taken.update(batch)
        rows += batch.height
    return taken.value(), rows


def write_picture(found: drift.Drift, path: Path, **names: str) -> Path | None:
    """Draw the columns that moved most; None when there is nothing to draw."""
    if not found.columns:
        return None
    from .pictures import draw_drift  # matplotlib is only imported when there is something to draw

    return draw_drift(found.columns[:6], path, **names)


def _summary(table: Table, hidden: set[str]) -> list[dict[str, Any]]:
    """Type, nulls, distinct values (estimated), least, greatest and mean of each column, in one pass."""
    asked: list[pl.Expr] = []
    for number, (name, kind) in enumerate(table.schema.items()):
        column = pl.col(name)
        asked.append(column.null_count().alias(f"{number}:nulls"))
        if not kind.is_nested() and kind not in (pl.Object, pl.Null):
            asked.append(column.approx_n_unique().alias(f"{number}:distinct"))
        ordered = kind.is_numeric() or kind.is_temporal() or kind == pl.String
        if ordered and name not in hidden:
            asked += [column.min().alias(f"{number}:min"), column.max().alias(f"{number}:max")]
        if kind.is_numeric() and name not in hidden:
            asked.append(column.mean().alias(f"{number}:mean"))
    with reading(table.parts[0].name):
        values = table.frame.select(asked).collect(engine="streaming").row(0, named=True)
    rows = []
    for number, (name, kind) in enumerate(table.schema.items()):
        own = {key: values.get(f"{number}:{key}") for key in ("nulls", "distinct", "min", "max", "mean")}
        row = {"column": name, "type": str(kind)} | {k: checks.shown(v) for k, v in own.items() if v is not None}
        rows.append(row)
    return rows
