"""Signing in to Kubeflow Pipelines without a browser: one contract, and every method by its name.

An `AuthMethod` fetches a `Credential`; `SignIn` keeps it, renews it before it expires, and fetches another when the
server refuses it. Methods that need OAuth are in `oauth`, Dex's login form is in `login_form`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import BadInput, RemoteFailed
from ....http.client import HttpClient, Response
from ....http.job_token import job_token
from ....http.tls import read_file
from ....http.tokens import JOB_SECRET, claims_of
from ....waiting import Clock
from . import login_form, oauth
from .connection import ApiError
from .responses import wants_sign_in

if TYPE_CHECKING:
    from ....inputs import KfpInputs
    from ....kubernetes.objects import Cluster

AUDIENCE = "pipelines.kubeflow.org"
"""For whom a service account's token must be, unless KFP was set up otherwise (TOKEN_REVIEW_AUDIENCE)."""

_RENEW_AT = 0.8  # of a credential's life, as the kubelet does
_PAUSE = 5.0  # seconds between attempts to renew one that is still good
_REREAD = 60.0  # seconds after which a token's file is read again


@dataclass(frozen=True)
class AuthContext:
    """What a sign-in knows and may use.

    Attributes:
        inputs: whom to sign in to, and how.
        url: of Kubeflow Pipelines, as it will be used.
        client: for requests of the sign-in's own: same proxies and certificates, no credentials.
        environ: variables, for GitHub's OIDC token.
        folder: what paths are relative to.
        hide: told every secret that it gets.
        cluster: the Kubernetes cluster, when there is one.
    """

    inputs: KfpInputs
    url: str
    client: HttpClient
    environ: Mapping[str, str]
    folder: Path
    hide: Callable[[str], None]
    cluster: Callable[[], Cluster] | None = None

    @property
    def secret(self) -> str:
        """`kfp-token`, without the end of line that a file or a pipe left at it."""
        return self.inputs.kfp_token.get_secret_value().rstrip("\r\n")


@dataclass(frozen=True)
class Credential:
    """What a request shows.

    Attributes:
        headers: to add to it.
        seconds: that it will be taken, from now on; None when that is not known.
        who: as whom it signs in, for people.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float | None = None
    who: str = ""


@dataclass(frozen=True)
class AuthMethod:
    """A method to sign in by.

    Attributes:
        fetch: gets a credential.
        needs: the inputs without which it cannot.
        fix: what to do when it is refused.
    """

    fetch: Callable[[AuthContext], Credential]
    needs: tuple[str, ...] = ()
    fix: str = ""


class SignIn:
    """A credential that is renewed in time. Several threads may use it; one fetches, the others wait for it.

    Args:
        context: what it may use.
        clock: what lifetimes are measured with.

    Raises:
        BadInput: an input that it needs is not set.
    """

    def __init__(self, context: AuthContext, clock: Clock) -> None:
        self._context, self._clock = context, clock
        self._method = _checked(context)
        self.fix = self._method.fix
        self._lock = threading.RLock()
        self._credential: Credential | None = None
        self._fetched = self._next = 0.0

    @property
    def who(self) -> str:
        """As whom it signs in, for people; "" when that is not known."""
        return self._credential.who if self._credential else self._context.inputs.kfp_user

    def headers(self) -> Mapping[str, str]:
        """The headers of the next request.

        Raises:
            RemoteFailed: cannot get a credential now.
            BadInput: nor could it later.
        """
        with self._lock:
            if self._credential is None or self._spent(1.0):
                self._fetch()
            elif self._spent(_RENEW_AT) and self._clock.now() >= self._next:
                try:
                    self._fetch()
                except RemoteFailed:  # the one we have is good for a while yet
                    self._next = self._clock.now() + _PAUSE
            assert self._credential is not None
            return self._credential.headers

    def wanted(self, response: Response) -> bool:
        """Whether a response asks for (another) sign-in."""
        return bool(wants_sign_in(response))

    def refresh(self, response: Response, refused: Mapping[str, str]) -> bool:
        """Those headers were refused: get others; whether there are any.

        Raises:
            RemoteFailed, BadInput: as for `headers`.
        """
        with self._lock:
            if self._credential is not None and self._credential.headers == refused:
                self._fetch()
            assert self._credential is not None
            return self._credential.headers != refused

    def _fetch(self) -> None:
        try:
            self._credential = self._method.fetch(self._context)
        except ApiError as error:
            error.status, error.sent = 401, False  # whatever the provider said, KFP was not asked
            raise
        self._fetched = self._clock.now()

    def _spent(self, share: float) -> bool:
        """Whether so much of the credential's life is over."""
        seconds = self._credential.seconds if self._credential else None
        return seconds is not None and self._clock.now() - self._fetched >= seconds * share


