"""What a model is made of and where it goes, as a graph: what changed, and what that affects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .changes import Change, Facts


@dataclass(frozen=True)
class Node:
    """One thing of the graph.

    Attributes:
        name: `data`, `features`, `image`, `pipeline`, `parameters`, `model`, or where it serves.
        what: its digest or value in short.
        changed: whether it is another one than before, or made of one.
        before: the names of what it is made of.
    """

    name: str
    what: str
    changed: bool
    before: tuple[str, ...] = ()


def lineage(facts: Facts, differences: Sequence[tuple[Facts, Sequence[Change]]], places: Sequence[str]) -> list[Node]:
    """The graph from left to right; nothing when it is not known what the model is made of.

    Args:
        facts: of the run.
        differences: against what it is compared with; the first one's count.
        places: where a version of the model serves.
    """
    found = differences[0][1] if differences else []
    changed = {change.kind for change in found}
    sources = [
        Node(kind, digest.removeprefix("sha256:")[:12], kind in changed) for kind, digest in facts.made_of.items()
    ]
    if facts.parameters:
        several = [change.name for change in found if change.kind == "parameter"]
        sources.append(Node("parameters", " ".join(several[:3]), bool(several)))
    if not sources:
        return []
    model = Node("model", "", any(node.changed for node in sources), tuple(node.name for node in sources))
    served = [Node(place, "serves now", model.changed, ("model",)) for place in places]
    return [*sources, model, *served]
