"""The runs of the chain in a terminal, what a pull request may change, and data that changes between two actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.context import Context
from mlops_actions.data.sources import state
from mlops_actions.inputs import Inputs, LineageInputs, Outputs
from mlops_actions.project import Project
from mlops_actions.records import Record
from mlops_actions.reports.runs import folders, read
from mlops_actions.runtime.result import Result
from mlops_actions.runtime.runs import run_of_folder
from mlops_actions.runtime.step import DryRun, Step
from workspaces import Remembering, workspace


def step(folder: Path, action: str, context: Context | None = None, run: str = "") -> Step:
    work = workspace(folder, folder / "home")
    context = context or Context()
    scope = f"pulls/{context.pull_request}/" if context.pull else ""
    return Step(action, work.console, context, replace(work, scope=scope), run, Project(), True)


def keep(one: Step, run: str, **about: Any) -> None:
    record = Record(action=one.action, run=run, started="2026-01-01T00:00:00+00:00", seconds=1.0, **about)
    one.workspace.store.put_json(f"runs/{run}/{one.action}.json", record.model_dump(mode="json"))


def test_actions_of_a_folder_belong_to_one_run_until_one_is_run_again(tmp_path: Path) -> None:
    first = run_of_folder(step(tmp_path, "run-pipeline"))
    keep(step(tmp_path, "run-pipeline"), first)
    assert run_of_folder(step(tmp_path, "evaluate-model")) == first
    keep(step(tmp_path, "evaluate-model"), first)
    second = run_of_folder(step(tmp_path, "run-pipeline"))
    assert second != first
    kept = {entry.path for entry in step(tmp_path, "report").workspace.store.list(f"runs/{second}/")}
    assert kept == set(), "neither the old result nor what came after it"


def test_a_new_run_knows_what_came_before_the_action_that_began_it(tmp_path: Path) -> None:
    run = run_of_folder(step(tmp_path, "build-image"))
    for action in ("build-image", "run-pipeline"):
        keep(step(tmp_path, action), run)
    again = run_of_folder(step(tmp_path, "run-pipeline"))
    assert [r.action for r in replace(step(tmp_path, "report"), run=again).records()] == ["build-image"]


@pytest.mark.parametrize("action", ["test-model", "register-model", "promote-model", "deploy-model", "report"])
def test_what_is_run_once_an_environment_begins_no_run(tmp_path: Path, action: str) -> None:
    run = run_of_folder(step(tmp_path, action))
    keep(step(tmp_path, action), run)
    assert run_of_folder(step(tmp_path, action)) == run


def test_an_old_no_about_data_that_has_changed_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    before = step(tmp_path, "validate-data")
    run = run_of_folder(before)
    looked = {"inputs": {"data": ["a.csv"]}, "details": {"state": state(before.workspace, ["a.csv"])}}
    keep(before, run, verdict="rejected", **looked)
    keep(step(tmp_path, "run-pipeline"), run)
    same = run_of_folder(step(tmp_path, "run-pipeline"))
    assert [r.action for r in replace(before, run=same).records()] == ["validate-data"]
    keep(step(tmp_path, "run-pipeline"), same)
    (tmp_path / "a.csv").write_text("x\n2\n")
    changed = run_of_folder(step(tmp_path, "run-pipeline"))
    assert replace(before, run=changed).records() == []


def test_lineage_names_the_data_only_while_it_is_what_was_validated(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    one = step(tmp_path, "validate-data", run="r1")
    looked = {"inputs": {"data": ["a.csv"]}, "details": {"state": state(one.workspace, ["a.csv"])}}
    keep(one, "r1", outputs={"fingerprint": "sha256:a"}, **looked)
    train = step(tmp_path, "run-pipeline", run="r1")
    assert train.lineage(LineageInputs())["data-fingerprint"] == "sha256:a"
    (tmp_path / "a.csv").write_text("x\n2\n")
    assert train.lineage(LineageInputs())["data-fingerprint"] == ""
    assert isinstance(train.console, Remembering) and "has changed" in train.console.warnings[0]


def test_work_of_a_pull_request_is_taken_by_nobody_else(tmp_path: Path) -> None:
    pull = Context(event="pull_request", pull_request=7, branch="x", default_branch="main")
    made: list[str] = []

    def once(context: Context | None) -> Result[Outputs]:
        one = step(tmp_path, "run-pipeline", context)
        return one.once("k", Outputs, lambda: Result(Outputs(), reason=str(made.append("done"))))

    assert not once(pull).reused and once(pull).reused
    assert not once(replace(pull, pull_request=8)).reused
    assert not once(None).reused, "the default branch does its own work"
    assert once(replace(pull, pull_request=9)).reused, "and a pull request takes what the default branch has done"
    assert len(made) == 3


def test_a_dry_run_says_why_each_work_would_be_done(tmp_path: Path) -> None:
    one = step(tmp_path, "evaluate-model")

    def why(*parts: object, reuse: bool = True, gone: str = "", key: str | None = None) -> str:
        dry = replace(one, dry=True, reuse=reuse)
        with pytest.raises(DryRun) as raised:
            asked = one.key(predictions=parts) if key is None else key
            dry.once(asked, Outputs, lambda: pytest.fail("a dry run does nothing"), gone=lambda _: gone)
        return "" if raised.value.result else str(raised.value)

    assert why(1) == "It has not been done before"
    one.once(one.key(predictions=[1]), Outputs, lambda: Result(Outputs()))
    assert why(1) == "", "it would be reused"
    assert why(2).startswith("Changed since ") and why(2).endswith("predictions")
    assert why(1, gone="its page is gone") == "Done before, but its page is gone"
    assert why(1, reuse=False) == "`reuse` is false"
    assert why(key="") == "It is done each time"


def test_what_an_engine_has_of_a_pull_request_is_found_by_nobody_else(tmp_path: Path) -> None:
    pull = Context(event="pull_request", pull_request=7)
    keys = [
        step(tmp_path, "run-pipeline", context).own_key("k") for context in (None, pull, replace(pull, pull_request=8))
    ]
    assert keys[0] == "k" and len(set(keys)) == 3
    assert step(tmp_path, "run-pipeline", pull).own_key("k") == keys[1], "the same job, run again, finds it"
    assert step(tmp_path, "run-pipeline", pull).own_key("") == "", "what may not be reused has no key"


@pytest.mark.parametrize(
    ("context", "trusted"),
    [
        (Context(), True),
        (Context(branch="main", default_branch="main", event="push"), True),
        (Context(branch="topic", default_branch="main", event="push"), False),
        (Context(branch="main", default_branch="main", event="pull_request", pull_request=1), False),
        (Context(branch="main", default_branch="main", event="pull_request_target", pull_request=1), False),
        (Context(branch="topic", default_branch="main", event="pull_request", pull_request=1), False),
        (Context(branch="v1", tag="v1", default_branch="main", event="push"), False),
        (Context(branch="main", default_branch="main", event="schedule"), True),
        (Context(default_branch="main", event="dispatch"), False),
        (Context(branch="topic"), True),
        (Context(branch="main", tag="main", default_branch="main", event="push"), False),
        (Context(branch="main", event="push", on_runner=True), False),
        (Context(event="push", on_runner=True), False),
        (Context(branch="main", default_branch="main", event="pull_request_review", pull_request=1), False),
        (Context(branch="HEAD"), False),
        (Context(branch="HEAD", default_branch="main"), False),
    ],
)
def test_who_may_change_what_others_use(context: Context, trusted: bool) -> None:
    assert context.trusted is trusted


_OWN, _SHARED = "s3://pulls/m", "s3://shared/m"


@pytest.mark.parametrize(
    ("section", "environment", "store", "may"),
    [
        ({"store": _OWN}, "pull-request", _OWN, True),
        ({"register-model": {"store": _OWN}}, "pull-request", _OWN, True),
        ({"test-model": {"store": _OWN}}, "pull-request", _SHARED, False),
        ({"store": _OWN}, "pull-request", _SHARED, False),  # the workflow's input won
        ({"store": _OWN}, "staging", _SHARED, False),
        ({}, "pull-request", _SHARED, False),
        (None, "", "", False),
    ],
)
def test_a_pull_request_changes_a_store_only_if_it_is_its_own(
    tmp_path: Path, section: Any, environment: str, store: str, may: bool
) -> None:
    environments = {"pull-request": section, "staging": {"store": _SHARED}}
    pull = step(tmp_path, "register-model", Context(event="pull_request", pull_request=7))
    pull = replace(pull, project=Project(values={"environments": environments}))
    assert pull.may_change(Inputs(environment=environment, store=store)) is may
    assert replace(pull, context=Context()).may_change(Inputs(environment=environment, store=store))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "It is not valid JSON"),
        (b'{"action": "evaluate-mo', "It is not valid JSON"),
        (b"\xff", "It is not valid JSON"),
        (b"[" * 100_000, "It is not valid JSON"),
        (b'{"action": "a", "started": "", "seconds": 1, "later": 1}', "`later` is unknown"),
        (b'{"action": "a", "started": "", "seconds": 1, "verdict": "blocked"}', "`verdict` must be"),
        (b'{"action": "a", "started": "", "seconds": Infinity}', "`seconds` must be"),
        (b'{"action": "a", "started": "", "seconds": NaN}', "`seconds` must be"),
    ],
)
def test_a_record_that_cannot_be_read_is_that_of_a_failure(tmp_path: Path, data: bytes, why: str) -> None:
    one = step(tmp_path, "report", run="1")
    keep(step(tmp_path, "run-pipeline"), "1")
    one.workspace.store.put("runs/1/test-model@py3.json", data)
    one.workspace.store.put("runs/1/notes.txt", b"of somebody else")
    (odd,) = (record for record in one.records() if record.verdict == "failed")
    assert len(one.records()) == 2 and (odd.action, odd.details) == ("test-model", {"variant": "py3"})
    assert odd.problem and odd.problem.what == "Cannot read the record runs/1/test-model@py3.json"
    assert why in odd.problem.why
    (run,) = read(one.workspace.store, folders(one.workspace.store))
    assert run.verdict == "failed" and run.steps["test-model (py3)"] == "failed"
