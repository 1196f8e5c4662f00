"""The one place where an algorithm is chosen. What it needs is imported when it is."""

from __future__ import annotations

from collections.abc import Callable

from .base import Algorithm, Task


def algorithm(name: str, task: Task) -> Algorithm:
    """An algorithm by Katib's name."""
    if name in ("random", "grid", "sobol"):
        from .independent import Grid, Random, Sobol

        made: dict[str, Callable[[Task], Algorithm]] = {"random": Random, "grid": Grid, "sobol": Sobol}
        return made[name](task)
    if name in ("tpe", "multivariate-tpe"):
        from .tpe import Tpe

        return Tpe(task, multivariate=name != "tpe")
    if name == "bayesianoptimization":
        from .bayesian import Bayesian

        return Bayesian(task)
    if name == "cmaes":
        from .cmaes import Cmaes

        return Cmaes(task)
    if name == "hyperband":
        from .hyperband import Hyperband

        return Hyperband(task)
    if name == "pbt":
        from .pbt import Pbt

        return Pbt(task)
    raise KeyError(name)
