"""What the calling workflow grants and passes, and what plan says of what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops_actions.actions.plan import ACTION, _not_given
from mlops_actions.context import Context
from mlops_actions.github.caller import Caller, read_caller
from mlops_actions.planning import Plan
from mlops_actions.planning import Step as Part
from workspaces import workspace

CALL = """
name: mlops
on: {push: {}}
permissions: {contents: read}
jobs:
  lint: {runs-on: ubuntu-latest, steps: [{run: "true"}]}
  mlops:
    uses: mlops-actions/mlops-actions/.github/workflows/mlops.yml@v1
    RIGHTS
    secrets:
      KFP_TOKEN: ${{ secrets.KFP_TOKEN }}
      AWS_ACCESS_KEY_ID: ${{ secrets.AWS_ACCESS_KEY_ID }}
"""


def environ(
    folder: Path, rights: str = "permissions: {contents: read}", text: str = CALL, **more: str
) -> dict[str, str]:
    file = folder / ".github" / "workflows" / "own.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("RIGHTS", rights))
    return {
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_WORKFLOW_REF": "o/r/.github/workflows/own.yml@refs/heads/main",
        **more,
    }


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [
        ("permissions: {contents: read}", True),
        ("permissions: {packages: read}", True),
        ("permissions: {packages: write}", False),
        ("permissions: write-all", False),
        ("permissions: read-all", True),
        ("permissions: {}", True),
        ("permissions: ${{ fromJSON(vars.RIGHTS) }}", False),  # GitHub refuses it; who cannot tell says nothing
        ("", True),  # the workflow's own
    ],
)
def test_what_the_calling_job_grants(tmp_path: Path, rights: str, lacking: bool) -> None:
    caller = read_caller(environ(tmp_path, rights))
    assert caller and caller.file == ".github/workflows/own.yml"
    assert caller.lacks("packages", "write") == lacking
    assert caller.secrets == {"KFP_TOKEN", "AWS_ACCESS_KEY_ID"}


@pytest.mark.parametrize(
    "text",
    [
        "", "- a", "jobs: 3", "{", "jobs: {a: {uses: ./.github/workflows/other.yml}}",
        "jobs: {a: {uses: ./.github/workflows/mlops.yml}, b: {uses: ./.github/workflows/mlops.yml}}",
    ],
)  # fmt: skip
def test_a_caller_that_cannot_be_told_is_none(tmp_path: Path, text: str) -> None:
    assert read_caller(environ(tmp_path, text=text)) is None


def test_off_github_and_without_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert read_caller({}) is None
    given = environ(tmp_path)
    (tmp_path / ".github/workflows/own.yml").unlink()
    assert read_caller(given) is None


def test_the_repositorys_settings_decide_where_nothing_is_asked(tmp_path: Path) -> None:
    caller = read_caller(environ(tmp_path, "", CALL.replace("permissions: {contents: read}\n", "")))
    assert caller == Caller(".github/workflows/own.yml", None, frozenset({"KFP_TOKEN", "AWS_ACCESS_KEY_ID"}))
    assert not caller.lacks("packages", "write")


PULL = Context(event="pull_request", pull_request=3, on_runner=True, run="1-1")
PUSH = Context(event="push", branch="main", default_branch="main", on_runner=True, run="1-1")


RUNS = ("build-image", "run-pipeline", "tune-hyperparams", "deploy-model")


def plan(*runs: str, **leg: object) -> Plan:
    steps = {name: Part(name in runs, "") for name in (*RUNS, "test-model", "register-model")}
    return Plan("r", steps, [{"name": "one", "runs-on": "", **leg}], [], {})


def told(
    folder: Path, context: Context, parts: dict[str, dict[str, Any]], inputs: dict[str, Any],
    planned: Plan | None = None, **more: str,
) -> str:  # fmt: skip
    place = workspace(folder, environ=environ(folder, **more))
    return "\n".join(_not_given(ACTION.inputs(**inputs), place, context, planned or plan(*RUNS), parts))


def test_each_right_that_is_missing_is_told_with_what_is_lost_for_want_of_it(tmp_path: Path) -> None:
    parts = {"build-image": {"image": "ghcr.io/o/r"}}
    said = told(tmp_path, PUSH, parts, {"store": "s3://b", "store_role": "arn:aws:iam::1:role/r"})
    assert "own.yml does not grant `packages: write`, so build-image cannot push to ghcr.io" in said
    assert "`id-token: write`, so the role of the store cannot be taken" in said and said.count("\n") == 1
    said = told(tmp_path, PULL, {}, {})
    assert "`pull-requests: write`, so the report cannot comment" in said and "`checks: write`" in said
    every = "permissions: {packages: write, pull-requests: write, checks: write, id-token: write}"
    assert told(tmp_path, PULL, parts, {"store_role": "arn:aws:iam::1:role/r"}, rights=every) == ""


def test_what_a_signature_needs_is_told_where_a_version_is_registered(tmp_path: Path) -> None:
    keyless = {"register-model": {"sign": "keyless"}}
    assert "`id-token: write`, so register-model cannot sign" in told(
        tmp_path, PUSH, keyless, {}, plan("register-model")
    )
    assert told(tmp_path, PUSH, keyless, {}) == told(tmp_path, PUSH, {}, {}, plan("register-model")) == ""
    call = CALL.replace("KFP_TOKEN", "SIGNING_KEY")
    place = workspace(tmp_path, environ=environ(tmp_path, text=call, MLOPS_EMPTY_SECRETS="SIGNING_KEY"))
    said = "\n".join(_not_given(ACTION.inputs(), place, PUSH, plan("register-model"), {}))
    assert "passes the secret SIGNING_KEY, and it is empty" in said


def test_a_secret_that_is_passed_and_empty_is_explained_where_there_is_a_use_for_it(tmp_path: Path) -> None:
    empty = {"MLOPS_EMPTY_SECRETS": " KFP_TOKEN AWS_ACCESS_KEY_ID KUBECONFIG "}
    parts = {"run-pipeline": {"engine": "kfp"}}
    said = told(tmp_path, PUSH, parts, {"store": "s3://b"}, **empty)
    assert "passes the secret KFP_TOKEN, and it is empty" in said and "`secrets: inherit`" in said
    assert "AWS_ACCESS_KEY_ID" in said and "KUBECONFIG" not in said, "which the caller does not pass"
    assert told(tmp_path, PUSH, {}, {}, **empty) == ""
    assert "AWS" not in told(tmp_path, PUSH, {}, {"store": "s3://b", "store_role": "arn:aws:iam::1:role/r"}, **empty)
    assert told(tmp_path, PUSH, parts, {"store": "s3://b"}) == ""


@pytest.mark.parametrize(
    ("planned", "used"),
    [(plan("build-image"), True), (plan("test-model", image=True), True), (plan("test-model"), False), (plan(), False)],
    ids=["an image is built", "the model is tested in an image", "the model is tested", "neither"],
)
def test_the_login_of_the_registry_is_for_images(tmp_path: Path, planned: Plan, used: bool) -> None:
    call = CALL.replace("KFP_TOKEN", "REGISTRY_PASSWORD")
    place = workspace(tmp_path, environ=environ(tmp_path, text=call, MLOPS_EMPTY_SECRETS="REGISTRY_PASSWORD"))
    said = "\n".join(_not_given(ACTION.inputs(), place, PUSH, planned, {}))
    assert ("passes the secret REGISTRY_PASSWORD, and it is empty" in said) == used


def test_a_pull_request_that_gets_no_secrets_is_told_once_and_not_by_each_of_them(tmp_path: Path) -> None:
    fork = Context(event="pull_request", pull_request=3, fork=True, on_runner=True, run="1-1")
    assert told(tmp_path, fork, {}, {"store": "s3://b"}, MLOPS_EMPTY_SECRETS="AWS_ACCESS_KEY_ID") == ""
