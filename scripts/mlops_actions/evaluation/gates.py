"""Gates: what a metric must be, in the words `>= 0.65`, and how it went."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ..values import lines_of, named_texts, parse_lines, yaml_value
from .metric import METRICS, Task, find, named, unknown

_LIMIT = re.compile(r"\s*(>=|<=|>|<|==)?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_TURNED = re.compile(r"\s*=\s*([<>])\s*(\S+)\s*")
_NAME = r"[\w./@-]+"
_LINE = re.compile(rf"({_NAME})\s*(?:=(?!=|\s*[<>](?!=))|:?\s*(?=[<>=]))\s*(\S.*)")
"""`auc>=0.7`, `auc: >= 0.7` or `auc=0.7`. Of `auc=>0.7` the `=` is of the limit, which it makes none."""
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq,
}  # fmt: skip
Kind = Literal["threshold", "baseline", "champion", "slice", "fairness", "training"]
Interval = tuple[float, float]
UNDEFINED = "it is not defined on these rows, or the predictions lack its column"


@dataclass(frozen=True)
class Limit:
    """A limit for a metric, such as `>= 0.65`, compared at 12 significant digits: 0.010000000000000009 is `<= 0.01`.

    0 has no significant digits: with it a value is compared at 12 decimals, so that 5e-17, a rest of sums, is `<= 0`.
    """

    sign: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether a value is within it. NaN never is: no comparison with it is true."""
        digits = ".12g" if self.value else ".12f"
        return _COMPARE[self.sign](float(f"{value:{digits}}"), float(f"{self.value:{digits}}"))

    def __str__(self) -> str:
        return f"{self.sign} {self.value:.12g}"


@dataclass(frozen=True)
class Gate:
    """One question and its answer.

    Attributes:
        kind: what it compares with.
        metric: the metric, or for a slice `column=value metric`.
        value: the model's; None when it has none.
        limit: what it was compared with, in words.
        passed: the answer.
        note: how it was found, when that is not plain.
        bound: the number that it was compared with; None when there is none.
        low, high: the interval of the value; None when none was found.
        verdict: where chance decides: `cannot tell` when the interval holds the bound.
    """

    kind: Kind
    metric: str
    value: float | None
    limit: str
    passed: bool
    note: str = ""
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""

    @property
    def margin(self) -> float | None:
        """How far the value is from the bound: positive on the side that passes; None without a number."""
        if self.value is None or self.bound is None:
            return None
        return self.bound - self.value if self.limit[:1] == "<" else self.value - self.bound

    @property
    def answer(self) -> str:
        """The answer in a word: `yes`, `NO`, or `cannot tell` where that passes."""
        return ("cannot tell" if self.verdict == "cannot tell" else "yes") if self.passed else "NO"

    def sentence(self) -> str:
        """The answer in words."""
        what = f"{self.metric} is {'missing' if self.value is None else f'{self.value:.4g}'}"
        if self.verdict == "cannot tell" and not self.passed:
            why = self.note.removeprefix("cannot tell: ")
            return f"{what}: the rows cannot tell whether it is {self.limit}, and `if-cannot-tell` is `fail` ({why})"
        said = f"{what}, and must be {self.limit}"
        return f"{said}: {self.note}" if self.value is None and self.note else said


def missing(kind: Kind, metric: str, limit: str, why: str) -> Gate:
    """A gate that names what is not there: it does not pass."""
    return Gate(kind, metric, None, limit, False, why)


def compared(kind: Kind, metric: str, value: float, limit: Limit, interval: Interval | None, note: str = "") -> Gate:
    """A gate that the value decides; the interval is only shown."""
    low, high = interval or (None, None)
    return Gate(kind, metric, value, str(limit), limit.holds(value), note, limit.value, low, high)


def judged(
    kind: Kind, metric: str, value: float, limit: Limit, interval: Interval | None, unsure: bool, note: str
) -> Gate:
    """A gate that chance decides: it fails when the whole interval is on the wrong side.

    Args:
        kind, metric, value, limit, note: see `Gate`.
        interval: of the value; without one a value beyond the limit fails, and one within it cannot tell.
        unsure: whether it passes when that cannot be told.
    """
    if interval is None:
        found = compared(kind, metric, value, limit, None, note)
        return replace(found, passed=unsure, verdict="cannot tell") if found.passed else found
    ends = [limit.holds(end) for end in interval]
    verdict = "passed" if all(ends) else "failed" if not any(ends) else "cannot tell"
    passed = verdict == "passed" or (verdict == "cannot tell" and unsure)
    return Gate(kind, metric, value, str(limit), passed, note, limit.value, *interval, verdict)


