"""Parameters for one trial after another, through Optuna.

Trial n's parameters are drawn by a sampler that is seeded with (seed, n), so they do not depend on how often the
experiment was interrupted. For `random` and `grid` they depend on nothing else; for `tpe` also on which trials had
finished when n was started, which is a matter of timing with more than one trial at a time after the start-up trials.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from .experiment import Parameter
from .space import ALGORITHMS, Dimension, Value, grid_size

optuna.logging.set_verbosity(optuna.logging.ERROR)


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
            self._distributions = {d.name: _distribution(d) for d in self._dimensions}
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


def _distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension for Optuna. Lists are categories, as in Katib's own services."""
    kind, log = dimension.parameter.parameter_type, dimension.log
    if kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), log=log, step=int(dimension.step or 1))
    if kind == "double":
        step = float(dimension.step) if dimension.step else None
        return FloatDistribution(float(dimension.low), float(dimension.high), log=log, step=step)
    return CategoricalDistribution(dimension.parameter.feasible_space.values or [])


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
