"""A pipeline's parameters: read, laid together, and checked against its own declaration before anything runs."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from ..values import yaml_value
from ..yaml_io import read_json, read_yaml
from .spec import Parameter

_WORDS = {
    "NUMBER_INTEGER": "an integer",
    "NUMBER_DOUBLE": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a mapping",
}
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 400  # digits: more than a double has
INEXACT = "KFP passes integers as doubles, which have all of them up to 2^53 only"
"""Why an integer is refused; `TextToPbValue` in KFP's backend/src/v2/metadata/converter.go."""


def is_exact(number: int) -> bool:
    """Whether KFP gives a task this integer, and not one near it."""
    return abs(number) < 2**63 and int(float(number)) == number


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters in a YAML or JSON file.

    Raises:
        BadInput: the file does not exist, or does not hold a mapping.
    """
    fix = "Correct `parameters-file`"
    values = read_json(path, path.name, fix) if path.suffix == ".json" else read_yaml(path, path.name, fix).value
    if values is not None and not isinstance(values, dict):
        raise BadInput(f"{path.name} does not hold a mapping of parameters", fix="Write `name: value` lines")
    return values or {}


def resolve_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], pipeline: str, place: Place | None = None
) -> dict[str, Any]:
    """A value of the right type for each of the pipeline's parameters; optional ones without a default stay away.

    A null stands for the default. Text that says a number, a truth value, a list or a mapping is taken for it where the
    parameter is of that type, because a workflow's inputs are always text; nothing is ever turned into text, because
    that may not give back what was written (`1.10`).

    Raises:
        BadInput: a parameter is unknown (with the nearest name), missing, or of the wrong type.
    """
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise BadInput(
                f"The pipeline {pipeline!r} has no parameter {name!r}",
                why=f"It has: {known}",
                fix=did_you_mean(name, declared, "Correct `parameters`"),
                place=place,
            )
    values = {}
    for name, parameter in declared.items():
        value = given.get(name)
        if value == "null" and parameter.type != "STRING":
            value = None
        if value is not None:
            values[name] = _typed(parameter, value, place)
        elif parameter.required:
            raise BadInput(
                f"The pipeline {pipeline!r} needs the parameter {name!r} ({_WORDS[parameter.type]})",
                fix=f"Give it in `parameters`, as `{name}=…`, or in `parameters-file`",
                place=place,
            )
        elif parameter.default is not None:
            values[name] = parameter.default
    return values


def _typed(parameter: Parameter, value: Any, place: Place | None) -> Any:
    for candidate in _readings(parameter.type, value):
        return candidate
    fix = f"Give {_WORDS.get(parameter.type, parameter.type)}"
    if parameter.type == "NUMBER_INTEGER" and any(number.is_integer() for number in _numbers("NUMBER_DOUBLE", value)):
        fix = f"{INEXACT}: give a smaller one, or let the parameter be text"
    elif parameter.type == "STRING":
        fix = f'Quote it, so that it stays what you wrote: `{parameter.name}="…"`'
    raise BadInput(
        f"The parameter {parameter.name!r} must be {_WORDS.get(parameter.type, parameter.type)}, not {_shown(value)}",
        fix=fix,
        place=place,
    )


def _readings(kind: str, value: Any) -> list[Any]:
    """The value as the type, in a list; an empty list when it is not of the type."""
    if kind in ("NUMBER_INTEGER", "NUMBER_DOUBLE"):
        return _numbers(kind, value)
    if kind == "STRING":
        if type(value) is datetime.date:
            return [value.isoformat()]
        return [value] if isinstance(value, str) else []
    if kind == "BOOLEAN":
        words = {"true": True, "false": False}
        if isinstance(value, str):
            return [words[value.strip().lower()]] if value.strip().lower() in words else []
        return [value] if isinstance(value, bool) else []
    wanted = list if kind == "LIST" else dict
    if isinstance(value, str):
        try:
            value = yaml_value(value)
        except ValueError:
            return []
    return [value] if isinstance(value, wanted) else []


def _numbers(kind: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()) or len(value) > _LONGEST_NUMBER:
            return []
        value = float(value) if set(value) & set(".eE") else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return []
    if kind == "NUMBER_DOUBLE":
        return [float(value)] if abs(value) <= sys.float_info.max else []
    whole = isinstance(value, int) or value.is_integer()
    return [int(value)] if whole and is_exact(int(value)) else []


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    short = text if len(text) <= 60 else text[:57] + "…"
    return f"the text {short!r}" if isinstance(value, str) else short
