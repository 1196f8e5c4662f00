"""A report as a run without rights hands it to one that has them: JSON of a strict schema.

A pull request's own code may write this file. So it has only what our templates show, of bounded length, and no URL,
commit, branch, number or markup: those the reader has from GitHub.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..errors import BadInput
from ..records import Problem, Record, Verdict
from ..text import cut, many
from .report import Report

FILE = "report.json"
ARTIFACT = "mlops-report"
LIMIT = 1024 * 1024
"""Bytes of the file."""
_MOST = 500  # records, jobs: as many as fit the limit when only verdicts are left
_GATES = 500  # of a record
_GOOD = ("passed", "unchecked")
_BAD = ("failure", "cancelled")

Name = Annotated[str, StringConstraints(max_length=100)]
Sentence = Annotated[str, StringConstraints(max_length=2000)]
Text = Annotated[str, StringConstraints(max_length=20_000)]
ActionName = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}(-[a-z]{1,20}){0,3}$")]
Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]{8,15}(Z|[+-]\d\d:\d\d)$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SharedGate(_Strict):
    """One gate of evaluate-model."""

    kind: Name = ""
    metric: Sentence = ""
    value: Number | None = None
    limit: Sentence = ""
    passed: bool = False
    note: Sentence = ""
    low: Number | None = None
    high: Number | None = None
    verdict: Name = ""


class SharedProblem(_Strict):
    """How an action failed."""

    exit_code: Annotated[int, Field(ge=0, le=255)] = 1
    what: Sentence = ""
    why: Sentence = ""
    fix: Sentence = ""
    place: Sentence = ""
    log: Text = ""


class SharedRecord(_Strict):
    """What is shown of one action. Only its verdict must be there."""

    action: ActionName = "unknown"
    verdict: Verdict
    reason: Sentence = ""
    reused: bool = False
    started: Instant = "1970-01-01T00:00:00Z"
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] = 0.0
    variant: Name = ""
    problem: SharedProblem | None = None
    metrics: Annotated[dict[Name, Number], Field(max_length=200)] = {}
    gates: Annotated[list[SharedGate], Field(max_length=_GATES)] = []


class SharedReport(_Strict):
    """The file."""

    schema_version: Literal[1] = 1
    jobs: Annotated[dict[Name, Literal["success", "failure", "cancelled", "skipped"]], Field(max_length=_MOST)] = {}
    records: Annotated[list[SharedRecord], Field(max_length=_MOST + 1)] = []


_Kind = TypeVar("_Kind", bound=_Strict)


def artifact(folder: str) -> str:
    """The name of a project's artifact: a run may be of several folders."""
    return ARTIFACT if folder == "." else f"{ARTIFACT}-{quote(folder, safe='')}"


def write_shared(report: Report) -> bytes:
    """The report as the file: every action's verdict, and the rest of as many as fit, of those that failed first."""
    ranked = sorted(enumerate(map(_shared, report.records)), key=lambda one: one[1].verdict in _GOOD)
    kept = {at: _verdict(one) for at, one in ranked[:_MOST]}
    if over := len(ranked[_MOST:]):
        said = f"{many(over, 'record')} left out here"
        kept[len(ranked)] = SharedRecord(action="report", verdict="unchecked", reason=said)
    jobs = sorted(report.jobs.items(), key=lambda one: one[1] in _BAD)[-_MOST:]
    told = {name[:100]: result for name, result in jobs if result in ("success", "skipped", *_BAD)}
    made = SharedReport(jobs=told, records=[kept[at] for at in sorted(kept)])  # type: ignore[arg-type]
    room = LIMIT - len(_json(made))
    for at, one in ranked[:_MOST]:
        more = len(_json(one)) - len(_json(kept[at]))
        if more <= room:
            kept[at] = one
            room -= more
    return _json(made.model_copy(update={"records": [kept[at] for at in sorted(kept)]}))


