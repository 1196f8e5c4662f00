"""Watching a run to its end: asking often enough to notice it at once, and seldom enough to be no load.

A question every 2.5 s, a quick one while things change and when the follower says that something did: a pod's log that
ended, a pod whose phase changed. A budget keeps each minute below 30 questions, but for the last one; reading logs from
KFP is limited by their number and their pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice

from ....errors import RemoteFailed
from ....kubernetes.pods import PULLING
from ....waiting import Clock
from ...engine import RunProgress
from ..client.api import ApiError, KfpApi
from .log_follower import Found, LogFollower
from .nodes import Task
from .runs import FINAL
from .tracking import Json, Tracker

QUICK, SLOW, SLOWER = 0.5, 2.5, 3.0
"""Seconds between two questions while things change, while they do not, and after too many were asked."""
RATE, BURST = 24 / 60, 5.0
"""Questions a second in the long run, and how many may be asked ahead of that."""
_LIVELY = 2.0  # seconds after a change in which another one is likely
_NAMED = 10  # tasks that a sentence names
_LINGER = 2.0  # seconds that logs may take to end after the run
_LATER = 6  # questions after a run's failure until it shows the task that failed, which may come later
_UNSHOWN = 10.0  # seconds that a run may go on without a task that the API shows, until ML Metadata is asked


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


class TimedOut(RemoteFailed):
    """A limit was reached; the run goes on until it is ended."""


class Watcher:
    """Watches one run.

    Args:
        api: of KFP.
        run_id: KFP's.
        tracker: is fed with what is seen.
        follower: of its logs and pods; wakes it.
        progress: who is told.
        clock: what time is measured and waited with.
        limits: counted from now on.
        elsewhere: the tasks as ML Metadata has them, for an API that shows none that can be told apart; two questions.
    """

    def __init__(
        self,
        api: KfpApi,
        run_id: str,
        tracker: Tracker,
        follower: LogFollower,
        progress: RunProgress,
        clock: Clock,
        limits: Limits,
        elsewhere: Callable[[], list[Task]] | None = None,
    ) -> None:
        self._api, self._run_id, self._tracker, self._follower = api, run_id, tracker, follower
        self._elsewhere = elsewhere
        self._progress, self._clock, self._limits = progress, clock, limits
        self._began = clock.now()
        self.pace = Pace(self._began)
        self._changed = self._began
        self._archived = self._unshown = False
        self._next = self._began + _UNSHOWN  # when ML Metadata is asked for the tasks, if it must be
        self._quiet: set[str] = set()
        self._unpulled: dict[str, float] = {}  # by label, since when a node cannot get its image

    def until_end(self) -> None:
        """Until the run has ended, however it did.

        Raises:
            TimedOut: a limit was reached.
            RemoteFailed: KFP cannot be reached, or the run was deleted.
        """
        tracker = self._tracker
        while True:
            self._ask()
            if tracker.ended:
                break
            self._check_limits()
            running = [tracker.tasks[label].pod for label in tracker.running if label in tracker.tasks]
            self._follower.follow(running)
            self._rest()
        for _ in range(_LATER):
            if tracker.state != "FAILED" or tracker.failed_known:
                break
            self._clock.wait(QUICK)
            self._ask()
        self._follower.stop(_LINGER)
        for found in self._follower.drain():
            self._obey(found)

    def again(self, follower: LogFollower) -> None:
        """The run was retried: watch it with a new follower, by the same limits."""
        self._follower, self._changed = follower, self._clock.now()
        self._unpulled.clear()

    def _ask(self) -> None:
        try:
            run = self._api.get(f"/apis/v2beta1/runs/{self._run_id}")
        except ApiError as error:
            if error.status == 404:
                raise RemoteFailed(
                    "The run no longer exists in KFP",
                    why=f"A user or KFP's garbage collection deleted it. {self._still()}",
                    fix="Run it again",
                ) from error
            raise
        now = self._clock.now()
        self.pace.spend(now)
        if self._tracker.feed(run, now, self._seen(run, now)):
            self._changed = now
        if run.get("storage_state") == "ARCHIVED" and not self._archived:
            self._archived = True
            self._progress.note("The run was archived in KFP; it goes on, and is watched")

    def _seen(self, run: Json, now: float) -> list[Task]:
        """The tasks, from the API, else from ML Metadata."""
        tasks, ended = self._tracker.seen(run), run.get("state") in FINAL
        if tasks or not self._elsewhere or not (ended or now >= self._next):
            return tasks
        self._next = now + _UNSHOWN
        tasks = self._elsewhere()
        self.pace.spend(now, 2)
        if tasks and not self._unshown:
            self._unshown = True
            self._progress.note(
                "KFP's API shows no tasks that can be identified: they come from ML Metadata, which knows nothing"
                " of attempts, and not that a pod waits"
            )
        return tasks

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
            self._clock.wait(min(left, 1.0), self._follower.wake)
            for found in self._follower.drain():
                woken = self._obey(found) or woken
            running = self._tracker.running
            if running:
                now = self._clock.now()
                self._progress.waiting({label: now - since for label, since in running.items()})

    def _obey(self, found: Found) -> bool:
        """Tell what was found; whether the API will have something new."""
        tracker = self._tracker
        label = found.task or (tracker.of_pod(found.pod) if found.pod else "")
        if found.kind == "line":
            tracker.logged(label, found.text)
        elif found.kind == "trouble":
            tracker.warn(label, found.text, found.advice)
            if found.unpulled:
                self._unpulled.setdefault(label, self._clock.now())
        elif found.kind == "pod" and found.text != "Pending":
            self._unpulled.pop(label, None)
        elif found.kind == "broken":
            self._progress.warning(f"The run's pods cannot be watched: {found.text}")
        if found.kind == "end" and label in tracker.running:
            self._quiet.add(label)
        return found.kind in ("end", "pod")

    def _ending(self) -> bool:
        """Whether nothing is known to run now, though something did."""
        tracker = self._tracker
        return bool(tracker.tasks) and not set(tracker.running) - self._quiet

    def _check_limits(self) -> None:
        now, tracker = self._clock.now(), self._tracker
        if self._limits.run and now - self._began >= self._limits.run:
            raise TimedOut(
                f"The pipeline did not end within {self._limits.run:g} s",
                why=self._still(),
                fix=self._fix("Raise `timeout`; what is finished will be reused"),
            )
        if not tracker.running and (unpulled := [one for one, t in self._unpulled.items() if now - t >= PULLING]):
            raise TimedOut(
                f"The run cannot go on: the nodes cannot pull the image of {listed(unpulled)}",
                why=self._still(),
                fix=self._fix("Run this again when they can; what is finished will be reused"),
            )
        for label, since in tracker.running.items():
            if self._limits.task and now - since >= self._limits.task:
                raise TimedOut(
                    f"The task {label!r} did not end within {self._limits.task:g} s",
                    why=self._still(),
                    fix=self._fix("Raise `task-timeout`; what is finished will be reused"),
                )

    def _fix(self, last: str) -> str:
        advices = dict.fromkeys(warning.advice.rstrip(".") for warning in self._tracker.warnings.values())
        return ". ".join([*filter(None, advices), last])

    def _still(self) -> str:
        tracker = self._tracker
        waiting = [label for label, task in tracker.tasks.items() if task.state == "waiting"]
        parts = [f"Still running: {listed(tracker.running) or 'none of its tasks'}"]
        parts += [f"waiting: {listed(waiting)}"] if waiting else []
        return ". ".join(["; ".join(parts), *tracker.warned()])


def listed(labels: Collection[str]) -> str:
    """Tasks in one sentence: the first few by name."""
    more = [f"{len(labels) - _NAMED} more"] if len(labels) > _NAMED else []
    return ", ".join([*islice(labels, _NAMED), *more])
