"""What an engine that runs pipelines is given, tells meanwhile, and gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..waiting import Clock

if TYPE_CHECKING:
    from ..context import Context
    from ..errors import Place
    from ..workspace import Workspace
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
class Prepared:
    """What the components of a pipeline run in.

    Attributes:
        pythons: the environment of each executor that is a process of this machine, by the executor's label.
        images: the identity of each image that components run in on this machine, by its name.
    """

    pythons: Mapping[str, Python] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


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
        image: for components that name none, on other machines than this; "" for the SDK's.
    """

    pipeline: Pipeline
    parameters: Mapping[str, Any]
    key: str
    pythons: Mapping[str, Python]
    inputs: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    reuse: bool = True
    roles: Mapping[str, str] = field(default_factory=dict)
    image: str = ""


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


@dataclass(frozen=True)
class Scheduled:
    """What was done about one schedule, or would be on the default branch.

    Attributes:
        name: the schedule's.
        action: `create`, `replace`, `delete` ….
        why: what differs, for people.
    """

    name: str
    action: str
    why: Sequence[str] = ()

    def __str__(self) -> str:
        """One line of the table."""
        return f"{self.action:<8} {self.name}" + (f": {'; '.join(self.why)}" if self.why else "")


class RunProgress:
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


class PipelineEngine(Protocol):
    """Runs pipelines somewhere."""

    def prepare(self, pipeline: Pipeline) -> Prepared:
        """Check that a pipeline can run here, and make what its components run in.

        Raises:
            BadInput: it needs what this engine does not have.
            RemoteFailed: an environment cannot be prepared.
        """

    def run(self, request: RunRequest, progress: RunProgress) -> RunResult:
        """Run a pipeline to its end.

        Raises:
            ComponentFailed: a task failed (with its log and place).
            RemoteFailed: it timed out, or the engine failed.
            Cancelled: a signal came; everything that was started has been ended.
        """

    def schedule(self, request: RunRequest, wanted: Mapping[str, Any], place: Place | None) -> Sequence[Scheduled]:
        """Let the pipeline run by itself at the times that are wanted, and at no others; what was changed for that.

        Args:
            request: the run that has passed: its version is the one that schedules start.
            wanted: by name, as `mlops.yaml` has them.
            place: where that is.

        Raises:
            BadInput: a schedule is wrong, or this engine has none.
        """


@dataclass(frozen=True)
class Origin:
    """The code that a pipeline comes from, and the work that it is run for.

    Attributes:
        context: the commit and the event.
        folder: name of the consumer's folder, for where there is no repository.
        run: name of the run of the chain.
    """

    context: Context
    folder: str
    run: str

    @property
    def repository(self) -> str:
        """Who owns schedules: the repository, or the folder."""
        return self.context.repository or self.folder

    @property
    def description(self) -> str:
        """The repository and the commit, for people; "" outside a repository."""
        return self.context.repository and f"{self.context.repository} at {self.context.commit[:12]}"

    @property
    def url(self) -> str:
        """The page of the code; "" outside a repository."""
        return f"{self.context.server}/{self.context.repository}" if self.context.repository else ""


@dataclass(frozen=True)
class PipelineContext:
    """What an engine may use.

    Attributes:
        workspace: the consumer's folder, the engine's state, and the store of artifacts and finished tasks.
        origin: where the pipeline comes from.
        clock: what time is measured and waited with.
    """

    workspace: Workspace
    origin: Origin
    clock: Clock = Clock()  # noqa: RUF009 - it has no state
