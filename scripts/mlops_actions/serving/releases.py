"""What is served of a version: its files, its environment, the consumer's code, the golden rows that it must answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..environments import Environment, made_before
from ..errors import RemoteFailed
from ..evaluation.golden_rows import Golden, read_golden
from ..inputs import GoldenInputs
from ..models.checks import check_loadable, code_digest, code_of
from ..models.tensors import rows_of
from ..registry.manifest import File, Manifest
from ..registry.registry import Registry
from ..stores.store import fetch
from ..workspace import Workspace
from .engine import Release, folder_of
from .history import Deployment

MOST = 1000
"""Golden rows that a server is asked."""


@dataclass(frozen=True)
class Releases:
    """Makes releases.

    Attributes:
        workspace: where files are kept meanwhile.
        registry: has the versions.
        inputs: how a model is asked and with which packages, and how far a golden score may be off.
        golden_uri: of golden rows that are asked instead of the version's own; "" for these.
        root: with the consumer's code; None for the consumer's folder.
    """

    workspace: Workspace
    registry: Registry
    inputs: GoldenInputs
    golden_uri: str = ""
    root: Path | None = None

    def make(self, manifest: Manifest, golden: Golden | None, environment: Environment) -> Release:
        """The release of a version.

        Raises:
            BadInput: it is of no kind that can be loaded, and no code of the consumer's loads it.
        """
        root = self.root or self.workspace.root
        model = self.registry.fetch(manifest, self._folder(manifest) / "model")
        return Release(
            name=manifest.name,
            version=manifest.version,
            digest=manifest.digest,
            kind=check_loadable(model, self.inputs.predict, root),
            model=model,
            predict=self.inputs.predict,
            root=root,
            code=code_digest(self.inputs.predict, root),
            example=rows_of(golden.inputs, 0, 1) if golden else [],
            lock=environment.frozen(),
            python=environment.python,
        )

    def as_it_was(self, name: str, earlier: Deployment) -> Releases:
        """What makes a version as it was deployed: asked in that way, by the consumer's code of that time."""
        inputs = self.inputs.model_copy(update={"predict": earlier.predict})
        if not earlier.code:
            return replace(self, inputs=inputs)
        root = folder_of(self.workspace, name) / "code" / earlier.release
        for file in earlier.code:
            self.registry.fetch_file(file, root / file.path)
        return replace(self, inputs=inputs, root=root)

    def keep_code(self, release: Release) -> list[File]:
        """Keep the consumer's code of a release in the store."""
        root = release.root.resolve()
        files = code_of(release.predict, root)
        return [self.registry.put_file(file, file.relative_to(root).as_posix()) for file in files]

    def golden(self, manifest: Manifest) -> Golden | None:
        """The golden rows that a version is asked: those that were given, else its own; None when there are none.

        Raises:
            BadInput: they cannot be read.
        """
        if not self.golden_uri:
            return self.own_golden(manifest)
        uri = self.workspace.uri(self.golden_uri)
        target = self._folder(manifest) / "asked" / uri.rpartition("/")[2]
        return read_golden(fetch(uri, target, self.workspace.store_options), self.inputs.score_column, MOST)

    def own_golden(self, manifest: Manifest) -> Golden | None:
        """The golden rows that were registered with a version."""
        if manifest.golden is None:
            return None
        target = self._folder(manifest) / "golden" / manifest.golden.path
        return read_golden(self.registry.fetch_file(manifest.golden, target), self.inputs.score_column, MOST)

    def environment(self, manifest: Manifest, earlier: Deployment | None = None) -> Environment:
        """The lock `serving` with the consumer's requirements, or with what the model was trained with.

        Args:
            manifest: of the version.
            earlier: a deployment, whose packages are taken if they can still be had.

        Raises:
            RemoteFailed: they cannot be installed.
        """
        if earlier and earlier.packages:
            lock = self.registry.read_blob(earlier.packages).decode()
            found = made_before(earlier.environment, self.workspace.cache)
            if found and found.frozen() == lock:
                return found
            then = self.inputs.model_copy(update={"requirements": "", "python": self.inputs.python or earlier.python})
            try:
                return self.workspace.environment("serving", then, [one for one in lock.splitlines() if "==" in one])
            except RemoteFailed as error:
                self.workspace.console.warning(f"Cannot install the packages that it was served with: {error}")
        if self.inputs.requirements:
            return self.workspace.environment("serving", self.inputs)
        trained = manifest.lineage.environment
        pins = self.registry.read_blob(trained.packages).decode() if trained.packages else ""
        return self.workspace.environment("serving", self.inputs, pinned(trained.requested, pins))

    def _folder(self, manifest: Manifest) -> Path:
        return folder_of(self.workspace, manifest.name) / "versions" / str(manifest.version)


def pinned(requested: Sequence[str], installed: str) -> list[str]:
    """What a component asked to have installed, in the versions that it was given.

    Args:
        requested: as it asked for them.
        installed: the `name==version` lines of its environment; "" when they are not known.
    """
    lines = [line.partition("==") for line in installed.splitlines() if "==" in line]
    versions = {canonicalize_name(name.strip()): version.strip() for name, _, version in lines}
    made = []
    for one in requested:
        try:
            asked = Requirement(one)
        except InvalidRequirement:
            made.append(one)
            continue
        version = versions.get(canonicalize_name(asked.name))
        extras = f"[{','.join(sorted(asked.extras))}]" if asked.extras else ""
        made.append(f"{asked.name}{extras}=={version}" if version else one)
    return made
