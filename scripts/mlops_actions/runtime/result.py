"""What an action's function returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import Place
from ..inputs import Outputs

O = TypeVar("O", bound=Outputs)  # noqa: E741


@dataclass(frozen=True)
class Result(Generic[O]):
    """What an action's function returns.

    Attributes:
        outputs: the values for the steps that follow.
        details: JSON for the report's template: what a person wants to see.
        passed: False when the work was done and did not pass (exit code 1).
        reason: one sentence: why it did not pass, or what was done.
        subject: what this result speaks of, such as {"model": "sha256:…"}; evidence is matched by it.
        key: hash of all that decides the result, which `Step.once` sets; the same key finds it again.
        reused: the result was found, not made.
        origin: of a result that was found, when and in which run it was made.
        reusable: whether the same work, asked for again, may be given this result.
        place: where the annotation stands when it did not pass.
        fix, log: what to do about it then, and the last lines of what failed.
        checked: False when a gate that was asked for checked nothing: it neither passed nor failed.
    """

    outputs: O
    details: dict[str, Any] = field(default_factory=dict)
    passed: bool = True
    reason: str = ""
    subject: dict[str, str] = field(default_factory=dict)
    key: str = ""
    reused: bool = False
    origin: str = ""
    reusable: bool = True
    place: Place | None = None
    fix: str = ""
    log: str = ""
    checked: bool = True