def bearer(token: str, context: AuthContext, seconds: float | None = None) -> Credential:
    """A token as a credential: `Bearer` in Authorization or a header of that kind, bare in any other.

    Args:
        token: as it was got.
        context: hides it; its inputs have the header's name, and who signs in if the token does not say it.
        seconds: that it is good for, or less if a JWT says so of itself.
    """
    context.hide(token)
    header = context.inputs.kfp_header or "Authorization"
    value = f"Bearer {token}" if header.lower().endswith("authorization") else token
    claims = claims_of(token)
    if isinstance(claims.get("exp"), int | float):
        own = claims["exp"] - claims.get("iat", time.time())  # from its own birth: the two clocks need not agree
        seconds = own if seconds is None else min(own, seconds)
    who = claims.get("email") or claims.get("preferred_username") or context.inputs.kfp_user or claims.get("sub") or ""
    return Credential({header: value}, seconds, str(who))


def _none(_: AuthContext) -> Credential:
    return Credential()


def _token(context: AuthContext) -> Credential:
    return replace(bearer(context.secret.strip(), context), seconds=None)


def _token_file(context: AuthContext) -> Credential:
    path = context.folder / context.inputs.kfp_token_file
    token = read_file(path, "the token file", "Set `kfp-token-file` to a file with nothing but the token").strip()
    if not token:
        raise BadInput(f"The token file is empty: {path}", fix="Let what writes it replace it in one step")
    return bearer(token, context, _REREAD)


def _kubernetes(context: AuthContext) -> Credential:
    """A token for a service account, by Kubernetes' TokenRequest."""
    if context.cluster is None:
        raise BadInput("`kfp-sign-in: kubernetes` needs a Kubernetes cluster", fix="Set `kubeconfig`")
    namespace, _, name = context.inputs.kfp_user.rpartition("/")
    audience = context.inputs.kfp_audience or AUDIENCE
    token = context.cluster().token(name, audience=audience, namespace=namespace or context.inputs.namespace)
    return bearer(token, context)


def _github(context: AuthContext) -> Credential:
    """GitHub's OIDC token of this job; exchanged at the issuer when one is set."""
    context.hide(context.environ.get(JOB_SECRET, ""))
    token = job_token(
        context.client, context.environ, context.inputs.kfp_audience, wanted_by="kfp-sign-in: github", error=ApiError
    )
    if not context.inputs.kfp_issuer:
        return bearer(token, context)
    context.hide(token)
    return _granted(context, oauth.exchange(token))


def _password(context: AuthContext) -> Credential:
    return _granted(
        context, {"grant_type": "password", "username": context.inputs.kfp_user, "password": context.secret}
    )


def _client_credentials(context: AuthContext) -> Credential:
    return _granted(context, {"grant_type": "client_credentials"})


def _granted(context: AuthContext, grant: Mapping[str, str]) -> Credential:
    for secret in (context.inputs.kfp_client_secret.get_secret_value(), context.secret):
        if secret:
            context.hide(secret)
    token, seconds = oauth.fetch(context.inputs, context.client, grant)
    return bearer(token, context, seconds)


