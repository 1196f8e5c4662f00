"""A metric of a model over its versions, as the points of a line, with the limits that it had to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .collect import Version

WIDTH, HEIGHT, EDGE = 560.0, 120.0, 6.0
_DOTTED = 120
"""Versions up to which each one's point is drawn."""


@dataclass(frozen=True)
class Point:
    """A version's value: where it is drawn, and whether its gates on this metric have passed."""

    x: float
    y: float
    version: int
    value: float
    passed: bool


@dataclass(frozen=True)
class Chart:
    """A metric over versions.

    Attributes:
        metric: its name.
        points: one a version that has it.
        gates: for each limit in words the line of where it stood.
        low, high: the values at the lower and upper edge.
        dotted: whether there are few enough points to draw each.
    """

    metric: str
    points: Sequence[Point]
    gates: dict[str, str]
    low: float
    high: float
    dotted: bool

    @property
    def line(self) -> str:
        """The points as SVG's `points`."""
        return " ".join(f"{point.x:g},{point.y:g}" for point in self.points)

    @property
    def failed(self) -> Sequence[Point]:
        """Those that did not pass."""
        return [point for point in self.points if not point.passed]


def chart(metric: str, versions: Sequence[Version]) -> Chart:
    """The chart of a metric that at least one of the versions has."""
    having = [one for one in versions if metric in one.described["metrics"]]
    gates = {one.number: [gate for gate in one.gates if gate.metric == metric] for one in having}
    values = [one.described["metrics"][metric] for one in having]
    bounds = [gate.bound for found in gates.values() for gate in found]
    low, high = min(values + bounds), max(values + bounds)
    first, last = having[0].number, having[-1].number

    def x(number: int) -> float:
        share = (number - first) / (last - first) if last > first else 0.5
        return round(EDGE + share * (WIDTH - 2 * EDGE), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE), 1)

    points = [
        Point(x(one.number), y(value), one.number, value, all(gate.passed for gate in gates[one.number]))
        for one, value in zip(having, values)
    ]
    limits: dict[str, list[str]] = {}
    for index, one in enumerate(having):
        start = points[index - 1].x if index else 0.0
        for gate in gates[one.number]:
            limits.setdefault(gate.limit, []).append(f"M{start:g} {y(gate.bound):g}H{points[index].x:g}")
    if len(having) == 1:
        limits = {limit: [f"M0 {y(gate.bound):g}H{WIDTH:g}"] for gate in gates[first] for limit in [gate.limit]}
    return Chart(metric, points, {k: _joined(v) for k, v in limits.items()}, low, high, len(points) <= _DOTTED)


def _joined(parts: Sequence[str]) -> str:
    """Pieces of one level, each of which begins where the one before it ends, as few."""
    made: list[str] = []
    for part in parts:
        start, _, end = part.partition("H")
        if made and made[-1].partition("H")[2] == start[1:].split(" ")[0]:
            made[-1] = f"{made[-1].partition('H')[0]}H{end}"
        else:
            made.append(part)
    return "".join(made)
