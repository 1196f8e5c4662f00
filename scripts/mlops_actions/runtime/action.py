"""How an action is declared: its inputs, its outputs, and the function that does it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic.fields import FieldInfo

from ..inputs import SHARED, Inputs, LineageInputs, Outputs
from .result import Result

if TYPE_CHECKING:
    from .step import Step

I = TypeVar("I", bound=Inputs)  # noqa: E741
O = TypeVar("O", bound=Outputs)  # noqa: E741


@dataclass(frozen=True)
class Action(Generic[I, O]):
    """One action, one command.

    Its documentation is that of the module which declares it: the first line, and the rest in Markdown.

    Attributes:
        name: kebab-case, a verb first.
        group: the lock file (scripts/locks/<group>.txt) of the environment that it runs in.
        inputs, outputs: the declarations.
        run: does it.
        icon: of the Marketplace, from Feather's set.
        engines: the package of the engines that it has a choice of; "" for none.
        once: whether all of its work is done by `Step.once`, so that a dry run can tell what would be done.
        shared: whether it changes what others use, so that a pull request may not do it.
    """

    name: str
    group: str
    inputs: type[I]
    outputs: type[O]
    run: Callable[[I, Step], Result[O]]
    icon: str = "box"
    engines: str = ""
    once: bool = False
    shared: bool = False

    @property
    def documentation(self) -> str:
        """What users read: in `--help`, `action.yml` and the README."""
        return inspect.cleandoc(sys.modules[self.run.__module__].__doc__ or "")

    @property
    def summary(self) -> str:
        """Its first line."""
        return self.documentation.partition("\n")[0]

    def fields(self) -> dict[str, FieldInfo]:
        """The inputs in the order in which people read them: the action's own first, those of all actions last."""
        fields = self.inputs.model_fields
        several = {name for base in (*SHARED, LineageInputs) for name in base.model_fields}
        rank = {name: 2 if name in Inputs.model_fields else 1 if name in several else 0 for name in fields}
        return {name: fields[name] for name in sorted(fields, key=lambda name: rank[name])}
