"""What surrounds a run of a pipeline: checks of what was asked for, and what people see of its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from ..text import duration, many, number
from .engine import Artifact, RunRequest, RunResult
from .metrics import classifications, logged
from .spec import Pipeline

_HEADLINE_METRICS = 3


def check_role(pipeline: Pipeline, role: str, named: str, place: Place) -> None:
    """Refuse a named artifact that no task makes, before anything runs. A loop's index may stand in the name."""
    if not named:
        return
    names = [name for _, name, _ in pipeline.made()]
    if named.rpartition(".")[2] not in names:
        raise BadInput(
            f"`{role}-artifact`: no task of the pipeline {pipeline.name!r} makes an artifact {named!r}",
            why=f"They make: {', '.join(dict.fromkeys(names)) or 'none'}",
            fix=did_you_mean(named, names, f"Correct `{role}-artifact`"),
            place=place,
        )


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
    shown = _shown_metrics(metrics)
    return (
        f"{many(len(done), 'task')} in {duration(result.seconds)}"
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
    return f"reused from {origin}: {many(count, 'task')}" + (f", {shown}" if shown else "")


def place_of(file: Path, root: Path) -> Place:
    """The pipeline's file, as the consumer knows it."""
    return Place(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))
