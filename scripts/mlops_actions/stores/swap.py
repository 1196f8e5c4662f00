"""Changing an object that others may change at the same time: by compare-and-swap, tried again from what they made."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import RemoteFailed
from ..waiting import Backoff, Clock
from .store import Store

TRYING = 60.0
"""Seconds for which an object that others change at the same time is tried."""


def swap(
    store: Store, path: str, change: Callable[[bytes | None], bytes | None], what: str, clock: Clock | None = None
) -> bool:
    """Change an object.

    Args:
        store: has it.
        path: of the object.
        change: is given its bytes, None when it is absent, and gives the new ones, or None to leave it as it is. It is
            called again when somebody else was faster.
        what: the object, for the error.
        clock: for the back-off.

    Returns: whether it was changed.

    Raises:
        RemoteFailed: others changed it all that time.
    """
    clock, backoff = clock or Clock(), Backoff(first=0.05, most=1.0)
    until = clock.now() + TRYING
    while True:
        data: bytes | None
        try:
            data, tag = store.get_tagged(path)
        except FileNotFoundError:
            data, tag = None, ""
        made = change(data)
        if made is None:
            return False
        if store.create(path, made) if data is None else store.replace(path, made, tag):
            return True
        if clock.now() >= until:
            raise RemoteFailed(
                f"Cannot change {what}: others keep changing it at the same time",
                fix="See who does (its file has the history), then run this again",
            )
        clock.wait(backoff.pause())
