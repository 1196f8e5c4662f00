"""A report as a run without rights hands it to one that has them: JSON of a strict schema.

A pull request's own code may write this file. So it has only what our templates show, of bounded length, and no URL,
commit, branch, number or markup: those the reader has from GitHub.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..errors import BadInput
from ..records import Problem, Record, Verdict
from .report import Report

FILE = "report.json"
ARTIFACT = "mlops-report"
LIMIT = 1024 * 1024
"""Bytes of the file."""
_MOST = 200  # records, jobs

Name = Annotated[str, StringConstraints(max_length=100)]
Sentence = Annotated[str, StringConstraints(max_length=2000)]
Text = Annotated[str, StringConstraints(max_length=20_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SharedGate(_Strict):
    """One gate of evaluate-model."""

    kind: Name
    metric: Sentence
    value: Number | None = None
    limit: Sentence
    passed: bool
    note: Sentence = ""
    low: Number | None = None
    high: Number | None = None
    verdict: Name = ""


class SharedProblem(_Strict):
    """How an action failed."""

    exit_code: Annotated[int, Field(ge=0, le=255)]
    what: Sentence
    why: Sentence = ""
    fix: Sentence = ""
    place: Sentence = ""
    log: Text = ""


class SharedRecord(_Strict):
    """What is shown of one action."""

    action: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}(-[a-z]{1,20}){0,3}$")]
    verdict: Verdict
    reason: Sentence = ""
    reused: bool = False
    started: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]{8,15}(Z|[+-]\d\d:\d\d)$")]
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
    variant: Name = ""
    problem: SharedProblem | None = None
    metrics: Annotated[dict[Name, Number], Field(max_length=200)] = {}
    gates: Annotated[list[SharedGate], Field(max_length=500)] = []


class SharedReport(_Strict):
    """The file."""

    schema_version: Literal[1] = 1
    jobs: Annotated[dict[Name, Literal["success", "failure", "cancelled", "skipped"]], Field(max_length=_MOST)] = {}
    records: Annotated[list[SharedRecord], Field(max_length=_MOST)] = []


def write_shared(report: Report) -> bytes:
    """The report as the file; what is too long is cut, what does not fit the schema left out."""
    records: list[SharedRecord] = [one for record in report.records if (one := _shared(record))]
    jobs = {name[:100]: result for name, result in report.jobs.items()}
    for most in (_MOST, 50, 10):
        try:
            made = SharedReport(jobs=jobs, records=records[:most])  # type: ignore[arg-type]
        except ValidationError:
            made = SharedReport(records=records[:most])
        data = made.model_dump_json(exclude_defaults=True).encode()
        if len(data) <= LIMIT:
            return data
    first = [one.model_copy(update={"gates": [], "metrics": {}}) for one in records[:10]]
    return SharedReport(records=first).model_dump_json(exclude_defaults=True).encode()


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


def _shared(record: Record) -> SharedRecord | None:
    details, metrics = record.details, record.outputs.get("metrics")
    try:
        return SharedRecord(
            action=record.action, verdict=record.verdict, reason=record.reason[:2000], reused=record.reused,
            started=record.started, seconds=record.seconds, variant=str(details.get("variant", ""))[:100],
            problem=_problem(record.problem),
            metrics=_fitting(metrics), gates=_gates(details.get("gates")),
        )  # fmt: skip
    except (ValidationError, TypeError, ValueError):
        return None


def _problem(problem: Problem | None) -> SharedProblem | None:
    if problem is None:
        return None
    told = {name: getattr(problem, name)[:2000] for name in ("what", "why", "fix", "place")}
    return SharedProblem(exit_code=problem.exit_code, log=problem.log[-20_000:], **told)


def _fitting(metrics: object) -> dict[str, float]:
    pairs = list(metrics.items())[:200] if isinstance(metrics, dict) else []
    return {
        str(name)[:100]: float(value) for name, value in pairs if isinstance(value, int | float) and isfinite(value)
    }


def _gates(gates: object) -> list[SharedGate]:
    fields = SharedGate.model_fields
    found = [one for one in gates if isinstance(one, dict)] if isinstance(gates, list) else []
    cut = [{k: v[:2000] if isinstance(v, str) else v for k, v in one.items() if k in fields} for one in found]
    return [SharedGate.model_validate(one) for one in sorted(cut, key=lambda one: bool(one.get("passed")))[:500]]


def _record(one: SharedRecord, source: dict[str, Any]) -> Record:
    details: dict[str, Any] = {"gates": [gate.model_dump() for gate in one.gates]} if one.gates else {}
    if one.variant:
        details["variant"] = one.variant
    return Record(
        action=one.action, verdict=one.verdict, reason=one.reason, reused=one.reused, started=one.started,
        seconds=one.seconds, source=source, details=details,
        outputs={"metrics": dict(one.metrics)} if one.metrics else {},
        problem=_told(one.problem) if one.problem else None,
    )  # fmt: skip


def _told(problem: SharedProblem) -> Problem:
    """A stranger's problem: what to do is said beside why, since a report makes links of the URLs in ours."""
    given = problem.model_dump()
    fix = given.pop("fix")
    return Problem(**{**given, "why": ". ".join(filter(None, (problem.why, fix)))})
