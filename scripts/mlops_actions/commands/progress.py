"""How far the parts of a chain are, where it is looked at: in a terminal, in a log, in the log of a job."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any, Protocol

import click

from ..runtime.together import Part
from ..text import duration
from ..untrusted import log_command, log_line, visible

_GLYPHS = {"waiting": "·", "running": "▸", "done": "✓", "failed": "✗", "left": "–", "stale": "▸"}
_STYLES = {"waiting": "dim", "running": "bold", "done": "green", "failed": "bold red", "left": "dim", "stale": "bold"}
_GAP, _LEAST = 2, 12  # columns between two cells, and those that a cell of words must have to say anything
LOG_LINES = 15
"""Lines of the log of a part that failed, where it is told."""


def word(part: Part) -> str:
    """How a part ended."""
    if part.state == "done":
        return "reused" if part.record.get("reused") else "unchecked" if _verdict(part) == "unchecked" else "done"
    if part.state == "failed":
        cancelled = _verdict(part) == "cancelled" or part.code in (130, 143)
        return "cancelled" if cancelled else "did not pass" if _verdict(part) == "rejected" else "failed"
    return {"left": "left out", "stale": "would run", "waiting": "waiting", "running": "running"}[part.state]


def ended(part: Part) -> str:
    """How a part ended, and how long it took if it ran."""
    return word(part) + (f" in {duration(part.seconds)}" if part.state in ("done", "failed") else "")


def _verdict(part: Part) -> str:
    return str(part.record.get("verdict", ""))


def about(part: Part) -> str:
    """What is said of a part beside its name: its last line while it runs, then its result."""
    if part.state == "running":
        return part.log[-1] if part.log else ""
    return part.why or str(part.record.get("reason") or (part.record.get("problem") or {}).get("what") or "")


class View(Protocol):
    """Shows how far the parts are, as a context manager that ends also with a run that is cut off."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> None: ...

    def said(self, part: Part, line: str) -> None:
        """Take a line that a part prints, from the part's thread."""

    def show(self) -> None:
        """Show what is new."""


class Lines:
    """Progress where it is read later: each line as it comes, with the name of its part."""

    def __init__(self, parts: Sequence[Part], *, quiet: bool) -> None:
        self._parts, self._told = () if quiet else parts, set[str]()
        self._quiet = quiet
        self._width = max((len(part.name) for part in parts), default=0)

    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None:
        self.show()

    def said(self, part: Part, line: str) -> None:
        """Show it with the part's name."""
        if not self._quiet:
            click.echo(f"{part.name:<{self._width}} │ {line}", err=True)

    def show(self) -> None:
        """Show what is new."""
        for part in self._parts:
            if part.state not in ("waiting", "running") and part.name not in self._told:
                self._told.add(part.name)
                click.echo(f"{part.name:<{self._width}} {_GLYPHS[part.state]} {ended(part)}", err=True)


class Live:
    """Progress on a terminal: a table of all parts, which changes in place."""

    def __init__(self, parts: Sequence[Part]) -> None:
        from rich.console import Console as Rich
        from rich.live import Live

        self._parts = parts
        self._console = Rich(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self._table)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        self._live.refresh()
        self._live.stop()

    def said(self, part: Part, line: str) -> None:
        """The table shows the last line of a part that runs."""

    def show(self) -> None:
        """Show what is new."""
        self._live.refresh()

    def _table(self) -> Any:
        """A row a part. Where a line has no room for all of it, what is said of a part gives way, and its name last."""
        from rich.table import Table
        from rich.text import Text

        rows = []
        for part in self._parts:
            seconds = time.monotonic() - part.began if part.state == "running" else part.seconds
            state = "" if part.state in ("waiting", "running") else word(part)
            rows.append((part, state, duration(seconds) if seconds else ""))
        names, states, times = (
            max(map(len, column)) for column in zip(*((f"  {part.name}", *rest) for part, *rest in rows))
        )
        states = max(states, len("reused"))  # so that the table moves little
        room = self._console.width - states - times - 3 * _GAP  # for the name, and then for what is said
        names = min(names, room)
        room -= names + _GAP
        table = Table(box=None, padding=(0, _GAP, 0, 0), show_header=False)
        table.add_column(no_wrap=True, width=names)
        table.add_column(no_wrap=True, width=states)
        table.add_column(no_wrap=True, width=times, justify="right")
        for part, state, took in rows:
            said = Text(visible(about(part).replace("\n", " ")), "dim")
            said.truncate(room, overflow="ellipsis")
            table.add_row(
                Text(f"{_GLYPHS[part.state]} {part.name}", _STYLES[part.state]),
                Text(state, "yellow" if state == "unchecked" else "cyan" if state == "reused" else ""),
                took,
                *([said] if room >= _LEAST else []),
            )
        return table


class Groups:
    """Progress in the log of a job: each part is a group that can be opened, and below it stands how it ended.

    The lines of one part are shown as they come. Those of another one that runs at the same time are kept until it is
    its turn, as groups cannot stand in each other. What a part says to the runner stands below its group, where it is
    seen without opening it.
    """

    def __init__(self, parts: Sequence[Part], stream: IO[str] = sys.stdout) -> None:
        self._parts, self._stream, self._lock = parts, stream, threading.Lock()
        self._kept: dict[str, list[str]] = {part.name: [] for part in parts}
        self._below: dict[str, list[str]] = {part.name: [] for part in parts}
        self._told: set[str] = set()
        self._open: Part | None = None

    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            for part in self._waiting():
                self._tell(part)
            if self._open:
                self._write("::endgroup::")

    def said(self, part: Part, line: str) -> None:
        """Show it in the part's group, or keep it for there."""
        with self._lock:
            if line.startswith("::add-mask::"):
                self._write(line)
            elif line.startswith(("::error", "::warning", "::notice")):
                self._below[part.name].append(line)
            elif self._open is part:
                self._print(line)
            else:
                self._kept[part.name].append(line)

    def show(self) -> None:
        """Show what is new."""
        with self._lock:
            for part in self._waiting():
                self._tell(part)
            running = next((part for part in self._parts if part.state == "running"), None)
            if running and not self._open:
                self._begin(running)

    def _waiting(self) -> list[Part]:
        """The parts that have ended and are not told; the one that is shown comes first, then by when they ended."""
        done = [p for p in self._parts if p.state not in ("waiting", "running") and p.name not in self._told]
        return sorted(done, key=lambda part: (part is not self._open, part.state == "left", part.began + part.seconds))

    def _begin(self, part: Part) -> None:
        self._open = part
        self._write(log_command("group", part.name, {}))
        for line in self._kept.pop(part.name, ()):
            self._print(line)

    def _tell(self, part: Part) -> None:
        if self._open and self._open is not part:
            return  # its turn comes
        self._told.add(part.name)
        below = self._below[part.name]
        if part.state != "left":
            if not self._open:
                self._begin(part)
            self._write("::endgroup::")
            self._open = None
        if part.state == "failed" and not any(line.startswith("::error") for line in below):
            last = "\n".join(part.log[-LOG_LINES:])
            below.append(log_command("error", f"{part.name} ended with exit code {part.code}\n\n{last}", {}))
        self._write(log_line(visible(f"{_GLYPHS[part.state]} {part.name}: {ended(part)}")))
        for line in below:
            self._write(line)

    def _print(self, line: str) -> None:
        """A line within the group of its part: a group of its own becomes a heading."""
        if line.startswith("::group::"):
            self._write(log_line(line.removeprefix("::group::")))
        elif line != "::endgroup::":
            self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
