"""Text that others wrote, made harmless for where it is shown: a terminal, a runner's log, Markdown, HTML.

What tasks print and return, names of a pull request and values of data may hold what these would obey: escape
sequences, workflow commands, markup, mentions. Each is made harmless once, where the text leaves for that place:
`github/console.py` for a terminal and a log, the templates of `reports/` for Markdown and HTML. Until then it stays as
it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from markupsafe import Markup, escape

# A terminal

LONGEST_LINE = 2000
"""Characters of a line that are shown."""
_EFFECT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
"""What a terminal obeys (ECMA-48): colours, moves of the cursor, titles, links."""


def visible(text: str, longest: int = LONGEST_LINE) -> str:
    """Untrusted text as one line that shows what it holds and does nothing.

    Characters that cannot be seen (control, direction, zero width) stand as their escapes. What is long is cut.
    """
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text) - longest:,} more characters)"
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def visible_lines(text: str) -> list[str]:
    """The lines of a text, each as `visible` shows it."""
    return [visible(line) for line in text.rstrip("\r\n").replace("\r\n", "\n").split("\n")]


def printed_lines(text: str) -> list[str]:
    """The lines that a program printed, as a terminal would leave them, each as `visible` shows it.

    Colours and the like are left out; of a line that was written over, as progress bars are, the last state stays.
    """
    text = _EFFECT.sub("", text).rstrip("\r\n").replace("\r\n", "\n")
    return [visible(next((part for part in reversed(line.split("\r")) if part), "")) for line in text.split("\n")]


def _shown(char: str) -> str:
    if char.isprintable() or char == "\t":
        return char
    return char.encode("unicode_escape").decode()


# The log of a runner: https://docs.github.com/actions/reference/workflow-commands-for-github-actions


def log_line(line: str) -> str:
    """A line, as `visible` shows it, that the runner takes for text.

    It obeys `::` at a line's beginning, and `##[` anywhere in it.
    """
    line = line.replace("##[", "## [")
    return f"| {line}" if line.lstrip().startswith("::") else line


def log_command(name: str, text: str, properties: Mapping[str, str]) -> str:
    """A workflow command of ours; properties that are empty are left out."""
    listed = ",".join(f"{key}={_percent(value, ',:')}" for key, value in properties.items() if value)
    return f"::{name}{' ' + listed if listed else ''}::{_percent(text)}".replace("##[", "## [")


def _percent(text: str, also: str = "") -> str:
    for char in "%\r\n" + also:
        text = text.replace(char, f"%{ord(char):02X}")
    return text


# GitHub's Markdown, and HTML

_URL = re.compile(r"(https?://[^\s<>]*[^\s<>.,;:!?)\]}'\"`])")
_CODE = re.compile(r"`([^`]+)`")
_CELL = 10_000  # characters of a text in a table's cell


def cell(value: object) -> Markup:
    """Text for a table's cell: one line, no markup, no link, no mention of a person."""
    return value if isinstance(value, Markup) else escaped(" ".join(str(value).split()))


def sentence(value: object) -> Markup:
    """A sentence that may have untrusted parts: as `cell`, with what stands between backticks as code."""
    return value if isinstance(value, Markup) else _with_code(" ".join(str(value).split()))


def prose(value: object) -> Markup:
    """A sentence of our own: as `sentence`, with its URLs as links."""
    parts = _URL.split(" ".join(str(value).split()))
    return Markup("").join(link(part) if index % 2 else _with_code(part) for index, part in enumerate(parts))


def _with_code(text: str) -> Markup:
    parts = _CODE.split(text)
    return Markup("").join(code(part) if index % 2 else escaped(part) for index, part in enumerate(parts))


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
    address = quote(str(url), safe=":/?#[@]!$&*+,;=%~", errors="replace")
    if not re.match(r"https?://[^/]", address):
        return cell(text or url)
    return Markup(f"[{cell(text)}]({address})" if text else f"<{address}>")


def anchor(url: object, text: str) -> Markup:
    """The same as HTML."""
    shown, address = escape(text), str(url)
    return Markup(f'<a href="{escape(address)}">{shown}</a>') if re.match(r"https?://[^/]", address) else shown


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "<span>$</span>"}  # what is between two $ is a formula
_MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_[]|#~"} | _ENTITIES)
_ITEM = re.compile(r"^(?:\d{1,9}(?=[.)](?:\s|$))|(?=[-+](?:[\s-]|$))|(?==))")
"""What makes a list, a line or a heading of a text's beginning, up to the character that does."""
_LINK = re.compile(r"(https?|ftp|mailto|xmpp):|www\.|(?:GH-|#)(?=\d)|@", re.IGNORECASE)
"""What GitHub makes links and mentions of: https://github.github.com/gfm/#autolinks-extension-"""


def escaped(text: str) -> Markup:
    """Text without markup, links and mentions, in Markdown."""
    return Markup(_ITEM.sub(lambda found: f"{found[0]}\\", _unlinked(text).translate(_MARKUP)))


_APART = "\u200b"
"""Between the parts of what would be a link or a mention; in untrusted text it stands as its escape."""


def _unlinked(text: str) -> str:
    return _LINK.sub(lambda found: f"{found[0]}{_APART}", visible(text, _CELL))


def for_terminal(markdown: str) -> str:
    """Our own Markdown for a terminal, which makes no links: without the characters that keep GitHub from it."""
    return markdown.replace(_APART, "")
