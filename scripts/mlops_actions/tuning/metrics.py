"""Metrics from a trial's output, by the rules of Katib's StdOut collector.

Source: pkg/metricscollector/v1beta1/file-metricscollector and pkg/controller.v1beta1/trial/trial_controller_util.go of
github.com/kubeflow/katib.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone

from .experiment import Objective

DEFAULT_FORMAT = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
"""Katib's DefaultFilter: `loss=0.3`, `Validation-accuracy = 9.8e-1`."""
_UNDATED = datetime.min.replace(tzinfo=timezone.utc)
_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$")


def compiled(formats: Sequence[str]) -> list[re.Pattern[str]]:
    """The formats as patterns; Katib's default when there is none.

    `\\w` and `\\d` mean ASCII, as they do in Go.

    Raises:
        re.error: a format is not a regular expression that Python knows.
    """
    return [re.compile(text, re.ASCII) for text in formats or [DEFAULT_FORMAT]]


def collect(lines: Iterable[str], objective: Objective, formats: Sequence[str]) -> dict[str, float]:
    """The value that counts for each metric that was reported, by the objective's strategies.

    A value that is not a finite number was not reported. Without the objective's metric in the result, Katib calls the
    trial MetricsUnavailable.
    """
    reported: dict[str, list[tuple[datetime, float]]] = {}
    for name, when, value in observations(lines, objective.metrics, formats):
        reported.setdefault(name, []).append((when, value))
    found = {}
    for name in objective.metrics:
        if name in reported:
            values = [value for _, value in reported[name]]
            strategy = objective.strategy(name)
            found[name] = (
                min(values) if strategy == "min" else max(values) if strategy == "max" else _latest(reported[name])
            )
    return found


def observations(
    lines: Iterable[str], metrics: Sequence[str], formats: Sequence[str]
) -> Iterator[tuple[str, datetime, float]]:
    """Each reported value of the metrics: name, time (the line may begin with one in RFC 3339), number."""
    patterns = compiled(formats)
    for line in lines:
        if not any(metric in line for metric in metrics):
            continue
        when = _time(line.split(" ", 1)[0])
        for pattern in patterns:
            for found in pattern.finditer(line):
                name, value = (found[1] or "").strip(), _number((found[2] or "").strip())
                if name in metrics and value is not None:
                    yield name, when, value


def _latest(values: Sequence[tuple[datetime, float]]) -> float:
    """The value with the last time; of equal times, and without times, the one that was printed last."""
    return max(enumerate(values), key=lambda item: (item[1][0], item[0]))[1][1]


def _time(text: str) -> datetime:
    found = _RFC3339.match(text)
    if not found:
        return _UNDATED
    try:
        # Go's times have nanoseconds, and Python 3.10 reads only three or six digits and no Z.
        fraction, zone = (found[2] or "0")[:6].ljust(6, "0"), found[3].replace("Z", "+00:00")
        return datetime.fromisoformat(f"{found[1]}.{fraction}{zone}")
    except ValueError:
        return _UNDATED


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
