"""What runs on which event, and the reason that is printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlops_actions.context import Context
from mlops_actions.errors import BadInput, Place
from mlops_actions.planning import Request, environment_of, make_plan
from mlops_actions.project import Project
from mlops_actions.runtime import config

PUSH = Context(repository="o/r", branch="main", default_branch="main", event="push", run="7-1")
SECTIONS = {"deploy-model": {}}
ENVIRONMENTS = ("pull-request", "staging", "production")


def request(root: Path, context: Context = PUSH, **values: object) -> Request:
    base = Request(
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


def test_environment_is_what_was_asked_for_or_the_pull_requests_own() -> None:
    pull = replace(PUSH, event="pull_request", pull_request=3)
    assert environment_of(pull, "", ENVIRONMENTS) == "pull-request"
    assert environment_of(pull, "staging", ENVIRONMENTS) == "staging"
    assert environment_of(pull, "", ["staging"]) == ""
    assert environment_of(PUSH, "", ENVIRONMENTS) == ""


def test_files_are_looked_for_where_the_environment_says(tmp_path: Path) -> None:
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "Dockerfile").touch()
    values = {"environments": {"staging": {"build-image": {"context": "gpu"}}}}
    assert make_plan(request(tmp_path)).steps["build-image"].runs is False
    sections = config.sections(Project("mlops.yaml", values), "staging")
    assert make_plan(request(tmp_path, sections=sections)).steps["build-image"].why == "there is a Dockerfile"


def test_pull_request_trains_and_registers_nothing(tmp_path: Path) -> None:
    context = replace(PUSH, event="pull_request", branch="change", pull_request=3)
    plan = make_plan(request(tmp_path, context, deploy="always"))
    assert running(plan) == {"validate-data", "run-pipeline", "evaluate-model", "test-model"}
    assert plan.steps["register-model"].why == "a pull request registers nothing"


def test_other_branch_registers_nothing(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, replace(PUSH, branch="feature")))
    assert plan.steps["register-model"].why == "the branch is not main"


def test_choices_win_over_what_is_found(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, tune="never", deploy="never"))
    assert not running(plan) & {"tune-hyperparams", "deploy-model"}
    assert plan.steps["tune-hyperparams"].why == "`tune` is never"


def test_nothing_to_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to run"):
        make_plan(Request(PUSH, tmp_path, {}))


def test_matrix_has_all_keys_and_refuses_unknown_ones(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, test_environments={"new": {"python": 3.12}, "same": None}))
    assert plan.tests[0] == {"name": "new", "runs-on": "", "python": "3.12", "requirements": ""}
    with pytest.raises(BadInput, match="unknown key 'os'"):
        make_plan(request(tmp_path, test_environments={"new": {"os": "x"}}))


def test_deployments_are_in_order_and_known(tmp_path: Path) -> None:
    plan = make_plan(request(tmp_path, deploy_to=["staging", "production"]))
    assert [d["name"] for d in plan.deployments] == ["staging", "production"]
    with pytest.raises(BadInput, match="'live'"):
        make_plan(request(tmp_path, deploy_to=["live"]))


def test_two_runs_never_share_a_name(tmp_path: Path) -> None:
    assert make_plan(request(tmp_path)).run != make_plan(request(tmp_path)).run


@pytest.mark.parametrize("values", [1, "py3.12", ["a"], True])
def test_a_test_environment_that_is_not_a_mapping_is_bad_input(tmp_path: Path, values: object) -> None:
    at = Place("mlops.yaml", 2, 3)
    asked = replace(request(tmp_path), pipeline="pipeline.py", test_environments={"a": values}, test_environments_at=at)
    with pytest.raises(BadInput, match="The test environment 'a' must be a mapping") as caught:
        make_plan(asked)
    assert caught.value.place == at
