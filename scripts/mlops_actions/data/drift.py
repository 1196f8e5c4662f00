"""How far a table's columns have moved from a reference.

Distances, each over the shares p now and q in the reference of rows in bins. Numbers are put into bins at the
reference's deciles, nulls into a bin of their own; of other values the most frequent ones in both tables together are
bins of their own, and the rest is one bin. (Those of one table alone would look rarer in the other one by chance.) How
far the values of the rest have moved among each other is added to its PSI, see `distances.excess`, and tested over all
values.

- PSI, the population stability index: Σ (p - q)·ln(p / q). Rule of thumb: under 0.1 no change, over 0.2 a marked one.
  Half a row is added to each bin, so that an empty one has a logarithm and a few rows do not make a large index of it.
- JS, the Jensen-Shannon distance: √(½ KL(p‖m) + ½ KL(q‖m)), m = (p + q) / 2, with base 2: from 0 to 1.
- KS, the Kolmogorov-Smirnov statistic of numbers: the largest difference of the two distribution functions, 0 to 1.

With few rows a large distance may be chance. So each column is tested by Pearson's chi-square of homogeneity over the
same bins (by the likelihood ratio where a bin expects fewer than 5 rows, which it is not made for), numbers also by
Kolmogorov-Smirnov, and of two p-values the smaller one counts twice (Bonferroni). One in
twenty columns that have not moved has p < 0.05; with many columns some always do. Therefore p-values are adjusted by
Holm's method ("A Simple Sequentially Rejective Multiple Test Procedure", 1979): in a table that has not moved, one
false alarm in a thousand runs, however many columns there are. A column has drifted if a distance is over its limit and
its adjusted p-value is under that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from ..errors import BadInput
from ..inputs import kebab
from .distances import excess, holm, homogeneity, jensen_shannon, kolmogorov_smirnov, psi
from .rules import DriftLimits
from .tables import Table, reading, unknown_column

BINS = 10
FEW_VALUES = 20
"""Numbers with at most this many distinct values in the reference are categories: months, weekdays, flags."""
_REPEATED = 5  # … if each is there so many times on average: a short column of measurements is none
CATEGORIES = 50
"""The most frequent categories; the rest are one bin."""
SAMPLE = 1_000_000
"""About so many values of a column are looked at, see `Table.sample`."""
CHANCE = 0.001
"""Probability of a false alarm in a table that has not moved."""
SHOWN = 10
"""New and vanished categories that a record keeps."""
_REST = "(other)"
_NULL = "(null)"
_CELLS = 10_000_000  # values of both tables that are in memory at a time


@dataclass(frozen=True)
class ColumnDrift:
    """One column now against the reference.

    Attributes:
        column: its name.
        kind: `numeric` or `categorical`.
        psi, js: population stability index and Jensen-Shannon distance.
        ks: the Kolmogorov-Smirnov statistic; None for categories.
        p: the probability of distances like these by chance, adjusted for the number of columns.
        drifted: whether a distance is over its limit, and p is small enough.
        new, vanished: categories that only one side has, with their shares there, the most frequent first.
        why: what has drifted, in words; "" when nothing has.
        bins: labels of the bins, with the shares of rows in the reference and now.
    """

    column: str
    kind: str
    psi: float
    js: float
    p: float
    ks: float | None = None
    drifted: bool = False
    why: str = ""
    new: dict[str, float] = field(default_factory=dict)
    vanished: dict[str, float] = field(default_factory=dict)
    bins: list[str] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    current: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a record: rounded, and without the bins."""
        values = {k: v for k, v in asdict(self).items() if k not in ("bins", "reference", "current")}
        for name in ("new", "vanished"):
            values[name] = {k: _short(v) for k, v in list(values[name].items())[:SHOWN]}
        return {k: _short(v) if isinstance(v, float) else v for k, v in values.items()}


def _short(number: float) -> float:
    return float(f"{number:.6g}")


