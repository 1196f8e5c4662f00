"""Run a Katib Experiment and return the best parameters; the same YAML locally and on Katib.

The engine `local` reads a Katib v1beta1 Experiment as it is and runs its trials as parallel processes in the
consumer's environment, with Katib's substitution of parameters and its default or custom metrics format. Algorithms
are `random`, `grid` and `tpe` (by Optuna), with the settings that Katib documents. What cannot be honoured without
a cluster is refused by name, at its line; nothing is replaced silently.

Finished trials are in a journal: a run that was killed or cancelled goes on where it was. A metric that is never
printed is explained by what the trial did print.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..action import Action, CodeInputs, Lines, Outputs, Result
from ..job import Job

if TYPE_CHECKING:
    from ..environments import Environment
    from ..tuning.reading import Document


class TuneHyperparamsInputs(CodeInputs):
    """What `tune-hyperparams` takes."""

    experiment: Path = Field(
        Path("experiment.yaml"),
        description="The Katib Experiment (`kubeflow.org/v1beta1`) as Katib takes it. A file with several documents is"
        " searched for it.",
        examples=["experiment.yaml"],
    )
    engine: Literal["local"] = Field(
        "local", description="Who runs the trials. `local`: processes on this machine, in the consumer's folder."
    )
    parallel: int = Field(0, ge=0, description="How many trials run at a time. 0: `parallelTrialCount`.")
    max_trials: int = Field(
        0,
        ge=0,
        description="How many trials complete the Experiment (small on pull requests). 0: `maxTrialCount`.",
    )
    trial_timeout: float = Field(
        0, ge=0, description="Seconds that a trial may take before it counts as failed. 0: no limit."
    )
    timeout: float = Field(
        0, ge=0, description="Seconds that the Experiment may take. Run again, it goes on. 0: no limit."
    )
    code: Lines = Field(
        default_factory=list,
        description="Files (paths or globs) beside those that the trials' command names and the modules that these"
        " import: when one of them changes, the trials are run again.",
    )
    data_fingerprint: str = Field(
        "", description="Fingerprint of the data that trials read. By default that of `validate-data` in this run."
    )
    features_digest: str = Field(
        "",
        description="Digest of the features that trials read. By default that of `materialize-features` in this run.",
    )
    keep_logs: bool = Field(False, description="Keep each trial's log in the store, beside the table of trials.")


class TuneHyperparamsOutputs(Outputs):
    """What `tune-hyperparams` gives."""

    best_parameters: dict[str, Any] = Field(description="The best trial's parameters, as JSON.")
    best_value: float = Field(description="Its objective.")
    best_trial: str = Field(description="The name of the best trial.")
    metrics: dict[str, float] = Field(description="Its metrics, as JSON: the objective and the additional ones.")
    trials_uri: str = Field(description="All trials as CSV: state, metrics, parameters, seconds.")
    picture_uri: str = Field(description="History, importance and parallel coordinates as PNG.")
    trials: int = Field(description="How many trials there were.")
    succeeded: int = Field(description="How many of them succeeded.")
    failed: int = Field(description="How many failed, or did not report their metric.")


def run(inputs: TuneHyperparamsInputs, job: Job) -> Result[TuneHyperparamsOutputs]:
    """Run the Experiment, or find that the same was run."""
    from ..tuning.checks import check, notices
    from ..tuning.engine import Request
    from ..tuning.engines import ENGINES
    from ..tuning.progress import Progress
    from ..tuning.publish import details, publish, typed

    document = _read(inputs, job)
    check(document)
    experiment = document.experiment
    environment = job.environment("", inputs)
    most = inputs.max_trials or experiment.spec.max_trial_count
    parallel = min(inputs.parallel or experiment.spec.parallel_trial_count, most or 10_000)
    decides = _decides(inputs, job, document, environment)
    limits = {"parallel": parallel, "max_trials": most, "failures": experiment.spec.max_failed_trial_count}
    key = job.key(**decides, **limits, logs=inputs.keep_logs)
    if found := job.finished(key, TuneHyperparamsOutputs):
        return found
    if ignored := notices(experiment):
        job.console.notice("\n".join(ignored), document.place(("spec", "trialTemplate", "trialSpec")))
    # Katib resumes a finished Experiment with a higher count unless its policy is Never, which is the default.
    state = job.key(**decides, **(limits if experiment.spec.resume_policy == "Never" else {}))
    request = Request(
        experiment,
        parallel,
        most,
        job.root,
        _environ(job, environment),
        job.home / "tuning" / state,
        fresh=not inputs.reuse,
        trial_timeout=inputs.trial_timeout,
        timeout=inputs.timeout,
    )
    with job.lock(f"the Experiment {experiment.name} ({state})"):
        outcome = ENGINES[inputs.engine]().run(request, Progress(job.console, experiment, most))
        table, picture = publish(job.store, f"tuning/{key}", experiment, outcome, logs=inputs.keep_logs)
    shown = details(experiment, outcome, picture)
    best, counts = outcome.best, shown["counts"]
    outputs = TuneHyperparamsOutputs(
        best_parameters=typed(experiment, best),
        best_value=outcome.value,
        best_trial=best.name,
        metrics=dict(best.metrics),
        trials_uri=table,
        picture_uri=picture,
        trials=counts["all"],
        succeeded=counts["succeeded"],
        failed=counts["failed"],
    )
    name = experiment.spec.objective.objective_metric_name
    reason = f"Best of {counts['all']} trials: {name} {outcome.value:.4g} ({best.name})"
    return Result(outputs, shown, reason=reason, key=key)


def _read(inputs: TuneHyperparamsInputs, job: Job) -> Document:
    from ..tuning.reading import read

    return read(job.path(inputs.experiment), inputs.experiment.as_posix())


def _decides(inputs: TuneHyperparamsInputs, job: Job, document: Document, environment: Environment) -> dict[str, Any]:
    """All that decides the trials' results, but how many there are."""
    from ..data.sources import find
    from ..tuning.code import code_files, digest
    from ..tuning.template import words

    spec = document.experiment.model_dump(mode="json", exclude={"metadata", "status"})
    for count in ("parallel_trial_count", "max_trial_count", "max_failed_trial_count"):
        spec["spec"].pop(count)
    files = [*code_files(words(document.experiment.primary[1]), job.root)]
    files += [source.path.resolve() for source in find(job, inputs.code)]
    return {
        "experiment": {"name": document.experiment.name, "namespace": document.experiment.metadata.namespace, **spec},
        "engine": inputs.engine,
        "environment": environment.name,
        "code": digest(set(files), job.root),
        "data": inputs.data_fingerprint or _previous(job, "validate-data", "fingerprint"),
        "features": inputs.features_digest or _previous(job, "materialize-features", "features-digest"),
        "trial_timeout": inputs.trial_timeout,
    }


def _previous(job: Job, action: str, output: str) -> str:
    record = job.previous(action)
    return str(record.outputs.get(output, "")) if record else ""


def _environ(job: Job, environment: Environment) -> dict[str, str]:
    """A trial's variables: the consumer's Python comes first, and what it prints is in its log at once."""
    import os

    path = os.pathsep.join([str(environment.python.parent), job.environ.get("PATH", os.defpath)])
    return job.child_environ(PATH=path, VIRTUAL_ENV=str(environment.folder), PYTHONUNBUFFERED="1")


ACTION = Action(
    "tune-hyperparams",
    "tuning",
    TuneHyperparamsInputs,
    TuneHyperparamsOutputs,
    run,
    icon="sliders",
)
