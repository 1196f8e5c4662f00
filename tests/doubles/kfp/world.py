"""The state of the double: what it knows, its clock, and who may do what. Everything is in memory."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_actions.waiting import Clock

from .faults import Faults
from .metadata import Record
from .nodes import timestamp
from .refusals import DENIED, UNAUTHENTICATED, Refusal, invalid
from .workflow import Workflow

Json = dict[str, Any]
UNFINISHED = "1970-01-01T00:00:00Z"
FINAL_STATES = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Settings:
    """How the server is set up.

    Attributes:
        namespace: where single-user KFP runs its pods.
        users: by user, the namespaces that they may use; None for a server without users.
        pipeline_store: `database`, or `kubernetes`, where names are those of Kubernetes objects.
        pipeline_root: the server's own.
        retries: whether Argo is configured as by KFP 2.17: each node is the attempt of another one, and what fails by
            itself is not tried again, whatever `set_retry` says.
        ui: whether the host is KFP's UI, which reads logs itself and has ML Metadata; else the API server alone.
        max_runs: how many runs are executed at a time; more wait as PENDING.
    """

    namespace: str = "kubeflow"
    users: Mapping[str, Collection[str]] | None = None
    pipeline_store: str = "database"
    pipeline_root: str = "minio://mlpipeline/v2/artifacts"
    retries: bool = True
    ui: bool = True
    max_runs: int = 4


@dataclass
class Run:
    """A run, and the workflow that it is.

    Attributes:
        fields: what the API shows and does not change by itself.
        spec: the PipelineSpec that is executed.
        states: (time, state); a time may be in the future when the server lags or follows a script.
        attempt: 0, and one more for each retry.
        kept: the results of tasks that succeeded.
        record, recorded: what is written to ML Metadata, and the groups that are.
        platforms: the settings for platforms, such as Kubernetes' secrets.
    """

    fields: Json
    spec: Json
    namespace: str
    workflow: Workflow
    pipeline_root: str
    parameters: Json
    states: list[tuple[float, str]] = field(default_factory=list)
    finished: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    attempt: int = 0
    kept: dict[str, Json] = field(default_factory=dict)
    record: Record | None = None
    recorded: set[str] = field(default_factory=set)
    platforms: Json = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.fields["run_id"])

    def state(self, at: float) -> str:
        """Its state at some moment."""
        return next((state for time_, state in reversed(self.states) if time_ <= at), "PENDING")


class World:
    """All that the server knows."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self._clock = settings, clock
        self.lock = threading.RLock()
        self.faults = Faults()
        self.offset = 0.0
        self.lag = 0.0
        self.forced: dict[tuple[str, str], str] = {}
        self.logs_archived = False
        self.details_mode, self.details_seconds = "", 0.0
        self.experiments: dict[str, Json] = {}
        self.pipelines: dict[str, Json] = {}
        self.versions: dict[str, Json] = {}
        self.runs: dict[str, Run] = {}
        self.recurring: dict[str, Json] = {}
        if settings.users is None:
            self.add_experiment("Default", "", "All runs created without specifying an experiment are grouped here.")

    def now(self) -> float:
        """The server's clock: seconds since 1970."""
        return time.time() + self.offset

    def pause(self, seconds: float) -> None:
        """Let somebody wait."""
        self._clock.wait(seconds)

    def stamp(self) -> str:
        """The server's clock as the API writes it."""
        return timestamp(self.now())

    def add_experiment(self, name: str, namespace: str, description: str = "") -> Json:
        """A new experiment."""
        made = {
            "experiment_id": str(uuid.uuid4()),
            "display_name": name,
            "description": description,
            "created_at": self.stamp(),
            "namespace": namespace,
            "storage_state": "AVAILABLE",
            "last_run_created_at": UNFINISHED,
        }
        self.experiments[made["experiment_id"]] = made
        return made

    def admit(self, user: str, namespace: str, verb: str = "", resource: str = "") -> str:
        """The namespace of a request, or its refusal. A server without users has one namespace, which is not told.

        Raises:
            Refusal: nobody signed in, no namespace named, or it is not theirs.
        """
        users = self.settings.users
        if users is None:
            return ""
        if not user:
            raise Refusal(
                UNAUTHENTICATED,
                "Request header error: there is no user identity header.",
                "Failed to authorize with API",
                "Unauthenticated",
            )
        if not namespace:
            raise invalid("Namespace cannot be empty in multi-user mode", "Failed to authorize with API")
        if namespace not in users.get(user, ()):
            raise Refusal(
                DENIED,
                f"User '{user}' is not authorized with reason:  (request: &ResourceAttributes{{Namespace:{namespace},"
                f"Verb:{verb},Group:pipelines.kubeflow.org,Version:v1beta1,Resource:{resource},Subresource:,Name:,}})",
                "Failed to authorize with API",
                "PermissionDenied",
            )
        return namespace