@dataclass(frozen=True)
class Drift:
    """All compared columns, the most moved first, and those left out with the reason."""

    columns: list[ColumnDrift]
    skipped: dict[str, str]

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The columns that have drifted."""
        return [column for column in self.columns if column.drifted]

    @property
    def share(self) -> float:
        """Drifted columns among those compared, 0 to 1."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def compare(
    reference: Table,
    current: Table,
    columns: Sequence[str] = (),
    max_psi: float = 0.2,
    limits: Mapping[str, DriftLimits] | None = None,
) -> Drift:
    """Compare two tables column by column; some columns are in memory at a time.

    Args:
        reference: what the model was trained on.
        current: what comes now.
        columns: which; by default all but times, nested values, and texts that are different in most rows.
        max_psi: the limit of columns that have none of their own.
        limits: of single columns. Every one that is given counts.

    Raises:
        BadInput: a named column is not in both tables, or cannot be compared; or a table has no rows.
    """
    limits = limits or {}
    for name in [*columns, *limits]:
        for table, what in ((reference, "reference"), (current, "data")):
            if name not in table.schema:
                raise unknown_column(name, f"The {what}", table.schema)
    found, skipped, fit = [], {}, []
    common = columns or [name for name in reference.schema if name in current.schema]
    empty = _all_null((reference, current), [n for n in common if reference.schema[n] != current.schema[n]])
    for name in common:
        named = bool(columns) or name in limits
        why = "" if name in empty else _unfit(reference.schema[name], current.schema[name], named=named)
        if why and named:
            raise BadInput(f"The column {name!r} cannot be compared with the reference", why=f"It {why}",
                           fix="Correct the data, or do not name the column")  # fmt: skip
        if why:
            skipped[name] = why
        else:
            fit.append(name)
    for name, before, now in _samples(reference, current, fit):
        if not columns and name not in limits and (why := _tells_rows_apart(before)):
            skipped[name] = why
        else:
            found.append(compare_columns(name, before, now))
            _need_limits_of(found[-1], limits.get(name))
    if not columns:
        skipped |= {name: "not in the data" for name in reference.schema if name not in current.schema}
    judged = judge(found, max_psi, limits)
    return Drift(sorted(judged, key=lambda c: (-c.drifted, -c.psi)), skipped)


def _need_limits_of(column: ColumnDrift, limits: DriftLimits | None) -> None:
    """That a column's own limits are of its kind: the others would never be passed."""
    if limits and column.kind == "numeric":
        wrong = [name for name in ("new_categories", "vanished_categories") if not getattr(limits, name)]
    else:
        wrong = ["ks"] if limits and limits.ks else []
    if wrong:
        kind = "numbers" if column.kind == "numeric" else "categories"
        raise BadInput(f"`{kebab(wrong[0])}` cannot be judged of the column {column.column!r}",
                       why=f"It is compared as {kind}", fix="Limit `psi` or `js` instead")  # fmt: skip


def compare_columns(name: str, before: pl.Series, now: pl.Series) -> ColumnDrift:
    """The distances of one column's values, none of the two empty; p is of this column alone."""
    if _is_numeric(before):
        x, y = (_sorted(values) for values in (before, now))
        labels, counts = _numeric_bins(x, y, len(before) - len(x), len(now) - len(y))
        ks, p = kolmogorov_smirnov(x, y) if len(x) and len(y) else (float(len(x) != len(y)), 1.0)
        p = min(1.0, 2 * min(p, homogeneity(*counts)))
        return _column(name, "numeric", labels, counts, p, ks)
    tables = _counts(before), _counts(now)
    labels, counts = _category_bins(*tables, numeric=before.dtype.is_numeric() and now.dtype.is_numeric())
    found = _column(name, "categorical", labels, counts, homogeneity(*counts))
    names = {**tables[0], **tables[1]}
    rest = _counts_of([name for name in names if name not in {*labels, _NULL}], tables)
    if len(rest[0]) > 1:
        shares = [float(part.sum() / count.sum()) for part, count in zip(rest, counts)]
        p = min(1.0, 2 * min(found.p, homogeneity(*_counts_of(names, tables))))
        found = replace(found, psi=found.psi + sum(shares) / 2 * excess(*rest), p=p)
    return replace(found, new=_only_in(tables[1], tables[0]), vanished=_only_in(*tables))


