"""How far a table's columns have moved from a reference: population stability index and Kolmogorov-Smirnov.

PSI = Σ (p - q)·ln(p / q) over bins, p and q the shares of rows in a bin now and in the reference. Rule of thumb: under
0.1 no change, over 0.2 a marked one. Numbers are put into bins at the reference's deciles, nulls into a bin of their
own; other values are their own bins. Half a row is added to each bin, so that an empty one has a logarithm and a few
rows do not make a large index of it. For equal distributions PSI / (1/n + 1/m) follows chi-square with (bins - 1)
degrees of freedom (B. Yurdakul, "Statistical Properties of Population Stability Index", 2018), so that with few rows
a large PSI may be chance: a column has drifted only if its PSI is over the limit and over what chance gives once in
a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from ..errors import BadInput
from .tables import Table, reading

BINS = 10
FEW_VALUES = 20
"""Numbers with at most this many distinct values in the reference are categories: months, weekdays, flags."""
_REPEATED = 5  # … if each is there so many times on average: a short column of measurements is none
CATEGORIES = 50
"""The reference's most frequent categories; the rest are one bin."""
SAMPLE = 1_000_000
"""Values of a column that are looked at: every k-th row, so that the answer is the same each time."""
CHANCE = 0.001
_REST = "(other)"
_NULL = "(null)"


@dataclass(frozen=True)
class ColumnDrift:
    """One column now against the reference.

    Attributes:
        column: its name.
        kind: `numeric` or `categorical`.
        psi: the population stability index.
        chance: the PSI that equal distributions exceed once in a thousand, given the numbers of rows.
        ks, p: the Kolmogorov-Smirnov statistic and its p-value; None for categories.
        drifted: whether psi is over the limit and over chance.
        bins: labels of the bins, with the shares of rows in the reference and now.
    """

    column: str
    kind: str
    psi: float
    chance: float
    drifted: bool
    ks: float | None = None
    p: float | None = None
    bins: list[str] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    current: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a record: rounded, and without the bins."""
        values = {k: v for k, v in asdict(self).items() if k not in ("bins", "reference", "current")}
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


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


def compare(reference: Table, current: Table, columns: Sequence[str] = (), max_psi: float = 0.2) -> Drift:
    """Compare two tables column by column; one column is in memory at a time.

    Args:
        reference: what the model was trained on.
        current: what comes now.
        columns: which; by default all but times, nested values, and texts that are different in most rows.
        max_psi: the limit.

    Raises:
        BadInput: a named column is not in both tables, or a table has no rows.
    """
    for name in columns:
        for table, what in ((reference, "reference"), (current, "data")):
            if name not in table.schema:
                raise BadInput(f"There is no column {name!r} in the {what}", fix="Correct `columns`")
    found, skipped = [], {}
    steps = [max(1, -(-_rows(table) // SAMPLE)) for table in (reference, current)]
    for name in columns or [name for name in reference.schema if name in current.schema]:
        why = _unfit(reference.schema[name], current.schema[name], named=bool(columns))
        if why:
            skipped[name] = why
            continue
        before, now = (_column(table, name, step) for table, step in zip((reference, current), steps))
        if not columns and before.dtype == pl.String and before.n_unique() > max(CATEGORIES, len(before) // 2):
            skipped[name] = "almost every row has its own value"
            continue
        if not columns and _texts_are_times(before):
            skipped[name] = "is a time"
            continue
        found.append(compare_columns(name, before, now, max_psi))
    if not columns:
        skipped |= {name: "not in the data" for name in reference.schema if name not in current.schema}
    return Drift(sorted(found, key=lambda c: (-c.drifted, -c.psi)), skipped)


def compare_columns(name: str, before: pl.Series, now: pl.Series, max_psi: float = 0.2) -> ColumnDrift:
    """Compare one column's values, none of the two empty."""
    if _is_numeric(before):
        labels, counts = _numeric_bins(before, now)
        x, y = (_finite(values) for values in (before, now))
        test = stats.ks_2samp(x, y, method="asymp") if len(x) and len(y) else None
        kind, ks, p = "numeric", test and float(test.statistic), test and float(test.pvalue)
    else:
        labels, counts = _category_bins(before, now)
        kind, ks, p = "categorical", None, None
    q, share = counts[0] / len(before), counts[1] / len(now)
    index = psi(*((count + 0.5) / (count.sum() + 0.5 * len(count)) for count in counts))
    chance = float(stats.chi2.ppf(1 - CHANCE, max(1, len(labels) - 1))) * (1 / len(before) + 1 / len(now))
    drifted = index > max_psi and index > chance
    return ColumnDrift(name, kind, index, chance, drifted, ks, p, labels, q.tolist(), share.tolist())


