"""What happens to objects, told once each: a list, then a watch from its resource version, for as long as it takes.

Concepts: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..http.client import Response
from ..waiting import Backoff
from .failures import Asked, ClusterFailed, reported
from .transport import Object, Transport

PATIENCE = 600.0
"""Seconds that a watch goes on without a word from the cluster."""

_ROUND = 25
"""Seconds after which the server ends a watch, with a bookmark before: none is idle for longer than that."""

_SILENCE = 30.0
"""Seconds without a byte that show a dead connection: a little more than a round."""

_GRACE = 30.0
"""Seconds that a server may deny what it allowed before: one that starts knows no roles or custom kinds yet."""

_TICK = 1.0
_PAGE = 500
_AHEAD = 1000
"""Changes that are read before the caller has taken those before them."""


@dataclass(frozen=True)
class Change:
    """Something that happened to an object.

    Attributes:
        type: what.
        object: how it is now. One that was deleted while the connection was down has only `apiVersion`, `kind` and,
            of its `metadata`, name, namespace, uid and labels.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


@dataclass(frozen=True)
class Page:
    """A part of a list; `version` is the resource version of the whole, `first` whether the list begins (anew) here."""

    objects: list[Object]
    version: str
    first: bool


def pages(ask: Callable[[Mapping[str, object]], Object]) -> Iterator[Page]:
    """All pages of a list. A list whose pages the server has forgotten meanwhile begins anew, and comes in one.

    Args:
        ask: sends the request with some more query parameters.
    """
    query: dict[str, object] = {"limit": _PAGE}
    while True:
        try:
            listed = ask(query)
        except ClusterFailed as error:
            if error.status != 410 or "continue" not in query:
                raise
            query = {}
            continue
        about = listed.get("metadata") or {}
        yield Page(listed.get("items") or [], str(about.get("resourceVersion") or ""), "continue" not in query)
        if not about.get("continue"):
            return
        query["continue"] = about["continue"]


@dataclass(frozen=True)
class _Known:
    """What was told last of an object."""

    version: str
    uid: str
    labels: Mapping[str, str] | None

    @classmethod
    def of(cls, item: Object) -> _Known:
        about = item["metadata"]
        return cls(about["resourceVersion"], about["uid"], about.get("labels"))


