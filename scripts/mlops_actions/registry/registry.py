"""Versions and aliases in the store: read, created once, moved by compare-and-swap."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import BadInput, RemoteFailed
from ..inputs import ALIAS_NAME, MODEL_NAME, PATTERNS
from ..misfits import first_misfit
from ..stores.digests import digest_of, file_digest
from ..stores.store import EMPTY, Store, blob_path, to_json, unfit_name
from ..stores.swap import swap
from ..suggest import did_you_mean
from ..untrusted import visible
from ..waiting import Clock
from .manifest import HISTORY, Alias, Evidence, File, Manifest, Move, newest

_M = TypeVar("_M", bound=BaseModel)
ATTEMPTS = 20
"""Numbers that are tried for a new version when others register at the same time."""

_AGAIN = "register the same model again, which puts it back"


class Registry:
    """The models in a store. The package's docstring has the layout."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.store, self._clock = store, clock or Clock()

    def versions(self, name: str) -> list[int]:
        """The numbers of a model's versions, in order."""
        folder = f"models/{name}/versions/"
        names = [entry.path[len(folder) :] for entry in self.store.list(folder)]
        numbers = (number_of(one.removesuffix(".json")) for one in names if one.endswith(".json"))
        return sorted(number for number in numbers if number is not None)

    def known(self, name: str) -> list[int]:
        """The numbers of the versions of a model that there is, in order.

        Raises:
            BadInput: there is none of that name.
        """
        check_name("a model", name, MODEL_NAME)
        if found := self.versions(name):
            return found
        others = sorted({folder.split("/")[-2] for folder in self.store.folders("models/")} - {name})
        raise BadInput(
            f"Unknown model {name!r}",
            why=f"The registry is in {self.store.url}",
            fix=did_you_mean(name, others, "It has {}") or "Register it with register-model, or correct `store`",
        )

    def manifest(self, name: str, version: int) -> Manifest:
        """A version's manifest.

        Raises:
            BadInput: there is no such version.
            RemoteFailed: what is in its place is not its manifest.
        """
        try:
            data = self.store.get(manifest_path(name, version))
        except FileNotFoundError:
            known = self.known(name)
            raise BadInput(
                f"The model {name!r} has no version {version}",
                why=f"Its versions are {listed(known)}",
                fix="Correct `version`",
            ) from None
        found = read_stored(self.store, Manifest, data, manifest_path(name, version))
        if (found.name, found.version) != (name, version):
            raise RemoteFailed(
                f"{self.store.uri(manifest_path(name, version))} is not what the registry writes",
                why=f"It is the manifest of {visible(found.name, 80)}, version {found.version}",
                fix="Find out who wrote it: a version never changes",
            )
        return found

    def resolve(self, name: str, wanted: str) -> Manifest:
        """The manifest of a version by its number or by an alias.

        Raises:
            BadInput: there is neither.
        """
        if (number := number_of(wanted)) is not None:
            return self.manifest(name, number)
        alias = self.alias(name, wanted)
        if alias is None:
            known = self.known(name)
            raise BadInput(
                f"The model {name!r} has no alias {wanted!r}",
                why=f"Its versions are {listed(known)}",
                fix="Give it to a version with promote-model, or name a version",
            )
        return self.manifest(name, alias.version)

    def register(self, make: Callable[[int], Manifest]) -> tuple[Manifest, bool]:
        """Create the next version, unless there is one with the same identity.

        Two processes that register at the same time try to create the same number; the one that comes second reads
        what the first one wrote, and takes it if it is the same, or tries the next number.

        Args:
            make: makes the manifest for a number. What it names is in the store already.

        Returns: the version's manifest, and whether it was created now.
        """
        draft = make(1)
        known = self.versions(draft.name)
        for number in reversed(known):
            found = self.manifest(draft.name, number)
            if found.identity == draft.identity:
                return found, False
        first = (known or [0])[-1] + 1
        for number in range(first, first + ATTEMPTS):
            manifest = make(number)
            data = to_json(manifest.model_dump(mode="json"))
            if self.store.create(manifest_path(manifest.name, number), data):
                self._check_kept(manifest_path(manifest.name, number), data)
                return manifest, True
            found = self.manifest(manifest.name, number)
            if found.identity == manifest.identity:
                return found, False
        raise RemoteFailed(f"{ATTEMPTS} others registered versions of {draft.name!r} at the same time", fix="Try again")

    def _check_kept(self, path: str, data: bytes) -> None:
        """Read back what was written: a proxy or a full disk may say yes and keep nothing.

        Raises:
            RemoteFailed: it is not there.
        """
        try:
            kept = self.store.get(path)
        except FileNotFoundError:
            kept = b""
        if kept != data:
            raise RemoteFailed(
                f"{self.store.uri(path)} was written, and is not there",
                why="The store accepted it and did not keep it",
                fix="Check the store and what is between it and this machine, then run this again",
            )

    def evidence(self, manifest: Manifest) -> list[Evidence]:
        """The last check of each action and variant: those of the manifest, and those that were added later."""
        entries = list(self.store.list(f"{manifest_path(manifest.name, manifest.version)[:-5]}/evidence/"))
        added = [read_stored(self.store, Evidence, self.store.get(entry.path), entry.path) for entry in entries]
        return newest([*manifest.evidence, *added])

    def add_evidence(self, manifest: Manifest, evidence: list[Evidence]) -> int:
        """Keep checks that were made after the version was registered; how many were new."""
        new = [item for item in evidence if item not in manifest.evidence]
        folder = f"{manifest_path(manifest.name, manifest.version)[:-5]}/evidence"
        data = [to_json(item.model_dump(mode="json")) for item in new]
        return sum(self.store.create(f"{folder}/{hashlib.sha256(one).hexdigest()}.json", one) for one in data)

    def stored(self, manifest: Manifest) -> bytes:
        """A version's manifest as it stands in the store.

        Raises:
            RemoteFailed: it is gone, or another one than it was.
        """
        path = manifest_path(manifest.name, manifest.version)
        try:
            data = self.store.get(path)
        except FileNotFoundError:
            raise RemoteFailed(f"{self.store.uri(path)} is gone") from None
        if read_stored(self.store, Manifest, data, path).model_dump_json() != manifest.model_dump_json():
            raise RemoteFailed(
                f"{self.store.uri(path)} was changed meanwhile", fix="Find out who wrote it: a version never changes"
            )
        return data

    def signatures(self, manifest: Manifest) -> list[bytes]:
        """The signatures of a version, which may be anybody's; see `signing`."""
        entries = self.store.list(f"{manifest_path(manifest.name, manifest.version)[:-5]}/signatures/")
        return [*self.store.get_all(entry.path for entry in entries).values()]

    def add_signature(self, manifest: Manifest, data: bytes) -> None:
        """Keep a signature of a version."""
        folder = f"{manifest_path(manifest.name, manifest.version)[:-5]}/signatures"
        self.store.create(f"{folder}/{hashlib.sha256(data).hexdigest()}.sigstore.json", data)

    def alias(self, name: str, alias: str) -> Alias | None:
        """What an alias names, if there is one."""
        return self._tagged_alias(name, alias)[0]

    def move_alias(self, manifest: Manifest, alias: str, move: Move) -> tuple[Alias, bool]:
        """Let an alias name a version.

        `move.previous` is filled in. When somebody else moves it at the same time, it is tried again from what they
        made of it; see `stores.swap`.

        Returns: the alias as it is now, and whether this changed it.

        Raises:
            RemoteFailed: others moved it all that time.
        """
        path = alias_path(manifest.name, alias)
        then: Alias | None = None

        def moved(data: bytes | None) -> bytes | None:
            nonlocal then
            now = None if data is None else read_stored(self.store, Alias, data, path)
            if now and now.version == manifest.version:
                then = now
                return None
            made = move.model_copy(update={"version": manifest.version, "previous": now.version if now else None})
            then = Alias(
                name=manifest.name,
                alias=alias,
                version=manifest.version,
                digest=manifest.digest,
                history=[made, *(now.history if now else [])][:HISTORY],
            )
            return to_json(then.model_dump(mode="json"))

        changed = swap(self.store, path, moved, f"the alias {alias!r} of {manifest.name!r}", self._clock)
        assert then is not None
        return then, changed

    def drop_alias(self, name: str, alias: str) -> None:
        """Let an alias name nothing."""
        self.store.delete(alias_path(name, alias))

    def fetch(self, manifest: Manifest, folder: Path) -> Path:
        """Download a version's files, and check their digests. Files that are there already are kept.

        Returns: the model as it was registered: its file, or the folder, also one with a single file.
        """
        for file in manifest.files:
            if file.path.rpartition("/")[2] == EMPTY:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            else:
                self.fetch_file(file, folder / file.path)
        first = manifest.files[0]
        return folder / first.path if manifest.digest == first.digest else folder

    def fetch_file(self, file: File, target: Path) -> Path:
        """Download one file of a manifest.

        Raises:
            RemoteFailed: its blob is gone, or does not have the bytes that its name promises.
        """
        if target.is_file() and file_digest(target) == file.digest:
            return target
        try:
            self.store.get_file(blob_path(file.digest), target)
        except FileNotFoundError:
            raise self._damaged(file.digest, "", f"It is {file.path!r} of a version") from None
        if (found := file_digest(target)) != file.digest:
            target.unlink()
            raise self._damaged(file.digest, found, f"It is {file.path!r} of a version")
        return target

    def changed(self, manifest: Manifest) -> str:
        """What the store has no longer as a version's manifest says, as a sentence; "" if all is there as it was.

        Every file of the version is read.
        """
        others = [file for file in (manifest.predictions, manifest.golden, manifest.card) if file]
        for file in (*manifest.files, *others):
            try:
                found = self.store.digest(blob_path(file.digest))
            except FileNotFoundError:
                found = "none"
            if found != file.digest:
                what = f"{visible(file.path, 200)} was changed in the store"
                return f"{what}: expected {file.digest}, found {found}; {_AGAIN}"
        return ""

    def read_blob(self, digest: str) -> bytes:
        """The bytes that a digest names.

        Raises:
            RemoteFailed: they are gone, or others.
        """
        try:
            data = self.store.get(blob_path(digest))
        except FileNotFoundError:
            raise self._damaged(digest) from None
        if (found := digest_of([data])) != digest:
            raise self._damaged(digest, found)
        return data

    def _damaged(self, digest: str, found: str = "", of: str = "") -> RemoteFailed:
        """An error for a blob that is gone, or has the digest `found`."""
        uri = self.store.uri(blob_path(digest))
        what = f"{uri} does not have the bytes that its name promises: found {found}" if found else f"{uri} is gone"
        return RemoteFailed(what, why=of, fix=f"The store was changed or has damaged it: {_AGAIN}")

    def put_file(self, source: Path, path: str) -> File:
        """Keep a file's bytes as a blob. `path` is the name that the manifest gives it.

        Raises:
            BadInput: no file of its name can be kept.
        """
        if why := unfit_name(source.name):
            raise BadInput(f"{source.name!r} cannot be kept: {why}", fix="Give the file another name")
        return File(path=path, digest=self.store.put_blob(source), size=source.stat().st_size)

    def put_bytes(self, data: bytes, path: str) -> File:
        """Keep bytes as a blob. `path` is the name that the manifest gives them."""
        return File(path=path, digest=self.store.put_blob(data), size=len(data))

    def _tagged_alias(self, name: str, alias: str) -> tuple[Alias | None, str]:
        path = alias_path(name, alias)
        try:
            data, tag = self.store.get_tagged(path)
        except FileNotFoundError:
            return None, ""
        return read_stored(self.store, Alias, data, path), tag


