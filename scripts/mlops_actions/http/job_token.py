"""GitHub's OIDC token of this job: who it is, for those that trust GitHub's word.

https://docs.github.com/actions/reference/security/oidc
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BadInput
from .client import HttpClient
from .faults import HttpError
from .tokens import JOB_ADDRESS, JOB_SECRET, may_ask


def job_token(
    client: HttpClient, environ: Mapping[str, str], audience: str, *, wanted_by: str, error: type[HttpError] = HttpError
) -> str:
    """A new token, which GitHub signs for a few minutes.

    Args:
        client: to send the request with.
        environ: variables of the job.
        audience: whom the token is for; "" for the repository's owner.
        wanted_by: the input that needs it, in messages.
        error: the class of the errors.

    Raises:
        BadInput: the job may not ask for one.
        HttpError: GitHub did not give one.
    """
    if not may_ask(environ):
        raise BadInput(
            f"`{wanted_by}` needs an OIDC token of GitHub, and this job may not ask for one",
            fix="Give the job `permissions: id-token: write`; jobs of pull requests from forks never get one",
        )
    response = client.send(
        "GET",
        environ[JOB_ADDRESS],
        query={"audience": audience} if audience else {},
        headers={"Authorization": f"Bearer {environ[JOB_SECRET]}", "Accept": "application/json"},
    )
    body = response.json()
    body = body if isinstance(body, dict) else {}
    token = body.get("value")
    if not response.ok or not isinstance(token, str) or not token:
        raise error(
            "GitHub did not give an OIDC token of this job",
            why=f"HTTP {response.status}: {body.get('message') or 'there is no token in its response'}",
            fix="Check GitHub's status",
            **response.facts,
        )
    return token
