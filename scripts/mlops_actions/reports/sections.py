"""One record as Markdown, by the template of its action. Summaries and reports are made of the same sections."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from ..text import duration, number

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
_MARKED = re.compile(r"(https?://[^\s<>]*[^\s<>.,;:!?)\]}'\"`]|`[^`]+`)")


def section(record: Record) -> str:
    """Markdown for one record: a heading with its verdict, then what its action has to show."""
    own = f"{record.action}.md.j2"
    name = own if record.problem is None and (_TEMPLATES / own).exists() else "_problem.md.j2"
    return render(name, record=record, outputs=record.outputs, details=record.details)


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
        autoescape=False,  # the output is Markdown; `cell` and `code` make foreign text harmless in it
    )
    environment.filters |= {
        "cell": cell,
        "code": code,
        "duration": duration,
        "label": label,
        "number": number,
        "prose": prose,
    }
    environment.globals["sign"] = lambda verdict: _SIGNS.get(verdict, "❔")
    environment.globals["state"] = state
    return environment


def cell(value: object) -> str:
    """Text for a table's cell: one line, no markup, no mention of a person."""
    return _escaped(" ".join(str(value).split()))


def label(value: object) -> str:
    """Text for a `<summary>`, where Markdown is not read: no markup, no mention of a person."""
    return html.escape(" ".join(str(value).split())).replace("@", "@\u200b")


def prose(value: object) -> str:
    """A sentence of our own: as `cell`, with its URLs as links, and what stands between backticks as code."""
    parts = _MARKED.split(" ".join(str(value).split()))
    return "".join(_marked(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def _marked(part: str) -> str:
    return code(part.strip("`")) if part.startswith("`") else f"<{part}>"


def state(record: Record) -> str:
    """How an action ended, as its sign says it: its verdict, or `skipped` when it did nothing."""
    return "skipped" if record.verdict == "passed" and record.outputs.get("skipped") is True else record.verdict


def code(value: object) -> str:
    """Text as inline code, whatever it contains."""
    text = " ".join(str(value).split()).replace("|", "\u2502")
    fence = "`" * (max((len(run) for run in _runs(text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    for char in "\\`*_[]<>|#~":
        text = text.replace(char, {"<": "&lt;", ">": "&gt;"}.get(char, "\\" + char))
    return text.replace("@", "@\u200b")


def _runs(text: str) -> list[str]:
    return re.findall("`+", text)
