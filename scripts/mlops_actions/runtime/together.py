"""The whole chain on this machine: its parts in their order, each in a process and an environment of its own.

The order is that of the jobs of `mlops.yml`; what runs is decided by `planning`, as there.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import environments
from ..inputs import kebab
from ..processes.group import Group
from ..untrusted import printed_lines
from . import chain

AFTER: Mapping[str, tuple[str, ...]] = {
    "validate-data": (),
    "materialize-features": ("validate-data",),
    "build-image": (),
    "tune-hyperparams": ("materialize-features", "build-image"),
    "run-pipeline": ("tune-hyperparams",),
    "evaluate-model": ("run-pipeline",),
    "test-model": ("evaluate-model",),
    "register-model": ("test-model",),
    "deploy-model": ("register-model",),
    "monitor-model": ("deploy-model",),
}
"""Each action with those that come before it; what does not run stands in nobody's way."""
LAST = "report"
"""The action that comes when all others have ended, however they did."""
_GRACE = 30.0  # seconds that a cancelled action has to end what it started elsewhere
_AT_ONCE = 2
_PROGRAM = Path(__file__).resolve().parents[1]


@dataclass
class Part:
    """One action in one run of the chain.

    Attributes:
        action: its name.
        variant: of several parts with one action: the test environment, or the environment that it deploys to.
        options: what it is given, by the names of inputs in kebab-case.
        environment: the section of the configuration; "" for none.
        state: how far it is.
        began, seconds: when it began by the monotonic clock, and how long it took.
        code: its exit code; None while it has none.
        record: what it gave, found and was given, as JSON; {} if it ended without one.
        log: the lines that it printed.
        why: of a part that a dry run found stale, the reason.
    """

    action: str
    variant: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    state: str = "waiting"  # running, done, failed, left, stale
    began: float = 0.0
    seconds: float = 0.0
    code: int | None = None
    record: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def name(self) -> str:
        """What it is called where it is shown."""
        return f"{self.action} ({self.variant})" if self.variant else self.action


def parts_of(plan: Mapping[str, Any], given: Mapping[str, str]) -> list[Part]:
    """The parts of a chain, in their order.

    Args:
        plan: the outputs of `plan`, by their names in kebab-case.
        given: values for the inputs of every action that has them, by field name.
    """
    parts: list[Part] = []
    several = {"test-model": plan["test-matrix"], "deploy-model": plan["deploy-matrix"]}
    for action in AFTER:
        if not plan["run-pipeline" if action == "evaluate-model" else action]:
            continue
        legs = several.get(action, {"include": [{}]})["include"]
        for one in legs:
            variant = one.get("name", "") if len(legs) > 1 else ""
            own = {"variant": one["name"]} if action == "test-model" else {}
            known = chain.load(action).inputs.model_fields
            options = {kebab(name): value for name, value in given.items() if name in known} | own
            parts.append(Part(action, variant, options, one.get("environment", plan["environment"])))
    return [*parts, Part(LAST, environment=plan["environment"])]


def before(action: str) -> set[str]:
    """All actions that come before one."""
    found = set(AFTER[action])
    return found.union(*(before(one) for one in AFTER[action]))


