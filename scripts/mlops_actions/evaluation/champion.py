"""The version that a new model is compared with, from the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..data.sources import Source
from ..errors import BadInput
from ..registry.manifest import File, Manifest
from ..registry.registry import Registry
from ..workspace import Workspace

_VERSION = re.compile(r"([a-z0-9][a-z0-9._-]*)@([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True)
class Champion:
    """The model to be compared with: its version, its metrics, and its predictions if they were kept."""

    version: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    predictions: Source | None = None


def find_champion(workspace: Workspace, model: str, alias: str) -> Champion | None:
    """The version that an alias names, with its predictions; None when no model is named or nothing has the alias.

    Raises:
        RemoteFailed: the registry is damaged or cannot be reached.
    """
    registry = Registry(workspace.store)
    named = registry.alias(model, alias) if model else None
    if named is None:
        return None
    manifest = registry.manifest(model, named.version)
    kept = manifest.predictions
    return Champion(manifest.version, manifest.metrics, _fetched(workspace, registry, kept) if kept else None)


def find_version(workspace: Workspace, model: str, wanted: str) -> Manifest:
    """A version by its number or an alias.

    Raises:
        BadInput: there is none, or no model is named.
    """
    if not model:
        raise BadInput("No model is named", fix="Give `model`, or set it in mlops.yaml")
    return Registry(workspace.store).resolve(model, wanted)


def version_named(workspace: Workspace, patterns: Sequence[str]) -> Manifest | None:
    """The version that `model@version` or `model@alias` names, where that stands instead of files; else None.

    Raises:
        BadInput: there is no such version.
    """
    named = _VERSION.fullmatch(patterns[0]) if len(patterns) == 1 else None
    if named is None or workspace.path(patterns[0]).exists():
        return None
    return find_version(workspace, named[1], named[2])


def _fetched(workspace: Workspace, registry: Registry, file: File) -> Source:
    name = file.digest.partition(":")[2]
    # the suffix tells the format
    target = workspace.cache / "blobs" / name[:2] / f"{name}-{file.path.rsplit('/', 1)[-1]}"
    return Source(file.path, registry.fetch_file(file, target))
