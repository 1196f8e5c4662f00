"""One record as Markdown, by the template of its action. Summaries and reports are made of the same sections.

A record holds what tasks printed and returned, and names of a pull request. So a template shows every value as foreign
text unless a filter says what it is: `cell`, `code`, `block`, `link` …
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, TemplateError
from markupsafe import Markup, escape

from ..text import duration, number, printed_lines, visible

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
_URL = re.compile(r"(https?://[^\s<>]*[^\s<>.,;:!?)\]}'\"`])")
_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_CELL = 10_000
"""Characters of a text in a table's cell."""


def section(record: Record) -> str:
    """Markdown for one record: a heading with its verdict, then what its action has to show.

    A record may come from another release, or from a pull request, and hold something else than its template shows:
    then there is only the heading.
    """
    own = f"{record.action}.md.j2"
    known = re.fullmatch(r"[a-z-]+", record.action) and (_TEMPLATES / own).exists()
    try:
        return render(own if record.problem is None and known else "_problem.md.j2", **_values(record))
    except _FAULTS:
        return render("_problem.md.j2", **_values(record.model_copy(update={"details": {}, "outputs": {}})))


def _values(record: Record) -> dict[str, Any]:
    return {"record": record, "outputs": record.outputs, "details": record.details}


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
        "anchor": anchor, "block": block, "cell": cell, "code": code, "duration": _duration, "html": html,
        "label": label, "link": link, "number": _number, "prose": prose,
    }  # fmt: skip
    environment.globals["sign"] = sign
    return environment


def sign(verdict: str) -> str:
    """The sign of a verdict."""
    return _SIGNS.get(verdict, "❔")


def _shown(value: object) -> Markup:
    """Whatever a template shows: what a filter has made for its place is taken as it is, all else is foreign text."""
    return value if isinstance(value, Markup) else _escaped(str(value))


def cell(value: object) -> Markup:
    """Text for a table's cell: one line, no markup, no link, no mention of a person."""
    return value if isinstance(value, Markup) else _escaped(" ".join(str(value).split()))


def prose(value: object) -> Markup:
    """A sentence of our own: as `cell`, with its URLs as links."""
    parts = _URL.split(" ".join(str(value).split()))
    return Markup("").join(link(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def code(value: object, longest: int = _CELL) -> Markup:
    """Text as inline code, whatever it contains."""
    text = visible(" ".join(str(value).split()), longest).replace("|", "\u2502")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return Markup(f"{fence} {text} {fence}" if "`" in text else f"`{text}`" if text else "")


def block(value: object, lines: int = 40, language: str = "text") -> Markup:
    """The last lines of what a program printed, as a block of code that no line of it can end."""
    text = "\n".join(printed_lines(str(value))[-lines:])
    fence = "~" * max(5, 1 + max((len(run) for run in re.findall("~+", text)), default=0))
    return Markup(f"{fence}{language}\n{text}\n{fence}")


def html(value: object) -> Markup:
    """Text inside an HTML element, where there is no Markdown."""
    return escape(_unlinked(" ".join(str(value).split())))


def label(value: object) -> Markup:
    """Text in a Mermaid diagram."""
    return Markup(re.sub(r"[^\w ./-]", "_", str(value)[:80]))


def link(url: object, text: str = "") -> Markup:
    """A link to a URL of http or https; of another one, its text."""
    address = quote(str(url), safe=":/?#[@]!$&*+,;=%~")
    if not re.match(r"https?://[^/]", address):
        return cell(text or url)
    return Markup(f"[{cell(text)}]({address})" if text else f"<{address}>")


def anchor(url: object, text: str) -> Markup:
    """The same as HTML."""
    shown, address = escape(text), str(url)
    return Markup(f'<a href="{escape(address)}">{shown}</a>') if re.match(r"https?://[^/]", address) else shown


def _number(value: object) -> Markup:
    """A number as people read it; what is none is foreign text."""
    return cell(number(value))


def _duration(seconds: object) -> Markup:
    return cell(duration(seconds) if isinstance(seconds, int | float) else seconds)


_MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_[]|#~"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LINK = re.compile(r"\b(https?|ftp|mailto|xmpp):|\bwww\.|(?:\bGH-|#)(?=\d)|@", re.IGNORECASE)
"""What GitHub makes links and mentions of: https://github.github.com/gfm/#autolinks-extension-"""


def _escaped(text: str) -> Markup:
    return Markup(_unlinked(text).translate(_MARKUP))


def _unlinked(text: str) -> str:
    return _LINK.sub(lambda found: f"{found[0]}\u200b", visible(text, _CELL))
