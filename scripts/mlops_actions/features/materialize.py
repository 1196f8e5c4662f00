"""Features brought up to date: prepare the tables, then Feast's plan, apply and materialize in one process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

from ..console import Console
from ..errors import BadInput, MlopsError, Place, RemoteFailed
from ..processes.group import Group
from ..processes.scratch import scratch
from ..stores.digests import file_digest
from ..stores.lease import Lease
from ..stores.store import Store
from ..yaml_io import NotYaml, Yaml11, load_yaml
from .progress import MaterializeProgress
from .results import Materialized, Mode, Plan, View

_WORKER = Path(__file__).with_name("worker")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class MaterializeRequest:
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
        chunk: length of the intervals that are written and recorded one by one; None for all at once.
        redo: write chunks of a range again that were finished before.
        allow_destructive: apply a plan that takes away what is served online.
        parallel: views at once.
        sample: entities a view to read back.
        store_timeout: how long one response of the online store may take.
        scratch: folder for logs and temporary files.
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
    chunk: timedelta | None
    redo: bool
    allow_destructive: bool
    parallel: int
    sample: int
    store_timeout: timedelta
    scratch: Path


def find_repository(root: Path, name: Path) -> Path:
    """The folder of the Feast repository, absolute.

    Raises:
        BadInput: there is none.
    """
    folder = (root / name).resolve()
    if not (folder / "feature_store.yaml").is_file():
        what = f"No feature_store.yaml in {name}" if folder.is_dir() else f"The folder {name} does not exist"
        raise BadInput(what, fix="Set `repository` to the Feast repository", place=Place(name.as_posix()))
    return folder


def key_parts(request: MaterializeRequest) -> dict[str, Any]:
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
        "chunk": request.chunk,
        "sample": request.sample,
        "worker": [file_digest(file) for file in sorted(_WORKER.glob("*.py"))],
    }


def lock_path(root: Path, folder: Path, environ: Mapping[str, str]) -> str:
    """Where in the store the lock of the repository's registry is: the same for all that write to one registry.

    Projects share a registry, and in a file they overwrite each other. One in the checkout is this repository's own,
    wherever the checkout is; there the project's name keeps repositories apart.
    """
    text = Template((folder / "feature_store.yaml").read_text(encoding="utf-8", errors="replace"))
    try:
        raw = load_yaml(text.safe_substitute(environ), Yaml11)
        registry = raw.get("registry")
        path = str(registry.get("path", "") if isinstance(registry, dict) else registry or "")
        path, project = path.removeprefix("file://"), ""
        if "://" not in path:
            file = (folder / path).resolve()
            path = file.as_posix()
            if file.is_relative_to(root.resolve()):
                path, project = file.relative_to(root.resolve()).as_posix(), raw.get("project")
        name = json.dumps([path, project], default=str)
    except (NotYaml, AttributeError):
        name = text.template  # Feast's process says at which line it is wrong
    return f"locks/features-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


def materialize(
    request: MaterializeRequest, console: Console, store: Store | None = None, lease: Lease | None = None
) -> Materialized:
    """Prepare the tables, apply the repository and materialize it.

    Args:
        request: what is to be done.
        console: where it speaks.
        store: where what was read back is kept; None for nowhere.
        lease: that must be held all the time; None when no other run can be at work.

    Raises:
        BadInput: the repository, a definition, a source or `prepare` is wrong.
        RemoteFailed: a store cannot be used, or Feast failed.
    """
    request.scratch.mkdir(parents=True, exist_ok=True)
    with scratch(request.scratch) as folder:
        if request.prepare:
            with console.group(f"Preparing: {request.prepare}"):
                _prepare(request, console, folder / "prepare.log")
        console.status("Starting Feast")
        done = _feast(request, console, folder / "feast.log", lease)
        return done.model_copy(update={"views": [_kept(view, done.project, store) for view in done.views]})


def _kept(view: View, project: str, store: Store | None) -> View:
    """The view, with what was read of it in the store, where the next run puts its own."""
    if not store or not view.served:
        return view.model_copy(update={"served": ""})
    return view.model_copy(
        update={"served": store.put_file(Path(view.served), f"features/served/{project}/{view.name}.parquet")}
    )


def _prepare(request: MaterializeRequest, console: Console, log: Path) -> None:
    command = shlex.split(request.prepare, posix=os.name != "nt")
    if command[0] in ("python", "python3"):
        command[0] = str(request.python)
    try:
        group = _start(command, request, _environ(request), log)
    except OSError as error:
        what = f"`prepare` cannot be started: {command[0]}: {error.strerror}"
        raise BadInput(what, fix="Use a program of the environment, such as `python`") from None
    with group:
        for line in group.lines():
            console.say(line)
        code = group.process.wait()
    if code:
        text = _read(log)
        raise BadInput(
            f"`prepare` failed with exit code {code}: {request.prepare}",
            why=_last_line(text),
            fix="Correct the command; `python` is the interpreter of the environment made from `requirements`",
            place=_place(text, request.root),
            log=text,
        )


def _feast(request: MaterializeRequest, console: Console, log: Path, lease: Lease | None) -> Materialized:
    """Run the worker and tell what it tells."""
    message = {
        "root": str(request.root.resolve()),
        "folder": str(request.folder),
        "views": list(request.views),
        "mode": request.mode,
        "start": request.start.isoformat() if request.start else "",
        "end": request.end.isoformat() if request.end else "",
        "chunk": request.chunk.total_seconds() if request.chunk else 0,
        "redo": request.redo,
        "allow_destructive": request.allow_destructive,
        "parallel": request.parallel,
        "sample": request.sample,
        "store_timeout": request.store_timeout.total_seconds(),
        "scratch": str(log.parent),
    }
    last: dict[str, Any] = {}
    command = [str(request.python), str(_WORKER)]
    metrics = log.with_name("metrics")
    metrics.mkdir()
    # Importing Feast makes such a folder in the temporary one, and leaves it there.
    environ = {**_environ(request), "PROMETHEUS_MULTIPROCESS_DIR": str(metrics)}
    progress = MaterializeProgress(console)
    with _start(command, request, environ, log) as group:
        for line in group.lines(json.dumps(message).encode()):
            last = json.loads(line)
            _tell(last, console, progress)
            if lease:
                lease.check()
        code = group.process.wait()
    console.status("")
    if code:
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise RemoteFailed(
            "The Feast process ended early", why=f"Its process ended {how}", fix="Look at its log", log=_read(log)
        )
    if last.get("event") == "error":
        console.debug(_read(log))
        raise _error(last, request, _read(log))
    if last.get("event") != "result":
        raise RemoteFailed("The Feast process ended without a result", fix="Look at its log", log=_read(log))
    console.debug(_read(log))
    result = Materialized.model_validate(_without(last))
    refused = bool(result.plan.destructive) and not request.allow_destructive and request.mode != "plan-only"
    return result.model_copy(update={"refused": refused})


def _start(command: list[str], request: MaterializeRequest, environ: Mapping[str, str], log: Path) -> Group:
    """Start a process whose standard error is added to the log."""
    with log.open("ab") as errors:
        return Group(command, request.root, environ, stdin=subprocess.PIPE, stderr=errors)


def _environ(request: MaterializeRequest) -> dict[str, str]:
    """Variables of a process for which `python` is the environment's: Spark's workers are started by that name."""
    path = f"{request.python.parent}{os.pathsep}{request.environ.get('PATH', '')}"
    return {**request.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _tell(event: dict[str, Any], console: Console, progress: MaterializeProgress) -> None:
    """Say an event as it comes."""
    kind = event["event"]
    if kind == "plan":
        console.say(f"Plan: {Plan.model_validate(_without(event)).sentence()}")
        for what in ("added", "changed", "removed"):
            for name in event[what]:
                console.say(f"  {what} {name}")
        for sentence in event["destructive"]:
            console.warning(f"Destructive: {sentence}")
    elif kind == "progress":
        progress.show(event["view"], event["rows"], event["total"])
    elif kind == "view":
        view = View.model_validate(_without(event))
        way = "" if not view.rows else f", {view.way}"
        console.say(f"{view.name}: {view.rows:,} rows until {view.watermark or 'never'} ({view.seconds:.1f} s{way})")
        for difference in view.differences:
            console.warning(difference)
    elif kind == "warning":
        console.warning(event["text"])
    elif kind == "notice":
        console.notice(event["text"])


def _error(event: dict[str, Any], request: MaterializeRequest, log: str) -> MlopsError:
    place = None
    if event.get("file"):
        place = Place(_relative(Path(event["file"]), request.root), event.get("line"))
    if event["kind"] in ("remote", "unknown"):
        told = log if event["kind"] == "unknown" else ""  # else what and why say it all
        return RemoteFailed(event["what"], why=event["why"], fix=event["fix"], place=place, log=told)
    return BadInput(event["what"], why=event["why"], fix=event["fix"], place=place)


def _without(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event"}


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
