"""What runs on which event, and the reason that is printed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mlops_actions.context import Context
from mlops_actions.errors import BadInput
from mlops_actions.evaluation.matrix import Legs
from mlops_actions.planning import PlanRequest, Step, environment_of, make_plan
from mlops_actions.project import Project
from mlops_actions.runtime import config

PUSH = Context(repository="o/r", branch="main", default_branch="main", event="push", run="7-1")
SECTIONS = {"deploy-model": {}}
PULL = replace(PUSH, event="pull_request", branch="change", pull_request=3)
ENVIRONMENTS = ("pull-request", "staging", "production")


def request(root: Path, context: Context = PUSH, **values: object) -> PlanRequest:
    base = PlanRequest(
        context, root, SECTIONS, environments=ENVIRONMENTS, pipeline="p.py", data=["d"], experiment="e.yaml", model="m"
    )
    return replace(base, **values)  # type: ignore[arg-type]


def running(made: object) -> set[str]:
    return {name for name, step in made.steps.items() if step.runs}  # type: ignore[attr-defined]


def test_push_to_the_default_branch_does_everything(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    plan = make_plan(request(tmp_path))
    assert running(plan) == {
        "validate-data", "build-image", "tune-hyperparams", "run-pipeline", "evaluate-model", "test-model",
        "register-model", "deploy-model",
    }  # fmt: skip
    assert plan.steps["materialize-features"].why == "no Feast repository is at features"


def test_what_is_configured_is_monitored_after_it_was_deployed(tmp_path: Path) -> None:
    both = {"deploy-model": {}, "monitor-model": {}}
    assert make_plan(request(tmp_path, sections=both)).steps["monitor-model"] == Step(
        True, "monitor-model is configured"
    )
    alone = make_plan(request(tmp_path, sections={"deploy-model": {}}))
    assert alone.steps["monitor-model"] == Step(False, "monitor-model is not configured")
    nothing_deployed = make_plan(request(tmp_path, sections=both, deploy="never"))
    assert nothing_deployed.steps["monitor-model"] == Step(False, "`deploy` is never")


def test_nothing_is_registered_without_a_pipeline_or_a_name(tmp_path: Path) -> None:
    for values, why in (({"pipeline": ""}, "nothing is trained"), ({"model": ""}, "no `model` is named")):
        plan = make_plan(request(tmp_path, **values))
        assert plan.steps["register-model"] == plan.steps["deploy-model"] == Step(False, why)


@pytest.mark.parametrize(
    ("action", "file", "missing"),
    [
        ("materialize-features", "features/feature_store.yaml", "no Feast repository is at features"),
        ("build-image", "Dockerfile", "no Dockerfile"),
    ],
)
def test_what_is_configured_or_there_runs(tmp_path: Path, action: str, file: str, missing: str) -> None:
    assert make_plan(request(tmp_path)).steps[action] == Step(False, missing)
    configured = make_plan(request(tmp_path, sections={action: {}})).steps[action]
    assert configured.runs and configured.why in ("build-image is configured", "a Feast repository is at features")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert make_plan(request(tmp_path)).steps[action].runs


def test_features_are_looked_for_where_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "feature_store.yaml").touch()
    sections = {"materialize-features": {"repository": "shop"}}
    steps = make_plan(request(tmp_path, sections=sections)).steps
    assert steps["materialize-features"] == Step(True, "a Feast repository is at shop")
    planned = make_plan(request(tmp_path, PULL, sections=sections)).steps["materialize-features"]
    assert planned.why == "a Feast repository is at shop: a pull request plans it"


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ({}, Step(True, "an Experiment is there")),
        ({"experiment": ""}, Step(False, "no Experiment is named or found")),
        ({"context": PULL}, Step(False, "pull requests use the parameters as they are")),
        ({"context": PULL, "tune": "always"}, Step(True, "`tune` is always")),
    ],
)
def test_tuning_is_for_all_but_pull_requests_unless_it_is_asked_for(
    tmp_path: Path, values: dict[str, Any], step: Step
) -> None:
    assert make_plan(request(tmp_path, **values)).steps["tune-hyperparams"] == step


def test_environment_is_what_was_asked_for_or_the_pull_requests_own() -> None:
    pull = replace(PUSH, event="pull_request", pull_request=3)
    assert environment_of(pull, "", ENVIRONMENTS) == "pull-request"
    assert environment_of(pull, "staging", ENVIRONMENTS) == "staging"
    assert environment_of(pull, "", ["staging"]) == ""
    assert environment_of(PUSH, "", ENVIRONMENTS) == ""


def test_what_an_environment_configures_is_configured(tmp_path: Path) -> None:
    values = {"environments": {"staging": {"build-image": {"context": "gpu"}}}}
    assert make_plan(request(tmp_path)).steps["build-image"].runs is False
    sections = config.sections(Project("mlops.yaml", values), "staging")
    assert make_plan(request(tmp_path, sections=sections)).steps["build-image"].why == "build-image is configured"


def test_pull_request_trains_and_registers_nothing(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, PULL, deploy="always"))
    assert running(plan) == {"validate-data", "run-pipeline", "evaluate-model", "test-model"}
    assert plan.steps["register-model"].why == "a pull request registers nothing"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"branch": "feature"}, "the branch is not main"),
        ({"branch": "HEAD", "default_branch": ""}, "no branch is checked out"),
        ({"branch": "v1", "tag": "v1"}, "a tag is not a branch"),
        ({"default_branch": "", "on_runner": True}, "no default branch is known"),
        ({"event": "issue_comment", "on_runner": True}, "anybody may cause the event issue_comment"),
        ({"event": "workflow_run", "on_runner": True}, "anybody may cause the event workflow_run"),
    ],
)
def test_what_is_not_the_default_branch_registers_nothing(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    plan = make_plan(request(tmp_path, replace(PUSH, **changed)))
    assert plan.steps["register-model"].why == why


def test_choices_win_over_what_is_found(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, tune="never", deploy="never"))
    assert not running(plan) & {"tune-hyperparams", "deploy-model"}
    assert plan.steps["tune-hyperparams"].why == "`tune` is never"
    asked = make_plan(request(tmp_path, sections={}, deploy="always"))
    assert asked.steps["deploy-model"] == Step(True, "`deploy` is always")
    assert make_plan(request(tmp_path, sections={})).steps["deploy-model"].why == "deploy-model is not configured"


def test_what_is_named_runs_and_nothing_to_run_is_bad_input(tmp_path: Path) -> None:
    pipeline = make_plan(PlanRequest(PUSH, tmp_path, {}, pipeline="p.py"))
    assert running(pipeline) == {"run-pipeline", "evaluate-model", "test-model"}
    assert pipeline.steps["validate-data"] == Step(False, "no `data` is named for validate-data")
    assert pipeline.steps["register-model"] == Step(False, "no `model` is named")
    assert pipeline.deployments == [{"name": "default", "environment": "", "alias": "champion"}]
    data = make_plan(PlanRequest(PUSH, tmp_path, {}, data=["d"]))
    assert data.steps["validate-data"] == Step(True, "data is named")
    assert data.steps["run-pipeline"] == Step(False, "no pipeline is named or found")
    with pytest.raises(BadInput, match=r"Nothing to run\. Name a pipeline with the input `pipeline`"):
        make_plan(PlanRequest(PUSH, tmp_path, {}))


def test_each_environment_of_the_matrix_is_a_job_on_its_runner(tmp_path: Path) -> None:
    matrix = TypeAdapter(Legs).validate_python(
        {
            "new": {"python": "3.12", "dependencies": "newest"},
            "same": None,
            "mac": {"runs-on": "macos-15"},
            "gpu": {"runs-on": ["self-hosted", "gpu"], "gpu": True},
            "big": {"runs-on": {"group": "large", "labels": ["linux", "x64"]}},
            "grouped": {"runs-on": {"group": "large"}},
            "image": {"image": "built"},
        }
    )
    assert make_plan(request(tmp_path, matrix=matrix)).tests == [
        {"name": "new", "runs-on": "ubuntu-latest"},
        {"name": "same", "runs-on": "ubuntu-latest"},
        {"name": "mac", "runs-on": "macos-15"},
        {"name": "gpu", "runs-on": ["self-hosted", "gpu"], "gpu": True},
        {"name": "big", "runs-on": {"group": "large", "labels": ["linux", "x64"]}},
        {"name": "grouped", "runs-on": {"group": "large"}},
        {"name": "image", "runs-on": "ubuntu-latest", "image": True},  # which gets the registry's login
    ]


@pytest.mark.parametrize(
    "values, named",
    [
        ({"runners": {"train": "gpu"}}, "`runners.train`"),
        ({"matrix": TypeAdapter(Legs).validate_python({"mac": {"runs-on": "macos-15"}})}, "the environment 'mac'"),
    ],
)
def test_one_job_refuses_a_part_that_is_to_have_another_runner(
    tmp_path: Path, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput, match=f"`jobs: one` has one runner, and {named}.*Use `jobs: many`"):
        make_plan(request(tmp_path, one=True, **values))
    make_plan(request(tmp_path, one=False, **values))


def test_one_job_leaves_deployments_and_monitoring_their_runners(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, one=True, runners={"deploy": "inside", "monitor": "inside"}))
    assert plan.runners["deploy"] == "inside"


def test_deployments_are_in_order_and_known(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, deploy_to=["staging", "production"]))
    assert [one["name"] for one in plan.deployments] == ["staging", "production"]
    with pytest.raises(BadInput, match=r"'live', which is not in .*Add it there"):
        make_plan(request(tmp_path, deploy_to=["live"]))


def test_each_environment_has_its_alias_and_an_end_is_told_beforehand(tmp_path: Path) -> None:
    given = {"deploy_to": ["staging", "production"], "aliases": {"staging": "challenger"}}
    plan = make_plan(request(tmp_path, **given, ending=lambda: "It ends with the job"))
    assert [one["alias"] for one in plan.deployments] == ["challenger", "champion"]
    assert plan.steps["deploy-model"] == Step(True, "deploy-model is configured. It ends with the job")
    never = make_plan(request(tmp_path, deploy="never", ending=lambda: "It ends with the job"))
    assert never.steps["deploy-model"] == Step(False, "`deploy` is never")


def test_without_environments_there_is_one_test_and_one_deployment(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path))
    assert plan.tests == [{"name": "training", "runs-on": "ubuntu-latest"}]
    assert plan.deployments == [{"name": "default", "environment": "", "alias": "champion"}]
    in_staging = make_plan(request(tmp_path, environment="staging"))
    assert in_staging.deployments == [{"name": "staging", "environment": "staging", "alias": "champion"}]


def test_two_runs_never_share_a_name(tmp_path: Path) -> None:
    one, other = (make_plan(request(tmp_path)).run for _ in range(2))
    assert one != other
    assert re.fullmatch(r"\d{8}-\d{6}-7-1-[0-9a-f]{6}", one)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", make_plan(request(tmp_path, replace(PUSH, run=""))).run)


def test_a_pull_request_without_keys_says_of_each_part_why_it_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "feature_store.yaml").touch()
    context = replace(PUSH, event="pull_request", branch="change", pull_request=3, fork=True)
    plan = make_plan(request(tmp_path, context, alone=True, tune="always"))
    assert running(plan) == {"validate-data", "tune-hyperparams", "run-pipeline", "evaluate-model"}
    assert plan.steps["materialize-features"].why == "no keys for the feature store"
    elsewhere = {"run-pipeline": {"engine": "kfp"}, "tune-hyperparams": {"engine": "katib"}}
    plan = make_plan(
        request(tmp_path, context, alone=True, tune="always", data=["store:a.csv"], sections={**SECTIONS, **elsewhere})
    )
    assert running(plan) == set(), "nothing to run is no mistake of the pull request's"
    assert plan.steps["validate-data"].why == "no keys for the data store:a.csv"
    assert plan.steps["run-pipeline"].why == "no keys for the engine kfp"


def test_each_job_has_the_runner_that_is_named_for_it_or_the_one_of_all(tmp_path: Path) -> None:
    own: dict[str, object] = {"train": {"group": "gpu"}, "test": "arm"}
    plan = make_plan(request(tmp_path, runs_on='["self-hosted", "small"]', runners=own))
    assert plan.runners["train"] == {"group": "gpu"}
    assert plan.runners["register"] == ["self-hosted", "small"]
    assert plan.tests[0]["runs-on"] == "arm"
    assert set(make_plan(request(tmp_path)).runners.values()) == {"ubuntu-latest"}
    matrix = TypeAdapter(Legs).validate_python({"gpu": {"runs-on": ["self-hosted", "gpu"]}})
    assert make_plan(request(tmp_path, matrix=matrix, runners=own)).tests[0]["runs-on"] == ["self-hosted", "gpu"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runs_on": '["self-hosted"'}, "`runs-on` is not JSON"),
        ({"runners": {"train": {"label": "gpu"}}}, "`runners.train` must be a label, a list of labels"),
        ({"runners": {"train": []}}, "`runners.train` must be a label"),
        ({"runners": {"trian": "gpu"}}, "`runners` names 'trian', which is not a job"),
    ],
)
def test_a_runner_that_github_would_not_take_is_refused(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        make_plan(request(tmp_path, **values))
