"""Population-based training, as Katib has it: generations of trials that go on from each other's checkpoints.

Jaderberg et al.: Population Based Training of Neural Networks (2017). Of a generation the worst trials go on with the
parameters of one of the best, the others with their own, changed a little. Each begins with a copy of its parent's
checkpoints, which the engine makes: the labels name the parent. Source of the rules: pkg/suggestion/v1beta1/pbt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from ..engine import PARENT, Trial
from ..space import Dimension, Value
from .base import Suggestion, Task

GENERATION = "pbt.suggestion.katib.kubeflow.org/generation"
_CHANGES = (0.8, 1.2)
"""By what a number is multiplied."""


@dataclass(frozen=True)
class _Member:
    """A trial of the population that is to run, or ended with a fitness (the more the better)."""

    parameters: Mapping[str, Value]
    generation: int = 0
    parent: str = ""
    name: str = ""
    fitness: float = 0.0


class Pbt:
    """A population."""

    size: int | None = None

    def __init__(self, task: Task) -> None:
        self._task, self._space = task, task.space()
        self._population = int(task.settings["n_population"])
        self._threshold = float(task.settings["truncation_threshold"])
        resample = task.settings.get("resample_probability")
        self._resample = float(resample) if resample is not None else None
        self._waiting: deque[_Member] = deque()
        self._running: dict[int, _Member] = {}
        self._previous: list[_Member] = []
        self._current: list[_Member] = []

    def ask(self, number: int) -> Suggestion:
        """See `Algorithm.ask`."""
        if not self._waiting:
            self._breed(self._task.generator(number))
        member = self._running[number] = self._waiting.popleft()
        labels = {GENERATION: str(member.generation), **({PARENT: member.parent} if member.parent else {})}
        return Suggestion(member.parameters, labels)

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""
        member = self._running.pop(trial.number)
        if trial.failed or trial.value is None:
            self._waiting.append(member)  # it is tried again
            return
        fitness = -trial.value if self._task.minimize else trial.value
        self._current.append(_Member(member.parameters, member.generation, member.parent, trial.name, fitness))

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""
        self.ask(trial.number)  # for what it does to the queue
        generation = int(trial.labels.get(GENERATION, "0"))
        self._running[trial.number] = _Member(trial.parameters, generation, trial.labels.get(PARENT, ""))

    def _breed(self, chance: numpy.random.Generator) -> None:
        """A new generation when the current one is complete, else one more trial of the last complete one."""
        if not self._current and not self._previous and not self._running:
            self._seed(self._population, chance)
        elif len(self._current) >= self._population:
            self._previous, self._current = self._current, []
            self._select(self._population, chance)
        elif self._previous:
            self._select(1, chance)
        else:
            self._seed(1, chance)

    def _seed(self, count: int, chance: numpy.random.Generator) -> None:
        draws = (chance.random(len(self._space.dimensions)) for _ in range(count))
        self._waiting.extend(_Member(self._space.at(draw)) for draw in draws)

    def _select(self, count: int, chance: numpy.random.Generator) -> None:
        """Let the worst of the last complete generation take over from the best, and change the others."""
        fitness = [member.fitness for member in self._previous]
        low, high = numpy.quantile(fitness, (self._threshold, 1 - self._threshold))
        worst = [member for member in self._previous if member.fitness < low]
        others = [member for member in self._previous if member.fitness >= low]
        best = [member for member in others if member.fitness >= high] or others
        chance.shuffle(worst)
        chance.shuffle(others)
        worst = worst[: int(count * self._threshold)]
        for member in worst:
            better = best[int(chance.integers(len(best)))]
            self._waiting.append(_Member(better.parameters, member.generation + 1, better.name))
        for member in others[: count - len(worst)]:
            changed = {d.name: self._change(d, member.parameters[d.name], chance) for d in self._space.dimensions}
            self._waiting.append(_Member(changed, member.generation + 1, member.name))

    def _change(self, dimension: Dimension, value: Value, chance: numpy.random.Generator) -> Value:
        if self._resample is not None:
            return dimension.at(chance.random()) if chance.random() < self._resample else value
        if dimension.choices:
            place = dimension.choices.index(str(value)) + int(chance.choice((-1, 1)))
            return dimension.choices[place % len(dimension.choices)]
        changed = min(max(float(value) * float(chance.choice(_CHANGES)), float(dimension.low)), float(dimension.high))
        return int(changed) if dimension.parameter.parameter_type == "int" else changed
