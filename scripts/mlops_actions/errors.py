"""The ways a command can end, each with its exit code and a message that says what to do.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | the work was done and did not pass: a gate, a check, drift (`Rejected`); or the consumer's own code failed
      (`ComponentFailed`) |
| 2 | bad input or configuration (`BadInput`) |
| 3 | a remote system failed or cannot be reached, or this machine could not do it (`RemoteFailed`) |
| 130, 143 | cancelled by SIGINT, SIGTERM (`Cancelled`) |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """A position in a file of the consumer's repository. `line` and `column` count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class MlopsError(Exception):
    """An end of a command that the user is told about in one annotation.

    Args:
        what: what went wrong, naming the thing.
        why: the reason, when it is known and not obvious.
        fix: what to do about it.
        place: where, in the consumer's repository.
        log: the last lines of the failing step's own log, newline separated.
        details: what was found so far, for the report.
    """

    exit_code = 3
    title = "Failed"

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        fix: str = "",
        place: Place | None = None,
        log: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(what)
        self.what, self.why, self.fix, self.place, self.log = what, why, fix, place, log
        self.details = details or {}

    def __str__(self) -> str:
        """What, why and what to do, as one paragraph."""
        return " ".join(_sentence(part) for part in (self.what, self.why, self.fix) if part)


class Rejected(MlopsError):
    """The work was done and did not pass."""

    exit_code = 1
    title = "Rejected"


class ComponentFailed(MlopsError):
    """The consumer's own code failed."""

    exit_code = 1
    title = "Failed"


class BadInput(MlopsError):
    """An input, a file or the configuration cannot be used as it is.

    Attributes:
        parts: the single mistakes of an error that tells several; see `Mistakes`.
    """

    exit_code = 2
    title = "Bad input"
    parts: Sequence[BadInput] = ()


class Mistakes:
    """Collects bad input, so that all of it is told at once and not one mistake a run."""

    def __init__(self) -> None:
        self._found: list[BadInput] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """What is raised inside is kept for `refuse`."""
        try:
            yield
        except BadInput as error:
            self._found += error.parts or [error]

    def add(self, error: BadInput) -> None:
        """Keep one mistake."""
        self._found.append(error)

    def refuse(self) -> None:
        """Raise what was found.

        Raises:
            BadInput: the only mistake; or one error that has them all, a line each with its place.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            found = sorted(self._found, key=lambda part: (part.place and part.place.line) or 0)
            lines = [f"{part.place}: {part}" if part.place else str(part) for part in found]
            place = next((part.place for part in found if part.place), None)
            error = BadInput(f"{len(lines)} mistakes:\n" + "\n".join(lines), place=place)
            error.parts = tuple(found)
            raise error


class RemoteFailed(MlopsError):
    """A system outside this process failed, refused or cannot be reached."""

    exit_code = 3
    title = "Failed"


class Cancelled(MlopsError):
    """A signal asked this process to stop; `signal` is its number (2 or 15)."""

    title = "Cancelled"

    def __init__(self, signal: int, what: str = "Cancelled") -> None:
        super().__init__(what)
        self.exit_code = 128 + signal


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else text + "."
