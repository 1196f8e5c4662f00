"""Lists and mappings that are given as one text, as a workflow's inputs and a terminal's options are.

A text after `name=` is never read as YAML: it stays what was written, and whoever knows the type of the value (a
pipeline, for its parameters) reads it. Quotes around the whole of it are taken off, as a shell does.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from .yaml_io import NotYaml, Plain, load_yaml

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'')
NAME = r"[\w./-]+"


def named_texts(text: str, name: str = NAME) -> dict[str, str] | None:
    """The texts of `name=text` lines by name; None when the text is something else.

    Args:
        text: of lines.
        name: a pattern for names.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [re.fullmatch(rf"({name})=(.*)", line) for line in lines]
    found = {match[1]: _unquoted(match[2].strip()) for match in matches if match}
    return found if lines and all(matches) else None


def yaml_value(text: str, what: str = "") -> Any:
    """The value of a text that is YAML or JSON.

    Args:
        text: what is read.
        what: its name, for the message.

    Raises:
        ValueError: it is neither; the message says why.
    """
    try:
        return load_yaml(text)
    except NotYaml as error:
        raise ValueError(f"{what + ': ' if what else ''}{text[:60]!r} is not valid YAML: {error}") from None


def parse_lines(value: object) -> object:
    """Text as a list: an item a line, or separated by commas; a YAML or JSON list as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return yaml_value(text)
    return [item.strip() for item in re.split(r"[\n,]", text) if item.strip()]


def parse_values(value: object) -> object:
    """Text as a mapping: `name=text` lines, or a YAML or JSON mapping."""
    if not isinstance(value, str):
        return value
    texts = named_texts(value)
    if texts is not None:
        return texts
    try:
        return yaml_value(value) or {}
    except ValueError as error:
        raise ValueError(f"expected name=value lines or a YAML mapping; {error}") from None


def parse_mappings(value: object) -> object:
    """The same, where each value is itself a mapping: what stands after `name=` is read as YAML."""
    found = parse_values(value)
    if not isinstance(found, dict):
        return found
    return {name: yaml_value(one, name) if isinstance(one, str) else one for name, one in found.items()}


def parse_texts(value: object) -> object:
    """The same, where each value is text: `PYTHON=3.10` never becomes 3.1.

    Raises:
        ValueError: it is not a mapping; or it has a number with a point, from a configuration file, whose last zeros
            are lost.
    """
    found = named_texts(value) if isinstance(value, str) else value
    if found is None and isinstance(value, str):
        try:
            found = load_yaml(value, Plain) or {}
        except NotYaml as error:
            raise ValueError(f"expected name=value lines or a YAML mapping: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("expected name=value lines or a mapping")
    return {str(name): _text(str(name), one) for name, one in found.items()}


def _text(name: str, value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f'{name} is a number in YAML, and its last zeros are lost: write it in quotes, "{value}"')
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value) if isinstance(value, int) else value


def _unquoted(text: str) -> str:
    if not _QUOTED.fullmatch(text):
        return text
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    try:
        return str(json.loads(text))
    except ValueError:  # an escape that JSON does not know
        return text


Lines = Annotated[list[str], BeforeValidator(parse_lines)]
"""A list of strings, given as lines, comma separated, or as a YAML list."""
Values = Annotated[dict[str, Any], BeforeValidator(parse_values)]
"""A mapping, given as `name=text` lines or as YAML or JSON."""
Mappings = Annotated[dict[str, Any], BeforeValidator(parse_mappings)]
"""A mapping of mappings, given as `name={…}` lines or as YAML or JSON."""
Texts = Annotated[dict[str, str], BeforeValidator(parse_texts)]
"""A mapping of texts, given as `name=text` lines or as YAML or JSON."""
