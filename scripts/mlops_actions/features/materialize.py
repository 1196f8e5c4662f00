"""Features brought up to date: prepare the tables, then Feast's plan, apply and materialize in one process."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..errors import BadInput, MlopsError, Place, RemoteFailed
from ..github.console import Console
from ..store import file_digest
from .process import lines_of

Mode = Literal["incremental", "range", "plan-only"]
_WORKER = Path(__file__).with_name("worker")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        root: the consumer's folder.
        folder: the Feast repository.
        python: of the environment with Feast and the consumer's requirements.
        environ: variables for processes.
        prepare: a command that makes the tables, or "".
        views: names of the views to materialize; none for all.
        mode: what to materialize.
        start, end: with a zone; None for the last watermark, and for now.
        sample: entities a view to read back.
        scratch: folder for logs.
    """

    root: Path
    folder: Path
    python: Path
    environ: Mapping[str, str]
    prepare: str
    views: tuple[str, ...]
    mode: Mode
    start: datetime | None
    end: datetime | None
    sample: int
    scratch: Path


class Plan(BaseModel):
    """What applying does to the registry: objects as `kind name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    unchanged: list[str] = []

    def sentence(self) -> str:
        """`12 added` or `nothing changed`."""
        counts = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return ", ".join(f"{len(names)} {what}" for what, names in counts.items() if names) or "nothing changed"


class View(BaseModel):
    """One feature view after its materialization.

    Attributes:
        name: the view's.
        rows: entities whose values were written now.
        watermark: UTC time until which it is materialized, ISO 8601; "" when it never was.
        start: beginning of what was written now; "" when nothing was.
        seconds: that it took.
        features: names.
        compared: entities that were read back.
        differences: the first values that were not those of the source.
        fingerprint: digest of the source's rows until the watermark.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rows: int
    watermark: str
    start: str
    seconds: float
    features: list[str]
    compared: int
    differences: list[str]
    fingerprint: str


