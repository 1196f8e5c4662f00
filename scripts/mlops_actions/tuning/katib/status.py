"""What Katib writes into its objects, read: conditions, how an Experiment ended, and what became of a trial.

Sources: pkg/apis/controller/{experiments,trials}/v1beta1 and pkg/controller.v1beta1/{experiment,trial} of
github.com/kubeflow/katib. Its releases differ: a trial without metrics is `MetricsUnavailable: True` in later ones
and `Succeeded: False` in earlier ones; both are understood. The order of conditions means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..engine import End, State, Trial
from ..experiment import Experiment, Objective, Parameter
from ..metrics import number
from ..space import Value

Object = dict[str, Any]

ENDS: Mapping[str, End] = {
    "ExperimentGoalReached": "GoalReached",
    "ExperimentMaxTrialsReached": "MaxTrialsReached",
    "ExperimentSuggestionEndReached": "SearchSpaceExhausted",
    "ExperimentTimeLimit": "TimeLimit",
    "ExperimentStalled": "Stalled",
}
"""The reasons with which an Experiment succeeds: Katib's, and ours for limits that Katib does not have."""
ENDED: tuple[State, ...] = ("Killed", "Failed", "Succeeded", "EarlyStopped", "MetricsUnavailable")
"""The conditions with which a trial ends, in the order in which Katib looks at them."""
_UNAVAILABLE = "unavailable"


def condition(body: Object, kind: str) -> Object | None:
    """The condition of a type, true or not."""
    found = (body.get("status") or {}).get("conditions") or []
    return next((c for c in found if c.get("type") == kind), None)


def holds(body: Object, kind: str) -> bool:
    """Whether the condition of a type is true."""
    found = condition(body, kind)
    return found is not None and found.get("status") == "True"


def completed(experiment: Object) -> Object | None:
    """The condition with which an Experiment ended: `Failed` or `Succeeded`; None while it goes on."""
    return next((condition(experiment, kind) for kind in ("Failed", "Succeeded") if holds(experiment, kind)), None)


def trial(body: Object, experiment: Experiment, number: int) -> Trial:
    """A Katib Trial as ours.

    Args:
        body: the Trial.
        experiment: that it is of.
        number: from 0, in the order of creation.
    """
    state = _state(body)
    objective = experiment.spec.objective
    metrics = {}
    if state in ("Succeeded", "EarlyStopped"):
        metrics = _metrics(body, objective)
    value = metrics.get(objective.objective_metric_name)
    message = _message(body, state)
    if state == "Succeeded" and value is None:
        state, message = "MetricsUnavailable", f"its {objective.objective_metric_name!r} is not a number"
    return Trial(
        number,
        body["metadata"]["name"],
        _parameters(body, experiment),
        state,
        metrics,
        value,
        seconds(body, state),
        message,
        labels=(body.get("spec") or {}).get("labels") or {},
    )


def active(trial: Trial) -> bool:
    """Whether a trial goes on."""
    return trial.state in ("Pending", "Running")


def seconds(body: Object, state: State) -> float:
    """How long a trial took; 0 while it runs. Kubernetes' times have whole seconds."""
    status = body.get("status") or {}
    ended = status.get("completionTime") or (condition(body, state) or {}).get("lastTransitionTime")
    began = status.get("startTime") or body["metadata"].get("creationTimestamp")
    if state not in ENDED or not ended or not began:
        return 0.0
    return max(0.0, (when(ended) - when(began)).total_seconds())


def when(text: str) -> datetime:
    """A time of Kubernetes: `2026-01-31T12:00:00Z`."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def created(body: Object) -> tuple[str, str]:
    """By what the trials of an Experiment are put in the order of their creation."""
    return body["metadata"].get("creationTimestamp", ""), body["metadata"]["name"]


def _state(body: Object) -> State:
    for state in ENDED:
        if holds(body, state):
            return state
    if (condition(body, "Succeeded") or {}).get("status") == "False":
        return "MetricsUnavailable"
    return "Running" if holds(body, "Running") else "Pending"


def _metrics(body: Object, objective: Objective) -> dict[str, float]:
    """The value that counts of each metric; Katib gives the least, the greatest and the last one, as text."""
    observed = ((body.get("status") or {}).get("observation") or {}).get("metrics") or []
    by_name = {metric.get("name"): metric for metric in observed}
    found = {}
    for name in objective.metrics:
        given = by_name.get(name) or {}
        text = given.get(objective.strategy(name), _UNAVAILABLE)
        value = number(given.get("latest", "") if text == _UNAVAILABLE else text)
        if value is not None:
            found[name] = value
    return found


def _parameters(body: Object, experiment: Experiment) -> dict[str, Value]:
    """What the trial was given; numbers as numbers. Neural architecture search gives what is in no search space."""
    space = {parameter.name: parameter for parameter in experiment.spec.parameters}
    given = (body.get("spec") or {}).get("parameterAssignments") or []
    return {p["name"]: _value(space.get(p["name"]), p["value"]) for p in given}


def _value(parameter: Parameter | None, text: str) -> Value:
    kind = parameter.parameter_type if parameter else "categorical"
    if kind == "double":
        return float(text)
    if kind == "int":
        return int(float(text))  # some of Katib's algorithms write 3.0
    choices = (parameter.feasible_space.values or []) if parameter else []
    same = (choice for choice in choices if number(choice) is not None and number(choice) == number(text))
    return text if text in choices else next(same, text)


def _message(body: Object, state: State) -> str:
    if state not in ("Failed", "Killed", "MetricsUnavailable"):
        return ""
    message = str((condition(body, state) or condition(body, "Succeeded") or {}).get("message") or "")
    return message.rpartition("Job message: ")[2].strip()
