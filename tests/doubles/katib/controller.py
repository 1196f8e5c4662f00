"""What Katib's three controllers have in common: caches, a queue of what to look at, events."""

from __future__ import annotations

import heapq
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kubernetes.client.exceptions import ApiException

from . import conditions
from .api import DEPLOYMENT, EVENT, EXPERIMENT, JOB, SUGGESTION, TRIAL, Api, Cache, Kind, Object
from .faults import Faults
from .injection import EXPERIMENT_LABEL

Key = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True)
class Simulated:
    """What becomes of a trial that is only simulated.

    Attributes:
        metrics: the values that it reports, in their order, by metric; `*` is every one that the Experiment names.
        seconds: how long it is running.
        ends: the condition with which it ends; a trial that has no value of the objective ends as MetricsUnavailable.
    """

    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: float = 0.0
    ends: Literal["Succeeded", "Failed", "Killed"] = "Succeeded"


Simulate = Callable[[Mapping[str, str]], Simulated]


class ReconcileError(Exception):
    """An object cannot be brought further now. Katib says so in an event, and tries again later."""


class Queue:
    """Keys, each at most once, and when they are due."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._changed = threading.Condition()

    def add(self, key: Key, after: float = 0.0) -> None:
        """Look at it so many seconds from now, or earlier if that was asked before."""
        when = time.monotonic() + after
        with self._changed:
            if key not in self._due or when < self._due[key]:
                self._due[key] = when
                heapq.heappush(self._heap, (when, key))
                self._changed.notify()

    def get(self, wait: float) -> Key | None:
        """The next key that is due; None when there was none for so many seconds."""
        end = time.monotonic() + wait
        with self._changed:
            while True:
                now = time.monotonic()
                while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                    heapq.heappop(self._heap)
                if self._heap and self._heap[0][0] <= now:
                    key = heapq.heappop(self._heap)[1]
                    del self._due[key]
                    return key
                if now >= end:
                    return None
                self._changed.wait(min(end, self._heap[0][0] if self._heap else end) - now)

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self._due.clear()
            self._heap.clear()


class Context:
    """What the reconcilers work with.

    Args:
        image: with Python; the metrics collector and the algorithm's service run in it.
        simulate: what becomes of a trial; None when its pods really run.
    """

    def __init__(
        self, api: Api, namespaces: Sequence[str], faults: Faults, image: str, simulate: Simulate | None
    ) -> None:
        self.api, self.image, self.simulate, self.queue = api, image, simulate, Queue()
        self._faults = faults
        kinds = (EXPERIMENT, SUGGESTION, TRIAL) if simulate else (EXPERIMENT, SUGGESTION, TRIAL, JOB, DEPLOYMENT)
        self.caches = {(kind, space): Cache(api, kind, space, self._changed) for kind in kinds for space in namespaces}
        self.ended: dict[tuple[str, str], set[str]] = defaultdict(set)
        """Trials that ended since the controllers started, by the namespace and name of their Experiment."""

    def of(self, kind: Kind, namespace: str) -> Cache:
        """The cache of a kind."""
        return self.caches[kind, namespace]

    def faults(self, experiment: Mapping[str, Any] | None) -> Faults:
        """The faults of an Experiment."""
        return self._faults.of(experiment) if experiment else self._faults

    def trials(self, namespace: str, experiment: str) -> list[Object]:
        """The trials of an Experiment, in the order of their creation; only to be read."""
        trials = self.of(TRIAL, namespace).all()
        return [t for t in trials if (t["metadata"].get("labels") or {}).get(EXPERIMENT_LABEL) == experiment]

    def write_status(self, kind: Kind, body: Object) -> None:
        """Write an object's status if it changed.

        Raises:
            ApiException: 409 when somebody else changed the object; it is looked at again.
        """
        cache = self.of(kind, body["metadata"]["namespace"])
        known = cache.get(body["metadata"]["name"])
        if known is not None and _same(known.get("status") or {}, body["status"]):
            return
        cache.put(self.api.replace(kind, body, "status"))

    def event(self, about: Object, kind: str, reason: str, message: str, component: str) -> None:
        """An event, as `kubectl describe` shows it. There are none of simulated trials."""
        if self.simulate:
            return
        meta, moment = about["metadata"], conditions.now()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": component},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            self.api.create(EVENT, body, meta["namespace"])
        except ApiException:
            pass  # an event tells; nothing depends on it

    def _changed(self, body: Object) -> None:
        """Something came, changed or went: look at it, and at its owner."""
        meta, kind = body["metadata"], body["kind"]
        if kind in ("Experiment", "Suggestion", "Trial"):
            self.queue.add((kind, meta["namespace"], meta["name"]))
        for owner in meta.get("ownerReferences") or []:
            if owner.get("controller") and owner["apiVersion"] == "kubeflow.org/v1beta1":
                self.queue.add((owner["kind"], meta["namespace"], owner["name"]))


def owned_by(owner: Object) -> list[Object]:
    """The owner references of an object that a controller makes."""
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def set_finalizer(context: Context, kind: Kind, body: Object, name: str) -> bool:
    """Add the finalizer, or take it away when the object is being deleted; whether there was something to do."""
    meta = body["metadata"]
    finalizers = list(meta.get("finalizers") or [])
    if bool(meta.get("deletionTimestamp")) != (name in finalizers):
        return bool(meta.get("deletionTimestamp"))
    meta["finalizers"] = [f for f in finalizers if f != name] if name in finalizers else [*finalizers, name]
    context.of(kind, meta["namespace"]).put(context.api.replace(kind, body))
    return True


def _same(one: Any, other: Any) -> bool:
    """Equal, where null and an absent value are the same."""
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value
