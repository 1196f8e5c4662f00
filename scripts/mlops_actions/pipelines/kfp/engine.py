"""The engine `kfp`: a pipeline on Kubeflow Pipelines, from its upload to its results."""

from __future__ import annotations

import dataclasses

from ...errors import BadInput, Cancelled, MlopsError, RemoteFailed
from ..downloads import reachable
from ..engine import Progress, RunRequest, RunResult, Site, TaskResult
from ..roles import choose
from .client.api import ApiError, KfpApi
from .failure import Scene
from .following import Sources
from .metadata import Recorded, recorded
from .publishing import adapted, publish
from .results import bring_home, pipeline_outputs, task_results
from .runs import FINAL, Runs, Started
from .tracking import Tracker
from .watching import Limits, TimeIsOver, Watcher, listed

_HURRY = 2.0
"""Seconds that KFP may be away while a cancelled job terminates its run: the runner kills after 7.5."""
_RECORDED = 30.0  # seconds that ML Metadata may be away: the run itself has succeeded
_RETRYING = 30.0  # seconds within which a run that is retried is seen to run again


class KfpEngine:
    """Runs pipelines on a Kubeflow Pipelines. See `engine.Engine`."""

    def __init__(self, site: Site) -> None:
        if site.kfp is None:
            raise BadInput("The engine `kfp` needs a Kubeflow Pipelines", fix="Set `kfp-host`")
        self._site = site

    def run(self, request: RunRequest, progress: Progress) -> RunResult:
        """Run a pipeline to its end, or find the same run; see `engine.Engine.run`."""
        run = _Run(self._site, request, progress)
        try:
            return run.finish()
        except MlopsError as error:
            error.details = {
                "pipeline": request.pipeline.name,
                "tasks": [{"name": t.task, "state": t.state, "seconds": round(t.seconds, 3)} for t in run.told()],
                **({"url": run.url} if run.url else {}),
            }
            if isinstance(error, Cancelled | TimeIsOver):
                run.end()
            elif isinstance(error, ApiError) and run.url:
                progress.note("The run itself goes on: the same job, run again, finds it")
            raise


class _Run:
    """One run under way."""

    def __init__(self, site: Site, request: RunRequest, progress: Progress) -> None:
        assert site.kfp is not None
        self._site, self._request, self._progress, self._settings = site, request, progress, site.kfp
        self._api = KfpApi(
            site.kfp.inputs,
            site.kfp.environ,
            site.kfp.folder,
            cluster=site.cluster,
            clock=site.clock,
            hide=site.hide,
            say=progress.note,
        )
        self._cache = site.kfp.cache and request.reuse
        self._pipeline = adapted(request.pipeline, site.kfp, cache=self._cache)
        self._runs = Runs(self._api, site.kfp, request.key, site.clock)
        self._tracker = Tracker(self._pipeline.spec, progress)
        self._id = ""
        self.url = ""

    def finish(self) -> RunResult:
        """Start it, or find it, and see it through."""
        began = self._site.clock.now()
        published = publish(self._api, self._pipeline, self._settings, cache=self._cache, clock=self._site.clock)
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
        return self._result(tasks, self._site.clock.now() - began)

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
        clock, settings = self._site.clock, self._settings
        sources = self._sources()
        limits = Limits(self._request.timeout, settings.task_timeout)
        watcher = Watcher(self._api, self._id, self._tracker, sources, self._progress, clock, limits)
        try:
            watcher.until_end()
            while self._tracker.state == "FAILED" and self._tracker.attempts <= settings.retries:
                failed = listed([task.label for task in self._tracker.failed]) or "before its first task"
                number = f"retry {self._tracker.attempts} of {settings.retries}"
                self._progress.note(f"The run failed ({failed}); {number} from there")
                self._retry()
                sources = self._sources()
                watcher.again(sources)
                watcher.until_end()
        finally:
            sources.stop()

    def _retry(self) -> None:
        """Let the run go on from what failed, and wait until KFP shows that it does."""
        clock, path = self._site.clock, f"/apis/v2beta1/runs/{self._id}"
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

    def _sources(self) -> Sources:
        return Sources(self._api, self._id, self._site.clock, self._site.cluster)

    def _failure(self) -> RemoteFailed:
        tracker = self._tracker
        if tracker.state == "CANCELED":
            return RemoteFailed(
                "The run was cancelled in KFP",
                why=f"Finished before: {listed(tracker.done()) or 'none of its tasks'}",
                fix=f"Run it again, or see {self.url}",
            )
        options = self._site.store_options
        root = self._settings.pipeline_root or ("s3://mlpipeline" if options and options.endpoint else "")
        scene = Scene(
            self._api,
            self._request.pipeline,
            self._settings,
            self._site.root,
            self._site.cluster,
            options,
            self.url,
            "/".join(reachable(root).split("/")[:3]),
        )
        return scene.failure(tracker)

    def _found(self, started: Started) -> RunResult:
        """The result of a run that had succeeded before: nothing of it is told as if it happened now."""
        silent = Tracker(self._pipeline.spec, Progress())
        silent.feed(self._api.get(f"/apis/v2beta1/runs/{started.id}"), self._site.clock.now())
        tasks = task_results(self._pipeline, self._recorded().executions, list(silent.results()))
        reused = [dataclasses.replace(t, state="reused") if t.state == "succeeded" else t for t in tasks]
        return self._result(reused, 0.0)

    def _recorded(self) -> Recorded:
        """What the run left in ML Metadata; nothing, with a warning, where that cannot be reached."""
        self._api.patience = _RECORDED
        try:
            return recorded(self._api, self._id)
        except RemoteFailed as error:
            self._progress.warning(
                f"The run succeeded, but what it made is not known: {error} Let {self._api.url} lead"
                " /ml_metadata.MetadataStoreService/ to KFP's metadata-envoy service (port 9090)"
            )
            return Recorded([])

    def _result(self, tasks: list[TaskResult], seconds: float) -> RunResult:
        """The result, with the artifacts that later actions need in our store."""
        artifacts = [artifact for task in tasks for artifact in task.artifacts]
        chosen = [choose(artifacts, role, named)[0] for role, named in self._request.roles.items()]
        home = {
            id(artifact): bring_home(
                artifact, self._request.key, self._site.store, self._site.store_options, self._progress.warning
            )
            for artifact in chosen
            if artifact is not None and artifact.uri
        }
        tasks = [
            dataclasses.replace(task, artifacts=[home.get(id(artifact), artifact) for artifact in task.artifacts])
            for task in tasks
        ]
        return RunResult(tasks, pipeline_outputs(self._pipeline.spec, tasks), seconds, self.url)


_SAID = {
    "started": "Started the run",
    "running": "The same run goes on already, and is watched from here:",
    "finished": "Reused: the same run has succeeded,",
}
