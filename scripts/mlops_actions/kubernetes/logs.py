"""What containers write, through the API server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

from ..errors import MlopsError
from ..waiting import Backoff
from .failures import Asked, ClusterFailed, Refused
from .transport import Object, Transport

_TAIL = 100_000  # lines of a log that are read at once
_SILENCE = 60.0
"""Seconds without a line after which a followed log is asked for anew: the connection may be dead."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z ?")

_PATIENCE = 600.0
"""Seconds that a log is followed without a word from the cluster."""


def read_log(transport: Transport, asked: Asked, path: str, container: str, tail: int | None, previous: bool) -> str:
    """The last of what a container wrote; "" when there is nothing, no such container, or no such pod."""
    lines = _TAIL if tail is None else tail
    query = {"container": container, "previous": "true" if previous else "", "tailLines": lines}
    try:
        return transport.text(asked, path, query)
    except MlopsError as error:
        if _is_absent(error):
            return ""
        raise


def follow_log(
    transport: Transport, asked: Asked, path: str, container: str, running: Callable[[], bool]
) -> Iterator[str]:
    """The lines of a container, from the first to the last one, whatever happens to the connection.

    Args:
        transport: to the server.
        asked, path: of the log.
        container: which; "" if there is one.
        running: whether the container may write more.
    """
    clock, backoff = transport.clock, Backoff(first=0.2, most=5.0)
    place, heard = _Place(), transport.clock.now()
    while True:
        more = running()  # asked before the log is read: what is written between the two is read
        try:
            query = {"container": container, "follow": "true", "timestamps": "true", "sinceTime": place.second}
            response = transport.send(asked, "GET", path, query=query, stream=True, read_limit=_SILENCE)
            assert response is not None
            place.begin()
            try:
                for line in response.lines():
                    heard = clock.now()
                    backoff.succeeded()
                    text = place.take(line.decode(errors="replace"))
                    if text is not None:
                        yield text
            finally:
                response.close()
            heard = clock.now()
            if not more:
                return
        except MlopsError as error:
            if _is_absent(error):
                heard = clock.now()
                if not more:
                    return
            elif not (isinstance(error, ClusterFailed) and error.transient) or clock.now() - heard > _PATIENCE:
                raise
        clock.wait(backoff.pause())


def is_running(pod: Object, container: str) -> bool:
    """Whether a container of a pod may still write: it has not ended, or will be started again."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return False
    if (pod["spec"].get("restartPolicy") or "Always") != "Never":
        return True
    found = chain(status.get("containerStatuses") or [], status.get("initContainerStatuses") or [])
    states = [one.get("state") or {} for one in found if not container or one["name"] == container]
    return not states or any("terminated" not in state for state in states)


class _Place:
    """Where in a log we are. The server gives a log from a second on, so that some lines come again."""

    def __init__(self) -> None:
        self._stamp, self._count = "", 0  # of the last line, and how many lines had the same
        self._skipped = 0

    @property
    def second(self) -> str:
        return self._stamp and f"{self._stamp[:19]}Z"

    def begin(self) -> None:
        self._skipped = 0

    def take(self, line: str) -> str | None:
        """A line without its time; None if it was there before."""
        found = _STAMP.match(line)
        if not found:
            return line  # the server's own words
        stamp, text = f"{found[1]}.{(found[2] or '').ljust(9, '0')}", line[found.end() :]
        if stamp < self._stamp:
            return None
        if stamp == self._stamp:
            self._skipped += 1
            if self._skipped <= self._count:
                return None
            self._count += 1
        else:
            self._stamp, self._count, self._skipped = stamp, 1, 1
        return text


def _is_absent(error: MlopsError) -> bool:
    """Whether there is no log: no pod, no such container, not started, or no earlier one."""
    if isinstance(error, Refused):
        return error.status == 400
    return isinstance(error, ClusterFailed) and error.status == 404
