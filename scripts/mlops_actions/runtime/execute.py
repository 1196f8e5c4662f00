"""Running an action to its end: inputs, work, outputs, record, summary, exit code."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from .. import environments
from ..console import Console
from ..context import Context
from ..errors import BadInput, Cancelled, ComponentFailed, Mistakes, MlopsError, Rejected, RemoteFailed
from ..inputs import Inputs, kebab
from ..processes.scratch import temporary_files
from ..project import Project
from ..records import Record, Verdict
from ..untrusted import visible
from ..workspace import Workspace
from . import config
from .action import Action
from .chain import NAMES
from .record import as_json, problem_of, public_inputs, record_of
from .result import Result
from .runs import run_of_folder
from .step import DryRun, Step

_VERDICTS: dict[int, Verdict] = {0: "passed", 1: "rejected", 2: "bad-input", 3: "failed", 130: "cancelled"}


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
    step: Step | None = None
    inputs: Inputs | None = None
    result: Result[Any] | None = None
    error: MlopsError | None = None
    with signals():
        try:
            with temporary_files():
                step, inputs = prepare(action, given, context, console, environ)
                _refuse_pull(action, inputs, step)
                result = action.run(inputs, step)
        except DryRun as dry:
            result = dry.result
            if result is None:
                console.finish({"would-run": str(dry)}, "")
                return 0
        except (Exception, KeyboardInterrupt) as raised:
            error = _as_ours(raised)
            console.debug(traceback.format_exc())
    code = error.exit_code if error else 0 if result is None or result.passed else 1
    record = record_of(action.name, started, monotonic() - began, result).model_copy(
        update={
            "run": step.run if step else "",
            "verdict": _verdict(code, error, result),
            "source": context.source(),
            "inputs": public_inputs(inputs),
            "problem": problem_of(error) if error else None,
            **({"details": as_json(error.details)} if error else {}),
        }
    )
    whole, record = record, record.hidden(console.hide)
    unkept = _keep(record, whole, step)
    error = error or unkept
    code = error.exit_code if error else code
    if record.verdict == "unchecked":
        console.warning(f"{record.action}: {visible(record.reason)}")
    elif record.verdict == "passed" and record.reason:
        console.say(f"{record.action}: {visible(record.reason)} ({record.seconds:.1f} s)")
    _finish(record, console)
    if error:
        console.failure(error)
    elif code:
        assert result is not None
        what = record.reason or f"{record.action} did not pass"
        console.failure(Rejected(what, fix=result.fix, place=result.place, log=result.log))
    return code


def _refuse_pull(action: Action[Any, Any], inputs: Inputs, step: Step) -> None:
    """Let no pull request change what others use.

    Raises:
        BadInput: it would.
    """
    if action.shared and not step.may_change(inputs):
        raise BadInput(
            f"A pull request may not run {action.name}",
            why="It changes what others use, before it was reviewed",
            fix="Give the step `if: ${{ !startsWith(github.event_name, 'pull_request') }}`, or name a `store` of its"
            " own in `environments.pull-request` of mlops.yaml",
        )


def _verdict(code: int, error: MlopsError | None, result: Result[Any] | None) -> Verdict:
    if isinstance(error, ComponentFailed):
        return "failed"
    if result and not code and not result.checked:
        return "unchecked"
    return _VERDICTS.get(code, "cancelled")


def prepare(
    action: Action[Any, Any], given: Mapping[str, Any], context: Context, console: Console, environ: Mapping[str, str]
) -> tuple[Step, Inputs]:
    """What a run of an action may use, and its inputs.

    Raises:
        BadInput: the folder, the configuration or an input is wrong.
    """
    environments.used(Path(sys.prefix) / environments.MARK)
    for secret in config.secrets_of(action, given, environ):
        console.mask(secret)
    root = _root(given, environ, console)
    named = given.get("config") or environ.get("MLOPS_CONFIG")
    environment = given.get("environment") or environ.get("MLOPS_ENVIRONMENT") or ""
    mistakes, project = Mistakes(), None
    with mistakes.collected():
        project = config.read_project(root / (named or config.FILE), required=bool(named))
    with mistakes.collected():  # those of a wrong file are told already
        resolved = config.resolve(action, given, environ, project or Project(), environment if project else "")
    mistakes.refuse()
    assert project is not None
    inputs: Inputs = resolved.inputs
    for name, origin in resolved.origins.items():
        console.debug(f"{kebab(name)} = {getattr(inputs, name)!r} ({origin})")
        if origin != "default" and (instead := action.inputs.model_fields[name].deprecated):
            console.warning(f"`{kebab(name)}` ({origin}) is deprecated: {instead}")
    try:
        home, cache = config.home(environ), environments.cache_folder()
    except RuntimeError:
        raise BadInput("This user has no home folder", fix="Set HOME, or MLOPS_HOME and MLOPS_CACHE") from None
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        fix = "Set MLOPS_HOME to a folder that can be written"
        raise BadInput(f"Cannot create the folder {home}", why=fault.strerror or "", fix=fix) from None
    workspace = Workspace(
        root=root,
        home=home,
        cache=cache,
        environ=environ,
        console=console,
        store_url=_store_url("" if config.lacks_store(context, inputs.store, environ) else inputs.store, root, home),
        store_options=config.store_options(inputs, environ, console.mask),
        scope=f"pulls/{context.pull_request}/" if context.pull else "",
    )
    dry = environ.get("MLOPS_DRY_RUN")
    run = inputs.run or context.run
    step = Step(action.name, console, context, workspace, run, project, inputs.reuse, Path(dry) if dry else None)
    if not step.run and action.name in NAMES:
        step = replace(step, run=run_of_folder(step))
    return step, inputs


def _root(given: Mapping[str, Any], environ: Mapping[str, str], console: Console) -> Path:
    """The consumer's folder: the one that is named, else the project's that this process is in.

    Raises:
        BadInput: the one that is named does not exist.
    """
    if named := given.get("working_directory") or environ.get("MLOPS_WORKING_DIRECTORY"):
        root = Path(named).resolve()
        if not root.is_dir():
            raise BadInput(f"The folder {root} does not exist", fix="Correct `working-directory`")
        return root
    here = Path.cwd()
    root = config.project_folder(here)
    if root != here.resolve():
        console.say(f"The project is {root}: paths are relative to it")
    return root


def _store_url(store: str, root: Path, home: Path) -> str:
    """The store that is named, a path from the consumer's folder on; without one, this machine's user's."""
    if "://" in store:
        return store
    return ((root / store).resolve() if store else home / "store").as_uri()


