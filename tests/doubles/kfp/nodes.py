"""Argo's nodes, as the API server shows them: their names, phases, times, pods and logs.

Every node keeps the history of its phases with their times, so what the server showed at some moment can be told for
any moment: a server that lags shows an earlier one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property, lru_cache
from typing import Any

FINAL = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
_STATES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Skipped": "SKIPPED",
           "Failed": "FAILED", "Error": "FAILED"}  # fmt: skip
"""Argo's phases as RuntimeState; `Omitted` is not among them, and such a node has no state."""
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which is the end of a node that has not ended

Json = dict[str, Any]


def timestamp(seconds: float) -> str:
    """A time as the API writes it: whole seconds, UTC."""
    return _timestamp(int(seconds))


@lru_cache(maxsize=100_000)
def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """The time that a text of the API means; 0 for none.

    Raises:
        ValueError: it is no time, or has no zone.
    """
    if not text:
        return 0.0
    found = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    if found.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return found.timestamp()


class Log:
    """The lines of a pod, which may still be growing."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self._lines = list(lines)

    def add(self, line: str) -> None:
        """One more line."""
        self._lines.append(line)

    def text(self) -> str:
        """All that there is now."""
        return "".join(f"{line}\n" for line in list(self._lines))


@dataclass(eq=False)
class Node:
    """One of Argo's nodes.

    Attributes:
        name: Argo's full name, such as `training-x7k2p(0).root(0).train(0).executor(0)`.
        history: (time, phase), oldest first.
        children: what is in it, or its attempts.
        after: what it comes after, in the DAG that it is in.
        followers: what comes after it, which Argo has among its children.
        around: the Retry node that this is the only attempt of.
        execution: the id in ML Metadata of what the launcher told the API server, for the cache.
    """

    workflow: str
    name: str
    display: str
    template: str
    kind: str
    history: list[tuple[float, str]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    after: Sequence[Node] = ()
    followers: list[Node] = field(default_factory=list)
    log: Log = field(default_factory=Log)
    around: Node | None = None
    execution: str = ""
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @cached_property
    def id(self) -> str:
        """Argo's id: the workflow's name with a hash of the node's."""
        return self.workflow if self.name == self.workflow else f"{self.workflow}-{_fnv32a(self.name)}"

    @cached_property
    def pod(self) -> str:
        """The name that its pod has in Kubernetes; the API does not tell it."""
        whole = self.name == self.workflow
        return self.workflow if whole else f"{self.workflow}-{self.template}-{_fnv32a(self.name)}"

    @property
    def phase(self) -> str:
        """The last phase."""
        return self.history[-1][1] if self.history else ""

    @property
    def final(self) -> bool:
        """Whether it has ended."""
        return self.phase in FINAL

    def enter(self, at: float, *phases: str) -> None:
        """Go through phases."""
        for phase in phases:
            self.history.append((at, phase))
            seen = phase if phase in FINAL else "Running"
            if self.around and self.around.phase != seen:
                self.around.enter(at, seen)

    def follow(self, after: Sequence[Node]) -> None:
        """Come after nodes."""
        self.after = after
        for last in (last for node in after for last in _outbound(node)):
            last.followers = [one for one in last.followers if one.name != self.name] + [self]

    def detail(self, run_id: str, created: float, at: float) -> Json | None:
        """As a PipelineTaskDetail at some moment; None when it was not there yet."""
        history = [(time, phase) for time, phase in self.history if time <= at]
        if not history:
            return None
        states = [{"update_time": timestamp(t), **_state(p)} for t, p in history]
        final = history[-1][1] in FINAL
        shown = [*(child for child in self.children if not child.after), *self.followers]
        children = [{"pod_name": child.id} for child in shown if child.history and child.history[0][0] <= at]
        made: Json = {
            "run_id": run_id,
            "task_id": self.task_id,
            "display_name": self.display,
            "create_time": timestamp(created),
            "start_time": timestamp(history[0][0]),
            "end_time": timestamp(history[-1][0]) if final else _NEVER,
            **{name: value for name, value in states[-1].items() if name == "state"},
            "state_history": states,
        }
        return {**made, "child_tasks": children} if children else made

    def published(self, run_id: str, created: float, at: float) -> Json | None:
        """What the launcher told the API server for the cache, as the API shows it: a task without name and state."""
        if not self.execution or not self.final or self.history[-1][0] > at:
            return None
        times = {"start_time": timestamp(self.history[0][0]), "end_time": timestamp(self.history[-1][0])}
        made = {"run_id": run_id, "task_id": f"{self.task_id[:-4]}0000", "create_time": times["start_time"]}
        return {**made, **times, "execution_id": self.execution}


def below(node: Node) -> Iterator[Node]:
    """A node and those under it."""
    yield node
    for child in node.children:
        yield from below(child)


def outer_of(node: Node) -> Node:
    """The node that others see: the Retry node of an attempt, else itself."""
    return node.around or node


def inner_of(node: Node) -> Node:
    """The node that has what is inside: the attempt of a Retry node, else itself."""
    return node.children[0] if node.kind == "Retry" else node


def _outbound(node: Node) -> Iterator[Node]:
    """The nodes of which Argo makes children what comes after a node (getOutboundNodes in workflow/controller)."""
    if node.kind == "Retry":
        yield from node.children[-1:]
    elif node.kind in ("DAG", "TaskGroup") and node.children:
        for child in node.children:
            if not any(child in other.after for other in node.children):
                yield from _outbound(child)
    else:
        yield node


def _state(phase: str) -> Json:
    return {"state": _STATES[phase]} if phase in _STATES else {}


def _fnv32a(text: str) -> int:
    """FNV-1a, which Argo hashes nodes' names with."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