class Watch:
    """One watch, read by a thread of its own, so that its caller can always look at the clock.

    Args:
        transport: to the server.
        asked: for messages.
        path: of the collection.
        selectors: `labelSelector` and `fieldSelector`.
        whole: completes an object of a list.
        known: objects that the caller has seen already: told when they are gone, or are not as they were.
    """

    def __init__(
        self,
        transport: Transport,
        asked: Asked,
        path: str,
        selectors: Mapping[str, str],
        whole: Callable[[Object], Object],
        known: Sequence[Object] = (),
    ) -> None:
        self._transport, self._clock = transport, transport.clock
        self._asked, self._path, self._selectors, self._whole = asked, path, selectors, whole
        self._known = {_key(item): _Known.of(item) for item in known}
        self._version = ""  # "" when the list must be read
        self._forgotten = False  # whether the server has said so of the last version, and nothing else since
        self._heard, self._accepted = self._clock.now(), False  # when there was a response last, and whether ever
        self._read: deque[Change | BaseException] = deque()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._response: Response | None = None

    def changes(self, until: float | None) -> Generator[Change | None, None, None]:
        """What happens, and None about every second in which nothing does."""
        threading.Thread(target=self._run, name=f"watch {self._path}", daemon=True).start()
        try:
            while until is None or self._clock.now() < until:
                if self._read:
                    change = self._read.popleft()
                    if isinstance(change, BaseException):
                        raise change
                    yield change
                    continue
                self._wake.clear()
                tick = _TICK if until is None else min(_TICK, until - self._clock.now())
                if not self._read and not self._clock.wait(tick, self._wake):
                    yield None
        finally:
            self._stop.set()
            if (response := self._response) is not None:
                response.interrupt()  # wakes the thread that reads it

    def _run(self) -> None:
        backoff = Backoff(first=0.2, most=10.0)
        try:
            while not self._stop.is_set():
                pause = self._round(backoff)
                if pause:
                    self._clock.wait(pause, self._stop)
        except BaseException as error:
            self._tell(error)

    def _round(self, backoff: Backoff) -> float:
        """List if need be, and read one watch to its end. Returns seconds to wait before the next."""
        began, told = self._clock.now(), False
        try:
            if not self._version:
                self._list()
            for line in self._lines():
                self._heard, told = self._clock.now(), True
                self._event(line)
        except ClusterFailed as error:
            if self._stop.is_set():
                return 0.0
            lost = self._clock.now() - self._heard
            if error.status in (410, 504):  # it has forgotten that version, or is behind it
                self._version = ""
                if not self._forgotten:
                    self._forgotten = True
                    return 0.0
            elif not error.transient and not (self._accepted and error.status in (401, 403, 404) and lost < _GRACE):
                raise
            if lost > PATIENCE:
                raise
            return max(error.retry_after, backoff.pause())
        if told or self._clock.now() - began > _TICK:
            backoff.succeeded()
            return 0.0
        return backoff.pause()

    def _list(self) -> None:
        asked = replace(self._asked, verb="list")
        there: set[tuple[str, str]] = set()

        def ask(query: Mapping[str, object]) -> Object:
            response = self._transport.send(asked, "GET", self._path, query={**self._selectors, **query})
            assert response is not None
            return self._transport.json(asked, response)

        for page in pages(ask):
            self._heard = self._clock.now()
            if page.first:
                there = set()
            for item in page.objects:
                there.add(_key(item))
                self._found(self._whole(item))
        for key in [key for key in self._known if key not in there]:
            self._gone(key)
        self._version, self._accepted = page.version, True

    def _lines(self) -> Iterator[bytes]:
        query = {
            **self._selectors,
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _ROUND,
        }
        response = self._transport.send(self._asked, "GET", self._path, query=query, stream=True, read_limit=_SILENCE)
        assert response is not None
        self._response, self._heard = response, self._clock.now()
        try:
            yield from response.lines()
        finally:
            self._response = None
            response.close()

    def _event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, item = event["type"], event["object"]
        except (ValueError, KeyError, TypeError):
            return  # a line that was cut: the next watch begins before it
        if kind == "ERROR":
            raise reported(self._transport.server, self._asked, int(item.get("code") or 500), json.dumps(item).encode())
        self._forgotten = False
        if kind == "DELETED":
            if self._known.pop(_key(item), None):
                self._tell(Change("DELETED", item))
        elif kind != "BOOKMARK":
            self._found(item)
        self._version = item["metadata"]["resourceVersion"]

    def _found(self, item: Object) -> None:
        """Tell of an object, if it is not as it was told before."""
        about, key = item["metadata"], _key(item)
        known = self._known.get(key)
        if known and known.uid != about["uid"]:
            self._gone(key)
            known = None
        if known and known.version == about["resourceVersion"]:
            return
        self._known[key] = _Known.of(item)
        self._tell(Change("MODIFIED" if known else "ADDED", item))

    def _gone(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key)
        about = {"namespace": key[0], "name": key[1], "uid": known.uid, "labels": dict(known.labels or {})}
        self._tell(Change("DELETED", self._whole({"metadata": about})))

    def _tell(self, change: Change | BaseException) -> None:
        while len(self._read) > _AHEAD and not self._stop.is_set():
            self._clock.wait(0.05, self._stop)
        self._read.append(change)
        self._wake.set()


def _key(item: Object) -> tuple[str, str]:
    about = item["metadata"]
    return str(about.get("namespace") or ""), str(about["name"])
