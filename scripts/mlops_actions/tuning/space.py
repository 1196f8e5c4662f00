"""The search space as numbers, and the algorithms over it with their settings.

Which settings an algorithm has, and what Katib calls them, is in `ALGORITHMS`. Source: Katib's suggestion services,
pkg/suggestion/v1beta1/{hyperopt,optuna}/service.py and internal/search_space.py of github.com/kubeflow/katib.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

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
    def low(self) -> Decimal:
        """The least value, exactly as it was written."""
        return Decimal(self.parameter.feasible_space.min or "0")

    @property
    def high(self) -> Decimal:
        """The greatest value."""
        return Decimal(self.parameter.feasible_space.max or "0")

    @property
    def step(self) -> Decimal | None:
        """The distance of neighbours; 1 for an int that has none."""
        given = self.parameter.feasible_space.step
        return Decimal(given) if given else Decimal(1) if self.parameter.parameter_type == "int" else None

    @property
    def log(self) -> bool:
        """Whether it is drawn uniformly in the logarithm."""
        return self.parameter.feasible_space.distribution == "logUniform"

    def grid(self) -> list[Value]:
        """All values, for a grid: from the least one in steps, the greatest one if a step meets it."""
        if self.parameter.feasible_space.values:
            return list(self.parameter.feasible_space.values)
        return [self._exact(self.low + index * (self.step or 0)) for index in range(self.count())]

    def count(self) -> int:
        """How many values a grid has in this dimension."""
        if self.parameter.feasible_space.values:
            return len(self.parameter.feasible_space.values)
        return int((self.high - self.low) / self.step) + 1 if self.step else 1

    def clean(self, value: Value) -> Value:
        """A drawn value without the dust of binary fractions: 0.15, not 0.15000000000000002, on a step of 0.05."""
        if isinstance(value, str) or self.step is None:
            return value
        return self._exact(self.low + round((Decimal(value) - self.low) / self.step) * self.step)

    def _exact(self, value: Decimal) -> Value:
        return int(value) if self.parameter.parameter_type == "int" else float(value)


@dataclass(frozen=True)
class SettingRule:
    """A setting of an algorithm: how its text is read, what it may be, and in words."""

    read: Callable[[str], float]
    allowed: Callable[[float], bool]
    words: str


_SEED = {"random_state": SettingRule(int, lambda v: v >= 0, "an integer of 0 or more")}
_COUNT = SettingRule(int, lambda v: v > 0, "an integer of 1 or more")
ALGORITHMS: Mapping[str, Mapping[str, SettingRule]] = {
    "random": _SEED,
    "grid": _SEED,
    "tpe": {
        **_SEED,
        "n_startup_trials": SettingRule(int, lambda v: v >= 0, "an integer of 0 or more"),
        "n_EI_candidates": _COUNT,
        "n_ei_candidates": _COUNT,
        "gamma": SettingRule(float, lambda v: 0 < v < 1, "a number between 0 and 1"),
        "prior_weight": SettingRule(float, lambda v: 0 < v < math.inf, "a number above 0"),
    },
}
"""The algorithms that the local engine honours, with their settings by Katib's names."""
KATIB_ONLY = ("bayesianoptimization", "cmaes", "multivariate-tpe", "sobol", "hyperband", "enas", "darts", "pbt")
"""Algorithms that Katib has and the local engine has not."""


def grid_size(parameters: Sequence[Parameter]) -> int:
    """How many combinations a grid has."""
    return math.prod(Dimension(parameter).count() for parameter in parameters)
