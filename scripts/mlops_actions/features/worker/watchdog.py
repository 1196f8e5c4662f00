"""An end to waiting for a store that accepted a connection and then does not respond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer


class Watchdog:
    """Limits how long one response of a store may take. The clients of most stores wait forever.

    Args:
        seconds: that one piece of work with a store may take.
        give_up: is called from another thread, with what was waited for, when it took longer. It has to end the
            process: nothing ends a call that waits. What was being written was not committed, or does no harm, for
            the same reasons as when the process is killed.
    """

    def __init__(self, seconds: float, give_up: Callable[[str], None]) -> None:
        self._seconds, self._give_up = seconds, give_up

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """The block is one piece of work with a store."""
        timer = Timer(self._seconds, self._give_up, (what,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
