"""How a trial becomes a process of this machine: its container's command, or a run of a whole pipeline."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import BadInput, RemoteFailed
from .collectors import EventFiles, JsonFile, Outputs, Prometheus, Reader, TextFile
from .engine import Cause, Pipeline, Trial
from .experiment import Experiment
from .mounts import mounts, prepare, replaced
from .processes import Launch, find
from .reading import Document
from .space import Value, typed
from .template import assignments, command

PIPELINE_GRACE = 7.0
"""Seconds that a pipeline's run has to end what it started elsewhere: a cancelled job has 7.5 s in all."""


@dataclass(frozen=True)
class Place:
    """Where a trial runs, and what is kept of it.

    Attributes:
        folder: the consumer's.
        environ: the variables of every trial.
        state: the engine's folder.
        timeout: seconds that a trial may take; 0 for no limit.
    """

    folder: Path
    environ: Mapping[str, str]
    state: Path
    timeout: float = 0.0

    def log(self, trial: Trial) -> Path:
        """A trial's output."""
        return self.state / "logs" / f"{trial.name}.log"

    def output(self, trial: Trial) -> Path:
        """What a trial that is a pipeline's run gives."""
        return self.state / "logs" / f"{trial.name}.json"


class Runner(Protocol):
    """Runs trials of one Experiment."""

    def begin(self, trial: Trial) -> Launch:
        """Get ready for a trial; what its process is started with.

        Raises:
            BadInput: it cannot be started.
        """

    def reader(self, trial: Trial) -> Reader:
        """What reads the metrics of a trial that begins, or of one that has run before."""

    def cause(self, trial: Trial, code: int) -> Cause:
        """Why a trial's process ended with this code, if more is known than its log says."""

    def ended(self, trial: Trial) -> None:
        """A trial has ended; what is left of it goes."""

    def close(self) -> None:
        """No trial runs any more, though some may not have ended by themselves."""


class ProcessRunner:
    """The primary container's command as a process in the consumer's folder and environment."""

    def __init__(self, document: Document, place: Place) -> None:
        self._document, self._experiment, self._place = document, document.experiment, place

    def begin(self, trial: Trial) -> Launch:
        """See `Runner.begin`."""
        prepare(self._experiment, trial, self._place.state)
        asked = command(self._document, trial.name, texts_of(trial.parameters))
        shared = mounts(self._experiment, trial, self._place.state)
        words = [replaced(word, shared) for word in (*asked.words, *asked.arguments)]
        own = {name: replaced(value, shared) for name, value in asked.environ.items()}
        unlittered = {"PYTHONDONTWRITEBYTECODE": "1"}  # nothing of ours stays in the consumer's folder
        environ, folder = {**self._place.environ, **unlittered, **own}, self._place.folder / asked.folder
        argv = [_program(words[0], asked.folder, environ, folder), *words[1:]]
        return Launch(argv, folder, environ, self._place.log(trial), timeout=self._place.timeout)

    def reader(self, trial: Trial) -> Reader:
        """See `Runner.reader`."""
        return reader(self._experiment, trial, self._place, lambda: f"127.0.0.1:{_port(self._experiment)}")

    def cause(self, trial: Trial, code: int) -> Cause:
        """See `Runner.cause`."""
        return Cause("")

    def ended(self, trial: Trial) -> None:
        """See `Runner.ended`."""

    def close(self) -> None:
        """See `Runner.close`."""


class PipelineRunner:
    """Each trial a run of a pipeline by our own command, which finds its run again when it was interrupted."""

    def __init__(self, experiment: Experiment, pipeline: Pipeline, run: str, place: Place) -> None:
        self._experiment, self._pipeline, self._run, self._place = experiment, pipeline, run, place

    def begin(self, trial: Trial) -> Launch:
        """See `Runner.begin`."""
        run = f"{self._run}-{trial.name}"  # a run beside the chain's own, whose records they are not
        argv = [*self._pipeline.argv, "--parameters", json.dumps(self._parameters(trial)), "--run", run, "--json"]
        output = self._place.output(trial)
        output.unlink(missing_ok=True)
        return Launch(
            argv,
            self._place.folder,
            self._pipeline.environ,
            self._place.log(trial),
            output=output,
            timeout=self._place.timeout,
            interrupt=signal.SIGINT,
            grace=PIPELINE_GRACE,
        )

    def reader(self, trial: Trial) -> Reader:
        """See `Runner.reader`."""
        return Outputs(self._place.output(trial), self._experiment.spec.objective.metrics)

    def cause(self, trial: Trial, code: int) -> Cause:
        """See `Runner.cause`."""
        own = code != RemoteFailed.exit_code
        try:
            problem = json.loads(self._place.output(trial).read_text(encoding="utf-8"))["record"]["problem"]
            said = " ".join(str(problem[key]).rstrip(".") + "." for key in ("what", "why") if problem.get(key))
            return Cause(said, own=own)
        except (OSError, ValueError, KeyError, TypeError):
            return Cause("", own=own)

    def ended(self, trial: Trial) -> None:
        """See `Runner.ended`."""

    def close(self) -> None:
        """See `Runner.close`."""

    def _parameters(self, trial: Trial) -> dict[str, Any]:
        """The pipeline's parameters: as the trial parameters say, or by the names of the search space."""
        values = {p.name: typed(p, trial.parameters[p.name]) for p in self._experiment.spec.parameters}
        if not self._experiment.spec.trial_template.trial_parameters:
            return values
        texts = assignments(self._experiment, trial.name, texts_of(trial.parameters))
        references = {p.name: p.reference for p in self._experiment.spec.trial_template.trial_parameters}
        return {name: values.get(references[name], text) for name, text in texts.items()}


def reader(experiment: Experiment, trial: Trial, place: Place, server: Callable[[], str]) -> Reader:
    """What reads the metrics of a trial, by its collector.

    Args:
        experiment, trial, place: which trial, and where it runs.
        server: gives host and port of its metrics over HTTP, or "" while they are not known.
    """
    collector, metrics = experiment.spec.metrics_collector_spec, experiment.spec.objective.metrics
    kind = collector.collector.kind
    if kind == "PrometheusMetric":
        return Prometheus(server, collector, metrics)
    if kind == "StdOut":
        return TextFile(place.log(trial), metrics, collector.formats)
    outside = {mount.inside: mount.outside for mount in mounts(experiment, trial, place.state)}
    if kind == "TensorFlowEvent":
        return EventFiles(outside[collector.path.rstrip("/")], metrics)
    folder, _, name = collector.path.rpartition("/")
    file = outside[folder or "/"] / name
    return JsonFile(file, metrics) if collector.json_lines else TextFile(file, metrics, collector.formats)


def _port(experiment: Experiment) -> int | str:
    return experiment.spec.metrics_collector_spec.port


def texts_of(parameters: Mapping[str, Value]) -> dict[str, str]:
    """Parameters as Katib passes them."""
    return {name: str(value) for name, value in parameters.items()}


def _program(word: str, named: str, environ: Mapping[str, str], folder: Path) -> str:
    if not folder.is_dir():
        raise BadInput(f"The trial's `workingDir` {named!r} is not a folder", fix="Correct it in the Experiment")
    found = find(word, environ, folder)
    if not found or not (os.name == "nt" or os.access(found, os.X_OK)):
        raise BadInput(
            f"The trial's command {word!r} is not on this machine",
            why="Trials run as processes here, not in the image",
            fix="Use a program of the path, such as python, or one in the repository that can be executed,"
            " or run trials in the image with `isolation: container`",
        )
    return found
