"""The engine `kfp`: a pipeline on Kubeflow Pipelines, from its upload to its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import BadInput, Cancelled, MlopsError, Place, RemoteFailed
from ..downloads import reachable
from ..engine import PipelineContext, Prepared, RunProgress, RunRequest, RunResult, Scheduled, TaskResult
from ..roles import choose
from ..spec import Pipeline
from .client.api import ApiError, KfpApi
from .inputs import KfpEngineInputs
from .metadata.executions import Recorded, recorded
from .metadata.probe import ROUTE, check_metadata
from .metadata.results import bring_home, pipeline_outputs, task_results
from .publishing import adapted, publish, unpublished
from .run.argo import RUN_LABEL
from .run.failure import FailureReport
from .run.log_follower import LogFollower
from .run.logs import Archive, Logs
from .run.nodes import Task
from .run.runs import FINAL, Runs, Started
from .run.tracking import Tracker
from .run.watching import Limits, TimedOut, Watcher, listed
from .schedules.scheduling import read, schedule
from .settings import KfpSettings

if TYPE_CHECKING:
    from ...kubernetes.objects import Cluster

_HURRY = 2.0
"""Seconds that KFP may be away while a cancelled job terminates its run: the runner kills after 7.5."""
_RECORDED = 30.0  # seconds that ML Metadata may be away: the run itself has succeeded
_RETRYING = 30.0  # seconds within which a run that is retried is seen to run again
_KFP = "kubeflow"  # where KFP's manifests have it run the pods of a single user
_WITH_CLUSTER = "Tasks are followed by KFP's API, logs and pods by the cluster"
_WITHOUT_CLUSTER = (
    "Tasks and logs are followed by KFP's API alone: why a pod does not start, or ran out of memory, is known only"
    " with a kubeconfig"
)


class KfpEngine:
    """Runs pipelines on a Kubeflow Pipelines. See `engine.PipelineEngine`.

    Args:
        inputs: how it is reached, and how runs are started.
        context: what the engine may use.
        cluster: the Kubernetes cluster below it, reached with the first call; None where it is not named.
    """

    def __init__(
        self, inputs: KfpEngineInputs, context: PipelineContext, cluster: Callable[[], Cluster] | None
    ) -> None:
        if not inputs.kfp_host:
            raise BadInput("The engine `kfp` needs a Kubeflow Pipelines", fix="Set `kfp-host`")
        self._settings = KfpSettings(inputs, context.origin, variables=context.workspace.store_variables())
        self._context, self._cluster = context, cluster

    def prepare(self, pipeline: Pipeline) -> Prepared:
        """Components run in images on the cluster; see `engine.PipelineEngine.prepare`."""
        return Prepared()

    def schedule(self, request: RunRequest, wanted: Mapping[str, Any], place: Place | None) -> Sequence[Scheduled]:
        """Kubeflow's recurring runs, changed only by trusted code; see `engine.PipelineEngine.schedule`."""
        schedules = read(wanted, place)
        origin, settings = self._context.origin, replace(self._settings, image=request.image)
        api = self._api()
        try:
            changes = schedule(
                api, request, settings, schedules, self._context.clock,
                repository=origin.repository, change=origin.context.trusted,
            )  # fmt: skip
        except RemoteFailed as error:
            if wanted:
                raise
            self._context.workspace.console.warning(f"Cannot tell whether there are schedules to remove: {error}")
            return []
        return [Scheduled(change.schedule, change.action, change.why) for change in changes]

    def run(self, request: RunRequest, progress: RunProgress) -> RunResult:
        """Run a pipeline to its end, or find the same run; see `engine.PipelineEngine.run`."""
        settings = replace(self._settings, image=request.image)
        run = _Run(self._api(progress.note), settings, self._cluster, self._context, request, progress)
        try:
            return run.finish()
        except MlopsError as error:
            error.details = {
                "pipeline": request.pipeline.name,
                "tasks": [{"name": t.task, "state": t.state, "seconds": round(t.seconds, 3)} for t in run.told()],
                **({"url": run.url} if run.url else {}),
            }
            if isinstance(error, Cancelled | TimedOut):
                run.end()
            elif isinstance(error, ApiError) and run.url:
                progress.note("The run itself goes on: the same job, run again, finds it")
            raise

    def _api(self, say: Callable[[str], None] = lambda _: None) -> KfpApi:
        workspace = self._context.workspace
        return KfpApi(
            self._settings.inputs,
            workspace.environ,
            workspace.root,
            cluster=self._cluster,
            clock=self._context.clock,
            hide=workspace.console.mask,
            say=say,
        )


