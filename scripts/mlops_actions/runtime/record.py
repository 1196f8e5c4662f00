"""Making the record of one run of one action."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ..errors import MlopsError
from ..inputs import Inputs, Outputs, is_secret
from ..records import Problem, Record
from .result import Result

_LONG = 4096  # characters of an input that a record keeps


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
