"""What is kept of one run of one action: lineage, evidence, and what a report shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import __version__
from .console import hidden
from .misfits import first_misfit

Verdict = Literal["passed", "unchecked", "rejected", "bad-input", "failed", "cancelled"]
"""How an action ended. `unchecked`: nothing went wrong, and a gate that was asked for checked nothing."""


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
    seconds: float = Field(ge=0, le=1e9)
    tool: str = f"mlops-actions {__version__}"
    source: dict[str, Any] = {}
    subject: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    details: dict[str, Any] = {}
    problem: Problem | None = None

    def hidden(self, hide: Callable[[str], str]) -> Record:
        """The record without what `hide` takes out of a text; what the records' readers go by stays as it is."""
        free: dict[str, Any] = {
            name: {key: hidden(value, hide) for key, value in getattr(self, name).items()}
            for name in ("source", "subject", "inputs", "outputs", "details")
        }
        if self.problem:
            texts = {name: hidden(getattr(self.problem, name), hide) for name in ("what", "why", "fix", "place", "log")}
            free["problem"] = self.problem.model_copy(update=texts)
        return self.model_copy(update={**free, "reason": hide(self.reason)})


def read_record(path: str, data: bytes, kept: str = "") -> Record:
    """The record that the store has at a path; when it cannot be read, one of an action that failed, which says why.

    What was found and cannot be told is never passed over: the action may have been rejected.

    Args:
        path: ends with the name that the record has in its run, such as `test-model@py3.11.json`.
        data: what is there.
        kept: when that was written.
    """
    try:
        return Record.model_validate(json.loads(data))
    except (ValueError, RecursionError) as error:
        why = first_misfit(error) if isinstance(error, ValidationError) else f"It is not valid JSON: {error}"
        action, _, variant = path.rpartition("/")[2].removesuffix(".json").partition("@")
        fix = f"Run {action} again, or read it with the release of mlops-actions that wrote it"
        problem = Problem(exit_code=3, what=f"Cannot read the record {path}", why=why, fix=fix)
        details = {"variant": variant} if variant else {}
        return Record(action=action, verdict="failed", started=kept, seconds=0, details=details, problem=problem)
