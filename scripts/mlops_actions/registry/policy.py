"""When may a version be promoted? By a policy that fails closed: what is not there has not passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import BadInput, Place
from ..inputs import kebab
from ..misfits import misfit
from ..yaml_io import read_yaml
from .manifest import Evidence, Manifest


class Limits(BaseModel):
    """What a metric must be: not under `min`, not over `max`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = None
    max: float | None = None


class Policy(BaseModel):
    """A policy file.

    Attributes:
        requires: actions that must have passed for these bytes, in each environment where they ran.
        accept_unchecked: of these, the actions for which it is enough that nothing was checked; in the file
            `accept-unchecked`.
        metrics: limits by metric's name; a metric that the version does not have breaks its limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=kebab)

    requires: list[str] | None = None
    accept_unchecked: list[str] = []
    metrics: dict[str, Limits] = Field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One requirement, whether the version meets it, and what was found."""

    requirement: str
    met: bool
    found: str


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        BadInput: there is none, or it is not a policy.
    """
    values, places = read_yaml(path, path.name, "Correct `policy`")
    try:
        return Policy.model_validate(values or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        where = first["loc"]
        at = next((places[where[:n]] for n in range(len(where), 0, -1) if where[:n] in places), ())
        raise BadInput(
            f"The policy {path.name}: {misfit(key, first)}",
            fix="It may have `requires` and `accept-unchecked` (lists of actions), `metrics` (name: {min, max})",
            place=Place(path.name, *at),
        ) from None


def judge(policy: Policy, requires: Sequence[str], manifest: Manifest, evidence: Sequence[Evidence]) -> list[Answer]:
    """Each requirement with its answer.

    Args:
        policy: the file's; what it says under `requires` comes before `requires`.
        requires: actions that are required when the policy names none.
        manifest, evidence: of the version; the evidence has the last check of each action and variant.
    """
    answers: list[Answer] = []
    for action in policy.requires if policy.requires is not None else requires:
        own = [item for item in evidence if item.action == action]
        if not own:
            answers.append(Answer(action, False, "it was never run for these bytes"))
        for item in own:
            name = f"{action} ({item.variant})" if item.variant else action
            met = item.verdict == "passed" or (item.verdict == "unchecked" and action in policy.accept_unchecked)
            answers.append(Answer(name, met, item.reason or item.verdict))
    for metric, limits in policy.metrics.items():
        value = manifest.metrics.get(metric)
        for sign, limit in (("≥", limits.min), ("≤", limits.max)):
            if limit is None:
                continue
            met = value is not None and (value >= limit if sign == "≥" else value <= limit)
            answers.append(Answer(f"{metric} {sign} {limit:g}", met, "absent" if value is None else f"{value:.4g}"))
    return answers
