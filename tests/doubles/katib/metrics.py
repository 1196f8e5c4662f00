"""From what a collector reported to what counts.

Source: getMetrics of pkg/controller.v1beta1/trial/trial_controller_util.go, updateTrialsSummary and
getObjectiveMetricValue of pkg/controller.v1beta1/experiment/util/status_util.go of github.com/kubeflow/katib.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .collector import UNAVAILABLE


def observation(logs: Iterable[Mapping[str, str]], strategies: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """A trial's observation: of each metric the least, the greatest and the latest value, as they were written.

    The metrics come in any order, as they do in Katib (a Go map is gone through).
    """
    metrics = {
        s["name"]: {"name": s["name"], "min": UNAVAILABLE, "max": UNAVAILABLE, "latest": UNAVAILABLE}
        for s in strategies
    }
    times: dict[str, datetime] = {}
    for log in logs:
        metric, value = metrics.get(log["name"]), log["value"]
        if metric is None:
            continue
        number = _number(value)
        if number is not None:
            if metric["min"] == UNAVAILABLE:
                metric["min"] = metric["max"] = value
            elif number < float(metric["min"]):
                metric["min"] = value
            elif number > float(metric["max"]):
                metric["max"] = value
        when = _time(log["timestamp"])
        if log["name"] not in times or times[log["name"]] <= when:
            times[log["name"]], metric["latest"] = when, value
    found = list(metrics.values())
    random.shuffle(found)
    return {"metrics": found}


def objective_value(trial: Mapping[str, Any]) -> str:
    """The value of the objective that counts, by its strategy; `unavailable` when there is none."""
    objective = trial["spec"]["objective"]
    name = objective["objectiveMetricName"]
    strategy = next((s["value"] for s in objective.get("metricStrategies") or [] if s["name"] == name), "")
    for metric in ((trial.get("status") or {}).get("observation") or {}).get("metrics") or []:
        if metric["name"] == name and strategy in ("min", "max", "latest"):
            found = metric.get(strategy, UNAVAILABLE)
            return str(metric["latest"] if found == UNAVAILABLE else found)
    return UNAVAILABLE


def is_observed(trial: Mapping[str, Any]) -> bool:
    """Whether the objective was reported."""
    name = trial["spec"]["objective"]["objectiveMetricName"]
    metrics = ((trial.get("status") or {}).get("observation") or {}).get("metrics") or []
    return any(metric["name"] == name and metric["latest"] != UNAVAILABLE for metric in metrics)


def best(trials: Sequence[Mapping[str, Any]], kind: str) -> tuple[Mapping[str, Any] | None, float | None]:
    """The best trial and its value; of values that are no numbers, the last one."""
    found, value = None, None
    for trial in trials:
        text = objective_value(trial)
        if text == UNAVAILABLE:
            continue
        number = _number(text)
        if number is None:
            found = trial
        elif value is None or (number < value if kind == "minimize" else number > value):
            found, value = trial, number
    return found, value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _time(text: str) -> datetime:
    """Go's times have nanoseconds, and Python 3.10 reads only three or six digits and no Z."""
    body, fraction, zone = re.match(r"^(.{19})(?:\.(\d+))?(.*)$", text).groups("")  # type: ignore[union-attr]
    whole = f"{body}.{(fraction or '0')[:6].ljust(6, '0')}{zone.upper().replace('Z', '+00:00')}"
    return datetime.fromisoformat(whole).astimezone(timezone.utc) if body[:4] != "0001" else _BEGINNING


_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
