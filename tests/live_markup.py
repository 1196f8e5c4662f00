"""What of Markdown or HTML would load, run, link or mention, for tests that untrusted text is only text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt


class Live(HTMLParser):
    """What of a page would load, run, link or mention: GitHub looks for links and people in text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in ("code", "pre")
        if tag in ("img", "script", "svg", "b", "iframe", "style") or any(name.startswith("on") for name, _ in attrs):
            self.found.append(tag)
        self.found += [f"{name}={value}" for name, value in attrs if name in ("href", "src") and "evil" in str(value)]
        steering = [(name, value) for name, value in attrs if name not in ("alt", "aria-label", "title")]  # text
        self.found += [f"{name}={value}" for name, value in steering if str(value).startswith("javascript:")]

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre")

    def handle_data(self, data: str) -> None:
        if "\x1b" in data or "\u202e" in data:
            self.found.append("effect")
        if not self._code:
            self.found += re.findall(r"@octocat|@evil|https?://evil|www\.evil|#12", data)


def as_html(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(text))
