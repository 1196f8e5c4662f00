"""Hyperband, as Katib has it: many trials with little of a resource, the best of them again with more.

Li et al.: Hyperband (JMLR 18, 2018). A rung is asked for when all trials of the one before have ended, so trials wait
there; one that failed does not go on. Katib gives every bracket as many trials as it happens to be asked for; here each
has the number that the paper gives it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping

from ..engine import Trial
from ..space import Value
from .base import Suggestion, Task
from .settings import Hyperband as Settings


class Hyperband:
    """Brackets of rungs."""

    def __init__(self, task: Task) -> None:
        self._task, self._space = task, task.space()
        self._settings = Settings.of(task.settings)
        self._resource = next(d for d in self._space.dimensions if d.name == self._settings.resource)
        self._plan = self._rungs()
        self._waiting: deque[Mapping[str, Value] | None] = deque()
        self._running: set[int] = set()
        self._ended: list[tuple[float, int, Mapping[str, Value]]] = []
        self._amount = 0.0
        self._asked = 0
        self.size: int | None = None
        self._go_on()

    def ask(self, number: int) -> Suggestion | None:
        """See `Algorithm.ask`."""
        if not self._waiting:
            return None
        chosen = self._waiting.popleft()
        if chosen is None:
            chosen = self._space.at(self._task.generator(number).random(len(self._space.dimensions)))
        self._running.add(number)
        self._asked += 1
        amount = int(self._amount)  # as Katib rounds it
        whole = self._resource.parameter.parameter_type == "int"
        return Suggestion({**chosen, self._resource.name: amount if whole else float(amount)})

    def tell(self, trial: Trial) -> None:
        """See `Algorithm.tell`."""
        self._running.discard(trial.number)
        loss = self._task.loss(trial)
        if loss is not None:
            self._ended.append((loss, trial.number, trial.parameters))
        if not self._running and not self._waiting:
            self._go_on()

    def recall(self, trial: Trial) -> None:
        """See `Algorithm.recall`."""
        if self.ask(trial.number) is None:  # a trial of the rung before failed then, and is to run again
            self._running.add(trial.number)
            self._asked += 1

    def _rungs(self) -> Iterator[tuple[int, int, float]]:
        """Each rung: which of its bracket it is, how many trials it has at most, and the resource of each."""
        eta, most = self._settings.eta, self._settings.brackets
        for bracket in range(most, -1, -1):
            first = math.ceil(round((most + 1) * eta**bracket / (bracket + 1), 6))
            count = first
            for rung in range(bracket + 1):
                if rung:
                    count = math.ceil(round(math.ceil(round(first * eta ** (1 - rung), 6)) / eta, 6))
                yield rung, count, self._settings.most * eta ** (rung - bracket) + 1e-9

    def _go_on(self) -> None:
        """Take up the next rung that has trials."""
        for rung, count, amount in self._plan:
            self._amount = amount
            best = [parameters for *_, parameters in sorted(self._ended, key=lambda ended: ended[:2])]
            self._waiting.extend([None] * count if rung == 0 else best[:count])
            self._ended.clear()
            if self._waiting:
                return
        self.size = self._asked
