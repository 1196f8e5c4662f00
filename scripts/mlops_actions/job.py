"""One run of one action: what it may use, how its result is found again, and how it ends."""

from __future__ import annotations

import hashlib
import json
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from . import config, environments
from .action import Action, ClusterInputs, CodeInputs, Inputs, KfpInputs, Outputs, Result, kebab
from .environments import Environment, EnvironmentFailed
from .errors import BadInput, Cancelled, MlopsError, Rejected, RemoteFailed
from .github.console import Console
from .github.context import Context, child_environment
from .processes.scratch import temporary_files
from .record import Record, Verdict, as_json, problem_of, public_inputs, record_of
from .store import Store, StoreOptions

if TYPE_CHECKING:
    from .cluster.objects import Cluster
    from .pipelines.kfp.connection import Host

O = TypeVar("O", bound=Outputs)  # noqa: E741
_VERDICTS: dict[int, Verdict] = {0: "passed", 1: "rejected", 2: "bad-input", 3: "failed", 130: "cancelled"}


@dataclass(frozen=True)
class Job:
    """What an action's function may use, beside its inputs.

    Attributes:
        action: the action's name.
        console: where it speaks.
        context: the commit, branch and event.
        root: the consumer's folder, absolute.
        home: where embedded engines keep their state, outside the workspace.
        cache: where environments are.
        run: name of the chain's run.
        project: the configuration file, for the few that look beyond their own inputs.
        environ: this process's variables, for credentials.
        reuse: whether finished work may be taken.
        store_url, store_options: of the store.
    """

    action: str
    console: Console
    context: Context
    root: Path
    home: Path
    cache: Path
    run: str
    project: config.Project
    environ: Mapping[str, str]
    reuse: bool
    store_url: str
    store_options: StoreOptions

    @cached_property
    def store(self) -> Store:
        """The store; opened on first use."""
        return Store(self.store_url, self.store_options, hide=self.console.hide)

    def path(self, name: str | Path) -> Path:
        """A path of the consumer's, made absolute."""
        return self.root / name

    def key(self, **parts: object) -> str:
        """The hash of all that decides a result. Every part must have JSON."""
        text = json.dumps({"action": self.action, **parts}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def finished(self, key: str, outputs: type[O]) -> Result[O] | None:
        """The result of the same work, if it was done before, may be taken, and what it made is still there."""
        if not self.reuse:
            return None
        try:
            record = Record.model_validate(self.store.get_json(_work(self.action, key)))
            made = outputs.model_validate(record.outputs)
        except (FileNotFoundError, ValidationError, ValueError):
            return None
        prefix = self.store.url + "/"
        uris = [value for value in record.outputs.values() if isinstance(value, str) and value.startswith(prefix)]
        gone = [uri for uri in uris if not self._there(uri[len(prefix) :])]
        if gone:
            self.console.say(f"Done before, but {gone[0]} is gone: doing it again")
            return None
        self.console.say(f"Reused: the same work was done at {record.started}")
        return Result(made, record.details, True, record.reason, record.subject, key, reused=True)

    def kept(self, result: Result[O]) -> Result[O]:
        """The result, written down as finished work now: for whoever waits for the lock that is held.

        The frame writes the whole record over it at the end.
        """
        if result.key and result.passed:
            record = record_of(self.action, datetime.now(timezone.utc), 0.0, result)
            text = self.console.hide(record.model_dump_json())
            self.store.put(_work(self.action, result.key), text.encode())
        return result

    def previous(self, action: str, **subject: str) -> Record | None:
        """The record of an action earlier in this run of the chain, if it speaks of this subject."""
        found = [record for record in self.records() if record.action == action]
        return next((r for r in reversed(found) if subject.items() <= r.subject.items()), None)

    def earlier(self, action: str, output: str) -> Any:
        """What an earlier action of this run of the chain gave as an output; "" when there is none."""
        record = self.previous(action)
        return (record.outputs.get(output) if record else None) or ""

    def records(self) -> list[Record]:
        """The records of this run of the chain, in the order they were started."""
        found = []
        for entry in self.store.list(f"runs/{self.run}/"):
            try:
                found.append(Record.model_validate(self.store.get_json(entry.path)))
            except (FileNotFoundError, ValidationError, ValueError):
                self.console.debug(f"{entry.path} is not a record")
        return sorted(found, key=lambda record: record.started)

    def environment(self, group: str, inputs: CodeInputs | None = None, packages: Sequence[str] = ()) -> Environment:
        """The Python environment of a lock, with the consumer's requirements and more packages laid over it.

        Raises:
            BadInput: the requirements file is absent or does not go with the lock.
            RemoteFailed: the packages cannot be had.
        """
        files = [self.path(inputs.requirements)] if inputs and inputs.requirements else []
        for file in files:
            if not file.is_file():
                raise BadInput(f"There is no requirements file {file}", fix="Correct `requirements`")
        python = (inputs.python if inputs else "") or self.environ.get("MLOPS_PYTHON", "")
        try:
            return environments.ensure(
                group, self.cache, requirements=files, packages=packages, python=python, say=self.console.say
            )
        except EnvironmentFailed as error:
            raise RemoteFailed("The environment cannot be prepared", why=str(error)) from error

    def child_environ(self, **extra: str) -> dict[str, str]:
        """Variables for a process of the consumer's: the store is named in them, secrets of the runner are not."""
        given = {"MLOPS_STORE": self.store_url, "MLOPS_HOME": str(self.home), **self._store_address()}
        return child_environment({**given, **extra})

    def store_variables(self) -> dict[str, str]:
        """Variables that say where the store is to a process on another machine; none for a folder of this one."""
        if self.store_url.startswith("file:"):
            return {}
        return {"MLOPS_STORE": self.store_url, **self._store_address()}

    def built_image(self) -> str:
        """The image that build-image pushed in this run of the chain, with its digest; "" when there is none."""
        reference = str(self.earlier("build-image", "image-ref"))
        return reference if "@" in reference else ""

    def cluster(self, inputs: ClusterInputs) -> Callable[[], Cluster]:
        """The Kubernetes cluster that the inputs name; it is connected to with the first call.

        Raises (the function that is returned):
            BadInput, RemoteFailed: the kubeconfig is of no use, or the cluster cannot be reached.
        """

        @cache
        def connected() -> Cluster:
            from .cluster.connection import Access, connect, words_to_mask

            kubeconfig = inputs.kubeconfig.get_secret_value()
            for secret in words_to_mask(kubeconfig):
                self.console.mask(secret)
            return connect(Access(kubeconfig, inputs.kube_context, inputs.namespace, self.environ))

        return connected

    def knows_cluster(self, inputs: ClusterInputs) -> bool:
        """Whether this work was given a cluster. A person's `~/.kube/config` may be for another one."""
        named = (self.environ.get(name) for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))
        return bool(inputs.kubeconfig.get_secret_value() or any(named))

    def kfp_host(self, inputs: KfpInputs) -> Host:
        """The Kubeflow Pipelines that the inputs name. Paths are the consumer's."""
        from .pipelines.kfp.connection import Host

        def file(name: str) -> str:
            return str(self.path(name)) if name else ""

        return Host(
            url=inputs.kfp_host,
            namespace=inputs.namespace,
            sign_in=inputs.kfp_sign_in,
            token=inputs.kfp_token.get_secret_value(),
            token_file=file(inputs.kfp_token_file),
            user=inputs.kfp_user,
            issuer=inputs.kfp_issuer,
            audience=inputs.kfp_audience,
            client_id=inputs.kfp_client_id,
            client_secret=inputs.kfp_client_secret.get_secret_value(),
            header=inputs.kfp_header,
            ca=file(inputs.kfp_ca),
            client_certificate=file(inputs.kfp_client_certificate),
            client_key=file(inputs.kfp_client_key),
            environ=self.environ,
        )

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Only one process of this machine at a time holds the lock of a name; it is free when its holder dies."""
        path = self.home / "locks" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.console.say(f"Waiting for another process that works on {name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _store_address(self) -> dict[str, str]:
        options = self.store_options
        address = {"AWS_REGION": options.region}
        if options.endpoint:
            address |= {"AWS_ENDPOINT_URL": options.endpoint, "MLOPS_STORE_ENDPOINT": options.endpoint}
        return address

    def _there(self, path: str) -> bool:
        return self.store.exists(path) or any(True for _ in self.store.list(path + "/"))


def execute(
    action: Action[Any, Any],
    given: Mapping[str, Any],
    context: Context,
    console: Console,
) -> int:
    """Run an action to its end: inputs, work, outputs, record, summary. The exit code.

    A failure is said once, in one annotation; its traceback goes to the debug log.
    """
    started, began = datetime.now(timezone.utc), monotonic()
    environ = config.environ()
    for secret in config.secrets_in(environ):
        console.mask(secret)
    job: Job | None = None
    inputs: Inputs | None = None
    result: Result[Any] | None = None
    error: MlopsError | None = None
    with _signals():
        try:
            with temporary_files():
                job, inputs = prepare(action, given, context, console, environ)
                result = action.run(inputs, job)
        except (Exception, KeyboardInterrupt) as raised:
            error = _as_ours(raised)
            console.debug(traceback.format_exc())
    code = error.exit_code if error else 0 if result is None or result.passed else 1
    record = record_of(action.name, started, monotonic() - began, result).model_copy(
        update={
            "run": job.run if job else "",
            "verdict": _VERDICTS.get(code, "cancelled"),
            "source": context.source(),
            "inputs": public_inputs(inputs),
            "problem": problem_of(error) if error else None,
            **({"details": as_json(error.details)} if error else {}),
        }
    )
    record = Record.model_validate_json(console.hide(record.model_dump_json()))
    unkept = _keep(record, job)
    error = error or unkept
    code = error.exit_code if error else code
    if record.verdict == "passed" and record.reason:
        console.say(f"{record.action}: {record.reason} ({record.seconds:.1f} s)")
    _finish(record, console)
    if error:
        console.failure(error)
    elif code:
        console.failure(Rejected(record.reason or f"{record.action} says no", place=result.place if result else None))
    return code


def prepare(
    action: Action[Any, Any], given: Mapping[str, Any], context: Context, console: Console, environ: Mapping[str, str]
) -> tuple[Job, Inputs]:
    """What a run of an action may use, and its inputs.

    Raises:
        BadInput: the folder, the configuration or an input is wrong.
    """
    for secret in config.secrets_of(action, given, environ):
        console.mask(secret)
    root = Path(given.get("working_directory") or environ.get("MLOPS_WORKING_DIRECTORY") or ".").resolve()
    if not root.is_dir():
        raise BadInput(f"There is no folder {root}", fix="Correct `working-directory`")
    named = given.get("config") or environ.get("MLOPS_CONFIG")
    project = config.read_project(root / (named or "mlops.yaml"), required=bool(named))
    environment = given.get("environment") or environ.get("MLOPS_ENVIRONMENT") or ""
    resolved = config.resolve(action, given, environ, project, environment)
    inputs: Inputs = resolved.inputs
    for name, origin in resolved.origins.items():
        console.debug(f"{kebab(name)} = {getattr(inputs, name)!r} ({origin})")
    home = config.home(environ)
    job = Job(
        action=action.name,
        console=console,
        context=context,
        root=root,
        home=home,
        cache=environments.cache_folder(),
        run=inputs.run or context.run,
        project=project,
        environ=environ,
        reuse=inputs.reuse,
        store_url=inputs.store or (home / "store").as_uri(),
        store_options=config.store_options(inputs, environ),
    )
    return job, inputs


def _keep(record: Record, job: Job | None) -> MlopsError | None:
    """Write the record to the run's folder, and under its key when it is finished work."""
    if job is None or record.action in ("plan", "report", "doctor"):
        return None
    variant = record.details.get("variant")
    name = f"{record.action}@{variant}" if variant else record.action
    try:
        job.store.put_json(f"runs/{record.run}/{name}.json", record.model_dump(mode="json"))
        if record.key and record.verdict == "passed" and not record.reused:
            job.store.put_json(_work(record.action, record.key), record.model_dump(mode="json"))
    except MlopsError as error:
        return error
    return None


def _finish(record: Record, console: Console) -> None:
    from .reports.sections import section  # a template engine is not needed before the work is done

    console.finish({**record.outputs, "record": record.model_dump(mode="json", exclude_defaults=True)}, section(record))


def _as_ours(raised: BaseException) -> MlopsError:
    if isinstance(raised, MlopsError):
        return raised
    if isinstance(raised, KeyboardInterrupt):
        return Cancelled(signal.SIGINT)
    if isinstance(raised, OSError):
        full = raised.errno == 28
        fix = "Free some space, then run this again" if full else ""
        return RemoteFailed(f"{type(raised).__name__}: {raised}", fix=fix)
    return RemoteFailed(
        f"An error that mlops-actions did not foresee: {type(raised).__name__}: {raised}",
        fix="Run it again with RUNNER_DEBUG=1 and open an issue with the traceback",
    )


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Cancelled` where the work is, so that every `finally` on the way is run."""

    def cancel(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Cancelled(number, f"Cancelled by {signal.Signals(number).name}")

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(action: str, key: str) -> str:
    return f"work/{action}/{key}.json"
