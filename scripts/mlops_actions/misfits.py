"""What pydantic says of a value that does not fit its model, in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from .inputs import NO_VALUE, PATTERNS
from .text import without_login

_KINDS = {
    "dict": "a mapping", "model": "a mapping", "list": "a list",
    "string": "text, in quotes where it looks like a number", "int": "an integer", "float": "a number",
    "bool": "true or false",
}  # fmt: skip
"""Pydantic's types by the beginning of an error's type, in the words of YAML."""

_PREDICATES = ("must ", "is ", "has ")
"""How a message of ours begins that goes on from the name of the value."""


def misfit(where: str, problem: Mapping[str, Any], origin: str = "") -> str:
    """What is wrong with a value: "`metrics.auc.min` must be a number, not 'high'".

    Args:
        where: what the value is called where it stands; "" of the whole.
        problem: one of `ValidationError.errors()`.
        origin: where it came from, after its name.
    """
    where = where.removesuffix(".*")  # a number alone, where a mapping may stand, is that of `*`
    name = f"`{where}`{origin}" if where else f"it{origin}"
    kind, text = str(problem["type"]), str(problem["msg"])
    if kind == "missing":
        return f"{name} is missing"
    if kind == "json_invalid":
        return f"{name} is not valid JSON: {problem['ctx']['error']}"
    if kind == "extra_forbidden":
        return f"{name} is unknown"
    if kind in ("value_error", "assertion_error"):
        text = text.partition(", ")[2]
        return f"{name} {text}" if text.startswith(_PREDICATES) else f"{name}: {text}"
    if kind == "string_pattern_mismatch" and problem["ctx"]["pattern"] in PATTERNS:
        text = f"must be {PATTERNS[problem['ctx']['pattern']]}"
    elif kind in ("too_short", "string_too_short") and not problem["input"]:
        return f"{name} must not be empty"
    elif where and problem.get("input", "") is None:
        return f"{name} {NO_VALUE}"
    elif (named := _KINDS.get(kind.split("_")[0])) and kind.endswith(("_type", "_parsing")):
        text = f"must be {named}"
    text = re.sub(r"^\w+ should", "must", text)
    value = problem.get("input")
    if isinstance(value, str | int | float | bool):
        text += f", not {without_login(value) if isinstance(value, str) else value!r}"
    return f"{name} {text}"


def first_misfit(error: ValidationError) -> str:
    """The first thing that is wrong with a whole that was read, as a sentence; see `misfit`."""
    first = error.errors()[0]
    said = misfit(".".join(map(str, first["loc"])), first)
    return said[:1].upper() + said[1:]
