"""The one place where time is waited for, so that tests can drive it with a clock of their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


class Clock:
    """The machine's clock. It counts on when the wall clock jumps."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Wait so long, or until the event is set; whether it was.

        A signal's handler runs meanwhile, and its exception ends the wait.
        """
        if wake is not None:
            return wake.wait(max(seconds, 0.0))
        time.sleep(max(seconds, 0.0))
        return False


def wait_until(done: Callable[[], bool], timeout: float, clock: Clock | None = None) -> bool:
    """Ask `done` again and again until it says yes or the time (seconds) is over; whether it did."""
    clock = clock or Clock()
    deadline, pause = clock.now() + timeout, 0.01
    while not done():
        left = deadline - clock.now()
        if left <= 0:
            return False
        clock.wait(min(pause, left))
        pause = min(pause * 1.5, 0.25)
    return True


@dataclass
class Backoff:
    """Pauses between attempts that fail: each twice the one before, with some chance in it so that many do not meet.

    Attributes:
        first, most: seconds of the first pause and of the longest.
        failures: attempts that failed since the last one that did not.
    """

    first: float = 0.5
    most: float = 20.0
    failures: int = 0

    def pause(self) -> float:
        """Seconds to wait after one more failure."""
        self.failures += 1
        return min(self.most, self.first * 2.0 ** min(self.failures - 1, 30)) * random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Begin anew with the next failure."""
        self.failures = 0


def retry_after(value: str, default: float = 0.0) -> float:
    """Seconds that a `Retry-After` header asks for, as a number or a date; the default if it says nothing.

    RFC 9110, section 10.2.3.
    """
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return default
