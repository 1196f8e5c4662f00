"""One record as Markdown, by the template of its action. Summaries and reports are made of the same sections.

A record holds what tasks printed and returned, and names of a pull request. So a template shows every value as
untrusted text unless a filter says what it is: `cell`, `code`, `block`, `link` …
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, TemplateError
from markupsafe import Markup

from ..text import cut, duration, many, number
from ..untrusted import anchor, block, cell, code, escaped, html, label, link, prose, sentence

if TYPE_CHECKING:
    from ..records import Record

_TEMPLATES = Path(__file__).parent / "templates"
_SIGNS = {
    "passed": "✅",
    "unchecked": "⚪",
    "rejected": "❌",
    "bad-input": "⚠️",
    "failed": "⚠️",
    "cancelled": "⏹️",
    "skipped": "➖",
}
_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_T = TypeVar("_T")


def fitting(made: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
    """What is made of records; something else when one of them has another shape than it should.

    A record may come from another release, or from a pull request.
    """
    try:
        return made()
    except _FAULTS:
        return otherwise()


def section(record: Record, rows: int = 1000) -> str:
    """Markdown for one record: a heading with its verdict, then what its action has to show.

    A table has at most so many rows, those that matter first; a line says how many more there are.

    Of a record that holds something else than its template shows there is only the heading.
    """
    own = f"{record.action}.md.j2"
    known = re.fullmatch(r"[a-z-]+", record.action) and (_TEMPLATES / own).exists()
    template = own if record.problem is None and known else "_problem.md.j2"
    bare = record.model_copy(update={"details": {}, "outputs": {}})
    return fitting(
        lambda: render(template, **_values(record, rows)), lambda: render("_problem.md.j2", **_values(bare, rows))
    )


def _values(record: Record, rows: int) -> dict[str, Any]:
    return {"record": record, "outputs": record.outputs, "details": record.details, "most": rows}


def render(template: str, **values: Any) -> str:
    """A template of this package with its values."""
    return _environment().get_template(template).render(**values).rstrip() + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=ChainableUndefined,  # a record of an older release may lack what a template shows
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,  # of what `_shown` has let through nothing is escaped again
        finalize=_shown,
    )
    environment.filters |= {
        "anchor": anchor, "block": block, "cell": cell, "code": code, "cut": cut, "duration": _duration,
        "html": html, "label": label, "link": link, "many": _many, "number": _number, "prose": prose,
        "sentence": sentence,
    }  # fmt: skip
    environment.globals |= {"sign": sign, "state": state, "most": 1000}
    return environment


def sign(verdict: str) -> str:
    """The sign of a verdict."""
    return _SIGNS.get(verdict, "❔")


def state(record: Record) -> str:
    """How an action ended, as its sign says it: its verdict, or `skipped` when it did nothing."""
    return "skipped" if record.verdict == "passed" and record.outputs.get("skipped") is True else record.verdict


def _shown(value: object) -> Markup:
    """Whatever a template shows: what a filter has made for its place is taken as it is, all else is untrusted text."""
    return value if isinstance(value, Markup) else escaped(str(value))


def _number(value: object) -> Markup:
    """A number as people read it; what is none is untrusted text."""
    return cell(number(value))


def _many(count: object, what: str) -> Markup:
    """How many of something; what is no number is untrusted text."""
    return cell(many(count, what) if isinstance(count, int) else f"{count} {what}s")


def _duration(seconds: object) -> Markup:
    return cell(duration(seconds) if isinstance(seconds, int | float) else seconds)
