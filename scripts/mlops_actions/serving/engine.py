"""What every serving engine does. A rollout (`serving.rollout`) is the same with all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ..workspace import Workspace
    from .protocol import Client
    from .server.traffic import Comparison


def folder_of(workspace: Workspace, name: str) -> Path:
    """Where this machine keeps what it serves of a model: one a store, since each store has models of its own."""
    return workspace.home / "serving" / f"{name}-{hashlib.sha256(workspace.store_url.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Release:
    """A version as it is served. It never changes, so what was tried is what goes live.

    Attributes:
        name: of the model in the registry.
        version, digest, kind: of the version, by its manifest.
        model: its file or folder on this disk.
        predict, root: how it is asked, and the folder with the consumer's code; see `models.predicting`.
        code: digest of that code; "" when there is none.
        example: tensors of a request with one row, from the golden rows; [] when there are none.
        lock: the `name==version` lines of the environment that it is served in.
        python: that environment's interpreter on this disk.
    """

    name: str
    version: int
    digest: str
    kind: str
    model: Path
    predict: str
    root: Path
    code: str
    example: list[dict[str, Any]]
    lock: str
    python: Path

    @property
    def id(self) -> str:
        """Its name, such as `v3-1a2b3c4d`: the same for the same version, code, way of asking and environment."""
        parts = "\n".join((self.digest, self.predict, self.code, self.lock))
        return f"v{self.version}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do with requests.

    Attributes:
        weights: it can send a release any share of them, else only none or all.
        mirror: it can send a release copies of those that another one answers.
        lacking: what it would need for what it cannot do, as a remedy; "" when it can do all.
    """

    weights: bool = False
    mirror: bool = False
    lacking: str = ""


@dataclass(frozen=True)
class Serving:
    """What serves a model now, as the engine itself sees it.

    Attributes:
        url: of the model, to which `/infer` is added.
        release, version, digest: that serves; None, None and "" while the first one is being brought up.
        candidate: the release that a rollout, perhaps a killed one, has brought up beside it; "" for none.
        percent: of the requests that the candidate is sent.
        previous: the release that can be gone back to without bringing it up from the registry; "" for none.
    """

    url: str
    release: str | None
    version: int | None
    digest: str
    candidate: str = ""
    percent: int = 0
    previous: str = ""


class NotServed(Exception):
    """A release does not come up, or the place cannot serve it.

    Args:
        reason: what is wrong, without a full stop.
        log: what its server or its pods say, for a person to read.
        fix: the remedy, if one is known.
    """

    def __init__(self, reason: str, log: str = "", fix: str = "") -> None:
        super().__init__(reason)
        self.log, self.fix = log, fix


class HandedOver(Exception):
    """The release was given to another tool, which lets it serve; nothing here can be asked whether it does.

    Args:
        where: what it was given, such as a commit, without a full stop.
    """


class ServingEngine(Protocol):
    """Where models are served. The caller holds the lease of the place.

    Each method can be called again after a kill at any line, and then finishes what was begun. What serves goes on
    serving, without a failed request, until `shift` gives its requests to another.
    """

    @property
    def place(self) -> str:
        """Where, in a name's letters: `local-<machine>`, `kubernetes-<namespace>-<hash of the cluster>`."""

    @property
    def lasting(self) -> str:
        """Why what is started here will end by itself, such as with the job; "" when it stays."""

    def capabilities(self) -> Capabilities:
        """What it can do here, by what the cluster or the machine has."""

    def serving(self, name: str) -> Serving | None:
        """What serves the model, if anything does."""

    def start(self, release: Release) -> Client:
        """Bring a release up beside what serves, with no share of the requests; whom to ask for it alone.

        Raises:
            NotServed: it does not come up.
            HandedOver: another tool brings it up and lets it serve.
            BadInput, RemoteFailed: the place is not as the inputs say, or cannot be reached.
        """

    def ask(self, name: str, release: str = "") -> Client:
        """Whom to ask: the model's own address as its users do, or one release of it that is up."""

    def shift(self, release: Release, percent: int, *, mirror: bool = False) -> None:
        """Give a release that is up this share of the requests, 0 to 100; `mirror`: and copies of the rest.

        Returns when the share is in force as far as the engine can see.
        """

    def finish(self, release: Release) -> None:
        """The release that has all requests is what serves; what served before is kept to go back to, others end."""

    def abandon(self, name: str) -> Serving | None:
        """All requests go to what serves, and the candidate ends; what serves then."""

    def stop(self, name: str) -> Serving | None:
        """End all that serves the model; what did.

        Raises:
            HandedOver: another tool does that.
        """

    def why(self, name: str) -> str:
        """What the candidate's server or pods say of their failure, for a person to read; "" for nothing."""


@runtime_checkable
class Declarative(Protocol):
    """An engine that serves by objects which can be written down."""

    def manifests(self, release: Release) -> list[dict[str, Any]]:
        """The objects that serve a release, and nothing else of its model, in the order in which they are applied.

        Raises:
            BadInput: the release cannot be served there.
        """


@runtime_checkable
class Comparing(Protocol):
    """An engine that compares what a candidate gives for copies of requests with what their users were given."""

    def compared(self, name: str) -> Comparison:
        """What copies have shown so far."""
