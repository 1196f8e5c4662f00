"""What is kept of a version: its manifest, the records that speak of it, and where its model was deployed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import RemoteFailed
from ..records import Record
from ..registry.manifest import Manifest
from ..registry.registry import Registry, manifest_path, read_stored
from ..serving.history import Deployments, folder, places
from ..stores.store import Store, blob_path

BY_HAND = ("", "terminal", "workflow_dispatch")
"""Events of a person; whatever else a record names (push, schedule, …) started it without one."""
_CHAMPION = "champion"
_VERSIONS = 20
"""Versions of the model that are looked at beside the scored one: the last ones."""
_RECORDS = 300
"""Records of other runs that are looked at, of each action: the last ones, by the names of the runs."""
_AT_ONCE = 16
_LATER = ("monitor-model", "deploy-model", "run-pipeline")
"""Actions that are looked for in all runs. What others say of a version is in its evidence, or in its own run."""
_PATH = re.compile(r"runs/(?P<run>[^/]+)/(?P<action>[a-z-]+)(?:@[^/]*)?\.json")


@dataclass(frozen=True)
class Kept:
    """A record, and where it is."""

    record: Record
    uri: str

    @property
    def automatic(self) -> bool:
        """Whether an event started it, and not a person."""
        return self.record.source.get("event", "") not in BY_HAND


@dataclass(frozen=True)
class Known:
    """What is kept of a version.

    Attributes:
        manifest, uri: its own, and where that is.
        records: those that speak of the version, the last one first.
        others: of the other versions of the model, the last one first.
        versions: manifests by number, the scored one among them.
        places: of the model, each with its URI.
    """

    manifest: Manifest
    uri: str
    records: Sequence[Kept] = ()
    others: Sequence[Kept] = ()
    versions: Mapping[int, Manifest] = field(default_factory=dict)
    places: Sequence[tuple[Deployments, str]] = ()

    def of(self, *actions: str) -> list[Kept]:
        """The records of actions about the version, the last one first."""
        return [kept for kept in self.records if kept.record.action in actions]


def gather(store: Store, name: str, wanted: str = "") -> Known:
    """What is kept of a version.

    Args:
        store: of the registry.
        name: the model.
        wanted: a number or an alias; "" for the champion, and without one for the last version.

    Raises:
        BadInput: there is no such version.
        RemoteFailed: the store cannot be used.
    """
    registry = Registry(store)
    numbers = registry.versions(name)
    if not wanted and numbers and registry.alias(name, _CHAMPION) is None:
        wanted = str(numbers[-1])
    manifest = registry.resolve(name, wanted or _CHAMPION)
    versions = {one.version: one for one in _others(store, name, numbers[-_VERSIONS:])} | {manifest.version: manifest}
    paths = [blob_path(one.record) for one in (*registry.evidence(manifest), *manifest.evidence)]
    own_run = manifest.lineage.source.run
    found = [*_read(store, [*paths, *_of_runs(store, own_run)])]
    mine = [kept for kept in found if _speaks_of(kept, manifest)]
    digests, key = {one.digest for one in versions.values()} - {manifest.digest}, manifest.lineage.pipeline.key
    own = {kept.uri for kept in mine}
    others = [
        kept
        for kept in found
        if kept.uri not in own and (kept.record.subject.get("model") in digests or _trained_as(kept.record, key))
    ]
    return Known(
        manifest,
        store.uri(manifest_path(name, manifest.version)),
        _newest_first(mine),
        _newest_first(others),
        versions,
        [(place, store.uri(f"{folder(name)}{place.place}.json")) for place in places(store, name)],
    )


def _others(store: Store, name: str, numbers: Sequence[int]) -> Iterable[Manifest]:
    for path, data in store.get_all(manifest_path(name, number) for number in numbers).items():
        with suppress(RemoteFailed):  # it is damaged, or of another release
            one = read_stored(store, Manifest, data, path)
            if path == manifest_path(one.name, one.version):
                yield one


def _of_runs(store: Store, own_run: str) -> list[str]:
    """All records of one run, and of the other runs those of `_LATER`."""
    paths = [match for entry in store.list("runs/") if (match := _PATH.fullmatch(entry.path))]
    own = [match[0] for match in paths if match["run"] == own_run]
    later = [
        [match[0] for match in paths if match["run"] != own_run and match["action"] == action][-_RECORDS:]
        for action in _LATER
    ]
    return [*own, *(path for some in later for path in some)]


def _read(store: Store, paths: Iterable[str]) -> Iterable[Kept]:
    def read(path: str) -> Kept | None:
        try:
            return Kept(Record.model_validate_json(store.get(path)), store.uri(path))
        except (FileNotFoundError, ValueError):  # gone by now, or of another release
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [kept for kept in pool.map(read, dict.fromkeys(paths)) if kept]


def _speaks_of(kept: Kept, manifest: Manifest) -> bool:
    """Whether a record is about the version's bytes, the data it was trained on, or what its run made for it."""
    record, lineage = kept.record, manifest.lineage
    if "model" in record.subject:
        return record.subject["model"] == manifest.digest
    if "data" in record.subject:
        return record.subject["data"] == lineage.data_fingerprint
    if f"/runs/{lineage.source.run}/" not in kept.uri:
        return False
    return record.action != "materialize-features" or record.outputs.get("features-digest") == lineage.features.digest


def _trained_as(record: Record, key: str) -> bool:
    """Whether it is of the training that a key names, whatever came of it."""
    return bool(key) and record.action == "run-pipeline" and record.outputs.get("pipeline-key") == key


def _newest_first(found: Sequence[Kept]) -> list[Kept]:
    """Each record once: as evidence it has a place that never changes, which comes first."""
    once: dict[object, Kept] = {}
    for kept in found:
        record = kept.record
        once.setdefault((record.action, record.run, record.started, str(record.details.get("variant"))), kept)
    return sorted(once.values(), key=lambda kept: kept.record.started, reverse=True)
