"""What every serving engine does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..evaluation.golden import Tolerance

if TYPE_CHECKING:
    from ..evaluation.golden_rows import Golden  # needs polars, which commands without it do not have
    from ..workspace import Workspace


def folder_of(workspace: Workspace, name: str) -> Path:
    """Where this machine keeps what it serves of a model: one a store, since each store has models of its own."""
    return workspace.home / "serving" / f"{name}-{hashlib.sha256(workspace.store_url.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class DeployRequest:
    """A version to serve.

    Attributes:
        name, version, digest: of the registered model.
        model: its file or folder on this disk.
        golden: the predictions it must give, or None when it has no golden rows.
        tolerance: how far a score may be off.
        predict, root: how it is asked, and the folder with the consumer's code; see `models.predicting`.
        code: digest of that code; "" when there is none.
        python, environment: the server's interpreter, and the name of the environment that it belongs to.
        environ: the server's variables.
        host: address to listen on.
        port: to listen on, or 0 for the one that this model had, or a stable one.
        timeout: seconds until it must be ready.
    """

    name: str
    version: int
    digest: str
    model: Path
    golden: Golden | None
    tolerance: Tolerance
    predict: str
    root: Path
    code: str
    python: Path
    environment: str
    environ: dict[str, str]
    host: str
    port: int
    timeout: float


@dataclass(frozen=True)
class Served:
    """How a deployment ended.

    Attributes:
        url: of the model, to which `/infer` is added; "" when nothing serves.
        version: that serves now.
        previous: the version that served before, if any.
        passed: whether the version that was asked for serves.
        how: "started", "reloaded" (in the running server), "reused", or "rolled back".
        reason: why it does not serve, if so.
        rows: golden rows that were asked.
        max_difference: of a score from the expected one.
        latency: median seconds of a response to one row.
        output: the model's output that was asked for: `predict_proba` or `predict`.
        log: the traceback, or the last lines of the server's log, when it failed.
    """

    url: str
    version: int | None
    previous: int | None
    passed: bool
    how: str
    reason: str = ""
    rows: int = 0
    max_difference: float = 0.0
    latency: float = 0.0
    output: str = "predict"
    log: str = ""


class ServingEngine(Protocol):
    """Where models are served."""

    def deploy(self, request: DeployRequest) -> Served:
        """Serve a version. What served before goes on until the new one has passed the golden requests."""

    def stop(self, name: str) -> int | None:
        """End what serves a model; the version that did."""
