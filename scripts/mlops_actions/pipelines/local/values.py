"""Values as KFP's backend passes them: typed, as text, and put into placeholders.

The backend's numbers are protobuf's, which has no integers: 2.0 arrives as 2, in JSON and in text. An input of type
STRING takes any value, as its JSON (`PbValueToText` in backend/src/v2/metadata/converter.go); an input of another type
takes its own alone (`resolveInputs` in backend/src/v2/driver/resolve.go).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..parameters import INEXACT, is_exact

_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_SELECTOR = re.compile(r'parseJson\(string_value\)\["(.*)"\]$', re.DOTALL)
_WORDS = {
    "NUMBER_INTEGER": "a number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a mapping",
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_LARGEST = 1e21  # from here on, JSON's numbers have an exponent


class ValueFault(Exception):
    """A value that a task cannot be given, or cannot have made."""


def natural(value: Any) -> Any:
    """A value with the numbers that JSON would have: those without a fraction are integers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _LARGEST else value
    if isinstance(value, list):
        return [natural(item) for item in value]
    return {key: natural(item) for key, item in value.items()} if isinstance(value, dict) else value


def as_text(value: Any) -> str:
    """A value as an input of type STRING gets it: text as it is, everything else as JSON; nothing for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and not isinstance(natural(value), int) and math.isfinite(value):
        return f"{Decimal(repr(value)):f}"
    return json.dumps(natural(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def typed(name: str, value: Any, kind: str) -> Any:
    """A value for an input of a type.

    Args:
        name: of the input.
        value: what it is given.
        kind: KFP's parameter type; one that is not a plain type takes everything.

    Raises:
        ValueFault: the value is of another type.
    """
    if kind == "STRING":
        return as_text(value)
    value = natural(value)
    wanted = _TYPES.get(kind)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
        raise ValueFault(f"the input {name!r} must be {_WORDS[kind]}, not {json.dumps(value, default=str)[:80]}")
    return value


def read_output(name: str, text: str, kind: str) -> Any:
    """The value that a component wrote to the file of an output parameter, as the launcher reads it.

    Raises:
        ValueFault: the text is not of the output's type.
    """
    try:
        if kind == "STRING":
            return text
        if kind == "NUMBER_INTEGER":
            if is_exact(number := int(text.strip())):
                return number
            raise ValueFault(f"the output {name!r} is {text.strip()[:80]}, and {INEXACT}")
        if kind == "NUMBER_DOUBLE":
            return float(text.strip())
        if kind == "BOOLEAN":
            return _TRUTH[text.strip()]
        value = json.loads(text)
    except (ValueError, KeyError):
        value = None
    if not isinstance(value, _TYPES.get(kind, (object,))) or value is None:
        raise ValueFault(f"the output {name!r} must be {_WORDS.get(kind, kind)}, and its file holds {text[:80]!r}")
    return value


def select(value: Any, expression: str) -> Any:
    """What a `parameterExpressionSelector` takes out of a value: a field of a loop's item.

    Raises:
        ValueFault: there is no such field, or the expression is not one that the compiler writes.
    """
    found = _SELECTOR.match(expression)
    if not found:
        raise ValueFault(f"the expression {expression} is unknown")
    try:
        fields = json.loads(value) if isinstance(value, str) else value
        return fields[found[1]]
    except (ValueError, TypeError, LookupError):
        raise ValueFault(f"the item {as_text(value)[:80]} has no field {found[1]!r}") from None


def fill(value: Any, inputs: Mapping[str, Any], constants: Mapping[str, str]) -> Any:
    """A value with the placeholders in its texts, at any depth, replaced.

    Args:
        value: what a task is given, or a word of a container's command.
        inputs: the task's input parameters, for `{{$.inputs.parameters['…']}}`.
        constants: other placeholders, and what they stand for.

    Raises:
        ValueFault: a placeholder names an input that the task does not have.
    """
    if isinstance(value, list):
        return [fill(item, inputs, constants) for item in value]
    if isinstance(value, dict):
        return {fill(key, inputs, constants): fill(item, inputs, constants) for key, item in value.items()}
    if not isinstance(value, str) or "{{$" not in value:
        return value

    def text(found: re.Match[str]) -> str:
        if found[0] in constants:
            return constants[found[0]]
        if found[1] not in inputs:
            raise ValueFault(f"the placeholder {found[0]} names the input {found[1]!r}, which does not exist")
        return as_text(inputs[found[1]])

    # In one pass: what a value holds is not looked at again.
    known = "|".join([_INPUT.pattern, *(re.escape(name) for name in constants)])
    return re.sub(known, text, value)
