"""Which version a run means, whether it may have an alias, and moves of the alias with who and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from ..errors import BadInput
from ..records import Record
from ..workspace import Workspace
from .manifest import Manifest, Move
from .policy import Answer, Policy, judge
from .registering import evidence_of
from .registry import Registry
from .signing import verified

REQUIRED = ("evaluate-model", "test-model")
"""Actions that must have passed for a model's very bytes unless something else is asked for."""


def move_now(manifest: Manifest, by: str, run: str, reason: str) -> Move:
    """A move of an alias to the version, at this time."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Move(version=manifest.version, at=at, by=by, run=run, reason=reason)


def judged(
    registry: Registry,
    records: Sequence[Record],
    manifest: Manifest,
    policy: Policy | None,
    requires: Sequence[str] | None,
    workspace: Workspace,
) -> list[Answer]:
    """What is required of a version, and whether it meets it. Checks of this run are kept as its evidence before.

    Args:
        registry: has the version.
        records: of this run of the chain.
        manifest: the version.
        policy: the policy file's, if there is one; what it requires comes first.
        requires: actions that must have passed; None for `REQUIRED`, and validate-data if it looked at the data.
        workspace: its console is shown them.
    """
    registry.add_evidence(manifest, evidence_of(registry, records, manifest.digest, manifest.lineage.data_fingerprint))
    evidence = registry.evidence(manifest)
    looked = [item.action for item in evidence if item.action == "validate-data"][:1]
    answers = [
        *signature(registry, manifest, policy, workspace),
        *judge(policy or Policy(), [*REQUIRED, *looked] if requires is None else requires, manifest, evidence),
    ]
    if answers:
        rows = [(answer.requirement, "yes" if answer.met else "NO", answer.found) for answer in answers]
        workspace.console.table(["requirement", "met", "found"], rows)
    return answers


def signature(registry: Registry, manifest: Manifest, policy: Policy | None, workspace: Workspace) -> list[Answer]:
    """Whether one has signed the version of those who must, by the policy, and the store has its files as they were
    signed; nothing if it names nobody.

    Raises:
        BadInput: a key of the policy cannot be used.
        RemoteFailed: see `signing.verified`.
    """
    if policy is None or not policy.signed_by:
        return []
    signers = [one.signer(workspace.path) for one in policy.signed_by]
    signer, found = verified(registry, manifest, workspace, signers)
    if changed := registry.changed(manifest) if signer else "":
        return [Answer("signature", False, changed)]
    return [Answer("signature", signer is not None, found)]


def refusal(manifest: Manifest, what: str, answers: Sequence[Answer]) -> str:
    """Why a version may not become or do something, as a sentence; "" if it may."""
    missing = "; ".join(f"{answer.requirement}: {answer.found}" for answer in answers if not answer.met)
    return f"Version {manifest.version} of {manifest.name} may not {what}: {missing}" if missing else ""


def name_of(records: Sequence[Record], given: str) -> str:
    """The model's name: the one that was given, or that of register-model in this run.

    Raises:
        BadInput: there is neither.
    """
    found = [record.subject["name"] for record in records if record.action == "register-model" and record.subject]
    if given or found:
        return given or found[-1]
    raise BadInput("No model is named", fix="Give `model`, or set it at the top of mlops.yaml")


def registered(registry: Registry, records: Sequence[Record], name: str, wanted: str) -> Manifest:
    """The version that is asked for, or that register-model gave in this run, or that is the model of this run.

    Raises:
        BadInput: there is none.
    """
    if wanted:
        return registry.resolve(name, wanted)
    for record in reversed(records):
        if record.action == "register-model" and record.subject.get("name") == name:
            return registry.manifest(name, int(record.subject["version"]))
    made = next((r.subject.get("model") for r in reversed(records) if r.action == "run-pipeline"), None)
    for number in reversed(registry.versions(name) if made else []):
        if (found := registry.manifest(name, number)).digest == made:
            return found
    raise BadInput("No version is named", fix="Give `version`, or run register-model first in this run")


def to_deploy(registry: Registry, records: Sequence[Record], name: str, wanted: str) -> tuple[Manifest, str]:
    """The version to deploy, and why it is that one.

    Without a wish it is what register-model or promote-model gave last in this run; but if that promotion was refused,
    or neither was run, it is what the alias `champion` names.

    Raises:
        BadInput: there is no such version.
    """
    if wanted:
        return registry.resolve(name, wanted), f"{wanted} was asked for"
    about = [r for r in records if r.action in ("register-model", "promote-model") and r.subject.get("name") == name]
    if about and about[-1].verdict == "passed":
        last = about[-1]
        return registry.manifest(name, int(last.subject["version"])), f"{last.action} gave it in this run"
    return registry.resolve(name, "champion"), "it is the champion"
