"""Several watches as one stream of changes, so that one thread can follow an Experiment, its Trials and their pods."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType

from ...kubernetes.objects import Cluster, Kind, Object
from ...kubernetes.watching import Change
from ...waiting import Clock


@dataclass(frozen=True)
class Selection:
    """What is watched of a kind: an object from what is known of it on, or those with labels."""

    known: Object | None = None
    labels: str = ""


class Feed:
    """Changes of several kinds in the order in which they come, each watched by a thread of its own.

    Args:
        cluster: whose.
        kinds: what is watched.
        clock: to wait with.
    """

    def __init__(self, cluster: Cluster, kinds: Mapping[Kind, Selection], clock: Clock) -> None:
        self._cluster, self._kinds, self._clock = cluster, kinds, clock
        self._changes: deque[tuple[Kind, Change]] = deque()
        self._error: BaseException | None = None
        self._news, self._stopped = threading.Event(), threading.Event()

    def __enter__(self) -> Feed:
        for kind, selection in self._kinds.items():
            threading.Thread(target=self._follow, args=(kind, selection), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def next(self, seconds: float) -> Iterator[tuple[Kind, Change]]:
        """What has come, or comes within so many seconds.

        Raises:
            RemoteFailed: a watch cannot go on.
        """
        self._clock.wait(seconds, self._news)
        self._news.clear()
        while self._changes:
            yield self._changes.popleft()
        if self._error:
            raise self._error

    def _follow(self, kind: Kind, selection: Selection) -> None:
        try:
            known = [selection.known] if selection.known else []
            name = known[0]["metadata"]["name"] if known else ""
            with closing(self._cluster.watch(kind, name=name, labels=selection.labels, known=known)) as changes:
                for change in changes:
                    if self._stopped.is_set():
                        return
                    if change is not None:
                        self._changes.append((kind, change))
                        self._news.set()
        except BaseException as error:
            self._error = error
            self._news.set()
