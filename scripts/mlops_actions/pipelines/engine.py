"""What runs a pipeline: the request, the result, and the one place where engines are chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..waiting import Clock

if TYPE_CHECKING:
    from ..cluster.objects import Cluster
    from ..store import Store, StoreOptions
    from .kfp.settings import KfpSettings
    from .spec import Pipeline

State = Literal["succeeded", "reused", "failed", "skipped"]


@dataclass(frozen=True)
class Python:
    """An environment that components run in.

    Attributes:
        executable: its interpreter.
        digest: of everything that is installed in it, and of the interpreter's version.
        installed: what that is, as `name==version` lines.
    """

    executable: str
    digest: str
    installed: str = ""


@dataclass(frozen=True)
class RunRequest:
    """One run of a pipeline.

    Attributes:
        pipeline: the compiled pipeline.
        parameters: a value for every parameter of it, defaults included.
        key: hash of all that decides the result; artifacts are kept under it.
        pythons: the environment of each executor, by the executor's label.
        inputs: digests of what components read beside their arguments (data, features): a task is reused only
            when they are the same.
        timeout: seconds for the whole run; 0 for no limit.
        reuse: whether results of tasks of earlier runs may be taken.
        roles: the artifact that was named for each of `roles.ROLES`, "" for none: they must be in the store.
    """

    pipeline: Pipeline
    parameters: Mapping[str, Any]
    key: str
    pythons: Mapping[str, Python]
    inputs: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    reuse: bool = True
    roles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """What a task made.

    Attributes:
        task: the task's label.
        name: of the component's output.
        type: the schema title, such as `system.Model`.
        uri: where its bytes are; "" when it has none.
        digest: of its bytes, `sha256:…`; "" when they are not here.
        metadata: what the component logged to it.
    """

    task: str
    name: str
    type: str
    uri: str
    digest: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """How one task ended.

    Attributes:
        task: its label: its name, after the names of the pipelines it is nested in, before the indices of its loops.
        state: how it ended.
        seconds: how long it took; for a reused task, how long it took when it was run.
        parameters: its output parameters.
        artifacts: its output artifacts.
        attempts: how often it was tried.
    """

    task: str
    state: State
    seconds: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    attempts: int = 1

    @property
    def shown(self) -> dict[str, Any]:
        """What a report shows of it."""
        attempts = {"attempts": self.attempts} if self.attempts > 1 else {}
        return {"name": self.task, "state": self.state, "seconds": round(self.seconds, 3), **attempts}


@dataclass(frozen=True)
class RunResult:
    """A run that succeeded.

    Attributes:
        tasks: in the order they ended.
        outputs: the pipeline's own output parameters.
        seconds: how long it took; 0 for one that was found finished.
        url: its page, where there is one.
        read: what its tasks read beside their arguments: the digests of files of the consumer's folder, by relative
            path, and of imported artifacts, by URI. With a changed one, the result is stale.
    """

    tasks: Sequence[TaskResult]
    outputs: Mapping[str, Any]
    seconds: float
    url: str = ""
    read: Mapping[str, str] = field(default_factory=dict)


class Progress:
    """Who is told how a run goes on. This one listens to nothing."""

    def started(self, task: str) -> None:
        """A task has begun."""

    def ended(self, result: TaskResult) -> None:
        """A task has ended."""

    def logged(self, task: str, line: str) -> None:
        """A task has printed a line."""

    def note(self, text: str) -> None:
        """Something about the run as a whole."""

    def warning(self, text: str) -> None:
        """Something about the run that somebody should look at."""

    def waiting(self, tasks: Mapping[str, float]) -> None:
        """These tasks go on, for so many seconds each."""


class Engine(Protocol):
    """Runs pipelines somewhere."""

    def run(self, request: RunRequest, progress: Progress) -> RunResult:
        """Run a pipeline to its end.

        Raises:
            ComponentFailed: a task failed (with its log and place).
            RemoteFailed: it timed out, or the engine failed.
            Cancelled: a signal came; everything that was started has been ended.
        """


@dataclass(frozen=True)
class Site:
    """What an engine may use.

    Attributes:
        store: where artifacts and finished tasks are kept.
        home: a folder for the engine's state.
        root: the consumer's folder.
        environ: variables of tasks that are processes of this machine.
        store_options: how other stores are reached, with the same keys.
        kfp: the Kubeflow Pipelines to run on, for the engine `kfp`.
        cluster: the Kubernetes cluster below it, when there is a kubeconfig; it is reached with the first call.
        clock: what time is measured and waited with.
        hide: told every secret that comes up, before anything is printed.
    """

    store: Store
    home: Path
    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    store_options: StoreOptions | None = None
    kfp: KfpSettings | None = None
    cluster: Callable[[], Cluster] | None = None
    clock: Clock = Clock()  # noqa: RUF009 - it has no state
    hide: Callable[[str], None] | None = None


def _local(site: Site) -> Engine:
    from .local import LocalEngine

    return LocalEngine(site)


def _kfp(site: Site) -> Engine:
    from .kfp.engine import KfpEngine

    return KfpEngine(site)


ENGINES: Mapping[str, Callable[[Site], Engine]] = {"local": _local, "kfp": _kfp}
"""Every engine by its name."""
