"""Say what is missing for this repository's chain on this machine, and how to fix it.

It tries the real thing: the store is written to, a create-only and a compare-and-swap write are made and undone,
the Docker engine is asked for its version, Kubeflow Pipelines and the Kubernetes cluster are signed in to, and each
right that is used is asked for. What the configuration asks for in the `environment` and is missing fails; the rest
is only said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..action import Action, KfpInputs, Outputs, Result
from ..job import Job

if TYPE_CHECKING:
    from ..pipelines.kfp.client.api import KfpApi


class DoctorInputs(KfpInputs):
    """What `doctor` takes."""


class DoctorOutputs(Outputs):
    """What `doctor` gives."""

    ready: bool = Field(description="Whether everything that the configuration asks for is there.")
    missing: list[str] = Field(description="Names of what is missing.")


def run(inputs: DoctorInputs, job: Job) -> Result[DoctorOutputs]:
    """Examine, and list what was found."""
    from ..doctor import examine, findings_of_cluster, findings_of_kfp

    sections = job.project.sections(inputs.environment)
    findings = examine(job.root, job.cache, sections, lambda: job.store, job.environ.get("DOCKER_HOST", ""))
    engines = {name: sections.get(name, {}).get("engine") for name in ("run-pipeline", "tune-hyperparams")}
    kfp, katib = engines["run-pipeline"] == "kfp", engines["tune-hyperparams"] == "katib"
    if kfp or inputs.kfp_host:
        findings += findings_of_kfp(lambda: _kfp(inputs, job))
    if katib or job.knows_cluster(inputs):
        findings += findings_of_cluster(job.cluster(inputs), [*(["katib"] if katib else []), *(["kfp"] if kfp else [])])
    marks = {"ok": "✓", "missing": "✗", "optional": "–"}
    for finding in findings:
        job.console.say(f"{marks[finding.state]} {finding.name}: {finding.found}")
        if finding.fix:
            job.console.say(f"    → {finding.fix}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    details = {"findings": [vars(finding) for finding in findings]}
    reason = f"Missing: {', '.join(missing)}" if missing else "Everything that the configuration asks for is there"
    return Result(DoctorOutputs(ready=not missing, missing=missing), details, not missing, reason)


def _kfp(inputs: DoctorInputs, job: Job) -> KfpApi:
    from ..pipelines.kfp.client.api import KfpApi

    return KfpApi(*job.kfp(inputs), cluster=job.cluster(inputs), hide=job.console.mask, patience=0)


ACTION = Action("doctor", "core", DoctorInputs, DoctorOutputs, run, icon="heart")
