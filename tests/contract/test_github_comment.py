"""The one comment on a pull request, against GitHub's own description of its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import github_api
from conftest import Run
from mlops_actions.errors import RemoteFailed
from mlops_actions.github.api import (
    ANNOTATIONS,
    CHECK_LIMIT,
    COMMENT_LIMIT,
    Check,
    Comment,
    write_check,
    write_comment,
)
from mlops_actions.reports.annotations import Annotation

MARK = "<!-- ours -->"
THEIRS = "Me too"  # what the description's example of a comment says
pytestmark = pytest.mark.skipif(bool(github_api.missing()), reason=github_api.missing() or "-")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[github_api.GitHub]:
    with github_api.github(tmp_path_factory.mktemp("github"), *github_api.PUBLISHING) as found:
        yield found


@pytest.fixture
def github(server: github_api.GitHub) -> github_api.GitHub:
    for one in (server.requests, server.minimized, server.faults):
        one.clear()
    server.prefer, server.user, server.comments, server.no_minimizing = "", "octocat", [], None
    return server


def write(github: github_api.GitHub, text: str, *, good: bool = True, run: str = "1-1", api: str = "") -> str:
    return write_comment(api or github.url, "token", "o/r", 7, Comment(MARK, f"{MARK}\n{text}", good, run))


def texts(github: github_api.GitHub) -> list[str]:
    return [one["body"].splitlines()[-1] for one in github.comments or []]


def ours(github: github_api.GitHub) -> list[str]:
    return [one["body"] for one in github.comments or [] if one["body"].startswith(MARK)]


def test_the_first_run_makes_the_comment_and_the_next_ones_update_it(github: github_api.GitHub) -> None:
    first = write(github, "one")
    assert write(github, "two", run="2-1") == first
    assert texts(github) == ["two"] and github.minimized == []


def test_an_example_of_the_description_is_updated(github: github_api.GitHub) -> None:
    github.comments = None
    write_comment(github.url, "token", "o/r", 7, Comment(THEIRS, f"{THEIRS}: newer", True))
    assert github_api.bodies(github, "POST") == []
    assert github_api.bodies(github, "PATCH") == [{"body": f"{THEIRS}\n<!-- good run 0 -->\n: newer"}]


def test_a_comment_of_ours_is_found_behind_pages_of_others(github: github_api.GitHub) -> None:
    write(github, "one")
    assert github.comments is not None
    first = github.comments.pop()
    for number in range(230):
        github.write(f"talk {number}", "somebody")
    github.comments.append(first)
    write(github, "two")
    assert texts(github)[-1] == "two" and len(github.comments) == 231


def test_only_a_flip_of_the_verdict_makes_a_new_comment_and_minimises_the_old_one(github: github_api.GitHub) -> None:
    write(github, "good")
    write(github, "still good", run="2-1")
    write(github, "bad", good=False, run="3-1")
    write(github, "still bad", good=False, run="4-1")
    assert texts(github) == ["still good", "still bad"]
    old, new = github.comments or []
    assert github.minimized == [old["node_id"]]
    assert "Outdated" in old["body"] and not old["body"].startswith(MARK) and new["body"].startswith(MARK)
    write(github, "good again", run="5-1")
    assert len(github.comments or []) == 3 and github.minimized == [old["node_id"], new["node_id"]]


@pytest.mark.parametrize(
    "answer",
    [
        {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]},
        {"data": {"minimizeComment": None}},
        {"data": {"minimizeComment": {"minimizedComment": None}}},
    ],
    ids=["refused", "nothing done", "nothing said"],
)
def test_an_old_comment_that_may_not_be_minimised_says_that_it_is_outdated(
    github: github_api.GitHub, answer: dict[str, Any]
) -> None:
    github.no_minimizing = answer
    write(github, "good")
    write(github, "bad", good=False)
    assert "Outdated" in (github.comments or [])[0]["body"] and texts(github)[-1] == "bad"


def test_a_run_that_was_killed_between_the_new_comment_and_the_old_one_is_made_good(github: github_api.GitHub) -> None:
    write(github, "good")
    github.write(Comment(MARK, f"{MARK}\nbad", False, "2-1").body)  # and no further
    write(github, "bad", good=False, run="3-1")
    assert (
        len(github.minimized) == 1 and len([one for one in github.comments or [] if one["body"].startswith(MARK)]) == 1
    )


@pytest.mark.parametrize("before", [[], ["good"]])
def test_two_runs_at_once_leave_one_comment(github: github_api.GitHub, before: list[str]) -> None:
    for text in before:
        write(github, text)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda run: write(github, f"bad {run}", good=False, run=f"{run}-1"), range(2, 6)))
    assert len(ours(github)) == 1 and len(github.comments or []) == 1 + len(before)


def test_an_older_run_does_not_write_over_a_newer_ones_comment(github: github_api.GitHub) -> None:
    write(github, "newer", run="12-1")
    write(github, "older", run="9-3")
    assert texts(github) == ["newer"]
    write(github, "again", run="12-2")
    assert texts(github) == ["again"]


@pytest.mark.parametrize(
    ("user", "updated"), [("octocat", True), ("github-actions[bot]", False), ("release-bot", False), ("", False)]
)
def test_only_a_comment_by_the_tokens_user_is_ours(github: github_api.GitHub, user: str, updated: bool) -> None:
    github.write(f"{MARK}\n<!-- good run 99-1 -->\nmine", "octocat")
    github.user = user
    write(github, "newer", run="100-1")
    assert len(github_api.bodies(github, "PATCH")) == updated
    assert len(github_api.bodies(github, "POST")) == (not updated)


def test_comment_over_the_limit_is_cut(github: github_api.GitHub) -> None:
    write(github, "line\n" * 30_000)
    (sent,) = github_api.bodies(github, "POST")
    assert COMMENT_LIMIT - 10 < len(sent["body"]) <= COMMENT_LIMIT
    assert sent["body"].endswith("line\n\n**Cut here:** the rest is in the run's summary.")


def test_on_github_enterprise_server_both_apis_are_where_it_has_them(github: github_api.GitHub) -> None:
    write(github, "good", api=f"{github.url}/api/v3")
    write(github, "bad", good=False, api=f"{github.url}/api/v3")
    assert len(github.comments or []) == 2 and len(github.minimized) == 1


@pytest.mark.parametrize(
    "fault",
    [
        ("GET", 502, {}, False),
        ("POST", 503, {}, False),
        ("GET", 429, {"Retry-After": "1"}, False),
        ("POST", 403, {"Retry-After": "1"}, False),
        ("POST", 502, {}, True),
    ],
    ids=lambda fault: f"{fault[0]} {fault[1]}{' though it was done' if fault[3] else ''}",
)
def test_faults_that_pass_are_waited_for_and_leave_one_comment(
    github: github_api.GitHub, fault: tuple[str, int, dict[str, str], bool]
) -> None:
    github.faults = [fault]
    write(github, "one")
    assert texts(github) == ["one"] and github.faults == []


def test_a_limit_that_outlasts_the_job_is_told_at_once(github: github_api.GitHub) -> None:
    github.faults = [("POST", 403, {"Retry-After": "3600"}, False)]
    with pytest.raises(RemoteFailed, match="wait for 3600 s") as refused:
        write(github, "one")
    assert refused.value.fix == "Run this job again later"


@pytest.mark.parametrize(
    ("code", "fix"), [(403, "pull-requests: write"), (404, "pull-requests: write"), (401, "valid")]
)
def test_missing_right_is_named(github: github_api.GitHub, code: int, fix: str) -> None:
    github.faults = [("GET", code, {}, False)] if code == 401 else []
    github.prefer = f"code={code}" if code != 401 else ""
    with pytest.raises(RemoteFailed, match="Cannot write the comment on pull request 7") as refused:
        write(github, "one")
    assert fix in refused.value.fix


def test_a_check_sends_its_annotations_in_batches(github: github_api.GitHub) -> None:
    places = [Annotation("mlops.yaml", 0, "failure", f"gate {i}", "") for i in range(120)]
    check = Check("mlops", "failure", "t" * 300, "line\n" * 30_000, "https://github.com/o/r/actions/runs/1", places)
    write_check(github.url, "token", "o/r", "c0ffee", check)
    (made,), changed = github_api.bodies(github, "POST"), github_api.bodies(github, "PATCH")
    sent = [one["output"] for one in (made, *changed)]
    assert [len(one["annotations"]) for one in sent] == [ANNOTATIONS, ANNOTATIONS, 20]
    assert [one["title"] for output in sent for one in output["annotations"]] == [f"gate {i}" for i in range(120)]
    assert all(len(one["title"]) == 255 and 0 < len(one["summary"]) <= CHECK_LIMIT for one in sent)
    assert made["conclusion"] == "failure" and made["head_sha"] == "c0ffee"


def test_a_check_names_the_right_that_it_lacks(github: github_api.GitHub) -> None:
    github.faults = [("POST", 404, {}, False)]
    with pytest.raises(RemoteFailed, match="Cannot write the check of commit c0ffee") as refused:
        write_check(github.url, "token", "o/r", "c0ffee", Check("mlops", "success", "t", "s", ""))
    assert "checks: write" in refused.value.fix


def test_report_comments_on_a_pull_request_and_lives_without(
    github: github_api.GitHub, mlops: Run, tmp_path: Path
) -> None:
    event = {"pull_request": {"number": 7, "head": {"sha": "c0ffee", "repo": {"full_name": "o/r"}}}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    environ = {
        "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": "o/r", "INPUT_TOKEN": "ghs-secret-token",
        "INPUT_NEEDS": '{"train": {"result": "failure", "outputs": null}}',
    }  # fmt: skip
    done = mlops("report", **environ)
    assert done.returncode == 0, done.stdout
    comment, check = github_api.bodies(github, "POST")
    assert "The job train ended with failure" in comment["body"] and "<!-- bad run " in comment["body"]
    assert (check["head_sha"], check["conclusion"]) == ("c0ffee", "failure")
    github.prefer = "code=403"
    done = mlops("report", **environ)
    assert done.returncode == 0 and "::warning::Cannot write the comment on pull request 7" in done.stdout
    assert "ghs-secret-token" not in done.stdout.replace("::add-mask::ghs-secret-token", "")
