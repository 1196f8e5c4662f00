"""The configuration file as it was read: its values, and where in the file each stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import Place

Path_ = tuple[str | int, ...]
"""Keys and indices that lead to a value in the file."""


def repository_of(folder: Path) -> Path:
    """The root of the git repository that a folder is in; without one, the folder itself."""
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)


@dataclass(frozen=True)
class Project:
    """A configuration file that passed its checks.

    Attributes:
        name: the file's name, for messages.
        values: its content.
        places: the (line, column) of each key and item, by path.
    """

    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[Path_, tuple[int, int]] = field(default_factory=dict)

    def place(self, path: Path_) -> Place:
        """Where a value stands; the nearest known one above it."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return Place(self.name, line, column)

    def environments(self) -> list[str]:
        """The environments, in the file's order, which is the order of promotion."""
        return list(self.values.get("environments") or {})
