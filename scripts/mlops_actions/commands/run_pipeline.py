"""Compile a Kubeflow pipeline, run it, explain a failure, and collect its metrics and artifacts.

The pipeline is a `.py` file with a `@dsl.pipeline`, or compiled YAML. Parameters are checked against its own types
and names before anything runs. The engine `local` is kfp.local with the faults that change results mended (integers
in lists, conditions with quotes, loops over outputs); each set of `packages_to_install` is one prepared
environment, so a task installs nothing. A task whose code, packages, arguments and inputs are known is taken from
the store (`reused`).

A failure names the task, its exception, the last lines of its own log, and the line of the pipeline file. The model
is the pipeline's Model artifact; the Dataset artifacts `predictions` (test rows with `label` and `score`) and
`golden` (features with `score`) are what evaluate-model, test-model and deploy-model work with.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..action import Action, CodeInputs, Outputs, Result, Values
from ..job import Job

if TYPE_CHECKING:
    from ..pipelines.engine import RunRequest, RunResult
    from ..pipelines.run import Order

Engine = Literal["local"]


class RunPipelineInputs(CodeInputs):
    """What `run-pipeline` takes."""

    pipeline: Path = Field(
        Path("pipeline.py"),
        description="The pipeline: a `.py` file with a `@dsl.pipeline` function, or compiled YAML.",
        examples=["pipeline.py"],
    )
    pipeline_name: str = Field(
        "", description="Which pipeline to run when the file has several: its name, or its function's name."
    )
    parameters: Values = Field(
        default_factory=dict,
        description="The pipeline's parameters, as `name=value` lines or as YAML or JSON."
        " They are checked against the pipeline's own types and names before anything runs.",
    )
    parameters_file: str = Field(
        "", description="A YAML or JSON file with parameters. What `parameters` says wins over it."
    )
    tuned_parameters: Values = Field(
        default_factory=dict,
        description="The best parameters of a tuning. Those that the pipeline has win over `parameters-file`, and"
        " `parameters` wins over them. By default the ones that tune-hyperparams gave in this run.",
    )
    data_fingerprint: str = Field(
        "",
        description="Fingerprint of the data that components read. A changed one makes tasks run again."
        " By default the one that validate-data gave in this run.",
    )
    features_digest: str = Field(
        "",
        description="Digest of the features that components read. A changed one makes tasks run again."
        " By default the one that materialize-features gave in this run.",
    )
    image: str = Field(
        "",
        description="Image, with its digest, that the components' code belongs to. It is part of the run's key;"
        " the engine `local` does not run it.",
    )
    engine: Engine = Field("local", description="Where the pipeline runs: `local` on this machine, with kfp.local.")
    model_artifact: str = Field(
        "",
        description="The artifact that is the model, as `name` or `task.name`."
        " By default the Model artifact named `model`, or the only Model artifact.",
    )
    predictions_artifact: str = Field(
        "",
        description="The artifact with the predictions on the test data, as `name` or `task.name`."
        " By default the one named `predictions`.",
    )
    golden_artifact: str = Field(
        "",
        description="The artifact with golden predictions, as `name` or `task.name`."
        " By default the one named `golden`.",
    )
    timeout: float = Field(0, ge=0, description="Seconds after which the run is ended; 0 for no limit.")


class RunPipelineOutputs(Outputs):
    """What `run-pipeline` gives."""

    model_uri: str = Field("", description="URI of the model in the store; empty when there is none.")
    predictions_uri: str = Field("", description="URI of the predictions in the store; empty when there are none.")
    golden_uri: str = Field("", description="URI of the golden predictions in the store; empty when there are none.")
    metrics: dict[str, float] = Field(
        default_factory=dict,
        description="Every number that was logged to a Metrics or ClassificationMetrics artifact, by its name;"
        " by `task.name` when several have the same name.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="The parameters that the run had, defaults included."
    )
    results: dict[str, Any] = Field(
        default_factory=dict,
        description="The output parameters: the pipeline's own by name, each task's as `task.name`.",
    )
    artifacts: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Every artifact: `task`, `name`, `type`, `uri`, `digest` and `metadata`.",
    )
    packages: list[str] = Field(
        default_factory=list,
        description="What the component that made the model installs: test-model and deploy-model use it.",
    )
    pipeline: str = Field("", description="The pipeline's name.")
    pipeline_digest: str = Field("", description="Digest of the compiled pipeline.")
    pipeline_key: str = Field("", description="Hash of all that decided the run's result.")
    data_fingerprint: str = Field("", description="Fingerprint of the data that the run used.")


def run(inputs: RunPipelineInputs, job: Job) -> Result[RunPipelineOutputs]:
    """Run the pipeline, or find the same run."""
    from ..pipelines.run import Order, execute, prepared

    order = Order(
        file=job.path(inputs.pipeline).resolve(),
        name=inputs.pipeline_name,
        parameters=inputs.parameters,
        parameters_file=job.path(inputs.parameters_file) if inputs.parameters_file else None,
        tuned=inputs.tuned_parameters or job.earlier("tune-hyperparams", "best-parameters") or {},
        inputs={
            "data-fingerprint": inputs.data_fingerprint or job.earlier("validate-data", "fingerprint"),
            "features-digest": inputs.features_digest or job.earlier("materialize-features", "features-digest"),
        },
        image=inputs.image,
        engine=inputs.engine,
        roles={
            "model": inputs.model_artifact,
            "predictions": inputs.predictions_artifact,
            "golden": inputs.golden_artifact,
        },
        timeout=inputs.timeout,
        code=inputs,
    )
    with prepared(order, job) as (request, site):
        if found := job.finished(request.key, RunPipelineOutputs):
            return found
        with job.lock(f"run-pipeline {request.key}"):
            if found := job.finished(request.key, RunPipelineOutputs):
                return found
            return job.kept(_result(order, request, execute(order, request, site, job), job))


def _result(order: Order, request: RunRequest, result: RunResult, job: Job) -> Result[RunPipelineOutputs]:
    from ..pipelines.metrics import flat_metrics
    from ..pipelines.run import artifacts_of, choose, described, details, headline, not_finite

    artifacts = artifacts_of(result)
    metrics = flat_metrics(artifacts)
    for name in not_finite(artifacts):
        job.console.warning(f"The metric {name} is not a finite number, and is left out")
    chosen = {}
    for role, named in order.roles.items():
        chosen[role], number = choose(artifacts, role, named)
        if number > 1:
            job.console.warning(
                f"{number} artifacts could be the {role}, so `{role}-uri` is empty: name one with `{role}-artifact`"
            )
    model = chosen["model"]
    outputs = RunPipelineOutputs(
        **{f"{role}_uri": artifact.uri if artifact else "" for role, artifact in chosen.items()},
        metrics=metrics,
        parameters=dict(request.parameters),
        results={**{f"{t.task}.{n}": v for t in result.tasks for n, v in t.parameters.items()}, **result.outputs},
        artifacts=[described(artifact) for artifact in artifacts],
        packages=list(request.pipeline.packages().get(request.pipeline.executor_of(model.task), ())) if model else [],
        pipeline=request.pipeline.name,
        pipeline_digest=request.pipeline.digest,
        pipeline_key=request.key,
        data_fingerprint=order.inputs["data-fingerprint"],
    )
    return Result(
        outputs,
        details(request, result, metrics, model),
        reason=headline(result, metrics),
        subject={"model": model.digest} if model else {},
        key=request.key,
    )


ACTION = Action(
    "run-pipeline",
    "pipelines",
    RunPipelineInputs,
    RunPipelineOutputs,
    run,
    icon="play",
)
