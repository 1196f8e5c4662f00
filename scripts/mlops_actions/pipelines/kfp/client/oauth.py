"""OAuth 2: a token from an OpenID Connect provider, by its discovery document and one request of its token endpoint.

No library for it: this is one form that is posted (RFC 6749, sections 4.3 and 4.4; RFC 8693, which none of those at
hand knows), with the proxies, certificates, time limits and errors of all our requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import urllib3

from ....errors import BadInput
from ....http.client import HttpClient, Response
from ....http.faults import is_url, shown
from .connection import ApiError
from .responses import message_of

if TYPE_CHECKING:
    from ....inputs import KfpInputs

_JSON = {"Accept": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
"""Header of a form that is posted."""
_SCOPES = ("openid", "email", "profile", "groups")
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"


def exchange(token: str) -> dict[str, str]:
    """The grant that exchanges an ID token for one of the issuer's (RFC 8693, section 2.1)."""
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": _ID_TOKEN,
        "requested_token_type": _ID_TOKEN,
    }


def fetch(inputs: KfpInputs, client: HttpClient, grant: Mapping[str, str]) -> tuple[str, float | None]:
    """Get a token: the ID token when there is one, which is what says who we are, else the access token.

    Args:
        inputs: the issuer (its URL's query goes into the request, such as Dex's `connector_id` or a `scope`), the
            audience and the client.
        client: to send requests with.
        grant: the parameters of the grant.

    Returns:
        The token, and how many seconds it is good for, when the response says so.

    Raises:
        ApiError: the issuer cannot be reached or refuses.
        BadInput: the issuer is not a provider.
    """
    issuer, _, extra = inputs.kfp_issuer.partition("?")
    about = _discover(issuer.rstrip("/"), client)
    form = {**grant}
    scopes = [scope for scope in _SCOPES if scope in about.get("scopes_supported", ("openid",))]
    if scopes and grant["grant_type"] != "client_credentials":
        form["scope"] = " ".join(scopes)
    if inputs.kfp_audience and "subject_token" not in grant:
        form["audience"] = inputs.kfp_audience
    form |= dict(parse_qsl(extra))
    headers, form = _client(inputs, form, about.get("token_endpoint_auth_methods_supported"))
    headers |= _JSON | FORM
    response = client.send("POST", about["token_endpoint"], body=urlencode(form), headers=headers)
    tokens = granted(response, shown(issuer), f"a token by the grant `{grant['grant_type'].rpartition(':')[2]}`")
    token = tokens.get("id_token") or tokens.get("access_token")
    if not isinstance(token, str) or not token:
        raise ApiError(f"{shown(issuer)} gave no token", why="Its response has neither `id_token` nor `access_token`")
    seconds = tokens.get("expires_in")
    return token, float(seconds) if seconds and str(seconds).isdigit() else None


def granted(response: Response, issuer: str, what: str) -> dict[str, Any]:
    """The JSON of a provider's response.

    Raises:
        ApiError: it is an error, or not JSON.
    """
    body = response.json()
    body = body if isinstance(body, dict) else {}
    if response.ok and body:
        return body
    error, description = str(body.get("error") or ""), str(body.get("error_description") or "")
    words = ": ".join(word for word in (error, description) if word) or message_of(response)[0] or "not JSON"
    raise ApiError(
        f"{issuer} did not give {what}",
        why=f"HTTP {response.status}: {words}",
        fix=_FIXES.get(error, "Check the settings of the sign-in, and the provider's log"),
        message=words,
        **response.facts,
    )


_PERSON = "Check `kfp-user` and `kfp-token`, the password"
_FIXES = {  # RFC 6749, section 5.2; Dex says access_denied for a wrong password
    "invalid_client": "Check `kfp-client-id` and `kfp-client-secret`",
    "invalid_grant": _PERSON,
    "access_denied": _PERSON,
    "unauthorized_client": "Allow this grant to the client at the provider",
    "unsupported_grant_type": "Allow this grant at the provider, or sign in in another way",
    "invalid_scope": "Name the scopes: `kfp-issuer: https://…?scope=openid`",
    "invalid_request": "What the provider wants more goes into the issuer's URL: `https://…?connector_id=…`",
}


def _discover(issuer: str, client: HttpClient) -> dict[str, Any]:
    """The provider's description. https://openid.net/specs/openid-connect-discovery-1_0.html"""
    if not is_url(issuer):
        raise BadInput(f"`kfp-issuer` is not a URL: {shown(issuer)!r}", fix="Write it as `https://…`")
    response = client.send("GET", f"{issuer}/.well-known/openid-configuration", headers=_JSON)
    about = granted(response, shown(issuer), "a description of itself (.well-known/openid-configuration)")
    endpoint = about.get("token_endpoint")
    if not isinstance(endpoint, str):
        raise BadInput(
            f"{shown(issuer)} is not an OpenID Connect provider",
            why="It has no token endpoint",
            fix="Check `kfp-issuer`",
        )
    if issuer.startswith("https:") and not endpoint.startswith("https:"):
        why = f"Its token endpoint is {shown(endpoint)}, and a secret would go there unencrypted"
        raise BadInput(f"{shown(issuer)} is not safe", why=why, fix="Set the provider's issuer URL to https")
    return about


def _client(inputs: KfpInputs, form: dict[str, str], methods: object) -> tuple[dict[str, str], dict[str, str]]:
    """The client's own identity: in the header (RFC 6749, section 2.3.1), unless the provider knows only the form."""
    name, secret = inputs.kfp_client_id, inputs.kfp_client_secret.get_secret_value()
    if not name:
        return {}, form
    if not secret:
        return {}, {**form, "client_id": name}
    if isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
        return {}, {**form, "client_id": name, "client_secret": secret}
    basic = f"{quote(name, safe='')}:{quote(secret, safe='')}"
    return {"Authorization": urllib3.make_headers(basic_auth=basic)["authorization"]}, form
