"""Gates: what a metric must be, in the words `>= 0.65`, and how it went."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..values import named_texts, parse_lines, yaml_value
from .metric import METRICS, Task, find, named, unknown

_LIMIT = re.compile(r"\s*(>=|<=|>|<|==)?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_NAME = r"[\w./@-]+"
_LINE = re.compile(rf"\s*({_NAME})\s*[:=]?\s*(>=|<=|>|<|==)\s*(\S+)\s*")
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
        return f"{self.sign} {self.value:g}"


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
        value = "missing" if self.value is None else f"{self.value:.4g}"
        said = f"{self.metric} is {value}, and must be {self.limit}"
        told = self.value is not None and (self.passed or self.verdict != "cannot tell")
        return said if told or not self.note else f"{said}: {self.note}"


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


def parse_limit(text: object, metric: str) -> Limit:
    """A limit from text, or from a bare number: then the least that is good enough, or the most where less is better.

    Raises:
        ValueError: it is not one, or a bare number is given for a metric whose direction is not known.
    """
    match = _LIMIT.fullmatch(str(text))
    if not match:
        raise ValueError(f"{metric}: {text!r} is not a limit; write one like '>= 0.65'")
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
        items: dict[str, Any] = {}
        for line in filter(None, (part.strip() for part in re.split(r"[\n,]", value))) if _is_lines(value) else ():
            match = _LINE.fullmatch(line)
            name, _, rest = (match[1], "", match[2] + " " + match[3]) if match else line.partition("=")
            items[name.strip()] = rest
        value = items or yaml_value(value) or {}
    if isinstance(value, Mapping):
        return {str(name): str(parse_limit(text, str(name))) for name, text in value.items()}
    return value


def _is_lines(text: str) -> bool:
    return all(
        _LINE.fullmatch(line) or re.fullmatch(rf"\s*{_NAME}=.+", line)
        for line in re.split(r"[\n,]", text)
        if line.strip()
    )


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
"""Limits of metrics by name."""
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
        compared("threshold", name, values[name], parse_limit(text, name), interval(name))
        if name in values
        else missing("threshold", name, str(parse_limit(text, name)), undefined)
        for name, text in limits.items()
    ]
