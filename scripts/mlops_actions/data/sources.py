"""Where data is, in a consumer's words, as local files: paths and globs, URIs, and `store:` paths."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput
from ..stores.store import SCHEMES, Entry, Store, file_digest, file_path
from ..workspace import Workspace


@dataclass(frozen=True)
class Source:
    """A data file: the name that messages use, and a local path with its bytes."""

    name: str
    path: Path


def find(workspace: Workspace, patterns: Sequence[str]) -> list[Source]:
    """The files that the patterns name, in order, each once.

    A pattern is a path or glob in the consumer's folder, `store:path/with/*.parquet` in the store, or a URI
    (`file://`, `s3://`, `gs://`, `az://`) whose path may hold `*` and `?`. Remote objects are downloaded once a
    version, to the cache.

    Raises:
        BadInput: a pattern names nothing.
        RemoteFailed: the store cannot be used.
    """
    found: dict[str, Source] = {}
    for pattern in patterns:
        sources = _remote(workspace, pattern) if _is_remote(pattern) else _local(workspace.root, pattern)
        if not sources:
            raise BadInput(f"No file is at {pattern!r}", fix="Correct the path or pattern, or bring the data there")
        found |= {source.name: source for source in sources}
    return list(found.values())


def _is_remote(pattern: str) -> bool:
    return pattern.startswith("store:") or pattern.split("://")[0] in SCHEMES


def _local(root: Path, pattern: str) -> list[Source]:
    # Path.glob knows no absolute patterns
    matching = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    names = sorted(matching) if glob.has_magic(pattern) else [pattern]
    files = [Source(name, root / name) for name in names if (root / name).is_file()]
    folders = [root / name for name in names if (root / name).is_dir()]
    inside = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    return files + [Source(str(file.relative_to(root)), file) for file in inside]


def _remote(workspace: Workspace, pattern: str) -> list[Source]:
    if pattern.startswith("file://"):
        local = file_path(pattern.replace("?", "%3F"))  # here it is no query but a wildcard
        return _local(Path("/"), str(local).lstrip("/"))
    if pattern.startswith("store:"):
        store, path = workspace.store, pattern.removeprefix("store:").lstrip("/")
    else:
        scheme, _, rest = pattern.partition("://")
        bucket, _, path = rest.partition("/")
        store = Store(f"{scheme}://{bucket}", workspace.store_options)
    parts = path.split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    entries = list(store.list("/".join(parts[:fixed])))
    chosen = [e for e in entries if fnmatch.fnmatchcase(e.path, path) or e.path.startswith(path.rstrip("/") + "/")]
    return [Source(f"{pattern.split(':')[0]}:{e.path}", _cached(workspace, store, e)) for e in chosen]


def _cached(workspace: Workspace, store: Store, entry: Entry) -> Path:
    if store.url.startswith("file://"):
        return file_path(store.uri(entry.path))
    name = hashlib.sha256(
        f"{workspace.store_options.endpoint} {store.uri(entry.path)} {entry.version}".encode()
    ).hexdigest()
    target = workspace.cache / "objects" / name[:2] / f"{name}{Path(entry.path).suffix}"
    return target if target.exists() else store.get_file(entry.path, target)


def digests(sources: Sequence[Source]) -> list[str]:
    """The digests of the files' bytes, in order: a cheap key for what is computed of them."""
    return [file_digest(source.path) for source in sources]
