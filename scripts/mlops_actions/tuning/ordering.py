"""What decides the result of an Experiment, and what its trials are started with, before any engine is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..environments import Environment
from ..errors import BadInput
from ..inputs import CodeInputs
from ..workspace import RUNNER, Workspace
from .code import code_files, digest
from .engine import Isolation, Pipeline
from .reading import Document
from .template import words

Trials = Literal["processes", "containers", "pods", "pipelines"]
"""What trials run as: on this machine as processes or containers, in a cluster as pods, or as runs of a pipeline."""
LAUNCHER = Path(__file__).resolve().parents[2] / "mlops"


@dataclass(frozen=True)
class Order:
    """An Experiment and what was said about its trials.

    Attributes:
        document: the Experiment.
        trials: what they run as.
        lineage: the data's fingerprint and the features' digest, by their inputs' names.
        image: of the trials instead of the Experiment's; "" for that.
        pipeline, pipeline_name: whose runs the trials are, as run-pipeline takes them; "" otherwise.
        code: files beside those that the trials' command names and imports, absolute.
        store_secret: with the store's keys, for pods.
        trial_timeout: seconds.
        inputs: the shared ones, which a trial's run of a pipeline is given on.
    """

    document: Document
    trials: Trials
    lineage: Mapping[str, str]
    image: str
    pipeline: str
    pipeline_name: str
    code: Sequence[Path]
    store_secret: str
    trial_timeout: float
    inputs: CodeInputs = field(repr=False)

    @property
    def isolation(self) -> Isolation:
        """What separates a trial on this machine from the others."""
        return "container" if self.trials == "containers" else "process"


def decides(
    order: Order, environment: Environment | None, workspace: Workspace, run_pipeline: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides the trials' results, but how many there are.

    Args:
        order: the Experiment.
        environment: that trials run in as processes; None otherwise.
        workspace: has their files.
        run_pipeline: the inputs of trials that are runs of a pipeline: when they change, trials run again.
    """
    spec = order.document.experiment.model_dump(mode="json", exclude={"metadata", "status"})
    for count in ("parallel_trial_count", "max_trial_count", "max_failed_trial_count"):
        spec["spec"].pop(count)
    named: Sequence[str] = ()
    runs: Any = order.image
    if order.trials == "pipelines":
        named, runs = [order.pipeline, order.inputs.requirements], dict(run_pipeline)
    elif order.trials == "processes":
        named = words(order.document)
    elif order.trials == "containers":
        from .containers import image_id

        runs = image_id(order.document, order.image, workspace.environ)
    elif order.trials == "pods":
        runs = {"image": order.image, "secret": order.store_secret, **workspace.store_variables()}
    files = {*code_files([word for word in named if word], workspace.root), *order.code}
    experiment = order.document.experiment
    return {
        "experiment": {"name": experiment.name, "namespace": experiment.metadata.namespace, **spec},
        "trials": order.trials,
        "environment": environment.name if environment else "",
        "code": digest(files, workspace.root),
        "lineage": dict(order.lineage),
        "runs": runs,
        "trial_timeout": order.trial_timeout,
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


def pipeline_command(order: Order, workspace: Workspace) -> Pipeline:
    """The command of a trial that is a run of a pipeline: our own, with what this one was given.

    Raises:
        BadInput: there is no such pipeline.
    """
    inputs = order.inputs
    if not workspace.path(order.pipeline).is_file():
        raise BadInput(f"There is no pipeline {order.pipeline}", fix="Correct `pipeline`")
    options = {
        "pipeline": order.pipeline,
        "pipeline-name": order.pipeline_name,
        "image": order.image,
        **order.lineage,
        "working-directory": str(workspace.root),
        "config": inputs.config.as_posix() if workspace.path(inputs.config).is_file() else "",
        "environment": inputs.environment,
        "store": workspace.store_url,
        "store-endpoint": inputs.store_endpoint,
        "store-region": inputs.store_region,
        "requirements": inputs.requirements,
        "python": inputs.python,
    }
    argv = [*(["bash"] if os.name == "nt" else []), str(LAUNCHER), "run-pipeline"]
    argv += [word for name, value in options.items() if value for word in (f"--{name}", value)]
    argv += [] if inputs.reuse else ["--no-reuse"]
    # On a runner an action's inputs and command files are variables, and these are ours.
    return Pipeline(
        tuple(argv), {name: value for name, value in workspace.environ.items() if not name.startswith(RUNNER)}
    )


def trial_environ(environment: Environment | None, workspace: Workspace) -> dict[str, str]:
    """A local trial's variables: the consumer's Python comes first, and what it prints is in its log at once."""
    if environment is None:
        return workspace.child_environ()
    path = os.pathsep.join([str(environment.python.parent), workspace.environ.get("PATH", os.defpath)])
    return workspace.child_environ(PATH=path, VIRTUAL_ENV=str(environment.folder), PYTHONUNBUFFERED="1")


def _bare(image: str) -> str:
    """An image's name without registry, owner, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]
