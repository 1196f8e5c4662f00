"""Build arguments as users write them. They are text: `PYTHON=3.10` must never become 3.1."""

from __future__ import annotations

import re
from typing import Annotated

import yaml
from pydantic import BeforeValidator

_LINE = re.compile(r"\s*([A-Za-z_]\w*)=(.*)")


def parse_build_args(value: object) -> object:
    """`NAME=value` lines, or a mapping in YAML or JSON; each value stays as it is written.

    Raises:
        ValueError: neither of these; or a number with a point, from a configuration file, whose digits YAML has lost.
    """
    if isinstance(value, str):
        lines = [line for line in value.splitlines() if line.strip()]
        matches = [_LINE.fullmatch(line) for line in lines]
        pairs = {match[1]: match[2] for match in matches if match}
        if len([match for match in matches if match]) == len(lines):
            return pairs
        try:
            value = yaml.load(value, Loader=yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"neither NAME=value lines nor a YAML mapping: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("neither NAME=value lines nor a mapping")
    return {str(name): _text(str(name), one) for name, one in value.items()}


def _text(name: str, value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f'{name} is a number in YAML, and its last zeros are lost: write it in quotes, "{value}"')
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value) if isinstance(value, int) else value


BuildArgs = Annotated[dict[str, str], BeforeValidator(parse_build_args)]
"""Names and texts."""