class Chain:
    """Runs parts, up to two at a time, as soon as those before them have ended well.

    Args:
        parts: what to run; parts of one action one after the other.
        folder: the consumer's.
        environ: variables for all of them.
        cache: the folder of the environments.
        logs: a folder for a log a part.
        said: is told each line that a part prints.
        dry: find out what would be done, and do nothing.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        folder: Path,
        environ: Mapping[str, str],
        cache: Path,
        logs: Path,
        said: Callable[[Part, str], None],
        *,
        dry: bool = False,
    ) -> None:
        self.parts, self._dry = list(parts), dry
        self._folder, self._environ, self._cache, self._logs, self._said = folder, environ, cache, logs, said
        self._groups: dict[int, Group] = {}
        self._threads: list[threading.Thread] = []

    def run(self, wait: Callable[[], None]) -> None:
        """Run all of it.

        Args:
            wait: called again and again while something runs, for what is shown; it waits a moment.
        """
        try:
            while any(part.state in ("waiting", "running") for part in self.parts):
                for part in self._ready():
                    part.state, part.began = "running", time.monotonic()
                    thread = threading.Thread(target=self._run, args=(part,), daemon=True)
                    self._threads.append(thread)
                    thread.start()
                wait()
        finally:
            self._end()

    def _ready(self) -> Iterator[Part]:
        running = [part for part in self.parts if part.state == "running"]
        for part in self.parts:
            if part.state != "waiting":
                continue
            if part.action == LAST:
                if all(one is part or one.state not in ("waiting", "running") for one in self.parts):
                    yield part
                continue
            earlier = [one for one in self.parts if one.action in before(part.action)]
            stale = [one.name for one in earlier if one.state == "stale"]
            if stale:
                part.state, part.why = "stale", f"After {stale[-1]}"
            elif any(one.state in ("failed", "left") for one in [*earlier, *self._same(part)]):
                part.state = "left"
            elif self._dry and not chain.load(part.action).once:
                part.state, part.why = "stale", "It is done each time"
            elif all(one.state == "done" for one in [*earlier, *self._same(part)]) and len(running) < _AT_ONCE:
                running.append(part)
                yield part

    def _same(self, part: Part) -> list[Part]:
        """The parts of the same action that come before it."""
        return [one for one in self.parts[: self.parts.index(part)] if one.action == part.action]

    def _run(self, part: Part) -> None:
        try:
            part.code = self._process(part)
        except (environments.EnvironmentFailed, OSError) as error:
            part.code = getattr(error, "exit_code", 3)
            self._line(part, f"error: {error}")
        part.seconds = time.monotonic() - part.began
        part.state = "failed" if part.code else "done" if part.record or not self._dry else "stale"

    def _process(self, part: Part) -> int:
        action = chain.load(part.action)
        python = environments.ensure(action.group, self._cache, say=lambda text: self._line(part, text)).python
        options = [f"--{name}={value}" for name, value in part.options.items()]
        environ = {**self._environ, "MLOPS_WORKING_DIRECTORY": str(self._folder)}
        if self._dry:
            environ["MLOPS_DRY_RUN"] = "true"
        if part.environment:
            environ["MLOPS_ENVIRONMENT"] = part.environment
        self._logs.mkdir(parents=True, exist_ok=True)
        said = self._logs / f"{part.name}.json"
        with said.open("wb") as out, (self._logs / f"{part.name}.log").open("w", encoding="utf-8") as log:
            command = [str(python), str(_PROGRAM), part.action, "--json", *options]
            group = Group(command, self._folder, environ, stdout=out, stderr=subprocess.PIPE)
            self._groups[id(part)] = group
            assert group.process.stderr
            for raw in group.process.stderr:
                for line in printed_lines(raw.decode(errors="replace").rstrip("\r\n")):
                    log.write(line + "\n")
                    log.flush()
                    self._line(part, line)
            code = group.process.wait()
        try:
            outputs = json.loads(said.read_bytes())
            part.record, part.why = outputs.get("record", {}), outputs.get("would-run", "")
        except (ValueError, AttributeError):
            pass  # it ended before it had any
        said.unlink()
        del self._groups[id(part)]
        group.end(0)
        return code

    def _line(self, part: Part, line: str) -> None:
        part.log.append(line)
        self._said(part, line)

    def _end(self) -> None:
        """Ask what still runs to end, as a cancelled job is asked, and wait for it."""
        for group in list(self._groups.values()):
            threading.Thread(target=group.end, args=(_GRACE,), daemon=True).start()
        for thread in self._threads:
            thread.join(_GRACE + 5)
