"""Engines: where an action has a choice of who does the work.

A capability keeps its engines in a package `engines`: a module each, whose `ENGINE` says what it is. An action's inputs
are its own, the choice of the engine, and what each engine takes. No other module names or compares engines.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, create_model

from .inputs import Inputs

E = TypeVar("E")
I = TypeVar("I", bound=Inputs)  # noqa: E741

Need = Literal["kfp", "katib", "docker", "kubernetes", "kserve", "gateway", "knative", "repository"]
"""What an engine cannot work without, beside the store; doctor looks for it."""


@dataclass(frozen=True)
class Engine(Generic[E]):
    """One engine of a capability.

    Attributes:
        name: as users write it.
        summary: what it is, for help texts: "`name`: …" is made of it.
        make: makes it from the action's inputs and what the capability gives its engines; imports it only then.
        inputs: what it takes beside the action's own inputs.
        needs: gives what it cannot work without, by its inputs.
        remote: whether the work is done on other machines than this one.
    """

    name: str
    summary: str
    make: Callable[[Any, Any], E]
    inputs: type[Inputs] = Inputs
    needs: Callable[[Any], Sequence[Need]] = lambda _: ()
    remote: bool = False


@cache
def engines(package: str) -> Mapping[str, Engine[Any]]:
    """The engines of a package by name: `local` first, then in order of their names.

    Args:
        package: its full name, such as `mlops_actions.pipelines.engines`.
    """
    names = [module.name for module in pkgutil.iter_modules(import_module(package).__path__)]
    found: list[Engine[Any]] = [import_module(f"{package}.{name}").ENGINE for name in names]
    return {engine.name: engine for engine in sorted(found, key=lambda engine: (engine.name != "local", engine.name))}


def with_engines(base: type[I], package: str, description: str) -> type[I]:
    """An action's inputs with the choice of an engine (`engine`, by default `local`), and with what the engines take.

    Args:
        base: the action's own inputs; they have `engine: str`.
        package: of the engines.
        description: of the choice; what each engine is comes after it.
    """
    found = engines(package)
    bases: list[Any] = list(dict.fromkeys(one.inputs for one in found.values() if not issubclass(base, one.inputs)))
    bases.append(base)  # the last one's fields come first
    listed = "; ".join(f"`{engine.name}`: {engine.summary}" for engine in found.values())
    choice: Any = (Literal[tuple(found)], Field("local", description=f"{description} {listed}."))
    made: type[I] = create_model(
        base.__name__, __base__=tuple(bases), __module__=base.__module__, __doc__=base.__doc__, engine=choice
    )
    return made