class _Run:
    """One run under way."""

    def __init__(
        self,
        api: KfpApi,
        settings: KfpSettings,
        cluster: Callable[[], Cluster] | None,
        context: PipelineContext,
        request: RunRequest,
        progress: RunProgress,
    ) -> None:
        self._api, self._settings, self._cluster = api, settings, cluster
        self._context, self._request, self._progress = context, request, progress
        self._cache = settings.inputs.cache and request.reuse
        self._pipeline = adapted(request.pipeline, settings, cache=self._cache)
        self._runs = Runs(api, settings, request.key, context.clock)
        self._tracker = Tracker(self._pipeline.spec, progress, self._pipeline.platforms)
        self._id, self._namespace = "", ""
        self.url = ""

    def finish(self) -> RunResult:
        """Start it, or find it, and see it through."""
        began = self._context.clock.now()
        self._check_metadata()
        if self._settings.origin.context.pull:
            published = unpublished(self._pipeline)
            self._progress.note(f"Pipeline {published.pipeline}: a pull request uploads no version of it")
        else:
            published = publish(self._api, self._pipeline, self._settings, cache=self._cache, clock=self._context.clock)
            how = "as it was" if published.reused else "uploaded"
            self._progress.note(f"Pipeline {published.pipeline}, version {published.version} ({how})")
        started = self._runs.start(published, dict(self._request.parameters), reuse=self._request.reuse)
        self._id, self.url = started.id, f"{self._api.url}/#/runs/details/{started.id}"
        self._progress.note(f"{_SAID[started.how]} {started.run.get('display_name', '')}: {self.url}")
        if started.how == "finished":
            return self._found(started)
        self._watch()
        if self._tracker.state not in ("SUCCEEDED", "SKIPPED"):
            raise self._failure()
        found = self._recorded()
        tasks = task_results(self._pipeline, found.executions, list(self._tracker.results()))
        for task in tasks:
            self._tracker.settle(task)
        return self._result(tasks, self._context.clock.now() - began)

    def told(self) -> list[TaskResult]:
        """How tasks have ended so far."""
        return list(self._tracker.results())

    def end(self) -> None:
        """Terminate it, and say what had finished. Never raises: there is an error on its way already."""
        self._api.patience = _HURRY
        try:
            for run_id in [self._id] if self._id else [str(run["run_id"]) for run in self._runs.mine()]:
                state = self._runs.end(run_id)
                verified = state in (*FINAL, "CANCELING", "DELETED")
                said = f"The run was terminated (it is {state})" if verified else f"The run is asked to end ({state})"
                self._progress.note(said)
        except MlopsError as error:
            self._progress.warning(f"The run {self._id} could not be terminated: {error} {self.url}")
        done = self._tracker.done()
        if done:
            self._progress.note(f"Finished before: {listed(done)}. KFP's cache has that for the next run")

    def _watch(self) -> None:
        """To the end of its last attempt."""
        clock, settings = self._context.clock, self._settings
        follower = self._follower()
        limits = Limits(self._request.timeout, settings.inputs.task_timeout)
        self._progress.note(_WITH_CLUSTER if self._cluster else _WITHOUT_CLUSTER)
        watcher = Watcher(
            self._api, self._id, self._tracker, follower, self._progress, clock, limits, self._tasks_in_metadata
        )
        try:
            watcher.until_end()
            while self._tracker.state == "FAILED" and self._tracker.attempts <= settings.inputs.retries:
                if self._tracker.terminated:
                    break
                failed = listed([task.label for task in self._tracker.failed]) or "before its first task"
                number = f"retry {self._tracker.attempts} of {settings.inputs.retries}"
                self._progress.note(f"The run failed ({failed}); {number} from there")
                self._retry()
                follower = self._follower()
                watcher.again(follower)
                watcher.until_end()
        finally:
            follower.stop()

    def _retry(self) -> None:
        """Let the run go on from what failed, and wait until KFP shows that it does."""
        clock, path = self._context.clock, f"/apis/v2beta1/runs/{self._id}"
        before, unsure = self._tracker.run.get("finished_at"), None
        try:
            self._api.post(f"{path}:retry")
        except ApiError as error:
            if not error.unsure:
                raise
            unsure = error
        until = clock.now() + _RETRYING
        while clock.now() < until:
            run = self._api.get(path)
            if run.get("state") not in FINAL or run.get("finished_at") != before:
                break
            clock.wait(0.5)
        else:
            if unsure:
                raise unsure
        self._tracker.retried()

    def _follower(self) -> LogFollower:
        return LogFollower(self._logs(), self._id, self._context.clock, self._cluster, self._where)

    def _logs(self) -> Logs:
        options, cluster = self._context.workspace.store_options, self._cluster
        root = self._settings.inputs.pipeline_root or ("s3://mlpipeline" if options and options.endpoint else "")
        archive = Archive(self._settings.inputs.archived_logs, "/".join(reachable(root).split("/")[:3]), options)
        return Logs(self._api, self._id, self._where, cluster, archive)

    def _where(self) -> str:
        """The namespace of the run's pods: KFP's word for it, else where it has pods; "" while unknown."""
        if not self._namespace:
            self._namespace = self._api.namespace or self._namespace_in_metadata() or self._namespace_of_pods()
        return self._namespace

    def _namespace_in_metadata(self) -> str:
        try:
            return recorded(self._api, self._id, outputs=False).namespace
        except RemoteFailed:
            return ""

    def _namespace_of_pods(self) -> str:
        if not self._cluster:
            return ""
        from ...kubernetes.objects import POD

        cluster = self._cluster()
        for namespace in dict.fromkeys(filter(None, (self._settings.inputs.namespace, cluster.namespace, _KFP))):
            try:
                if cluster.list(POD, labels=f"{RUN_LABEL}={self._id}", namespace=namespace):
                    return namespace
            except MlopsError:  # it may not exist, or be somebody else's
                continue
        return ""

    def _tasks_in_metadata(self) -> list[Task]:
        try:
            return recorded(self._api, self._id, outputs=False).tasks
        except RemoteFailed:
            return []

    def _failure(self) -> MlopsError:
        tracker = self._tracker
        if tracker.terminated:
            running = [task.label for task in tracker.failed]
            why = f"Finished before: {listed(tracker.done()) or 'none of its tasks'}"
            why += f"; ended with it: {listed(running)}" if running else ""
            return RemoteFailed("The run was terminated in KFP", why=why, fix=f"Run it again, or see {self.url}")
        root = self._context.workspace.root
        return FailureReport(self._request.pipeline, root, self._logs(), self._cluster, self.url).error(tracker)

    def _found(self, started: Started) -> RunResult:
        """The result of a run that had succeeded before: nothing of it is told as if it happened now."""
        silent = Tracker(self._pipeline.spec, RunProgress(), self._pipeline.platforms)
        silent.feed(started.run, self._context.clock.now())
        tasks = task_results(self._pipeline, self._recorded().executions, list(silent.results()))
        reused = [dataclasses.replace(t, state="reused") if t.state == "succeeded" else t for t in tasks]
        return self._result(reused, 0.0)

    def _check_metadata(self) -> None:
        """That the results can be read in the end, before anything runs."""
        if _makes_something(self._pipeline):
            with suppress(ApiError):  # it may be there when the run has ended
                check_metadata(self._api)

    def _recorded(self) -> Recorded:
        """What the run left in ML Metadata. A run whose results cannot be read has not succeeded for anybody here.

        Raises:
            RemoteFailed: it cannot be read, though there should be something.
        """
        self._api.patience = _RECORDED
        try:
            return recorded(self._api, self._id)
        except RemoteFailed as error:
            if not _makes_something(self._pipeline):
                return Recorded()
            raise RemoteFailed(
                "The run succeeded in KFP, but its results cannot be read from ML Metadata",
                why=str(error),
                fix=f"{ROUTE}; then run it again: it is found as it is. See {self.url}",
            ) from error

    def _result(self, tasks: list[TaskResult], seconds: float) -> RunResult:
        """The result, with the artifacts that later actions need in our store."""
        artifacts = [artifact for task in tasks for artifact in task.artifacts]
        chosen = [choose(artifacts, role, named)[0] for role, named in self._request.roles.items()]
        workspace = self._context.workspace
        folder = workspace.kept(f"artifacts/{self._request.key}")
        home = {
            id(artifact): bring_home(artifact, folder, workspace.store, workspace.store_options, self._progress.warning)
            for artifact in chosen
            if artifact is not None and artifact.uri
        }
        tasks = [
            dataclasses.replace(task, artifacts=[home.get(id(artifact), artifact) for artifact in task.artifacts])
            for task in tasks
        ]
        return RunResult(tasks, pipeline_outputs(self._pipeline.spec, tasks), seconds, self.url)


def _makes_something(pipeline: Pipeline) -> bool:
    """Whether any of its tasks has outputs."""
    return any(component.get("outputDefinitions") for _, _, component in pipeline.tasks())


_SAID = {
    "started": "Started the run",
    "running": "The same run goes on already, and is watched from here:",
    "finished": "Reused: the same run has succeeded,",
}