def _column(
    name: str, kind: str, labels: list[str], counts: list[np.ndarray[Any, Any]], p: float, ks: float | None = None
) -> ColumnDrift:
    shares = [count / count.sum() for count in counts]
    index = psi(*((count + 0.5) / (count.sum() + 0.5 * len(count)) for count in counts))
    lists = [share.tolist() for share in shares]
    return ColumnDrift(
        name, kind, index, jensen_shannon(*shares), p, ks, bins=labels, reference=lists[0], current=lists[1]
    )


def judge(
    found: Sequence[ColumnDrift], max_psi: float = 0.2, limits: Mapping[str, DriftLimits] | None = None
) -> list[ColumnDrift]:
    """Which columns have drifted, with p adjusted for their number."""
    adjusted = holm([column.p for column in found])
    judged = []
    for column, p in zip(found, adjusted):
        over = _over(column, (limits or {}).get(column.column), max_psi)
        drifted = bool(over) and p < CHANCE
        judged.append(replace(column, p=p, drifted=drifted, why=", ".join(over) if drifted else ""))
    return judged


def _over(column: ColumnDrift, limits: DriftLimits | None, max_psi: float) -> list[str]:
    """The limits that a column is over, in words."""
    own = {"PSI": limits and limits.psi, "JS": limits and limits.js, "KS": limits and limits.ks}
    if not any(own.values()):
        own["PSI"] = max_psi
    values = {"PSI": column.psi, "JS": column.js, "KS": column.ks or 0.0}
    over = [
        f"{name} {values[name]:.3g} over {limit:g}" for name, limit in own.items() if limit and values[name] > limit
    ]
    if limits and not limits.new_categories and column.new:
        over.append(f"new: {', '.join(list(column.new)[:3])}")
    if limits and not limits.vanished_categories and column.vanished:
        over.append(f"vanished: {', '.join(list(column.vanished)[:3])}")
    return over


def _rows(table: Table) -> int:
    with reading(table.parts[0].name):
        rows = int(table.frame.select(pl.len()).collect(engine="streaming").item())
    if not rows:
        raise BadInput(f"{table.parts[0].name} has no rows", fix="Check the step that wrote it")
    return rows


def _all_null(tables: Sequence[Table], names: Sequence[str]) -> set[str]:
    """The columns that are null in every row of one of the tables: they can be compared whatever their type."""
    found: set[str] = set()
    for table in tables if names else ():
        with reading(table.parts[0].name):
            filled = table.frame.select(pl.col(names).is_not_null().any()).collect(engine="streaming")
        found |= {name for name, any_value in zip(names, filled.row(0)) if not any_value}
    return found


def _unfit(before: pl.DataType, now: pl.DataType, *, named: bool) -> str:
    kinds = {_family(before), _family(now)}
    if len(kinds) > 1:
        return f"is {now}, and {before} in the reference"
    family = kinds.pop()
    return "" if family in ("number", "category") or (named and family == "time") else f"is a {family}"


def _family(kind: pl.DataType) -> str:
    if kind.is_numeric():
        return "number"
    if kind.is_temporal():
        return "time"
    return "nested value" if kind.is_nested() or kind in (pl.Binary, pl.Object) else "category"


