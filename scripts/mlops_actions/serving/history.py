"""What was deployed to a place, and the rollout that is under way: one object in the store for a model and a place.

`models/<name>/deployments/<place>.json` is changed by compare-and-swap, as an alias is. Beside it is the lease of the
place, which a rollout holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import Field

from ..inputs import MODEL_NAME, PATH_PART
from ..registry.manifest import DIGEST, File, Stored
from ..registry.registry import check_name, read_stored
from ..stores.store import Store, to_json
from ..stores.swap import swap
from ..waiting import Clock

KEPT = 100
"""Deployments that a history has at most."""
GOOD = 10
"""Of these, the last ones that went live are kept however many have failed since: they can be gone back to."""

Kind = Literal["deploy", "rollback", "drill", "stop"]
Ending = Literal["", "live", "handed over", "gone back", "failed", "cancelled", "interrupted"]
"""How a deployment ended; "" while it is under way, `handed over` to a tool that lets it serve, `gone back` from in a
drill whose wrong answers were seen, `interrupted` if it was killed and another one came after it."""


class Step(Stored):
    """One step of a rollout: its name, whether it passed, what was found in words and in numbers, and its seconds."""

    name: str
    passed: bool
    found: str = ""
    measured: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0


class Deployment(Stored):
    """One attempt to let a release serve.

    Attributes:
        kind: what it was for.
        version, release, digest: that was to serve; see `serving.engine.Release`.
        predict, code: how it is asked, and the files of the consumer's code for that.
        environment: its name, by which a machine that made it finds it.
        packages: digest of the blob with its `name==version` lines.
        python: the environment's Python, such as `3.12`.
        previous: the version that served before.
        at, by, run, url, commit, reason: when it began, who did it, in which run and from which commit, and why.
        steps: what was done, in order, with what was measured.
        ended, outcome: how it ended, and in words.
        seconds: it took.
        alias, alias_before: the alias that it moved, "" for none, and the version that this named before.
    """

    kind: Kind = "deploy"
    version: int
    release: str = ""
    digest: str = ""
    predict: str = ""
    code: list[File] = Field(default_factory=list)
    environment: str = ""
    packages: str = Field(default="", pattern=f"{DIGEST}|^$")
    python: str = ""
    previous: int | None = None
    at: str = ""
    by: str = ""
    run: str = ""
    url: str = ""
    commit: str = ""
    reason: str = ""
    steps: list[Step] = Field(default_factory=list)
    ended: Ending = ""
    outcome: str = ""
    seconds: float = 0.0
    alias: str = ""
    alias_before: int | None = None

    @property
    def state(self) -> str:
        """How it ended, or how it stands, as people are told."""
        return self.ended or ("stopped" if self.kind == "stop" else "under way")


class Deployments(Stored):
    """What was deployed to a place.

    Attributes:
        name: the model.
        place: as the engine names it.
        live: what serves; None when nothing does.
        under_way: the rollout that has begun and not ended; one that was killed stays here until the next one begins.
        history: what has ended, the last one first.
    """

    schema_version: Literal[1] = 1
    name: str
    place: str
    live: Deployment | None = None
    under_way: Deployment | None = None
    history: list[Deployment] = Field(default_factory=list)

    def good_before(self) -> Deployment | None:
        """The last deployment that went live with another release than the one that serves.

        One that was gone back from is not good, unless it was deployed again since.
        """
        good = [one for one in self.history if one.ended == "live"]
        bad = {self.live.release} if self.live else set()
        for newer, one in zip([None, *good], good):
            if newer and newer.kind == "rollback":
                bad.add(one.release)
            if one.release not in bad:
                return one
        return None

    def good_of(self, version: int) -> Deployment | None:
        """The last deployment of a version that went live."""
        return next((one for one in self.history if one.ended == "live" and one.version == version), None)


class History:
    """The deployments of a model to a place, in the store.

    Args:
        store: of the registry.
        name: the model.
        place: as the engine names it.
        clock: for the back-off when others write at the same time.
    """

    def __init__(self, store: Store, name: str, place: str, clock: Clock | None = None) -> None:
        check_name("a model", name, MODEL_NAME)
        check_name("a place", place, PATH_PART)
        self._store, self._name, self._place, self._clock = store, name, place, clock
        self.path = f"{folder(name)}{place}.json"

    @property
    def lease(self) -> str:
        """Path of the lease of the place."""
        return f"{folder(self._name)}{self._place}.lease"

    def read(self) -> Deployments:
        """What is known of the place; nothing, if nothing was deployed there."""
        try:
            return self._parsed(self._store.get(self.path))
        except FileNotFoundError:
            return self._parsed(None)

    def begin(self, deployment: Deployment) -> None:
        """A rollout begins, or goes on."""
        self._change(lambda _: {"under_way": deployment})

    def step(self, step: Step) -> None:
        """A step of the rollout that is under way has ended."""

        def change(now: Deployments) -> dict[str, Any]:
            at = now.under_way
            return {"under_way": at.model_copy(update={"steps": [*at.steps, step]})} if at else {}

        self._change(change)

    def end(self, ended: Ending, outcome: str, seconds: float, **values: Any) -> None:
        """The rollout that is under way has ended; `values`: more of its fields."""

        def change(now: Deployments) -> dict[str, Any]:
            if now.under_way is None:
                return {}
            told = {"ended": ended, "outcome": outcome, "seconds": round(seconds, 1), **values}
            done = now.under_way.model_copy(update=told)
            live = {"live": done} if ended == "live" else {}
            return {"under_way": None, "history": _bounded([done, *now.history]), **live}

        self._change(change)

    def note(self, release: str, **values: Any) -> None:
        """Add to the deployment that made a release live, which is the last one."""

        def change(now: Deployments) -> dict[str, Any]:
            if not now.live or now.live.release != release:
                return {}
            live = now.live.model_copy(update=values)
            return {"live": live, "history": [live if one == now.live else one for one in now.history]}

        self._change(change)

    def add(self, deployment: Deployment) -> None:
        """One that ended before its rollout began: what serves, and a rollout that was killed, stay."""
        self._change(lambda now: {"history": _bounded([deployment, *now.history])})

    def stopped(self, deployment: Deployment) -> None:
        """Nothing serves any more; `deployment`: who stopped it, and what served."""

        def change(now: Deployments) -> dict[str, Any]:
            return {"live": None, "under_way": None, "history": _bounded([deployment, *now.history])}

        self._change(change)

    def _change(self, change: Callable[[Deployments], dict[str, Any]]) -> None:
        def changed(data: bytes | None) -> bytes | None:
            now = self._parsed(data)
            made = now.model_copy(update=change(now))
            return None if made == now else to_json(made.model_dump(mode="json"))

        swap(self._store, self.path, changed, f"the deployments of {self._name!r} to {self._place}", self._clock)

    def _parsed(self, data: bytes | None) -> Deployments:
        if data is None:
            return Deployments(name=self._name, place=self._place)
        return read_stored(self._store, Deployments, data, self.path)


def places(store: Store, name: str) -> list[Deployments]:
    """What is known of every place that a model was deployed to."""
    found = [entry.path for entry in store.list(folder(name)) if entry.path.endswith(".json")]
    return [read_stored(store, Deployments, store.get(path), path) for path in found]


def folder(name: str) -> str:
    """Where a model's deployments are in the store."""
    check_name("a model", name, MODEL_NAME)
    return f"models/{name}/deployments/"


def now() -> str:
    """This moment, as it is written here."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _bounded(history: Sequence[Deployment]) -> list[Deployment]:
    """The last ones, and of those that went live some more."""
    good = [i for i, one in enumerate(history) if one.ended == "live"][:GOOD]
    return [one for i, one in enumerate(history) if i < KEPT or i in good]
