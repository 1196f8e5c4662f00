"""What a registry has, read at once; what cannot be read is a line of its own and ends nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RemoteFailed
from ..inputs import MODEL_NAME
from ..records import Record
from ..registry.manifest import Alias, Evidence, Manifest, Stored, newest
from ..registry.registry import read_stored
from ..registry.signing import named
from ..reports.described import Described, columns, known, packages
from ..serving.history import Deployments
from ..stores.store import Store, blob_path

_KINDS: dict[str, type[Stored]] = {"versions": Manifest, "aliases": Alias, "deployments": Deployments}
_PATH = re.compile(r"models/([^/]+)/(versions|aliases|deployments)/([^/]+?)(/(?:evidence|signatures)/[^/]+)?\.json")
_CHECKS = ("validate-data", "evaluate-model")
_BOUND = re.compile(r"[<>]=? *(-?[0-9.]+(?:e[+-]?[0-9]+)?)")


@dataclass(frozen=True)
class Gate:
    """A limit that a version's metric had to keep: in words and as a number, and whether it did."""

    metric: str
    limit: str
    bound: float
    passed: bool


@dataclass(frozen=True)
class Version:
    """A version: its manifest, the last check of each action, what it is made of, its gates, its card, its metric,
    and whom its signatures name, which is not verified."""

    manifest: Manifest
    evidence: list[Evidence]
    described: Described
    gates: list[Gate]
    card: str
    primary: str
    signatures: list[str]

    @property
    def number(self) -> int:
        """Its number."""
        return self.manifest.version

    @property
    def verdict(self) -> str:
        """`passed` when all checks have passed, else what they said; `unchecked` without any."""
        said = {one.verdict for one in self.evidence} or {"unchecked"}
        return "passed" if said == {"passed"} else ", ".join(sorted(said - {"passed"}))


@dataclass
class Model:
    """A model of the registry; `problems` are a line each of what could not be read."""

    name: str
    versions: list[Version] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    places: list[Deployments] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        """The numbers of its versions."""
        return [one.number for one in self.versions]

    def names(self, number: int) -> list[str]:
        """What a version is called and where it serves: its aliases and places."""
        served = [place.place for place in self.places if place.live and place.live.version == number]
        return [*(alias.alias for alias in self.aliases if alias.version == number), *served]

    @property
    def primary(self) -> str:
        """The metric that the last version was judged by; without one, the first that it has."""
        last = self.versions[-1] if self.versions else None
        return (last.primary or next(iter(sorted(last.manifest.metrics)), "")) if last else ""


def collect(store: Store) -> list[Model]:
    """All models of a registry, by name.

    Raises:
        RemoteFailed: the store cannot be used.
    """
    found = [match for entry in store.list("models/") if (match := _PATH.fullmatch(entry.path))]
    found = [match for match in found if re.fullmatch(MODEL_NAME, match[1])]
    data = store.get_all(match[0] for match in found)
    models: dict[str, Model] = {}
    manifests: dict[tuple[str, int], Manifest] = {}
    later: dict[tuple[str, str], list[Evidence]] = {}
    signatures: dict[tuple[str, str], list[str]] = {}
    for match in found:
        name, kind, part, beside = match.groups()
        model = models.setdefault(name, Model(name))
        if match[0] not in data:
            continue  # deleted meanwhile
        if beside and beside.startswith("/signatures/"):
            signatures.setdefault((name, part), []).append(named(data[match[0]]))
            continue
        try:
            one = read_stored(store, Evidence if beside else _KINDS[kind], data[match[0]], match[0])
        except RemoteFailed as error:
            model.problems.append(f"{match[0]} cannot be read: {error.why or error.what}")
            continue
        if isinstance(one, Evidence):
            later.setdefault((name, part), []).append(one)
        elif _named(one) != (name, part):
            model.problems.append(f"{match[0]} cannot be read: it is of {' '.join(_named(one))}")
        elif isinstance(one, Manifest):
            manifests[name, one.version] = one
        elif isinstance(one, Alias):
            model.aliases.append(one)
        elif isinstance(one, Deployments):
            model.places.append(one)
    checks = {key: newest([*one.evidence, *later.get((key[0], str(key[1])), [])]) for key, one in manifests.items()}
    wanted = {key: _digests(one, checks[key]) for key, one in manifests.items()}
    blobs = store.get_all(blob_path(digest) for one in wanted.values() for digest in one.values())
    for key in sorted(manifests):
        model, signed = models[key[0]], signatures.get((key[0], str(key[1])), [])
        texts = {what: blobs.get(blob_path(digest)) for what, digest in wanted[key].items()}
        records = {what: _record(texts[what]) for what in _CHECKS if what in texts}
        lost = [what for what, found in {**texts, **records}.items() if found is None]
        model.problems += [
            f"{blob_path(wanted[key][what])} cannot be read: {what} of version {key[1]}" for what in lost
        ]
        made = _version(manifests[key], checks[key], texts, records, signed)
        for group, what in (("data", "validate-data"), ("environment", "packages")):
            if what in lost:  # else it would be told as a change
                del made.described[group]
        model.versions.append(made)
    return [models[name] for name in sorted(models)]


