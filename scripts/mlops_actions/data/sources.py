"""Where data is, in a consumer's words, as local files: paths and globs, URIs, and `store:` paths."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from urllib.parse import unquote

from ..environments import sweep, used
from ..errors import BadInput
from ..stores.digests import file_digest
from ..stores.store import Entry, Store, file_path
from ..values import SCHEMES
from ..workspace import Workspace


@dataclass(frozen=True)
class DataSource:
    """A data file: the name that messages use, and a local path with its bytes."""

    name: str
    path: Path

    @property
    def partition(self) -> dict[str, str]:
        """The columns that the file has by the folders that it is in (`year=2021/`), as Hive names them."""
        folders = PurePath(self.name.replace("\\", "/")).parts[:-1]
        pairs = (part.partition("=") for part in folders if "=" in part.strip("="))
        return {name: unquote(value) for name, _, value in pairs}


def find(where: Workspace, patterns: Sequence[str]) -> list[DataSource]:
    """The files that the patterns name, in order, each once.

    A pattern is a path or glob in the consumer's folder, `store:path/with/*.parquet` in the store, or a URI
    (`file://`, `s3://`, `gs://`, `az://`) whose path may hold `*` and `?`. Remote objects are downloaded once a
    version, to the cache. Of a folder all files are taken but those that are hidden, or are notes of the program that
    wrote it (`.crc`, `_SUCCESS`, `_delta_log/`).

    Raises:
        BadInput: a pattern names nothing.
        RemoteFailed: the store cannot be used.
    """
    found: dict[str, DataSource] = {}
    for pattern in patterns:
        sources = _remote(where, pattern) if _is_remote(pattern) else _local(where.root, pattern)
        if not sources:
            raise BadInput(
                f"No data file found at {pattern!r}", fix="Correct the path or pattern, or put the data there"
            )
        found |= {source.name: source for source in sources}
    return list(found.values())


def find_one(where: Workspace, pattern: str, setting: str) -> DataSource:
    """The one file that a pattern names, as `find`.

    Args:
        where: see `find`.
        pattern: see `find`.
        setting: the input that it is of.

    Raises:
        BadInput: it names nothing, or more than one file.
        RemoteFailed: the store cannot be used.
    """
    found = find(where, [pattern])
    if len(found) > 1:
        raise BadInput(
            f"`{setting}` names {len(found):,} files and must name one: {pattern}",
            why=f"They are {found[0].name}, {found[1].name}{', …' if len(found) > 2 else ''}",
            fix="Name one of them, or write all rows to one file",
        )
    return found[0]


def _is_remote(pattern: str) -> bool:
    return pattern.startswith("store:") or pattern.split("://")[0] in SCHEMES


def _local(root: Path, pattern: str) -> list[DataSource]:
    # Path.glob knows no absolute patterns
    matching = [pattern] if (root / pattern).exists() else glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    names = sorted(matching)
    files = [DataSource(name, root / name) for name in names if (root / name).is_file()]
    for folder in (root / name for name in names if (root / name).is_dir()):
        inside = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        kept = [file for file in inside if not any(map(_is_note, file.relative_to(folder).parts))]
        files += [DataSource(str(file.relative_to(root) if file.is_relative_to(root) else file), file) for file in kept]
    return files


def _is_note(name: str) -> bool:
    return name.startswith((".", "_")) and "=" not in name


def _remote(where: Workspace, pattern: str) -> list[DataSource]:
    if pattern.startswith("file://"):
        local = file_path(pattern.replace("?", "%3F"))  # here it is no query but a wildcard
        return _local(Path("/"), str(local).lstrip("/"))
    store, entries = _entries(where, pattern)
    return [DataSource(f"{pattern.split(':')[0]}:{entry.path}", _cached(where, store, entry)) for entry in entries]


def _entries(where: Workspace, pattern: str) -> tuple[Store, list[Entry]]:
    """The objects that a pattern names, and the store that they are in."""
    if pattern.startswith("store:"):
        store, path = where.store, pattern.removeprefix("store:").lstrip("/")
    else:
        scheme, _, rest = pattern.partition("://")
        bucket, _, path = rest.partition("/")
        store = Store(f"{scheme}://{bucket}", where.store_options)
    folder = path.rstrip("/") + "/"
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    chosen = []
    for entry in store.list("/".join(parts[:fixed])):
        inside = entry.path.removeprefix(folder).split("/") if entry.path.startswith(folder) else None
        if fnmatch.fnmatchcase(entry.path, path) or (inside and not any(map(_is_note, inside))):
            chosen.append(entry)
    return store, chosen


_sweep_once = cache(sweep)
"""Before the first download of this process."""


def _cached(where: Workspace, store: Store, entry: Entry) -> Path:
    if store.url.startswith("file://"):
        return file_path(store.uri(entry.path))
    name = hashlib.sha256(
        f"{where.store_options.endpoint} {store.uri(entry.path)} {entry.version}".encode()
    ).hexdigest()
    target = where.cache / "objects" / name[:2] / f"{name}{Path(entry.path).suffix}"
    if used(target):
        return target
    _sweep_once(where.cache)
    return store.get_file(entry.path, target)


def state(workspace: Workspace, patterns: Sequence[str]) -> str:
    """What changes when a file that the patterns name changes, comes or goes. Remote objects are not downloaded for it.

    Raises:
        BadInput: a pattern names nothing.
        RemoteFailed: the store cannot be used.
    """
    lines = []
    for pattern in patterns:
        if _is_remote(pattern) and not pattern.startswith("file://"):
            _, entries = _entries(workspace, pattern)
            lines += [f"{pattern} {entry.path} {entry.version}" for entry in entries]
        else:
            lines += [f"{source.name} {file_digest(source.path)}" for source in find(workspace, [pattern])]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def digests(sources: Sequence[DataSource]) -> list[str]:
    """The digests of the files' bytes, in order, each with its partition: a cheap key for what is computed of them."""
    return [
        " ".join([file_digest(source.path), *(f"{name}={value}" for name, value in source.partition.items())])
        for source in sources
    ]
