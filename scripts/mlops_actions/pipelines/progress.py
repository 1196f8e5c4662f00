"""How a run is told on a console: each task once when it begins and once when it ends, its log as it appears."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from ..console import Console
from ..text import duration
from .engine import RunProgress, TaskResult

_SIGNS = {"succeeded": "✓", "failed": "✗"}
_NAMED = 4  # tasks at work that are named in the one line of what goes on


class ConsoleProgress(RunProgress):
    """Progress of a run.

    Args:
        console: where it is told.
        streaming: print each line of the tasks' logs, as a runner's log should have it; else only the line that goes
            on now is shown.
    """

    def __init__(self, console: Console, *, streaming: bool) -> None:
        self._console, self._streaming = console, streaming

    def started(self, task: str) -> None:
        """A task has begun."""
        if self._streaming:
            self._console.say(f"{task} started")
        else:
            self._console.status(f"{task} …")

    def ended(self, result: TaskResult) -> None:
        """A task has ended."""
        if result.state in ("reused", "skipped"):
            self._console.say(f"{result.task} ({result.state})")
        else:
            tries = f" ({result.attempts} attempts)" if result.attempts > 1 else ""
            self._console.say(f"{result.task} {_SIGNS[result.state]} {duration(result.seconds)}{tries}")

    def logged(self, task: str, line: str) -> None:
        """A task has printed a line."""
        if self._streaming:
            self._console.say(f"{task} | {line}")
        else:
            self._console.debug(f"{task} | {line}")
            self._console.status(f"{task} | {line}")

    def note(self, text: str) -> None:
        """Something about the run as a whole."""
        self._console.say(text)

    def warning(self, text: str) -> None:
        """Something about the run that somebody should look at."""
        self._console.warning(text)

    def waiting(self, tasks: Mapping[str, float]) -> None:
        """These tasks go on, for so many seconds each; the first few by name."""
        shown = [f"{task} … {duration(seconds)}" for task, seconds in islice(tasks.items(), _NAMED)]
        more = [f"{len(tasks) - _NAMED} more"] if len(tasks) > _NAMED else []
        self._console.status(", ".join(shown + more))