def _login_form(context: AuthContext) -> Credential:
    context.hide(context.secret)
    cookies, seconds = login_form.log_in(context.client, context.url, context.inputs.kfp_user, context.secret)
    _hide_cookies(cookies, context)
    return Credential({"Cookie": cookies}, seconds, context.inputs.kfp_user)


def _cookie(context: AuthContext) -> Credential:
    cookies = context.secret.strip().removeprefix("Cookie:").strip()
    if "=" not in cookies:
        raise BadInput("`kfp-token` is not a cookie", fix="Write it as `name=value`, such as `oauth2_proxy_kubeflow=…`")
    _hide_cookies(cookies, context)
    return Credential({"Cookie": cookies}, None, context.inputs.kfp_user)


def _hide_cookies(cookies: str, context: AuthContext) -> None:
    for cookie in cookies.split("; "):
        context.hide(cookie.partition("=")[2])


def _user_header(context: AuthContext) -> Credential:
    return Credential(
        {context.inputs.kfp_header or "kubeflow-userid": context.inputs.kfp_user}, None, context.inputs.kfp_user
    )


_CLIENT = "Check `kfp-issuer`, `kfp-client-id`, `kfp-client-secret` and `kfp-audience`, and that KFP trusts the issuer"

SIGN_INS: Mapping[str, AuthMethod] = {
    "none": AuthMethod(_none),
    "token": AuthMethod(_token, ("kfp_token",), "Check `kfp-token`: it may have expired"),
    "token-file": AuthMethod(
        _token_file, ("kfp_token_file",), "Check that `kfp-token-file` is renewed before its token expires"
    ),
    "kubernetes": AuthMethod(
        _kubernetes,
        ("kfp_user",),
        "Check the service account `kfp-user`, and `kfp-audience` if KFP wants another than its own",
    ),
    "github": AuthMethod(
        _github, (), "Let KFP trust GitHub's tokens for `kfp-audience`, or set `kfp-issuer` to exchange them"
    ),
    "password": AuthMethod(_password, ("kfp_issuer", "kfp_user", "kfp_token", "kfp_client_id"), _CLIENT),
    "client-credentials": AuthMethod(
        _client_credentials, ("kfp_issuer", "kfp_client_id", "kfp_client_secret"), _CLIENT
    ),
    "login-form": AuthMethod(_login_form, ("kfp_user", "kfp_token"), "Check that `kfp-user` may use Kubeflow"),
    "cookie": AuthMethod(_cookie, ("kfp_token",), "Check `kfp-token`: the session has ended, copy a new cookie"),
    "user-header": AuthMethod(
        _user_header, ("kfp_user",), "Check `kfp-header` and `kfp-user`; from outside most set-ups drop it"
    ),
}
"""Every method by its name."""


def _checked(context: AuthContext) -> AuthMethod:
    inputs = context.inputs
    name, method = inputs.kfp_sign_in, SIGN_INS[inputs.kfp_sign_in]
    missing = " and ".join(f"`{need.replace('_', '-')}`" for need in method.needs if not getattr(inputs, need))
    if missing:
        raise BadInput(f"`kfp-sign-in: {name}` needs {missing}", fix=f"Set {missing}")
    if name == "none" and (context.secret or inputs.kfp_token_file):
        given = "kfp-token" if context.secret else "kfp-token-file"
        fix = f"Set `kfp-sign-in`, one of: {', '.join(name for name in SIGN_INS if name != 'none')}"
        raise BadInput(f"`{given}` is set, and `kfp-sign-in` does not say what it is", fix=fix)
    for given, value in (("token", context.secret), ("user", inputs.kfp_user), ("header", inputs.kfp_header)):
        if len(value.splitlines()) > 1:
            raise BadInput(f"`kfp-{given}` has several lines", fix="Give it in one line")
    return method
