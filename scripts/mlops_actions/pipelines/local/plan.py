"""What a run of the local engine is given, and what is told of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

from ...stores.store import StoreOptions
from ..engine import Python

Event = dict[str, Any]
"""What is told, by its `event`: `lookup` (answered with the finished task for a `key`, or None), `fetch` (the object
`stored` is wanted at `target`), `started`, `log` (a `line`), `skipped` (`tasks`, and whether it was by a `condition`),
`ended` (with a `state`)."""
Tell = Callable[[Event], Any]


@dataclass(frozen=True)
class TaskPlan:
    """One run.

    Attributes:
        spec: KFP's PipelineSpec as JSON.
        parameters: of the pipeline.
        key: 32 hexadecimal digits; a run with the same key is the same run.
        folder: of this run; it is empty.
        root: the consumer's folder, which tasks run in.
        pythons: the environment of each executor that is a Python function, by the executor's label.
        inputs: digests of what tasks read beside their arguments.
        environ: variables of the tasks.
        store_options: how imported artifacts are reached.
        hide: takes what must not be seen out of a text.
        at_once: how many tasks may run at the same time.
        began: when the run was started.
    """

    spec: Mapping[str, Any]
    parameters: Mapping[str, Any]
    key: str
    folder: Path
    root: Path
    pythons: Mapping[str, Python]
    environ: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)
    store_options: StoreOptions | None = None
    hide: Callable[[str], str] = lambda text: text
    at_once: int = 4
    began: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def job(self) -> str:
        """The run's name, as the backend makes it: the pipeline's, and what tells one run from another."""
        return f"{self.spec['pipelineInfo']['name']}-{self.key[:5]}"

    @property
    def workspace(self) -> Path:
        """The folder that tasks share."""
        return self.folder / ".workspace"

    @property
    def constants(self) -> dict[str, str]:
        """The placeholders that stand for something of the run itself."""
        began = self.began.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "{{$.pipeline_job_name}}": self.job,
            "{{$.pipeline_job_resource_name}}": self.job,
            "{{$.pipeline_job_uuid}}": str(UUID(self.key)),
            "{{$.pipeline_job_create_time_utc}}": began,
            "{{$.pipeline_job_schedule_time_utc}}": began,
            "{{$.pipeline_root}}": str(self.folder),
            "{{$.workspace_path}}": str(self.workspace),
        }

    def constants_of(self, name: str, label: str) -> dict[str, str]:
        """The same, and those of a task: its name, and a number, as the backend's ids of executions are."""
        number = int(hashlib.sha256(f"{self.key}/{label}".encode()).hexdigest()[:12], 16)
        return {**self.constants, "{{$.pipeline_task_name}}": name, "{{$.pipeline_task_uuid}}": str(number)}
