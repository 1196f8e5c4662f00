"""GitHub's REST API, through PyGithub: what the actions need of it."""

from __future__ import annotations

from github import Auth, Github, GithubException

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
        marker: what this comment begins with, and so must the body.
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
        marked = [comment for comment in issue.get_comments() if (comment.body or "").startswith(marker)]
        login = _login(client) if marked else ""
        ours = next((comment for comment in marked if comment.user.login == login), None)
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


def _login(client: Github) -> str:
    """Who the token is: a user, or `github-actions[bot]` or another app; "" if GitHub does not say.

    The REST API tells a token of a job or an app nothing of itself; GraphQL does.
    """
    try:
        _, found = client.requester.graphql_query("query { viewer { login } }", {})
        return str(found["data"]["viewer"]["login"])
    except (GithubException, LookupError, TypeError):
        return ""
