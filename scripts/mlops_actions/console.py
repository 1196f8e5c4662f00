"""Where a command's words go. Everything that speaks is given a `Console`; `github/` and the terminal implement it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from .errors import MlopsError, Place


class Console(Protocol):
    """Where a command's words go. Text may have many lines; nothing a tool printed is taken for a command."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def debug(self, text: str) -> None:
        """Shown when debugging is asked for (RUNNER_DEBUG=1)."""

    def status(self, text: str) -> None:
        """What goes on now: one line that the next one replaces on a terminal, nothing elsewhere."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A small table."""

    def notice(self, text: str, place: Place | None = None) -> None:
        """Worth a look."""

    def warning(self, text: str, place: Place | None = None) -> None:
        """Probably wrong, not fatal."""

    def failure(self, error: MlopsError) -> None:
        """How the command ended, if it failed: the only error annotation."""

    def group(self, title: str) -> AbstractContextManager[None]:
        """Lines that belong together, with the time that they took."""

    def mask(self, value: str) -> None:
        """Never show this value, from now on."""

    def hide(self, text: str) -> str:
        """The text with the values that `mask` was told replaced by `***`."""

    def finish(self, outputs: Mapping[str, object], summary: str) -> None:
        """The command's outputs (JSON values), and its summary in Markdown."""
