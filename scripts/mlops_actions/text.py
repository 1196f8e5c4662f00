"""Durations, numbers and counts as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def many(count: int, what: str) -> str:
    """How many of something that has a regular plural: `1 trial`, `2,000 trials`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """Words with a capital at their beginning."""
    return text[:1].upper() + text[1:]


def cut(text: str, longest: int = 300) -> str:
    """A text, or its beginning, where there is no place for a long one."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def number(value: object) -> str:
    """A number as people read it: four significant digits, thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def json_text(value: object, *, indent: int | None = 2, sort_keys: bool = False) -> str:
    """A value as JSON for any program: NaN and infinity, which JSON does not have, are null."""
    found = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return json.dumps(found, indent=indent, sort_keys=sort_keys)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table, of which the first has the columns' names, as lines with each column below the other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def shortened(text: str, limit: int, note: str, size: Callable[[str], int] = len) -> str:
    """Markdown as it is, or as many whole lines as fit a limit together with a note that says where the rest is.

    What the last line leaves open, a block of code or folded parts, is closed before the note.
    """
    if size(text) <= limit:
        return text
    kept: list[str] = []
    used, fence, folded, end = size(note) + 2, "", 0, ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if not fence and mark:
            fence = mark[1]
        elif fence and mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence:
            folded = max(0, folded + line.count("<details") - line.count("</details>"))
        used += size(line) + 1
        closed = f"{fence}\n" * bool(fence) + "\n</details>\n" * folded
        if used + size(closed) > limit:
            break
        kept.append(line)
        end = closed
    return "\n".join([*kept, end + "\n" + note])


def without_login(url: str) -> str:
    """A URL, or a text with one, without the `user:password` that may stand in it."""
    return re.sub(r"//[^/@\s]*@", "//***@", url)
