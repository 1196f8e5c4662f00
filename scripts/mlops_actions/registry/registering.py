"""A run's results as a version: which files are the model, what it came from, and what was checked."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..errors import BadInput, RemoteFailed
from ..models.kinds import kind_of
from ..records import Record
from ..stores.digests import tree_digest
from ..stores.store import EMPTY, files_in, to_json
from .card import model_card
from .manifest import CodeSource, Environment, Evidence, Features, File, Lineage, Manifest, Pipeline, identity
from .registry import Registry

NOT_EVIDENCE = ("register-model", "promote-model", "deploy-model")
"""Actions whose records come after a version, and say nothing about the model itself."""
_SEEDS = ("seed", "random_state", "random_seed", "random-seed")


@dataclass(frozen=True)
class Registration:
    """What is asked for.

    Attributes:
        name: of the model in the registry.
        model: the model on this disk: a file or a folder.
        predictions, golden: files that belong to it, or None.
        records: those of the run of the chain, in the order they were started.
        source: repository, commit and branch, as records have them.
        run: name of the chain's run.
        dirty: whether there were uncommitted changes; None outside git.
        description: Markdown for the card, by a person.
        tags: of the user's.
    """

    name: str
    model: Path
    predictions: Path | None = None
    golden: Path | None = None
    records: Sequence[Record] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    dirty: bool | None = None
    description: str = ""
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """The version.

    Attributes:
        created: whether it was created now.
        added: how many checks were added to one that was there.
        differs: what of one that was there is not what would have been registered now.
    """

    manifest: Manifest
    created: bool
    added: int = 0
    differs: Sequence[str] = ()


def register(registry: Registry, asked: Registration) -> Registered:
    """Register a version, or find the one that is the same.

    Checks of these bytes that are newer than the version that is found are added to it.

    Raises:
        BadInput: the model is an empty folder.
        RemoteFailed: the model is not the one that the pipeline made; or the store cannot be used.
    """
    digest = tree_digest(asked.model)
    trained = _trained(asked, digest)
    pipeline = _pipeline(trained)
    lineage = _lineage(registry, asked, trained, pipeline)
    evidence = evidence_of(registry, asked.records, digest, lineage.data_fingerprint)
    draft = Manifest(
        name=asked.name,
        version=1,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        digest=digest,
        identity=identity(digest, pipeline),
        kind=kind_of(asked.model),
        files=_files(registry, asked.model),
        lineage=lineage,
        metrics=_metrics(asked.records, digest),
        evidence=evidence,
        predictions=registry.put_file(asked.predictions, asked.predictions.name) if asked.predictions else None,
        golden=registry.put_file(asked.golden, asked.golden.name) if asked.golden else None,
        tags=dict(asked.tags),
    )
    card = registry.put_bytes(model_card(draft, asked.description).encode(), "README.md")
    manifest, created = registry.register(lambda n: draft.model_copy(update={"version": n, "card": card}))
    if created:
        return Registered(manifest, created)
    same = ("digest", "files", "kind", "golden", "predictions")
    differs = [name for name in same if getattr(manifest, name) != getattr(draft, name)]
    if manifest.lineage.environment != lineage.environment:
        differs.append("environment")
    return Registered(manifest, created, registry.add_evidence(manifest, evidence), differs)


def evidence_of(registry: Registry, records: Sequence[Record], digest: str, fingerprint: str) -> list[Evidence]:
    """The checks among the records that were made of a model's very bytes, or of the data that it was trained on.

    Args:
        registry: keeps the records.
        records: of a run of the chain.
        digest: of the model.
        fingerprint: of its training data; "" when that is not known.
    """
    return [
        _evidence(registry, record)
        for record in records
        if record.action not in NOT_EVIDENCE
        and (
            record.subject.get("model") == digest
            or (fingerprint and record.action == "validate-data" and record.subject.get("data") == fingerprint)
        )
    ]


def is_dirty(folder: Path) -> bool | None:
    """Whether files of the folder's repository differ from the commit, or are not in it; None outside git."""
    command = ["git", "-C", str(folder), "status", "--porcelain", "--", "."]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return bool(found.stdout.strip()) if found.returncode == 0 else None


def _trained(asked: Registration, digest: str) -> Record | None:
    """The record of the pipeline run that gave the model, if the model is from this run of the chain."""
    found = _last(asked.records, "run-pipeline")
    if found and found.subject.get("model") == digest:
        return found
    return None


