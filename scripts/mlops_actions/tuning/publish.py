"""What an Experiment leaves in the store: a CSV of its trials, and the logs if they are kept."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..stores.store import Store
from . import space
from .engine import Outcome, Trial
from .experiment import Experiment, Parameter
from .space import Value

_SHOWN = 50


def publish(store: Store, folder: str, experiment: Experiment, outcome: Outcome, *, logs: bool) -> str:
    """Upload what there is.

    Args:
        store: where to.
        folder: below which.
        experiment, outcome: what was run, and how it ended.
        logs: whether each trial's log is uploaded as `logs/<trial>.log`.

    Returns:
        The URI of the CSV.
    """
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "trials.csv"
        table.write_text(as_csv(experiment, outcome), encoding="utf-8", newline="")
        if logs:
            for trial in outcome.trials:
                if trial.number in outcome.logs:
                    store.put_log(outcome.logs[trial.number], f"{folder}/logs/{trial.name}.log")
        return store.put_file(table, f"{folder}/trials.csv")


def as_csv(experiment: Experiment, outcome: Outcome) -> str:
    """A row a trial: `metric.<name>` and `parameter.<name>` columns beside what it was and how it ended."""
    objective = experiment.spec.objective
    names = [parameter.name for parameter in experiment.spec.parameters]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [*(f"metric.{m}" for m in objective.metrics), *(f"parameter.{n}" for n in names)]
    writer.writerow(["trial", "name", "state", *columns, "seconds", "message"])
    for trial in outcome.trials:
        values = [*(trial.metrics.get(m, "") for m in objective.metrics), *(trial.parameters[n] for n in names)]
        row = [trial.number + 1, trial.name, trial.state, *values, round(trial.seconds, 3), trial.message]
        writer.writerow(row)
    return text.getvalue()


def typed(experiment: Experiment, trial: Trial) -> dict[str, Value]:
    """A trial's parameters as JSON has them; the items of a list that are numbers, as numbers."""
    return {p.name: space.typed(p, trial.parameters[p.name]) for p in experiment.spec.parameters}


def details(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """What the report shows: the best trials first, and at most some of them."""
    objective = experiment.spec.objective
    valued = [trial for trial in outcome.trials if trial.value is not None]
    ranked = sorted(valued, key=lambda t: t.value or 0.0, reverse=objective.type == "maximize")
    succeeded = [trial for trial in outcome.trials if trial.state == "Succeeded"]
    stopped = [trial for trial in outcome.trials if trial.state == "EarlyStopped"]
    failed = [trial for trial in outcome.trials if trial.failed]
    valueless = [trial for trial in stopped if trial.value is None]
    best = outcome.best
    return {
        "experiment": experiment.name,
        "algorithm": experiment.spec.algorithm.algorithm_name,
        "settings": {s.name: s.value for s in experiment.spec.algorithm.algorithm_settings},
        "objective": objective.objective_metric_name,
        "type": objective.type,
        "goal": objective.goal,
        "end": outcome.end,
        "seed": outcome.seed,
        "resumed": outcome.resumed,
        "importances": dict(outcome.importances),
        "additional": objective.additional_metric_names,
        "space": {p.name: _space(p) for p in experiment.spec.parameters},
        "best": {
            "name": best.name,
            "value": best.value,
            "parameters": typed(experiment, best),
            "metrics": best.metrics,
        },
        "counts": {
            "all": len(outcome.trials),
            "succeeded": len(succeeded),
            "failed": len(failed),
            "early-stopped": len(stopped),
            "killed": len(outcome.trials) - len(succeeded) - len(failed) - len(stopped),
        },
        "history": [[trial.number + 1, trial.value] for trial in outcome.trials if trial.value is not None],
        "trials": [_row(trial) for trial in (*ranked, *failed, *valueless)][:_SHOWN],
    }


def _row(trial: Trial) -> Mapping[str, Any]:
    return {
        "name": trial.name,
        "state": trial.state,
        "value": trial.value,
        "metrics": dict(trial.metrics),
        "parameters": dict(trial.parameters),
        "seconds": round(trial.seconds, 3),
        "message": trial.message,
    }


def _space(parameter: Parameter) -> str:
    feasible = parameter.feasible_space
    if feasible.values:
        return f"{parameter.parameter_type} {', '.join(feasible.values)}"
    step = f" step {feasible.step}" if feasible.step else ""
    drawn = {"logUniform": " (log)", "normal": " (normal)", "logNormal": " (log normal)"}.get(
        feasible.distribution or "", ""
    )
    return f"{parameter.parameter_type} {feasible.min} – {feasible.max}{step}{drawn}"
