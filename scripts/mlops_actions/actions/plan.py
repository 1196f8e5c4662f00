"""Decide what of the chain runs, and print the reasons.

The reusable workflow `mlops.yml` begins with it. A part of the chain runs when the repository has what it needs; a
pull request trains and is judged but registers and deploys nothing, and takes the section `pull-request` of
`environments` when the configuration has one, which is the place for small parameters.

GitHub gives no secrets to a pull request from a fork, nor to Dependabot's. Without keys for the store its jobs work
with a store of their own machine each, and the plan says what can run so: checks of data that are in the repository,
an image that is not pushed, training and evaluation with `engine: local`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, TypeAdapter

from ..inputs import ModelInputs, Outputs
from ..planning import Choice
from ..runtime.action import Action
from ..runtime.config import lacks_store, place_of, sections
from ..runtime.result import Result
from ..values import Lines, Mappings, parse_lines

if TYPE_CHECKING:
    from ..context import Context
    from ..planning import Plan
    from ..project import Project
    from ..runtime.step import Step
    from ..workspace import Workspace


class ChainInputs(ModelInputs):
    """What decides which parts of the chain run."""

    pipeline: str = Field(
        "", description="The pipeline file. By default `pipeline.py`, if it is there.", examples=["pipeline.py"]
    )
    data: Lines = Field(default=[], description="The data that validate-data checks.")
    experiment: str = Field("", description="The Katib Experiment. By default `experiment.yaml`, if it is there.")
    tune: Choice = Field("auto", description="Whether to tune. `auto`: when there is an Experiment, off pull requests.")
    deploy: Choice = Field("auto", description="Whether to deploy. `auto`: when `deploy-model` is configured.")
    deploy_to: Lines = Field(
        default=[], description="Environments of the configuration to deploy to, one after the other."
    )


class PlanInputs(ChainInputs):
    """What `plan` takes."""

    jobs: Literal["many", "one"] = Field(
        "many",
        description="`one`: all up to the registration in one job, which is billed and set up once. `many`: a job a"
        " part, with runners and secrets of their own.",
    )
    runs_on: str = Field(
        "ubuntu-latest",
        description="The runner of the jobs: a label, or as JSON a list of labels or `{group, labels}`.",
    )
    runners: Mappings = Field(
        default={},
        description="Runners of single jobs (`data`, `image`, `train`, `test`, `register`, `deploy`, `monitor`):"
        " a label, a list of labels, or `group` and `labels`.",
    )


class PlanOutputs(Outputs):
    """What `plan` gives."""

    run: str = Field(description="Name of this run of the chain, for the input `run` of the other actions.")
    environment: str = Field(description="Section of the configuration that the jobs apply.")
    validate_data: bool = Field(description="Whether validate-data runs.")
    materialize_features: bool = Field(description="Whether materialize-features runs.")
    build_image: bool = Field(description="Whether build-image runs.")
    tune_hyperparams: bool = Field(description="Whether tune-hyperparams runs.")
    run_pipeline: bool = Field(description="Whether run-pipeline and evaluate-model run.")
    test_model: bool = Field(description="Whether test-model runs.")
    register_model: bool = Field(description="Whether register-model runs.")
    deploy_model: bool = Field(description="Whether deploy-model runs.")
    monitor_model: bool = Field(description="Whether monitor-model runs.")
    test_matrix: dict[str, Any] = Field(
        description="Matrix of test-model's job: the name and the runner of each environment."
    )
    deploy_matrix: dict[str, Any] = Field(description="Matrix of the deployments.")
    runners: dict[str, Any] = Field(description="The value of `runs-on` of each job.")
    locks: list[str] = Field(description="The locks of the environments that what runs needs up to the registration.")


def run(inputs: PlanInputs, step: Step) -> Result[PlanOutputs]:
    """Decide, and say why."""
    from ..errors import BadInput
    from ..evaluation.matrix import Legs
    from ..planning import PlanRequest, environment_of, make_plan
    from ..runtime import chain

    alone = lacks_store(step.context, inputs.store, step.workspace.environ)
    if not alone and not inputs.store and step.workspace.environ.get("RUNNER_ENVIRONMENT") == "github-hosted":
        raise BadInput(
            "No `store` is given, and the jobs of this chain run on machines that share nothing else",
            fix="Give the workflow `store: s3://bucket/prefix`, with the keys as secrets, or set `store` in mlops.yaml",
        )

    environment = environment_of(step.context, inputs.environment, step.project.environments())
    parts = sections(step.project, environment)

    def named(action: str, name: str, default: str) -> str:
        value = parts.get(action, {}).get(name)
        return str(value) if value else default if step.workspace.path(default).is_file() else ""

    there = [name for name in inputs.deploy_to or [environment] if not name or name in step.project.environments()]
    deployed = {name: sections(step.project, name).get("deploy-model", {}) for name in there}
    aliases = {name: str(values["alias"] or "") for name, values in deployed.items() if "alias" in values}
    plan = make_plan(
        PlanRequest(
            context=step.context,
            root=step.workspace.root,
            sections=parts,
            environment=environment,
            environments=step.project.environments(),
            pipeline=inputs.pipeline or named("run-pipeline", "pipeline", "pipeline.py"),
            data=inputs.data or cast(list[str], parse_lines(parts.get("validate-data", {}).get("data") or [])),
            experiment=inputs.experiment or named("tune-hyperparams", "experiment", "experiment.yaml"),
            tune=inputs.tune,
            deploy=inputs.deploy,
            deploy_to=inputs.deploy_to,
            aliases=aliases,
            ending=lambda: next(filter(None, (_ending(step, name) for name in there)), ""),
            matrix=TypeAdapter(Legs).validate_python(parts.get("test-model", {}).get("matrix") or {}),
            runs_on=inputs.runs_on,
            runners=inputs.runners,
            runners_at=place_of(step.project, "plan", "runners", environment),
            model=inputs.model,
            alone=alone,
            one=inputs.jobs == "one",
        )
    )
    if plan.steps["deploy-model"].runs:
        for name in there:
            _refuse_lost_policy(step.project, name)
    if alone:
        step.console.notice(
            "GitHub gives no secrets to this pull request, so the store cannot be used: what needs only the repository"
            " runs, each job for itself"
        )
    for text in _not_given(inputs, step.workspace, step.context, plan, parts):
        step.console.warning(text)
    rows = [("runs" if part.runs else "-", name, part.why) for name, part in plan.steps.items()]
    step.console.table(["", "action", "because"], rows)
    runs = {name.replace("-", "_"): part.runs for name, part in plan.steps.items()}
    outputs = PlanOutputs(
        run=inputs.run or plan.run,
        environment=environment,
        test_matrix={"include": plan.tests},
        deploy_matrix={"include": plan.deployments},
        runners=dict(plan.runners),
        locks=sorted({chain.load(name).group for name in plan.steps if plan.steps[name].runs and name not in _LATER}),
        **{name: value for name, value in runs.items() if name in PlanOutputs.model_fields},
    )
    chosen = [name for name, part in plan.steps.items() if part.runs]
    details = {"steps": [{"name": name, "runs": part.runs, "why": part.why} for name, part in plan.steps.items()]}
    return Result(outputs, details, reason=f"{len(chosen)} of {len(plan.steps)} actions run")


_LATER = ("deploy-model", "monitor-model")
"""What is a job of its own also with `jobs: one`."""
_SECRETS = "MLOPS_EMPTY_SECRETS"
"""Names a variable with the secrets that came through empty, by their names."""


def _not_given(
    inputs: PlanInputs, workspace: Workspace, context: Context, plan: Plan, parts: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:  # fmt: skip
    """What the caller of the workflow does not give, and what will fail for want of it."""
    from ..github.caller import read_caller

    caller = read_caller(workspace.environ)
    if caller is None or context.outside:
        return
    image = str(parts.get("build-image", {}).get("image", ""))
    wanted = [
        (
            plan.steps["build-image"].runs and image.startswith("ghcr.io/"),
            "packages",
            "build-image cannot push to ghcr.io",
        ),
        (context.pull, "pull-requests", "the report cannot comment on the pull request"),
        (context.pull, "checks", "the report cannot show a check with its annotations"),
        (bool(inputs.store_role), "id-token", "the role of the store cannot be taken"),
        (
            plan.steps["register-model"].runs and parts.get("register-model", {}).get("sign") == "keyless",
            "id-token",
            "register-model cannot sign",
        ),
    ]
    for needed, scope, lost in wanted:
        if needed and caller.lacks(scope, "write"):
            fix = "add it to `permissions` of the job that calls mlops.yml"
            yield f"{caller.file} does not grant `{scope}: write`, so {lost}: {fix}"
    empty = caller.secrets & set(workspace.environ.get(_SECRETS, "").split())
    for name in sorted(empty & set(_used(inputs, plan, parts))):
        yield (
            f"{caller.file} passes the secret {name}, and it is empty: there is none of that name, or it belongs to a"
            " GitHub environment, which the calling job does not use. Keep it among the repository's secrets, or pass"
            " `secrets: inherit`"
        )


def _used(inputs: PlanInputs, plan: Plan, parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The secrets that what runs has a use for."""
    from ..engines import engines
    from ..inputs import is_secret
    from ..runtime import chain

    if inputs.store.startswith("s3://") and not inputs.store_role:
        yield from ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    in_an_image = plan.steps["test-model"].runs and any(leg.get("image") for leg in plan.tests)
    if plan.steps["build-image"].runs or in_an_image:
        yield from ("REGISTRY_USERNAME", "REGISTRY_PASSWORD")
    if plan.steps["register-model"].runs:
        yield "SIGNING_KEY"
    for name in ("tune-hyperparams", "run-pipeline", "deploy-model"):
        engine = engines(chain.load(name).engines).get(parts.get(name, {}).get("engine") or "local")
        if plan.steps[name].runs and engine:
            yield from (
                field.upper() for field, info in engine.inputs.model_fields.items() if is_secret(info.annotation)
            )


