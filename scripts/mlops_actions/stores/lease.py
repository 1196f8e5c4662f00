"""A lease in the store: one holder of a name at a time, on whatever machine, with an owner and an expiry.

The holder renews it. One that is killed leaves it to expire; on the same machine the next one sees when the process and
all that it started are gone, and does not wait any longer. Clocks of machines are not compared: who waits takes a lease
over when it has not been renewed for its whole time, by the waiter's own clock. Every step is a create-only or
compare-and-swap write, so that of two that want the same lease one gets it.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..errors import RemoteFailed
from ..processes.group import guard
from ..processes.identity import Identity, machine
from ..waiting import Clock
from .store import Store, to_json

TERM = 30.0
"""Seconds after which a lease that nobody renews is free."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lease.

    Attributes:
        id: of this holding; two of one process differ.
        name: what a person is shown, such as a run's URL.
        host, boot: the machine; `boot` tells two lives of it, or two containers of one name, apart.
        pid: the process, for people.
        processes: number and start of the process and of its guard, which ends after all that the process started.
    """

    id: str
    name: str
    host: str
    boot: str
    pid: int
    processes: Sequence[Sequence[Any]]

    @classmethod
    def here(cls, name: str) -> Owner:
        """This process."""
        here = (Identity.of(os.getpid()), guard())
        processes = [[process.pid, process.started] for process in here]
        return cls(uuid.uuid4().hex, name, socket.gethostname(), machine(), os.getpid(), processes)

    def is_gone(self) -> bool:
        """Whether it is known to have ended, with all that it started; of another machine's nothing is known."""
        if os.name == "nt" or not self.boot or (self.host, self.boot) != (socket.gethostname(), machine()):
            return False
        return not any(Identity(pid, started).alive for pid, started in self.processes)


class Held(Exception):
    """Another process holds the lease: which one, in words."""


class Lost(Exception):
    """The lease was taken by another process, because it could not be renewed in time."""


@dataclass
class Lease:
    """A lease that is held; `check` raises when it is not any more."""

    store: Store
    path: str
    owner: Owner
    term: float
    renewed: float
    clock: Clock
    lost: str = ""

    def check(self) -> None:
        """Raise unless the lease is certainly still held.

        Raises:
            RemoteFailed: it was lost, or could not be renewed for so long that another may have it.
        """
        if self.lost or self.clock.now() - self.renewed > self.term:
            raise RemoteFailed(
                f"The lock {self.store.uri(self.path)} was lost",
                why=self.lost or f"It could not be renewed for {self.term:.0f} seconds",
                fix="Run this again: what was finished is not redone",
            )

    def renew(self) -> None:
        """Write a new expiry.

        Raises:
            Lost: another process has the lease.
        """
        began = self.clock.now()
        if not self._replace(self.owner):
            raise Lost
        self.renewed = began

    def release(self) -> None:
        """Free the lease, if it still is ours."""
        self._replace(None)

    def _replace(self, owner: Owner | None) -> bool:
        data, tag = self.store.get_tagged(self.path)
        holder, _ = _holder(data, self.term)
        ours = holder is not None and holder.id == self.owner.id
        return ours and self.store.replace(self.path, _content(owner, self.term), tag)


@contextmanager
def lease(
    store: Store,
    path: str,
    owner: str,
    waiting: Callable[[str], None],
    term: float = TERM,
    clock: Clock | None = None,
    patience: float = math.inf,
) -> Iterator[Lease]:
    """Hold the lease at a path of the store while the block runs; wait for it before.

    Args:
        store: whose writes are create-only and compare-and-swap.
        path: of the lease's object.
        owner: what another process that waits shows of this one.
        waiting: is told once for each holder that is waited for.
        term: seconds that it lasts without being renewed.
        clock: for the waiting; by default the machine's.
        patience: seconds that it is waited for.

    Raises:
        RemoteFailed: the store cannot be used.
        Held: another one still has it when the patience is over.
    """
    held = _acquire(store, path, Owner.here(owner), waiting, term, clock or Clock(), patience)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(held, ended), name="lease", daemon=True)
    renewing.start()
    try:
        yield held
    finally:
        ended.set()
        renewing.join(timeout=term)
        with suppress(RemoteFailed, FileNotFoundError):  # it expires by itself
            held.release()


def _acquire(
    store: Store,
    path: str,
    owner: Owner,
    waiting: Callable[[str], None],
    term: float,
    clock: Clock,
    patience: float,
) -> Lease:
    seen_tag, seen_at, told, until = "", clock.now(), "", clock.now() + patience
    while True:
        began = clock.now()
        if store.create(path, _content(owner, term)):
            return Lease(store, path, owner, term, began, clock)
        try:
            data, tag = store.get_tagged(path)
        except FileNotFoundError:
            continue
        holder, its_term = _holder(data, term)
        if tag != seen_tag:
            seen_tag, seen_at = tag, clock.now()
        expired = clock.now() - seen_at > its_term
        if holder is None or holder.is_gone() or expired:
            if store.replace(path, _content(owner, term), tag):
                return Lease(store, path, owner, term, began, clock)
            continue
        shown = f"{holder.name} (process {holder.pid} on {holder.host})"
        if clock.now() >= until:
            raise Held(shown)
        if holder.id != told:
            told = holder.id
            waiting(shown)
        clock.wait(min(1.0, its_term / 10))


def _renew(held: Lease, ended: threading.Event) -> None:
    """Renew three times a term, until the end; a store that does not answer is asked again."""
    while not held.clock.wait(held.term / 3, ended):
        try:
            held.renew()
        except Lost:
            held.lost = "Another process has taken it"
            return
        except Exception as error:  # a store that fails now may answer before the term is over
            if held.clock.now() - held.renewed > held.term:
                held.lost = f"It could not be renewed: {error}"
                return


def _content(owner: Owner | None, term: float) -> bytes:
    """The object: the owner and the expiry, or that it is free. A new mark each time makes its tag new."""
    content: dict[str, Any] = {"term": term, "mark": uuid.uuid4().hex, "id": ""}
    if owner:
        expires = datetime.now(timezone.utc) + timedelta(seconds=term)
        content |= {**vars(owner), "expires": expires.isoformat()}
    return to_json(content)


def _holder(data: bytes, term: float) -> tuple[Owner | None, float]:
    """Who holds it by what its object says, and for how long. One that cannot be read is taken over when it expires."""
    try:
        found = json.loads(data)
        if not found["id"]:
            return None, term
        owner = Owner(*(found[name] for name in ("id", "name", "host", "boot", "pid", "processes")))
        return owner, float(found["term"])
    except (ValueError, KeyError, TypeError):
        return Owner("unreadable", "an unknown process", "", "", 0, ()), term
