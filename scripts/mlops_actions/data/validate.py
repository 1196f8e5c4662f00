"""Validate a table: against its contract, for personal data, and against a reference; and take its fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import polars as pl

from ..errors import BadInput
from ..text import many
from . import checks, keys, rowchecks, training
from .contract import Contract
from .findings import Check, shown
from .fingerprint import Fingerprint, UnorderedFingerprint
from .personal import Sampler
from .profile import ColumnProfile, Profile
from .rowdiff import compare_rows
from .rules import table_name
from .sources import DataSource
from .tables import Batch, Table, UnreadableCells, open_table

if TYPE_CHECKING:
    from . import drift

_MOST = 6  # columns that are shown when none has drifted
_BINS = 12  # of a column, those that moved most
_DRAWN = 60  # more columns than that nobody looks at, and the page has to hold them
PersonalDataRule = Literal["fail", "warn", "off"]


@dataclass(frozen=True)
class ValidationRequest:
    """What to validate, and how.

    Attributes:
        sources: the data files.
        contract: what is asked of them; an empty one asks nothing.
        as_of: the time that freshness is measured against.
        personal_data: what a column that looks personal means.
        reference: files of a table to compare with, or none.
        columns: which columns to compare; by default all that can be.
        max_psi: the limit of drift.
        any_order: whether the fingerprint is to be the same whatever the order of the rows.
        tables: files of the other tables that the contract names, by `table_name` of their patterns.
    """

    sources: Sequence[DataSource]
    contract: Contract
    as_of: datetime
    personal_data: PersonalDataRule = "fail"
    reference: Sequence[DataSource] = ()
    columns: Sequence[str] = ()
    max_psi: float = 0.2
    any_order: bool = False
    tables: Mapping[str, Sequence[DataSource]] = field(default_factory=dict)


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


class Collector(Protocol):
    """What takes the rows of a table, batch by batch."""

    def update(self, batch: Batch) -> None:
        """Take the next rows."""


def one_pass(table: Table, collectors: Sequence[Collector]) -> int:
    """Read a table once, for all collectors at the same time; the number of rows.

    Raises:
        BadInput: a file cannot be read, or what a collector raises.
    """
    rows = 0
    with ThreadPoolExecutor(len(collectors) or 1) as pool:  # polars and hashlib work outside Python's lock
        for batch in table.batches():
            for done in [pool.submit(collector.update, batch) for collector in collectors]:
                done.result()
            rows += batch.frame.height
    return rows


def validate(request: ValidationRequest, say: Callable[[str], None] = lambda _: None) -> Validation:
    """Make every check; the data is read in batches, and nothing stops at the first failure.

    Raises:
        BadInput: a file cannot be read, there are no rows, or a check does not fit its column's type.
    """
    types = request.contract.types()
    try:
        return _validate(request, open_table(request.sources, types, lenient=False), say)
    except UnreadableCells:
        # cells that are not of their type are found and shown, which takes reading them as text
        table = open_table(request.sources, types)
        if not table.texts:
            raise
        return _validate(request, table, say)


def check(
    sources: Sequence[DataSource], contract: Contract, tables: Mapping[str, Sequence[DataSource]] | None = None
) -> list[Check]:
    """Only the checks of structure, rows, keys and relations; cells that are not of their type are an error.

    Raises:
        BadInput: as `validate`.
    """
    table = open_table(sources, contract.types(), lenient=False)
    asked = _Asked(table, contract, tables or {})
    one_pass(table, asked.collectors)
    return asked.results()


class _Asked:
    """What a contract asks of a table, as collectors of its rows.

    Args:
        table, contract: both.
        tables: the files of the other tables that the contract names.
        profiled: the columns that are summarized; by default those that the contract needs.
    """

    def __init__(
        self,
        table: Table,
        contract: Contract,
        tables: Mapping[str, Sequence[DataSource]],
        profiled: Collection[str] | None = None,
    ) -> None:
        self._table, self._contract = table, contract
        self._structure = checks.structure(table, contract) + training.structure(table, contract)
        types = _types_elsewhere(contract)
        others = {name: open_table(sources, types.get(name)) for name, sources in tables.items()}
        of_rows, self._of_table = rowchecks.of_expressions(table, contract)
        of_rows = rowchecks.of_columns(table, contract) + of_rows + _relations(table, contract, others)
        rules = contract.rules
        held_out = rules.training.held_out if rules.training else None
        of_rows += training.of_rows(table, contract, others[table_name(held_out.data)] if held_out else None)
        self._served = others[table_name(rules.serving.data)] if rules.serving else None
        self._rows = rowchecks.RowChecks(of_rows, table)
        self._unique = checks.unique_keys(table, contract)
        needed = {*rules.nulls, *rules.not_constant} if profiled is None else profiled
        self.profile = Profile({name: kind for name, kind in table.schema.items() if name in needed})
        self.collectors: list[Collector] = [self._rows, *self._unique, self.profile]

    def results(self, say: Callable[[str], None] = lambda _: None) -> list[Check]:
        """What was found, when all rows were taken."""
        self.columns = self.profile.columns()
        found = self._structure + self._rows.results() + [check for key in self._unique for check in key.results()]
        found += checks.of_profile(self.columns, self._contract)
        found += checks.sets_of_values(self._table, self._contract)
        found += checks.of_whole_table(self._table, self._of_table) + training.of_label(self._table, self._contract)
        return found + (_skew(self._table, self._contract, self._served, say) if self._served else [])


def _validate(request: ValidationRequest, table: Table, say: Callable[[str], None]) -> Validation:
    contract = request.contract
    asked = _Asked(table, contract, request.tables, table.schema)
    print_ = _fingerprint(table, request.any_order)
    sampler = Sampler(table.schema)
    looks = request.personal_data != "off"
    rows = one_pass(table, [print_, *asked.collectors, *([sampler] if looks else [])])
    if not rows:
        names = ", ".join(part.name for part in table.parts[:3])
        raise BadInput(f"The data has no rows: {names}", fix="Check the step that wrote it")
    say(f"Read {many(rows, 'row')} of {many(len(table.schema), 'column')} in {many(len(table.parts), 'file')}")
    found = asked.results(say) + checks.number_of_rows(contract, rows)
    columns = asked.columns
    if rule := contract.rules.freshness:
        newest = next((column.greatest for column in columns if column.name == rule.column), None)
        found += checks.freshness(contract, newest, request.as_of)
    people = sampler.judge() if looks else []
    flagged = checks.personal(people, contract)
    if request.personal_data == "fail":
        found += flagged or [Check("", "no_personal_data")]
    hidden = {person.column for person in people}
    moved = _drift(request, table)
    return Validation(
        print_.value(), rows, [_hide(check, hidden) for check in found],
        flagged if request.personal_data == "warn" else [],
        [_as_json(column, hidden) for column in columns], moved, [part.name for part in table.parts],
    )  # fmt: skip


def _types_elsewhere(contract: Contract) -> dict[str, dict[str, pl.DataType]]:
    """The contract's types for the other tables that it names: what is compared has one type."""
    rules, own = contract.rules, contract.types()
    same = [rules.training.held_out if rules.training else None, rules.serving]
    found = {table_name(rule.data): dict(own) for rule in same if rule}
    for one in rules.foreign_keys:
        keys = zip(one.columns, one.keys or one.columns)
        found.setdefault(table_name(one.table), {}).update({key: own[name] for name, key in keys if name in own})
    return found


