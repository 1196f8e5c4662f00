"""Runs that execute nothing: their tasks' states follow a script of times, for figures."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .nodes import Log, timestamp
from .workflow import Workflow
from .world import Json, Run, World


@dataclass(frozen=True)
class Step:
    """A task of a script: when it begins and ends, in seconds from the start of the run, and how."""

    task: str
    begins: float
    ends: float
    phase: str = "Succeeded"
    lines: Sequence[str] = ()


def synthetic_run(world: World, steps: Sequence[Step], name: str, fields: Mapping[str, Any]) -> Run:
    """A run that starts now and ends with its last step. Each task is the nodes that a real one has."""
    began = world.now()
    at = [began]
    spec: Json = {
        "pipelineInfo": {"name": name},
        "root": {"dag": {"tasks": {step.task: {"componentRef": {"name": "comp"}} for step in steps}}},
        "components": {"comp": {"executorLabel": "exec"}},
    }
    workflow = Workflow(spec, lambda: at[0], world.settings.retries)
    workflow.begin()
    moments = sorted([(step.begins, 1, step) for step in steps] + [(step.ends, 0, step) for step in steps],
                     key=lambda moment: moment[:2])  # fmt: skip
    for seconds, starts, step in moments:
        at[0] = began + seconds
        if starts:
            workflow.started(step.task).log = Log(step.lines)
        else:
            workflow.ended(step.task, step.phase)
    at[0] = began + max(step.ends for step in steps)
    state = "SUCCEEDED" if workflow.finish() else "FAILED"
    experiment = next(iter(world.experiments.values()))
    given = {
        "experiment_id": experiment["experiment_id"],
        "run_id": str(uuid.uuid4()),
        "display_name": name,
        "storage_state": "AVAILABLE",
        "pipeline_spec": spec,
        "created_at": timestamp(began),
        "scheduled_at": timestamp(began),
        "recurring_run_id": "",
        **fields,
    }
    states = [(began, "PENDING"), (began, "RUNNING"), (at[0], state)]
    return Run(given, spec, world.settings.namespace, workflow, "", {}, states, at[0])
