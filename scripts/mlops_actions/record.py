"""What is kept of one run of one action: lineage, evidence, and what a report shows."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from . import __version__
from .action import Inputs, Outputs, Result, is_secret
from .errors import MlopsError

Verdict = Literal["passed", "unchecked", "rejected", "bad-input", "failed", "cancelled"]
"""How an action ended. `unchecked`: nothing went wrong, and a gate that was asked for checked nothing."""
_LONG = 4096  # characters of an input that a record keeps


class Problem(BaseModel):
    """How an action failed, as a report shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exit_code: int
    what: str
    why: str = ""
    fix: str = ""
    place: str = ""
    log: str = ""


class Record(BaseModel):
    """What one run of one action was given, found and gave: the unit of lineage, evidence and reports."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: str
    run: str = ""
    verdict: Verdict = "passed"
    reason: str = ""
    key: str = ""
    reused: bool = False
    started: str
    seconds: float
    tool: str = f"mlops-actions {__version__}"
    source: dict[str, Any] = {}
    subject: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    details: dict[str, Any] = {}
    problem: Problem | None = None


def record_of(action: str, started: datetime, seconds: float, result: Result[Any] | None) -> Record:
    """What is known of a run from its result."""
    found = result or Result(Outputs())
    return Record(
        action=action,
        reason=found.reason,
        key=found.key,
        reused=found.reused,
        started=started.isoformat(timespec="milliseconds"),
        seconds=round(seconds, 3),
        subject=found.subject,
        outputs=found.outputs.model_dump(mode="json", by_alias=True),
        details=as_json(found.details),
    )


def public_inputs(inputs: Inputs | None) -> dict[str, Any]:
    """The inputs that were given, without the secret ones."""
    if inputs is None:
        return {}
    hidden = {name for name, info in type(inputs).model_fields.items() if is_secret(info.annotation)}
    values = inputs.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=hidden)
    return {name: value if len(str(value)) < _LONG else f"{str(value)[:_LONG]}…" for name, value in values.items()}


def problem_of(error: MlopsError) -> Problem:
    """A failure, with the end of its log."""
    return Problem(
        exit_code=error.exit_code,
        what=error.what,
        why=error.why,
        fix=error.fix,
        place=str(error.place or ""),
        log="\n".join(error.log.splitlines()[-40:]),
    )


def as_json(details: dict[str, Any]) -> dict[str, Any]:
    """The details as JSON has them: numbers of numpy as numbers, what JSON does not know as text."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    made: dict[str, Any] = json.loads(json.dumps(details, default=plain))
    return made
