"""What became of a trial, by more than Katib tells: which of its containers failed and why, and what it reported."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ..collectors import JsonFile, TextFile, Unreadable
from ..engine import Cause, Trial
from ..experiment import Experiment
from ..metrics import counted
from .pods import Pods
from .troubles import RETAIN, Troubles
from .unreported import unreported

_LOG_TELLS = "Correct it, or raise `maxFailedTrialCount` if some combinations may fail"


class Explainer:
    """Completes trials that have ended.

    Args:
        experiment: that they are of.
        pods: theirs.
        troubles: forget what kept a trial from ending.

    Attributes:
        causes: of the trials that failed, by name.
        miscounted: the names of trials that were stopped early and have a value, but are failures for Katib.
    """

    def __init__(self, experiment: Experiment, pods: Pods, troubles: Troubles) -> None:
        self._experiment, self._pods, self._troubles = experiment, pods, troubles
        self.causes: dict[str, Cause] = {}
        self.miscounted: set[str] = set()

    def explained(self, trial: Trial) -> Trial:
        """A trial that ended with what its pod and its log tell."""
        self._troubles.over(trial.name)
        if trial.state == "MetricsUnavailable":
            self._pods.visit(trial.name)
            cause = unreported(self._experiment, self._pods.log(trial.name))
            self.causes[trial.name] = cause
            return replace(trial, message=cause.message, own=cause.own)
        if trial.state == "EarlyStopped" and trial.value is None:
            return self._stopped(trial)
        return self._failed(trial) if trial.state == "Failed" else trial

    def _stopped(self, trial: Trial) -> Trial:
        """A trial that was stopped early and that Katib knows no value of: its log has it."""
        self._pods.visit(trial.name)
        metrics = self._reported(trial)
        value = metrics.get(self._experiment.spec.objective.objective_metric_name)
        message = "" if value is not None else f"Katib did not read its value before it deleted its Job. {RETAIN}"
        return replace(trial, metrics=metrics, value=value, message=message)

    def _failed(self, trial: Trial) -> Trial:
        self._pods.visit(trial.name)
        cause = self._pods.failure(trial.name) or Cause(trial.message)
        self.causes[trial.name] = cause._replace(fix=cause.fix or _LOG_TELLS)
        trial = replace(trial, message=cause.message, own=cause.own)
        if self._pods.collector(trial.name).stopped:
            metrics = self._reported(trial)
            value = metrics.get(self._experiment.spec.objective.objective_metric_name)
            if value is not None:
                self.miscounted.add(trial.name)
                message = f"it was stopped early, and counts as failed for Katib: {cause.message}"
                return replace(trial, state="EarlyStopped", metrics=metrics, value=value, message=message)
        return trial

    def _reported(self, trial: Trial) -> dict[str, float]:
        """The values that count of what a trial printed."""
        objective, collector = self._experiment.spec.objective, self._experiment.spec.metrics_collector_spec
        path = self._pods.path(trial.name)
        reader = (
            JsonFile(path, objective.metrics)
            if collector.json_lines
            else TextFile(path, objective.metrics, collector.formats)
        )
        with suppress(Unreadable, FileNotFoundError):
            return counted(reader.read(ended=True), objective)
        return {}