def _named(one: Stored) -> tuple[str, str]:
    """The model that an object says it is of, and its own name, which is that of its file."""
    if isinstance(one, Manifest):
        return one.name, str(one.version)
    if isinstance(one, Alias):
        return one.name, one.alias
    assert isinstance(one, Deployments)
    return one.name, one.place


def _digests(manifest: Manifest, evidence: list[Evidence]) -> dict[str, str]:
    """The blobs that are looked into: the card, the packages, and the records of the checks that say more."""
    found = {one.action: one.record for one in evidence if one.action in _CHECKS}
    packages = manifest.lineage.environment.packages
    return found | known(
        card=manifest.card.digest if manifest.card else None,
        packages=packages if re.fullmatch("sha256:[0-9a-f]{64}", packages) else None,
    )


def _version(
    manifest: Manifest,
    evidence: list[Evidence],
    texts: Mapping[str, bytes | None],
    records: Mapping[str, Record | None],
    signatures: list[str],
) -> Version:
    lineage = manifest.lineage
    data, judged = records.get("validate-data"), records.get("evaluate-model")
    listed = (texts.get("packages") or b"").decode(errors="replace")
    described: Described = {
        "metrics": {name: value for name, value in manifest.metrics.items() if math.isfinite(value)},
        "parameters": dict(lineage.parameters),
        "data": known(fingerprint=lineage.data_fingerprint, rows=data.outputs.get("rows") if data else None)
        | (columns(data) if data else {}),
        "features": known(digest=lineage.features.digest),
        "image": known(digest=lineage.image),
        "environment": known(digest=lineage.environment.name) | packages(listed),
        "code": known(branch=lineage.source.branch, commit=lineage.source.commit, pipeline=lineage.pipeline.digest),
    }
    card = (texts.get("card") or b"").decode(errors="replace")
    primary = str(judged.outputs.get("primary-metric") or "") if judged else ""
    return Version(manifest, evidence, described, _gates(judged), card, primary, signatures)


def _record(data: bytes | None) -> Record | None:
    try:
        return Record.model_validate_json(data) if data else None
    except ValueError:
        return None


def _gates(judged: Record | None) -> list[Gate]:
    found: Any = judged.details.get("gates") if judged else None
    gates = [gate for gate in (found if isinstance(found, list) else []) if isinstance(gate, dict)]
    named = [(gate, _BOUND.match(str(gate.get("limit")))) for gate in gates if gate.get("kind") == "threshold"]
    return [
        Gate(str(gate.get("metric")), str(gate.get("limit")), float(bound[1]), bool(gate.get("passed")))
        for gate, bound in named
        if bound
    ]
