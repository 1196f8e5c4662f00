"""The search space and the algorithms over it, through Optuna.

Which settings an algorithm has, and what Katib calls them, is in `ALGORITHMS`. Sources: Katib's suggestion services
(pkg/suggestion/v1beta1/{hyperopt,optuna}/service.py) and Optuna's samplers.

Trial n's parameters are drawn by a sampler that is seeded with (seed, n), so they do not depend on how often the
experiment was interrupted. For `random` and `grid` they depend on nothing else; for `tpe` also on which trials had
finished when n was started, which is a matter of timing with more than one trial at a time after the start-up trials.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from .experiment import Parameter

Value = float | int | str
optuna.logging.set_verbosity(optuna.logging.ERROR)


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

    def distribution(self) -> BaseDistribution:
        """The same for Optuna. Lists are categories, as in Katib's own services."""
        kind = self.parameter.parameter_type
        if kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        if kind == "double":
            step = float(self.step) if self.step else None
            return FloatDistribution(float(self.low), float(self.high), log=self.log, step=step)
        return CategoricalDistribution(self.parameter.feasible_space.values or [])

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


@dataclass(frozen=True)
class Past:
    """A trial as the algorithm sees it: its parameters, and its value if it succeeded."""

    parameters: Mapping[str, Value]
    state: Literal["running", "succeeded", "failed"]
    value: float | None = None


class Search:
    """Gives trials their parameters, one after another, and learns from their values.

    Args:
        algorithm: its name.
        settings: by Katib's names, as text; they have passed the checks.
        parameters: the search space.
        minimize: the direction.
        seed: decides all that is random.
    """

    def __init__(
        self, algorithm: str, settings: Mapping[str, str], parameters: Sequence[Parameter], minimize: bool, seed: int
    ) -> None:
        self._algorithm, self._seed = algorithm, seed
        self._settings = {name: ALGORITHMS[algorithm][name].read(text) for name, text in settings.items()}
        self._dimensions = [Dimension(parameter) for parameter in parameters]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a high bound that no step meets: Katib's grid leaves it out, too
            self._distributions = {d.name: d.distribution() for d in self._dimensions}
        self._study = optuna.create_study(
            direction="minimize" if minimize else "maximize", sampler=RandomSampler(seed=0)
        )
        self._grid, self.size = None, None
        if algorithm == "grid":
            self._grid = _Grid({d.name: d.grid() for d in self._dimensions}, seed=_derived(seed))
            self.size = grid_size(parameters)

    def recall(self, past: Past) -> None:
        """Add the next trial of an earlier, interrupted run; in their order, before any is asked."""
        states = {"running": TrialState.RUNNING, "succeeded": TrialState.COMPLETE, "failed": TrialState.FAIL}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=states[past.state],
                value=past.value if past.state == "succeeded" else None,
                params=dict(past.parameters),
                distributions=self._distributions,
            )
        )

    def ask(self, number: int) -> dict[str, Value]:
        """The parameters of trial `number` (from 0), which is the next one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls some settings deprecated that Katib has
            self._study.sampler = self._sampler(number)
            trial = self._study.ask(self._distributions)
        assert trial.number == number
        return {d.name: d.clean(trial.params[d.name]) for d in self._dimensions}

    def tell(self, number: int, value: float | None) -> None:
        """The value of a trial, or None if it failed."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        self._study.tell(number, value, state=state)

    def importances(self) -> dict[str, float]:
        """Each parameter's share in how good trials differ from others, by PED-ANOVA; empty when too few tell.

        Watanabe, Bansal, Hutter: PED-ANOVA (IJCAI 2023), as Optuna has it.
        """
        done = [t for t in self._study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(done) < 5 or len({t.value for t in done}) < 2 or len(self._distributions) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(
                self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def _sampler(self, number: int) -> BaseSampler:
        if self._grid:
            return self._grid
        seed = _derived(self._seed, number)
        if self._algorithm == "random":
            return RandomSampler(seed=seed)
        given: dict[str, Any] = {name.lower(): value for name, value in self._settings.items()}
        given.pop("random_state", None)
        if "gamma" in given:
            given["gamma"] = _hyperopt_gamma(given["gamma"])
        return TPESampler(seed=seed, multivariate=False, **given)


def grid_size(parameters: Sequence[Parameter]) -> int:
    """How many combinations a grid has."""
    return math.prod(Dimension(parameter).count() for parameter in parameters)


def _derived(*entropy: int) -> int:
    """A seed of its own for each combination of numbers, in the range that samplers take."""
    return int(numpy.random.SeedSequence(list(entropy)).generate_state(1)[0])


class _Grid(GridSampler):
    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Not stop the study, which may be done only in `optimize`: the end of the grid is known from its size."""


def _hyperopt_gamma(gamma: float) -> Callable[[int], int]:
    """Katib's `gamma`, which is hyperopt's: of n trials, ceil(gamma · √n) but at most 25 count as good."""
    return lambda count: min(math.ceil(gamma * math.sqrt(count)), 25)
