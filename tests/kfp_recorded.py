"""Responses of a real Kubeflow Pipelines 2.17.0, and the specs of the pipelines that ran: tests/data/kfp/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "data" / "kfp" / "recorded"
RUNS = ("branch", "failing", "good", "hello", "retried", "running", "terminated", "uiterm")
_CHAINS = {
    "good": ("load", "train", "judge"),
    "retried": ("work", "after"),
    "running": ("first", "wait"),
    "uiterm": ("first", "wait"),
}

Json = dict[str, Any]


def run(name: str) -> Json:
    """`GET /apis/v2beta1/runs/{id}` of one of RUNS."""
    found: Json = json.loads((RECORDED / f"{name}-run.json").read_text(encoding="utf-8"))
    return found


def spec(name: str) -> Json:
    """The PipelineSpec of a run; of those that were not recorded, their tasks in a chain."""
    file = RECORDED / f"{name}-spec.json"
    if file.exists():
        found: Json = json.loads(file.read_text(encoding="utf-8"))
        return found
    tasks, before = {}, list[str]()
    for task in _CHAINS.get(name, ("hello",)):
        tasks[task] = {"componentRef": {"name": "c"}, "dependentTasks": before}
        before = [task]
    return {
        "pipelineInfo": {"name": run(name)["display_name"]},
        "root": {"dag": {"tasks": tasks}},
        "components": {"c": {"executorLabel": "exec"}},
    }


def lines(name: str) -> list[str]:
    """The lines of a recorded text."""
    return (RECORDED / name).read_text(encoding="utf-8").splitlines()
