"""What the registry keeps, as it stands in the store: manifests, evidence and aliases."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..stores.store import EMPTY, unfit_name

DIGEST = r"^sha256:[0-9a-f]{64}$"


class Stored(BaseModel):
    """Something that is kept in the store, read back strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class File(Stored):
    """A file of a model: its path in the model's folder, the digest that is its blob's name, its size in bytes."""

    path: str
    digest: str = Field(pattern=DIGEST)
    size: int = Field(ge=0)

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        unfit = any(part == ".." or unfit_name(part) for part in parts if part != EMPTY)
        if not parts or path.startswith("/") or unfit:
            raise ValueError(f"{path!r} is not a path inside the model's folder")
        return path


class CodeSource(Stored):
    """The code that a version was made from, and the run that made it. `dirty`: there were uncommitted changes."""

    repository: str = ""
    commit: str = ""
    branch: str = ""
    dirty: bool | None = None
    run: str = ""
    url: str = ""
    tool: str = ""


class Pipeline(Stored):
    """The pipeline that trained it: its name, the digest of its specification, the key of the run."""

    name: str = ""
    digest: str = ""
    key: str = ""


class Features(Stored):
    """The feature views that were materialized for it."""

    digest: str = ""
    views: list[dict[str, Any]] = []


class Environment(Stored):
    """Where the training code ran.

    Attributes:
        name: digest of the environment.
        packages: digest of the blob with its `name==version` lines.
        requested: what the component that made the model asked to have installed.
    """

    name: str = ""
    packages: str = ""
    requested: list[str] = []


class Lineage(Stored):
    """What a version came from.

    Attributes:
        image: digest of the container image.
        unknown: what nobody could tell when it was trained, of `data` and `features`.
    """

    source: CodeSource = CodeSource()
    pipeline: Pipeline = Pipeline()
    parameters: dict[str, Any] = {}
    seed: int | None = None
    data_fingerprint: str = ""
    features: Features = Features()
    image: str = ""
    environment: Environment = Environment()
    tuning: dict[str, Any] = {}
    unknown: list[str] = []


class Evidence(Stored):
    """A check of exactly these bytes, made by an action: what it said, and the blob of its whole record."""

    action: str
    variant: str = ""
    verdict: Literal["passed", "unchecked", "rejected", "bad-input", "failed", "cancelled"]
    reason: str = ""
    key: str = ""
    run: str = ""
    started: str = ""
    record: str = Field(pattern=DIGEST)


class Manifest(Stored):
    """A version of a model. It is created once and never changes.

    Attributes:
        digest: of the whole model, as `store.tree_digest` makes it.
        kind: of model, by the names of `models.kinds`; "" where only code of the consumer's can load it.
        identity: hash of what makes it a version of its own: its bytes, and the pipeline run that gave them.
        evidence: the checks that were made before it was registered.
    """

    schema_version: Literal[1] = 1
    name: str
    version: int = Field(ge=1)
    created: str
    digest: str = Field(pattern=DIGEST)
    identity: str
    kind: str = ""
    files: list[File] = Field(min_length=1)
    lineage: Lineage = Lineage()
    metrics: dict[str, float] = {}
    evidence: list[Evidence] = []
    predictions: File | None = None
    golden: File | None = None
    card: File | None = None
    tags: dict[str, Any] = {}


class Move(Stored):
    """One change of an alias: from which version to which, when, by whom, in which run, and why."""

    version: int
    previous: int | None = None
    at: str
    by: str = ""
    run: str = ""
    reason: str = ""


class Alias(Stored):
    """Which version an alias names now; the moves that led there, the last one first (at most `HISTORY`)."""

    schema_version: Literal[1] = 1
    name: str
    alias: str
    version: int
    digest: str
    history: list[Move]


HISTORY = 100


def identity(digest: str, pipeline: Pipeline) -> str:
    """Two registrations are of one version if these are equal: the model's bytes, and the run that gave them."""
    text = json.dumps({"model": digest, "pipeline": pipeline.key}, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def newest(evidence: list[Evidence]) -> list[Evidence]:
    """The last check of each action and variant. Of two that were started at the same time, one that failed counts."""
    last: dict[tuple[str, str], Evidence] = {}
    for item in sorted(evidence, key=lambda one: (one.started, one.verdict != "passed")):
        last[item.action, item.variant] = item
    return [last[key] for key in sorted(last)]
