"""The artifacts that later actions ask for, found among those of a run."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Artifact

ROLES = {"model": "system.Model", "predictions": "", "golden": ""}
"""Each role, and the type that is enough to know its artifact by; "" where the name is needed."""


def choose(artifacts: Sequence[Artifact], role: str, named: str) -> tuple[Artifact | None, int]:
    """The artifact for a role, and how many there were to choose from when none was chosen.

    One that was named is taken by that name; otherwise the one with the role's name, otherwise (for the model) the
    only one of its type.
    """
    wanted = named or role
    found = [a for a in artifacts if wanted in (a.name, f"{a.task}.{a.name}")]
    kind = ROLES[role]
    if not named and kind:
        of_kind = [a for a in artifacts if a.type == kind]
        found = [a for a in found if a.type == kind] or of_kind
    return (found[0], 1) if len(found) == 1 else (None, len(found))
