"""GitHub's API, through PyGithub: the comment on a pull request, and the check of a commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from github import Auth, Github, GithubException, RateLimitExceededException, UnknownObjectException
from github.GithubRetry import GithubRetry
from github.IssueComment import IssueComment

from ..errors import RemoteFailed
from ..reports.annotations import Annotation
from ..text import shortened

COMMENT_LIMIT = 65_536
CHECK_LIMIT = 65_535
ANNOTATIONS = 50
"""A request: https://docs.github.com/rest/checks/runs#create-a-check-run"""
_CUT = "**Cut here:** the rest is in the run's summary."
_TIMEOUT = 20  # seconds a request
_LONGEST_WAIT = 120  # seconds that a limit of GitHub's is waited for; the job has ten minutes
_STATE = re.compile(r"<!-- (good|bad) run (\d+)(?:-(\d+))? -->")


@dataclass(frozen=True)
class Comment:
    """The comment of a pull request.

    Attributes:
        marker: what it begins with and is found by.
        text: Markdown, which begins with the marker.
        good: whether the verdict is a good one: when that flips there is a new comment.
        run: the run that writes it, `<number>-<attempt>`: an older one does not write over a newer one's.
    """

    marker: str
    text: str
    good: bool
    run: str = ""

    @property
    def body(self) -> str:
        """As GitHub keeps it; what is over its limit is cut."""
        number, _, attempt = self.run.partition("-")
        run = f"{number}-{attempt}" if number.isdigit() and attempt.isdigit() else "0"
        rest = self.text.removeprefix(self.marker).lstrip("\n")
        body = f"{self.marker}\n<!-- {'good' if self.good else 'bad'} run {run} -->\n{rest}"
        return shortened(body, COMMENT_LIMIT, _CUT)


@dataclass(frozen=True)
class Check:
    """A check of a commit: its name, whether it succeeded, a title, a summary in Markdown, its page and places."""

    name: str
    conclusion: str
    title: str
    summary: str
    url: str
    annotations: Sequence[Annotation] = ()


def write_comment(
    api: str, token: str, repository: str, number: int, comment: Comment, trusted: str | bool = True
) -> str:
    """Write the one comment of a pull request that has the marker: it is updated while the verdict is the same.

    When the verdict flips, a new comment says so, and the old one is minimised. Of several that runs at the same time
    have made, the one of the newest run stays. Anybody may write the marker into a comment, so only one by the
    token's own user is taken for it.

    Args:
        api: GitHub's API address.
        token: needs `pull-requests: write`.
        repository: `owner/name`.
        number: of the pull request.
        comment: what is written.
        trusted: see `connected`.

    Returns:
        The comment's URL.

    Raises:
        RemoteFailed: GitHub refuses or cannot be reached.
    """
    with connected(
        api, token, f"Cannot write the comment on pull request {number}", "pull-requests: write", trusted
    ) as client:
        issue = client.get_repo(repository).get_issue(number)

        def ours() -> list[IssueComment]:
            marked = [one for one in issue.get_comments() if (one.body or "").startswith(comment.marker)]
            login = _login(client) if marked else ""
            return sorted((one for one in marked if one.user and one.user.login == login), key=_age)

        found = ours()
        if found and _run(found[-1].body) > _run(comment.body):
            return found[-1].html_url
        if found and _good(found[-1].body) in (None, comment.good):
            found[-1].edit(comment.body)
            url = found[-1].html_url
        else:
            url = issue.create_comment(comment.body).html_url
            found = ours()  # another run may have made one meanwhile
        for older in found[:-1]:
            _retire(older, comment.marker, same=_good(older.body) == _good(found[-1].body))
        return url


def write_check(api: str, token: str, repository: str, commit: str, check: Check, trusted: str | bool = True) -> str:
    """Make a check of a commit, with its annotations in as many requests as it takes.

    Args:
        api: GitHub's API address.
        token: needs `checks: write`.
        repository: `owner/name`.
        commit: the full hash.
        check: what is said.
        trusted: see `connected`.

    Returns:
        The check's URL.

    Raises:
        RemoteFailed: GitHub refuses or cannot be reached.
    """
    with connected(api, token, f"Cannot write the check of commit {commit[:12]}", "checks: write", trusted) as client:
        output: dict[str, Any] = {"title": check.title[:255], "summary": shortened(check.summary, CHECK_LIMIT, _CUT)}
        batches = [check.annotations[at : at + ANNOTATIONS] for at in range(0, len(check.annotations), ANNOTATIONS)]
        first, *others = [[_annotation(one) for one in batch] for batch in batches or [[]]]
        made = client.get_repo(repository).create_check_run(
            check.name, commit, details_url=check.url, status="completed", conclusion=check.conclusion,
            output={**output, "annotations": first},
        )  # fmt: skip
        for batch in others:  # GitHub adds them to those that are there
            made.edit(output={**output, "annotations": batch})
        return made.html_url


