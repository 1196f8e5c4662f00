"""Move an alias to a version, if the checks that are required have passed.

Every record of each action in `requires` must have passed for exactly this model; one that is missing is a no, and so
is one that checked nothing, unless the policy file has its action under `accept-unchecked`. A policy file may also ask
for more. The alias moves by compare-and-swap, and remembers what it named before, when, by whom
and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ..inputs import ALIAS_NAME, ModelInputs, Outputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines

if TYPE_CHECKING:
    from ..runtime.step import Step


class PromoteModelInputs(ModelInputs):
    """What `promote-model` takes."""

    version: str = Field(
        "",
        description="The version's number, or an alias that names it. By default register-model's of this run, or"
        " the one that has this run's model.",
    )
    alias: str = Field(
        "champion",
        description="The alias to move.",
        pattern=ALIAS_NAME,
        examples=["champion"],
    )
    requires: Lines = Field(
        default_factory=lambda: ["evaluate-model", "test-model"],
        description="Actions whose last record for these very bytes must be `passed`, in every environment where they"
        " ran. One that never ran counts as failed. By default also validate-data, if it looked at the training data.",
    )
    policy: Path | None = Field(
        None,
        description="A YAML file with `requires` (which comes before the input) and `metrics`"
        " (`auc: {min: 0.7}`), all of which must hold; `accept-unchecked` names actions that may have checked nothing.",
    )
    reason: str = Field("", description="Why, for the alias's history.")


class PromoteModelOutputs(Outputs):
    """What `promote-model` gives."""

    alias: str = Field(description="The alias that names the version.")
    version: int = Field(description="The version that was asked for.")
    previous_version: int | None = Field(description="The version that the alias named before; empty if none.")
    changed: bool = Field(description="Whether the alias was moved.")


def run(inputs: PromoteModelInputs, step: Step) -> Result[PromoteModelOutputs]:
    """Judge the version, and move the alias."""
    from ..registry.policy import Policy, judge, read_policy
    from ..registry.promoting import move_now, name_of, registered
    from ..registry.registering import evidence_of
    from ..registry.registry import Registry

    registry, records = Registry(step.workspace.store), step.records()
    name = name_of(records, inputs.model)
    manifest = registered(registry, records, name, inputs.version)
    policy = read_policy(step.workspace.path(inputs.policy)) if inputs.policy else Policy()
    found = evidence_of(registry, records, manifest.digest, manifest.lineage.data_fingerprint)
    registry.add_evidence(manifest, found)  # checks that were made after the registration
    evidence = registry.evidence(manifest)
    requires = list(inputs.requires)
    if "requires" not in inputs.model_fields_set and any(item.action == "validate-data" for item in evidence):
        requires.append("validate-data")
    answers = judge(policy, requires, manifest, evidence)
    missing = [answer for answer in answers if not answer.met]
    rows = [(answer.requirement, "yes" if answer.met else "NO", answer.found) for answer in answers]
    if rows:
        step.console.table(["requirement", "met", "found"], rows)
    before = registry.alias(name, inputs.alias)
    previous, changed = before.version if before else None, False
    if missing:
        listed = "; ".join(f"{answer.requirement}: {answer.found}" for answer in missing)
        reason = f"Version {manifest.version} of {name} may not become {inputs.alias}: {listed}"
    else:
        move = move_now(manifest, step.context.actor, step.run, inputs.reason)
        now, changed = registry.move_alias(manifest, inputs.alias, move)
        if changed:
            previous = now.history[0].previous
        after = f", after version {previous}" if previous else ""
        already = f"Version {manifest.version} of {name} is the {inputs.alias}"
        reason = already + (after if changed else " already")
    return Result(
        PromoteModelOutputs(alias=inputs.alias, version=manifest.version, previous_version=previous, changed=changed),
        details={"name": name, "answers": [vars(answer) for answer in answers]},
        passed=not missing,
        reason=reason,
        subject={"model": manifest.digest, "name": name, "version": str(manifest.version)},
    )


ACTION = Action(
    "promote-model",
    "core",
    PromoteModelInputs,
    PromoteModelOutputs,
    run,
    icon="award",
    shared=True,
)
