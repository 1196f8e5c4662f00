"""The local engine: trials as processes on this machine, parameters by Optuna, a journal to go on from."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import BadInput, RemoteFailed
from .engine import End, Outcome, Request, Trial, Watcher, best_of, trial_name
from .journal import Journal
from .metrics import collect
from .processes import Ended, Processes, find
from .search import Past, Search
from .template import Command, command

LOG_LINES = 40


class LocalEngine:
    """Runs Experiments on this machine."""

    def run(self, request: Request, watcher: Watcher) -> Outcome:
        """See `Engine.run`."""
        spec = request.experiment.spec
        ends = request.max_trials or request.timeout or spec.objective.goal is not None
        if not ends and spec.algorithm.algorithm_name != "grid":
            raise BadInput(
                "The Experiment would never end",
                why="It has neither `maxTrialCount` nor a goal",
                fix="Give `max-trials`, or add one of them",
            )
        (request.state / "logs").mkdir(parents=True, exist_ok=True)
        settings = {s.name: s.value for s in spec.algorithm.algorithm_settings}
        given = int(settings["random_state"]) if "random_state" in settings else None
        journal = Journal(request.state / "journal.jsonl", seed=given, fresh=request.fresh)
        try:
            with Processes() as processes:
                return _Run(request, watcher, journal, processes).to_the_end()
        finally:
            journal.close()


class _Run:
    """One run of one Experiment: what is under way, and what to do next."""

    def __init__(self, request: Request, watcher: Watcher, journal: Journal, processes: Processes) -> None:
        self._request, self._watcher, self._journal, self._processes = request, watcher, journal, processes
        self._experiment = request.experiment
        spec = self._experiment.spec
        self._search = Search(
            spec.algorithm.algorithm_name,
            {s.name: s.value for s in spec.algorithm.algorithm_settings},
            spec.parameters,
            spec.objective.type == "minimize",
            journal.seed,
        )
        self._deadline = time.monotonic() + (request.timeout or math.inf)
        self._done: list[Trial] = []
        self._again: deque[Trial] = deque()

    def to_the_end(self) -> Outcome:
        """Start and collect trials until the Experiment is complete."""
        self._recall()
        with self._told_if_interrupted():
            while (end := self._end()) is None:
                while len(self._processes) < self._request.parallel and (trial := self._next()):
                    self._start(trial)
                self._journal.sync()  # while the trials run, so that none waits for the disk
                ended = self._processes.next(self._deadline)
                if ended is None:
                    raise self._too_late()
                self._finish(ended)
        best = best_of(self._experiment, self._by_number())
        if best is None or best.value is None:
            raise self._failed("No trial succeeded")
        return Outcome(
            end,
            tuple(self._by_number() + self._killed()),
            best,
            best.value,
            self._journal.seed,
            self._search.importances(),
            {trial.number: self._log(trial) for trial in self._done if self._log(trial).exists()},
            sum(trial.recalled for trial in self._done),
        )

    def _recall(self) -> None:
        """Take up what an earlier run left: what ended is kept, what ran is run again with the same parameters."""
        for number in sorted(self._journal.trials):
            trial = self._journal.trials[number]
            self._search.recall(_past(trial))
            (self._again if trial.state == "Running" else self._done).append(trial)
        if self._done:
            self._watcher.resumed(list(self._done))

    def _next(self) -> Trial | None:
        """The trial to start next, or None when none is to be started now."""
        if self._again:
            return self._again.popleft()
        number = len(self._journal.trials)
        limits = [limit for limit in (self._request.max_trials, self._search.size) if limit is not None]
        if number >= min(limits, default=math.inf):
            return None
        trial = Trial(number, trial_name(self._experiment, number), self._search.ask(number))
        self._journal.started(trial)
        return trial

    def _start(self, trial: Trial) -> None:
        asked = command(self._experiment, trial.name, {name: str(value) for name, value in trial.parameters.items()})
        environ = {**self._request.environ, **asked.environ}
        folder = self._request.folder / asked.folder
        self._processes.start(
            trial.number,
            [_program(asked, environ, folder), *asked.argv[1:]],
            folder=folder,
            environ=environ,
            log=self._log(trial),
            timeout=self._time_for_a_trial(),
        )
        self._watcher.started(trial, len(self._processes))

    def _time_for_a_trial(self) -> float:
        job = self._experiment.spec.trial_template.trial_spec.spec
        limits = [float(limit) for limit in (self._request.trial_timeout, job.active_deadline_seconds) if limit]
        return min(limits, default=0.0)

    def _finish(self, ended: Ended) -> None:
        trial = self._judge(self._journal.trials[ended.number], ended)
        self._journal.finished(trial)
        self._search.tell(trial.number, trial.value)
        self._done.append(trial)
        self._watcher.finished(trial, best_of(self._experiment, self._by_number()), len(self._done))

    def _judge(self, trial: Trial, ended: Ended) -> Trial:
        """What became of a trial, by its exit and what it printed."""
        trial = replace(trial, seconds=ended.seconds)
        if ended.late:
            return replace(trial, state="Failed", message=f"it ran longer than {self._time_for_a_trial():g} s")
        if ended.code:
            how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
            return replace(trial, state="Failed", message=f"it ended with {how}")
        objective = self._experiment.spec.objective
        formats = self._experiment.spec.metrics_collector_spec.formats
        with self._log(trial).open(encoding="utf-8", errors="replace") as lines:
            metrics = collect(lines, objective, formats)
        value = metrics.get(objective.objective_metric_name)
        if value is None:
            what = f"it never reported {objective.objective_metric_name!r}"
            wanted = " or ".join(formats) or f"{objective.objective_metric_name}=<number>"
            return replace(trial, state="MetricsUnavailable", metrics=metrics, message=f"{what} as {wanted}")
        return replace(trial, state="Succeeded", metrics=metrics, value=value)

    def _end(self) -> End | None:
        """Why the Experiment is complete, or None while it is not; in the order in which Katib looks.

        Raises:
            RemoteFailed: too many trials failed.
        """
        failures = sum(trial.failed for trial in self._done)
        allowed = self._experiment.spec.max_failed_trial_count
        if allowed is not None and failures > allowed:
            raise self._failed(f"{failures} trials failed, and `maxFailedTrialCount` is {allowed}")
        best = best_of(self._experiment, self._by_number())
        if best and best.value is not None and self._experiment.spec.objective.reached(best.value):
            return "GoalReached"
        if self._request.max_trials is not None and len(self._done) >= self._request.max_trials:
            return "MaxTrialsReached"
        if self._search.size is not None and len(self._done) >= self._search.size:
            return "SearchSpaceExhausted"
        return None

    def _failed(self, what: str) -> RemoteFailed:
        """The Experiment's failure, told by the trial that failed last."""
        self._journal.gave_up()
        last = next((trial for trial in reversed(self._done) if trial.failed), None)
        if last is None:
            return RemoteFailed(what)
        parameters = " ".join(f"{name}={value}" for name, value in last.parameters.items())
        log = tail(self._log(last))
        return RemoteFailed(
            what,
            why=f"The last, {last.name} with {parameters}: {last.message}" + ("" if log else "; it printed nothing"),
            fix="Correct it, or raise `maxFailedTrialCount` if some combinations may fail"
            if last.state == "Failed"
            else "Print the metric in that form, or correct `objectiveMetricName` or `metricsFormat`",
            log=log,
        )

    def _too_late(self) -> RemoteFailed:
        best = best_of(self._experiment, self._by_number())
        name = self._experiment.spec.objective.objective_metric_name
        so_far = f"; the best of them, {best.name}, has {name}={best.value:g}" if best else ""
        return RemoteFailed(
            f"The Experiment did not end within {self._request.timeout:g} s",
            why=f"{len(self._done)} trials ended{so_far}",
            fix="Run it again, and it goes on from there; or raise `timeout`, or lower `max-trials`",
        )

    @contextmanager
    def _told_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._processes.stop()
            self._watcher.interrupted(best_of(self._experiment, self._by_number()), len(self._done))
            raise

    def _by_number(self) -> list[Trial]:
        return sorted(self._done, key=lambda trial: trial.number)

    def _killed(self) -> list[Trial]:
        """Trials that were no longer needed."""
        return [replace(self._journal.trials[n], state="Killed", message="not needed") for n in self._processes.numbers]

    def _log(self, trial: Trial) -> Path:
        return self._request.state / "logs" / f"{trial.name}.log"


def _past(trial: Trial) -> Past:
    if trial.state == "Running":
        return Past(trial.parameters, "running")
    return Past(trial.parameters, "failed" if trial.failed else "succeeded", trial.value)


def tail(log: Path) -> str:
    """The last lines of a trial's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-LOG_LINES:])
    except FileNotFoundError:
        return ""


def _program(asked: Command, environ: Mapping[str, str], folder: Path) -> str:
    if not folder.is_dir():
        raise BadInput(f"The trial's `workingDir` {asked.folder!r} is not a folder", fix="Correct it in the Experiment")
    found = find(asked.argv[0], environ, folder)
    if not found or not (os.name == "nt" or os.access(found, os.X_OK)):
        raise BadInput(
            f"The trial's command {asked.argv[0]!r} is not on this machine",
            why="Trials run as processes here, not in the image",
            fix="Use a program of the path, such as python, or one in the repository that can be executed",
        )
    return found
