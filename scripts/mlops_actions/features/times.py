"""The times that a person writes: the ends of what is to be materialized, and lengths of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from ..data.rules import parse_duration
from ..errors import BadInput
from .results import Mode


def times(mode: Mode, start: str, end: str, notice: Callable[[str], None]) -> tuple[datetime | None, datetime | None]:
    """The two ends of what is to be materialized, in UTC.

    Raises:
        BadInput: one is not a time or has no zone, they are in the wrong order, or they do not go with the mode.
    """
    first, last, now = _time("start", start), _time("end", end), datetime.now(timezone.utc)
    if mode == "range" and not first:
        raise BadInput("`mode: range` needs a `start`", fix="Give `start`, or use `mode: incremental`")
    if mode != "range" and first:
        raise BadInput(
            f"`start` does not go with `mode: {mode}`",
            why="An incremental materialization starts where the last one ended",
            fix="Use `mode: range`, or leave `start` out",
        )
    if last and last > now:
        notice(f"`end` {end} is in the future; using now, {now:%Y-%m-%d %H:%M} UTC")
        last = None
    if first and first > (last or now):
        raise BadInput(f"`start` {start} is after `end` {end or 'now'}", fix="Swap or correct them")
    return first, last


def length(name: str, text: str) -> timedelta | None:
    """A duration such as `36h` or `7d`; None when there is none.

    Raises:
        BadInput: it is not a duration, or it is zero.
    """
    if not text:
        return None
    try:
        found = parse_duration(text)
    except ValueError:
        found = timedelta()
    if not found:
        raise BadInput(f"`{name}` {text!r} is not a duration", fix="Write it as 90min, 36h, 7d or 2w")
    return found


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        fix = "Write it as 2013-06-01 or 2013-06-01T12:00:00Z"
        raise BadInput(f"`{name}` {text!r} is not a time", fix=fix) from None
    if moment.tzinfo:
        return moment.astimezone(timezone.utc)
    if any(mark in text for mark in "T: "):
        fix = f"Write {text}Z for UTC, or {text}+02:00 for another zone"
        raise BadInput(f"`{name}` {text!r} has no time zone", fix=fix)
    return moment.replace(tzinfo=timezone.utc)
