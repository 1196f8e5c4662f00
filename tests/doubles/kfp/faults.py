"""What shall go wrong: asked for by tests, as `double.fault(…)` or as JSON to `POST /doubles/faults`."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KINDS = {
    "status": "answer with `status` (and `retry_after` seconds, and `body`)",
    "html": "answer 200 with a sign-in page",
    "redirect": "answer 302 to `body`",
    "drop": "close the connection without an answer",
    "cut": "close the connection in the middle of the answer's body",
    "stall": "answer only after `seconds`",
    "trickle": "stop for `seconds` in the middle of the answer's body",
    "restart": "the server is gone for `seconds`; its state is kept",
    "clock": "the server's clock is wrong by `seconds`",
    "lag": "what tasks and runs do is shown `seconds` late",
    "token": "a bearer `token` is demanded; after `seconds` (if not 0) it is refused",
    "task": "the `task` does `outcome` instead of its work: exit (with `code`), oom, image, unschedulable, hang",
    "state": "runs (or only `run`), or tasks named `task`, are shown in the state `state` for ever ('' to end that)",
    "details": "task_details are `mode`: late by `seconds`, duplicate, nameless or absent ('' to end that)",
    "delete": "the run `run` is deleted by somebody else",
    "archive": "the run `run` is archived by somebody else",
    "terminate": "the run `run` is terminated by somebody else",
    "metadata": "ML Metadata is not at this host (`status` 404) or broken (`status` 503); 0 to end that",
}
_OUTCOMES = ("exit", "oom", "image", "unschedulable", "hang")
_MODES = ("", "late", "duplicate", "nameless", "absent")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: one of KINDS.
        path: of requests, a regular expression that is searched in `METHOD path?query`.
        body: of an answer; for `oom` and `image` with real pods, the memory limit and the image.
        times: how often; requests, or executions of a task.
    """

    kind: str
    path: str = ""
    times: int = 1
    status: int = 503
    retry_after: float = 0.0
    body: str = ""
    seconds: float = 0.0
    token: str = ""
    task: str = ""
    outcome: str = ""
    code: int = 1
    state: str = ""
    mode: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault {self.kind!r}; there are: {', '.join(KINDS)}")
        if self.kind == "task" and self.outcome not in _OUTCOMES:
            raise ValueError(f"outcome {self.outcome!r} is none of {', '.join(_OUTCOMES)}")
        if self.kind == "details" and self.mode not in _MODES:
            raise ValueError(f"mode {self.mode!r} is none of {', '.join(_MODES[1:])}")


REQUESTS = ("status", "html", "redirect", "drop", "cut", "stall", "trickle")
"""The kinds that strike requests, so many of them as `times` says."""


class Faults:
    """The faults that wait to strike."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []
        self._lock = threading.Lock()
        self.struck: list[str] = []

    def add(self, fault: Fault) -> None:
        """One more."""
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """None any more."""
        with self._lock:
            self._waiting.clear()

    def of_request(self, line: str) -> Fault | None:
        """What strikes a request, given as `METHOD path?query`."""
        return self._take(lambda f: f.kind in REQUESTS and bool(re.search(f.path, line)), line)

    def of_task(self, task: str) -> Fault | None:
        """What strikes a task that a run is going to execute."""
        return self._take(lambda f: f.kind == "task" and f.task == task, task)

    def waiting(self) -> list[dict[str, Any]]:
        """Those that have not struck yet."""
        with self._lock:
            return [{**asdict(fault), "times": left} for fault, left in self._waiting]

    def _take(self, matches: Any, what: str) -> Fault | None:
        with self._lock:
            for index, (fault, left) in enumerate(self._waiting):
                if matches(fault):
                    self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    self.struck.append(f"{fault.kind}: {what}")
                    return fault
        return None


def spoiled(spec: Mapping[str, Any], faults: Faults, waits: bool) -> tuple[dict[str, Any], dict[str, Fault]]:
    """A pipeline whose tasks do what faults ask: the spec with other programs in them, and the faults by task.

    A task gets a component and an executor of its own, so that others that share them are not struck.

    Args:
        waits: a task ends when there is a file `<task>.ended` in its folder: when its pod has.
    """
    made: dict[str, Any] = copy.deepcopy(dict(spec))
    components, executors = made.get("components", {}), made.get("deploymentSpec", {}).get("executors", {})
    struck: dict[str, Fault] = {}
    for dag in [made["root"]["dag"], *(c["dag"] for c in components.values() if "dag" in c)]:
        for name, task in dag["tasks"].items():
            component = components[task["componentRef"]["name"]]
            if "dag" in component or not (fault := faults.of_task(name)):
                continue
            own = f"{task['componentRef']['name']}-struck-{name}"
            components[own] = {**copy.deepcopy(component), "executorLabel": f"exec-{own}"}
            source = _PROGRAMS[fault.outcome].format(code=fault.code)
            wait = _WAIT.format(file=f"{name}.ended") if waits else ""
            executors[f"exec-{own}"] = {"container": program(wait + source)}
            task["componentRef"]["name"] = own
            task.get("cachingOptions", {}).pop("enableCache", None)
            struck[name] = fault
    return made, struck


def program(source: str) -> dict[str, Any]:
    """A container of a Python component that does this instead."""
    command = ["sh", "-ec", "python3 ephemeral_component.py", source]
    return {"image": "python:3.11", "command": command, "args": ["--function_to_execute", "none"]}


_WAIT = "import os, time\nwhile not os.path.exists({file!r}):\n    time.sleep(0.1)\n"
_PROGRAMS = {
    "exit": "import os\nprint('leaving with {code}', flush=True)\nos._exit({code})\n",
    "oom": "import os, signal\nprint('taking all memory', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "image": "import signal\nsignal.pause()\n",
    "unschedulable": "import signal\nsignal.pause()\n",
    "hang": "import signal\nprint('hanging', flush=True)\nsignal.pause()\n",
}
