"""CMA-ES over the parameters that are numbers; the others are drawn by chance, as Katib's service does.

By the package cmaes (Hansen's and others' strategy), in the cube of quantiles, so that every parameter weighs the same
and logarithms are searched as such. `sigma` is in units of the narrowest parameter, as Katib documents it; by default a
sixth of each range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy
from cmaes import CMA

from ..engine import Trial
from .base import Suggestion, Task

Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]


class Cmaes:
    """Generations of trials; one is learnt from when so many of its trials have succeeded as it has."""

    size: int | None = None

    def __init__(self, task: Task) -> None:
        self._task, self._space = task, task.space()
        self._numbers = [i for i, d in enumerate(self._space.dimensions) if not d.choices]
        self._restart = task.settings.get("restart_strategy", "none").lower()
        narrowest = min(float(d.high - d.low) for d in self._space.dimensions if not d.choices) or 1.0
        self._sigma = float(task.settings["sigma"]) / narrowest if "sigma" in task.settings else 1 / 6
        self._base = 4 + math.floor(3 * math.log(len(self._numbers)))
        self._chance = task.generator()
        self._asked: dict[int, tuple[int, Array]] = {}
        self._generation = 0
        self._told: list[tuple[Array, float]] = []
        self._large, self._spent = self._base, {"first": 0, "large": 0, "small": 0}
        self._regime = "first"
        self._optimizer = self._begin(self._base, numpy.full(len(self._numbers), 0.5), self._sigma)

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        point = self._optimizer.ask()
        self._asked[number] = self._generation, point
        quantiles = self._task.generator(number).random(len(self._space.dimensions))
        quantiles[self._numbers] = point
        return Suggestion(self._space.at(quantiles))

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""
        generation, point = self._asked.pop(trial.number)
        loss = self._task.loss(trial)
        if loss is None or generation != self._generation:
            return
        self._told.append((point, loss))
        if len(self._told) == self._optimizer.population_size:
            self._optimizer.tell(self._told)
            self._spent[self._regime] += len(self._told)
            self._generation, self._told = self._generation + 1, []
            if self._restart != "none" and self._optimizer.should_stop():
                self._begin_anew()

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""
        if self.ask(trial.number).parameters != trial.parameters:  # another version of the package drew them
            point = numpy.array(self._space.quantiles(trial.parameters))[self._numbers]
            self._asked[trial.number] = self._asked[trial.number][0], point

    def _begin(self, population: int, mean: Array, sigma: float) -> CMA:
        bounds = numpy.array([[0.0, 1.0]] * len(self._numbers))
        seed = int(self._chance.integers(2**31))
        return CMA(mean=mean, sigma=sigma, bounds=bounds, seed=seed, population_size=population)

    def _begin_anew(self) -> None:
        """From another place, with a larger population (ipop), or in turns a larger and a smaller one (bipop).

        Hansen: Benchmarking a BI-population CMA-ES on the BBOB-2009 function testbed.
        """
        population, sigma = 2 * self._large, self._sigma
        self._regime = "large" if self._restart == "ipop" or self._spent["large"] <= self._spent["small"] else "small"
        if self._regime == "large":
            self._large = population
        else:
            ratio = 0.5 * self._large / self._base
            population = math.floor(self._base * ratio ** (self._chance.random() ** 2))
            sigma = self._sigma * 10 ** (-2 * self._chance.random())
        self._optimizer = self._begin(population, self._chance.random(len(self._numbers)), sigma)
