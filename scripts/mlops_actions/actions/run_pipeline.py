"""Compile a Kubeflow pipeline, run it, explain a failure, and collect its metrics and artifacts.

The pipeline is a `.py` file with a `@dsl.pipeline`, or compiled YAML. Parameters are checked against its own types
and names before anything runs. The same file runs on one machine and on a cluster:

- `engine: local` runs tasks on this machine, in the order and with the values that KFP's backend would give them.
  Python functions are processes; each set of `packages_to_install` is one prepared environment, so a task installs
  nothing. Other components are containers, when Docker answers. Variables from secrets are taken from the environment
  of the run; what else is set for Kubernetes is left out, and said.
- `engine: kfp` uploads the pipeline to Kubeflow Pipelines once (a version a commit), starts one run for one key,
  and watches it: a job that is run again finds its run. Cancelling the job terminates the run.

A task whose code, packages, arguments and inputs are known is taken from the store (`reused`), and so is a whole run.
To these belong the files that its parameters or its code name, those of this folder that it opened the last time, and
the names in folders of it that it listed: with a changed one it runs again. Not seen is what a library's native code
opens by a name that is put together, and what another process reads: give such a file as a parameter, set
`data-fingerprint`, or use `reuse: false`. On `kfp`, a run is the same when its pipeline and parameters are.

A failure names the task, its exception or its pod's trouble, the last lines of its own log, and the line of the
pipeline file. A task that failed is exit code 1, a system that failed is 3.

The model is the pipeline's Model artifact; the Dataset artifacts `predictions` (test rows with `label` and `score`) and
`golden` (features with `score`) are what evaluate-model, test-model and deploy-model work with; all three are in the
store, whichever engine made them.

Schedules are Kubeflow's recurring runs, kept as `schedules` says: they start the version that has just passed, and are
replaced when a newer one has. On a pull request it is only said what would change; it
uploads no version of the pipeline to Kubeflow, and takes from KFP's cache what it has put there itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..engines import engines, with_engines
from ..inputs import CodeInputs, LineageInputs, Outputs
from ..runtime.action import Action
from ..runtime.config import place_of
from ..runtime.result import Result
from ..values import Lines, Mappings, Values

if TYPE_CHECKING:
    from ..pipelines.engine import PipelineEngine, RunRequest, RunResult
    from ..runtime.step import Step

_ENGINES = "mlops_actions.pipelines.engines"


class RunPipelineInputs(CodeInputs, LineageInputs):
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
        " A value in a line is read by the parameter's own type: text stays what was written."
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
    engine: str = "local"
    image: str = Field(
        "",
        description="Image, with its digest, for components that name none. By default, on a cluster, the one that"
        " build-image gave in this run. The engine `local` does not use it.",
    )
    schedules: Mappings = Field(
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
    data_fingerprint: str = Field(
        "", description="Fingerprint of the data that the run used; empty when it is not known."
    )
    features_digest: str = Field(
        "", description="Digest of the features that the run used; empty when it is not known."
    )
    run_url: str = Field("", description="The run in KFP's own pages.")
    downloaded: list[str] = Field(default_factory=list, description="The files and folders that were downloaded.")
    schedules: list[dict[str, Any]] = Field(
        default_factory=list, description="Each schedule: its `name`, and what was (or would be) done and why."
    )


def run(inputs: RunPipelineInputs, step: Step) -> Result[RunPipelineOutputs]:
    """Run the pipeline, or find the same run; then download what was asked for and bring the schedules up to date."""
    from ..pipelines.engine import Origin, PipelineContext
    from ..pipelines.files import changed
    from ..pipelines.run import headline_of_reused

    workspace = step.workspace
    context = PipelineContext(workspace, Origin(step.context, workspace.root.name, step.run))
    engine: PipelineEngine = engines(_ENGINES)[inputs.engine].make(inputs, context)
    request, key = _request(inputs, engine, step)

    def gone(found: Result[RunPipelineOutputs]) -> str:
        name = changed(found.details.get("read", {}), workspace.root, workspace.store_options)
        return f"{name}, which a task read, has changed" if name else ""

    result = step.once(key, RunPipelineOutputs, lambda: _run(engine, request, step), gone=gone)
    if result.reused:
        result = replace(result, reason=headline_of_reused(result.origin, result.details))
    more = {
        "downloaded": _download(inputs, result.outputs, step),
        "schedules": _schedules(inputs, engine, request, step),
    }
    return replace(result, outputs=result.outputs.model_copy(update=more))


def _request(inputs: RunPipelineInputs, engine: PipelineEngine, step: Step) -> tuple[RunRequest, str]:
    """The pipeline, compiled and checked, and the hash of all that decides its result."""
    from ..pipelines.compiler import compile_pipeline
    from ..pipelines.engine import RunRequest
    from ..pipelines.files import named_files
    from ..pipelines.parameters import read_parameters, resolve_parameters
    from ..pipelines.run import check_role, place_of

    workspace = step.workspace
    file = workspace.path(inputs.pipeline).resolve()
    python = workspace.environment("pipelines", inputs).python
    pipeline = compile_pipeline(
        python, workspace.child_environ(), file, inputs.pipeline_name, workspace.root, step.console.debug
    )
    place = place_of(file, workspace.root)
    in_file = read_parameters(workspace.path(inputs.parameters_file)) if inputs.parameters_file else {}
    best = inputs.tuned_parameters or step.output_of("tune-hyperparams", "best-parameters") or {}
    tuned = {name: value for name, value in best.items() if name in pipeline.parameters}
    given = {**in_file, **tuned, **inputs.parameters}
    parameters = resolve_parameters(pipeline.parameters, given, pipeline.name, place)
    roles = {
        "model": inputs.model_artifact,
        "predictions": inputs.predictions_artifact,
        "golden": inputs.golden_artifact,
    }
    for role, named in roles.items():
        check_role(pipeline, role, named, place)
    pipeline.require_parameters()
    lineage = step.lineage(inputs)
    image = inputs.image or (step.built_image() if engines(_ENGINES)[inputs.engine].remote else "")
    prepared = engine.prepare(pipeline)
    key = step.key(
        pipeline=pipeline.digest,
        parameters=parameters,
        inputs=lineage,
        files=named_files([parameters, pipeline.imports()], workspace.root),
        image=image,
        engine=inputs.engine,
        pythons={label: python.digest for label, python in prepared.pythons.items()},
        images=dict(prepared.images),
        roles=roles,
    )
    own, reuse = step.own_key(key), step.reuse
    return RunRequest(pipeline, parameters, own, prepared.pythons, lineage, inputs.timeout, reuse, roles, image), key


def _run(engine: PipelineEngine, request: RunRequest, step: Step) -> Result[RunPipelineOutputs]:
    from ..pipelines.progress import ConsoleProgress

    step.console.say(f"Running the pipeline {request.pipeline.name}")
    progress = ConsoleProgress(step.console, streaming=step.context.on_runner)
    return _result(request, engine.run(request, progress), step)


def _download(inputs: RunPipelineInputs, outputs: RunPipelineOutputs, step: Step) -> list[str]:
    from ..pipelines.downloads import download, wanted
    from ..pipelines.engine import Artifact

    chosen = wanted([Artifact(**item) for item in outputs.artifacts], inputs.download) if inputs.download else []
    paths = download(chosen, step.workspace.path(inputs.download_to), step.workspace.store_options)
    for path in paths:
        step.console.say(f"Downloaded {path}")
    return [str(path) for path in paths]


def _schedules(
    inputs: RunPipelineInputs, engine: PipelineEngine, request: RunRequest, step: Step
) -> list[dict[str, Any]]:
    """Bring the schedules up to date, or say what differs where nothing may be changed."""
    place = place_of(step.project, "run-pipeline", "schedules", inputs.environment)
    changes = engine.schedule(request, inputs.schedules, place)
    if changes and not step.context.trusted:
        step.console.say("On the default branch, the schedules would be changed so:")
    for each in changes:
        step.console.say(str(each))
    return [{"name": each.name, "action": each.action, "why": list(each.why)} for each in changes]


def _result(request: RunRequest, result: RunResult, step: Step) -> Result[RunPipelineOutputs]:
    from ..pipelines.metrics import flat_metrics, left_out
    from ..pipelines.roles import choose
    from ..pipelines.run import artifacts_of, described, details, headline

    artifacts = artifacts_of(result)
    metrics = flat_metrics(artifacts)
    for sentence in left_out(artifacts):
        step.console.warning(sentence)
    chosen = {}
    for role, named in request.roles.items():
        chosen[role], number = choose(artifacts, role, named)
        if number > 1:
            step.console.warning(
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
        data_fingerprint=request.inputs["data-fingerprint"],
        features_digest=request.inputs["features-digest"],
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
    with_engines(RunPipelineInputs, _ENGINES, "What the pipeline runs on."),
    RunPipelineOutputs,
    run,
    icon="play",
    engines=_ENGINES,
    once=True,
)
