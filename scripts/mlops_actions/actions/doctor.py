"""Say what is missing for this repository's chain on this machine, and how to fix it.

It tries the real thing: the store is written to, a create-only and a compare-and-swap write are made and undone,
Docker is looked for as build-image does, Kubeflow Pipelines and the Kubernetes cluster are signed in to, and each
right that is used is asked for. What the configuration asks for in the `environment` and is missing fails; the rest
is only said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..engines import Need, engines
from ..inputs import ClusterInputs, KfpInputs, Outputs
from ..runtime.action import Action
from ..runtime.chain import NAMES, load
from ..runtime.config import resolve, sections
from ..runtime.result import Result

if TYPE_CHECKING:
    from ..runtime.step import Step


class DoctorInputs(KfpInputs):
    """What `doctor` takes."""


class DoctorOutputs(Outputs):
    """What `doctor` gives."""

    ready: bool = Field(description="Whether everything that the configuration asks for is there.")
    missing: list[str] = Field(description="Names of what is missing.")


def run(inputs: DoctorInputs, step: Step) -> Result[DoctorOutputs]:
    """Examine, and list what was found."""
    from ..doctor import examine, finding_of_docker, findings_of_cluster, findings_of_kfp
    from ..kubernetes.connection import connector, is_named
    from ..kubernetes.rights import PARTS
    from ..planning import builds_image

    workspace = step.workspace
    parts = sections(step.project, inputs.environment)
    findings = examine(workspace, parts)
    wanted = _needed(inputs, step)
    image = resolve(load("build-image"), {}, workspace.environ, step.project, inputs.environment).inputs
    builds = builds_image(workspace.root, parts) and image.if_unavailable == "fail"
    findings.append(finding_of_docker(workspace.environ, builds or "docker" in wanted, image.platforms))
    if inputs.kfp_host:
        wanted.setdefault("kfp", inputs)
    for need, given in wanted.items():
        if need == "kfp" and isinstance(given, KfpInputs):
            findings += findings_of_kfp(given, workspace)
        if need in PARTS and (need != "kfp" or is_named(given, workspace.environ)):
            cluster = connector(given, workspace.environ, step.console.mask)
            findings += findings_of_cluster(cluster, [need])
    if not wanted and is_named(inputs, workspace.environ):
        findings += findings_of_cluster(connector(inputs, workspace.environ, step.console.mask), [])
    findings = list(dict.fromkeys(findings))
    marks = {"ok": "✓", "missing": "✗", "optional": "–"}
    for finding in findings:
        step.console.say(f"{marks[finding.state]} {finding.name}: {finding.found}")
        if finding.fix:
            step.console.say(f"    → {finding.fix}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    details = {"findings": [vars(finding) for finding in findings]}
    reason = f"Missing: {', '.join(missing)}" if missing else "Everything that the configuration asks for is there"
    return Result(DoctorOutputs(ready=not missing, missing=missing), details, not missing, reason)


def _needed(inputs: DoctorInputs, step: Step) -> dict[Need, ClusterInputs]:
    """What the engines that are configured cannot work without, each with the inputs of the action that needs it."""
    environ, project = step.workspace.environ, step.project
    configured = resolve(ACTION, {}, environ, project, inputs.environment).inputs
    options = {name: value for name, value in inputs if value != getattr(configured, name)}
    needed: dict[Need, ClusterInputs] = {}
    for name in NAMES:
        action = load(name)
        if action.engines:
            given = {name: value for name, value in options.items() if name in action.inputs.model_fields}
            resolved = resolve(action, given, environ, project, inputs.environment).inputs
            for need in engines(action.engines)[resolved.engine].needs:
                needed.setdefault(need, resolved)
    return needed


ACTION = Action("doctor", "images", DoctorInputs, DoctorOutputs, run, icon="heart")
