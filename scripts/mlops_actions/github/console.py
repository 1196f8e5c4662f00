"""What a command says: as workflow commands on a runner, as rich text on a terminal. Nothing else prints.

Workflow commands: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..console import Masks
from ..errors import MlopsError, Place
from ..text import aligned, json_text, many, shortened
from ..untrusted import log_command, log_line, printed_lines, visible, visible_lines

SUMMARY_LIMIT = 1024 * 1024
LOG_LINES = 40
_CUT = "**Cut here:** a step's summary has at most 1 MiB. The step's record, in `runs/` of the store, has all of it."
_WIDE = 200  # columns of a table that no terminal limits


class ActionsConsole:
    """A step's log on a GitHub runner (or act).

    Args:
        stream: the step's standard output.
        output: the file GITHUB_OUTPUT names.
        summary: the file GITHUB_STEP_SUMMARY names.
        debugging: whether RUNNER_DEBUG is on.
    """

    def __init__(self, stream: IO[str], output: Path | None, summary: Path | None, *, debugging: bool = False) -> None:
        self._stream, self._output, self._summary, self._debugging = stream, output, summary, debugging
        self._masks = Masks()

    def say(self, text: str) -> None:
        for line in printed_lines(self._masks.hide(text)):
            self._write(log_line(line))

    def debug(self, text: str) -> None:
        if self._debugging:
            for line in visible_lines(self._masks.hide(text)):
                self._command("debug", line)

    def status(self, text: str) -> None:
        pass

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        cells = [[visible(self._masks.hide(str(cell))) for cell in row] for row in (columns, *rows)]
        rules = ["─" * max(len(row[i]) for row in cells) for i in range(len(columns))]
        self.say("\n".join([*([title] if title else []), *aligned([cells[0], rules, *cells[1:]])]))

    def notice(self, text: str, place: Place | None = None) -> None:
        self._command("notice", self._shown(text), place)

    def warning(self, text: str, place: Place | None = None) -> None:
        self._command("warning", self._shown(text), place)

    def failure(self, error: MlopsError) -> None:
        log = "\n".join(printed_lines(self._masks.hide(error.log))[-LOG_LINES:])
        text = self._shown(str(error)) + (f"\n\nThe last lines of its log:\n{log}" if log else "")
        self._command("error", text, error.place, title=error.title)

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        began = time.monotonic()
        self._command("group", self._shown(title))
        try:
            yield
        finally:
            self._write("::endgroup::")
            self.say(f"{title}: {time.monotonic() - began:.1f} s")

    def mask(self, value: str) -> None:
        for part in self._masks.add(value):
            self._command("add-mask", part)

    def hide(self, text: str) -> str:
        return self._masks.hide(text)

    def finish(self, outputs: Mapping[str, object], summary: str) -> None:
        if self._output:
            text = "".join(_output(name, as_text(value)) for name, value in outputs.items())
            with self._output.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        if self._summary and summary:
            text = shortened(self._masks.hide(summary), SUMMARY_LIMIT - 1024, _CUT, lambda part: len(_bytes(part)))
            with self._summary.open("ab") as file:
                file.write(_bytes(f"{text}\n"))

    def _shown(self, text: str) -> str:
        return "\n".join(visible_lines(self._masks.hide(text)))

    def _command(self, name: str, text: str, place: Place | None = None, title: str = "") -> None:
        properties = {"title": title}
        if place:
            properties |= {"file": place.file, "line": str(place.line or ""), "col": str(place.column or "")}
        self._write(log_command(name, text, properties))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


class TerminalConsole:
    """A person's terminal: progress on standard error; on standard output the outputs, as a table or as JSON.

    Args:
        as_json: write the outputs as JSON.
        debugging: show debug lines.
    """

    def __init__(self, *, as_json: bool = False, debugging: bool = False) -> None:
        from rich.console import Console as Rich

        self._json, self._debugging = as_json, debugging
        self._rich = Rich(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else _WIDE)
        self._masks = Masks()
        self._status = False

    def say(self, text: str) -> None:
        self._line(text)

    def debug(self, text: str) -> None:
        if self._debugging:
            self._line(text, "dim")

    def status(self, text: str) -> None:
        if self._rich.is_terminal:
            width = self._rich.width - 1
            self._rich.file.write("\r\x1b[K" + visible(self._masks.hide(text).replace("\n", " "))[:width])
            self._rich.file.flush()
            self._status = bool(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Column, Table
        from rich.text import Text

        def shown(cell: object) -> Text:
            return Text(visible(self._masks.hide(str(cell))))

        heads = [Column(shown(column)) for column in columns]
        table = Table(*heads, title=shown(title) if title else None, box=SIMPLE_HEAD, title_justify="left")
        for row in rows:
            table.add_row(*map(shown, row))
        self._clear()
        self._rich.print(table)

    def notice(self, text: str, place: Place | None = None) -> None:
        self._sentence(f"{place}: {text}" if place else text, "cyan")

    def warning(self, text: str, place: Place | None = None) -> None:
        self._sentence("warning: " + (f"{place}: {text}" if place else text), "yellow")

    def failure(self, error: MlopsError) -> None:
        if error.log:
            self._line("\n".join(error.log.rstrip().split("\n")[-LOG_LINES:]), "dim")
        text = str(error)
        if error.place:  # whose file a message may begin with, too
            text = f"{error.place}: {text.removeprefix(f'{error.place.file}: ')}"
        title = "" if text.startswith(error.title) else f"{error.title}: "
        self._sentence(f"{title}{text}", "bold red")

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        began = time.monotonic()
        self._line(title, "bold")
        yield
        self._line(f"  {title}: {time.monotonic() - began:.1f} s", "dim")

    def mask(self, value: str) -> None:
        self._masks.add(value)

    def hide(self, text: str) -> str:
        return self._masks.hide(text)

    def finish(self, outputs: Mapping[str, object], summary: str) -> None:
        self._clear()
        if self._json:
            sys.stdout.write(json_text(outputs) + "\n")
            return
        texts = {name: _for_people(value) for name, value in outputs.items() if name != "record"}
        shown = {name: text for name, text in texts.items() if text}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            sys.stdout.write(f"{name.ljust(width)}  {visible(self._masks.hide(value))}\n")

    def _line(self, text: str, style: str = "") -> None:
        """What a program printed, or we say."""
        self._print(printed_lines(self._masks.hide(text)), style)

    def _sentence(self, text: str, style: str) -> None:
        """What we say of something, in which its effects stand as their escapes."""
        self._print(visible_lines(self._masks.hide(text)), style)

    def _print(self, lines: Sequence[str], style: str) -> None:
        self._clear()
        self._rich.print("\n".join(lines), style=style or None, markup=False)

    def _clear(self) -> None:
        if self._status:
            self.status("")


def as_text(value: object) -> str:
    """A JSON value as the text that a step's output is: strings bare, nothing as "", all else as JSON."""
    return value if isinstance(value, str) else "" if value is None else json_text(value, indent=None, sort_keys=True)


def _for_people(value: object) -> str:
    """A JSON value on one line of a terminal: what is long is only counted."""
    if isinstance(value, dict):
        return "  ".join(f"{name}={_for_people(item)}" for name, item in value.items())
    if isinstance(value, list):
        plain = not any(isinstance(item, dict | list) for item in value)
        return ", ".join(map(str, value)) if plain else f"{many(len(value), 'item')} (--json lists them)"
    return f"{value:.6g}" if isinstance(value, float) else as_text(value)


def _output(name: str, value: str) -> str:
    """An entry of GITHUB_OUTPUT. The delimiter is random, so that no value can end it early and set another output."""
    delimiter = f"end-{uuid.uuid4()}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"
