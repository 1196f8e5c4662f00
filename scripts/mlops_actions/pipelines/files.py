"""Digests of files. Standard library only: the worker uses it, in the consumer's environment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 8 * 1024 * 1024


def tree_digest(path: Path) -> str:
    """The digest of a file or folder, as `mlops_actions.store.tree_digest` makes it; "" when nothing is there."""
    if path.is_file():
        return f"sha256:{_file_hash(path)}"
    if not path.is_dir():
        return ""
    files = sorted(item for item in path.rglob("*") if item.is_file())
    lines = "".join(f"sha256:{_file_hash(file)} {file.relative_to(path).as_posix()}\n" for file in files)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def named_files(value: Any, root: Path) -> dict[str, str]:
    """The digests of the files that a value names, itself or in its lists and mappings, by name.

    A task that is given the path of a file reads it: when the file has changed, its result is another. Folders are
    left out, because state that changes from run to run is kept in them.
    """
    return {text: tree_digest(root / text) for text in _texts(value) if _is_file(root, text)}


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


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
