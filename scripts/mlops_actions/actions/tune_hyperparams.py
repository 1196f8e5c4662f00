"""Run a Katib Experiment and return the best parameters; the same YAML locally and on Katib.

The engine `katib` applies the YAML to a cluster as it is, under a name that the work's key decides, and watches it:
a job that is run again finds its Experiment. What would let it wait for ever is found and told: a namespace without
Katib's label, a metrics collector that was not injected, a metric that is never printed, pods that cannot start, a
suggestion service that is not ready. Trials get the variables that say where the store is, and its keys
(`store-secret`); cancelling the job ends them.

The engine `local` reads a Katib v1beta1 Experiment as it is and runs its trials in parallel, as processes in the
consumer's environment or as containers of their image (`isolation`), with Katib's substitution of parameters. It has
Katib's algorithms with the settings that Katib documents (`random`, `grid`, `sobol`, `tpe`, `multivariate-tpe`,
`bayesianoptimization`, `cmaes`, `hyperband`, `pbt`), its distributions, `medianstop`, and its collectors `StdOut`,
`File`, `TensorFlowEvent` and `PrometheusMetric`. What is not supported without a cluster is refused by name, at its
line; nothing is replaced silently.

With `pipeline`, each trial is a run of that pipeline with the trial's parameters, on whatever engine `run-pipeline` is
configured for; its metrics are the trial's. The Experiment then needs no trial template.

With every engine an Experiment is complete when a trial reaches the `goal`; it fails when `maxFailedTrialCount` trials
have failed (0: at the first), with exit code 1 when the last one failed by its own doing and 3 when another system did;
and it is complete after `maxTrialCount` trials. These are looked at in this order, which is Katib's.

Finished trials are in a journal: a run that was killed or cancelled goes on where it was, within 30 days. A metric
that is never printed is explained by what the trial did print.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..engines import engines, with_engines
from ..inputs import CodeInputs, LineageInputs, Outputs
from ..runtime.action import Action
from ..runtime.chain import load
from ..runtime.config import resolve
from ..runtime.result import Result
from ..values import Lines

if TYPE_CHECKING:
    from ..environments import Environment
    from ..runtime.step import Step
    from ..tuning.engine import Outcome, Pipeline, TuneRequest
    from ..tuning.ordering import Order

_ENGINES = "mlops_actions.tuning.engines"
_UNUSED = 30  # days after which what an Experiment left on this machine goes, as in the cache


class TuneHyperparamsInputs(CodeInputs, LineageInputs):
    """What `tune-hyperparams` takes."""

    experiment: Path = Field(
        Path("experiment.yaml"),
        description="The Katib Experiment (`kubeflow.org/v1beta1`) as Katib takes it. A file with several documents is"
        " searched for it.",
        examples=["experiment.yaml"],
    )
    engine: str = "local"
    parallel: int = Field(0, ge=0, description="How many trials run at a time. 0: `parallelTrialCount`.")
    max_trials: int = Field(
        0,
        ge=0,
        description="How many trials complete the Experiment (small on pull requests). 0: `maxTrialCount`.",
    )
    isolation: Literal["process", "container"] = Field(
        "process",
        description="What local trials run as: processes in the consumer's folder and environment, or containers of the"
        " Experiment's image, by the docker command.",
    )
    image: str = Field(
        "",
        description="Image of the trials, with its digest, instead of the one that the Experiment names. By default"
        " the one that build-image pushed in this run, where the Experiment's has the same name.",
    )
    pipeline: str = Field(
        "",
        description="A pipeline whose runs are the trials: its file, as `run-pipeline` takes it, which has its other"
        " inputs from `mlops.yaml` and the variables.",
        examples=["pipeline.py"],
    )
    pipeline_name: str = Field("", description="Which pipeline of the file, when it has several.")
    trial_timeout: float = Field(
        0, ge=0, description="Seconds that a trial may take before it counts as failed. 0: no limit."
    )
    timeout: float = Field(
        0, ge=0, description="Seconds that the Experiment may take. Run again, it goes on. 0: no limit."
    )
    stall_timeout: float = Field(
        0, ge=0, description="Seconds within which at least one trial has to end. 0: no limit."
    )
    at_limit: Literal["fail", "best"] = Field(
        "fail", description="What `timeout` and `stall-timeout` give: an error, or the best trial so far as the result."
    )
    code: Lines = Field(
        default_factory=list,
        description="Files (paths or globs) beside those that the trials' command names and the modules that these"
        " import: when one of them changes, the trials are run again.",
    )
    keep_logs: bool = Field(False, description="Keep each trial's log in the store, beside the table of trials.")


class TuneHyperparamsOutputs(Outputs):
    """What `tune-hyperparams` gives."""

    best_parameters: dict[str, Any] = Field(description="The best trial's parameters, as JSON.")
    best_value: float = Field(description="Its objective.")
    best_trial: str = Field(description="The name of the best trial.")
    metrics: dict[str, float] = Field(description="Its metrics, as JSON: the objective and the additional ones.")
    trials_uri: str = Field(description="All trials as CSV: state, metrics, parameters, seconds.")
    trials: int = Field(description="How many trials there were.")
    succeeded: int = Field(description="How many of them succeeded.")
    failed: int = Field(description="How many failed, or did not report their metric.")
    early_stopped: int = Field(0, description="How many were stopped early.")


def run(inputs: TuneHyperparamsInputs, step: Step) -> Result[TuneHyperparamsOutputs]:
    """Run the Experiment, or find that the same was run."""
    from ..tuning.ordering import decides

    order = _order(inputs, step)
    experiment = order.document.experiment
    environment = step.workspace.environment("", inputs) if order.trials == "processes" else None
    most = inputs.max_trials or experiment.spec.max_trial_count
    parallel = min(inputs.parallel or experiment.spec.parallel_trial_count, most or 10_000)
    _check(order, parallel)
    files = [inputs.pipeline, inputs.requirements] if order.trials == "pipelines" else []
    runs = _runs(inputs, order, step)
    decided = decides(order, runs, environment, step.workspace.root, files, inputs.trial_timeout)
    limits = {"parallel": parallel, "max_trials": most, "failures": experiment.spec.max_failed_trial_count}
    # Katib resumes a finished Experiment with a higher count unless its policy is Never, which is the default.
    state = step.key(**decided, **(limits if experiment.spec.resume_policy == "Never" else {}))
    key = step.key(**decided, **limits, logs=inputs.keep_logs)
    request = _request(inputs, order, step.own_key(state), parallel, most, step)
    return step.once(key, TuneHyperparamsOutputs, lambda: _run(inputs, order, request, environment, key, step))


def _request(
    inputs: TuneHyperparamsInputs, order: Order, state: str, parallel: int, most: int | None, step: Step
) -> TuneRequest:
    from ..tuning.engine import TuneRequest

    return TuneRequest(
        order.document,
        state,
        parallel,
        most,
        fresh=not inputs.reuse,
        trial_timeout=inputs.trial_timeout,
        timeout=inputs.timeout,
        stall_timeout=inputs.stall_timeout,
        at_limit=inputs.at_limit,
        isolation=inputs.isolation,
        image=order.image,
        pipeline=_pipeline(inputs, order, step) if order.trials == "pipelines" else None,
        run=step.run,
        logs=inputs.keep_logs,
    )


def _run(
    inputs: TuneHyperparamsInputs,
    order: Order,
    request: TuneRequest,
    environment: Environment | None,
    key: str,
    step: Step,
) -> Result[TuneHyperparamsOutputs]:
    from ..files import remove_old
    from ..tuning.engine import TuningContext
    from ..tuning.ordering import python_first
    from ..tuning.progress import TuningProgress
    from ..tuning.publish import publish

    _notice(order, step)
    workspace, experiment = step.workspace, order.document.experiment
    states = workspace.home / "tuning"
    context = TuningContext(
        workspace.root,
        workspace.child_environ(**python_first(environment, workspace.environ.get("PATH", os.defpath))),
        states / request.key,
        variables=workspace.store_variables(),
        say=step.console.say,
        mask=step.console.mask,
    )
    engine = engines(_ENGINES)[inputs.engine].make(inputs, context)
    with workspace.lock(f"the Experiment {experiment.name} ({request.key})"):
        context.state.mkdir(parents=True, exist_ok=True)
        os.utime(context.state)  # it is in use
        remove_old(states.glob("*"), _UNUSED)
        outcome = engine.run(request, TuningProgress(step.console, experiment, request.max_trials))
        folder = workspace.kept(f"tuning/{key}")
        table = publish(workspace.store, folder, experiment, outcome, logs=inputs.keep_logs)
    return _result(order, outcome, table)


def _order(inputs: TuneHyperparamsInputs, step: Step) -> Order:
    from ..data.sources import find
    from ..errors import BadInput
    from ..tuning.ordering import Order, Trials, image_of
    from ..tuning.reading import read

    remote = engines(_ENGINES)[inputs.engine].remote
    trials: Trials = "pods" if remote else "containers" if inputs.isolation == "container" else "processes"
    if inputs.pipeline:
        if remote:
            raise BadInput(
                f"The engine `{inputs.engine}` cannot run `pipeline`",
                why="A trial that is a run of a pipeline is started by our own loop",
                fix="Leave `engine` out: the run itself goes where run-pipeline's `engine` says",
            )
        trials = "pipelines"
    document = read(step.workspace.path(inputs.experiment), inputs.experiment.as_posix())
    built = step.built_image() if trials in ("containers", "pods") else ""
    return Order(
        document,
        trials,
        step.lineage(inputs),
        image_of(document, inputs.image, built),
        [source.path.resolve() for source in find(step.workspace, inputs.code)],
    )


def _runs(inputs: TuneHyperparamsInputs, order: Order, step: Step) -> object:
    """What the trials run beside code, so that they are run again when that changes."""
    from ..tuning.containers import image_id

    if order.trials == "containers":
        return image_id(order.document, order.image, step.workspace.environ)
    if order.trials == "pods":
        return {"image": order.image, **step.workspace.store_variables()}
    if order.trials == "pipelines":
        given = {"pipeline": inputs.pipeline, "pipeline_name": inputs.pipeline_name, "image": order.image}
        environ = step.workspace.environ
        resolved = resolve(load("run-pipeline"), given, environ, step.project, inputs.environment).inputs
        access = {"store_endpoint", "store_role", "store_audience"}
        return resolved.model_dump(mode="json", exclude={"run", "config", "working_directory", *access})
    return order.image


def _pipeline(inputs: TuneHyperparamsInputs, order: Order, step: Step) -> Pipeline:
    """Trials that are runs of a pipeline: our own command, with what this one was given."""
    from ..errors import BadInput
    from ..tuning.ordering import pipeline_runs

    workspace = step.workspace
    if not workspace.path(inputs.pipeline).is_file():
        raise BadInput(f"The pipeline {inputs.pipeline} does not exist", fix="Correct `pipeline`")
    options = {
        "pipeline": inputs.pipeline,
        "pipeline-name": inputs.pipeline_name,
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
    return pipeline_runs(options, workspace.environ, reuse=inputs.reuse)


def _check(order: Order, parallel: int) -> None:
    from ..tuning.checks import check
    from ..tuning.checks_local import check_local

    of_pipeline = order.trials == "pipelines"
    check(order.document, pipeline=of_pipeline)
    if order.trials != "pods":
        check_local(order.document, isolation=order.isolation, pipeline=of_pipeline, parallel=parallel)


def _notice(order: Order, step: Step) -> None:
    """Say what of the Experiment is left out on this machine, and which image takes the place of its own."""
    from ..tuning.checks_local import notices

    if order.image and order.trials in ("containers", "pods"):
        step.console.say(f"The trials run in {order.image}")
    if order.trials == "pods":
        return
    if ignored := notices(order.document, isolation=order.isolation, pipeline=order.trials == "pipelines"):
        step.console.notice("\n".join(ignored), order.document.place(("spec", "trialTemplate", "trialSpec")))


def _result(order: Order, outcome: Outcome, table: str) -> Result[TuneHyperparamsOutputs]:
    from ..tuning.publish import details, typed

    experiment = order.document.experiment
    shown = {**details(experiment, outcome), **({"image": order.image} if order.image else {})}
    best, counts = outcome.best, shown["counts"]
    outputs = TuneHyperparamsOutputs(
        best_parameters=typed(experiment, best),
        best_value=outcome.value,
        best_trial=best.name,
        metrics=dict(best.metrics),
        trials_uri=table,
        trials=counts["all"],
        succeeded=counts["succeeded"],
        failed=counts["failed"],
        early_stopped=counts["early-stopped"],
    )
    name = experiment.spec.objective.objective_metric_name
    reason = f"Best of {counts['all']} trials: {name} {outcome.value:.4g} ({best.name})"
    complete = outcome.end not in ("TimeLimit", "Stalled")  # else the same work goes on when it is run again
    return Result(outputs, shown, reason=reason, reusable=complete)


ACTION = Action(
    "tune-hyperparams",
    "tuning",
    with_engines(TuneHyperparamsInputs, _ENGINES, "Who runs the trials."),
    TuneHyperparamsOutputs,
    run,
    icon="sliders",
    engines=_ENGINES,
    once=True,
)
