"""Digests of files and folders. The standard library only: a model's server computes its own in its environment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHUNK = 8 * 1024 * 1024


def digest_of(chunks: Iterable[bytes]) -> str:
    """`sha256:<hex>` of bytes that come in chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return digest_of(iter(lambda: file.read(CHUNK), b""))


def tree_digest(path: Path) -> str:
    """The digest of a file, or of a folder: of its files' digests and relative paths in order."""
    if path.is_file():
        return file_digest(path)
    files = sorted(item for item in path.rglob("*") if item.is_file())
    lines = [f"{file_digest(file)} {file.relative_to(path).as_posix()}\n" for file in files]
    return f"sha256:{hashlib.sha256(''.join(lines).encode(errors='surrogateescape')).hexdigest()}"
