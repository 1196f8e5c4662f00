"""Compile a Kubeflow pipeline, run it, explain a failure, and collect its metrics and artifacts.

The pipeline is a `.py` file with a `@dsl.pipeline`, or compiled YAML. Parameters are checked against its own types
and names before anything runs. The same file runs on one machine and on a cluster:

- `engine: local` is kfp.local with the faults that change results mended (integers in lists, conditions with quotes,
  loops over outputs); each set of `packages_to_install` is one prepared environment, so a task installs nothing. A
  task whose code, packages, arguments and inputs are known is taken from the store (`reused`).
- `engine: kfp` uploads the pipeline to Kubeflow Pipelines once (a version a commit), starts one run for one key,
  and watches it: a job that is run again finds its run. Cancelling the job terminates the run.

A failure names the task, its exception or its pod's trouble, the last lines of its own log, and the line of the
pipeline file. The model is the pipeline's Model artifact; the Dataset artifacts `predictions` (test rows with `label`
and `score`) and `golden` (features with `score`) are what evaluate-model, test-model and deploy-model work with; all
three are in the store, whichever engine made them.

Schedules are Kubeflow's recurring runs, kept as `schedules` says: they start the version that has just passed, and are
replaced when a newer one has. On a pull request it is only said what would change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..action import Action, CodeInputs, KfpInputs, LineageInputs, Lines, Outputs, Result, Values
from ..job import Job

if TYPE_CHECKING:
    from ..pipelines.engine import RunRequest, RunResult, Site
    from ..pipelines.kfp.settings import KfpSettings
    from ..pipelines.run import Order

Engine = Literal["local", "kfp"]


class RunPipelineInputs(CodeInputs, LineageInputs, KfpInputs):
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
    engine: Engine = Field(
        "local", description="Where the pipeline runs: `local` on this machine, `kfp` on Kubeflow Pipelines."
    )
    image: str = Field(
        "",
        description="Image, with its digest, for components that name none. By default, for `kfp`, the one that"
        " build-image gave in this run. The engine `local` does not run it.",
    )
    experiment: str = Field(
        "", description="KFP experiment that the run belongs to; made if missing. By default the pipeline's name."
    )
    version: str = Field(
        "", description="Name of the pipeline's version in KFP. By default the tag, or the commit's first digits."
    )
    service_account: str = Field("", description="Kubernetes service account of the run's pods.")
    pipeline_root: str = Field(
        "", description="Where KFP keeps the run's artifacts, such as `s3://bucket/kfp`. By default its own setting."
    )
    cache: bool = Field(True, description="KFP's own cache of tasks. `reuse: false` turns it off as well.")
    retries: int = Field(0, ge=0, description="How often a run that failed on KFP is retried from its failed tasks.")
    task_timeout: float = Field(0, ge=0, description="Seconds after which a task ends the run on KFP; 0 for no limit.")
    archived_logs: str = Field(
        "",
        description="Where KFP archives the logs of pods that are gone, such as `s3://mlpipeline/artifacts`. They are"
        " read when neither KFP nor Kubernetes has the log any more.",
    )
    schedules: Values = Field(
        default_factory=dict,
        description="Recurring runs of this pipeline in KFP: a name, then `cron` or `every` (seconds), and if wanted"
        " `start`, `end`, `concurrency`, `catch-up`, `enabled`, `parameters`. Those of this repository that are no"
        " longer named are deleted.",
    )
    download: Lines = Field(
        default_factory=list,
        description="Artifacts to download, as `name` or `task.name`, or `*` for all of them.",
    )
    download_to: str = Field("artifacts", description="The folder that they are downloaded to.")
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
    run_url: str = Field("", description="The run in KFP's own pages.")
    downloaded: list[str] = Field(default_factory=list, description="The files and folders that were downloaded.")
    schedules: list[dict[str, Any]] = Field(
        default_factory=list, description="Each schedule: its `name`, and what was (or would be) done and why."
    )


def run(inputs: RunPipelineInputs, job: Job) -> Result[RunPipelineOutputs]:
    """Run the pipeline, or find the same run; then download what was asked for and bring the schedules up to date."""
    from ..pipelines.run import Order, prepared

    kfp = _kfp(inputs, job)
    order = Order(
        file=job.path(inputs.pipeline).resolve(),
        name=inputs.pipeline_name,
        parameters=inputs.parameters,
        parameters_file=job.path(inputs.parameters_file) if inputs.parameters_file else None,
        tuned=inputs.tuned_parameters or job.earlier("tune-hyperparams", "best-parameters") or {},
        inputs=inputs.lineage(job),
        image=kfp.image if kfp else inputs.image,
        engine=inputs.engine,
        roles={
            "model": inputs.model_artifact,
            "predictions": inputs.predictions_artifact,
            "golden": inputs.golden_artifact,
        },
        timeout=inputs.timeout,
        code=inputs,
        kfp=kfp,
        cluster=job.cluster(inputs) if job.knows_cluster(inputs) else None,
    )
    with prepared(order, job) as (request, site):
        result = _run(order, request, site, job)
        more: dict[str, Any] = {"downloaded": _download(inputs, result.outputs, job)}
        if inputs.schedules or inputs.engine == "kfp":
            more["schedules"] = _schedules(inputs, request, site, job)
        return replace(result, outputs=result.outputs.model_copy(update=more))


def _kfp(inputs: RunPipelineInputs, job: Job) -> KfpSettings | None:
    """How runs are started on KFP; None for another engine."""
    from ..pipelines.kfp.settings import KfpSettings

    if inputs.engine != "kfp":
        return None
    context = job.context
    return KfpSettings(
        *job.kfp(inputs),
        experiment=inputs.experiment,
        version=inputs.version,
        service_account=inputs.service_account,
        pipeline_root=inputs.pipeline_root,
        cache=inputs.cache,
        image=inputs.image or job.built_image(),
        variables=job.store_variables(),
        store_secret=inputs.store_secret,
        retries=inputs.retries,
        task_timeout=inputs.task_timeout,
        archived_logs=inputs.archived_logs,
        description=context.repository and f"{context.repository} at {context.commit[:12]}",
        code_source_url=f"{context.server}/{context.repository}" if context.repository else "",
        commit=context.commit,
        tag=context.tag,
        run=job.run,
    )


def _run(order: Order, request: RunRequest, site: Site, job: Job) -> Result[RunPipelineOutputs]:
    from ..pipelines.run import execute

    if found := job.finished(request.key, RunPipelineOutputs):
        return found
    with job.lock(f"run-pipeline {request.key}"):
        if found := job.finished(request.key, RunPipelineOutputs):
            return found
        return job.kept(_result(order, request, execute(order, request, site, job), job))


def _download(inputs: RunPipelineInputs, outputs: RunPipelineOutputs, job: Job) -> list[str]:
    from ..pipelines.downloads import download, wanted
    from ..pipelines.engine import Artifact

    chosen = wanted([Artifact(**item) for item in outputs.artifacts], inputs.download) if inputs.download else []
    paths = download(chosen, job.path(inputs.download_to), job.store_options)
    for path in paths:
        job.console.say(f"Downloaded {path}")
    return [str(path) for path in paths]


def _schedules(inputs: RunPipelineInputs, request: RunRequest, site: Site, job: Job) -> list[dict[str, Any]]:
    """Bring KFP's schedules up to date, or say what differs where nothing may be changed."""
    from ..errors import BadInput, RemoteFailed
    from ..pipelines.kfp.scheduling import read, schedule

    if inputs.engine != "kfp":
        raise BadInput("`schedules` are Kubeflow's recurring runs", fix="Set `engine: kfp`, or leave them out")
    wanted = read(inputs.schedules, job.project.found("run-pipeline", "schedules", inputs.environment))
    repository, change = job.context.repository or job.root.name, job.context.trusted
    try:
        changes = schedule(request, site, wanted, repository=repository, change=change)
    except RemoteFailed as error:
        if wanted:
            raise
        job.console.warning(f"Whether there are schedules that are no longer wanted is not known: {error}")
        return []
    if changes and not change:
        job.console.say("On the default branch, the schedules would be changed so:")
    for each in changes:
        job.console.say(str(each))
    return [{"name": each.schedule, "action": each.action, "why": list(each.why)} for each in changes]


def _result(order: Order, request: RunRequest, result: RunResult, job: Job) -> Result[RunPipelineOutputs]:
    from ..pipelines.metrics import flat_metrics
    from ..pipelines.roles import choose
    from ..pipelines.run import artifacts_of, described, details, headline, not_finite

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
    uris = {role: artifact.uri if artifact else "" for role, artifact in chosen.items()}
    outputs = RunPipelineOutputs(
        model_uri=uris["model"],
        predictions_uri=uris["predictions"],
        golden_uri=uris["golden"],
        metrics=metrics,
        parameters=dict(request.parameters),
        results={**{f"{t.task}.{n}": v for t in result.tasks for n, v in t.parameters.items()}, **result.outputs},
        artifacts=[described(artifact) for artifact in artifacts],
        packages=list(request.pipeline.packages().get(request.pipeline.executor_of(model.task), ())) if model else [],
        pipeline=request.pipeline.name,
        pipeline_digest=request.pipeline.digest,
        pipeline_key=request.key,
        run_url=result.url,
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