def _annotation(one: Annotation) -> dict[str, Any]:
    line = max(one.line, 1)
    return {
        "path": one.file, "start_line": line, "end_line": line, "annotation_level": one.level,
        "title": one.title[:255], "message": one.message[:60_000] or one.title,
    }  # fmt: skip


def _retire(comment: IssueComment, marker: str, *, same: bool) -> None:
    """Take an older comment away: one that says the same is deleted, one of another verdict is minimised.

    Only GraphQL minimises (https://docs.github.com/graphql/reference/mutations#minimizecomment), with the right that
    comments need, too; what it refuses is an error in a response of 200.
    """
    try:
        if same:
            comment.delete()
            return
        # where it may not (an error, or a comment that GraphQL's schema lets be null), the words have to do
        with suppress(GithubException, TypeError):
            comment.minimize("OUTDATED")
        outdated = marker.replace("<!-- ", "<!-- outdated ", 1)
        comment.edit(f"{outdated}\nOutdated: a newer comment has the report.\n{comment.body.removeprefix(marker)}")
    except UnknownObjectException:  # another run has
        pass


def _age(comment: IssueComment) -> tuple[tuple[int, int], int]:
    return _run(comment.body), comment.id


def _run(body: str) -> tuple[int, int]:
    found = _STATE.search(body[:500])
    return (int(found[2]), int(found[3] or 0)) if found else (0, 0)


def _good(body: str) -> bool | None:
    """What a comment says; None when it does not."""
    found = _STATE.search(body[:500])
    return found[1] == "good" if found else None


def _login(client: Github) -> str:
    """Who the token is: a user, or `github-actions[bot]` or another app; "" if GitHub does not say.

    The REST API tells a token of a job or an app nothing of itself; GraphQL does.
    """
    try:
        _, found = client.requester.graphql_query("query { viewer { login } }", {})
        return str(found["data"]["viewer"]["login"])
    except (GithubException, LookupError, TypeError):
        return ""


class _Retry(GithubRetry):
    """PyGithub's retries, which wait as GitHub says, but not for longer than the job lasts."""

    def increment(self, method: Any = None, url: Any = None, response: Any = None, *more: Any, **named: Any) -> Any:
        wait = response.headers.get("Retry-After", "") if response else ""
        if wait.isdigit() and int(wait) > _LONGEST_WAIT:
            message = f"GitHub asks to wait for {wait} s"
            raise RateLimitExceededException(response.status, {"message": message}, dict(response.headers))
        return super().increment(method, url, response, *more, **named)


@contextmanager
def connected(api: str, token: str, what: str, right: str, trusted: str | bool = True) -> Iterator[Github]:
    """A client whose failures are told: `what` could not be done, for which the token needs a `right`.

    `trusted` is a file of certificates, see `http.tls.trusted_file`.

    Reads and writes are sent again when GitHub has a fault (502 and the like) or limits them for a while. A comment
    that was made twice by that is one of those that say the same.
    """
    methods = ("GET", "POST", "PATCH", "DELETE")
    retry = _Retry(
        total=4, backoff_factor=1, secondary_rate_wait=60, max_rate_limit_wait=_LONGEST_WAIT,
        status_forcelist=[403, 429, 500, 502, 503, 504], allowed_methods=methods,
    )  # fmt: skip
    client = Github(
        auth=Auth.Token(token), base_url=api, timeout=_TIMEOUT, lazy=True, retry=retry, per_page=100,
        verify=trusted,
    )  # fmt: skip
    try:
        yield client
    except (GithubException, OSError) as error:
        raise RemoteFailed(what, why=_why(error), fix=_fix(error, right)) from error
    finally:
        client.close()


def _why(error: Exception) -> str:
    data = getattr(error, "data", None)
    said = data.get("message") if isinstance(data, dict) else None
    return f"{getattr(error, 'status', '')} {said}".strip() if said else str(error)


def _fix(error: Exception, right: str) -> str:
    status = getattr(error, "status", 0)
    if isinstance(error, RateLimitExceededException) or status == 429:
        return "Run this job again later"
    if status in (401, 403, 404):
        known = {401: "Give it a valid token", 404: f"See that it exists, and give the job `{right}`"}
        return known.get(status, f"Give the job `{right}`")
    return "See GitHub's status, then run this job again"
