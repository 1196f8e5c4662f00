"""Say what is missing for this repository's chain on this machine, and how to fix it.

It tries the real thing: the store is written to, a create-only and a compare-and-swap write are made and undone,
Docker is looked for as build-image does, a registry is asked for the images that are named, keys and policies are
read, Kubeflow Pipelines and the Kubernetes cluster are signed in to, and each right that is used is asked for. What
the configuration asks for in the `environment` and is missing fails; the rest is only said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..engines import Need, engines
from ..inputs import KfpInputs, Outputs
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
    from ..doctor import (
        examine,
        finding_of_docker,
        finding_of_image,
        finding_of_repository,
        findings_of_cluster,
        findings_of_kfp,
        findings_of_signing,
    )
    from ..evaluation.matrix import BUILT
    from ..kubernetes.connection import connector, is_named
    from ..planning import builds_image

    workspace, environ = step.workspace, step.workspace.environ

    def inputs_of(action: str) -> Any:
        return resolve(load(action), {}, environ, step.project, inputs.environment).inputs

    parts = sections(step.project, inputs.environment)
    findings = examine(workspace, parts)
    wanted = _needed(inputs, step)
    image, tested, deployed = inputs_of("build-image"), inputs_of("test-model"), inputs_of("deploy-model")
    images = {leg.image: tested for leg in tested.matrix.values() if leg.image not in ("", BUILT)}
    builds = builds_image(workspace.root, parts) and image.if_unavailable == "fail"
    runs = bool(images) or any("docker" in needs for needs, _ in wanted)
    findings.append(finding_of_docker(environ, builds or runs, image.platforms))
    if deployed.image:
        images.setdefault(deployed.image, deployed)
    findings += [finding_of_image(reference, given, workspace) for reference, given in images.items()]
    registered = inputs_of("register-model")
    policies = {"promote-model": inputs_of("promote-model").policy, "deploy-model": deployed.policy}
    key = registered.signing_key.get_secret_value()
    findings += findings_of_signing(key, registered.sign, policies, NAMES, workspace)
    if inputs.kfp_host and not any("kfp" in needs for needs, _ in wanted):
        wanted.append((("kfp",), inputs))
    for needs, given in wanted:
        if "kfp" in needs and isinstance(given, KfpInputs):
            findings += findings_of_kfp(given, workspace)
        if "repository" in needs:
            findings.append(finding_of_repository(given, workspace))
        asked = [need for need in needs if need not in ("docker", "repository")]
        if asked and (asked != ["kfp"] or is_named(given, environ)):
            cluster = connector(given, environ, step.console.mask)
            findings += findings_of_cluster(cluster, asked, getattr(given, "gateway", ""))
    if not wanted and is_named(inputs, environ):
        findings += findings_of_cluster(connector(inputs, environ, step.console.mask), [])
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


def _needed(inputs: DoctorInputs, step: Step) -> list[tuple[Sequence[Need], Any]]:
    """What the engines that are configured cannot work without, each with the inputs of the action that needs it."""
    environ, project = step.workspace.environ, step.project
    configured = resolve(ACTION, {}, environ, project, inputs.environment).inputs
    options = {name: value for name, value in inputs if value != getattr(configured, name)}
    needed: list[tuple[Sequence[Need], Any]] = []
    for name in NAMES:
        action = load(name)
        if action.engines:
            given = {name: value for name, value in options.items() if name in action.inputs.model_fields}
            resolved = resolve(action, given, environ, project, inputs.environment).inputs
            if needs := engines(action.engines)[resolved.engine].needs(resolved):
                needed.append((needs, resolved))
    return needed


ACTION = Action("doctor", "images", DoctorInputs, DoctorOutputs, run, icon="heart")
