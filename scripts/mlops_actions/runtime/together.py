"""The whole chain on this machine: its parts in their order, each in a process and an environment of its own.

The order is that of the jobs of `mlops.yml`; what runs is decided by `planning`, as there.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import environments
from ..inputs import is_secret, kebab
from ..processes.group import Group
from ..untrusted import printed_lines
from ..workspace import RUNNER
from . import chain, config

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
_OF = {
    "data": ("validate-data",),
    "contract": ("validate-data",),
    "experiment": ("tune-hyperparams",),
    "pipeline": ("run-pipeline",),
    "parameters": ("run-pipeline",),
    "python": ("tune-hyperparams", "run-pipeline", "evaluate-model"),
    "registry_username": ("build-image", "test-model", "deploy-model"),
}
"""Values that are for these actions alone, as in `mlops.yml`: others may have an input of that name with a sense of
their own. What is not named here goes to each action if several share it (`inputs.SHARED`)."""
_FOR_TRIALS = {"tune-hyperparams": "run-pipeline"}
"""Actions that run another one's work, and so need its secrets."""
_GRACE = 30.0  # seconds that a cancelled action has to end what it started elsewhere
_AT_ONCE = 2
_MOMENT = 0.1  # seconds between two looks at what is shown
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
        summary: what it says in a job's summary, in Markdown.
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
    summary: str = ""
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
    for action in (*AFTER, LAST):
        if action != LAST and not plan["run-pipeline" if action == "evaluate-model" else action]:
            continue
        legs = several.get(action, {"include": [{}]})["include"]
        for one in legs:
            variant = one.get("name", "") if len(legs) > 1 else ""
            own = {"variant": one["name"]} if action == "test-model" else {}
            known = chain.load(action).inputs.model_fields
            options = {kebab(name): value for name, value in given.items() if name in known and _for(name, action)}
            options |= own
            parts.append(Part(action, variant, options, one.get("environment", plan["environment"])))
    return parts


def _for(name: str, action: str) -> bool:
    return action in _OF[name] if name in _OF else config.is_shared(name)


def secrets_of(action: str) -> set[str]:
    """The variables with the secrets that an action declares, and so may see."""
    names = {action, _FOR_TRIALS.get(action, action)}
    fields = [field for name in names for field in chain.load(name).fields().items()]
    return {f"MLOPS_{name.upper()}" for name, info in fields if is_secret(info.annotation)}


def before(action: str) -> set[str]:
    """All actions that come before one."""
    found = set(AFTER[action])
    return found.union(*(before(one) for one in AFTER[action]))


