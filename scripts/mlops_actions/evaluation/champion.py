"""The version that a new model is compared with, from the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.sources import DataSource
from ..environments import used
from ..errors import BadInput
from ..registry.manifest import File, Manifest
from ..registry.registry import Registry

_VERSION = re.compile(r"([a-z0-9][a-z0-9._-]*)@([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True)
class Champion:
    """The model to be compared with: its version, its metrics, and its predictions if they were kept."""

    version: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    predictions: DataSource | None = None


def find_champion(registry: Registry, cache: Path, model: str, alias: str) -> Champion | None:
    """The version that an alias names, with its predictions; None when no model is named or nothing has the alias.

    Args:
        registry: where models are.
        cache: a folder for the predictions.
        model, alias: the names.

    Raises:
        RemoteFailed: the registry is damaged or cannot be reached.
    """
    named = registry.alias(model, alias) if model else None
    if named is None:
        return None
    manifest = registry.manifest(model, named.version)
    kept = manifest.predictions
    return Champion(
        manifest.version, manifest.metrics, _fetched(registry, cache, kept, named.version) if kept else None
    )


def find_version(registry: Registry, model: str, wanted: str) -> Manifest:
    """A version by its number or an alias.

    Raises:
        BadInput: it does not exist, or no model is named.
    """
    if not model:
        raise BadInput("No model is named", fix="Give `model`, or set it in mlops.yaml")
    return registry.resolve(model, wanted)


def version_named(registry: Registry, root: Path, patterns: Sequence[str]) -> Manifest | None:
    """The version that `model@version` or `model@alias` names, where that stands instead of files; else None.

    Args:
        registry: where models are.
        root: the consumer's folder: what is a file there is not a version.
        patterns: what was given.

    Raises:
        BadInput: the version does not exist.
    """
    named = _VERSION.fullmatch(patterns[0]) if len(patterns) == 1 else None
    if named is None or (root / patterns[0]).exists():
        return None
    return find_version(registry, named[1], named[2])


def _fetched(registry: Registry, cache: Path, file: File, version: int) -> DataSource:
    name = file.digest.partition(":")[2]
    # the suffix tells the format
    target = cache / "blobs" / name[:2] / f"{name}-{file.path.rsplit('/', 1)[-1]}"
    used(target)
    return DataSource(f"version {version}'s {file.path}", registry.fetch_file(file, target))