def parse_limits(text: object, metric: str) -> list[Limit]:
    """The limits of a metric from text: one, or a floor and a ceiling, such as `>= 0.5, <= 0.9`.

    A bare number is the least that is good enough, or the most where less is better.

    Raises:
        ValueError: one is not a limit, or is a bare number of a metric whose direction is not known; there are two of
            one side; or no number is within them.
    """
    found = [_limit(part, metric) for part in str(text).split(",")]
    if len(found) == 1:
        return found
    floors, ceilings = ([limit for limit in found if limit.sign[0] == side] for side in "><")
    if len(floors) != 1 or len(ceilings) != 1 or len(found) > 2:
        given = " and ".join(f"`{limit}`" for limit in found)
        raise ValueError(f"{metric}: {given}: a metric has one limit, or one floor and one ceiling")
    if not (floors[0].holds(ceilings[0].value) and ceilings[0].holds(floors[0].value)):
        raise ValueError(f"{metric}: no number is {floors[0]} and {ceilings[0]}")
    return found


def each_limit(limits: Mapping[str, str]) -> Iterator[tuple[str, Limit]]:
    """Each metric with each limit that it has."""
    return ((name, limit) for name, text in limits.items() for limit in parse_limits(text, name))


def _limit(text: str, metric: str) -> Limit:
    match = _LIMIT.fullmatch(text)
    if not match or not math.isfinite(float(match[2])):
        turned = _TURNED.fullmatch(text)
        fix = f"did you mean '{turned[1]}= {turned[2]}'?" if turned else "write one like '>= 0.65'"
        raise ValueError(f"{metric}: {text.strip()!r} is not a limit; {fix}")
    sign = match[1]
    if not sign:
        known = find(metric)
        if known is None:
            listed = ", ".join(METRICS)
            raise ValueError(
                f"{metric}: {text} needs a sign, such as '>= {text}', because {metric} is none of {listed}"
            )
        sign = ">=" if known.higher_is_better else "<="
    return Limit(sign, float(match[2]))


def _parse_limits(value: object) -> object:
    """`name >= limit` lines, `name=limit` lines, or a YAML or JSON mapping of names to limits; as text again."""
    if isinstance(value, str):
        value = _lines(value) or (yaml_value(value) if value.strip() else {})
    if isinstance(value, Mapping):
        return {str(name): ", ".join(map(str, parse_limits(text, str(name)))) for name, text in value.items()}
    return value


def _lines(text: str) -> dict[str, str]:
    """The limits of lines by name, those of one name between commas; none when it is something else."""
    found: dict[str, str] = {}
    for line in (part.strip() for one in lines_of(text) for part in one.split(",") if part.strip()):
        match = _LINE.fullmatch(line)
        if not match:
            return {}
        found[match[1]] = f"{found[match[1]]}, {match[2]}" if match[1] in found else match[2]
    return found


def _parse_allowances(value: object) -> object:
    """A number for the primary metric (`*`), or a mapping of metrics to numbers."""
    if isinstance(value, str):
        value = named_texts(value, _NAME) or yaml_value(value)
    return {"*": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _parse_slices(value: object) -> object:
    """Columns in lines or between commas; `name: expression` a line, or a mapping of a YAML list."""
    if isinstance(value, str) and not value.strip().startswith("["):
        parts = re.split(r"\n" if ":" in value else r"[\n,]", value)
        return [part.strip() for part in parts if part.strip()]
    value = parse_lines(value)
    if not isinstance(value, list):
        return value
    return [": ".join(map(str, *one.items())) if isinstance(one, dict) and len(one) == 1 else one for one in value]


Slices = Annotated[list[str], BeforeValidator(_parse_slices, json_schema_input_type=list[str | dict[str, str]])]
"""Columns, and `name: expression`."""
Limits = Annotated[dict[str, str], BeforeValidator(_parse_limits)]
"""Limits of metrics by name: one of each, or a floor and a ceiling between commas."""
Allowances = Annotated[
    dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_parse_allowances)
]
"""How much worse a metric may be, by name; `*` is the primary metric."""


def check_known(limits: Mapping[str, str], values: Mapping[str, float], task: Task | None) -> None:
    """Refuse limits of metrics that there are not.

    Raises:
        BadInput: a metric is unknown.
    """
    for name in limits:
        metric = named(name)
        if name not in values and not (metric and task in metric.tasks):
            raise unknown(name, values)


def threshold_gates(
    limits: Mapping[str, str],
    values: Mapping[str, float],
    task: Task | None,
    interval: Callable[[str], Interval | None] = lambda _: None,
    undefined: str = UNDEFINED,
) -> list[Gate]:
    """Each limit against the metrics. One that the task has, and these rows do not define, does not pass.

    Args:
        limits: by metric.
        values: the metrics.
        task: of the predictions.
        interval: gives that of a metric.
        undefined: why a metric of the task is not defined.

    Raises:
        BadInput: a metric is unknown.
    """
    check_known(limits, values, task)
    return [
        compared("threshold", name, values[name], limit, interval(name))
        if name in values
        else missing("threshold", name, str(limit), undefined)
        for name, limit in each_limit(limits)
    ]
