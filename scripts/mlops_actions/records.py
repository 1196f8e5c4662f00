"""What is kept of one run of one action: lineage, evidence, and what a report shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from . import __version__
from .console import hidden

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
