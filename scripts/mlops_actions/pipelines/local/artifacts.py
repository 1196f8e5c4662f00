"""The artifacts of a run: where their bytes are, and what tells them apart."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ...stores.digests import tree_digest
from ...stores.store import file_path
from ...values import SCHEMES
from ..downloads import fetch_artifact, reachable, remote_digest
from .graph import Artifact, Values
from .plan import TaskPlan, Tell
from .processes import in_thread


class Artifacts:
    """The artifacts that one run knows, by their URIs.

    Args:
        plan: of the run.
        tell: asked for what an earlier run has kept.
    """

    def __init__(self, plan: TaskPlan, tell: Tell) -> None:
        self._plan, self._tell = plan, tell
        self._digests: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._coming: dict[str, asyncio.Future[None]] = {}
        self._remote: dict[str, Path] = {}

    def path(self, artifact: Artifact) -> Path | None:
        """Where the bytes are, or will be when a task has been given it; None when they are not of this machine."""
        uri = artifact["uri"]
        if uri in self._remote:
            return self._remote[uri]
        if uri.startswith("file://"):
            return file_path(uri)
        return self._plan.root / uri if uri and "://" not in uri else None

    def add(self, artifact: Artifact, digest: str) -> None:
        """Know the digest of an artifact that was made."""
        self._digests[artifact["uri"]] = digest

    def keep(self, artifact: Artifact, digest: str, stored: str) -> None:
        """Know an artifact of an earlier run: its bytes are in the store until a task wants them."""
        self.add(artifact, digest)
        if stored:
            self._kept[artifact["uri"]] = stored

    async def imported(self, artifact: Artifact, target: Path) -> None:
        """Know an artifact from elsewhere; what is not on this machine comes to `target` when a task wants it.

        Raises:
            BadInput: nothing is at its URI, or the URI is of no store.
        """
        uri = artifact["uri"]
        if not uri:
            raise BadInput("An importer has an empty URI", fix="Give the URI of an artifact")
        path = self.path(artifact)
        if path is None and reachable(uri).partition("://")[0] not in SCHEMES:
            raise BadInput(
                f"An importer has the URI {uri}, and the engine `local` cannot read such URIs",
                fix=f"Use one of {', '.join(f'{scheme}://' for scheme in SCHEMES)} or a path",
            )
        if path is None:
            self._digests[uri] = await in_thread(remote_digest, uri, self._plan.store_options)
            self._remote[uri] = target
        elif path.exists():
            self._digests[uri] = await in_thread(tree_digest, path)
        elif not self._earlier(path):
            raise BadInput(f"Nothing is at {uri}", fix="Check the URI that the importer is given")

    async def bring(self, inputs: Values) -> None:
        """Bring the bytes of a task's input artifacts."""
        for artifact in (item for items in inputs.artifacts.values() for item in items):
            await self._bring(artifact["uri"])

    async def bring_under(self, folder: Path) -> None:
        """Bring the bytes of all that one task of an earlier run made."""
        for uri in [uri for uri in self._kept if Path(uri).is_relative_to(folder)]:
            await self._bring(uri)

    def digest(self, artifact: Artifact) -> str:
        """What tells an artifact's content: the digest of its bytes, or its URI when they are out of reach."""
        uri = artifact["uri"]
        path = self.path(artifact)
        if uri not in self._digests:
            self._digests[uri] = tree_digest(path) if path and path.exists() else ""
        return self._digests[uri] or str(uri)

    def message(self, artifact: Artifact) -> Artifact:
        """An artifact as KFP's ExecutorInput has it; `custom_path` is where its bytes are, if its URI does not say."""
        path = self.path(artifact)
        return {**artifact, "custom_path": str(path)} if path and str(path) != artifact["uri"] else artifact

    async def _bring(self, uri: str) -> None:
        if uri not in self._coming:
            self._coming[uri] = asyncio.ensure_future(self._fetch(uri))
        await self._coming[uri]

    async def _fetch(self, uri: str) -> None:
        if stored := self._kept.get(uri):
            await in_thread(self._tell, {"event": "fetch", "stored": stored, "target": uri})
        elif target := self._remote.get(uri):
            await in_thread(fetch_artifact, uri, target, self._plan.store_options)

    def _earlier(self, path: Path) -> bool:
        return any(Path(uri) == path or Path(uri) in path.parents for uri in self._kept)


def type_of(declared: Mapping[str, Any]) -> dict[str, str]:
    """The type of a declared artifact, as a RuntimeArtifact has it."""
    kind = declared.get("artifactType", declared.get("typeSchema", {}))
    return {"schemaTitle": kind.get("schemaTitle", ""), "schemaVersion": kind.get("schemaVersion", "")}


def settle(artifact: Artifact, custom: str) -> None:
    """Copy what a component put at a path of its own (`set_path`) to where the artifact is looked for."""
    source, target = Path(custom), Path(artifact["uri"])
    if not source.exists() or source == target or "://" in artifact["uri"]:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
