"""What is told of a run between two questions to the API: its tasks' logs, and its pods in Kubernetes.

Each log, and the cluster, is read by a thread of its own, which puts what it finds in a queue.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ....errors import MlopsError, RemoteFailed
from ....waiting import Backoff, Clock
from .argo import NODE_NAME, RUN_LABEL, label_of
from .logs import Logs, component_lines

if TYPE_CHECKING:
    from ....kubernetes.objects import Cluster

MOST = 4
"""Logs that are followed at a time."""
FIRST, SLOWEST = 5.0, 30.0
"""Seconds between two readings of a log that cannot be followed: at first, and when it is silent."""
_TRIED = 2  # logs after which readers that could open none are no longer asked
_LOOKING = 3.0  # seconds between two questions for the run's namespace
_UNKNOWN = 90.0  # seconds after which it is taken for unknown

Kind = Literal["line", "end", "unread", "pod", "trouble", "broken"]


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        kind: a line of a log; its end, which is its pod's; a log that cannot be read; a change of a pod; a pod's
            trouble; why the pods cannot be watched.
        pod: which.
        text: the line, the trouble, or why.
        advice: what to do about a trouble; "" where that is not known.
        task: the label of the pod's task, where the pod tells it.
        unpulled: whether the trouble is an image that the pod's node cannot get.
    """

    kind: Kind
    pod: str = ""
    text: str = ""
    task: str = ""
    advice: str = ""
    unpulled: bool = False


class LogFollower:
    """Follows the logs and the pods of one run.

    Args:
        logs: of the run.
        run_id: KFP's.
        clock: for pauses.
        cluster: the Kubernetes cluster below; None where it is not known.
        namespace: of the run's pods; "" while it is unknown.

    Attributes:
        wake: is set when something was found.
    """

    def __init__(
        self,
        logs: Logs,
        run_id: str,
        clock: Clock,
        cluster: Callable[[], Cluster] | None = None,
        namespace: Callable[[], str] = lambda: "",
    ) -> None:
        self._logs, self._run_id, self._clock, self._cluster = logs, run_id, clock, cluster
        self._namespace = namespace
        self._queue: queue.SimpleQueue[Found] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._open: dict[str, tuple[threading.Thread, threading.Event]] = {}  # and what says that the task has ended
        self._closed: set[str] = set()
        self._readable = False
        self.wake = threading.Event()
        if cluster:
            threading.Thread(target=self._watch, args=(cluster,), daemon=True).start()

    def follow(self, pods: Iterable[str]) -> None:
        """Follow the logs of these pods and of no others, a few at a time; none when they have proved unreadable."""
        wanted = [pod for pod in pods if pod]
        for pod, (_, ended) in self._open.items():
            if pod not in wanted:
                ended.set()
        new = [pod for pod in wanted if pod not in self._open and pod not in self._closed]
        if self._readable or len(self._closed) < _TRIED:
            for pod in new[: MOST - len(self._open)]:
                ended = threading.Event()
                thread = threading.Thread(target=self._read, args=(pod, ended), daemon=True)
                self._open[pod] = thread, ended
                thread.start()

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
        """Read no more, after the ends of the logs, which may take so many seconds."""
        self.follow([])
        until = self._clock.now() + patience
        for thread, _ in list(self._open.values()):
            thread.join(max(0.0, until - self._clock.now()))
        self._stop.set()

    def _tell(self, kind: Kind, pod: str = "", text: str = "", task: str = "") -> None:
        self._put(Found(kind, pod, text, task))

    def _put(self, found: Found) -> None:
        if not self._stop.is_set():
            self._queue.put(found)
            self.wake.set()

    def _read(self, pod: str, ended: threading.Event) -> None:
        """Tell the lines of a pod's log to its end, each once."""
        try:
            if self._cluster and self._namespace() and (found := self._logs.pod(pod)):
                about = found["metadata"]
                lines = self._cluster().follow(about["name"], container="main", namespace=about["namespace"])
                for line in component_lines(lines):
                    self._tell("line", pod, line)
                    if self._stop.is_set():
                        return
                self._readable = True
                self._tell("end", pod)
                return
        except MlopsError:
            pass  # KFP may have it
        told, backoff = 0, Backoff(FIRST, SLOWEST)
        while True:
            over, new = ended.is_set(), False  # asked before: what is written meanwhile is read
            for read in (self._logs.of_ui, self._logs.of_api):
                try:
                    for number, line in enumerate(component_lines(read(pod))):
                        if number >= told:
                            told, new, self._readable = number + 1, True, True
                            self._tell("line", pod, line)
                        if self._stop.is_set():
                            return
                    break
                except MlopsError:
                    continue
            if over:
                self._tell("end" if told else "unread", pod)
                return
            if new:
                backoff.succeeded()
            self._clock.wait(backoff.pause(), ended)

    def _watch(self, connect: Callable[[], Cluster]) -> None:
        """Watch the run's pods: a phase that changes, and what keeps one from running."""
        try:
            from ....kubernetes.objects import POD
            from ....kubernetes.pods import UNPULLED, explain

            until = self._clock.now() + _UNKNOWN
            while not (namespace := self._namespace()):
                if self._clock.now() >= until:
                    raise RemoteFailed("the namespace of the run is unknown", fix="Set `namespace` to it")
                if self._clock.wait(_LOOKING, self._stop):
                    return
            phases: dict[str, str] = {}
            said: set[tuple[str, str]] = set()
            cluster = connect()
            for change in cluster.watch(POD, labels=f"{RUN_LABEL}={self._run_id}", namespace=namespace):
                if self._stop.is_set():
                    return
                if change is None or change.type == "DELETED":
                    continue
                about, phase = change.object["metadata"], change.object.get("status", {}).get("phase", "")
                name, task = about["name"], label_of((about.get("annotations") or {}).get(NODE_NAME, ""))
                if phases.get(name) != phase:
                    phases[name] = phase
                    self._tell("pod", name, phase, task)
                trouble = None if phase in ("Succeeded", "Running") else explain(cluster, change.object)
                if trouble and trouble.reason != "Error" and (name, trouble.message) not in said:
                    said.add((name, trouble.message))  # which has several reasons in turn
                    self._put(Found("trouble", name, str(trouble), task, trouble.advice, trouble.reason in UNPULLED))
        except MlopsError as error:
            self._tell("broken", text=str(error))
