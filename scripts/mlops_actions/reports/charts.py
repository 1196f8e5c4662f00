"""Charts of a record as data for the page's templates, which draw them as SVG.

A record may hold anything: what is not as a chart needs it makes no chart. Positions are in units of a drawing that is
`WIDTH` wide, with y downward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..records import Record
from ..text import duration, number
from .lineage import Node

WIDTH, PLOT = 320.0, 200.0
"""Of a drawing, and the height of a plot's inside."""
_LEFT, _TOP = 56.0, 8.0
_BARS, _DOTS = 15, 300


@dataclass(frozen=True)
class Line:
    """A plot of x and y: a line of points `x,y`, single dots, a line to compare with, and ticks of both axes."""

    title: str
    x: str
    y: str
    line: str
    dots: Sequence[tuple[float, float]]
    reference: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    words: str
    template = "line"


@dataclass(frozen=True)
class Bars:
    """Named values, each with the length of its bar in units; `bad` ones stand out."""

    title: str
    rows: Sequence[tuple[str, str, float, bool]]
    words: str
    template = "bars"


@dataclass(frozen=True)
class Pairs:
    """Shares of rows by bin in two tables: of each bin its name, both lengths in units, and both shares in words."""

    title: str
    names: tuple[str, str]
    rows: Sequence[tuple[str, float, float, str]]
    bad: bool
    words: str
    template = "pairs"


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: names, and rows of cells with their number and their share of the row."""

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[tuple[str, float]]]
    words: str
    template = "matrix"


@dataclass(frozen=True)
class Span:
    """One action of the timeline: when it waited, when it worked, in percent of the whole."""

    name: str
    wait: float
    begin: float
    length: float
    state: str
    words: str


Chart = Line | Bars | Pairs | Matrix


def charts(record: Record) -> list[Chart]:
    """The charts of a record."""
    found: list[Chart] = []
    for make in (_curves, _tuning, _drift, _distributions, _slices):
        try:
            found += make(record)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
            continue
    return found


def _curves(record: Record) -> Iterator[Chart]:
    curves = record.details.get("curves") or {}
    area = record.outputs.get("metrics") or {}
    if points := curves.get("roc"):
        known = f", area {number(area['auc'])}" if isinstance(area.get("auc"), float) else ""
        yield _line(f"ROC{known}", "false positive rate", "true positive rate", points, unit=True, diagonal=True)
    if points := curves.get("pr"):
        yield _line("Precision and recall", "recall", "precision", points, unit=True)
    if points := curves.get("calibration"):
        yield _line("Calibration", "mean score", "share of positives", points, dots=True, diagonal=True)
    if points := curves.get("predicted"):
        yield _line("Predicted against actual", "actual", "predicted", points, line=False, dots=True, diagonal=True)
    if confusion := curves.get("confusion"):
        yield _matrix("Confusion matrix", confusion["classes"], confusion["counts"])


def _tuning(record: Record) -> Iterator[Chart]:
    details = record.details
    if history := details.get("history"):
        better = min if details.get("type") == "minimize" else max
        values = [(float(trial), float(value)) for trial, value in history]
        best = [values[0]]
        for trial, value in values[1:]:  # a step where it became better
            last = best[-1][1]
            if better(value, last) != last:
                best += [(trial, last), (trial, value)]
        best.append((values[-1][0], best[-1][1]))
        title = f"Tuning: {details.get('objective')}, best so far"
        objective = str(details.get("objective"))
        yield _line(title, "trial", objective, best, cloud=_thinned(values))
    if importances := details.get("importances"):
        yield _bars("Importance of parameters", [(name, float(value), False) for name, value in importances.items()])


def _drift(record: Record) -> Iterator[Chart]:
    found = record.details.get("drift") or (record.details.get("columns") if record.action == "monitor-model" else None)
    if found:
        rows = [(str(one["column"]), float(one["psi"]), bool(one["drifted"])) for one in found]
        yield _bars("Drift (PSI)", rows)


def _distributions(record: Record) -> Iterator[Chart]:
    found = record.details.get("distributions") or {}
    for one in found.get("columns") or []:
        before, now = map(str, found["names"])
        bins = [(str(name), float(old), float(new)) for name, old, new in one["bins"]]
        if not all(math.isfinite(share) and share >= 0 for _, *shares in bins for share in shares):
            raise ValueError(one["column"])
        top = max((share for _, *shares in bins for share in shares), default=0.0) or 1.0
        rows = [
            (name, round(100 * old / top, 1), round(100 * new / top, 1), f"{100 * old:.3g} → {100 * new:.3g} %")
            for name, old, new in bins
        ]
        title = f"{one['column']}, PSI {float(one['psi']):.3f}"
        words = f"{title}: shares of rows, {before} and {now}"
        yield Pairs(title, (before, now), rows, bool(one["drifted"]), words)


def _slices(record: Record) -> Iterator[Chart]:
    metric = str(record.outputs.get("primary-metric"))
    found = [one for one in record.details.get("slices") or [] if metric in one["metrics"]]
    if found:
        rows = [(f"{one['column']} = {one['value']}", float(one["metrics"][metric]), False) for one in found]
        yield _bars(f"{metric} by slice", rows)


def _line(
    title: str, x: str, y: str, points: Sequence[Sequence[float]], *, cloud: Sequence[Sequence[float]] = (),
    line: bool = True, dots: bool = False, unit: bool = False, diagonal: bool = False,
) -> Line:  # fmt: skip
    """A plot; its axes are from 0 to 1, or as far as the points go (the same for both with a diagonal)."""
    pairs = _thinned([(float(a), float(b)) for a, b in points])
    every = [*pairs, *((float(a), float(b)) for a, b in cloud)]
    if not all(math.isfinite(value) for pair in every for value in pair):
        raise ValueError(title)
    xs, ys = [a for a, _ in every], [b for _, b in every]
    if unit:
        xs = ys = [0.0, 1.0]
    elif diagonal:
        xs = ys = [*xs, *ys]
    (left, right), (low, high) = _ends(xs), _ends(ys, room=0.0 if unit or diagonal else 0.08)

    def at(a: float, b: float) -> tuple[float, float]:
        width = WIDTH - _LEFT - 8
        return (
            round(_LEFT + (a - left) / (right - left) * width, 1),
            round(_TOP + (high - b) / (high - low) * PLOT, 1),
        )

    corners = [at(left, left), at(right, right)] if diagonal else []
    return Line(
        title, x, y,
        " ".join(f"{a},{b}" for a, b in (at(*pair) for pair in pairs)) if line else "",
        [at(a, b) for a, b in (every[len(pairs) :] if cloud else pairs if dots else [])],
        " ".join(f"{a},{b}" for a, b in corners),
        [(at(value, low)[0], _tick(value)) for value in (left, (left + right) / 2, right)],
        [(at(left, value)[1], _tick(value)) for value in (low, (low + high) / 2, high)],
        f"{title}: {y} from {number(pairs[0][1])} to {number(pairs[-1][1])}",
    )  # fmt: skip


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most so many of the points as a picture can show, the last one among them."""
    step = -(-len(points) // _DOTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _ends(values: Sequence[float], room: float = 0.0) -> tuple[float, float]:
    """The ends of an axis, with so much of it as room on either side; a single value is in the middle of it.

    Raises:
        ValueError: they are further apart than numbers go.
    """
    low, high = min(values), max(values)
    beside = room * (high - low) if high > low else max(0.5, 1e-6 * abs(low))
    if not math.isfinite((high + beside) - (low - beside)):
        raise ValueError(f"from {low} to {high}")
    return low - beside, high + beside


def _tick(value: float) -> str:
    return number(value) if abs(value) >= 1000 else f"{value:.3g}"


def _bars(title: str, rows: Sequence[tuple[str, float, bool]]) -> Bars:
    """The longest bars; a value without an end is refused."""
    if not rows or not all(math.isfinite(value) for _, value, _ in rows):
        raise ValueError(title)
    top = max(abs(value) for _, value, _ in rows) or 1.0
    kept = sorted(rows, key=lambda row: (-row[2], -abs(row[1])))[:_BARS]
    more = f" (the first {_BARS} of {len(rows)})" if len(rows) > _BARS else ""
    return Bars(
        title + more,
        [(name, number(value), round(100 * abs(value) / top, 1), bad) for name, value, bad in kept],
        f"{title}: " + ", ".join(f"{name} {number(value)}" for name, value, _ in kept[:5]),
    )


def _matrix(title: str, names: Sequence[object], counts: Sequence[Sequence[int]]) -> Matrix:
    rows = []
    for row in counts:
        whole = sum(row) or 1
        rows.append([(number(int(value)), round(value / whole, 3)) for value in row])
    right = sum(row[index] for index, row in enumerate(counts))
    words = f"{number(right)} of {number(sum(map(sum, counts)))} rows predicted right"
    return Matrix(title, [str(name) for name in names], rows, words)


def timeline(records: Sequence[Record]) -> list[Span]:
    """When each action of a run waited and worked.

    It waited from the last end of an action before it to its own beginning: for a runner, and to be set up.
    """
    found: list[tuple[float, float, Record]] = []
    for record in records:
        try:
            begin = datetime.fromisoformat(record.started).timestamp()
        except (ValueError, OverflowError, OSError):
            continue
        if math.isfinite(record.seconds) and 0 <= record.seconds < 1e9:
            found.append((begin, begin + record.seconds, record))
    found.sort(key=lambda one: one[0])
    if not found:
        return []
    first, last = found[0][0], max(end for _, end, _ in found)
    whole = max(last - first, 1e-3)
    spans = []
    for begin, end, record in found:
        before = max((other for _, other, _ in found if other <= begin), default=begin)
        variant = f" ({record.details['variant']})" if "variant" in record.details else ""
        state = "reused" if record.reused else "good" if record.verdict in ("passed", "unchecked") else "bad"
        waited = f", waited {duration(begin - before)}" if begin - before >= 1 else ""
        said = f"{'reused' if record.reused else duration(record.seconds)}{waited}"
        percent = [round(100 * value / whole, 2) for value in (before - first, begin - first, end - begin)]
        spans.append(Span(record.action + variant, percent[0], percent[1], percent[2], state, said))
    return spans


@dataclass(frozen=True)
class Drawn:
    """A graph's boxes, each with its place, and the lines between them; how high it is."""

    boxes: Sequence[tuple[float, float, Node]]
    lines: Sequence[tuple[float, float, float, float]]
    height: float


BOX = (92.0, 38.0)
"""Width and height of a box."""


def graph(nodes: Sequence[Node]) -> Drawn:
    """The lineage in columns: what the model is made of, the model, where it serves."""
    columns: Mapping[int, list[Node]] = {0: [], 1: [], 2: []}
    for node in nodes:
        columns[1 if node.name == "model" else 2 if node.before else 0].append(node)
    highest = max((len(column) for column in columns.values()), default=0)
    step, places = BOX[1] + 12, {}
    for at, column in columns.items():
        for row, node in enumerate(column):
            y = (row + (highest - len(column)) / 2) * step + 4
            places[node.name] = (4 + at * 110.0, round(y, 1), node)
    lines = [
        (places[name][0] + BOX[0], places[name][1] + BOX[1] / 2, x, y + BOX[1] / 2)
        for x, y, node in places.values() for name in node.before if name in places
    ]  # fmt: skip
    return Drawn(list(places.values()), lines, highest * step)
