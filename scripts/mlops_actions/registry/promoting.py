"""Which version a run means, and moves of an alias with who and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from ..errors import BadInput
from ..records import Record
from .manifest import Manifest, Move
from .registry import Registry


def move_now(manifest: Manifest, by: str, run: str, reason: str) -> Move:
    """A move of an alias to the version, at this time."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Move(version=manifest.version, at=at, by=by, run=run, reason=reason)


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


def take_back(registry: Registry, records: Sequence[Record], manifest: Manifest, by: str, run: str) -> str:
    """Let the alias that promote-model moved to a version in this run name again what it named before.

    An alias that names another version by now, or that was not moved in this run, stays as it is.

    Args:
        registry: has the alias.
        records: of this run of the chain.
        manifest: the version whose deployment failed.
        by, run: who and what takes it back, for the alias's history.

    Returns: what was done, as a sentence; "" for nothing.
    """
    about = {"name": manifest.name, "version": str(manifest.version)}
    for record in reversed(records):
        if record.action != "promote-model" or not about.items() <= record.subject.items():
            continue
        if not record.outputs.get("changed"):
            return ""
        alias, previous = str(record.outputs["alias"]), record.outputs["previous-version"]
        now = registry.alias(manifest.name, alias)
        if now is None or now.version != manifest.version:
            return ""
        if not isinstance(previous, int):
            registry.drop_alias(manifest.name, alias)
            return f"The alias {alias} names no version again"
        earlier = registry.manifest(manifest.name, previous)
        why = f"the deployment of version {manifest.version} failed"
        registry.move_alias(earlier, alias, move_now(earlier, by, run, why))
        return f"The alias {alias} names version {previous} again"
    return ""


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
