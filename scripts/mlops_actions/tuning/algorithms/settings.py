"""Which settings an algorithm has, what each may be, and the rules for the Experiment as a whole, as Katib has them.

Sources: pkg/suggestion/v1beta1/{hyperopt,optuna,goptuna,skopt,hyperband,pbt} and pkg/earlystopping/v1beta1/medianstop
of github.com/kubeflow/katib. `tpe` has the settings of both services that Katib has had for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..experiment import ExperimentSpec
from ..space import grid_size

LARGEST_GRID = 1_000_000


@dataclass(frozen=True)
class Rule:
    """A setting: how its text is read, what it may be, that in words, and whether it has to be given."""

    read: Callable[[str], Any]
    allowed: Callable[[Any], bool]
    words: str
    required: bool = False


def _whole(least: int, *, required: bool = False) -> Rule:
    return Rule(int, lambda value: bool(value >= least), f"an integer of {least} or more", required)


def _number(least: float, most: float, words: str, *, required: bool = False) -> Rule:
    return Rule(float, lambda value: bool(least <= value <= most), words, required)


def _one_of(*names: str) -> Rule:
    return Rule(str, lambda value: value in names, f"one of {', '.join(names)}")


_ABOVE_0 = Rule(float, lambda value: 0 < value < math.inf, "a number above 0")
_SHARE = Rule(float, lambda value: 0 < value < 1, "a number between 0 and 1")
_TEXT = Rule(str, bool, "a text", required=True)
_SEED = {"random_state": _whole(0)}
_TPE = {**_SEED, "n_startup_trials": _whole(0), "n_ei_candidates": _whole(1)}

ALGORITHMS: Mapping[str, Mapping[str, Rule]] = {
    "random": _SEED,
    "grid": _SEED,
    "sobol": _SEED,
    "tpe": {**_TPE, "n_EI_candidates": _whole(1), "gamma": _SHARE, "prior_weight": _ABOVE_0},
    "multivariate-tpe": _TPE,
    "bayesianoptimization": {
        **_SEED,
        "base_estimator": _one_of("GP", "RF", "ET", "GBRT"),
        "n_initial_points": _whole(0),
        "acq_func": _one_of("gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"),
        "acq_optimizer": _one_of("auto", "sampling", "lbfgs"),
    },
    "cmaes": {**_SEED, "sigma": _ABOVE_0, "restart_strategy": _one_of("none", "None", "ipop", "bipop")},
    "hyperband": {
        **_SEED,
        "r_l": Rule(float, lambda value: 1 <= value < math.inf, "a number of 1 or more", required=True),
        "eta": Rule(float, lambda value: 1 < value < math.inf, "a number above 1"),
        "resource_name": _TEXT,
    },
    "pbt": {
        **_SEED,
        "suggestion_trial_dir": Rule(str, lambda value: value.startswith("/"), "an absolute folder", required=True),
        "n_population": _whole(5, required=True),
        "truncation_threshold": _number(0, 1, "a number from 0 to 1", required=True),
        "resample_probability": _number(0, 1, "a number from 0 to 1"),
    },
    "enas": {},
    "darts": {},
}
"""The algorithms, with their settings by Katib's names."""
NAS = ("enas", "darts")
"""Those that search for a network's architecture; their settings are left to Katib."""
EARLY_STOPPING: Mapping[str, Mapping[str, Rule]] = {
    "medianstop": {"min_trials_required": _whole(1), "start_step": _whole(1)}
}


@dataclass(frozen=True)
class Hyperband:
    """The settings of hyperband.

    Attributes:
        most: what a trial of the last rung gets of the resource (`r_l`).
        eta: of so many trials of a rung, one goes on, with so many times the resource.
        resource: the parameter that is the resource.
    """

    most: float
    eta: float
    resource: str

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Hyperband:
        """The settings as they were given, with Katib's defaults."""
        return cls(float(settings["r_l"]), float(settings.get("eta", "3")), settings["resource_name"])

    @property
    def brackets(self) -> int:
        """The number of the first bracket; the last is 0. (A logarithm that is an integer may be a hair less.)"""
        return int(math.log(self.most) / math.log(self.eta) + 1e-9)


def problems(spec: ExperimentSpec) -> Iterator[tuple[str, str, str]]:
    """What an algorithm whose settings are right does not go with: where in the spec, what, and what to do."""
    name, settings = spec.algorithm.algorithm_name, spec.algorithm.settings
    numbers = [p for p in spec.parameters if p.parameter_type in ("int", "double")]
    if name == "cmaes" and len(numbers) < 2:
        what = f"cmaes needs two or more parameters that are numbers, and there {'is' if len(numbers) == 1 else 'are'}"
        yield "parameters", f"{what} {len(numbers)}", "Use another algorithm, such as tpe"
    if settings.get("acq_optimizer") == "lbfgs" and settings.get("base_estimator", "GP") != "GP":
        what = f"`acq_optimizer` is lbfgs, and {settings['base_estimator']} has no gradient to follow"
        yield "algorithm", what, "Use sampling or auto"
    if name == "hyperband":
        hyperband = Hyperband.of(settings)
        if hyperband.resource not in (p.name for p in numbers):
            what = f"`resource_name` is {hyperband.resource!r}, which is not an int or double parameter"
            yield "algorithm", what, f"The parameters are: {', '.join(p.name for p in spec.parameters)}"
        least = math.ceil(round(hyperband.eta**hyperband.brackets, 6))
        if spec.parallel_trial_count < least:
            what = f"`parallelTrialCount` is {spec.parallel_trial_count}, and hyperband's first rung has {least} trials"
            yield "parallelTrialCount", what, f"Raise it to {least}, or lower `r_l`"
    if name == "grid" and all(p.parameter_type != "double" or p.feasible_space.step for p in spec.parameters):
        size = grid_size(spec.parameters)
        if size > LARGEST_GRID:
            yield "parameters", f"the grid has {size:,} combinations", "Use larger steps, or another algorithm"
        elif spec.max_trial_count is not None and spec.max_trial_count > size:
            what = f"`maxTrialCount` is {spec.max_trial_count}, and the grid has {size} combinations"
            yield "maxTrialCount", what, f"Lower it to {size}, or leave it out"
