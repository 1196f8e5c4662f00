"""run-pipeline from its inputs to its result: compile, check, prepare environments, find finished work, run."""

from __future__ import annotations

import difflib
import hashlib
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..action import CodeInputs
from ..environments import Environment, lock_of
from ..errors import BadInput, Place
from ..job import Job
from ..reports.sections import duration, number
from .compiler import compile_pipeline
from .engine import ENGINES, Artifact, Python, RunRequest, RunResult, Site
from .files import named_files
from .local.containers import identity
from .local.engine import require_local
from .metrics import METRICS, classifications, logged
from .parameters import read_parameters, resolve_parameters
from .platforms import settings_left_out, variables_of
from .progress import ConsoleProgress
from .spec import Pipeline

if TYPE_CHECKING:
    from ..cluster.objects import Cluster
    from .kfp.settings import KfpSettings

_HEADLINE_METRICS = 3


@dataclass(frozen=True)
class Order:
    """What is to be run.

    Attributes:
        file: of the pipeline, absolute.
        name: of the pipeline in it, or "".
        parameters: given inline.
        parameters_file: absolute, or None.
        tuned: the best parameters of an earlier tuning; those that the pipeline has are taken.
        inputs: digests of what components read beside their arguments.
        image: that components run in at scale; part of the key.
        engine: its name.
        roles: artifact that was named for each role, as `name` or `task.name`; "" for none.
        timeout: seconds, 0 for none.
        code: the consumer's requirements and Python.
        kfp: the Kubeflow Pipelines to run on; None for the engine `local`.
        cluster: the Kubernetes cluster below it, reached with the first call; None where it is not named.
    """

    file: Path
    name: str
    parameters: Mapping[str, Any]
    parameters_file: Path | None
    tuned: Mapping[str, Any]
    inputs: Mapping[str, str]
    image: str
    engine: str
    roles: Mapping[str, str]
    timeout: float
    code: CodeInputs
    kfp: KfpSettings | None = None
    cluster: Callable[[], Cluster] | None = None


def prepare(order: Order, job: Job) -> tuple[RunRequest, Site]:
    """Compile and check the pipeline, and prepare its environments if it runs here.

    Raises:
        BadInput: the pipeline, a parameter or a named artifact is wrong.
        RemoteFailed: an environment cannot be prepared.
    """
    base = job.environment("pipelines", order.code)
    environ = job.child_environ()
    pipeline = compile_pipeline(base.python, environ, order.file, order.name, job.root, job.console.debug)
    given = read_parameters(order.parameters_file) if order.parameters_file else {}
    place = Place(_shown(order.file, job.root))
    tuned = {name: value for name, value in order.tuned.items() if name in pipeline.parameters}
    given = {**given, **tuned, **order.parameters}
    parameters = resolve_parameters(pipeline.parameters, given, pipeline.name, place)
    for role, named in order.roles.items():
        _check_role(pipeline, role, named, place)
    pipeline.require_parameters()
    pythons, images = {}, {}
    if order.engine == "local":
        images = {image: identity(image, environ) for image in pipeline.images()}
        require_local(pipeline, environ)
        environ |= variables_of(pipeline, job.environ, place, job.console.mask)
        pythons = _pythons(pipeline, order.code, base, job)
    key = job.key(
        pipeline=pipeline.digest,
        parameters=parameters,
        inputs=dict(order.inputs),
        files=named_files([parameters, pipeline.imports()], job.root),
        image=order.image,
        engine=order.engine,
        pythons={label: python.digest for label, python in pythons.items()},
        roles=dict(order.roles),
        **({"images": images} if images else {}),
    )
    request = RunRequest(pipeline, parameters, key, pythons, order.inputs, order.timeout, job.reuse, order.roles)
    site = Site(
        job.store,
        job.home,
        job.root,
        environ=environ,
        store_options=job.store_options,
        kfp=order.kfp,
        cluster=order.cluster,
        hide=job.console.mask,
    )
    return request, site


def execute(order: Order, request: RunRequest, site: Site, job: Job) -> RunResult:
    """Run the prepared pipeline on its engine; see `engine.Engine.run`."""
    job.console.say(f"Running the pipeline {request.pipeline.name}")
    if order.engine == "local" and (left_out := settings_left_out(request.pipeline)):
        job.console.warning(f"The engine `local` leaves out settings for Kubernetes: {left_out}")
    progress = ConsoleProgress(job.console, streaming=job.context.on_runner)
    return ENGINES[order.engine](site).run(request, progress)


