"""What an algorithm is to the loop that runs trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy

from ..engine import Trial
from ..experiment import Parameter
from ..space import Space, Value


@dataclass(frozen=True)
class Suggestion:
    """What the next trial is.

    Attributes:
        parameters: by the names of the search space.
        labels: what the algorithm says of it, by Katib's names; the trial carries them.
    """

    parameters: Mapping[str, Value]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What an algorithm searches.

    Attributes:
        experiment: the name that trials begin with.
        parameters: the search space; it has passed the checks.
        settings: by Katib's names, as text; they have passed the checks.
        minimize: the direction.
        seed: decides all that is random.
    """

    experiment: str
    parameters: Sequence[Parameter]
    settings: Mapping[str, str]
    minimize: bool
    seed: int

    def space(self) -> Space:
        """The search space as numbers."""
        return Space(self.parameters)

    def generator(self, *entropy: int) -> numpy.random.Generator:
        """A source of chance of its own for each combination of numbers, the same one again for the same seed."""
        return numpy.random.default_rng([self.seed, *entropy])

    def loss(self, trial: Trial) -> float | None:
        """A trial's value, the less the better, or None if it has none that counts for a search.

        Of a trial that was stopped early Katib's services learn nothing, either.
        """
        if trial.state != "Succeeded" or trial.value is None:
            return None
        return trial.value if self.minimize else -trial.value


class Algorithm(Protocol):
    """Chooses trials' parameters, one after another, and learns from their values.

    Attributes:
        size: how many trials there are to run at all, once that is known.
    """

    size: int | None

    def ask(self, number: int) -> Suggestion | None:
        """Trial `number` (from 0), which is the next; None while that depends on trials that still run."""

    def tell(self, trial: Trial) -> None:
        """A trial that was asked for has ended."""

    def recall(self, trial: Trial) -> None:
        """A trial was asked for in an earlier run, as the next; trials that ended are told between, in their order."""
