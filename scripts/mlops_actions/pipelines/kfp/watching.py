"""Watching a run to its end: asking often enough to notice it at once, and seldom enough to be no load.

A question every 2.5 s, a quick one while things change and when a source says that something did: a pod's log that
ends, a pod whose phase changes. A budget keeps each minute below 30 questions, but for the last one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from ...errors import RemoteFailed
from ...waiting import Clock
from ..engine import Progress
from .client.api import ApiError, KfpApi
from .following import Found, Sources
from .tracking import Tracker

QUICK, SLOW, SLOWER = 0.5, 2.5, 3.0
"""Seconds between two questions while things change, while they do not, and after too many were asked."""
RATE, BURST = 24 / 60, 5.0
"""Questions a second in the long run, and how many may be asked ahead of that."""
_LIVELY = 2.0  # seconds after a change in which another one is likely
_NAMED = 10  # tasks that a sentence names
_LINGER = 0.5  # seconds that logs may take to end after the run


class Pace:
    """When to ask again.

    Attributes:
        asked: how many questions were asked.
    """

    def __init__(self, now: float) -> None:
        self._left, self._at = BURST, now
        self.asked = 0

    def spend(self, now: float, questions: int = 1) -> None:
        """So many were asked."""
        self._left = self.left(now) - questions
        self._at = now
        self.asked += questions

    def pause(self, now: float, *, lively: bool, ending: bool) -> float:
        """Seconds until the next question.

        Args:
            now: the time.
            lively: whether a change is likely.
            ending: whether the run seems to be over: then what is saved up for this is spent.
        """
        left = self.left(now)
        if (lively and left >= 1) or (ending and left > -BURST):
            return QUICK
        return SLOW if left >= 0 else SLOWER

    def left(self, now: float) -> float:
        """How many questions may be asked at once."""
        return min(BURST, self._left + (now - self._at) * RATE)


@dataclass(frozen=True)
class Limits:
    """Seconds that the run as a whole and each of its tasks may take; 0 for no limit."""

    run: float = 0.0
    task: float = 0.0


class TimeIsOver(RemoteFailed):
    """A limit was reached; the run goes on until it is ended."""


class Watcher:
    """Watches one run.

    Args:
        api: of KFP.
        run_id: KFP's.
        tracker: is fed with what is seen.
        sources: wake it.
        progress: who is told.
        clock: what time is measured and waited with.
        limits: counted from now on.
    """

    def __init__(
        self,
        api: KfpApi,
        run_id: str,
        tracker: Tracker,
        sources: Sources,
        progress: Progress,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._api, self._run_id, self._tracker, self._sources = api, run_id, tracker, sources
        self._progress, self._clock, self._limits = progress, clock, limits
        self._began = clock.now()
        self.pace = Pace(self._began)
        self._changed = self._began
        self._opened = 0
        self._archived = False
        self._quiet: set[str] = set()

    def until_end(self) -> None:
        """Until the run has ended, however it did.

        Raises:
            TimeIsOver: a limit was reached.
            RemoteFailed: KFP cannot be asked any more, or the run was deleted.
        """
        tracker = self._tracker
        while True:
            self._ask()
            if tracker.ended:
                break
            self._check_limits()
            running = [tracker.tasks[label].pod for label in tracker.running if label in tracker.tasks]
            self._sources.follow(running, int(self.pace.left(self._clock.now())))
            self._rest()
        self._sources.stop(_LINGER)
        for found in self._sources.drain():
            self._obey(found)

    def again(self, sources: Sources) -> None:
        """The run was retried: watch it with new sources, by the same limits."""
        self._sources, self._opened, self._changed = sources, 0, self._clock.now()

    def _ask(self) -> None:
        try:
            run = self._api.get(f"/apis/v2beta1/runs/{self._run_id}")
        except ApiError as error:
            if error.status == 404:
                raise RemoteFailed(
                    "The run is not in KFP any more: somebody deleted it",
                    why=self._still(),
                    fix="Run it again",
                ) from error
            raise
        now = self._clock.now()
        self.pace.spend(now, 1 + self._sources.opened - self._opened)
        self._opened = self._sources.opened
        if self._tracker.feed(run, now):
            self._changed = now
        if run.get("storage_state") == "ARCHIVED" and not self._archived:
            self._archived = True
            self._progress.note("The run was archived in KFP; it goes on, and is watched")

    def _rest(self) -> None:
        """Wait for the next question; lines of logs are told meanwhile."""
        asked = self._clock.now()
        woken = False
        while True:
            now = self._clock.now()
            lively = woken or now - self._changed < _LIVELY
            left = asked + self.pace.pause(now, lively=lively, ending=self._ending()) - now
            if left <= 0:
                return
            self._clock.wait(min(left, 1.0), self._sources.wake)
            for found in self._sources.drain():
                woken = self._obey(found) or woken
            running = self._tracker.running
            if running:
                now = self._clock.now()
                self._progress.waiting({label: now - since for label, since in running.items()})

    def _obey(self, found: Found) -> bool:
        """Tell what was found; whether the API will have something new."""
        tracker = self._tracker
        label = tracker.of_pod(found.pod) if found.pod else ""
        if found.kind == "line":
            tracker.logged(label, found.text)
        elif found.kind == "trouble":
            self._progress.warning(f"{label}: {found.text}")
        elif found.kind == "broken":
            self._progress.note(f"The run's pods are not watched: {found.text}")
        if found.kind == "end" and label in tracker.running:
            self._quiet.add(label)
        return found.kind in ("end", "pod")

    def _ending(self) -> bool:
        """Whether nothing is known to be at work any more, though something was."""
        tracker = self._tracker
        return bool(tracker.tasks) and not set(tracker.running) - self._quiet

    def _check_limits(self) -> None:
        now, tracker = self._clock.now(), self._tracker
        if self._limits.run and now - self._began >= self._limits.run:
            raise TimeIsOver(
                f"The pipeline did not end within {self._limits.run:g} s",
                why=self._still(),
                fix="Raise `timeout`; what is finished will be reused",
            )
        for label, since in tracker.running.items():
            if self._limits.task and now - since >= self._limits.task:
                raise TimeIsOver(
                    f"The task {label!r} did not end within {self._limits.task:g} s",
                    why=self._still(),
                    fix="Raise `task-timeout`; what is finished will be reused",
                )

    def _still(self) -> str:
        tracker = self._tracker
        waiting = [label for label, task in tracker.tasks.items() if task.state == "waiting"]
        parts = [f"Still at work: {listed(tracker.running) or 'none of its tasks'}"]
        return "; ".join(parts + ([f"waiting: {listed(waiting)}"] if waiting else []))


def listed(labels: Collection[str]) -> str:
    """Tasks in one sentence: the first few by name."""
    more = [f"{len(labels) - _NAMED} more"] if len(labels) > _NAMED else []
    return ", ".join([*islice(labels, _NAMED), *more])
