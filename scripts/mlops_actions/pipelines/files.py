"""The consumer's files that tasks read: with a changed one, a task is run again.

There are three ways to know them: a parameter names the file, a text in the component's source names it, or the task
opened it, or listed its folder, the last time (`worker/opened.py`). What a library's native code opens by a name that
is put together, and what another process reads, is not seen.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..stores.digests import tree_digest
from ..stores.store import StoreOptions, file_path
from .downloads import VERSIONS, remote_digest

_LISTED = "listing:"


def named_files(value: Any, root: Path) -> dict[str, str]:
    """The digests of the files that a value names, itself or in its lists and mappings, by name.

    A task that is given the path of a file reads it: when the file has changed, its result is another. Folders are
    left out, because state that changes from run to run is kept in them.
    """
    return {text: tree_digest(root / text) for text in _texts(value) if _is_file(root, text)}


def named_in_source(source: str, root: Path) -> dict[str, str]:
    """The digests of the files that texts in a component's source name, by name."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    return named_files([n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)], root)


def opened_files(record: Path, root: Path) -> dict[str, str] | None:
    """The digests of what a task read in the consumer's folder, by relative path; None if one has changed since.

    Args:
        record: the file that the task's process wrote: each path, with the time of its last change and its size, or
            the names in a folder.
        root: the consumer's folder.
    """
    try:
        seen: Mapping[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = {}
    for name, state in seen.items():
        path = root / name
        try:
            if isinstance(state, str):
                found[name] = state
            elif [path.stat().st_mtime_ns, path.stat().st_size] == state:
                found[name] = tree_digest(path)
            else:
                return None
        except OSError:
            return None
    return found


def changed(files: Mapping[str, str], root: Path, options: StoreOptions | None = None) -> str:
    """The first of these files, folders or imported URIs that is not as it was when a task read it; "" when all are.

    Args:
        files: their digests, by the path in the consumer's folder or the URI.
        root: the consumer's folder.
        options: how stores are reached.

    Raises:
        RemoteFailed: a store cannot be used.
    """
    for name, digest in files.items():
        try:
            if now(name, digest, root, options) != digest:
                return name
        except (OSError, BadInput):  # it is gone
            return name
    return ""


def now(name: str, digest: str, root: Path, options: StoreOptions | None) -> str:
    """The digest, of the same kind as another one, of what is there now."""
    if digest.startswith(VERSIONS):
        return remote_digest(name, options)
    path = file_path(name) if name.startswith("file://") else root / name
    return listing(path) if digest.startswith(_LISTED) else tree_digest(path)


def listing(folder: Path) -> str:
    """What changes when a file is added to a folder or taken out; as `worker/opened.py` writes it."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"{_LISTED}{hashlib.sha256(json.dumps(names).encode()).hexdigest()}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))


def _is_file(root: Path, text: str) -> bool:
    try:
        return bool(text) and (root / text).is_file()
    except (OSError, ValueError):  # longer than a path may be, or with a null in it
        return False