def psi(reference: np.ndarray[Any, Any], current: np.ndarray[Any, Any]) -> float:
    """The population stability index of two arrays of shares, none of which is 0."""
    return float(np.sum((current - reference) * np.log(current / reference)))


def _rows(table: Table) -> int:
    with reading(table.parts[0].name):
        rows = int(table.frame.select(pl.len()).collect(engine="streaming").item())
    if not rows:
        raise BadInput(f"There are no rows in {table.parts[0].name}", fix="Look at the step that wrote it")
    return rows


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


def _texts_are_times(values: pl.Series) -> bool:
    return values.dtype == pl.String and bool(values.drop_nulls().head(100).str.contains(r"^\d{4}-\d\d-\d\d").all())


def _column(table: Table, name: str, step: int) -> pl.Series:
    values: pl.Series = table.frame.select(pl.col(name).gather_every(step)).collect(engine="streaming").to_series()
    if values.dtype.is_temporal():
        values = values.to_physical().cast(pl.Float64)
    elif not values.dtype.is_numeric():
        values = values.cast(pl.String)
    return values


def _is_numeric(values: pl.Series) -> bool:
    if not values.dtype.is_numeric():
        return False
    distinct = values.n_unique()
    return distinct > FEW_VALUES or distinct * _REPEATED > len(values)


def _finite(values: pl.Series) -> np.ndarray[Any, Any]:
    numbers: np.ndarray[Any, Any] = values.drop_nulls().cast(pl.Float64).to_numpy()
    finite: np.ndarray[Any, Any] = numbers[np.isfinite(numbers)]
    return finite


def _numeric_bins(before: pl.Series, now: pl.Series) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    known = _finite(before)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.array([])
    counts = []
    for values in (before, now):
        numbers = _finite(values)
        # a bin holds its lower edge: a value that many rows share (0) has a bin that begins with it
        inside = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)
        counts.append(np.append(inside, len(values) - len(numbers)).astype(float))
    texts = [f"{edge:.4g}" for edge in edges]
    labels = ["all"] if not texts else [f"< {texts[0]}", *(f"{a} – {b}" for a, b in pairwise(texts)),
                                        f"≥ {texts[-1]}"]  # fmt: skip
    return _without_empty([*labels, _NULL], counts)


def _category_bins(before: pl.Series, now: pl.Series) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    tables = [_counts(before), _counts(now)]
    common = sorted((k for k in tables[0] if k != _NULL), key=lambda k: (-tables[0][k], k))[:CATEGORIES]
    # what is new is seen one by one too, as far as it goes
    new = sorted((k for k in tables[1] if k not in tables[0]), key=lambda k: (-tables[1][k], k))[:CATEGORIES]
    labels = [*common, *(k for k in new if k != _NULL)]
    if before.dtype.is_numeric() and now.dtype.is_numeric():
        labels.sort(key=float)
    counts = []
    for table in tables:
        own = [table.get(label, 0) for label in labels]
        null = table.get(_NULL, 0)
        counts.append(np.array([*own, sum(table.values()) - sum(own) - null, null], dtype=float))
    return _without_empty([*labels, _REST, _NULL], counts)


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.cast(pl.String).fill_null(_NULL).value_counts()
    return dict(counted.iter_rows())


def _without_empty(
    labels: list[str], counts: list[np.ndarray[Any, Any]]
) -> tuple[list[str], list[np.ndarray[Any, Any]]]:
    used = (counts[0] + counts[1]) > 0
    return [label for label, kept in zip(labels, used) if kept], [array[used] for array in counts]
