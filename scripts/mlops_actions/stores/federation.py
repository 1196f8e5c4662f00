"""Tokens of Google and Azure that are given for this job's own identity, in the place of keys.

- Google's workload identity federation: a token of another issuer is exchanged for one of Google's (RFC 8693), where
  asked for with a service account's after it (https://google.aip.dev/auth/4117). The provider is `store-role`, with
  GitHub's token; or all of it is in the file that GOOGLE_APPLICATION_CREDENTIALS names, as
  `google-github-actions/auth` and `gcloud iam workload-identity-pools create-cred-config` write it.
- Azure's federated credentials: GitHub's token is the assertion of a client (RFC 7523, section 2.2;
  https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow).

Keys of accounts, the identity of machines and pods, and Azure's token files the object store finds by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from ..errors import BadInput, RemoteFailed
from ..misfits import first_misfit
from .identity import Bearer, asked, github_token, time_of

if TYPE_CHECKING:
    from ..http.client import HttpClient

GOOGLE_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
GOOGLE_STS = "https://sts.googleapis.com/v1/token"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_IMPERSONATE = "https://www.googleapis.com/auth/iam"
_AUTHORITY = "https://login.microsoftonline.com"
_PROVIDER = re.compile(r"projects/\w[\w-]*/locations/global/workloadIdentityPools/[\w-]+/providers/[\w-]+")
_ID = re.compile(r"[\w.-]+")
_TRUST = "and that it trusts the token's issuer, audience and subject"


class _Format(BaseModel):
    type: Literal["text", "json"] = "text"
    subject_token_field_name: str = ""


class _Source(BaseModel):
    """Where the token of another issuer is: in a file, or at a URL."""

    file: str = ""
    url: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    format: _Format = _Format()


class _Impersonation(BaseModel):
    token_lifetime_seconds: int = 3600


class External(BaseModel):
    """A file of workload identity federation, as Google describes it."""

    type: Literal["external_account"] = "external_account"
    audience: str
    subject_token_type: str = _JWT
    token_url: str
    credential_source: _Source = _Source()
    service_account_impersonation_url: str = ""
    service_account_impersonation: _Impersonation = _Impersonation()


@dataclass(frozen=True)
class Federation:
    """How tokens are got.

    Attributes:
        environ: variables of this process.
        mask: told what must not be seen.
    """

    environ: Mapping[str, str] = field(repr=False)
    mask: Callable[[str], None]

    def google_file(self, path: Path) -> Bearer:
        """A token by a file of workload identity federation.

        Raises:
            BadInput: the file cannot be used.
            RemoteFailed: no token was given, or nobody responds.
        """
        failed = f"Cannot use {path}, which {GOOGLE_FILE} names"
        try:
            found = External.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            why = first_misfit(error) if isinstance(error, ValidationError) else str(error)
            raise BadInput(failed, why=why, fix="Write it again, or name another file") from None
        source = found.credential_source
        if not source.file and not source.url:
            why = "Its token comes from neither a file nor a URL"
            raise BadInput(failed, why=why, fix="Use a provider of OpenID Connect, or a key")
        return asked(
            "Google", self.environ, lambda client: self._of_google(client, found, self._subject(client, source, failed))
        )

    def google(self, provider: str, audience: str) -> Bearer:
        """A token by GitHub's word for this job.

        Args:
            provider: `projects/…/locations/global/workloadIdentityPools/…/providers/…`.
            audience: of GitHub's token; "" for the provider itself.

        Raises: as `google_file`.
        """
        if not _PROVIDER.fullmatch(provider):
            fix = "Write projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
            raise BadInput(f"`store-role` is {provider}, which is not a workload identity provider", fix=fix)
        found = External(audience=f"//iam.googleapis.com/{provider}", token_url=GOOGLE_STS)
        audience = audience or f"https:{found.audience}"
        return asked(
            "Google", self.environ, lambda client: self._of_google(client, found, self._github(client, audience))
        )

    def azure(self, tenant: str, client_id: str, audience: str) -> Bearer:
        """A token by GitHub's word for this job.

        Args:
            tenant, client_id: of the application or managed identity that has a federated credential.
            audience: of GitHub's token; "" for the usual one.

        Raises: as `google_file`.
        """
        if not (_ID.fullmatch(tenant) and _ID.fullmatch(client_id)):
            fix = "Write TENANT/CLIENT, the id of the tenant and of the client"
            raise BadInput(f"`store-role` is {tenant}/{client_id}".rstrip("/"), fix=fix)
        authority = self.environ.get("AZURE_AUTHORITY_HOST") or _AUTHORITY
        url = f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"

        def ask(client: HttpClient) -> Bearer:
            form = {
                "grant_type": "client_credentials",
                "client_id": client_id,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self._github(client, audience or "api://AzureADTokenExchange"),
                "scope": "https://storage.azure.com/.default",
            }
            fix = f"Check `store-role`: that the tenant has the client {client_id}, {_TRUST}"
            return _bearer(client.send("POST", url, fields=form, encode_multipart=False), "access_token", fix)

        return asked("Azure", self.environ, ask)

    def _github(self, client: HttpClient, audience: str) -> str:
        return github_token(client, self.environ, audience, self.mask)

    def _subject(self, client: HttpClient, source: _Source, failed: str) -> str:
        """The token of another issuer."""
        if source.url:
            response = client.send("GET", source.url, headers=source.headers)
            if not response.ok:
                raise _refused(response, "", "Check that the job may ask for its token")
            text = response.text
        else:
            try:
                text = Path(source.file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(failed, why=str(error), fix="Write the token there again") from None
        if source.format.type == "json":
            text = _named(text, source.format.subject_token_field_name)
        if not text.strip():
            raise BadInput(failed, why="There is no token where it says", fix="Correct `credential_source`")
        self.mask(text.strip())
        return text.strip()

    def _of_google(self, client: HttpClient, found: External, subject: str) -> Bearer:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": found.audience,
            "scope": _IMPERSONATE if found.service_account_impersonation_url else _SCOPE,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token": subject,
            "subject_token_type": found.subject_token_type,
        }
        fix = f"Check that there is {found.audience}, {_TRUST}"
        given = _bearer(client.send("POST", found.token_url, fields=form, encode_multipart=False), "access_token", fix)
        if not found.service_account_impersonation_url:
            return given
        self.mask(given.token)
        response = client.send(
            "POST",
            found.service_account_impersonation_url,
            headers={"Authorization": f"Bearer {given.token}"},
            json={"scope": [_SCOPE], "lifetime": f"{found.service_account_impersonation.token_lifetime_seconds}s"},
        )
        fix = f"Give {found.audience} the role `roles/iam.workloadIdentityUser` of the service account"
        return _bearer(response, "accessToken", fix)


def google_file_of(environ: Mapping[str, str]) -> Path | None:
    """The file of workload identity federation that the variables name; None if there is none."""
    path = environ.get(GOOGLE_FILE)
    try:
        text = Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError):  # the object store says so
        return None
    return Path(str(path)) if _named(text, "type") == "external_account" else None


def _bearer(response: Any, name: str, fix: str) -> Bearer:
    """The token in a response, under its name."""
    body = response.json()
    body = body if isinstance(body, dict) else {}
    token = body.get(name)
    if not response.ok or not isinstance(token, str) or not token:
        raise _refused(response, body, fix)
    try:
        until = time_of(body.get("expireTime"))
        seconds = body.get("expires_in")
        return Bearer(token, until or datetime.now(timezone.utc) + timedelta(seconds=float(seconds or 0)))
    except (TypeError, ValueError):
        raise _refused(response, {}, fix) from None


def _refused(response: Any, body: Any, fix: str) -> RemoteFailed:
    from ..http.faults import HttpError, shown

    error = body.get("error", "") if isinstance(body, dict) else ""
    said = error.get("message", "") if isinstance(error, dict) else body.get("error_description") or error
    why = str(said).split("\n")[0][:300] or f"HTTP {response.status}" + (", without a token" if response.ok else "")
    return HttpError(f"{shown(response.url)} did not give this job a token", why=why, fix=fix, **response.facts)


def _named(text: str, name: str) -> str:
    """What a JSON object has under a name, if that is text; else ""."""
    try:
        value = json.loads(text).get(name)
    except (ValueError, AttributeError):
        return ""
    return value if isinstance(value, str) else ""
