"""`release.json`: what a model's server has to know of its release, in the folder that it is started with.

The standard library only: the server reads it in the model's own environment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_whole

if TYPE_CHECKING:
    from .engine import Release

RELEASE = "release.json"
EXPECTED = "MLOPS_DIGEST"
"""Variable of a server with the digest that its model must have, where others fetch the model at each start."""


@dataclass(frozen=True)
class ServedRelease:
    """A release as its server knows it.

    Attributes:
        id, name, version, digest, kind, predict, example: as those of `engine.Release`.
        model: its file or folder.
        root: the folder of the consumer's code; the current one when there is none.
    """

    id: str
    name: str
    version: int
    digest: str
    kind: str
    model: Path
    predict: str
    root: Path
    example: list[dict[str, Any]]


def write_release(folder: Path, release: Release, model: str, root: str) -> None:
    """Write `release.json`, as a whole or not at all.

    Args:
        folder: that the server is started with; it is made.
        release: that is served.
        model, root: its paths and that of the consumer's code: absolute, or relative to the folder.
    """
    values = {
        "id": release.id,
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "kind": release.kind,
        "model": model,
        "predict": release.predict,
        "root": root,
        "example": release.example,
    }
    write_json(folder / RELEASE, values)


def read_release(folder: Path) -> ServedRelease:
    """Read `release.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one.
    """
    values = json.loads((folder / RELEASE).read_bytes())
    try:
        paths = {name: folder / values[name] for name in ("model", "root")}
        return ServedRelease(**{**values, **paths})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{folder / RELEASE} is not the file of a release: {error}") from None


def write_json(path: Path, value: object) -> None:
    """Write JSON, as a whole or not at all."""
    write_whole(path, json.dumps(value, indent=2))
