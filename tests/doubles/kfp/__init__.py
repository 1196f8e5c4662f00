"""A double of Kubeflow Pipelines' API server that really executes pipelines. See tests/doubles/README.md.

with KfpDouble(s3.options(), Settings(pipeline_root=f"minio://{bucket}/v2/artifacts")) as kfp:
    … kfp.url …
    kfp.fault("status", path="GET /apis/v2beta1/runs/", status=503, times=3)
assert not kfp.violations
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlops_actions import environments
from mlops_actions.kubernetes.objects import Cluster
from mlops_actions.stores.store import StoreOptions
from mlops_actions.waiting import Clock

from .artifacts import Artifacts
from .catalog import Call, Catalog
from .contract import Contract
from .execution import Executor
from .faults import Fault
from .metadata import Metadata, MetadataUnavailable
from .pods import Pods
from .runs import Runs
from .schedules import Schedules
from .server import Server, Service
from .synthetic import Step, synthetic_run
from .world import Json, Run, Settings, World

__all__ = ["Fault", "KfpDouble", "Metadata", "MetadataUnavailable", "Settings", "Step"]


class KfpDouble:
    """A running double.

    Args:
        options: how to reach the S3 server that artifacts are stored in; without it, and without a root of another
            scheme in `settings`, they are in a folder.
        settings: how the server is set up.
        python: an interpreter with kfp and what components import. Without it there is an environment for each set of
            packages that components ask for, made on demand.
        metadata: whether there is ML Metadata (it takes a process), or one that several doubles share.
        archive: pods are gone as soon as they end; their logs are in the object store.
        cluster: tasks that a fault strikes are real pods there, in the namespace of `settings`; those have `image`.
        port: to listen on; 0 for a free one.
        clock: waits; a test may drive it.

    Attributes:
        violations: requests and answers that KFP's description does not allow. Tests assert that there are none.
        requests: every request, as `METHOD path?query`, in the order of their arrival.
    """

    def __init__(
        self,
        options: StoreOptions | None = None,
        settings: Settings | None = None,
        *,
        python: Path | None = None,
        metadata: bool | Metadata = True,
        archive: bool = False,
        cluster: Cluster | None = None,
        image: str = "",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        settings = settings or Settings()
        self._folder = TemporaryDirectory(prefix="kfp-double-")
        if options is None and settings.pipeline_root.startswith(("minio:", "s3:")):
            settings = replace(settings, pipeline_root=f"file://{self._folder.name}/v2/artifacts")
        self._world = World(settings, clock or Clock())
        self._world.logs_archived = archive
        self._own_metadata = Metadata() if metadata is True else None
        self._metadata = metadata if isinstance(metadata, Metadata) else self._own_metadata
        self._pods = Pods(cluster, image, clock or Clock()) if cluster else None
        self._executor = Executor(
            self._world,
            Artifacts(options),
            self._metadata,
            python=python or interpreter(),
            install=python is None,
            archive=archive,
            pods=self._pods,
        )
        self._catalog = Catalog(self._world)
        self._runs = Runs(self._world, self._catalog, self._executor.start)
        self._schedules = Schedules(self._world, self._catalog, self._runs, clock or Clock())
        self._service = Service(self._world, Contract(), self._operations(), self._metadata, self._obey, self._state)
        self._server = Server(self._service, port)
        threading.Thread(target=self._schedules.run, daemon=True).start()

    def __enter__(self) -> KfpDouble:
        """It runs already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End it, with all that it runs."""
        self._schedules.stop()
        self._server.stop()
        self._executor.close()
        if self._pods:
            self._pods.close()
        if self._own_metadata:
            self._own_metadata.close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """Where it is."""
        return self._server.url

    @property
    def violations(self) -> list[str]:
        """What clients or the double itself did against the description."""
        return self._service.violations

    @property
    def requests(self) -> list[str]:
        """What was asked."""
        return self._service.requests

    @property
    def at_work(self) -> int:
        """How many runs are being executed, whatever the API shows."""
        return self._executor.at_work

    @property
    def namespace(self) -> str:
        """Where its pods are."""
        return self._world.settings.namespace

    def fault(self, kind: str, **values: Any) -> None:
        """Let something go wrong; see `faults.KINDS`."""
        self._obey(Fault(kind, **values))

    def clear_faults(self) -> None:
        """What has not gone wrong yet will not."""
        self._world.faults.clear()

    def runs(self) -> list[Json]:
        """All runs, as the API shows them."""
        with self._world.lock:
            return [self._runs.show(run) for run in self._world.runs.values()]

    def pods(self, run_id: str, display_name: str) -> list[str]:
        """The names in Kubernetes of a run's pods of this display name; the API does not tell them."""
        nodes = self._world.runs[run_id].workflow.nodes.values()
        return [node.pod for node in nodes if node.kind == "Pod" and node.display == display_name]

    def synthetic_run(self, steps: Sequence[Step], name: str = "synthetic", **fields: Any) -> str:
        """A run that executes nothing and whose tasks' states follow a script; its id."""
        with self._world.lock:
            run = synthetic_run(self._world, steps, name, fields)
            self._world.runs[run.id] = run
        return run.id

    def _obey(self, fault: Fault) -> None:
        world, service = self._world, self._service
        others: Mapping[str, Callable[[Call], Any]] = {
            "delete": self._runs.delete, "archive": self._runs.archive, "terminate": self._runs.terminate,
        }  # fmt: skip
        if fault.kind == "restart":
            self._server.stop()
            timer = threading.Timer(fault.seconds, self._server.start)
            timer.daemon = True
            timer.start()
        elif fault.kind == "clock":
            world.offset = fault.seconds
        elif fault.kind == "lag":
            world.lag = fault.seconds
        elif fault.kind == "token":
            service.token = fault.token
            service.token_until = world.now() + fault.seconds if fault.seconds else 0.0
        elif fault.kind == "state":
            world.forced[fault.run, fault.task] = fault.state
            world.forced = {key: state for key, state in world.forced.items() if state}
        elif fault.kind == "details":
            world.details_mode, world.details_seconds = fault.mode, fault.seconds
        elif fault.kind == "metadata":
            service.metadata_status = fault.status
        elif fault.kind in others:
            with world.lock:
                run: Run = world.runs[fault.run]
                user = next((u for u, names in (world.settings.users or {}).items() if run.namespace in names), "")
                others[fault.kind](Call(path={"run_id": run.id}, user=user))
        else:
            world.faults.add(fault)

    def _state(self) -> Json:
        return {
            "violations": self.violations,
            "requests": len(self.requests),
            "faults": self._world.faults.waiting(),
            "struck": self._world.faults.struck,
            "runs": {run["run_id"]: run["state"] for run in self.runs()},
        }

    def _operations(self) -> dict[str, Callable[[Call], Any]]:
        catalog, runs, schedules = self._catalog, self._runs, self._schedules
        users = self._world.settings.users
        health = {"multi_user": users is not None, "pipeline_store": self._world.settings.pipeline_store}
        return {
            "HealthzService_GetHealthz": lambda _: {k: v for k, v in health.items() if v},
            "AuthService_Authorize": lambda call: self._authorize(call),
            "DummyFilterService_GetFilter": lambda _: {},
            "ExperimentService_CreateExperiment": catalog.create_experiment,
            "ExperimentService_GetExperiment": catalog.get_experiment,
            "ExperimentService_ListExperiments": catalog.list_experiments,
            "ExperimentService_DeleteExperiment": catalog.delete_experiment,
            "ExperimentService_ArchiveExperiment": catalog.archive_experiment,
            "ExperimentService_UnarchiveExperiment": catalog.unarchive_experiment,
            "PipelineService_CreatePipeline": catalog.create_pipeline,
            "PipelineService_CreatePipelineAndVersion": catalog.create_both,
            "PipelineService_GetPipeline": catalog.get_pipeline,
            "PipelineService_GetPipelineByName": catalog.get_pipeline_by_name,
            "PipelineService_ListPipelines": catalog.list_pipelines,
            "PipelineService_UpdatePipeline": catalog.update_pipeline,
            "PipelineService_DeletePipeline": catalog.delete_pipeline,
            "PipelineService_CreatePipelineVersion": catalog.create_version,
            "PipelineService_GetPipelineVersion": catalog.get_version,
            "PipelineService_ListPipelineVersions": catalog.list_versions,
            "PipelineService_UpdatePipelineVersion": catalog.update_version,
            "PipelineService_DeletePipelineVersion": catalog.delete_version,
            "UploadPipeline": catalog.upload_pipeline,
            "UploadPipelineVersion": catalog.upload_version,
            "RunService_CreateRun": runs.create,
            "RunService_GetRun": runs.get,
            "RunService_ListRuns": runs.list,
            "RunService_ArchiveRun": runs.archive,
            "RunService_UnarchiveRun": runs.unarchive,
            "RunService_DeleteRun": runs.delete,
            "RunService_TerminateRun": runs.terminate,
            "RunService_RetryRun": runs.retry,
            "RecurringRunService_CreateRecurringRun": schedules.create,
            "RecurringRunService_GetRecurringRun": schedules.get,
            "RecurringRunService_ListRecurringRuns": schedules.list,
            "RecurringRunService_DeleteRecurringRun": schedules.delete,
            "RecurringRunService_EnableRecurringRun": schedules.enable,
            "RecurringRunService_DisableRecurringRun": schedules.disable,
        }

    def _authorize(self, call: Call) -> Json:
        self._world.admit(call.user, call.query.get("namespace", ""), call.query.get("verb", ""), "viewers")
        return {}


def interpreter() -> Path:
    """A Python with kfp: this one, or the one that the action itself uses."""
    if find_spec("kfp"):
        return Path(sys.executable)
    return environments.ensure("pipelines", environments.cache_folder()).python


def users_of(text: str) -> dict[str, Collection[str]]:
    """`alice=team-a,team-b;bob=team-b` as Settings.users."""
    pairs = (part.partition("=") for part in text.split(";") if part)
    return {user: names.split(",") for user, _, names in pairs}