def _relations(table: Table, contract: Contract, others: Mapping[str, Table]) -> list[rowchecks.RowCheck]:
    """The contract's foreign keys, as checks of rows."""
    made = []
    for index, rule in enumerate(contract.rules.foreign_keys):
        place = contract.place("table", "foreign-keys", index)
        other, targets = others[table_name(rule.table)], rule.keys or rule.columns
        check = Check(", ".join(rule.columns), f"in({', '.join(rule.table)}: {', '.join(targets)})", place=place)
        passes = keys.is_known(rule.columns, other, targets, table, place)
        made.append(rowchecks.RowCheck(check, passes, rule.columns))
    return made


def _skew(table: Table, contract: Contract, served: Table, say: Callable[[str], None]) -> list[Check]:
    """Train/serve skew: values that the online store served for a key, against those of this table."""
    rule, place = contract.rules.serving, contract.place("table", "serving")
    assert rule is not None
    found = compare_rows(table, served, rule.keys, rule.columns, tolerance=rule.tolerance, common=True, place=place)
    compared = rule.columns or [n for n in table.schema if n in served.schema and n not in rule.keys]
    check = Check("", "served", 0, place=place)
    if not found.both:
        check.failed, check.why = 1, f"no key of {', '.join(rule.data)} is in the table"
    elif not compared:
        check.failed, check.why = 1, f"no column of {', '.join(rule.data)} is in the table, beside the keys"
    left = ", ".join(name for name in table.schema if name not in (*compared, *rule.keys))
    say(f"Compared {found.both:,} of {many(found.both + found.added, 'served row')} in {many(len(compared), 'column')}"
        f" with the table{left and f'; not compared: {left}'}")  # fmt: skip
    changed, made = {change.column: change for change in found.columns}, [check]
    for column in compared:
        one = Check(column, f"no_skew({rule.tolerance:g})", place=place)
        change = changed.get(column)
        if change and change.rows > rule.max_share * found.both:
            one.failed, one.why = change.rows, f"fails in {change.rows:,} of {found.both:,} rows that were served"
            one.examples = [
                {"file": e["file"], "row": e["row"], "value": f"{e['before']}, served {e['after']}"}
                for e in change.examples
            ]
        made.append(one)
    return made


