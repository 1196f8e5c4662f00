"""Two tables compared: columns, number of rows, fingerprints, distributions, and with a key also row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from ..errors import BadInput
from ..text import many
from .drift import Drift, compare
from .fingerprint import Fingerprint
from .personal import Sampler
from .profile import ColumnProfile, Profile
from .rowdiff import RowDiff, compare_rows
from .sources import DataSource
from .tables import Table, open_table
from .validate import one_pass


@dataclass(frozen=True)
class Side:
    """One of the two tables: what it is called, its files, and the types of columns of text formats."""

    name: str
    sources: Sequence[DataSource]
    types: Mapping[str, pl.DataType]


@dataclass(frozen=True)
class Diff:
    """How the second table differs from the first.

    Attributes:
        names, rows, fingerprints: of both.
        removed, added: columns that only the first, only the second has.
        retyped: columns with another type: name, before, after.
        nulls: columns whose share of nulls is another: name, before, after.
        drift: distributions, the most moved first.
        key: the columns that name a row.
        by_key: rows matched by the key; None without one.
        hidden: columns that look personal, whose values are not shown.
    """

    names: tuple[str, str]
    rows: tuple[int, int]
    fingerprints: tuple[str, str]
    removed: list[str]
    added: list[str]
    retyped: list[tuple[str, str, str]]
    nulls: list[tuple[str, float, float]]
    drift: Drift
    key: Sequence[str]
    by_key: RowDiff | None
    hidden: set[str]

    @property
    def same(self) -> bool:
        """Whether both have the same content."""
        return self.fingerprints[0] == self.fingerprints[1]

    @property
    def sentence(self) -> str:
        """What differs, in one sentence."""
        if self.same:
            return f"{self.names[0]} and {self.names[1]} have the same content"
        parts = []
        if self.by_key:
            found = self.by_key
            counts = ((found.added, "added"), (found.removed, "removed"), (found.changed, "changed"))
            parts.append(_listed("row", counts))
        elif self.rows[0] != self.rows[1]:
            more = self.rows[1] - self.rows[0]
            parts.append(many(abs(more), "more row" if more > 0 else "fewer row"))
        changes = ((self.added, "added"), (self.removed, "removed"), (self.retyped, "of another type"))
        parts.append(_listed("column", [(len(columns), what) for columns, what in changes]))
        parts.append(_listed("column", [(len(self.drift.drifted), "drifted")]))
        return "; ".join(filter(None, parts)) or "Values, or the order of rows or columns, differ"

    @property
    def shown(self) -> Drift:
        """The distributions, without columns that look personal."""
        return Drift([c for c in self.drift.columns if c.column not in self.hidden], self.drift.skipped)

    def as_json(self) -> dict[str, Any]:
        """For a program, and for the template of people."""
        by_key = asdict(self.by_key) if self.by_key else None
        for change in by_key["columns"] if by_key else []:
            if change["column"] in self.hidden:
                change["examples"] = [e | {"before": "(hidden)", "after": "(hidden)"} for e in change["examples"]]
            if self.hidden.intersection(self.key):
                change["examples"] = [e | {"key": "(hidden)"} for e in change["examples"]]
        return {
            "same": self.same, "names": list(self.names), "rows": list(self.rows),
            "fingerprints": list(self.fingerprints), "removed": self.removed, "added": self.added,
            "retyped": [list(one) for one in self.retyped], "nulls": [list(one) for one in self.nulls],
            "drift": [column.as_json() for column in self.shown.columns],
            "skipped": self.drift.skipped, "by_key": by_key,
        }  # fmt: skip


def _listed(what: str, counts: Sequence[tuple[int, str]]) -> str:
    """`12 rows added, 3 removed`; "" when nothing was."""
    some = [(count, how) for count, how in counts if count]
    return ", ".join(f"{count:,} {how}" if i else f"{many(count, what)} {how}" for i, (count, how) in enumerate(some))


def diff(one: Side, two: Side, *, key: Sequence[str] = (), tolerance: float = 0.0, max_psi: float = 0.2) -> Diff:
    """Compare two tables.

    Args:
        one, two: before and after.
        key: the columns that name a row; without them rows are not matched.
        tolerance: as of `compare_rows`.
        max_psi: as of `drift.compare`.

    Raises:
        BadInput: a table cannot be read, has no rows, or the key is not unique.
    """
    tables = [open_table(side.sources, side.types) for side in (one, two)]
    before, after = (_read(table, side) for table, side in zip(tables, (one, two)))
    schemas = [table.schema for table in tables]
    both = [name for name in schemas[0] if name in schemas[1]]
    columns = [{column.name: column for column in read.columns} for read in (before, after)]
    old, new = columns
    shares = [(n, old[n].nulls / old[n].rows, new[n].nulls / new[n].rows) for n in both]
    hidden = before.personal | after.personal
    return Diff(
        names=(one.name, two.name),
        rows=(before.rows, after.rows),
        fingerprints=(before.fingerprint, after.fingerprint),
        removed=[name for name in schemas[0] if name not in schemas[1]],
        added=[name for name in schemas[1] if name not in schemas[0]],
        retyped=[(n, str(schemas[0][n]), str(schemas[1][n])) for n in both if schemas[0][n] != schemas[1][n]],
        nulls=[share for share in shares if share[1] != share[2]],
        drift=compare(tables[0], tables[1], max_psi=max_psi),
        key=key,
        by_key=compare_rows(tables[0], tables[1], key, tolerance=tolerance) if key else None,
        hidden=hidden,
    )


@dataclass(frozen=True)
class _Read:
    rows: int
    fingerprint: str
    columns: list[ColumnProfile]
    personal: set[str]


def _read(table: Table, side: Side) -> _Read:
    taken, profile, sampler = Fingerprint(table.schema), Profile(table.schema), Sampler(table.schema)
    rows = one_pass(table, [taken, profile, sampler])
    if not rows:
        raise BadInput(f"{side.name} has no rows", fix="Check the step that wrote it")
    return _Read(rows, taken.value(), profile.columns(), {one.column for one in sampler.judge()})