def _tells_rows_apart(values: pl.Series) -> str:
    """Why a column of texts has no distribution to compare; "" when it has one."""
    if values.dtype != pl.String:
        return ""
    if values.n_unique() > max(CATEGORIES, len(values) // 2):
        return "almost every row has its own value"
    times = bool(values.drop_nulls().head(100).str.contains(r"^\d{4}-\d\d-\d\d").all())
    return "is a time" if times else ""


def _samples(reference: Table, current: Table, names: Sequence[str]) -> Iterator[tuple[str, pl.Series, pl.Series]]:
    """Each column of both tables, read several at a time."""
    tables = (reference, current)
    rows = [_rows(table) for table in tables]
    together = max(1, _CELLS // sum(min(count, SAMPLE) for count in rows))
    for start in range(0, len(names), together):
        some = names[start : start + together]
        frames = [table.sample(some, SAMPLE, count) for table, count in zip(tables, rows)]
        for name in some:
            before, now = (frame.get_column(name) for frame in frames)
            if now.null_count() == len(now):
                now = now.cast(before.dtype)
            elif before.null_count() == len(before):
                before = before.cast(now.dtype)
            yield name, _comparable(before), _comparable(now)


def _comparable(values: pl.Series) -> pl.Series:
    if values.dtype.is_temporal():
        values = values.to_physical().cast(pl.Float64)
    elif not values.dtype.is_numeric():
        values = values.cast(pl.String)
    return values


def _only_in(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, float]:
    """The categories that only one side has, with their shares there."""
    only = sorted((key for key in one if key not in other and key != _NULL), key=lambda key: (-one[key], key))
    total = sum(one.values())
    return {key: one[key] / total for key in only}


def _is_numeric(values: pl.Series) -> bool:
    if not values.dtype.is_numeric():
        return False
    distinct = values.n_unique()
    return distinct > FEW_VALUES or distinct * _REPEATED > len(values)


def _sorted(values: pl.Series) -> np.ndarray[Any, Any]:
    """The finite numbers in order."""
    numbers = values.cast(pl.Float64)
    ordered: np.ndarray[Any, Any] = numbers.filter(numbers.is_finite().fill_null(False)).sort().to_numpy()
    return ordered


def _numeric_bins(
    before: np.ndarray[Any, Any], now: np.ndarray[Any, Any], *missing: int
) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    """Counts of sorted numbers by the reference's deciles, and of what is missing."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1])) if len(before) else np.array([])
    counts = []
    for values, absent in zip((before, now), missing):
        # a bin holds its lower edge: a value that many rows share (0) has a bin that begins with it
        below = np.searchsorted(values, edges, side="left")
        counts.append(np.append(np.diff(below, prepend=0, append=len(values)), absent).astype(float))
    texts = [f"{edge:.4g}" for edge in edges]
    labels = ["all"] if not texts else [f"< {texts[0]}", *(f"{a} – {b}" for a, b in pairwise(texts)),
                                        f"≥ {texts[-1]}"]  # fmt: skip
    return _without_empty([*labels, _NULL], counts)


def _category_bins(
    before: Mapping[str, int], now: Mapping[str, int], *, numeric: bool
) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    pooled = {name: before.get(name, 0) + now.get(name, 0) for name in {**before, **now} if name != _NULL}
    labels = sorted(pooled, key=lambda name: (-pooled[name], name))[:CATEGORIES]
    if numeric:
        labels.sort(key=float)
    counts = []
    for table, own in zip((before, now), _counts_of(labels, (before, now))):
        null = table.get(_NULL, 0)
        counts.append(np.append(own, [sum(table.values()) - own.sum() - null, null]))
    return _without_empty([*labels, _REST, _NULL], counts)


def _counts_of(names: Collection[str], tables: Sequence[Mapping[str, int]]) -> list[np.ndarray[Any, Any]]:
    return [np.array([table.get(name, 0) for name in names], dtype=float) for table in tables]


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.value_counts()
    names = counted.to_series(0).cast(pl.String).fill_null(_NULL)
    return dict(zip(names.to_list(), counted.to_series(1).to_list()))


def _without_empty(
    labels: list[str], counts: list[np.ndarray[Any, Any]]
) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    used = (counts[0] + counts[1]) > 0
    return [label for label, kept in zip(labels, used) if kept], [array[used] for array in counts]
