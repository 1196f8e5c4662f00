"""What wakes the watcher between two questions, and what is told meanwhile: tasks' logs, and pods in Kubernetes.

Each source is a thread that reads one long answer and puts what it finds in a queue.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...errors import MlopsError
from ...waiting import Backoff, Clock
from .client.api import ApiError, KfpApi

if TYPE_CHECKING:
    from ...kubernetes.objects import Cluster

MOST = 4
"""Logs that are followed at a time."""
_ATTEMPTS = 4  # at opening one
_TRIED = 2  # logs after which a reader that could open none is not asked any more
_LAUNCHER = re.compile(r"I\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.go:\d+\] ")


Kind = Literal["line", "end", "unread", "pod", "trouble", "broken"]


@dataclass(frozen=True)
class Found:
    """What a source has found.

    Attributes:
        kind: a line of a log; its end, which is its pod's; a log that cannot be read; a change of a pod; a pod's
            trouble; a source that is of no use.
        pod: which.
        text: the line, the trouble, or what is wrong with the source.
    """

    kind: Kind
    pod: str = ""
    text: str = ""


def log_path(run_id: str, pod: str) -> str:
    """Where KFP's log reader has a pod's log (backend/src/apiserver/main.go)."""
    return f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"


def telling(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a pod's log that its component printed, without those of KFP's launcher."""
    return (line for line in lines if not _LAUNCHER.match(line))


class Sources:
    """The sources of one run.

    Args:
        api: of KFP; its log reader is asked.
        run_id: KFP's.
        clock: for pauses.
        cluster: the Kubernetes cluster below; None where it is not known.

    Attributes:
        wake: is set when something was found.
        opened: how many logs were asked for.
    """

    def __init__(self, api: KfpApi, run_id: str, clock: Clock, cluster: Callable[[], Cluster] | None) -> None:
        self._api, self._run_id, self._clock = api, run_id, clock
        self._queue: queue.SimpleQueue[Found] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._open: dict[str, threading.Thread] = {}
        self._closed: set[str] = set()
        self._readable = False
        self.wake = threading.Event()
        self.opened = 0
        if cluster:
            self._start(self._watch, cluster)

    def follow(self, pods: Iterable[str], most: int = MOST) -> None:
        """Follow the logs of these pods, a few at a time; none when the log reader has proved of no use.

        Args:
            pods: that are at work.
            most: how many may be begun now.
        """
        new = [pod for pod in pods if pod and pod not in self._open and pod not in self._closed]
        if self._readable or len(self._closed) < _TRIED:
            for pod in new[: max(0, min(most, MOST - len(self._open)))]:
                self._open[pod] = self._start(self._read, pod)

    def drain(self) -> Iterator[Found]:
        """What was found since."""
        self.wake.clear()
        while True:
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                return
            if found.kind in ("end", "unread"):
                self._open.pop(found.pod, None)
                self._closed.add(found.pod)
            yield found

    def stop(self, patience: float = 0.0) -> None:
        """Read no more, after the logs that end within so many seconds."""
        until = self._clock.now() + patience
        for thread in list(self._open.values()):
            thread.join(max(0.0, until - self._clock.now()))
        self._stop.set()

    def _start(self, work: Callable[..., None], argument: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=(argument,), daemon=True)
        thread.start()
        return thread

    def _tell(self, kind: Kind, pod: str = "", text: str = "") -> None:
        if not self._stop.is_set():
            self._queue.put(Found(kind, pod, text))
            self.wake.set()

    def _read(self, pod: str) -> None:
        """Follow a pod's log to its end. What was told before the connection broke is not told again."""
        told, backoff = 0, Backoff(first=1.0, most=15.0)
        while backoff.failures < _ATTEMPTS:
            self.opened += 1
            try:
                for number, line in enumerate(telling(self._api.stream(log_path(self._run_id, pod), follow=True))):
                    backoff.succeeded()  # one that is silent for long is cut, and opened again
                    if number >= told:
                        told = number + 1
                        self._tell("line", pod, line)
                    if self._stop.is_set():
                        return
                self._readable = True
                self._tell("end", pod)
                return
            except ApiError:
                self._readable = self._readable or told > 0
                if self._clock.wait(backoff.pause(), self._stop):
                    return
            except MlopsError:
                break
        self._tell("unread", pod)

    def _watch(self, connect: Callable[[], Cluster]) -> None:
        """Watch the run's pods: a phase that changes, and what keeps one from running."""
        try:
            from ...kubernetes.objects import POD
            from ...kubernetes.pods import explain

            phases: dict[str, str] = {}
            said: set[tuple[str, str]] = set()
            cluster = connect()
            for change in cluster.watch(POD, labels=f"pipeline/runid={self._run_id}"):
                if self._stop.is_set():
                    return
                if change is None or change.type == "DELETED":
                    continue
                name, phase = change.object["metadata"]["name"], change.object.get("status", {}).get("phase", "")
                if phases.get(name) != phase:
                    phases[name] = phase
                    self._tell("pod", name, phase)
                trouble = None if phase in ("Succeeded", "Running") else explain(cluster, change.object)
                if trouble and (name, trouble.reason) not in said:
                    said.add((name, trouble.reason))
                    self._tell("trouble", name, f"{trouble}" + (f". {trouble.advice}" if trouble.advice else ""))
        except MlopsError as error:
            self._tell("broken", text=str(error))