def same_as_recorded(record: Record | None, uri: str, model: Path) -> None:
    """Check that what is at the pipeline's `model-uri` still is what the pipeline wrote there.

    Raises:
        RemoteFailed: it is not.
    """
    if record and record.outputs.get("model-uri") == uri and record.subject.get("model") != tree_digest(model):
        raise RemoteFailed(
            f"The model at {uri} is not the one that the pipeline made",
            why="Its bytes have changed since",
            fix="Run the pipeline again with `reuse: false`",
        )


def _files(registry: Registry, model: Path) -> list[File]:
    if model.is_file():
        return [registry.put_file(model, model.name)]
    paths = files_in(model)
    if not any(path.is_file() for path in paths):
        raise BadInput(f"The model {model.name} is an empty folder", fix="Look at the step that wrote it")
    return [
        registry.put_file(path, path.relative_to(model).as_posix())
        if path.is_file()
        else registry.put_bytes(b"", f"{path.relative_to(model).as_posix()}/{EMPTY}")
        for path in paths
    ]


def _evidence(registry: Registry, record: Record) -> Evidence:
    blob = registry.put_bytes(to_json(record.model_dump(mode="json")), f"{record.action}.json")
    return Evidence(
        action=record.action,
        variant=str(record.details.get("variant") or ""),
        verdict=record.verdict,
        reason=record.reason,
        key=record.key,
        run=record.run,
        started=record.started,
        record=blob.digest,
    )


def _pipeline(trained: Record | None) -> Pipeline:
    given = trained.outputs if trained else {}
    return Pipeline(
        name=given.get("pipeline", ""), digest=given.get("pipeline-digest", ""), key=given.get("pipeline-key", "")
    )


def _lineage(registry: Registry, asked: Registration, trained: Record | None, pipeline: Pipeline) -> Lineage:
    """What the records of the run say; nothing is said of training when the model is not from this run."""
    source = {name: asked.source[name] for name in ("repository", "commit", "branch", "url") if name in asked.source}
    tool = asked.records[-1].tool if asked.records else ""
    here = CodeSource(**source, dirty=asked.dirty, run=asked.run, tool=tool)
    if trained is None:
        return Lineage(source=here, unknown=["data"])
    parameters = trained.outputs.get("parameters") or {}
    seeds = [parameters[name] for name in _SEEDS if isinstance(parameters.get(name), int)]
    features = _outputs(asked.records, "materialize-features")
    image = _outputs(asked.records, "build-image")
    tuned = _outputs(asked.records, "tune-hyperparams")
    packages = str(trained.details.get("packages") or "")
    told = {"data": trained.outputs.get("data-fingerprint"), "features": trained.outputs.get("features-digest")}
    needed = ["data", "features"] if features else ["data"]
    return Lineage(
        source=here,
        pipeline=pipeline,
        parameters=parameters,
        seed=seeds[0] if seeds else None,
        data_fingerprint=told["data"] or "",
        features=_features(told["features"] or "", features),
        image=image.get("digest") or "",
        environment=Environment(
            name=str(trained.details.get("environment") or ""),
            packages=registry.put_bytes(packages.encode(), "packages.txt").digest if packages else "",
            requested=trained.outputs.get("packages") or [],
        ),
        tuning={
            name: tuned[name]
            for name in ("best-parameters", "best-value", "best-trial", "trials-uri")
            if tuned.get(name) not in (None, "")
        },
        unknown=[name for name in needed if not told[name]],
    )


def _features(digest: str, found: Mapping[str, Any]) -> Features:
    """The features that the pipeline was run with, with their views where this run of the chain made them."""
    return Features(digest=digest, views=(found.get("views") or []) if found.get("features-digest") == digest else [])


def _metrics(records: Sequence[Record], digest: str) -> dict[str, float]:
    """The pipeline's own metrics, and those that evaluate-model computed, which win where both have one."""
    metrics: dict[str, float] = {}
    for action in ("run-pipeline", "evaluate-model"):
        record = _last(records, action)
        if record and record.subject.get("model") == digest:
            found = record.outputs.get("metrics") or {}
            metrics |= {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    return metrics


def _last(records: Sequence[Record], action: str) -> Record | None:
    return next((record for record in reversed(records) if record.action == action), None)


def _outputs(records: Sequence[Record], action: str) -> dict[str, Any]:
    record = _last(records, action)
    return record.outputs if record and record.verdict in ("passed", "unchecked", "rejected") else {}
