"""Cron expressions: from the five fields that GitHub and crontab have to the six that Kubeflow Pipelines (KFP) reads.

KFP reads them with robfig/cron v1, whose first field is the second, and which takes five fields for six without the
last: a nightly `0 3 * * *` would run at three minutes past every hour. https://pkg.go.dev/github.com/robfig/cron@v1.2.0
"""

from __future__ import annotations

import calendar

NAMED = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_LONGEST = {month: 29 if month == 2 else calendar.monthrange(2024, month)[1] for month in range(1, 13)}


def six_fields(text: str) -> str:
    """A cron expression as KFP reads it; five fields get a second of 0.

    Raises:
        ValueError: it is none, or its time never comes; the message says which field.
    """
    text = " ".join(text.split())
    if text.lower() in NAMED:
        return text.lower()
    fields = text.split(" ")
    if len(fields) not in (5, 6):
        raise ValueError(f"it has {len(fields)} fields, and not 5 (minute, hour, day, month, day of the week) or 6")
    fields = fields if len(fields) == 6 else ["0", *fields]
    values = [_values(field, *about) for field, about in zip(fields, _FIELDS)]
    days, months = values[3], values[4]
    if fields[5] in ("*", "?") and min(days) > max(_LONGEST[month] for month in months):
        # KFP's controller would find no next time, take that for one in the past, and start runs without end.
        raise ValueError("none of its months has such a day")
    return " ".join(fields)


def _values(field: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    """The values that a field stands for: `*`, `?`, numbers or names, `a-b`, each with `/step`, separated by commas."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if first in ("*", "?") and not dash:
                begin, end = low, high
            else:
                begin = _number(first, names)
                end = _number(last, names) if dash else high if step else begin
            width = int(step) if "/" in part else 1
        except ValueError:
            raise ValueError(f"the {name} {part!r} is not a number or range") from None
        if not low <= begin <= end <= high or width < 1:
            raise ValueError(f"the {name} {part!r} is not within {low}-{high}")
        found.update(range(begin, end + 1, width))
    return found


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)
