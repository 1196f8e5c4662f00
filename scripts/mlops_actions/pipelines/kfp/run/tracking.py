"""What is known of a run: fed with what the API shows, it tells each transition once.

Snapshots may lag behind one another, leave out tasks or have them twice, and know states that are not known here. So
a task that has ended stays ended, a run that has ended stays ended, and only what is known to be an end is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine import RunProgress, State, TaskResult
from .argo import hash_in
from .logs import LOG_LINES
from .nodes import Task, tasks_of
from .runs import FINAL

_AT_WORK = ("", "RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING")
_SAID = {
    "CANCELING": "The run is being cancelled",
    "PAUSED": "The run is paused in KFP: it goes on when it is resumed there",
}

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Warned:
    """What was wrong with a task's pod, with the task's label, and what to do about it."""

    text: str
    advice: str = ""


class Tracker:
    """One run.

    Args:
        spec: the PipelineSpec that it runs.
        progress: who is told.
        platforms: the pipeline's settings for platforms.

    Attributes:
        state: of the run, as KFP has it.
        run: as KFP showed it last.
        tasks: by label, each task as it was seen last.
        running: by label, when it was first seen to run; by the caller's clock.
        logs: by label, the last lines of those that run or have failed.
        attempts: how often the run was begun: one more than it was retried.
        warnings: what was wrong last with the pods of a task, by its label.
    """

    def __init__(self, spec: Json, progress: RunProgress, platforms: Json | None = None) -> None:
        self._spec, self._progress, self._platforms = spec, progress, platforms
        self.state, self._canceling = "", False
        self.run: Json = {}
        self.tasks: dict[str, Task] = {}
        self.running: dict[str, float] = {}
        self.logs: dict[str, deque[str]] = {}
        self.attempts = 1
        self.warnings: dict[str, Warned] = {}
        self._told: dict[str, State] = {}
        self._tried: dict[str, int] = {}
        self._said: set[str] = set()

    @property
    def ended(self) -> bool:
        """Whether the run has."""
        return self.state in FINAL

    @property
    def terminated(self) -> bool:
        """Whether somebody ended the run. KFP then shows CANCELING, and FAILED in the end."""
        states = [entry.get("state") for entry in self.run.get("state_history") or []]
        before = next((state for state in reversed(states) if state not in FINAL), "")
        return self.state == "CANCELED" or (self.state == "FAILED" and (before == "CANCELING" or self._canceling))

    @property
    def failed_known(self) -> bool:
        """Whether a task is known to have failed."""
        return any(task.state == "failed" for task in self.tasks.values())

    @property
    def failed(self) -> list[Task]:
        """The tasks that have failed, the first one first; of a run that failed, else those that were at work."""
        failed = [task for task in self.tasks.values() if task.state == "failed"]
        if not failed and self.state == "FAILED":
            failed = [task for task in self.tasks.values() if task.state == "running"]
        return sorted(failed, key=lambda task: (task.ended or float("inf"), task.label))

    def done(self) -> list[str]:
        """The tasks whose work is done."""
        return [label for label, state in self._told.items() if state in ("succeeded", "reused")]

    def results(self) -> Iterator[TaskResult]:
        """How each task has ended, in the order that it was told."""
        for label, state in self._told.items():
            yield TaskResult(label, state, self.tasks[label].seconds if label in self.tasks else 0.0)

    def seen(self, run: Json) -> list[Task]:
        """The tasks that a snapshot shows."""
        return tasks_of(self._spec, (run.get("run_details") or {}).get("task_details") or [], self._platforms)

    def feed(self, run: Json, now: float, tasks: Sequence[Task] | None = None) -> bool:
        """Take in a snapshot, and tell what is new; whether anything is.

        Args:
            run: as the API shows it.
            now: the caller's clock.
            tasks: the run's, where they are known from elsewhere.
        """
        before = (self.state, len(self._told), len(self.running), dict(self._tried))
        self.run = run
        if not self.ended:
            self._enter(str(run.get("state") or ""))
        for task in self.seen(run) if tasks is None else tasks:
            self._task(task, now)
        return before != (self.state, len(self._told), len(self.running), self._tried)

    def logged(self, label: str, line: str) -> None:
        """A task printed a line."""
        self.logs.setdefault(label, deque(maxlen=LOG_LINES)).append(line)
        self._progress.logged(label, line)

    def warn(self, label: str, text: str, advice: str = "") -> None:
        """Something is wrong with a pod of a task."""
        found = self.warnings[label] = Warned(f"{label}: {text.rstrip('.')}", advice)
        self._progress.warning(f"{found.text}. {advice}".rstrip(". "))

    def warned(self) -> list[str]:
        """What was wrong with pods last."""
        return [warning.text for warning in self.warnings.values()]

    def settle(self, result: TaskResult) -> None:
        """A task has ended as the run's results say, if that was not seen before."""
        if result.task not in self._told:
            self._end(result)

    def retried(self) -> None:
        """The run goes on: what had not succeeded may run again."""
        self.attempts += 1
        self.state, self._canceling = "", False
        self.warnings.clear()
        self.running.clear()
        for label in [label for label, state in self._told.items() if state not in ("succeeded", "reused")]:
            del self._told[label]
            self.tasks.pop(label, None)
            self.logs.pop(label, None)
            self._tried.pop(label, None)

    def of_pod(self, pod: str) -> str:
        """The label of the task that a pod works on; the pod's name when that is not known."""
        number = hash_in(pod)
        tasks = self.tasks.items()
        return next((label for label, t in tasks if number in map(hash_in, (t.pod, *t.failed_pods))), pod)

    def _enter(self, state: str) -> None:
        if state in FINAL or state in _AT_WORK:
            self.state = state
            return
        self.state = state
        self._canceling = self._canceling or state == "CANCELING"
        if state not in self._said:
            self._said.add(state)
            known = _SAID.get(state, f"The run is in an unknown state, {state!r}; still waiting")
            self._progress.note(known)

    def _task(self, task: Task, now: float) -> None:
        label = task.label
        if label in self._told:
            return
        self.tasks[label] = task
        tried = len(task.failed_pods)
        if tried > self._tried.get(label, 0) and task.state in ("running", "succeeded"):
            self._tried[label] = tried
            self._progress.note(
                f"{label}: attempt {tried} failed; {'retrying' if task.state == 'running' else 'retried'}"
            )
        if task.state == "waiting":
            return
        if label not in self.running and task.state in ("running", "succeeded", "failed"):
            self.running[label] = now
            self._progress.started(label)
        if task.state != "running":
            self._end(TaskResult(label, task.state, task.seconds))

    def _end(self, result: TaskResult) -> None:
        self.running.pop(result.task, None)
        if result.state != "failed":
            self.logs.pop(result.task, None)
        self._told[result.task] = result.state
        self._progress.ended(result)
