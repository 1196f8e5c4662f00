"""Repeating a request for as long as its faults may pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TypeVar

from ..waiting import Backoff, Clock
from .faults import HttpError

T = TypeVar("T")


class Retry:
    """Waits out faults of one server. May be used by several threads.

    Args:
        name: what to call the server when it is back.
        clock: what pauses are measured with.
        patience: seconds that the server may be away once it has responded.
        first: seconds that it may be away before that: it is more likely named wrongly than restarting.
        say: told once when the server is away, and once when it is back.

    Attributes:
        patience: may be set to less when there is no time left.
    """

    def __init__(
        self, name: str, clock: Clock, *, patience: float, first: float, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.patience = patience
        self._name, self._clock, self._first, self._say = name, clock, first, say
        self._lock = threading.Lock()
        self._reached = False
        self._away_since: float | None = None

    def run(
        self,
        attempt: Callable[[], T],
        *,
        again: bool = True,
        final: Collection[int] = (),
        repeated: Callable[[], None] = lambda: None,
    ) -> T:
        """Return what `attempt` returns, which is called again after each fault that may pass.

        Args:
            attempt: sends one request.
            again: whether the request may reach the server twice. If not, it is repeated only when it never arrived,
                or was turned away (429).
            final: status codes that do not pass, whatever they usually mean.
            repeated: called before each further attempt.

        Raises:
            HttpError: the last one, when it does not pass or the patience is over.
        """
        since: float | None = None
        backoff = Backoff()
        while True:
            try:
                found = attempt()
            except HttpError as error:
                if not error.transient or error.status in final or not (again or not error.sent or error.status == 429):
                    raise
                since = self._clock.now() if since is None else since
                self._wait_out(error, since, backoff)
                repeated()
            else:
                self._back()
                return found

    def _wait_out(self, error: HttpError, since: float, backoff: Backoff) -> None:
        """Wait before the next attempt, or give up."""
        patience = self.patience if self._reached or error.status == 429 else min(self.patience, self._first)
        pause = max(backoff.pause(), error.retry_after)
        away = self._clock.now() - since
        if away + pause > patience:
            if away:
                error.what = f"{error.what} (tried for {away:.0f} s)"
            raise error
        with self._lock:
            said, self._away_since = self._away_since is not None, self._away_since or since
        if not said:
            self._say(f"{error.what}: {error.why}. Retrying for up to {patience:.0f} s")
        self._clock.wait(pause)

    def _back(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
            self._reached = True
        if since is not None:
            self._say(f"{self._name} responds again, after {self._clock.now() - since:.0f} s")
