"""A step: one action at work in a run of the chain, which finds what earlier steps gave and what was done before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from .. import RESULTS
from ..console import Console
from ..context import PULL_REQUEST, Context
from ..errors import BadInput
from ..inputs import Inputs, LineageInputs, Outputs
from ..project import Project, repository_of
from ..records import Record, read_record
from ..stores.store import Store
from ..workspace import Workspace
from .record import record_of
from .result import Result

O = TypeVar("O", bound=Outputs)  # noqa: E741


class Key(str):
    """The hash of all that decides a result; `parts` has one of each part by name, to tell later what has changed."""

    parts: Mapping[str, str]

    def __new__(cls, text: str, parts: Mapping[str, str]) -> Key:
        """A key."""
        made = super().__new__(cls, text)
        made.parts = parts
        return made


class DryRun(Exception):
    """Raised instead of doing work: `result` if it was done before, else None and the reason why it would be done."""

    def __init__(self, result: Result[Any] | None, why: str = "") -> None:
        super().__init__(why)
        self.result = result


@dataclass(frozen=True)
class Step:
    """What an action's function is given beside its inputs.

    Attributes:
        action: the action's name.
        console: where it speaks.
        context: the commit, branch and event.
        workspace: the folders and the store.
        run: name of the run of the chain.
        project: the configuration file, for the few that look beyond their own inputs.
        reuse: whether work that was done before may be taken.
        dry: where it is only to be found out if work would be done, the folder that has the records of this.
    """

    action: str
    console: Console
    context: Context
    workspace: Workspace
    run: str
    project: Project
    reuse: bool
    dry: Path | None = None

    def key(self, **parts: object) -> Key:
        """The hash of all that decides a result, our own version among it. Every part must have JSON."""
        whole = {"action": self.action, "tool": RESULTS, **parts}
        return Key(_hash(whole)[:32], {name: _hash(part)[:12] for name, part in whole.items() if name != "action"})

    @property
    def folder(self) -> str:
        """The project's folder in its repository, which is the same wherever the repository is; "." for all of it."""
        return self.workspace.root.relative_to(self._repository).as_posix()

    @property
    def project_name(self) -> str:
        """Tells this project from others with the same store: the repository, and the folder in it."""
        return f"{self.context.repository or self._repository}\n{self.folder}"

    @property
    def _repository(self) -> Path:
        """Its root: git's; on a runner without git the checkout's."""
        root, checkout = self.workspace.root, Path(self.workspace.environ.get("GITHUB_WORKSPACE") or "/").resolve()
        found = repository_of(root)
        inside = checkout != Path("/") and root.is_relative_to(checkout)
        return checkout if inside and not (found / ".git").exists() else found

    def own_key(self, key: str) -> str:
        """The key that an engine does the work with: on a pull request one of its own.

        An engine may find a run, an Experiment or a part of them by its key: nobody else's is to be found by a pull
        request, and its own by nobody else.
        """
        scope = self.workspace.scope
        return hashlib.sha256(f"{scope}{key}".encode()).hexdigest()[:32] if scope and key else key

    def may_change(self, inputs: Inputs) -> bool:
        """Whether this may change what others use: not in a pull request, unless its store is one of its own.

        It is if `environments.pull-request` names it, and no input or variable names another.
        """
        if not self.context.pull:
            return True
        values = (self.project.values.get("environments") or {}).get(PULL_REQUEST) or {}
        own = (values.get(self.action) or {}).get("store") or values.get("store")
        return bool(own) and (inputs.environment, inputs.store) == (PULL_REQUEST, str(own))

    def once(
        self,
        key: str,
        outputs: type[O],
        work: Callable[[], Result[O]],
        *,
        gone: Callable[[Result[O]], str] = lambda _: "",
        of: str = "",
    ) -> Result[O]:
        """The result of the work with a key: found if it was done before, else done now, by one process at a time.

        Args:
            key: hash of all that decides the result; "" when nothing of it may be reused.
            outputs: what the action gives.
            work: does it.
            gone: says why an earlier result does not hold any more; "" when it does.
            of: which of several that a project has this is about, such as a model: what has changed is told of each.
        """
        found, why = self._finished(key, outputs, gone)
        if not found and self.reuse and key:
            why = why or self._changed(key, of)
        if self.dry:
            never = "It has not been done before" if self.reuse else "`reuse` is false"
            raise DryRun(found, why or (never if key else "It is done each time"))
        if why:
            self.console.say(why)
        if found or not key:
            return found or work()
        with self.workspace.lock(f"{self.action} {key}"):
            found, why = self._finished(key, outputs, gone)
            if found:
                self.console.say(why)
                return found
            started = datetime.now(timezone.utc)
            result = work()
            result = replace(result, key=key if result.reusable else "")
            if result.key and result.passed:
                # Now, while the lock is held, for whoever waits for it; `execute` writes the whole record at the end.
                record = record_of(self.action, started, 0.0, result)
                self.keep(record.model_copy(update={"run": self.run, "source": self.context.source()}))
                if isinstance(key, Key):
                    last = {"parts": key.parts, "run": self.run, "started": record.started}
                    self.workspace.store.put_json(self._last(of), last)
            return result

    def _last(self, of: str) -> str:
        """Where the store keeps what the work was done of last."""
        name = hashlib.sha256(f"{self.project_name}\n{of}".encode()).hexdigest()[:16]
        return self.workspace.kept(work_path(self.action, f"last-{name}"))

    def _changed(self, key: str, of: str) -> str:
        """What has changed since the work was done last, as a sentence; "" when nothing can be told."""
        try:
            last = self.workspace.store.get_json(self._last(of))
            before, when = dict(last["parts"]), f"run {last['run']} at {str(last['started'])[:19]}Z"
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            folder = self._last(of).rpartition("/")[0]
            names = [entry.path.rpartition("/")[2] for entry in self.workspace.store.list(f"{folder}/")]
            noted = any(name.startswith("last-") for name in names)  # of another project or model
            old = names and not noted and isinstance(key, Key)
            return "An earlier release did it last, whose results are not reused" if old else ""
        now = dict(key.parts) if isinstance(key, Key) else {}
        changed = [_PARTS.get(name, name) for name in now if before.get(name) != now[name]]
        return f"Changed since {when}: {', '.join(changed)}" if changed else ""

    def keep(self, record: Record) -> None:
        """Keep the record of finished work under its key, for whoever asks for the same work."""
        path = self.workspace.kept(work_path(self.action, record.key))
        if not self.workspace.store.put_reusable(path, record.model_dump(mode="json")):
            self.console.debug(f"{record.action} gave a secret value, so its result will not be reused")

    def records(self) -> list[Record]:
        """The records of this run of the chain, in the order they were started; see `read_record`."""
        found = []
        for store in self._stores():
            for entry in store.list(self.workspace.kept(f"runs/{self.run}/")):
                with suppress(FileNotFoundError):  # another process has removed it
                    if entry.path.endswith(".json"):
                        found.append(read_record(entry.path, store.get(entry.path), entry.modified.isoformat()))
        return sorted(found, key=lambda record: record.started)

    def keep_in_run(self, record: Record) -> None:
        """Keep a record with those of its run."""
        variant = record.details.get("variant")
        name = f"{record.action}@{variant}" if variant else record.action
        path = self.workspace.kept(f"runs/{record.run}/{name}.json")
        self._stores()[-1].put_json(path, record.model_dump(mode="json"))

    def _stores(self) -> list[Store]:
        """The stores that have the run's records; the last one takes more. A dry run leaves nothing in the first."""
        return [self.workspace.store, *([Store(self.dry.as_uri())] if self.dry else [])]

    def previous(self, action: str, **subject: str) -> Record | None:
        """The record of an action earlier in this run of the chain, if it speaks of this subject."""
        found = [record for record in self.records() if record.action == action]
        return next((r for r in reversed(found) if subject.items() <= r.subject.items()), None)

    def output_of(self, action: str, output: str) -> Any:
        """What an earlier action of this run of the chain gave as an output; "" when there is none."""
        record = self.previous(action)
        return (record.outputs.get(output) if record else None) or ""

    def lacks(self, what: str, action: str, instead: str) -> BadInput:
        """What a step says that needs what an earlier action makes, and this run has none.

        Args:
            what: what is missing and what for, such as `model to register`.
            action: the one that makes it.
            instead: the inputs that could name it.
        """
        fix = f"Give {instead}"
        if not self.previous(action):
            fix = f"Run {action} before it, as `mlops run --from {action}` does, or give {instead}"
        return BadInput(f"No {what}: {action} gave none in this run", fix=fix)

    def lineage(self, inputs: LineageInputs) -> dict[str, str]:
        """The data's fingerprint and the features' digest by their inputs: given, else found in this run, else "".

        A fingerprint that was found is of no use when the data has changed since.
        """
        return {
            "data-fingerprint": inputs.data_fingerprint or self._fingerprint(),
            "features-digest": inputs.features_digest or self.output_of("materialize-features", "features-digest"),
        }

    def _fingerprint(self) -> str:
        """What validate-data said of the data in this run, if the data still is what it looked at."""
        record = self.previous("validate-data")
        if record is None or not record.outputs.get("fingerprint"):
            return ""
        if not holds(record, self.workspace):
            self.console.warning(
                "The data has changed since validate-data looked at it: the lineage will not name it."
                " Run validate-data again"
            )
            return ""
        return str(record.outputs["fingerprint"])

    def built_image(self) -> str:
        """The image that build-image pushed in this run of the chain, with its digest; "" when there is none."""
        reference = str(self.output_of("build-image", "image-ref"))
        return reference if "@" in reference else ""

    def _finished(self, key: str, outputs: type[O], gone: Callable[[Result[O]], str]) -> tuple[Result[O] | None, str]:
        """The result of the same work, if it was done before, may be taken, and what it made is still there.

        With it a sentence about it or, when there is none, about why there is none; "" when there is nothing to say.
        """
        if not key or not self.reuse:
            return None, ""
        store = self.workspace.store
        shared = work_path(self.action, key)
        for path in dict.fromkeys((self.workspace.kept(shared), shared)):
            try:
                record = Record.model_validate(store.get_json(path))
                made = outputs.model_validate(record.outputs)
                break
            except (FileNotFoundError, ValidationError, ValueError):
                continue
        else:
            return None, ""
        origin = f"{f'run {record.run} at ' if record.run else ''}{record.started[:19]}Z"
        result = Result(made, record.details, True, record.reason, record.subject, key, reused=True, origin=origin)
        prefix = store.url + "/"
        uris = [value for value in record.outputs.values() if isinstance(value, str) and value.startswith(prefix)]
        missing = [f"{uri} is gone" for uri in uris if not self._exists(uri[len(prefix) :])]
        if why := missing[0] if missing else gone(result):
            return None, f"Done before, but {why}"
        return result, f"Reused: the same work was done in {origin}"

    def _exists(self, path: str) -> bool:
        store = self.workspace.store
        return store.exists(path) or any(True for _ in store.list(path + "/"))


def holds(record: Record, workspace: Workspace) -> bool:
    """Whether what a record speaks of is as it was: the data of validate-data; of others nothing can be told."""
    from ..data.sources import state

    known, patterns = record.details.get("state"), record.inputs.get("data")
    if record.action != "validate-data" or not known or not patterns:
        return True
    try:
        return bool(state(workspace, patterns) == known)
    except (BadInput, OSError):
        return False


_PARTS = {"asked": "inputs", "tool": "the version of mlops-actions"}
"""Parts of keys whose names say little to a user."""


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def work_path(action: str, key: str) -> str:
    """Where the store keeps the record of finished work."""
    return f"work/{action}/{key}.json"