class Chain:
    """Runs parts, up to two at a time, as soon as those before them have ended well.

    The process of the part that comes next is started meanwhile and stands by: its environment is made, its modules
    are imported, and it begins when it is due.

    On a runner a part speaks as a step of a job does, and its line is what the runner is to read; elsewhere as in a
    terminal.

    Args:
        parts: what to run; parts of one action one after the other.
        folder: the consumer's.
        environ: variables for all of them; of the secrets each gets those that its action declares.
        cache: the folder of the environments.
        logs: a folder for a log a part.
        said: is told each line that a part prints.
        dry: a folder for the records of a dry run: it is found out what would be done, and nothing is done.
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
        dry: Path | None = None,
    ) -> None:
        self.parts, self._dry = list(parts), dry
        self._folder, self._environ, self._cache, self._logs, self._said = folder, environ, cache, logs, said
        self._on_runner = environ.get("GITHUB_ACTIONS") == "true"
        self._groups: dict[int, Group] = {}
        self._due: dict[int, threading.Event] = {}
        self._threads: dict[tuple[int, str], threading.Thread] = {}
        self._news = threading.Event()
        self._lock, self._ended = threading.Lock(), False

    def run(self, show: Callable[[], None]) -> None:
        """Run all of it.

        Args:
            show: called when a part ends, and a few times a second, for what is shown.
        """
        try:
            while any(part.state in ("waiting", "running") for part in self.parts):
                for part in self._ready():
                    part.state, part.began = "running", time.monotonic()
                    self._begin(part).set()
                for part in self._next():
                    self._begin(part)
                show()
                self._news.wait(_MOMENT)
                self._news.clear()
        finally:
            self._end()

    def _begin(self, part: Part) -> threading.Event:
        """Start the part's thread, unless it was; its work begins when the event is set."""
        if id(part) not in self._due:
            due = self._due[id(part)] = threading.Event()
            thread = threading.Thread(target=self._run, args=(part, due), daemon=True)
            self._threads[id(part), "run"] = thread
            thread.start()
        return self._due[id(part)]

    def _next(self) -> Sequence[Part]:
        """The parts whose processes are to stand by, so that nobody waits for an interpreter to start."""
        return [part for part in self.parts if part.state == "waiting"][:_AT_ONCE]

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

    def _run(self, part: Part, due: threading.Event) -> None:
        group, fault = None, None
        try:
            group = self._standing_by(part)
        except (environments.EnvironmentFailed, OSError) as error:
            fault = error
        due.wait()
        if part.state != "running":  # it is not to be run: its process has been ended
            return
        if group:
            part.code = self._process(part, group)
        else:
            part.code = getattr(fault, "exit_code", 3)
            self._line(part, f"error: {fault}")
        part.seconds = time.monotonic() - part.began
        part.state = "failed" if part.code else "done" if part.record or not self._dry else "stale"
        self._news.set()

    def _standing_by(self, part: Part) -> Group:
        """The part's process, which waits for a line before it begins."""
        action = chain.load(part.action)
        python = environments.ensure(action.group, self._cache, say=lambda text: self._line(part, text)).python
        options = [f"--{name}={value}" for name, value in part.options.items()]
        self._logs.mkdir(parents=True, exist_ok=True)
        environ = self._variables(part)
        if self._on_runner:
            said, summary = self._files(part)
            environ |= {"GITHUB_OUTPUT": str(said), "GITHUB_STEP_SUMMARY": str(summary)}
        else:
            options.append("--json")
        command = [str(python), str(_PROGRAM), chain.STANDBY, part.action, *options]
        with self._files(part)[0].open("wb") as out:
            streams = (subprocess.PIPE, subprocess.STDOUT) if self._on_runner else (out, subprocess.PIPE)
            with self._lock:
                if self._ended:
                    raise OSError("The run was cancelled")
                group = Group(
                    command, self._folder, environ, stdin=subprocess.PIPE, stdout=streams[0], stderr=streams[1]
                )
                self._groups[id(part)] = group
        return group

    def _files(self, part: Part) -> tuple[Path, Path]:
        """Where the part's process writes its outputs and its summary."""
        return self._logs / f"{part.name}.outputs", self._logs / f"{part.name}.md"

    def _process(self, part: Part, group: Group) -> int:
        """Let the part's process begin, and read it to its end."""
        printed = group.process.stdout or group.process.stderr
        assert printed and group.process.stdin
        with suppress(OSError):  # it has ended before its time: its code tells
            group.process.stdin.write(b"\n")
            group.process.stdin.close()
        with (self._logs / f"{part.name}.log").open("w", encoding="utf-8") as log:
            for raw in printed:
                text = raw.decode(errors="replace").rstrip("\r\n")
                for line in [text] if self._on_runner else printed_lines(text):
                    log.write(line + "\n")
                    log.flush()
                    self._line(part, line)
            code = group.process.wait()
        said, summary = self._files(part)
        try:
            outputs = _outputs(said) if self._on_runner else json.loads(said.read_bytes())
            part.record, part.why = outputs.get("record", {}), outputs.get("would-run", "")
        except (ValueError, AttributeError):
            pass  # it ended before it had any
        part.summary = summary.read_text(encoding="utf-8", errors="replace") if summary.exists() else ""
        for file in (said, summary):
            file.unlink(missing_ok=True)
        del self._groups[id(part)]
        group.end(0)
        return code if code >= 0 else 128 - code  # killed: as a shell says it

    def _variables(self, part: Part) -> dict[str, str]:
        own = secrets_of(part.action)
        others = {name for action in chain.NAMES for name in secrets_of(action)} - own
        kept = {k: v for k, v in self._environ.items() if k not in others and not k.startswith(RUNNER)}
        kept["MLOPS_WORKING_DIRECTORY"] = str(self._folder)
        if self._dry:
            kept["MLOPS_DRY_RUN"] = str(self._dry)
        if part.environment:
            kept["MLOPS_ENVIRONMENT"] = part.environment
        return kept

    def _line(self, part: Part, line: str) -> None:
        part.log.append(line)
        with suppress(OSError):  # nobody listens any more: `show` says so where it ends the run
            self._said(part, line)

    def _end(self) -> None:
        """Ask what still runs to end, as a cancelled job is asked, and wait for it. What stands by is killed."""
        with self._lock:
            self._ended = True  # nothing is started any more
        running = {id(part) for part in self.parts if part.state == "running"}
        for key, group in list(self._groups.items()):
            ending = threading.Thread(target=group.end, args=(_GRACE if key in running else 0,), daemon=True)
            ending.start()
            self._threads[key, "end"] = ending
        for due in self._due.values():
            due.set()
        for (key, _), thread in self._threads.items():
            if key in running or key in self._groups:  # not one that only makes its environment
                thread.join(_GRACE + 5)


_OUTPUT = re.compile(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", re.MULTILINE | re.DOTALL)


def _outputs(file: Path) -> dict[str, Any]:
    """The record in a file that GITHUB_OUTPUT named, as `github.console` writes it."""
    found = {name: value for name, _, value in _OUTPUT.findall(file.read_text(encoding="utf-8"))}
    return {"record": json.loads(found["record"])} if "record" in found else {}
