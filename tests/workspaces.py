"""A workspace for tests of what needs no runner: a consumer's folder, a store, and a console that remembers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlops_actions.errors import MlopsError, Place
from mlops_actions.stores.store import StoreOptions
from mlops_actions.workspace import Workspace


class Remembering:
    """A console that remembers what it was told, by kind."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.notices: list[str] = []
        self.warnings: list[str] = []
        self.failures: list[MlopsError] = []
        self.masks: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def debug(self, text: str) -> None:
        pass

    def status(self, text: str) -> None:
        pass

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        self.said += [title, *(" ".join(map(str, row)) for row in rows)]

    def notice(self, text: str, place: Place | None = None) -> None:
        self.notices.append(text)

    def warning(self, text: str, place: Place | None = None) -> None:
        self.warnings.append(text)

    def failure(self, error: MlopsError) -> None:
        self.failures.append(error)

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        yield

    def mask(self, value: str) -> None:
        self.masks.append(value)

    def hide(self, text: str) -> str:
        for value in self.masks:
            text = text.replace(value, "***")
        return text

    def finish(self, outputs: Mapping[str, object], summary: str) -> None:
        pass


def workspace(
    root: Path,
    home: Path | None = None,
    *,
    store: str = "",
    options: StoreOptions | None = None,
    environ: Mapping[str, str] | None = None,
) -> Workspace:
    """A workspace in a folder; its state and its store are beside the consumer's files unless they are named."""
    home = home or root
    return Workspace(
        root=root,
        home=home,
        cache=home / "cache",
        environ=os.environ if environ is None else environ,
        console=Remembering(),
        store_url=store or (home / "store").as_uri(),
        store_options=options or StoreOptions(),
    )