def read_shared(data: bytes, source: dict[str, Any]) -> Report:
    """The report of a file that anybody may have written.

    Args:
        data: the file.
        source: what is known of the run by ourselves: repository, commit, branch, URL.

    Raises:
        BadInput: it is too long, or not of the schema.
    """
    if len(data) > LIMIT:
        raise BadInput("The report of the pull request's run is too long", why=f"It has more than {LIMIT:,} bytes")
    try:
        found = SharedReport.model_validate_json(data)
    except (ValidationError, RecursionError, ValueError) as error:
        why = type(error).__name__
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = f"{'.'.join(str(part)[:50] for part in first['loc'])}: {first['msg']}"
        raise BadInput("The report of the pull request's run is not of the schema", why=why) from None
    return Report(found.jobs, [_record(one, source) for one in found.records])


def _json(made: _Strict) -> bytes:
    return made.model_dump_json(exclude_defaults=True).encode()


def _shared(record: Record) -> SharedRecord:
    """What is handed over of a record; its reason says what is not."""
    details, metrics = record.details, record.outputs.get("metrics")
    gates = details.get("gates")
    given = {
        "action": record.action, "verdict": record.verdict, "reason": record.reason, "reused": record.reused,
        "started": record.started, "seconds": record.seconds, "variant": str(details.get("variant", "")),
        "problem": _problem(record.problem), "metrics": _numbers(metrics), "gates": _gates(gates),
    }  # fmt: skip
    made = _fitting(SharedRecord, given)
    left = sorted(given.keys() - made.model_fields_set)
    left += [many(len(gates) - _GATES, "gate")] if isinstance(gates, list) and len(gates) > _GATES else []
    return _noted(made, f"left out here: {', '.join(left)}") if left else made


def _verdict(one: SharedRecord) -> SharedRecord:
    """What is left of a record that is too long."""
    said = one.problem.what if one.problem else one.reason
    short = one.model_copy(update={"reason": said[:100], "problem": None, "metrics": {}, "gates": []})
    return _noted(short, "the rest is in the run's summary")


def _noted(one: SharedRecord, note: str) -> SharedRecord:
    return one.model_copy(update={"reason": f"{one.reason[:1800]} ({note})".lstrip()})


def _fitting(kind: type[_Kind], given: dict[str, Any]) -> _Kind:
    """What fits the schema: text that is too long is cut, and the other fields that do not fit are left out."""
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = {str(one["loc"][0]): one for one in error.errors()}
        short = {
            name: cut(given[name], one["ctx"]["max_length"])
            for name, one in wrong.items()
            if one["type"] == "string_too_long" and len(one["loc"]) == 1
        }
        return kind(**{name: value for name, value in given.items() if name not in wrong}, **short)


def _problem(problem: Problem | None) -> SharedProblem | None:
    return _fitting(SharedProblem, {**problem.model_dump(), "log": problem.log[-20_000:]}) if problem else None


def _numbers(metrics: object) -> dict[str, float]:
    pairs = list(metrics.items())[:200] if isinstance(metrics, dict) else []
    return {
        str(name)[:100]: float(value)
        for name, value in pairs
        if isinstance(value, int | float) and abs(value) <= sys.float_info.max
    }


def _gates(gates: object) -> list[SharedGate]:
    found = [one for one in gates if isinstance(one, dict)] if isinstance(gates, list) else []
    made = [_fitting(SharedGate, {k: v for k, v in one.items() if k in SharedGate.model_fields}) for one in found]
    return sorted(made, key=lambda one: one.passed)[:_GATES]


def _record(one: SharedRecord, source: dict[str, Any]) -> Record:
    details: dict[str, Any] = {"gates": [gate.model_dump() for gate in one.gates]} if one.gates else {}
    if one.variant:
        details["variant"] = one.variant
    contrary = one.verdict in _GOOD and not all(gate.passed for gate in one.gates)
    return Record(
        action=one.action, verdict="rejected" if contrary else one.verdict, reason=one.reason, reused=one.reused,
        started=one.started, seconds=one.seconds, source=source, details=details,
        outputs={"metrics": dict(one.metrics)} if one.metrics else {},
        problem=_told(one.problem) if one.problem else None,
    )  # fmt: skip


def _told(problem: SharedProblem) -> Problem:
    """A stranger's problem: what to do is said beside why, since a report makes links of the URLs in ours."""
    given = problem.model_dump()
    fix = given.pop("fix")
    return Problem(**{**given, "why": ". ".join(filter(None, (problem.why, fix)))})
