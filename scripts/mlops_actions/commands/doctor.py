"""Say what is missing for this repository's chain on this machine, and how to fix it.

It tries the real thing: the store is written to, a create-only and a compare-and-swap write are made and undone,
the Docker engine is asked for its version. What the configuration asks for and is missing fails; the rest is only
said.
"""

from __future__ import annotations

from pydantic import Field

from ..action import Action, Inputs, Outputs, Result
from ..job import Job


class DoctorInputs(Inputs):
    """What `doctor` takes."""


class DoctorOutputs(Outputs):
    """What `doctor` gives."""

    ready: bool = Field(description="Whether everything that the configuration asks for is there.")
    missing: list[str] = Field(description="Names of what is missing.")


def run(inputs: DoctorInputs, job: Job) -> Result[DoctorOutputs]:
    """Examine, and list what was found."""
    from ..doctor import examine

    findings = examine(job.root, job.cache, job.project.values, lambda: job.store, job.environ.get("DOCKER_HOST", ""))
    marks = {"ok": "✓", "missing": "✗", "optional": "–"}
    for finding in findings:
        job.console.say(f"{marks[finding.state]} {finding.name}: {finding.found}")
        if finding.fix:
            job.console.say(f"    → {finding.fix}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    details = {"findings": [vars(finding) for finding in findings]}
    reason = f"Missing: {', '.join(missing)}" if missing else "Everything that the configuration asks for is there"
    return Result(DoctorOutputs(ready=not missing, missing=missing), details, not missing, reason)


ACTION = Action("doctor", "core", DoctorInputs, DoctorOutputs, run, icon="heart")
