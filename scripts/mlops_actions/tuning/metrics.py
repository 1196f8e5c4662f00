"""Metrics from a trial's output, by the rules of Katib's file collector, and which of their values count.

Source: pkg/metricscollector/v1beta1/file-metricscollector and pkg/controller.v1beta1/trial/trial_controller_util.go of
github.com/kubeflow/katib.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from .experiment import Objective

DEFAULT_FORMAT = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
"""Katib's DefaultFilter: `loss=0.3`, `Validation-accuracy = 9.8e-1`."""
UNDATED = datetime.min.replace(tzinfo=timezone.utc)
_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$")


def compiled(formats: Sequence[str]) -> list[re.Pattern[str]]:
    """The formats as patterns; Katib's default when there is none.

    `\\w` and `\\d` mean ASCII, as they do in Go.

    Raises:
        re.error: a format is not a regular expression that Python knows.
    """
    return [re.compile(text, re.ASCII) for text in formats or [DEFAULT_FORMAT]]


class Observation(NamedTuple):
    """A value that a trial reported for a metric; without a time it is `UNDATED`."""

    name: str
    when: datetime
    value: float


def collect(lines: Iterable[str], objective: Objective, formats: Sequence[str]) -> dict[str, float]:
    """The value that counts for each metric that was reported in lines of text; see `counted`."""
    return counted(observations(lines, objective.metrics, formats), objective)


def counted(reported: Iterable[Observation], objective: Objective) -> dict[str, float]:
    """The value that counts for each metric that was reported, by the objective's strategies.

    Without the objective's metric in the result, Katib calls the trial MetricsUnavailable.
    """
    by_name: dict[str, list[Observation]] = {}
    for observation in reported:
        by_name.setdefault(observation.name, []).append(observation)
    found = {}
    for name in objective.metrics:
        if name in by_name:
            values = [observation.value for observation in by_name[name]]
            strategy = objective.strategy(name)
            found[name] = (
                min(values) if strategy == "min" else max(values) if strategy == "max" else _latest(by_name[name])
            )
    return found


def observations(lines: Iterable[str], metrics: Sequence[str], formats: Sequence[str]) -> Iterator[Observation]:
    """Each reported value of the metrics. A line may begin with a time in RFC 3339.

    A value that is not a finite number was not reported.
    """
    patterns = compiled(formats)
    for line in lines:
        if not any(metric in line for metric in metrics):
            continue
        when = time_of(line.split(" ", 1)[0])
        for pattern in patterns:
            for found in pattern.finditer(line):
                name, value = (found[1] or "").strip(), number((found[2] or "").strip())
                if name in metrics and value is not None:
                    yield Observation(name, when, value)


def _latest(values: Sequence[Observation]) -> float:
    """The value with the last time; of equal times, and without times, the one that was reported last."""
    return max(enumerate(values), key=lambda item: (item[1].when, item[0]))[1].value


def time_of(text: str) -> datetime:
    """A time in RFC 3339; `UNDATED` if it is none."""
    found = _RFC3339.match(text)
    if not found:
        return UNDATED
    try:
        # Go's times have nanoseconds, and Python 3.10 reads only three or six digits and no Z.
        fraction, zone = (found[2] or "0")[:6].ljust(6, "0"), found[3].replace("Z", "+00:00")
        return datetime.fromisoformat(f"{found[1]}.{fraction}{zone}")
    except ValueError:
        return UNDATED


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
