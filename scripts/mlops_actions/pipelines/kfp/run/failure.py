"""Why a run failed, in the consumer's terms: everything that one would otherwise look for in KFP's pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import ComponentFailed, MlopsError, RemoteFailed
from ...failing import advice_on_module, place_of
from ...spec import Pipeline
from .argo import ONLY_ERRORS
from .logs import LOG_LINES, Logs, component_lines
from .nodes import Task
from .tracking import Tracker

if TYPE_CHECKING:
    from ....kubernetes.objects import Cluster
    from ....kubernetes.pods import Trouble

_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)|[a-z_]\w*\.[\w.]+)(?:: .*)?$")
_LINE = re.compile(r'File "[^"]*ephemeral_component[^"]*", line (\d+)')
_ENDED = re.compile(r"ailed to execute (?:component|successfully): (?:exit (?:status|code) (\d+)|signal: (.+))")
_MISSING = re.compile(r"No module named '([\w.]+)'")
_KILLED = "137"
_OF_COMPONENT = ("Error", "OOMKilled")  # Kubernetes' reasons of a container that ended by its own doing

Json = Mapping[str, Any]


@dataclass(frozen=True)
class FailureReport:
    """What there is to find out from.

    Attributes:
        pipeline: as it was run.
        root: the consumer's folder.
        logs: of the run.
        cluster: the Kubernetes cluster below; None where it is not known.
        url: the run's page.
    """

    pipeline: Pipeline
    root: Path
    logs: Logs
    cluster: Callable[[], Cluster] | None
    url: str

    def error(self, tracker: Tracker) -> MlopsError:
        """Why a run that has failed did: `ComponentFailed` when a component ended by its own doing."""
        if not tracker.failed:
            why = _message(tracker.run) or "KFP does not say why"
            return RemoteFailed("The run failed, and none of its tasks did", why=why, fix=f"See {self.url}")
        task, more = tracker.failed[0], len(tracker.failed) - 1
        trouble = self._trouble(task)
        whole, unread = self.logs.end_of(task.pod, tracker.run) if task.pod else ([], [])
        lines = list(component_lines(whole or tracker.logs.get(task.label, ())))
        ended = next((found for line in reversed(whole) if (found := _ENDED.search(line))), None)
        raised = _raised(lines)
        missing = _MISSING.search(raised)
        advice = (trouble.advice if trouble else "") or advice_on_module(missing[1] if missing else "", self.root)
        cut = bool(whole) and not (trouble or ended or raised)
        reasons = [
            *self._reasons(task, trouble, raised, ended),
            self._cut(task) if cut else "",
            *self._counts(task, tracker, trouble),
        ]
        own = trouble.reason in _OF_COMPONENT if trouble else bool(ended or raised)
        what = f"The task {task.label!r} failed" if task.label != "root" else "The run failed before its first task"
        return (ComponentFailed if own else RemoteFailed)(
            what + (f", and {more} more" if more else ""),
            why=". ".join(part.rstrip(".") for part in reasons if part),
            fix=". ".join(part for part in (advice.rstrip("."), f"See {self.url}") if part),
            place=place_of(self.pipeline.file, self.root, self._source(task), _line(lines)),
            log="\n".join([*unread, *lines[-LOG_LINES:]]),
        )

    def _reasons(self, task: Task, trouble: Trouble | None, raised: str, ended: re.Match[str] | None) -> Iterator[str]:
        """What ended the task, the most telling first.

        The container's exit code is its launcher's; the component's own is in the launcher's last words.
        """
        if trouble and not (trouble.reason == "Error" and (raised or ended)):
            yield str(trouble)
        yield raised
        if ended and not (trouble and trouble.reason == "OOMKilled"):
            code, signal = ended.groups()
            limit = self._memory_limit(task)
            if signal == "killed" or code == _KILLED:
                words = f"It was killed with exit code {_KILLED}, which is what happens when memory runs out"
                yield words + (f": its limit is {limit}" if limit else "")
            else:
                yield f"It ended with exit code {code}" if code else f"It was ended by the signal: {signal}"
        yield task.message

    def _cut(self, task: Task) -> str:
        """What a log tells that ends without a word of the launcher about the end."""
        limit = self._memory_limit(task)
        words = "Its log ends without a reason: it was killed, as it is when memory runs out or its node is taken away"
        return words + (f"; its memory limit is {limit}" if limit else "")

    def _counts(self, task: Task, tracker: Tracker, trouble: Trouble | None) -> Iterator[str]:
        """How it went, and what was seen meanwhile."""
        if not task.message and tracker.run.get("error"):
            yield _message(tracker.run)
        if task.failed_pods:
            yield f"Attempts: {len(task.failed_pods) + 1}"
        elif task.retries:
            yield f"KFP made one attempt, though `set_retry` allows {task.retries} more: {ONLY_ERRORS}"
        yield f"The run was tried {tracker.attempts} times" if tracker.attempts > 1 else ""
        yield f"States: {', '.join(task.history)}" if task.history else ""
        if warned := [text for text in tracker.warned() if not (trouble and text.endswith(str(trouble).rstrip(".")))]:
            yield f"Seen meanwhile: {'; '.join(warned)}"

    def _trouble(self, task: Task) -> Trouble | None:
        try:
            pod = self.logs.pod(task.pod) if task.pod else None
            if not (pod and self.cluster):
                return None
            from ....kubernetes.pods import explain

            return explain(self.cluster(), pod)
        except MlopsError:
            return None

    def _source(self, task: Task) -> str:
        command = self.pipeline.executors.get(task.executor, {}).get("container", {}).get("command", [])
        return str(command[-1]) if command and "ephemeral_component.py" in " ".join(command[:-1]) else ""

    def _memory_limit(self, task: Task) -> str:
        resources = self.pipeline.executors.get(task.executor, {}).get("container", {}).get("resources", {})
        return str(resources.get("resourceMemoryLimit") or resources.get("memoryLimit") or "")


def _raised(lines: Sequence[str]) -> str:
    """The exception that ended a log, with its message's first line; "" when there is none."""
    return next((line.strip() for line in _traceback(lines) if _EXCEPTION.match(line)), "")


def _line(lines: Sequence[str]) -> int | None:
    """The component's line in the last traceback."""
    found = [int(found[1]) for line in _traceback(lines) if (found := _LINE.search(line))]
    return found[-1] if found else None


def _traceback(lines: Sequence[str]) -> Sequence[str]:
    """What follows the last time that a traceback begins; nothing when none does."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return lines[starts[-1] + 1 :] if starts else ()


def _message(run: Json) -> str:
    history = [entry.get("error") for entry in run.get("state_history") or []]
    errors = [run.get("error"), *reversed(history)]
    return next((str(error["message"]) for error in errors if error and error.get("message")), "")
