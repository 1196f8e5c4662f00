"""The Tree-structured Parzen Estimator, of each parameter on its own (tpe) or of all together (multivariate-tpe).

By Optuna. Trial n's sampler is seeded with (seed, n): its parameters do not depend on how often the Experiment was
interrupted, but on which trials had ended when it was asked for, which is a matter of timing with several at a time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from ..engine import Trial
from ..space import Dimension, Value
from .base import Suggestion, Task

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Tpe:
    """Both of them."""

    size: int | None = None

    def __init__(self, task: Task, *, multivariate: bool) -> None:
        self._task = task
        self._dimensions = {dimension.name: dimension for dimension in task.space().dimensions}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a high bound that no step meets: Katib's grid leaves it out, too
            self._distributions = {name: _distribution(d) for name, d in self._dimensions.items()}
        self._study = optuna.create_study(direction="minimize")
        self._numbers: dict[int, int] = {}
        self._options: dict[str, Any] = {"multivariate": multivariate}
        if multivariate:
            self._options["constant_liar"] = True  # as in Katib's service
        for name, text in task.settings.items():
            if name == "gamma":
                self._options[name] = _hyperopt_gamma(float(text))
            elif name != "random_state":
                self._options[name.lower()] = float(text) if name == "prior_weight" else int(text)

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls some settings deprecated or experimental that Katib has
            seed = int(self._task.generator(number).integers(2**31))
            self._study.sampler = TPESampler(seed=seed, **self._options)
            drawn = self._study.ask(self._distributions)
        parameters = {
            n: d.at(drawn.params[n]) if _bent(d) else _plain(d, drawn.params[n]) for n, d in self._dimensions.items()
        }
        if any(
            map(_bent, self._dimensions.values())
        ):  # Optuna is to know the value that was meant, and so does `recall`
            self._study.tell(drawn, state=TrialState.FAIL)
            self._add(number, parameters)
        else:
            self._numbers[number] = drawn.number
        return Suggestion(parameters)

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""
        loss = self._task.loss(trial)
        state = TrialState.FAIL if loss is None else TrialState.COMPLETE
        self._study.tell(self._numbers.pop(trial.number), loss, state=state)

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""
        self._add(trial.number, trial.parameters)

    def _add(self, number: int, parameters: Mapping[str, Value]) -> None:
        """Have Optuna know of a trial that runs."""
        known = {n: d.quantile(parameters[n]) if _bent(d) else parameters[n] for n, d in self._dimensions.items()}
        self._numbers[number] = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(
            optuna.trial.create_trial(state=TrialState.RUNNING, params=known, distributions=self._distributions)
        )


def _bent(dimension: Dimension) -> bool:
    """Whether Optuna has no such distribution, so that the quantile stands for the value."""
    return not dimension.choices and (dimension.normal or (dimension.log and dimension.step not in (None, 1)))


def _plain(dimension: Dimension, value: Any) -> Any:
    return value if dimension.choices else dimension.clean(value)


def _distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension for Optuna. Lists are categories, as in Katib's own services."""
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if _bent(dimension):
        return FloatDistribution(0, 1)
    low, high, log = dimension.low, dimension.high, dimension.log
    if dimension.parameter.parameter_type == "int":
        return IntDistribution(int(low), int(high), log=log, step=int(dimension.step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=float(dimension.step) if dimension.step else None)


def _hyperopt_gamma(gamma: float) -> Callable[[int], int]:
    """Katib's `gamma`, which is hyperopt's: of n trials, ceil(gamma · √n) but at most 25 count as good."""
    return lambda count: min(math.ceil(gamma * math.sqrt(count)), 25)
