"""How much each parameter mattered, by PED-ANOVA.

Watanabe, Bansal, Hutter: PED-ANOVA (IJCAI 2023), as Optuna has it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from .engine import Trial
from .experiment import Parameter
from .space import Dimension

optuna.logging.set_verbosity(optuna.logging.ERROR)


def importances(parameters: Sequence[Parameter], trials: Iterable[Trial], minimize: bool) -> dict[str, float]:
    """Each parameter's share in how good trials differ from others; empty when too few trials succeeded to tell.

    Args:
        parameters: the search space.
        trials: of any engine.
        minimize: the direction of the objective.
    """
    done = [trial for trial in trials if trial.state == "Succeeded" and trial.value is not None]
    if len(done) < 5 or len({trial.value for trial in done}) < 2 or len(parameters) < 2:
        return {}
    study = optuna.create_study(direction="minimize" if minimize else "maximize")
    distributions: dict[str, BaseDistribution] = {}
    for dimension in map(Dimension, parameters):
        name = dimension.name
        if dimension.choices:
            distributions[name] = CategoricalDistribution(dimension.choices)
        else:  # some algorithms leave the bounds
            values = [float(trial.parameters[name]) for trial in done]
            low, high = min(float(dimension.low), *values), max(float(dimension.high), *values)
            distributions[name] = FloatDistribution(low, high, log=dimension.log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trial in done:
            values_of = {n: v if isinstance(distributions[n], CategoricalDistribution) else float(v)
                         for n, v in trial.parameters.items()}  # fmt: skip
            study.add_trial(optuna.trial.create_trial(value=trial.value, params=values_of, distributions=distributions))
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}
