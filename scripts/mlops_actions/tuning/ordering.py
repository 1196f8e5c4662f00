"""What decides the result of an Experiment, and what its trials are started with, before any engine is asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..code_files import code_files, digest
from ..environments import Environment
from ..workspace import RUNNER
from .engine import Isolation, Pipeline
from .reading import Document
from .template import words

Trials = Literal["processes", "containers", "pods", "pipelines"]
"""What trials run as: on this machine as processes or containers, in a cluster as pods, or as runs of a pipeline."""
LAUNCHER = Path(__file__).resolve().parents[2] / "mlops"


@dataclass(frozen=True)
class Order:
    """An Experiment and what its trials are.

    Attributes:
        document: the Experiment.
        trials: what they run as.
        lineage: the data's fingerprint and the features' digest, by their inputs' names.
        image: of the trials instead of the Experiment's; "" for that.
        code: files beside those that the trials' command names and imports, absolute.
    """

    document: Document
    trials: Trials
    lineage: Mapping[str, str]
    image: str
    code: Sequence[Path]

    @property
    def isolation(self) -> Isolation:
        """What separates a trial on this machine from the others."""
        return "container" if self.trials == "containers" else "process"


def decides(
    order: Order, runs: object, environment: Environment | None, root: Path, files: Iterable[str], trial_timeout: float
) -> dict[str, Any]:
    """All that decides the trials' results, but how many there are.

    Args:
        order: the Experiment.
        runs: what the trials run beside code: an image, variables, a pipeline's inputs; JSON.
        environment: of local processes.
        root: the consumer's folder.
        files: names of files whose code trials run, beside what their command names.
        trial_timeout: seconds.
    """
    spec = order.document.experiment.model_dump(mode="json", exclude={"metadata", "status"})
    for count in ("parallel_trial_count", "max_trial_count", "max_failed_trial_count"):
        spec["spec"].pop(count)
    named = [*files, *(words(order.document) if order.trials == "processes" else ())]
    experiment = order.document.experiment
    return {
        "experiment": {"name": experiment.name, "namespace": experiment.metadata.namespace, **spec},
        "trials": order.trials,
        "environment": environment.name if environment else "",
        "code": digest({*code_files([name for name in named if name], root), *order.code}, root),
        "lineage": dict(order.lineage),
        "runs": runs,
        "trial_timeout": trial_timeout,
    }


def image_of(document: Document, given: str, built: str) -> str:
    """The image that trials run in: the one that was given, else the one that this run of the chain has built, if the
    Experiment's is of the same name (`flight-delays:latest`, `ghcr.io/owner/flight-delays@sha256:…`); else "", which
    leaves the Experiment's own.
    """
    if given or not built or document.values["spec"]["trialTemplate"]["trialSpec"].get("kind") != "Job":
        return given
    primary = document.primary
    return built if primary and _bare(primary[1].image) == _bare(built) else ""


def pipeline_runs(options: Mapping[str, str], environ: Mapping[str, str], *, reuse: bool) -> Pipeline:
    """Trials that are runs of a pipeline, by our own command.

    Args:
        options: of `run-pipeline`, by their names; what is "" is left out.
        environ: this process's variables, of which trials get what is not this action's own.
        reuse: whether finished runs may be taken.
    """
    argv = [*(["bash"] if os.name == "nt" else []), str(LAUNCHER), "run-pipeline"]
    argv += [word for name, value in options.items() if value for word in (f"--{name}", value)]
    argv += [] if reuse else ["--no-reuse"]
    return Pipeline(tuple(argv), {name: value for name, value in environ.items() if not name.startswith(RUNNER)})


def python_first(environment: Environment | None, path: str) -> dict[str, str]:
    """The variables by which a local trial finds the consumer's Python, and its output is in its log at once.

    Args:
        environment: the consumer's; None for no variables.
        path: the folders of PATH so far.
    """
    if environment is None:
        return {}
    path = os.pathsep.join([str(environment.python.parent), path])
    return {"PATH": path, "VIRTUAL_ENV": str(environment.folder), "PYTHONUNBUFFERED": "1"}


def _bare(image: str) -> str:
    """An image's name without registry, owner, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