def _drift(request: ValidationRequest, table: Table) -> drift.Drift | None:
    if not request.reference:
        return None
    from . import drift  # scipy takes a second to import

    reference = open_table(request.reference, request.contract.types())
    return drift.compare(reference, table, request.columns, request.max_psi, request.contract.rules.drift)


def _hide(check: Check, hidden: set[str]) -> Check:
    """The check without values of columns that look personal."""
    if hidden.isdisjoint(check.column.split(", ")) and hidden.isdisjoint(check.shown):
        return check
    return replace(check, examples=[example | {"value": "(hidden)"} for example in check.examples])


def fingerprint(
    sources: Sequence[DataSource], types: Mapping[str, pl.DataType] | None = None, *, any_order: bool = False
) -> tuple[str, int]:
    """A table's fingerprint and number of rows; `types` as of `open_table`, `any_order` as of `ValidationRequest`."""
    table = open_table(sources, types)
    taken = _fingerprint(table, any_order)
    rows = one_pass(table, [taken])
    return taken.value(), rows


def _fingerprint(table: Table, any_order: bool) -> Fingerprint | UnorderedFingerprint:
    return UnorderedFingerprint(table.schema) if any_order else Fingerprint(table.schema)


def distributions(found: drift.Drift, before: str, now: str) -> dict[str, Any]:
    """Shares of rows by bin of each column that has drifted, or if none has of those that moved most, for a record.

    Args:
        found: the columns that were compared.
        before, now: what the two tables are called.
    """
    shown = found.drifted[:_DRAWN] or found.columns[:_MOST]
    return {"names": [before, now], "columns": [_distribution(column) for column in shown]}


def _distribution(column: drift.ColumnDrift) -> dict[str, Any]:
    kept = sorted(range(len(column.bins)), key=lambda i: -abs(column.current[i] - column.reference[i]))[:_BINS]
    bins = [[column.bins[i], round(column.reference[i], 4), round(column.current[i], 4)] for i in sorted(kept)]
    return {"column": column.column, "psi": round(column.psi, 4), "drifted": column.drifted, "bins": bins}


def _as_json(column: ColumnProfile, hidden: set[str]) -> dict[str, Any]:
    """A column's summary for a record; of one that looks personal, without values."""
    values: dict[str, Any] = {"nulls": column.nulls, "distinct": column.distinct}
    if column.name not in hidden:
        values |= {"min": column.least, "max": column.greatest, "mean": column.mean}
    known = {key: shown(value) for key, value in values.items() if value is not None}
    return {"column": column.name, "type": str(column.type)} | known
