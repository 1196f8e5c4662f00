"""Durations and numbers as people read them, and foreign text as it can be shown."""

from __future__ import annotations

import re

LONGEST_LINE = 2000
"""Characters of a line that are shown."""
_EFFECT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
"""What a terminal obeys (ECMA-48): colours, moves of the cursor, titles, links."""


def visible(text: str, longest: int = LONGEST_LINE) -> str:
    """Foreign text as one line that shows what it holds and does nothing.

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


def number(value: object) -> str:
    """A number as people read it: four significant digits, thousands apart."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