def _keep(record: Record, whole: Record, step: Step | None) -> MlopsError | None:
    """Write the record to the run's folder; and `whole`, with what was taken out, under its key if it may be reused."""
    if step is None or record.action in ("plan", "report", "doctor"):
        return None
    try:
        step.keep_in_run(record)
        if record.key and record.verdict == "passed" and not record.reused:
            step.keep(whole)
    except MlopsError as error:
        return error
    return None


def _finish(record: Record, console: Console) -> None:
    from ..reports.sections import section  # a template engine is not needed before the work is done

    console.finish({**record.outputs, "record": record.model_dump(mode="json", exclude_defaults=True)}, section(record))


def _as_ours(raised: BaseException) -> MlopsError:
    if isinstance(raised, MlopsError):
        return raised
    if isinstance(raised, KeyboardInterrupt):
        return Cancelled(signal.SIGINT)
    if isinstance(raised, OSError):
        if raised.errno in environments.FULL:
            named = (
                raised.filename2
                or raised.filename
                or ", ".join(environments.full_disks(config.home(config.environ()), Path.cwd()))
            )
            what = "No space left on device" + (f": {named}" if named else "")
            return RemoteFailed(what, fix="Free some space there, then run this again")
        return RemoteFailed(f"{type(raised).__name__}: {raised}")
    return RemoteFailed(
        f"Unexpected error (this is a bug in mlops-actions): {type(raised).__name__}: {raised}",
        fix="Run it again with RUNNER_DEBUG=1, and open an issue with the traceback",
    )


@contextmanager
def signals() -> Iterator[None]:
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
