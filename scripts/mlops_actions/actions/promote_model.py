"""Move an alias to a version, if the checks that are required have passed.

Every record of each action in `requires` must have passed for exactly this model; one that is missing is a no, and so
is one that checked nothing, unless the policy file has its action under `accept-unchecked`. A policy file may also ask
for more, and say who must have signed the version (`signed-by`). The alias moves by compare-and-swap, and remembers
what it named before, when, by whom and why.

It is for models that something else deploys: deploy-model judges by the same rules, and moves its `alias` when the
version has proved itself where it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ..inputs import ALIAS_NAME, Outputs, PromotionInputs
from ..runtime.action import Action
from ..runtime.chain import NAMES
from ..runtime.result import Result

if TYPE_CHECKING:
    from ..runtime.step import Step


class PromoteModelInputs(PromotionInputs):
    """What `promote-model` takes."""

    version: str = Field(
        "",
        description="The version's number, or an alias that names it. By default register-model's of this run, or"
        " the one that has this run's model.",
    )
    alias: str = Field("champion", description="The alias to move.", pattern=ALIAS_NAME, examples=["champion"])


class PromoteModelOutputs(Outputs):
    """What `promote-model` gives."""

    alias: str = Field(description="The alias that names the version.")
    version: int = Field(description="The version that was asked for.")
    previous_version: int | None = Field(description="The version that the alias named before; empty if none.")
    changed: bool = Field(description="Whether the alias was moved.")


def run(inputs: PromoteModelInputs, step: Step) -> Result[PromoteModelOutputs]:
    """Judge the version, and move the alias."""
    from ..registry.policy import read_policy
    from ..registry.promoting import judged, move_now, name_of, refusal, registered
    from ..registry.registry import Registry

    registry, records = Registry(step.workspace.store), step.records()
    name = name_of(records, inputs.model)
    manifest = registered(registry, records, name, inputs.version)
    policy = read_policy(step.workspace.path(inputs.policy), NAMES) if inputs.policy else None
    requires = inputs.requires if "requires" in inputs.model_fields_set else None
    answers = judged(registry, records, manifest, policy, requires, step.workspace)
    before = registry.alias(name, inputs.alias)
    previous, changed = before.version if before else None, False
    reason = refusal(manifest, f"become {inputs.alias}", answers)
    if passed := not reason:
        move = move_now(manifest, step.context.actor, step.run, inputs.reason)
        now, changed = registry.move_alias(manifest, inputs.alias, move)
        if changed:
            previous = now.history[0].previous
        after = f", after version {previous}" if previous else ""
        reason = f"Version {manifest.version} of {name} is the {inputs.alias}{after if changed else ' already'}"
    return Result(
        PromoteModelOutputs(alias=inputs.alias, version=manifest.version, previous_version=previous, changed=changed),
        details={"name": name, "answers": [vars(answer) for answer in answers]},
        passed=passed,
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
