"""What of the chain runs, and why: decided here and nowhere else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from .context import PULL_REQUEST, Context
from .engines import engines
from .errors import BadInput, Place
from .evaluation.matrix import Leg, github_matrix

Choice = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is made from.

    Attributes:
        context: the event and the branch.
        root: the consumer's folder.
        sections: each action's section of `mlops.yaml`, as it is in the environment.
        environment: the one that applies, or ""; see `environment_of`.
        environments: all that the configuration has.
        pipeline, data, experiment: the files that were named, or "".
        tune, deploy: what the caller asks for.
        deploy_to: environments to deploy to, in order.
        aliases: that move when a version serves, by environment; `champion` where there is none.
        ending: says why what is deployed ends by itself, such as with the job; "" when it stays.
        matrix: the environments that test-model tests in.
        runs_on: the runner of every job: a label, or JSON.
        runners: of single jobs, by their names; and where they stand, if that is in a file.
        model: its name in the registry, or "".
        alone: whether the jobs have no store in common, nor any keys.
        one: whether all up to the registration is done in one job.
    """

    context: Context
    root: Path
    sections: Mapping[str, Mapping[str, Any]]
    environment: str = ""
    environments: Sequence[str] = ()
    pipeline: str = ""
    data: Sequence[str] = ()
    experiment: str = ""
    tune: Choice = "auto"
    deploy: Choice = "auto"
    deploy_to: Sequence[str] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    ending: Callable[[], str] = lambda: ""
    matrix: Mapping[str, Leg] = field(default_factory=dict)
    runs_on: str = ""
    runners: Mapping[str, Any] = field(default_factory=dict)
    runners_at: Place | None = None
    model: str = ""
    alone: bool = False
    one: bool = False


@dataclass(frozen=True)
class Step:
    """Whether a part of the chain runs, and the reason in words."""

    runs: bool
    why: str


@dataclass(frozen=True)
class Plan:
    """The parts of the chain by name, and what they share."""

    run: str
    steps: Mapping[str, Step]
    tests: Sequence[Mapping[str, Any]]
    deployments: Sequence[Mapping[str, str]]
    runners: Mapping[str, Any]


def environment_of(context: Context, asked: str, environments: Sequence[str]) -> str:
    """The section of `environments` that applies: what was asked for, else on a pull request `pull-request`, if any."""
    return asked or (PULL_REQUEST if context.pull and PULL_REQUEST in environments else "")


def make_plan(request: PlanRequest) -> Plan:
    """Decide what runs.

    A part runs when the repository has what it needs. A pull request trains and is judged; it registers and deploys
    nothing. Tuning is for everything but pull requests, unless it is asked for.

    Raises:
        BadInput: there is nothing to run, or a deployment is not known.
    """
    pull = request.context.pull
    steps = {
        "validate-data": _when(request.data, "data is named", "no `data` is named for validate-data"),
        "materialize-features": _features(request, pull),
        "build-image": _image(request),
        "run-pipeline": _pipeline(request),
        "tune-hyperparams": _tune(request, pull),
    }
    if request.alone:
        steps |= _without_keys(request, steps)
    steps["evaluate-model"] = Step(steps["run-pipeline"].runs, "after run-pipeline")
    steps["test-model"] = Step(
        steps["run-pipeline"].runs and not request.alone,
        "no keys: its job would not find the model" if request.alone else "after run-pipeline",
    )
    steps["register-model"] = _register(request, steps["run-pipeline"].runs)
    steps["deploy-model"] = _deploy(request, steps["register-model"])
    steps["monitor-model"] = _monitor(request, steps["deploy-model"])
    if not any(step.runs for step in steps.values()) and not request.alone:
        raise BadInput("Nothing to run", fix="Name a pipeline with the input `pipeline`, or run `mlops init`")
    runners = _runners(request)
    tests = [{**leg, "runs-on": leg["runs-on"] or runners["test"]} for leg in github_matrix(request.matrix)]
    if request.one:
        _refuse_other_runners(request, runners, tests)
    return Plan(_run_name(request.context), steps, tests, _deployments(request), runners)


def _when(found: object, yes: str, no: str) -> Step:
    return Step(bool(found), yes if found else no)


def _features(request: PlanRequest, pull: bool) -> Step:
    folder = request.sections.get("materialize-features", {}).get("repository", "features")
    return _when(
        "materialize-features" in request.sections or (request.root / folder / "feature_store.yaml").is_file(),
        f"a Feast repository is at {folder}" + (": a pull request plans it" if pull else ""),
        f"no Feast repository is at {folder}",
    )


