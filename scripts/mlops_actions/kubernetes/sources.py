"""Kubeconfigs where they are: in files, in a secret's value; several of them merged, and what in them is secret.

Merging: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BadInput
from ..yaml_io import NotYaml, Yaml11, load_yaml

_SECRET_NAMES = re.compile(r"secret|token|password|credential|(^|[_-])key", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A cluster, user or context; `folder` is that of its file, for paths; None if it came as text."""

    name: str
    body: Mapping[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class Config:
    """One kubeconfig, of all that were found: `current` is the name of its context."""

    clusters: Mapping[str, Entry]
    users: Mapping[str, Entry]
    contexts: Mapping[str, Entry]
    current: str


def read(kubeconfig: str, environ: Mapping[str, str]) -> Config | None:
    """The kubeconfig that is meant; None if none is given and there is none in its usual places.

    Args:
        kubeconfig: its text, plain or as base64, or the path of a file; "" for the files that KUBECONFIG names, else
            `~/.kube/config`.
        environ: variables, for KUBECONFIG and HOME.

    Raises:
        BadInput: a file is missing or cannot be read, or it is not a kubeconfig.
    """
    found = _sources(kubeconfig.strip(), environ)
    return _merge(found) if found else None


def secrets_in(kubeconfig: str) -> list[str]:
    """What must never be shown of a kubeconfig, given as its text, as base64 or as a path: every secret in it.

    Its text as a whole is not among them: a console masks each line of what it is given, and these lines
    (`namespace: default`) are words that logs need.
    """
    if not kubeconfig.strip() or _is_path(kubeconfig):
        texts = [path.read_text(errors="replace") for path in _paths(kubeconfig) if path.is_file()]
        found: list[str] = []
    else:
        try:
            texts = [_decode(kubeconfig)]
        except BadInput:
            return [kubeconfig]
        found = [kubeconfig] if kubeconfig not in texts else []
    for text in texts:
        try:
            found += _secret_values(load_yaml(text, Yaml11))
        except NotYaml:
            continue
    return list(dict.fromkeys(secret for secret in found if secret.strip()))


def _secret_values(value: Any, name: str = "") -> list[str]:
    """Values below keys, or of variables, whose names say that they are secret."""
    if isinstance(value, Mapping):
        if isinstance(value.get("name"), str) and "value" in value:  # a variable of a plugin
            return _secret_values(value["value"], value["name"])
        return [secret for key, below in value.items() for secret in _secret_values(below, str(key))]
    if isinstance(value, list):
        return [secret for below in value for secret in _secret_values(below, name)]
    if isinstance(value, str) and name == "proxy-url":
        return [urlsplit(value).password or ""]
    if not isinstance(value, str) or not _SECRET_NAMES.search(name) or name in ("client-key", "tokenFile"):
        return []
    decoded = unbase64(value) if name.endswith("-data") else ""
    return [value, *([decoded] if decoded else [])]


def _sources(kubeconfig: str, environ: Mapping[str, str]) -> list[tuple[str, Path | None, str]]:
    """The kubeconfigs that there are: text, folder, and what to call it."""
    if kubeconfig and not _is_path(kubeconfig):
        return [(_decode(kubeconfig), None, "`kubeconfig`")]
    variable = "`kubeconfig`" if kubeconfig else "KUBECONFIG"
    named = kubeconfig or environ.get("KUBECONFIG", "")
    paths = _paths(named) if named else [_home(environ) / ".kube" / "config"]
    found: list[tuple[str, Path | None, str]] = []
    for path in paths:
        try:
            found.append((path.read_text(), path.absolute().parent, str(path)))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", "") or "It is not text"
            raise BadInput(f"Cannot read the kubeconfig {path}", why=why) from error
    if named and not found:
        raise BadInput(
            f"The kubeconfig does not exist: {', '.join(str(path) for path in paths)}",
            fix=f"Correct {variable}: a file, or the text of one, plain or as base64",
        )
    return found


def _is_path(text: str) -> bool:
    """Whether this can only be meant as the path of a file: what cannot is not shown, for it may be a secret."""
    text = text.strip()
    if "\n" in text or len(text) > 4096 or text.startswith("{"):
        return False
    return (
        text.startswith(("/", "~", ".")) or bool(re.search(r"[\w-]\.[A-Za-z]\w*$|^[A-Za-z]:\\", text)) or _exists(text)
    )


def _exists(text: str) -> bool:
    try:
        return any(path.is_file() for path in _paths(text))
    except OSError:  # longer than a name may be
        return False


def _paths(text: str) -> list[Path]:
    return [Path(part).expanduser() for part in text.strip().split(os.pathsep) if part]


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())


def _decode(text: str) -> str:
    """A kubeconfig's text, given plain or as base64."""
    if ":" in text:  # no base64 has one, and no kubeconfig has none
        return text
    decoded = unbase64("".join(text.split()))
    if ":" not in decoded:
        raise BadInput(
            "The value of `kubeconfig` is neither a kubeconfig, nor one as base64, nor the path of a file",
            fix="Store the output of `kubectl config view --raw --flatten --minify` as the secret",
        )
    return decoded


def unbase64(text: str) -> str:
    """The text that is encoded; "" if it is not base64 of text."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _merge(sources: Sequence[tuple[str, Path | None, str]]) -> Config:
    """Of several files, the first that has a name, or a current context, decides it."""
    clusters: dict[str, Entry] = {}
    users: dict[str, Entry] = {}
    contexts: dict[str, Entry] = {}
    current = ""
    for text, folder, name in sources:
        content = _parse(text, name)
        current = current or str(content.get("current-context") or "")
        for section, key, into in (
            ("clusters", "cluster", clusters),
            ("users", "user", users),
            ("contexts", "context", contexts),
        ):
            for entry in _mappings(content.get(section) or [], f"`{section}` of {name}"):
                [body] = _mappings([entry.get(key) or {}], f"`{key}` in `{section}` of {name}")
                into.setdefault(str(entry.get("name")), Entry(str(entry.get("name")), body, folder))
    return Config(clusters, users, contexts, current)


def _parse(text: str, name: str) -> Mapping[str, Any]:
    try:
        content = load_yaml(text, Yaml11) or {}
    except NotYaml as error:  # its own text shows a part of the line, which may be secret
        where = f" (line {error.line})" if error.line else ""
        raise BadInput(f"{name} is not YAML{where}") from None
    [found] = _mappings([content], name)
    return found


def _mappings(entries: Any, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise BadInput(f"{what} is not as in a kubeconfig", why="Expected mappings, got something else")
    return entries