def details(
    request: RunRequest, result: RunResult, metrics: Mapping[str, float], model: Artifact | None
) -> dict[str, Any]:
    """What a person wants to see of a run, and the environment that the model was made in."""
    python = request.pythons.get(request.pipeline.executor_of(model.task)) if model else None
    return {
        "pipeline": request.pipeline.name,
        "tasks": [task.shown for task in result.tasks],
        "read": dict(result.read),
        "edges": [list(edge) for edge in request.pipeline.edges()],
        "parameters": dict(request.parameters),
        "metrics": dict(metrics),
        "classification": classifications(artifacts_of(result)),
        "kfp": request.pipeline.kfp,
        "digest": request.pipeline.digest,
        "environment": python.digest if python else "",
        "packages": python.installed if python else "",
    }


def artifacts_of(result: RunResult) -> list[Artifact]:
    """The artifacts of all tasks."""
    return [artifact for task in result.tasks for artifact in task.artifacts]


def not_finite(artifacts: Sequence[Artifact]) -> list[str]:
    """The metrics that are no numbers: NaN and the infinities, which JSON does not have."""
    return [
        f"{artifact.task}.{name}"
        for artifact in artifacts
        if artifact.type in METRICS
        for name, value in artifact.metadata.items()
        if value is None
    ]


def described(artifact: Artifact) -> dict[str, Any]:
    """An artifact as an entry of the output `artifacts`."""
    return {
        "task": artifact.task,
        "name": artifact.name,
        "type": artifact.type,
        "uri": artifact.uri,
        "digest": artifact.digest,
        "metadata": logged(artifact),
    }


def headline(result: RunResult, metrics: Mapping[str, float]) -> str:
    """A run in one sentence, with its first metrics."""
    done = [task for task in result.tasks if task.state in ("succeeded", "reused")]
    reused = sum(task.state == "reused" for task in done)
    count = f"{len(done)} task{'' if len(done) == 1 else 's'}"
    shown = _shown_metrics(metrics)
    return (
        f"{count} in {duration(result.seconds)}"
        + (f", {reused} of them reused" if reused else "")
        + (f": {shown}" if shown else "")
    )


def _shown_metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in list(metrics.items())[:_HEADLINE_METRICS])


def headline_of_reused(origin: str, details: Mapping[str, Any]) -> str:
    """A run that was found finished in one sentence.

    Args:
        origin: when and in which run it was made.
        details: of it; see `details`.
    """
    count = sum(task["state"] in ("succeeded", "reused") for task in details.get("tasks", []))
    shown = _shown_metrics(details.get("metrics", {}))
    return f"reused from {origin}: {count} task{'' if count == 1 else 's'}" + (f", {shown}" if shown else "")


def _check_role(pipeline: Pipeline, role: str, named: str, place: Place) -> None:
    """Refuse a named artifact that no task makes, before anything runs. A loop's index may stand in the name."""
    if not named:
        return
    names = [name for _, name, _ in pipeline.made()]
    if named.rpartition(".")[2] not in names:
        near = difflib.get_close_matches(named, names, n=1, cutoff=0.5)
        raise BadInput(
            f"`{role}-artifact`: no task of the pipeline {pipeline.name!r} makes an artifact {named!r}",
            why=f"They make: {', '.join(dict.fromkeys(names)) or 'none'}",
            fix=f"Did you mean `{near[0]}`?" if near else f"Correct `{role}-artifact`",
            place=place,
        )


def _pythons(pipeline: Pipeline, code: CodeInputs, base: Environment, job: Job) -> dict[str, Python]:
    """An environment for each set of packages that components ask for."""
    made: dict[tuple[str, ...], Python] = {(): python_of(base, pipeline)}
    pythons = {}
    for label, packages in pipeline.packages().items():
        if packages not in made:
            made[packages] = python_of(job.environment("pipelines", code, packages), pipeline)
        pythons[label] = made[packages]
    return pythons


def python_of(environment: Environment, pipeline: Pipeline) -> Python:
    """An environment by what is installed in it.

    Raises:
        BadInput: its kfp is of another major version than the lock's, by whose executor components run.
    """
    frozen = environment.frozen()
    pinned, installed = (re.search(r"^kfp==([^\s;.]+)\S*", text, re.MULTILINE) for text in (_lock(), frozen))
    if not pinned or not installed or pinned[1] != installed[1]:
        raise BadInput(
            f"The pipeline {pipeline.name!r} asks for {installed[0] if installed else 'another kfp'},"
            f" and components run with kfp {pinned[1] if pinned else ''}",
            fix="Leave kfp out of `packages_to_install` and `requirements`: every component has it",
            place=Place(pipeline.file.name),
        )
    configuration = (environment.folder / "pyvenv.cfg").read_text(encoding="utf-8")
    about = [line for line in configuration.splitlines() if line.startswith("version")]
    text = "\n".join([frozen, *about, platform.system(), platform.machine()])
    return Python(str(environment.python), hashlib.sha256(text.encode()).hexdigest(), frozen)


def _lock() -> str:
    return lock_of("pipelines").read_text(encoding="utf-8")


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
