"""GitHub's REST API, through PyGithub: what the actions need of it."""

from __future__ import annotations

from collections.abc import Callable

from github import Auth, Github, GithubException
from github.IssueComment import IssueComment

from ..errors import RemoteFailed

COMMENT_LIMIT = 65_536
_TIMEOUT = 20  # seconds a request


def upsert_comment(api: str, token: str, repository: str, number: int, marker: str, body: str) -> str:
    """Write the one comment of a pull request that has the marker: the same comment is updated next time.

    Anybody may write the marker into a comment, so only one by the token's own user is taken for it.

    Args:
        api: GitHub's API address.
        token: needs `pull-requests: write`.
        repository: `owner/name`.
        number: of the pull request.
        marker: a string that only this comment contains; the body must have it.
        body: Markdown; what is over GitHub's limit is cut.

    Returns:
        The comment's URL.

    Raises:
        RemoteFailed: GitHub refuses or cannot be reached.
    """
    if len(body) > COMMENT_LIMIT:
        note = "\n\n…cut: the rest is in the run's summary."
        body = body[: COMMENT_LIMIT - len(note)] + note
    try:
        client = Github(auth=Auth.Token(token), base_url=api, timeout=_TIMEOUT, lazy=True)
        issue = client.get_repo(repository).get_issue(number)
        marked = [comment for comment in issue.get_comments() if marker in (comment.body or "")]
        ours = next(filter(_author(client), marked), None) if marked else None
        if ours:
            ours.edit(body)
            return ours.html_url
        return issue.create_comment(body).html_url
    except (GithubException, OSError) as error:
        status = getattr(error, "status", "")
        fix = "Give the job `pull-requests: write`" if status == 403 else "Check the token and GitHub's status"
        raise RemoteFailed(
            f"The comment on pull request {number} cannot be written", why=str(error), fix=fix
        ) from error


def _author(client: Github) -> Callable[[IssueComment], bool]:
    """Whether a comment is by the user of the token.

    A job's own token, and that of an app, is of no user and may not ask who it is; its comments are a bot's.
    """
    try:
        login = client.get_user().login
    except GithubException:
        return lambda comment: comment.user.type == "Bot"
    return lambda comment: comment.user.login == login