def read_stored(store: Store, model: type[_M], data: bytes, path: str) -> _M:
    """An object that the registry keeps.

    Raises:
        RemoteFailed: what is in its place is something else.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        damaged = not error.errors()[0]["loc"]
        raise RemoteFailed(
            f"{store.uri(path)} is not what the registry writes",
            why=first_misfit(error),
            fix="Put it back from a backup of the store" if damaged else "Update mlops-actions if a newer one wrote it",
        ) from None


def number_of(version: str) -> int | None:
    """The number that a version is named by, also as `02`; None when it is an alias."""
    return int(version) if re.fullmatch("[0-9]{1,9}", version) else None


def manifest_path(name: str, version: int) -> str:
    """Where a version's manifest is."""
    check_name("a model", name, MODEL_NAME)
    return f"models/{name}/versions/{version}.json"


def alias_path(name: str, alias: str) -> str:
    """Where an alias is.

    Raises:
        BadInput: it, or the model's name, is not a name.
    """
    check_name("a model", name, MODEL_NAME)
    check_name("an alias", alias, ALIAS_NAME)
    return f"models/{name}/aliases/{alias}.json"


def check_name(what: str, name: str, pattern: str) -> None:
    """Refuse what cannot be a part of a path in the store.

    Args:
        what: it is, with its article.
        name: it.
        pattern: one of `inputs.PATTERNS`.

    Raises:
        BadInput: it cannot.
    """
    if not name or not re.fullmatch(pattern, name):
        raise BadInput(f"{visible(name, 80)!r} cannot be the name of {what}", fix=f"It must be {PATTERNS[pattern]}")


def listed(versions: Sequence[int]) -> str:
    """The last of some versions, in order."""
    shown = [str(version) for version in versions[-5:]]
    return ("…, " if len(versions) > 5 else "") + ", ".join(shown)
