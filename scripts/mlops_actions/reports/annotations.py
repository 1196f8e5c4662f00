"""What of a report belongs to a place in the repository, for the check of its commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..records import Record
from ..text import number
from ..untrusted import visible_lines

MOST = 1000
"""How many a report has: more help nobody."""


@dataclass(frozen=True)
class Annotation:
    """One sentence at a line of a file of the repository."""

    file: str
    line: int
    level: Literal["failure", "warning"]
    title: str
    message: str


def annotate(records: Sequence[Record], config: str) -> list[Annotation]:
    """What failed and what could not be told, at its place; what has none, at the configuration file."""
    found = [one for record in records for one in _of(record, config)]
    return sorted(found, key=lambda one: one.level)[:MOST]


def _of(record: Record, config: str) -> Iterator[Annotation]:
    def made(title: str, *lines: str, place: object = "", warning: bool = False) -> Annotation:
        file, line = _place(str(place or ""), config)
        text = "\n".join(visible_lines("\n".join(filter(None, lines))))
        return Annotation(file, line, "warning" if warning else "failure", visible_lines(title)[0], text)

    if record.problem:
        problem = record.problem
        yield made(problem.what, problem.why, problem.fix, place=problem.place)
    for gate in _listed(record.details.get("gates")):
        unsure = gate.get("verdict") == "cannot tell"
        if unsure or gate.get("passed") is False:
            value = "missing" if gate.get("value") is None else number(gate.get("value"))
            said = f"{gate.get('metric')} is {value}, must be {gate.get('limit')}"
            yield made(
                f"{record.action}: {said}", said, str(gate.get("note") or ""), warning=gate.get("passed") is True
            )
    if record.action == "validate-data":
        for check in _listed(record.details.get("checks")):
            if check.get("failed"):
                said = f"{check.get('column') or 'table'} {check.get('check')}: {number(check.get('failed'))} failed"
                yield made(said, said, str(check.get("why") or ""), place=check.get("place"))


def _place(text: str, config: str) -> tuple[str, int]:
    """A place `file:line:column` as file and line; an absolute one, or none, is the configuration file."""
    found = re.fullmatch(r"(.*?)(?::(\d+))?(?::\d+)?", text)
    file = found[1] if found else ""
    if not file or file.startswith("/") or ".." in file.split("/") or "://" in file:
        return config, 1
    return file.removeprefix("./"), int((found and found[2]) or 1)


def _listed(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
