"""How what a run's model is made of and came to differs from another one's, as the report tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..evaluation.metric import find
from ..records import Record
from ..registry.manifest import Manifest
from ..text import number
from .described import describe, numbers, shown

Kind = Literal["metric", "parameter", "data", "features", "pipeline", "image"]


@dataclass(frozen=True)
class Facts:
    """What a model is made of and what it came to.

    Attributes:
        name: what it is called in a report, such as `version 3, the champion`.
        run: the run of the chain; "" of a version.
        verdict: how that run ended; "" of a version.
        metrics, parameters: by name.
        made_of: digests of `data`, `features`, `pipeline` and `image`; what is not known is not there.
    """

    name: str = ""
    run: str = ""
    verdict: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    made_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.metrics or self.parameters or self.made_of)

    def as_json(self) -> dict[str, Any]:
        """What `read` takes."""
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        kind: what sort of thing.
        name: of the metric or parameter; else that of the kind.
        before, now: as they are shown; "" where there is none.
        better: of a metric whose direction is known, whether it is better now.
    """

    kind: Kind
    name: str
    before: str
    now: str
    better: bool | None = None


def facts_of(records: Sequence[Record], verdict: str, name: str = "") -> Facts:
    """What the records of a run say."""
    of = describe(records)
    made = {
        "data": of["data"].get("fingerprint"),
        "features": of["features"].get("digest"),
        "pipeline": of["code"].get("pipeline"),
        "image": of["image"].get("digest"),
    }
    known = {kind: digest for kind, digest in made.items() if isinstance(digest, str)}
    return Facts(name, records[0].run if records else "", verdict, of["metrics"], of["parameters"], known)


def facts_of_version(manifest: Manifest, name: str) -> Facts:
    """What the registry says of a version."""
    lineage = manifest.lineage
    made = {
        "data": lineage.data_fingerprint,
        "features": lineage.features.digest,
        "pipeline": lineage.pipeline.digest,
        "image": lineage.image,
    }
    known = {kind: digest for kind, digest in made.items() if digest}
    return Facts(name, "", "", manifest.metrics, lineage.parameters, known)


def read(value: object, name: str) -> Facts | None:
    """What `as_json` gave, under another name; None when it is something else."""
    if not isinstance(value, dict):
        return None
    made_of, parameters = value.get("made_of"), value.get("parameters")
    return Facts(
        name,
        str(value.get("run") or ""),
        str(value.get("verdict") or ""),
        numbers(value.get("metrics")),
        parameters if isinstance(parameters, dict) else {},
        {str(kind): str(digest) for kind, digest in made_of.items()} if isinstance(made_of, dict) else {},
    )


def changes(now: Facts, before: Facts) -> list[Change]:
    """What differs, metrics first. What one of them does not know is no difference; a number is one as it is shown."""
    return [*_metrics(now, before), *_digests(now, before), *_parameters(now, before)]


def _metrics(now: Facts, before: Facts) -> Iterator[Change]:
    if not now.metrics or not before.metrics:  # one of them measured nothing
        return
    for name in sorted({*now.metrics, *before.metrics}):
        values = before.metrics.get(name), now.metrics.get(name)
        told = ["" if value is None else number(value) for value in values]
        if told[0] != told[1]:
            metric, (old, new) = find(name), values
            better = None
            if metric and old is not None and new is not None:
                better = (new > old) == metric.higher_is_better
            yield Change("metric", name, told[0], told[1], better)


def _digests(now: Facts, before: Facts) -> Iterator[Change]:
    kinds: tuple[Kind, ...] = ("data", "features", "pipeline", "image")
    for kind in kinds:
        old, new = before.made_of.get(kind), now.made_of.get(kind)
        if old and new and old != new:
            yield Change(kind, kind, _short(old), _short(new))


def _parameters(now: Facts, before: Facts) -> Iterator[Change]:
    if not now.parameters or not before.parameters:
        return
    for name in sorted({*now.parameters, *before.parameters}):
        old, new = (shown(facts.parameters[name]) if name in facts.parameters else "" for facts in (before, now))
        if old != new:
            yield Change("parameter", name, old, new)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
