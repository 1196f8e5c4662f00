"""The site's files: a page for the registry, two a model (it, and two versions compared), and one a version."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nh3
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from ..reports.described import differences, shown
from ..text import many, number
from ..untrusted import anchor, visible
from .chart import chart
from .collect import Model, Version

MARK = "catalog.txt"
"""The file by which a folder is known as a catalogue: it lists what was written."""
_HERE = Path(__file__).parent
_CHARTS = 4  # metrics whose charts are open
_LONGEST = 20_000  # characters of a text
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """How many models, versions and lines of trouble the site has."""

    models: int
    versions: int
    problems: int


def write(models: Sequence[Model], folder: Path) -> Written:
    """Write the site of a registry into an empty folder. Equal models give equal bytes."""
    for name in ("catalog.css", "catalog.js"):
        shutil.copyfile(_HERE / "static" / name, folder / name)
    templates = _templates()
    _page(folder / "index.html", templates.get_template("index.html.j2"), models=models)
    for model in models:
        inside = folder / "models" / model.name
        inside.mkdir(parents=True)
        names = sorted({name for one in model.versions for name in one.described["metrics"]})
        names.sort(key=lambda name: name != model.primary)
        charts = [chart(name, model.versions) for name in names]
        common = {"model": model, "charts": charts[:_CHARTS], "more": charts[_CHARTS:], "names": names[:3]}
        _page(inside / "index.html", templates.get_template("model.html.j2"), **common)
        _page(inside / "compare.html", templates.get_template("compare.html.j2"), model=model, data=_compared(model))
        template = templates.get_template("version.html.j2")
        before: Version | None = None
        for one in model.versions:
            changed = list(differences(before.described, one.described)) if before else []
            card = _card(one.card)
            _page(
                inside / f"{one.number}.html", template, model=model, one=one, before=before, changed=changed, card=card
            )
            before = one
    return Written(len(models), sum(len(m.versions) for m in models), sum(len(m.problems) for m in models))


def _page(path: Path, template: Any, **values: Any) -> None:
    path.write_text(template.render(**values), encoding="utf-8", newline="\n")


def _compared(model: Model) -> Markup:
    """All that compare.html shows, as JSON for a script element: for each group the names, and a row a version."""
    groups: dict[str, Any] = {}
    for group in dict.fromkeys(group for one in model.versions for group in one.described):
        names = sorted({name for one in model.versions for name in one.described.get(group, {})})
        rows = [
            [shown(one.described[group].get(name) if group in one.described else "unknown", 200) for name in names]
            for one in model.versions
        ]
        groups[group] = {"names": [visible(name, 200) for name in names], "rows": _told_once(rows)}
    data = {"versions": [one.number for one in model.versions], "groups": groups}
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _told_once(rows: Sequence[Sequence[str]]) -> list[Any]:
    """Rows of which one that is as the one before it is `0`."""
    return [0 if index and row == rows[index - 1] else row for index, row in enumerate(rows)]


def _card(card: str) -> Markup:
    """A card's Markdown as HTML without what could load, run or steer anything; its title stands on the page."""
    text = re.sub(r"\A---\n.*?\n---\n+(# [^\n]*\n)?", "", card[:_LONGEST], flags=re.DOTALL)
    made = MarkdownIt("commonmark", {"html": True}).enable("table").render("\n".join(map(visible, text.split("\n"))))
    return Markup(nh3.clean(made, tags=_TAGS, attributes={"a": {"href"}}, url_schemes={"http", "https"}))


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=_text,
    )
    made.filters |= {"number": number, "many": many, "shown": shown, "anchor": _anchor, "day": _day, "short": _short}
    return made


def _text(value: object) -> Markup:
    """Untrusted text as it may stand in HTML: what cannot be seen as its escape."""
    return value if isinstance(value, Markup) else escape(visible(str(value), _LONGEST))


def _anchor(url: str, text: str) -> Markup:
    return anchor(url, visible(text, _LONGEST))


def _day(at: str) -> str:
    return at[:16].replace("T", " ")


def _short(values: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {shown(value, 30)}" for name, value in values.items())
    return text if len(text) <= 80 else f"{text[:79]}…"