def _ending(step: Step, environment: str) -> str:
    """Why what deploy-model starts in an environment ends by itself; "" when it stays, or cannot be told from here."""
    from ..engines import engines
    from ..errors import MlopsError
    from ..runtime import chain, config

    action = chain.load("deploy-model")
    try:
        inputs = config.resolve(action, {}, step.workspace.environ, step.project, environment).inputs
        return str(engines(action.engines)[inputs.engine].make(inputs, step.workspace).lasting)
    except (MlopsError, OSError):
        return ""  # the deployment itself says so; keys and kubeconfig are of its job


def _refuse_lost_policy(project: Project, environment: str) -> None:
    """A policy of promote-model must not be passed over because deploy-model moves the alias.

    Raises:
        BadInput: there is one that deploy-model has not.
    """
    from ..errors import BadInput

    parts = sections(project, environment)
    for name in ("requires", "policy"):
        if name in parts.get("promote-model", {}) and name not in parts.get("deploy-model", {}):
            raise BadInput(
                f"`{name}` of promote-model has no effect here",
                why="deploy-model moves the alias, when the version has proved itself",
                fix=f"Move `{name}` to the section `deploy-model`",
                place=place_of(project, "promote-model", name, environment),
            )


ACTION = Action("plan", "core", PlanInputs, PlanOutputs, run, icon="list")
