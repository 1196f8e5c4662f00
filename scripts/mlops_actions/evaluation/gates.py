"""Gates: what a metric must be, in the words `>= 0.65`, and how it went."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from ..values import named_texts, yaml_value
from .metric import METRICS, Task, find, unknown

_LIMIT = re.compile(r"\s*(>=|<=|>|<|==)?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_LINE = re.compile(r"\s*([\w./-]+)\s*[:=]?\s*(>=|<=|>|<|==)\s*(\S+)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq,
}  # fmt: skip
Kind = Literal["threshold", "baseline", "champion", "slice"]


@dataclass(frozen=True)
class Limit:
    """A limit for a metric, such as `>= 0.65`."""

    sign: str
    value: float

    def holds(self, value: float) -> bool:
        """Whether a value is within it. NaN never is: no comparison with it is true."""
        return _COMPARE[self.sign](value, self.value)

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
    """

    kind: Kind
    metric: str
    value: float | None
    limit: str
    passed: bool
    note: str = ""

    def sentence(self) -> str:
        """The answer in words."""
        value = "missing" if self.value is None else f"{self.value:.4g}"
        return f"{self.metric} is {value}, and must be {self.limit}"


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
        _LINE.fullmatch(line) or re.fullmatch(r"\s*[\w./-]+=.+", line)
        for line in re.split(r"[\n,]", text)
        if line.strip()
    )


def _parse_allowances(value: object) -> object:
    """A number for the primary metric (`*`), or a mapping of metrics to numbers."""
    if isinstance(value, str):
        value = named_texts(value) or yaml_value(value)
    return {"*": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Limits = Annotated[dict[str, str], BeforeValidator(_parse_limits)]
"""Limits of metrics by name."""
Allowances = Annotated[dict[str, float], BeforeValidator(_parse_allowances)]
"""How much worse a metric may be, by name; `*` is the primary metric."""


def threshold_gates(
    limits: Mapping[str, str], values: Mapping[str, float], task: Task | None, kind: Kind = "threshold", of: str = ""
) -> list[Gate]:
    """Each limit against the metrics. One that the task has, and these rows do not define, does not pass.

    Raises:
        BadInput: a metric is unknown.
    """
    gates = []
    for metric, text in limits.items():
        limit, value = parse_limit(text, metric), values.get(metric)
        if value is None and not (metric in METRICS and task in METRICS[metric].tasks):
            raise unknown(metric, values)
        passed = value is not None and limit.holds(value)
        note = "" if value is not None else "it is not defined on these rows, or the predictions lack its column"
        gates.append(Gate(kind, f"{of} {metric}".strip(), value, str(limit), passed, note))
    return gates
