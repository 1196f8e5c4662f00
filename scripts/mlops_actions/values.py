"""Lists and mappings that are given as one text, as a workflow's inputs and a terminal's options are.

A text after `name=` is never read as YAML: it stays what was written, and whoever knows the type of the value (a
pipeline, for its parameters) reads it. Quotes around the whole of it are taken off, as a shell does.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from .yaml_io import NotYaml, Plain, load_yaml

SCHEMES = ("file", "s3", "gs", "az")
"""Of the URLs that a store may have."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'')
NAME = r"[\w./-]+"
QUANTITY = r"^([0-9]+(\.[0-9]+)?([munkKMGTP]|[KMGTP]i)?)?$"
"""Of Kubernetes, such as `500m` or `1Gi`, or nothing."""
_UNITS: dict[str, Decimal | int] = {"m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


def lines_of(text: str) -> list[str]:
    """The lines of a text that are neither empty nor, as in YAML, comments."""
    return [line for one in text.splitlines() if (line := one.strip()) and not line.startswith("#")]


def named_texts(text: str, name: str = NAME) -> dict[str, str] | None:
    """The texts of `name=text` lines by name, between which are comments; None when the text is something else.

    Args:
        text: of lines.
        name: a pattern for names.

    Raises:
        ValueError: a name is given twice, as in YAML.
    """
    lines = lines_of(text)
    matches = [match for line in lines if (match := re.fullmatch(rf"({name})=(.*)", line))]
    if not lines or len(matches) < len(lines):
        return None
    found: dict[str, str] = {}
    for match in matches:
        if match[1] in found:
            raise ValueError(f"{match[1]!r} is given twice: as `{found[match[1]]}` and as `{match[2].strip()}`")
        found[match[1]] = _unquoted(match[2].strip())
    return found


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
        return yaml_value(value) if value.strip() else {}
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


def check_store(url: str) -> str:
    """The URL of a store, or the path of a folder, as it was given; "" is none.

    Raises:
        ValueError: it is neither; the message says how it is written.
    """
    scheme, colon, rest = url.partition(":")
    if len(scheme) < 2 or not colon or not re.fullmatch(r"[A-Za-z0-9+.-]+", scheme):  # a path; `C:` is a drive
        likely = url.partition("//")[0]
        if likely in SCHEMES:
            raise ValueError(f"is not a URL: write `{likely}://{url.partition('//')[2].lstrip('/')}`")
        if url != url.strip() or not url.isprintable():
            raise ValueError("has a space at an end, or a control character")
        return url
    if scheme not in SCHEMES:
        raise ValueError(f"has an unknown scheme: use one of {', '.join(f'{known}://' for known in SCHEMES)}")
    if scheme == "file":
        if not rest.startswith("///") or not rest.strip("/"):
            raise ValueError(f"is not a URL of a folder: write `file:///{rest.lstrip('/')}`, from the root on")
        bucket, path = "", rest[3:]
    else:
        if not rest.startswith("//") or not rest.strip("/") or rest.startswith("///"):
            raise ValueError(f"is not a URL: write `{scheme}://{rest.strip('/') or 'bucket/prefix'}`")
        bucket, _, path = rest[2:].partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(f"has no bucket's name after `{scheme}://`: letters, digits, `.`, `_` and `-`")
    parts = path.removesuffix("/").split("/") if path else []
    if re.search(r"[?#\\]", path) or not path.isprintable() or {"", ".", ".."} & set(parts):
        raise ValueError("has `?`, `#`, a backslash or a control character, or `.`, `..` or nothing between two `/`")
    return url


def quantity(text: str) -> Decimal | None:
    """A quantity as Kubernetes writes it: `500m`, `0.5`, `1Gi`; None if it is none."""
    number = text.rstrip("mkMGTi")
    unit = text[len(number) :]
    try:
        return Decimal(number) * (_UNITS[unit] if unit else 1)
    except (InvalidOperation, KeyError):
        return None


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
Numbers = Annotated[dict[str, float], BeforeValidator(parse_values)]
"""Numbers by name; as text, as `Values`."""
Mappings = Annotated[dict[str, Any], BeforeValidator(parse_mappings)]
"""A mapping of mappings, given as `name={…}` lines or as YAML or JSON."""
Texts = Annotated[dict[str, str], BeforeValidator(parse_texts)]
"""A mapping of texts, given as `name=text` lines or as YAML or JSON."""
StoreUrl = Annotated[str, AfterValidator(check_store)]
"""Where a store is; see `check_store`."""
