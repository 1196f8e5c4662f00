"""The local engine: tasks are processes of this machine, ordered by kfp.local in the worker."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput, Cancelled, MlopsError, Place, RemoteFailed
from ..inputs import CodeInputs
from .engine import Artifact, Progress, Python, RunRequest, RunResult, Scheduled, Site, TaskResult
from .failing import advice_on_module, place_of, shown
from .finished import Background, FinishedTasks, KeptTask
from .pythons import pythons_of
from .spec import Pipeline

_TICK = 1.0
_LEFT_OVER = 7 * 24 * 3600  # seconds after which the folder of a run that failed is of no more interest
_LOG_LINES = 40
Event = Mapping[str, Any]


class LocalEngine:
    """Runs pipelines on this machine. See `engine.PipelineEngine`."""

    def __init__(self, code: CodeInputs, site: Site) -> None:
        self._code, self._site = code, site

    def prepare(self, pipeline: Pipeline) -> Mapping[str, Python]:
        """The environments of the components; see `engine.PipelineEngine.prepare`."""
        pipeline.require_local()
        if pipeline.platforms:
            names = ", ".join(pipeline.platforms)
            self._site.workspace.console.warning(
                f"The pipeline has settings for {names}; the engine `local` leaves them out"
            )
        return pythons_of(pipeline, self._code, self._site.workspace)

    def schedule(self, request: RunRequest, wanted: Mapping[str, Any], place: Place | None) -> Sequence[Scheduled]:
        """This machine has no schedules; see `engine.PipelineEngine.schedule`."""
        if wanted:
            raise BadInput(
                "`schedules` are recurring runs of Kubeflow Pipelines",
                fix="Set `engine: kfp`, or remove them",
                place=place,
            )
        return []

    def run(self, request: RunRequest, progress: Progress) -> RunResult:
        """Run a pipeline to its end; see `engine.PipelineEngine.run`."""
        runs = self._site.workspace.home / "pipelines"
        _sweep(runs)
        folder = runs / request.key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run = _Run(self._site, request, progress, folder)
        try:
            result = run.finish()
        except MlopsError as error:
            error.details = {
                "pipeline": request.pipeline.name,
                "tasks": [{"name": t.task, "state": t.state, "seconds": round(t.seconds, 3)} for t in run.tasks],
            }
            if run.reusable and (isinstance(error, Cancelled) or not run.failures):
                progress.note(f"Finished before: {', '.join(run.reusable)}. The next run reuses that")
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return result


class _Run:
    """One run under way: obeys the worker's events until the pipeline is done."""

    def __init__(self, site: Site, request: RunRequest, progress: Progress, folder: Path) -> None:
        self._site, self._request, self._progress, self._folder = site, request, progress, folder
        self._finished = FinishedTasks(site.workspace.store, reuse=request.reuse)
        self._uploads = Background()
        self._began = time.monotonic()
        self._running: dict[str, float] = {}
        self._kept: dict[str, KeptTask] = {}
        self.tasks: list[TaskResult] = []
        self.failures: list[Event] = []
        self.reusable: list[str] = []

    def finish(self) -> RunResult:
        """Start it and see it through."""
        request = self._request
        self._site.worker.send({"run": {
            "spec": request.pipeline.spec,
            "parameters": dict(request.parameters),
            "key": request.key,
            "folder": str(self._folder),
            "root": str(self._site.workspace.root),
            "pythons": {k: {"executable": p.executable, "digest": p.digest} for k, p in request.pythons.items()},
            "inputs": dict(request.inputs),
        }})  # fmt: skip
        while (event := self._next())["event"] != "done":
            self._obey(event)
        self._uploads.wait()
        if self.failures:
            raise self._failure(self.failures[0])
        if not event["succeeded"]:
            raise RemoteFailed(
                f"kfp.local cannot run the pipeline {request.pipeline.name!r}",
                why="; ".join(event["problems"][:3]) or "It gave no reason",
                fix="Simplify that part of the pipeline, or run it on a cluster",
                place=Place(shown(request.pipeline.file, self._site.workspace.root)),
            )
        tasks = [self._with_uris(result) for result in self.tasks]
        return RunResult(tasks, event["outputs"], time.monotonic() - self._began)

    def _next(self) -> dict[str, Any]:
        limit = self._request.timeout
        while True:
            now = time.monotonic()
            if limit and now - self._began >= limit:
                raise RemoteFailed(
                    f"The pipeline did not end within {limit:g} s",
                    why=f"Still at work: {', '.join(self._running) or 'none of its tasks'}",
                    fix="Raise `timeout`; what is finished will be reused",
                )
            wait = min(_TICK, limit - (now - self._began)) if limit else _TICK
            event = self._site.worker.receive(wait)
            if event:
                return event
            if self._running:
                self._progress.waiting({task: now - began for task, began in self._running.items()})

    def _obey(self, event: Event) -> None:
        task = event.get("task", "")
        if event["event"] == "log":
            self._progress.logged(task, event["line"])
        elif event["event"] == "lookup":
            found = self._finished.find(event["key"])
            self._answer(event, found.model_dump(mode="json") if found else None)
        elif event["event"] == "fetch":
            self._site.workspace.store.get_file(event["stored"], Path(event["target"]))
            self._answer(event, True)
        elif event["event"] == "started":
            self._running[task] = time.monotonic()
            self._progress.started(task)
        elif event["event"] == "skipped":
            known = {result.task for result in self.tasks}
            for name in (name for name in event["tasks"] if name not in known):
                self._end(TaskResult(name, "skipped"))
        elif event["event"] == "ended":
            self._running.pop(task, None)
            self._ended(task, event)

    def _answer(self, event: Event, answer: object) -> None:
        self._site.worker.send({"number": event["number"], "answer": answer})

    def _ended(self, task: str, event: Event) -> None:
        if event["state"] == "failed":
            self.failures.append(event)
            self._end(TaskResult(task, "failed", event["seconds"]))
        elif event["state"] == "reused":
            self._kept[task] = kept = KeptTask.model_validate(event["found"])
            self.reusable.append(task)
            self._end(TaskResult(task, "reused", kept.seconds, kept.parameters))
        else:
            log = self._log(task)
            self._uploads.do(lambda: self._keep(task, event, log))
            self._end(TaskResult(task, "succeeded", event["seconds"], event["parameters"]))

    def _keep(self, task: str, event: Event, log: Path) -> None:
        self._kept[task] = self._finished.keep(event["key"], task, self._request.key, event, log)
        if event["key"]:
            self.reusable.append(task)

    def _end(self, result: TaskResult) -> None:
        self.tasks.append(result)
        self._progress.ended(result)

    def _with_uris(self, result: TaskResult) -> TaskResult:
        kept = self._kept.get(result.task)
        if not kept:
            return result
        artifacts = []
        for item in kept.artifacts:
            # A path of the machine that made it means nothing to others.
            uri = self._site.workspace.store.uri(item.stored) if item.stored else item.uri if "://" in item.uri else ""
            artifacts.append(Artifact(result.task, item.name, item.type, uri, item.digest, item.metadata))
        return TaskResult(result.task, result.state, result.seconds, result.parameters, artifacts)

    def _failure(self, event: Event) -> RemoteFailed:
        """The failing task, in the consumer's terms: its exception, its log, and the line of their file."""
        task, error, root = event["task"], event.get("error"), self._site.workspace.root
        log = self._log(task)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        more = len(self.failures) - 1
        what = f"The task {task!r} failed" + (f", and {more} more after it" if more else "")
        return RemoteFailed(
            what,
            why=_reason(event),
            fix=advice_on_module((error or {}).get("missing") or "", root),
            place=place_of(
                self._request.pipeline.file,
                self._site.workspace.root,
                event["source"],
                error["line"] if error else None,
            ),
            log="\n".join(lines[-_LOG_LINES:]),
        )

    def _log(self, task: str) -> Path:
        return self._folder / task / ".log.txt"


def _reason(event: Event) -> str:
    error = event.get("error")
    if error:
        return f"{error['type']}: {error['message']}"
    if event.get("signal"):
        memory = ", which is what happens when memory runs out" if event["signal"] == "SIGKILL" else ""
        return f"It was ended by {event['signal']}{memory}"
    return f"It ended with exit code {event['exit']}"


def _sweep(runs: Path) -> None:
    """Remove what failed runs left long ago."""
    for folder in runs.glob("*"):
        if re.fullmatch(r"[0-9a-f]{32}", folder.name) and time.time() - _changed(folder) > _LEFT_OVER:
            shutil.rmtree(folder, ignore_errors=True)


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process removed it
        return time.time()
