"""Who does what, and where from: GitHub's variables and event file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.context import Context
from mlops_actions.github.context import make_console, read_context

RUNNER = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_SHA": "merged",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_ACTOR": "ann",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
}


def read(folder: Path, event: Any, **environ: str) -> Context:
    file = folder / "event.json"
    file.write_text(event if isinstance(event, str) else json.dumps(event))
    return read_context({**RUNNER, "GITHUB_EVENT_PATH": str(file), **environ}, folder)


def test_a_push_is_of_its_branch(tmp_path: Path) -> None:
    found = read(tmp_path, {"repository": {"default_branch": "main"}})
    assert found == Context(
        repository="o/r", commit="merged", branch="main", default_branch="main", event="push", actor="ann", run="7-2",
        url="https://github.com/o/r/actions/runs/7", on_runner=True,
    )  # fmt: skip
    assert found.trusted


def test_a_tag_is_no_branch_that_is_trusted(tmp_path: Path) -> None:
    event = {"repository": {"default_branch": "main"}}
    found = read(tmp_path, event, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME="v1")
    assert (found.tag, found.trusted) == ("v1", False)


@pytest.mark.parametrize(
    ("event", "trusted"),
    [("push", True), ("schedule", True), ("workflow_dispatch", True), ("repository_dispatch", True),
     ("issue_comment", False), ("workflow_run", False), ("issues", False), ("fork", False)],
)  # fmt: skip
def test_what_anybody_may_cause_is_not_trusted(tmp_path: Path, event: str, *, trusted: bool) -> None:
    found = read(tmp_path, {"repository": {"default_branch": "main"}}, GITHUB_EVENT_NAME=event)
    assert (found.trusted, found.by_anybody) == (trusted, not trusted)


def test_a_runner_that_does_not_say_the_default_branch_changes_nothing(tmp_path: Path) -> None:
    for event in ("{}", "{", json.dumps({"repository": None})):
        assert not read(tmp_path, event).trusted
    assert not read_context(RUNNER, tmp_path).trusted


@pytest.mark.parametrize(("head", "fork"), [("o/r", False), ("ann/r", True)])
@pytest.mark.parametrize("name", ["pull_request", "pull_request_target", "pull_request_review"])
def test_a_pull_request_is_of_its_own_commit_and_never_trusted(
    tmp_path: Path, name: str, head: str, fork: bool
) -> None:
    request = {"number": 3, "head": {"sha": "own", "repo": {"full_name": head}}}
    event = {"pull_request": request, "repository": {"default_branch": "main"}}
    found = read(tmp_path, event, GITHUB_EVENT_NAME=name, GITHUB_HEAD_REF="main", GITHUB_REF_NAME="3/merge")
    assert (found.commit, found.branch, found.pull_request, found.fork) == ("own", "main", 3, fork)
    assert found.pull and not found.trusted


def test_a_pull_request_whose_repository_is_gone_was_a_forks(tmp_path: Path) -> None:
    event = {"pull_request": {"number": 3, "head": {"sha": "own", "repo": None}}, "repository": None}
    found = read(tmp_path, event, GITHUB_EVENT_NAME="pull_request")
    assert (found.commit, found.fork, found.default_branch) == ("own", True, "")


@pytest.mark.parametrize("event", ["", "[1]", "{"])
def test_an_event_that_cannot_be_read_says_nothing(tmp_path: Path, event: str) -> None:
    assert read(tmp_path, event).pull_request is None
    assert read_context(RUNNER, tmp_path).default_branch == ""


def test_another_server_of_github_is_named(tmp_path: Path) -> None:
    server = {"GITHUB_SERVER_URL": "https://git.example.org", "GITHUB_API_URL": "https://git.example.org/api/v3"}
    found = read(tmp_path, {}, **server)
    assert (found.server, found.api) == tuple(server.values())
    assert found.url == "https://git.example.org/o/r/actions/runs/7"


def test_what_the_runner_does_not_say_is_empty(tmp_path: Path) -> None:
    found = read_context({"GITHUB_ACTIONS": "true"}, tmp_path)
    assert (found.repository, found.commit, found.branch, found.event, found.actor) == ("",) * 5
    assert (found.run, found.fork) == ("-1", False)


def test_the_console_is_the_runners_unless_json_is_asked_for(tmp_path: Path, capsys: Any) -> None:
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    on_runner = make_console({**RUNNER, **files})
    on_runner.warning("w")
    on_runner.finish({"n": 1}, "text")
    assert "::warning" in capsys.readouterr().out
    assert "n<<" in (tmp_path / "output").read_text() and "text" in (tmp_path / "summary").read_text()
    for console in (make_console({**RUNNER, **files}, as_json=True), make_console({}, as_json=True)):
        console.finish({"n": 1}, "text")
        assert json.loads(capsys.readouterr().out) == {"n": 1}
    make_console({}).warning("w")
    make_console(RUNNER).finish({"n": 1}, "text")  # a runner without files is asked for nothing


@pytest.mark.parametrize(
    ("environ", "shown"), [({}, False), ({"RUNNER_DEBUG": "1"}, True), ({"MLOPS_DEBUG": "x"}, True)]
)
@pytest.mark.parametrize("runner", [{}, RUNNER])
def test_details_are_shown_where_they_are_asked_for(
    environ: dict[str, str], shown: bool, runner: dict[str, str], capsys: Any
) -> None:
    make_console({**runner, **environ}).debug("a detail")
    told = capsys.readouterr()
    assert ("a detail" in told.out + told.err) is shown


def test_a_record_keeps_what_is_known_of_the_code_and_the_event() -> None:
    context = Context(
        repository="o/r", commit="c", branch="b", tag="t", default_branch="main", event="pull_request", pull_request=3,
        actor="ann", fork=True, url="u", on_runner=True,
    )  # fmt: skip
    assert context.source() == {
        "repository": "o/r", "commit": "c", "branch": "b", "event": "pull_request", "pull_request": 3, "actor": "ann",
        "url": "u",
    }  # fmt: skip
    assert Context(commit="c").source() == {"commit": "c", "event": "terminal"}


def test_nothing_that_is_not_said_is_assumed_of_a_context() -> None:
    assert Context() == Context(
        repository="", commit="", branch="", tag="", default_branch="", event="terminal", pull_request=None, actor="",
        fork=False, run="local", url="", on_runner=False, server="https://github.com", api="https://api.github.com",
    )  # fmt: skip
