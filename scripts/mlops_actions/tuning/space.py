"""The search space as numbers: what a parameter may be, and where each value lies among all of them.

A value's quantile is the share of draws that fall below it, so a number drawn evenly from 0 to 1 gives each value as
often as the parameter's distribution says, and algorithms that know only even numbers search every distribution.

What the distributions mean is Katib's (pkg/suggestion/v1beta1/hyperopt/base_service.py of github.com/kubeflow/katib):
`normal` has its mean in the middle of the bounds, which are three standard deviations away from it; the logarithms of
`logUniform` and `logNormal` are distributed so. Katib draws 0.3% of the normal ones outside the bounds; here none is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from statistics import NormalDist

from .experiment import Parameter

Value = float | int | str


@dataclass(frozen=True)
class Dimension:
    """A parameter that has passed the checks, with its bounds as numbers."""

    parameter: Parameter

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.parameter.name

    @property
    def choices(self) -> list[str]:
        """The values of a discrete or categorical parameter; empty for a number."""
        return self.parameter.feasible_space.values or []

    @cached_property
    def low(self) -> Decimal:
        """The least value, exactly as it was written."""
        return Decimal(self.parameter.feasible_space.min or "0")

    @cached_property
    def high(self) -> Decimal:
        """The greatest value."""
        return Decimal(self.parameter.feasible_space.max or "0")

    @cached_property
    def step(self) -> Decimal | None:
        """The distance of neighbours; 1 for an int that has none."""
        given = self.parameter.feasible_space.step
        return Decimal(given) if given else Decimal(1) if self.parameter.parameter_type == "int" else None

    @property
    def log(self) -> bool:
        """Whether it is drawn in the logarithm."""
        return self.parameter.feasible_space.distribution in ("logUniform", "logNormal")

    @property
    def normal(self) -> bool:
        """Whether values in the middle are drawn more often."""
        return self.parameter.feasible_space.distribution in ("normal", "logNormal")

    def at(self, quantile: float) -> Value:
        """The value at a quantile from 0 to 1."""
        if self.choices:
            return self.choices[min(int(quantile * len(self.choices)), len(self.choices) - 1)]
        if self.low == self.high:
            return self._exact(self.low)
        first, last = self._edges
        if self._bell:
            below, above = self._bell.cdf(first), self._bell.cdf(last)
            found = self._bell.inv_cdf(min(max(below + quantile * (above - below), 1e-12), 1 - 1e-12))
        else:
            found = first + quantile * (last - first)
        return self.clean(math.exp(found) if self.log else found)

    def quantile(self, value: Value) -> float:
        """Where a value lies; of a list's item the middle of its share."""
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices)
        if self.low == self.high:
            return 0.5
        first, last = self._edges
        place = math.log(float(value)) if self.log else float(value)
        if self._bell:
            first, last, place = self._bell.cdf(first), self._bell.cdf(last), self._bell.cdf(place)
        return min(max((place - first) / (last - first), 0.0), 1.0)

    def clean(self, value: float) -> Value:
        """A drawn number as the nearest one that the parameter may be, without the dust of binary fractions: 0.15,
        not 0.15000000000000002, on a step of 0.05.
        """
        if self.step is None:
            return min(max(value, float(self.low)), float(self.high))
        index = round((Decimal(value) - self.low) / self.step)
        return self._exact(self.low + min(max(index, 0), self.count() - 1) * self.step)

    def grid(self) -> list[Value]:
        """All values, for a grid: from the least one in steps, the greatest one if a step meets it."""
        return list(self.choices) or [self._exact(self.low + i * (self.step or 0)) for i in range(self.count())]

    def count(self) -> int:
        """How many values a grid has in this dimension."""
        if self.choices:
            return len(self.choices)
        return int((self.high - self.low) / self.step) + 1 if self.step else 1

    @cached_property
    def _edges(self) -> tuple[float, float]:
        """Where draws begin and end, in the logarithm if there is one; half a step farther out than the values, so
        that the outermost ones are drawn as often as the others.
        """
        low, high = float(self.low), float(self.high)
        if self.step is not None:
            half = float(self.step) / 2
            high = float(self.low + (self.count() - 1) * self.step) + half
            low = low - half if not self.log or low > half else low
        return (math.log(low), math.log(high)) if self.log else (low, high)

    @cached_property
    def _bell(self) -> NormalDist | None:
        low, high = float(self.low), float(self.high)
        if self.log:
            low, high = math.log(low), math.log(high)
        return NormalDist((low + high) / 2, (high - low) / 6) if self.normal else None

    def _exact(self, value: Decimal) -> Value:
        return int(value) if self.parameter.parameter_type == "int" else float(value)


class Space:
    """All dimensions of a search."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.dimensions = [Dimension(parameter) for parameter in parameters]

    def at(self, quantiles: Iterable[float]) -> dict[str, Value]:
        """The parameters at a point of the unit cube."""
        return {d.name: d.at(float(quantile)) for d, quantile in zip(self.dimensions, quantiles)}

    def quantiles(self, parameters: Mapping[str, Value]) -> list[float]:
        """The point of the unit cube where parameters lie."""
        return [d.quantile(parameters[d.name]) for d in self.dimensions]


def grid_size(parameters: Sequence[Parameter]) -> int:
    """How many combinations a grid has."""
    return math.prod(Dimension(parameter).count() for parameter in parameters)


def typed(parameter: Parameter, value: Value) -> Value:
    """A parameter's value as JSON has it: the items of a discrete list that are numbers, as numbers."""
    if parameter.parameter_type != "discrete" or not isinstance(value, str):
        return value
    if re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    try:
        return float(value)
    except ValueError:
        return value
