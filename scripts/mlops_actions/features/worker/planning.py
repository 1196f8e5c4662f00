"""What applying a repository changes, which of it destroys what is served, and an apply that keeps the rest.

The plan compares the registry's objects with the repository's, so it is the same for every registry and online store.
Feast's apply is guarded: intervals of views whose online values stay right are the same after it, those of views whose
online values are of no use any more are gone before it, and every view has its online table.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .repository import Repository

if TYPE_CHECKING:
    from feast import FeatureStore

Intervals = list[tuple[datetime, datetime]]
_KINDS = {"CREATE": "added", "UPDATE": "changed", "DELETE": "removed", "UNCHANGED": "unchanged"}


@dataclass(frozen=True)
class RegistryPlan:
    """What applying would do.

    Attributes:
        names: objects as `kind name`, by `added`, `changed`, `removed` and `unchanged`.
        destructive: a sentence for each change that takes away what is served online.
        removed: Feast's objects that are to be deleted.
        rewritten: names of the views whose online values are of no use for the new definition.
    """

    names: dict[str, list[str]]
    destructive: list[str]
    removed: list[Any]
    rewritten: set[str]

    def event(self) -> dict[str, Any]:
        """The plan as the outputs and the report have it."""
        return {**self.names, "destructive": self.destructive}


def plan(repository: Repository) -> RegistryPlan:
    """What applying would do to the registry; nothing is changed.

    Raises:
        Problem: a source or a definition is wrong.
    """
    try:
        difference, _, _ = repository.store.plan(repository.contents)
    except Exception as error:
        traceback.print_exc()
        raise repository.refused(error) from None
    names: dict[str, list[str]] = {kind: [] for kind in _KINDS.values()}
    destructive, removed, rewritten = [], [], set()
    for item in difference.feast_object_diffs:
        kind, transition = item.feast_object_type.value, item.transition_type.name
        if item.name == "__dummy" or kind == "project":
            continue
        differing = sorted({d.property_name for d in item.feast_object_property_diffs if _really_differs(d)})
        if transition == "UPDATE" and not differing:
            transition = "UNCHANGED"
        name = f"{kind} {item.name}"
        names[_KINDS[transition]].append(f"{name} ({', '.join(differing)})" if transition == "UPDATE" else name)
        current, new = item.current_feast_object, item.new_feast_object
        if transition == "DELETE":
            removed.append(current)
        lost: list[str] = []
        if transition == "DELETE":
            lost = ["it is removed"]
        elif transition == "UPDATE" and hasattr(current, "materialization_intervals"):
            lost = _lost(current, new)
            # Of another source, which may be the same table in another place, the values are written over the old ones.
            if lost or _added(current, new) or "batch_source" in differing:
                rewritten.add(item.name)
        if lost and _materialized(current):
            destructive.append(f"{name}: {'; '.join(lost)}. It is materialized until {_until(current)}")
    return RegistryPlan({kind: sorted(found) for kind, found in names.items()}, sorted(destructive), removed, rewritten)


def apply(repository: Repository, plan: RegistryPlan) -> None:
    """Register everything, also when nothing changed: the online store may lack its tables.

    Raises:
        Problem: Feast refuses.
    """
    store = repository.store
    before = _intervals(store, repository.views)
    names = {view.name: view for view in repository.views}
    wanted = [item for kind in repository.contents for item in kind]
    try:
        # Feast keeps the intervals of a view whose values it cannot read any more. Where views have versions, a new
        # version has an online table of its own, which is found to be empty.
        versions = getattr(store.config.registry, "enable_online_feature_view_versioning", False)
        for name in set() if versions else plan.rewritten & before.keys():
            reset(store, names[name], [])
        store.apply(wanted, objects_to_delete=plan.removed, partial=False)
    except Exception as error:
        traceback.print_exc()
        raise repository.refused(error) from None
    after = _intervals(store, repository.views)
    for view in repository.views:
        if view.name not in plan.rewritten:
            for interval in before.get(view.name, []):
                if interval not in after.get(view.name, []):
                    store.registry.apply_materialization(view, store.project, *interval)


def reset(store: FeatureStore, view: Any, intervals: Intervals) -> None:
    """Register a view with these intervals and no other, which Feast only takes for a view that it does not have.

    A registry in a file is written once, so that nobody sees it without the view. In one that has no changes of
    several objects (SQL), others may find it absent between two statements; a process that is killed there leaves a
    view that is added, and filled, by the next.
    """
    view.materialization_intervals = intervals
    store.registry.delete_feature_view(view.name, store.project, commit=False)
    store.registry.apply_feature_view(view, store.project)


def _lost(current: Any, new: Any) -> list[str]:
    """What of a view's online values is of no use, or not served any more."""
    lost = []
    if current.online and not new.online:
        lost.append("it is no longer served online")
    mine, theirs = (sorted((c.name, str(c.dtype)) for c in view.entity_columns) for view in (current, new))
    if mine != theirs:
        lost.append("its join keys change, so its rows are no longer found")
    types = {feature.name: str(feature.dtype) for feature in new.features}
    for feature in current.features:
        if feature.name not in types:
            lost.append(f"its feature {feature.name} is removed")
        elif types[feature.name] != str(feature.dtype):
            lost.append(f"the type of {feature.name} changes from {feature.dtype} to {types[feature.name]}")
    return lost


def _added(current: Any, new: Any) -> bool:
    return not {feature.name for feature in new.features} <= {feature.name for feature in current.features}


def _materialized(view: Any) -> Intervals:
    return list(getattr(view, "materialization_intervals", []))


def _until(view: Any) -> str:
    return f"{max(end for _, end in _materialized(view)):%Y-%m-%d %H:%M} UTC"


def _intervals(store: FeatureStore, views: Sequence[Any]) -> dict[str, Intervals]:
    """The recorded intervals of the views that the registry has."""
    from feast.errors import FeatureViewNotFoundException

    found = {}
    for view in views:
        try:
            found[view.name] = _materialized(store.registry.get_any_feature_view(view.name, store.project))
        except FeatureViewNotFoundException:
            continue
    return found


def _really_differs(difference: Any) -> bool:
    """Whether a property differs in more than the times at which a source was registered, which Feast compares too."""
    sides = []
    for value in (difference.val_existing, difference.val_declared):
        if hasattr(value, "DESCRIPTOR") and "meta" in value.DESCRIPTOR.fields_by_name:
            copy = type(value)()
            copy.CopyFrom(value)
            copy.ClearField("meta")
            value = copy
        sides.append(value)
    return bool(sides[0] != sides[1])
