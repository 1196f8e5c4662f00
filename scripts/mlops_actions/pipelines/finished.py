"""Finished tasks in the store: what they made, found again by the hash of all that decided it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..stores.store import Store
from .files import changed


class KeptArtifact(BaseModel):
    """An artifact of a finished task; `stored` is its path in the store, "" if its bytes are elsewhere or it has none.

    `uri` is what the component set, or its path on the machine where it was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: str
    uri: str
    stored: str
    digest: str
    metadata: dict[str, Any] = {}


class KeptTask(BaseModel):
    """A finished task; `files` are the digests of what it read in the consumer's folder, by relative path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    run: str
    seconds: float
    parameters: dict[str, Any] = {}
    artifacts: list[KeptArtifact] = []
    files: dict[str, str] = {}


class FinishedTasks:
    """The finished tasks in a store.

    Args:
        store: where they are.
        root: the consumer's folder.
        reuse: whether they may be taken; they are written in any case.
        say: told why one is not taken.
        scope: beginning of the paths that are written, which are looked at before those of everybody.
    """

    def __init__(
        self, store: Store, root: Path, *, reuse: bool, say: Callable[[str], None] | None = None, scope: str = ""
    ) -> None:
        self._store, self._root, self._reuse, self._say, self._scope = store, root, reuse, say, scope

    def find(self, key: str) -> KeptTask | None:
        """The finished task with this key, if what it read is as it was, and all that it made is still there."""
        if not self._reuse:
            return None
        for path in dict.fromkeys((self._scope + _path(key), _path(key))):
            try:
                kept = KeptTask.model_validate(self._store.get_json(path))
                break
            except (FileNotFoundError, ValidationError, ValueError):
                continue
        else:
            return None
        if name := changed(kept.files, self._root):
            if self._say:
                self._say(f"{kept.task}: {name} has changed since it was read")
            return None
        stored = [artifact.stored for artifact in kept.artifacts if artifact.stored]
        return kept if all(self._there(path) for path in stored) else None

    def keep(self, key: str, task: str, run: str, event: Mapping[str, Any], log: Path) -> KeptTask:
        """Upload what a task made, and its log; then, if it has a key, write it down as finished.

        Artifacts are at `artifacts/<run>/<task>/<name>`, the log beside them as `log.txt`. In what is written down,
        `kept` of the event, the run's folder has been taken out.
        """
        folder = f"{self._scope}artifacts/{run}/{task}"
        portable = event.get("kept", event)
        kept = KeptTask(
            task=task,
            run=run,
            seconds=event["seconds"],
            parameters=portable["parameters"],
            artifacts=[
                self._artifact(item, here, folder, imported=bool(event.get("imported")))
                for item, here in zip(portable["artifacts"], event["artifacts"], strict=True)
            ],
            files=event.get("files", {}),
        )
        if log.is_file():
            self._store.put_log(log, f"{folder}/log.txt")
        if key:
            self._store.put_reusable(self._scope + _path(key), kept.model_dump(mode="json"))
        return kept

    def _artifact(
        self, item: Mapping[str, Any], here: Mapping[str, Any], folder: str, *, imported: bool
    ) -> KeptArtifact:
        path = Path(here["path"]) if here["path"] else None
        stored = ""
        if path and path.exists() and item["digest"] and not imported:
            stored = f"{folder}/{item['name']}"
            self._store.put_file(path, stored)
        return KeptArtifact(
            name=item["name"],
            type=item["type"],
            uri=item["uri"],
            stored=stored,
            digest=item["digest"],
            metadata=item["metadata"],
        )

    def _there(self, path: str) -> bool:
        return self._store.exists(path) or any(True for _ in self._store.list(f"{path}/"))


class Background:
    """Does things one after the other in a thread that does not hold the process back when it is cancelled."""

    def __init__(self) -> None:
        self._todo: queue.Queue[Callable[[], None]] = queue.Queue()
        self._error: BaseException | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def do(self, what: Callable[[], None]) -> None:
        """Queue it. Raises the first error of what was queued before."""
        self._check()
        self._todo.put(what)

    def wait(self) -> None:
        """Until all is done. Raises the first error."""
        done = threading.Event()
        self._todo.put(done.set)
        while not done.wait(0.5):
            self._check()
        self._check()

    def _check(self) -> None:
        if self._error:
            raise self._error

    def _work(self) -> None:
        while True:
            what = self._todo.get()
            try:
                what()
            except BaseException as error:
                self._error = self._error or error


def _path(key: str) -> str:
    return f"work/tasks/{key}.json"
