"""The algorithm services: which settings they refuse, and the next trials' parameters.

`grid` goes through the combinations in their order; every other algorithm draws at random, since which numbers come is
not what the double is for. Refusals are those of pkg/suggestion/v1beta1/optuna/service.py and
pkg/earlystopping/v1beta1/medianstop/service.py of github.com/kubeflow/katib.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

ALGORITHMS = (
    "random", "tpe", "grid", "hyperband", "bayesianoptimization", "cmaes", "sobol", "multivariate-tpe", "enas", "darts",
    "pbt",
)  # fmt: skip
"""Those of Katib's own configuration, manifests/v1beta1/installs/katib-standalone/katib-config.yaml."""
EARLY_STOPPING = ("medianstop",)
_SETTINGS = {
    "random": ("random_state",),
    "grid": ("random_state",),
    "tpe": ("n_startup_trials", "n_ei_candidates", "random_state"),
    "multivariate-tpe": ("n_startup_trials", "n_ei_candidates", "random_state"),
    "cmaes": ("restart_strategy", "sigma", "random_state"),
}
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # k8s.io/apimachinery/pkg/util/rand


class Refused(Exception):
    """Settings that a service refuses: the Suggestion fails, and with it the Experiment."""


class NoMoreSuggestions(Exception):
    """All combinations were given out."""


def trial_name(experiment: str) -> str:
    """As Katib calls a trial."""
    return f"{experiment}-{''.join(random.choices(_LETTERS, k=8))}"


def validate_settings(experiment: Mapping[str, Any]) -> None:
    """Look at the algorithm's settings as its service does.

    Raises:
        Refused: with the service's message.
    """
    spec = experiment["spec"]
    name = spec["algorithm"]["algorithmName"]
    for setting in spec["algorithm"].get("algorithmSettings") or []:
        if name in _SETTINGS and setting["name"] not in _SETTINGS[name]:
            raise Refused(f"ValidateAlgorithmSettings Error: unknown setting {setting['name']} for algorithm {name}")
    if name == "grid":
        try:
            count = math.prod(len(_values(parameter)) for parameter in spec["parameters"])
        except ValueError as error:
            raise Refused(f"ValidateAlgorithmSettings Error: failed to validate parameters: {error}") from error
        if spec.get("maxTrialCount", 0) > count:
            raise Refused(
                f"ValidateAlgorithmSettings Error: Max Trial Count: {spec['maxTrialCount']} > "
                f"all possible search combinations: {count}"
            )
    for setting in (spec.get("earlyStopping") or {}).get("algorithmSettings") or []:
        if setting["name"] not in ("min_trials_required", "start_step"):
            raise Refused(
                f"ValidateEarlyStoppingSettings Error: unknown setting {setting['name']} for algorithm medianstop"
            )


def suggest(experiment: Mapping[str, Any], first: int, count: int) -> list[list[dict[str, str]]]:
    """The assignments of the next trials.

    Args:
        first: how many were given before.

    Raises:
        NoMoreSuggestions: the grid has fewer.
    """
    spec = experiment["spec"]
    parameters = spec["parameters"]
    if spec["algorithm"]["algorithmName"] == "grid":
        grid = itertools.product(*(_values(parameter) for parameter in parameters))
        chosen = list(itertools.islice(grid, first, first + count))
        if len(chosen) < count:
            raise NoMoreSuggestions("The response contains unexpected trials")
    else:
        chosen = []
        for number in range(first, first + count):
            numbers = random.Random(f"{experiment['metadata']['name']}/{number}")
            chosen.append(tuple(_draw(parameter, numbers) for parameter in parameters))
    return [[{"name": p["name"], "value": v} for p, v in zip(parameters, values)] for values in chosen]


def _values(parameter: Mapping[str, Any]) -> list[str]:
    """All values of a parameter, for a grid."""
    space = parameter["feasibleSpace"]
    if parameter["parameterType"] in ("categorical", "discrete"):
        return [str(value) for value in space["list"]]
    whole = parameter["parameterType"] == "int"
    if not space.get("step") and not whole:
        raise ValueError(
            f"Param {parameter['name']} step is nil; For discrete search space, all parameters must include step"
        )
    low, high, step = (Decimal(space.get(key) or "1") for key in ("min", "max", "step"))
    values = [low + index * step for index in range(int((high - low) / step) + 1)]
    return [str(int(value)) if whole else str(float(value)) for value in values]


def _draw(parameter: Mapping[str, Any], numbers: random.Random) -> str:
    space, kind = parameter["feasibleSpace"], parameter["parameterType"]
    if kind in ("categorical", "discrete") or space.get("step"):
        return numbers.choice(_values(parameter))
    low, high = float(space["min"]), float(space["max"])
    if kind == "int":
        return str(numbers.randint(int(low), int(high)))
    if space.get("distribution") in ("logUniform", "logNormal"):
        return str(math.exp(numbers.uniform(math.log(low), math.log(high))))
    return str(numbers.uniform(low, high))


class MedianStop:
    """Katib's median stopping: the mean, in truth, of the succeeded trials' first values.

    Args:
        settings: of `spec.earlyStopping`.
    """

    def __init__(self, settings: Sequence[Mapping[str, str]]) -> None:
        given = {setting["name"]: int(setting["value"]) for setting in settings}
        self._required, self._step = given.get("min_trials_required", 3), given.get("start_step", 4)
        self._means: dict[str, float] = {}

    def learn(self, trial: str, values: Sequence[float]) -> None:
        """A trial has succeeded, with these values of the objective in their order."""
        first = values[: self._step]
        if first:
            self._means[trial] = sum(first) / len(first)

    def rules(self, objective: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rules that the next trials get."""
        if len(self._means) < self._required:
            return []
        limit = sum(self._means.values()) / len(self._means)
        comparison = "less" if objective["type"] == "maximize" else "greater"
        name = objective["objectiveMetricName"]
        return [{"name": name, "value": str(limit), "comparison": comparison, "startStep": self._step}]
