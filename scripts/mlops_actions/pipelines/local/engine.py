"""The local engine: a run from its request to its result or failure."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import BadInput, Cancelled, ComponentFailed, MlopsError, Place, RemoteFailed
from ...files import remove_old
from ...inputs import CodeInputs
from ..engine import Artifact, PipelineContext, Prepared, RunProgress, RunRequest, RunResult, Scheduled, TaskResult
from ..failing import advice_on_module, place_of
from ..finished import Background, FinishedTasks, KeptTask
from ..platforms import settings_left_out, variables_of
from ..pythons import pythons_of
from ..run import place_of as shown_place
from ..spec import Pipeline
from .containers import docker_responds, identity
from .graph import Graph
from .plan import Event, TaskPlan, Tell
from .processes import run_loop
from .tasks import Tasks, cause_of

_LEFT_OVER = 7  # days after which the folder of a run that failed is of no more interest
_LOG_LINES = 40
_MOST_AT_ONCE = 4


class LocalEngine:
    """Runs pipelines on this machine. See `engine.PipelineEngine`."""

    def __init__(self, code: CodeInputs, context: PipelineContext) -> None:
        self._code, self._context = code, context
        self._environ = context.workspace.child_environ()

    def prepare(self, pipeline: Pipeline) -> Prepared:
        """The environments of the components; see `engine.PipelineEngine.prepare`."""
        workspace = self._context.workspace
        images = {image: identity(image, self._environ) for image in pipeline.images()}
        require_local(pipeline, self._environ)
        place = shown_place(pipeline.file, workspace.root)
        self._environ |= variables_of(pipeline, workspace.environ, place, workspace.console.mask)
        if left_out := settings_left_out(pipeline):
            workspace.console.warning(f"The engine `local` leaves out settings for Kubernetes: {left_out}")
        return Prepared(pythons_of(pipeline, self._code, workspace), images)

    def schedule(self, request: RunRequest, wanted: Mapping[str, Any], place: Place | None) -> Sequence[Scheduled]:
        """This machine has no schedules; see `engine.PipelineEngine.schedule`."""
        if wanted:
            raise BadInput(
                "`schedules` are recurring runs of Kubeflow Pipelines",
                fix="Set `engine: kfp`, or remove them",
                place=place,
            )
        return []

    def run(self, request: RunRequest, progress: RunProgress) -> RunResult:
        """Run a pipeline to its end; see `engine.PipelineEngine.run`."""
        runs = self._context.workspace.home / "pipelines"
        remove_old((one for one in runs.glob("*") if re.fullmatch(r"[0-9a-f]{32}", one.name)), _LEFT_OVER)
        folder = runs / request.key
        shutil.rmtree(folder, ignore_errors=True)
        run = _Run(self._context, self._environ, request, progress, folder)
        try:
            result = run.finish()
        except MlopsError as error:
            error.details = {"pipeline": request.pipeline.name, "tasks": [task.shown for task in run.tasks]}
            if run.reusable and (isinstance(error, Cancelled) or not run.failures):
                progress.note(f"Finished before: {', '.join(run.reusable)}. The next run reuses that")
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return result


def require_local(pipeline: Pipeline, environ: Mapping[str, str]) -> None:
    """Refuse what cannot run on this machine.

    Args:
        pipeline: what is to be run.
        environ: variables, for the docker command.

    Raises:
        BadInput: naming the first component that needs a container, where no Docker responds, or a cluster.
    """
    needing = pipeline.containers()
    place = Place(pipeline.file.name)
    for task, kind in needing.items():
        if kind == "a Kubernetes operation":
            raise BadInput(
                f"The task {task!r} is {kind}, which the engine `local` cannot run",
                fix="Leave it out, or run the pipeline on a cluster",
                place=place,
            )
    if needing and not docker_responds(environ):
        task, kind = next(iter(needing.items()))
        raise BadInput(
            f"The task {task!r} is {kind}, which the engine `local` cannot run without Docker",
            why="Only Python functions run as processes; other components need a Docker engine, and none responds",
            fix="Start Docker, make it a `@dsl.component` without `target_image`, or run the pipeline on a cluster",
            place=place,
        )


class _Run:
    """One run under way: told by the tasks what happens."""

    def __init__(
        self,
        context: PipelineContext,
        environ: Mapping[str, str],
        request: RunRequest,
        progress: RunProgress,
        folder: Path,
    ) -> None:
        self._workspace, self._environ = context.workspace, environ
        self._request, self._progress, self._folder = request, progress, folder
        self._finished = FinishedTasks(
            context.workspace.store,
            context.workspace.root,
            reuse=request.reuse,
            say=progress.note,
            scope=context.workspace.scope,
        )
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
        plan = TaskPlan(
            spec=request.pipeline.spec,
            parameters=request.parameters,
            key=request.key,
            folder=self._folder,
            root=self._workspace.root,
            pythons=request.pythons,
            environ=self._environ,
            inputs=request.inputs,
            store_options=self._workspace.store_options,
            hide=self._workspace.console.hide,
            at_once=min(os.cpu_count() or 1, _MOST_AT_ONCE),
        )
        _, outputs = run_loop(run_plan(plan, self._obey), self._tick)
        self._uploads.wait()
        if self.failures:
            raise self._failure(self.failures[0])
        tasks = [self._with_uris(result) for result in self.tasks]
        read = {name: digest for kept in self._kept.values() for name, digest in kept.files.items()}
        return RunResult(tasks, outputs, time.monotonic() - self._began, read=read)

    def _tick(self) -> None:
        """Now and then, in the thread that waits for the run."""
        now, limit = time.monotonic(), self._request.timeout
        if limit and now - self._began >= limit:
            raise RemoteFailed(
                f"Timed out: the pipeline did not end within {limit:g} s",
                why=f"Still running: {', '.join(self._running) or 'no task'}",
                fix="Raise `timeout`; what is finished will be reused",
            )
        if running := {task: now - began for task, began in list(self._running.items())}:
            self._progress.waiting(running)

    def _obey(self, event: Event) -> Any:
        """See `plan.Event`."""
        kind, task = event["event"], event.get("task", "")
        if kind == "lookup":
            found = self._finished.find(event["key"])
            return found.model_dump(mode="json") if found else None
        if kind == "fetch":
            return self._workspace.store.get_file(event["stored"], Path(event["target"]))
        if kind == "log":
            self._progress.logged(task, event["line"])
        elif kind == "started":
            self._running[task] = time.monotonic()
            self._progress.started(task)
        elif kind == "skipped":
            for name in event["tasks"]:
                self._end(TaskResult(name, "skipped"))
        elif kind == "ended":
            self._running.pop(task, None)
            self._ended(task, event)
        return None

    def _ended(self, task: str, event: Event) -> None:
        attempts = event.get("attempts", 1)
        if event["state"] == "failed":
            self.failures.append(event)
            self._end(TaskResult(task, "failed", event["seconds"], attempts=attempts))
        elif event["state"] == "reused":
            self._kept[task] = kept = KeptTask.model_validate(event["found"])
            self.reusable.append(task)
            self._end(TaskResult(task, "reused", kept.seconds, event["parameters"]))
        else:
            log = self._log(task)
            self._uploads.do(lambda: self._keep(task, event, log))
            self._end(TaskResult(task, "succeeded", event["seconds"], event["parameters"], attempts=attempts))

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
            uri = self._workspace.store.uri(item.stored) if item.stored else item.uri if "://" in item.uri else ""
            artifacts.append(Artifact(result.task, item.name, item.type, uri, item.digest, item.metadata))
        return TaskResult(
            result.task, result.state, result.seconds, result.parameters, artifacts, attempts=result.attempts
        )

    def _failure(self, event: Event) -> ComponentFailed:
        """The failing task, in the consumer's terms: its exception, its log, and the line of their file."""
        task, error = event["task"], event.get("error")
        log = self._log(task)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        more = len(self.failures) - 1
        tries = f" {event['attempts']} times" if event.get("attempts", 1) > 1 else ""
        return ComponentFailed(
            f"The task {task!r} failed{tries}" + (f", and {more} more after it" if more else ""),
            why=cause_of(event),
            fix=advice_on_module((error or {}).get("missing") or "", self._workspace.root),
            place=place_of(
                self._request.pipeline.file, self._workspace.root, event["source"], error["line"] if error else None
            ),
            log="\n".join(lines[-_LOG_LINES:]),
        )

    def _log(self, task: str) -> Path:
        return self._folder / task / ".log.txt"


async def run_plan(plan: TaskPlan, tell: Tell) -> tuple[bool, dict[str, Any]]:
    """Run a pipeline to its end: whether no task failed, and its output parameters.

    Args:
        plan: what is to be run.
        tell: told what happens; see `plan.Event`.
    """
    plan.workspace.mkdir(parents=True)
    return await Graph(plan.spec, Tasks(plan, tell), plan.constants_of, plan.job).run(plan.parameters)
