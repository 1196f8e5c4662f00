"""The one comment on a pull request, against GitHub's own description of its API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import github_api
from conftest import Run
from mlops_actions.errors import RemoteFailed
from mlops_actions.github.api import COMMENT_LIMIT, upsert_comment

THEIRS = "Me too"  # what the description's example of a comment says
pytestmark = pytest.mark.skipif(bool(github_api.missing()), reason=github_api.missing() or "-")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[github_api.GitHub]:
    comments = "/repos/{owner}/{repo}/issues/{issue_number}/comments"
    one = "/repos/{owner}/{repo}/issues/comments/{comment_id}"
    with github_api.github(
        tmp_path_factory.mktemp("github"), "/repos/{owner}/{repo}/issues/{issue_number}", comments, one
    ) as found:
        yield found


@pytest.fixture
def github(server: github_api.GitHub) -> github_api.GitHub:
    server.requests.clear()
    server.prefer, server.user = "", "octocat"
    return server


def test_comment_is_made_when_there_is_none_of_ours(github: github_api.GitHub) -> None:
    url = upsert_comment(github.url, "token", "o/r", 7, "<!-- ours -->", "<!-- ours --> text")
    assert url.startswith("https://github.com/")
    assert github_api.bodies(github, "POST") == [{"body": "<!-- ours --> text"}]


def test_comment_that_has_the_marker_is_updated(github: github_api.GitHub) -> None:
    upsert_comment(github.url, "token", "o/r", 7, THEIRS, f"{THEIRS}: newer")
    assert github_api.bodies(github, "POST") == []
    assert github_api.bodies(github, "PATCH") == [{"body": f"{THEIRS}: newer"}]


@pytest.mark.parametrize(
    ("user", "updated"), [("octocat", True), ("github-actions[bot]", False), ("release-bot", False), ("", False)]
)
def test_only_a_comment_by_the_tokens_user_is_ours(github: github_api.GitHub, user: str, updated: bool) -> None:
    github.user = user
    upsert_comment(github.url, "token", "o/r", 7, THEIRS, f"{THEIRS}: newer")
    assert len(github_api.bodies(github, "PATCH")) == updated
    assert len(github_api.bodies(github, "POST")) == (not updated)


def test_comment_over_the_limit_is_cut(github: github_api.GitHub) -> None:
    upsert_comment(github.url, "token", "o/r", 7, "<!-- ours -->", "<!-- ours -->" + "x" * 100_000)
    (sent,) = github_api.bodies(github, "POST")
    assert len(sent["body"]) == COMMENT_LIMIT and sent["body"].endswith("the rest is in the run's summary.")


def test_missing_right_is_named(github: github_api.GitHub) -> None:
    github.prefer = "code=403"
    with pytest.raises(RemoteFailed, match="pull-requests: write"):
        upsert_comment(github.url, "token", "o/r", 7, "<!-- ours -->", "<!-- ours -->")


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
    assert "The job train ended with failure" in github_api.bodies(github, "POST")[0]["body"]
    github.prefer = "code=403"
    done = mlops("report", **environ)
    assert done.returncode == 0 and "::warning::The comment on pull request 7 cannot be written" in done.stdout
    assert "ghs-secret-token" not in done.stdout.replace("::add-mask::ghs-secret-token", "")