def builds_image(root: Path, sections: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether build-image is a part of the chain: it is configured, or there is a Dockerfile."""
    return "build-image" in sections or (root / "Dockerfile").is_file()


def _image(request: PlanRequest) -> Step:
    yes = "build-image is configured" if "build-image" in request.sections else "there is a Dockerfile"
    return _when(builds_image(request.root, request.sections), yes, "no Dockerfile")


def _pipeline(request: PlanRequest) -> Step:
    return _when(request.pipeline, f"the pipeline is {request.pipeline}", "no pipeline is named or found")


def _without_keys(request: PlanRequest, steps: Mapping[str, Step]) -> dict[str, Step]:
    """What cannot run without the store's keys and other secrets, of what would run."""
    lacking = {}
    if remote := [one for one in request.data if one.startswith("store:") or "://" in one]:
        lacking["validate-data"] = f"no keys for the data {remote[0]}"
    lacking["materialize-features"] = "no keys for the feature store"
    for action, package in (("run-pipeline", "pipelines"), ("tune-hyperparams", "tuning")):
        known = engines(f"{__package__}.{package}.engines")
        chosen = known.get(request.sections.get(action, {}).get("engine") or "local")
        if chosen and chosen.remote:
            lacking[action] = f"no keys for the engine {chosen.name}"
    return {name: Step(False, why) for name, why in lacking.items() if steps[name].runs}


def _tune(request: PlanRequest, pull: bool) -> Step:
    if not request.experiment:
        return Step(False, "no Experiment is named or found")
    if request.tune != "auto":
        return Step(request.tune == "always", f"`tune` is {request.tune}")
    return Step(not pull, "pull requests use the parameters as they are" if pull else "an Experiment is there")


def _register(request: PlanRequest, trained: bool) -> Step:
    if not trained:
        return Step(False, "nothing is trained")
    if not request.model:
        return Step(False, "no `model` is named")
    context = request.context
    if context.pull:
        return Step(False, "a pull request registers nothing")
    if context.by_anybody:
        return Step(False, f"anybody may cause the event {context.event}")
    return _when(context.trusted, f"{context.event} on the default branch", _untrusted(context))


def _untrusted(context: Context) -> str:
    """Why what is checked out may not change what others use."""
    if context.tag:
        return "a tag is not a branch"
    if context.branch == "HEAD":
        return "no branch is checked out"
    return f"the branch is not {context.default_branch}" if context.default_branch else "no default branch is known"


def _deploy(request: PlanRequest, register: Step) -> Step:
    if not register.runs:
        return Step(False, register.why)
    asked, configured = request.deploy != "auto", "deploy-model" in request.sections
    runs = request.deploy == "always" if asked else configured
    why = f"`deploy` is {request.deploy}" if asked else f"deploy-model is {'' if configured else 'not '}configured"
    ending = request.ending() if runs else ""
    return Step(runs, f"{why}. {ending}" if ending else why)


def _monitor(request: PlanRequest, deploy: Step) -> Step:
    if not deploy.runs:
        return Step(False, deploy.why)
    return _when("monitor-model" in request.sections, "monitor-model is configured", "monitor-model is not configured")


JOBS = ("data", "image", "train", "test", "register", "deploy", "monitor")
"""Jobs of the workflow that may have a runner of their own; `plan` and `report` have what the input `runs-on` says."""


def _runners(request: PlanRequest) -> dict[str, Any]:
    """What `runs-on` of each job is: a label, a list of labels, or a mapping of `group` and `labels`."""
    unknown = next((name for name in request.runners if name not in JOBS), "")
    if unknown:
        raise BadInput(
            f"`runners` names {unknown!r}, which is not a job", fix=f"Jobs: {', '.join(JOBS)}", place=request.runners_at
        )
    for_all = _runner(request.runs_on or "ubuntu-latest", "runs-on", None)
    own = {name: _runner(value, f"runners.{name}", request.runners_at) for name, value in request.runners.items()}
    return {name: own.get(name, for_all) for name in JOBS}


MERGED = ("data", "image", "train", "test", "register")
"""Jobs of the workflow that are one with `jobs: one`."""


def _refuse_other_runners(request: PlanRequest, runners: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> None:
    """One job has one runner.

    Raises:
        BadInput: a part of it is to have another one.
    """
    own = _runner(request.runs_on or "ubuntu-latest", "runs-on", None)
    others = [f"`runners.{name}`" for name in MERGED if runners[name] != own]
    others = others or [f"the environment {leg['name']!r} of test-model" for leg in tests if leg["runs-on"] != own]
    if others:
        raise BadInput(
            f"`jobs: one` has one runner, and {others[0]} names another",
            fix="Use `jobs: many`, or the same runner for all (`runs-on`)",
            place=request.runners_at,
        )


def _runner(value: Any, name: str, place: Place | None) -> Any:
    """A value of `runs-on`, as text or already read.

    Source: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idruns-on
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadInput(f"`{name}` is not JSON: {error}", fix='For example ["self-hosted", "gpu"]') from error

    parts = value if isinstance(value, Mapping) else {"labels": value}
    labels = [one for part in parts.values() for one in (part if isinstance(part, list) else [part])]
    if not labels or set(parts) - {"group", "labels"} or not all(one and isinstance(one, str) for one in labels):
        raise BadInput(
            f"`{name}` must be a label, a list of labels, or a mapping of `group` and `labels`, not {value!r}",
            fix='For example `ubuntu-latest`, `["self-hosted", "gpu"]` or `{"group": "large"}`',
            place=place,
        )
    return value


def _deployments(request: PlanRequest) -> list[dict[str, str]]:
    """Where a version goes, in order: the name for GitHub, the configuration's section, the alias that moves then."""
    unknown = [name for name in request.deploy_to if name not in request.environments]
    if unknown:
        raise BadInput(
            f"`deploy-to` names {unknown[0]!r}, which is not in `environments` of the configuration",
            fix="Add it there, or correct `deploy-to`",
        )
    return [
        {"name": name or "default", "environment": name, "alias": request.aliases.get(name, "champion")}
        for name in request.deploy_to or [request.environment]
    ]


def _run_name(context: Context) -> str:
    """Unique, so that two runs never share records, and sorted by time."""
    parts = [f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}", context.run, secrets.token_hex(3)]
    return "-".join(part for part in parts if part)
