"""When may a version be promoted? By a policy that fails closed: what is not there has not passed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from ..errors import BadInput, Place
from ..inputs import Written
from ..misfits import misfit
from ..suggest import did_you_mean
from ..yaml_io import read_yaml
from .manifest import Evidence, Manifest
from .signing import GITHUB_ISSUER, Signer, signer_of_file

_MAY = (
    "It may have `requires` and `accept-unchecked` (lists of actions), `metrics` (name: {min, max}) and"
    " `signed-by` (a list of {key}, or {issuer, subject, repository, ref})"
)


class Limits(Written):
    """What a metric must be: not under `min`, not over `max`."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _limits(self) -> Limits:
        if self.min is None and self.max is None:
            raise ValueError("must have `min` or `max`")
        return self


class SignedBy(Written):
    """Who may have signed: the file of a public key, or an identity (see `signing.Signer`)."""

    key: str = ""
    issuer: str = ""
    subject: str = ""
    repository: str = ""
    ref: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> SignedBy:
        identity = (self.issuer, self.subject, self.repository, self.ref)
        if self.key and any(identity):
            raise ValueError("must have a key or an identity: make it two entries")
        if not self.key and not (self.issuer and self.subject):
            raise ValueError("must have `key`, or `issuer` and `subject`")
        if self.issuer == GITHUB_ISSUER and not (self.repository and self.ref):
            raise ValueError("must have `repository` and `ref` of the run: others may call the workflow, too")
        if bool(self.repository) != bool(self.ref):
            raise ValueError("must have both `repository` and `ref`, or neither")
        return self

    def signer(self, path: Callable[[Path], Path]) -> Signer:
        """Who that is.

        Args:
            path: makes a path relative to the consumer's folder absolute.

        Raises:
            BadInput: the key cannot be used.
        """
        if self.key:
            return signer_of_file(path(Path(self.key)))
        return Signer("", self.issuer, self.subject, self.repository, self.ref)


class Policy(Written):
    """A policy file.

    Attributes:
        requires: actions that must have passed for these bytes, in each environment where they ran.
        accept_unchecked: of these, the actions for which it is enough that nothing was checked; in the file
            `accept-unchecked`.
        metrics: limits by metric's name; a metric that the version does not have breaks its limit.
        signed_by: one of them must have signed the version; in the file `signed-by`.
    """

    requires: list[str] | None = None
    accept_unchecked: list[str] = Field(default_factory=list)
    metrics: dict[str, Limits] = Field(default_factory=dict, min_length=1)
    signed_by: list[SignedBy] | None = Field(default=None, min_length=1)


@dataclass(frozen=True)
class Answer:
    """One requirement, whether the version meets it, and what was found."""

    requirement: str
    met: bool
    found: str


def read_policy(path: Path, actions: Sequence[str]) -> Policy:
    """Read a policy file.

    Args:
        path: the file.
        actions: all there are.

    Raises:
        BadInput: there is none, or it is not a policy; or it is empty, and would ask for nothing.
    """
    values, places = read_yaml(path, path.name, "Correct `policy`")
    if not values:
        fix = f"Write what it asks for, or take `policy` out. {_MAY}"
        raise BadInput(f"The policy {path.name} is empty", fix=fix, place=Place(path.name, 1))
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        where = first["loc"]
        at = next((places[where[:n]] for n in range(len(where), 0, -1) if where[:n] in places), ())
        raise BadInput(
            f"The policy {path.name}: {misfit(key, first)}",
            fix=_MAY,
            place=Place(path.name, *at),
        ) from None
    for key, named in (("requires", policy.requires or []), ("accept-unchecked", policy.accept_unchecked)):
        for number, action in enumerate(named):
            if action not in actions:
                raise BadInput(
                    f"The policy {path.name}: `{key}` names the unknown action {action!r}",
                    fix=did_you_mean(action, actions),
                    place=Place(path.name, *places.get((key, number), ())),
                )
    return policy


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