class Materialized(BaseModel):
    """The whole repository.

    Attributes:
        project: Feast's name of it.
        registry: URI of the registry.
        online: the online store's file; "" when it is a server.
        plan: what applying changed.
        views: each view.
        digest: of definitions, watermarks and source rows; "" when nothing was materialized.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str
    registry: str
    online: str
    plan: Plan
    views: list[View]
    digest: str

    @property
    def differing(self) -> list[View]:
        """Views whose online values are not those of the source."""
        return [view for view in self.views if view.differences]

    def headline(self, mode: Mode) -> str:
        """What was done, in one sentence."""
        if mode == "plan-only":
            return f"The plan: {self.plan.sentence()}"
        if self.differing:
            view = self.differing[0]
            return f"The online store does not give what the source of {view.name} has: {view.differences[0]}"
        rows, read = sum(view.rows for view in self.views), sum(view.compared for view in self.views)
        written = f"{rows:,} rows written" if rows else "nothing new to write"
        return f"{len(self.views)} feature views, {written}, {read} read back equal"


def find_repository(root: Path, name: Path) -> Path:
    """The folder of the Feast repository, absolute.

    Raises:
        BadInput: there is none.
    """
    folder = (root / name).resolve()
    if not (folder / "feature_store.yaml").is_file():
        what = f"There is no feature_store.yaml in {name}" if folder.is_dir() else f"There is no folder {name}"
        raise BadInput(what, fix="Set `repository` to the Feast repository", place=Place(name.as_posix()))
    return folder


def times(mode: Mode, start: str, end: str, notice: Callable[[str], None]) -> tuple[datetime | None, datetime | None]:
    """The two ends of what is to be materialized, in UTC.

    Raises:
        BadInput: one is no time, they are the wrong way round, or they do not go with the mode.
    """
    first, last, now = _time("start", start), _time("end", end), datetime.now(timezone.utc)
    if mode == "range" and not first:
        raise BadInput("`mode: range` needs a `start`", fix="Give `start`, or use `mode: incremental`")
    if mode != "range" and first:
        raise BadInput(
            f"`start` does not go with `mode: {mode}`",
            why="An incremental materialization starts where the last one ended",
            fix="Use `mode: range`, or leave `start` out",
        )
    if last and last > now:
        notice(f"`end` {end} is in the future; now, {now:%Y-%m-%d %H:%M} UTC, is taken")
        last = None
    if first and first > (last or now):
        raise BadInput(f"`start` {start} is after `end` {end or 'now'}", fix="Swap or correct them")
    return first, last


def key_parts(request: Request) -> dict[str, Any]:
    """What decides the result, beside the data and the environment: files of the repository and of `prepare`."""
    files = {
        file.relative_to(request.folder).as_posix(): file_digest(file)
        for file in sorted(request.folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and file.suffix in (".py", ".yaml", ".yml", ".sql")
    }
    words = shlex.split(request.prepare, posix=os.name != "nt")
    scripts = {word: file_digest(request.root / word) for word in words if (request.root / word).is_file()}
    return {
        "files": files,
        "prepare": request.prepare,
        "scripts": scripts,
        "views": list(request.views),
        "mode": request.mode,
        "start": request.start,
        "end": request.end,
        "sample": request.sample,
        "worker": [file_digest(file) for file in sorted(_WORKER.glob("*.py"))],
    }


def materialize(request: Request, console: Console) -> Materialized:
    """Prepare the tables, apply the repository and materialize it.

    Raises:
        BadInput: the repository, a definition, a source or `prepare` is wrong.
        RemoteFailed: a store cannot be used, or Feast failed.
    """
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="log-") as scratch:
        if request.prepare:
            with console.group(f"Preparing: {request.prepare}"):
                _prepare(request, console, Path(scratch) / "prepare.log")
        console.status("Starting Feast")
        return _feast(request, console, Path(scratch) / "feast.log")


def _prepare(request: Request, console: Console, log: Path) -> None:
    command = shlex.split(request.prepare, posix=os.name != "nt")
    if command[0] in ("python", "python3"):
        command[0] = str(request.python)
    path = f"{request.python.parent}{os.pathsep}{request.environ.get('PATH', '')}"
    try:
        environ = {**request.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
        with lines_of(command, request.root, environ, log) as lines:
            for line in lines:
                console.say(line)
    except OSError as error:
        what = f"`prepare` cannot be started: {command[0]}: {error.strerror}"
        raise BadInput(what, fix="Give a program of the environment, such as `python`") from None
    except subprocess.CalledProcessError as error:
        text = _read(log)
        raise BadInput(
            f"`prepare` failed with exit code {error.returncode}: {request.prepare}",
            why=_last_line(text),
            fix="Correct the command; `python` is that of the environment made of `requirements`",
            place=_place(text, request.root),
            log=text,
        ) from None


def _feast(request: Request, console: Console, log: Path) -> Materialized:
    """Run the worker and tell what it tells."""
    message = {
        "folder": str(request.folder),
        "views": list(request.views),
        "mode": request.mode,
        "start": request.start.isoformat() if request.start else "",
        "end": request.end.isoformat() if request.end else "",
        "sample": request.sample,
    }
    last: dict[str, Any] = {}
    command = [str(request.python), str(_WORKER)]
    environ = {**request.environ, "PYTHONUNBUFFERED": "1"}
    try:
        with lines_of(command, request.root, environ, log, json.dumps(message).encode()) as lines:
            for line in lines:
                last = json.loads(line)
                _tell(last, console)
    except subprocess.CalledProcessError as error:
        why = f"Its process ended with {error.returncode}"
        raise RemoteFailed("Feast ended early", why=why, fix="Look at its log", log=_read(log)) from None
    console.status("")
    if last.get("event") == "error":
        console.debug(_read(log))
        raise _error(last, request, _read(log))
    if last.get("event") != "result":
        raise RemoteFailed("Feast ended without a result", fix="Look at its log", log=_read(log))
    console.debug(_read(log))
    return Materialized.model_validate({name: value for name, value in last.items() if name != "event"})


def _tell(event: dict[str, Any], console: Console) -> None:
    """Say an event as it comes."""
    kind = event["event"]
    if kind == "plan":
        console.say(f"Plan: {Plan.model_validate(_without(event)).sentence()}")
        for what in ("added", "changed", "removed"):
            for name in event[what]:
                console.say(f"  {what} {name}")
    elif kind == "view":
        view = View.model_validate(_without(event))
        console.say(f"{view.name}: {view.rows:,} rows until {view.watermark or 'never'} ({view.seconds:.1f} s)")
        for difference in view.differences:
            console.warning(difference)
    elif kind == "notice":
        console.notice(event["text"])


def _error(event: dict[str, Any], request: Request, log: str) -> MlopsError:
    place = None
    if event.get("file"):
        place = Place(_relative(Path(event["file"]), request.root), event.get("line"))
    if event["kind"] == "remote":
        return RemoteFailed(event["what"], why=event["why"], fix=event["fix"], place=place, log=log)
    return BadInput(event["what"], why=event["why"], fix=event["fix"], place=place)


def _without(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event"}


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        fix = "Write it as 2013-06-01 or 2013-06-01T12:00:00Z"
        raise BadInput(f"`{name}` {text!r} is not a time", fix=fix) from None
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _place(log: str, root: Path) -> Place | None:
    """The last line of the consumer's own in a traceback."""
    frames = [(Path(file), int(line)) for file, line in _FRAME.findall(log)]
    own = [(file, line) for file, line in frames if (root / file).resolve().is_relative_to(root.resolve())]
    return Place(_relative(own[-1][0], root), own[-1][1]) if own else None


def _relative(file: Path, root: Path) -> str:
    full = (root / file).resolve()
    return full.relative_to(root.resolve()).as_posix() if full.is_relative_to(root.resolve()) else str(file)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
