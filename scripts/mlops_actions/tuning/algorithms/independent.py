"""The algorithms whose trials do not depend on each other: random, grid and sobol."""

from __future__ import annotations

import numpy

from ..engine import Trial
from ..space import grid_size
from .base import Suggestion, Task


class Independent:
    """An algorithm that learns nothing."""

    size: int | None = None

    def __init__(self, task: Task) -> None:
        self._task, self._space = task, task.space()

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""


class Random(Independent):
    """Each trial is drawn from the distributions."""

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        return Suggestion(self._space.at(self._task.generator(number).random(len(self._space.dimensions))))


class Grid(Independent):
    """Every combination once, in an order of chance."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._values = [dimension.grid() for dimension in self._space.dimensions]
        self.size = grid_size(task.parameters)
        self._order = task.generator().permutation(self.size)

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        places = numpy.unravel_index(self._order[number], [len(values) for values in self._values])
        chosen = zip(self._space.dimensions, self._values, places)
        return Suggestion({dimension.name: values[int(place)] for dimension, values, place in chosen})


class Sobol(Independent):
    """Points of a Sobol sequence, which fill the space more evenly than chance; the first is its middle."""

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        from scipy.stats import qmc  # it takes a second, which the others need not

        sequence = qmc.Sobol(len(self._space.dimensions), scramble=False)
        sequence.fast_forward(number + 1)  # the point before is the corner of all the least values
        return Suggestion(self._space.at(sequence.random(1)[0]))
