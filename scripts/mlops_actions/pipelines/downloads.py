"""Artifacts brought to a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import BadInput
from ..stores.store import Store, StoreOptions, fetch
from ..suggest import did_you_mean
from .engine import Artifact
from .metrics import METRICS

VERSIONS = "versions:"
"""What the digest of an object in a store begins with."""


def wanted(artifacts: Sequence[Artifact], names: Sequence[str]) -> list[Artifact]:
    """The artifacts with these names, as `name` or `task.name`; for `*` all that have bytes: KFP keeps none of metrics.

    Raises:
        BadInput: no artifact has one of the names.
    """
    there = [artifact for artifact in artifacts if artifact.uri]
    chosen: dict[tuple[str, str, str], Artifact] = {}
    for name in names:
        found = [a for a in there if name in (a.name, f"{a.task}.{a.name}") or (name == "*" and a.type not in METRICS)]
        if not found and name != "*":
            known = list(dict.fromkeys(f"{a.task}.{a.name}" for a in there))
            raise BadInput(
                f"`download`: the run made no artifact {name!r}",
                why=f"It made: {', '.join(known) or 'none'}",
                fix=did_you_mean(name, [*known, *(a.name for a in there)], "Correct `download`"),
            )
        chosen |= {(a.task, a.name, a.uri): a for a in found}
    return list(chosen.values())


def download(artifacts: Sequence[Artifact], folder: Path, options: StoreOptions | None) -> list[Path]:
    """Bring artifacts to `<folder>/<task>/<name>`; several of one name get a number. The paths.

    Raises:
        BadInput: nothing is at an artifact's URI.
        RemoteFailed: its store cannot be used.
    """
    paths: list[Path] = []
    for artifact in artifacts:
        path = folder / artifact.task / artifact.name
        number = 1
        while path in paths:
            number += 1
            path = folder / artifact.task / f"{artifact.name}-{number}"
        fetch_artifact(artifact.uri, path, options)
        paths.append(path)
    return paths


def fetch_artifact(uri: str, target: Path, options: StoreOptions | None) -> None:
    """Bring the file or folder at an artifact's URI to a path.

    Raises:
        BadInput: nothing is there, or no store has such URIs.
        RemoteFailed: the store cannot be used.
    """
    fetch(reachable(uri), target, options)


def remote_digest(uri: str, options: StoreOptions | None) -> str:
    """What changes when the object, or one of those below it, changes: a hash of their versions in the store.

    Raises:
        BadInput: nothing is there, or no store has such URIs.
        RemoteFailed: the store cannot be used.
    """
    parent, _, name = reachable(uri).rstrip("/").rpartition("/")
    entries = Store(parent, options).entries(name)
    if not entries:
        raise BadInput(f"Nothing is at {uri}", fix="Check the URI and the store it is in")
    lines = "".join(f"{entry.path} {entry.version}\n" for entry in entries)
    return f"{VERSIONS}{hashlib.sha256(lines.encode()).hexdigest()}"


def reachable(uri: str) -> str:
    """A URI as the store knows it: KFP's `minio://` is S3, and what follows `?` is for KFP alone."""
    return re.sub(r"^minio://", "s3://", uri).partition("?")[0]
