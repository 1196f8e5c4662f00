"""Check data against its contract, look for personal data and drift, and take its fingerprint.

The contract is pandera's YAML of a polars schema, with a key `table` for what pandera has no words for. `mlops
infer-schema DATA` writes a first one. All failures are collected: each names its column, check, how many rows fail and
the first 20 of them, and the annotation stands on the contract's line. Files are Parquet, CSV, JSON lines or Arrow,
from the consumer's folder, the store (`store:data/*.parquet`) or any URI, and are read in batches: memory is bounded.

What `table` can ask:

```yaml
table:
  rows: {min: 20000, max: 2000000}
  freshness: {column: time_hour, max-age: 35d}
  nulls: {dep_delay: 0.05}                         # the largest share of rows in which a column may be null or NaN
  duplicates: 0.01                                 # the largest share of rows that may be the same as another one
  not-constant: [distance, dep_delay]              # columns that must have more than one value
  forbidden: ["passenger_*"]                       # columns that must not be there
  personal-data: {allow: [phone_model]}            # looks personal, and is harmless
  checks:                                          # SQL of a row: false fails, null passes; of aggregates: both fail
    arrives-later: "dep_time <= arr_time OR overnight"
    mostly-on-time: "AVG(dep_delay) < 60"
  foreign-keys:                                    # every value is in another table
    - {columns: carrier, table: "store:data/airlines.parquet"}
    - {columns: [plane, year], table: planes.csv, keys: [tailnum, built]}
  training:                                        # of a table that a model is trained on
    label: late
    max-power: 0.95                                # a feature that alone predicts better leaks the label (0 to 1)
    min-class-share: 0.05
    known-later: ["arr_*"]                         # only known after the prediction
    prediction-time: scheduled                     # a feature must be known by then:
    known-at: {temperature: measured}
    held-out: {data: "store:test/*.parquet", columns: [flight, day]}    # no row is in the test set too
  serving: {data: served.parquet, keys: [flight], tolerance: 1e-6}      # no skew between training and serving
  drift:                                           # limits of single columns, instead of max-psi
    distance: {psi: 0.1, ks: 0.2, js: 0.1}
    carrier: {new-categories: false, vanished-categories: false}
```

The fingerprint is of the content, whatever the layout in files, compression or row groups; it is what training is
keyed by. With `reference`, the distribution of each column is compared: population stability index, Jensen-Shannon
distance, Kolmogorov-Smirnov, new and vanished categories. A column has drifted if a distance is over its limit and is
not chance by a test (chi-square, Kolmogorov-Smirnov) whose p-value is adjusted for the number of columns (Holm).

`serving` compares with what materialize-features read back from the online store: it writes a Parquet file a feature
view to the store, with the entity's keys, the features and `event_timestamp`. As a table to train on has many rows of
an entity, the time is a part of the key. In a job that follows materialize-features:

```yaml
  serving: {data: "store:features/served/<project>/<view>.parquet", keys: [airport, event_timestamp]}
```

`year=2020/` in a file's path is a column. Where files of numbers have different types (whole numbers in one month,
floats in the next because of a gap) the contract's type counts. A fixed offset of time (`+05:30`) is read as UTC.
A blank line of CSV is not a row, as in pandas; in a table of one column it is a null.

JSON lines take the contract's types as CSV does: JSON has no times, and does not tell whole numbers from others. An
object or a list is no text.

`mlops data diff A B` compares two tables, or what two versions were trained on, row by row.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..inputs import Inputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..text import many
from ..values import Lines

if TYPE_CHECKING:
    from ..data.findings import Check
    from ..data.sources import DataSource
    from ..data.validate import Validation
    from ..registry.manifest import Manifest
    from ..runtime.step import Step


_SHOWN = 5
"""Failing rows of each check that a terminal shows; the record and the report have 20."""


class ValidateDataInputs(Inputs):
    """What `validate-data` takes."""

    data: Lines = Field(
        [],
        description="The data files: paths, globs, URIs, or `store:path/*.parquet`. Parquet, CSV, JSON lines or Arrow,"
        " by extension; several files are one table.",
        examples=["data/*.parquet"],
    )
    contract: Path | None = Field(
        None,
        description="The data contract: pandera's YAML of a polars schema, and rules of the table under `table`.",
        examples=["contract.yaml"],
    )
    as_of: datetime | None = Field(
        None, description="The time that freshness is measured against, such as `2013-07-01`. By default now."
    )
    personal_data: Literal["fail", "warn", "off"] = Field(
        "fail",
        description="What a column that looks personal means, unless the contract's `personal-data.allow` has it.",
    )
    reference: Lines = Field(
        [],
        description="What to compare distributions with: a table's files, or `model@version` or `model@alias`: what"
        " that version in the registry was trained on.",
        examples=["flight-delays@champion"],
    )
    columns: Lines = Field([], description="Columns to compare with the reference. By default all that can be.")
    max_psi: float = Field(0.2, gt=0, description="A column whose population stability index is over this has drifted.")
    drift_gate: bool = Field(False, description="Fail when a column has drifted from the reference.")
    fingerprint_order: Literal["rows", "any"] = Field(
        "rows",
        description="`any`: the fingerprint is the same whatever the order of the rows, for data that arrives in no"
        " order. It is another fingerprint than that of `rows`.",
    )


class ValidateDataOutputs(Outputs):
    """What `validate-data` gives."""

    fingerprint: str = Field(description="`sha256:<hex>` of the content, whatever the layout in files.")
    rows: int = Field(description="Number of rows.")
    checks: int = Field(description="Number of checks made.")
    failed: int = Field(description="Number of checks that failed.")


def run(inputs: ValidateDataInputs, step: Step) -> Result[ValidateDataOutputs]:
    """Validate the data."""
    from ..data.rules import table_name, tables_named
    from ..data.sources import digests, find
    from ..errors import BadInput
    from ..evaluation.champion import version_named
    from ..registry.registry import Registry

    if not inputs.data:
        raise BadInput("No data is named", fix="Give `data`, or set it in mlops.yaml under `validate-data`")
    path = step.workspace.path(inputs.contract) if inputs.contract else None
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
    as_of = inputs.as_of or datetime.now(timezone.utc)
    sources = find(step.workspace, inputs.data)
    version = version_named(Registry(step.workspace.store), step.workspace.root, inputs.reference)
    reference = find(step.workspace, inputs.reference) if inputs.reference and not version else []
    tables = {table_name(patterns): find(step.workspace, patterns) for patterns in tables_named(text)}
    key = step.key(
        data=digests(sources),
        reference=[version.digest] if version else digests(reference),
        contract=text,
        tables=[digests(files) for files in tables.values()],
        # without as-of, an old answer on freshness is of no use for longer than an hour
        as_of=f"{as_of:%Y-%m-%dT%H}" if "freshness" in text else "",
        options=[inputs.personal_data, inputs.columns, inputs.max_psi, inputs.drift_gate, inputs.fingerprint_order],
    )
    return step.once(
        key, ValidateDataOutputs, lambda: _validate(inputs, sources, reference, version, tables, path, as_of, step)
    )


def _validate(
    inputs: ValidateDataInputs,
    sources: list[DataSource],
    reference: list[DataSource],
    version: Manifest | None,
    tables: dict[str, list[DataSource]],
    contract: Path | None,
    as_of: datetime,
    step: Step,
) -> Result[ValidateDataOutputs]:
    # polars and pandera take a second to import: not before it is known that they are needed
    from ..data import validate
    from ..data.contract import Contract, read_contract
    from ..data.sources import state

    if version:
        from ..monitoring.reference import training_data

        reference = list(training_data(step.workspace, version, step.console.say).sources)
    request = validate.ValidationRequest(
        sources=sources,
        contract=read_contract(contract, str(inputs.contract)) if contract else Contract(),
        as_of=as_of if as_of.tzinfo else as_of.replace(tzinfo=timezone.utc),
        personal_data=inputs.personal_data,
        reference=reference,
        columns=inputs.columns,
        max_psi=inputs.max_psi,
        tables=tables,
        any_order=inputs.fingerprint_order == "any",
    )
    found = validate.validate(request, step.console.say)
    _say(found, step)
    asks_drift = bool(inputs.drift_gate or inputs.columns or request.contract.rules.drift)
    return _result(found, inputs, state(step.workspace, inputs.data), asks_drift=asks_drift)


def _say(found: Validation, step: Step) -> None:
    for check in found.warnings:
        step.console.warning(f"{check.column} {check.why}", place=check.place)
    if found.failed and step.workspace.environ.get("GITHUB_ACTIONS") == "true":
        # the first one is the annotation that the failure itself gives; GitHub shows ten of a kind
        for check in found.failed[1:10]:
            step.console.warning(check.sentence(), place=check.place)
    elif found.failed:
        rows = [(c.column or "(table)", c.name, c.failed, c.why) for c in found.failed]
        step.console.table(["column", "check", "failed", "why"], rows, title="Checks that failed")
        examples = [
            (c.column or "(table)", c.name, e["file"], e["row"], e["value"])
            for c in found.failed
            for e in c.examples[:_SHOWN]
        ]
        if examples:
            step.console.table(["column", "check", "file", "row", "value"], examples, title="The first rows that fail")


def _result(
    found: Validation, inputs: ValidateDataInputs, state: str, *, asks_drift: bool
) -> Result[ValidateDataOutputs]:
    from ..data import validate

    failed, total = len(found.failed), len(found.checks)
    drifted = found.drift.drifted if found.drift and inputs.drift_gate else []
    rows = many(found.rows, "row")
    reason = f"{total - failed} of {total} checks passed"
    drift_checked = bool(found.drift and found.drift.columns)
    if failed:
        reason = f"{failed} of {total} checks failed: {found.failed[0].sentence()}"
    elif drifted:
        have = "have" if len(drifted) > 1 else "has"
        most = f"{drifted[0].column} most (PSI {drifted[0].psi:.3g})"
        reason = f"{many(len(drifted), 'column')} {have} drifted, {most}"
    elif asks_drift and not drift_checked:
        reason += "; nothing was checked for drift: " + ("no column is comparable" if found.drift else "no `reference`")
    elif not total:
        reason = f"{rows}; nothing was checked: no contract is given, and `personal-data` is off"
    elif not inputs.contract:
        reason = f"{rows}; no contract says what they must be"
        if found.drift and drift_checked:
            reason += f"; {len(found.drift.drifted)} of {len(found.drift.columns)} columns have drifted"
    details: dict[str, Any] = {
        "files": found.files,
        "state": state,
        "checks": [_row(check) for check in sorted(found.checks, key=lambda c: not c.failed)],
        "columns": found.columns,
    }
    if found.drift:
        details["drift"] = [column.as_json() for column in found.drift.columns]
        details["skipped"] = found.drift.skipped
        details["distributions"] = validate.distributions(found.drift, "reference", "data")
    return Result(
        ValidateDataOutputs(fingerprint=found.fingerprint, rows=found.rows, checks=total, failed=failed),
        details=details,
        passed=not failed and not drifted,
        checked=bool(total) and (drift_checked or not asks_drift),
        reason=reason,
        subject={"data": found.fingerprint},
        place=found.failed[0].place if found.failed else None,
    )


def _row(check: Check) -> dict[str, Any]:
    row = {"column": check.column, "check": check.name, "failed": check.failed}
    if check.failed:
        row |= {"why": check.why, "examples": check.examples, "place": str(check.place or "")}
    return row


ACTION = Action(
    "validate-data",
    "data",
    ValidateDataInputs,
    ValidateDataOutputs,
    run,
    icon="check-square",
    once=True,
)
