"""How far views are: rows, rows per second, and how long it may still take."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..console import Console
from ..text import duration

EVERY = 10.0
"""Seconds between two lines in a log; a terminal's last line is always current."""


class MaterializeProgress:
    """Shows how far the views are that are being written.

    Args:
        console: where it is shown.
        clock: seconds; for tests.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._began: dict[str, tuple[float, int]] = {}
        self._said = clock()

    def show(self, view: str, rows: int, total: int) -> None:
        """A view has `rows` of `total` rows written."""
        now = self._clock()
        began, before = self._began.setdefault(view, (now, rows))
        text = f"{view}: {rows:,} of {total:,} rows"
        if now > began and rows > before:
            rate = (rows - before) / (now - began)
            text += f", {rate:,.0f} rows/s, {duration((total - rows) / rate)} to go"
        self._console.status(text)
        if now - self._said >= EVERY:
            self._said = now
            self._console.say(text)
