"""Signing in to Kubeflow Pipelines without a browser: one contract, and every way to do it by its name.

A way is a function that fetches a `Credential`; `SignIn` keeps it, renews it before it expires, and fetches another
when the server refuses it. Ways that need OAuth are in `oauth`, Dex's login form is in `login_form`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput, RemoteFailed
from ...tokens import claims_of
from ...waiting import Clock
from . import login_form, oauth
from .connection import ApiError, Connection, Host

if TYPE_CHECKING:
    from ...kubernetes.objects import Cluster

AUDIENCE = "pipelines.kubeflow.org"
"""For whom a service account's token must be, unless KFP was set up otherwise (TOKEN_REVIEW_AUDIENCE)."""

_RENEW_AT = 0.8  # of a credential's life, as the kubelet does
_PAUSE = 5.0  # seconds between attempts to renew one that is still good
_REREAD = 60.0  # seconds after which a token's file is read again


@dataclass(frozen=True)
class Tools:
    """What a sign-in knows and may use.

    Attributes:
        host: whom to sign in to, and how.
        url: of the host, as it will be used.
        connection: for its own requests: same proxies and certificates.
        hide: told every secret that it gets.
        cluster: the Kubernetes cluster, when there is one.
    """

    host: Host
    url: str
    connection: Connection
    hide: Callable[[str], None]
    cluster: Callable[[], Cluster] | None = None


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
class Way:
    """A way to sign in.

    Attributes:
        fetch: gets a credential.
        needs: the fields of `Host` without which it cannot.
        fix: what to do when it is refused.
    """

    fetch: Callable[[Tools], Credential]
    needs: tuple[str, ...] = ()
    fix: str = ""


class SignIn:
    """A credential that is renewed in time. Several threads may use it; one fetches, the others wait for it.

    Args:
        tools: what it may use.
        clock: what lifetimes are measured with.

    Raises:
        BadInput: there is no such way, or a setting that it needs is not given.
    """

    def __init__(self, tools: Tools, clock: Clock) -> None:
        self._tools, self._clock = tools, clock
        self._way = _way_of(tools.host)
        self.fix = self._way.fix
        self._lock = threading.RLock()
        self._credential: Credential | None = None
        self._fetched = self._next = 0.0

    @property
    def who(self) -> str:
        """As whom it signs in, for people; "" when that is not known."""
        return self._credential.who if self._credential else self._tools.host.user

    def headers(self) -> Mapping[str, str]:
        """The headers of the next request.

        Raises:
            RemoteFailed: no credential can be had now.
            BadInput: nor could one be had later.
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

    def refresh(self, refused: Mapping[str, str]) -> bool:
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
            self._credential = self._way.fetch(self._tools)
        except ApiError as error:
            error.status, error.sent = 401, False  # whatever the provider said, KFP was not asked
            raise
        self._fetched = self._clock.now()

    def _spent(self, share: float) -> bool:
        """Whether so much of the credential's life is over."""
        seconds = self._credential.seconds if self._credential else None
        return seconds is not None and self._clock.now() - self._fetched >= seconds * share


def bearer(token: str, tools: Tools, seconds: float | None = None) -> Credential:
    """A token as a credential: `Bearer` in Authorization or a header of that kind, bare in any other.

    Args:
        token: as it was got.
        tools: hides it; its host has the header's name, and who signs in if the token does not say it.
        seconds: that it is good for, or less if a JWT says so of itself.
    """
    tools.hide(token)
    host = tools.host
    header = host.header or "Authorization"
    value = f"Bearer {token}" if header.lower().endswith("authorization") else token
    claims = claims_of(token)
    if isinstance(claims.get("exp"), int | float):
        own = claims["exp"] - claims.get("iat", time.time())  # from its own birth: the two clocks need not agree
        seconds = own if seconds is None else min(own, seconds)
    who = claims.get("email") or claims.get("preferred_username") or host.user or claims.get("sub") or ""
    return Credential({header: value}, seconds, str(who))


def _none(_: Tools) -> Credential:
    return Credential()


def _token(tools: Tools) -> Credential:
    return replace(bearer(tools.host.secret.strip(), tools), seconds=None)


def _token_file(tools: Tools) -> Credential:
    try:
        token = Path(tools.host.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "") or "It is no text"
        fix = "Set `kfp-token-file` to a file with nothing but the token"
        raise BadInput(f"The token file {tools.host.token_file} cannot be read", why=why, fix=fix) from None
    if not token:
        raise BadInput(
            f"The token file {tools.host.token_file} is empty", fix="Let what writes it replace it in one step"
        )
    return bearer(token, tools, _REREAD)


def _kubernetes(tools: Tools) -> Credential:
    """A token for a service account, by Kubernetes' TokenRequest."""
    if tools.cluster is None:
        raise BadInput("`kfp-sign-in: kubernetes` needs a Kubernetes cluster", fix="Set `kubeconfig`")
    namespace, _, name = tools.host.user.rpartition("/")
    audience = tools.host.audience or AUDIENCE
    token = tools.cluster().token(name, audience=audience, namespace=namespace or tools.host.namespace)
    return bearer(token, tools)


def _github(tools: Tools) -> Credential:
    """GitHub's OIDC token of this job; exchanged at the issuer when one is set.

    https://docs.github.com/actions/reference/security/oidc
    """
    address = tools.host.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    secret = tools.host.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not address or not secret:
        raise BadInput(
            "`kfp-sign-in: github` needs an OIDC token of GitHub, and this job may not ask for one",
            fix="Give the job `permissions: id-token: write`; jobs of pull requests from forks never get one",
        )
    tools.hide(secret)
    answer = tools.connection.send(
        "GET",
        address,
        params={"audience": tools.host.audience} if tools.host.audience else {},
        headers={"Authorization": f"Bearer {secret}", "Accept": "application/json"},
    )
    token = oauth.answered(answer, "GitHub", "an OIDC token of this job").get("value")
    if not isinstance(token, str) or not token:
        raise ApiError("GitHub gave no OIDC token", why="Its answer has no `value`", fix="Check GitHub's status")
    if not tools.host.issuer:
        return bearer(token, tools)
    tools.hide(token)
    return _granted(tools, oauth.exchange(token))


def _password(tools: Tools) -> Credential:
    return _granted(tools, {"grant_type": "password", "username": tools.host.user, "password": tools.host.secret})


def _client_credentials(tools: Tools) -> Credential:
    return _granted(tools, {"grant_type": "client_credentials"})


def _granted(tools: Tools, grant: Mapping[str, str]) -> Credential:
    for secret in (tools.host.client_secret, tools.host.secret):
        if secret:
            tools.hide(secret)
    token, seconds = oauth.fetch(tools.host, tools.connection, grant)
    return bearer(token, tools, seconds)


def _login_form(tools: Tools) -> Credential:
    tools.hide(tools.host.secret)
    cookies, seconds = login_form.log_in(tools.host, tools.url)
    _hide_cookies(cookies, tools)
    return Credential({"Cookie": cookies}, seconds, tools.host.user)


def _cookie(tools: Tools) -> Credential:
    cookies = tools.host.secret.strip().removeprefix("Cookie:").strip()
    if "=" not in cookies:
        raise BadInput("`kfp-token` is no cookie", fix="Write it as `name=value`, such as `oauth2_proxy_kubeflow=…`")
    _hide_cookies(cookies, tools)
    return Credential({"Cookie": cookies}, None, tools.host.user)


def _hide_cookies(cookies: str, tools: Tools) -> None:
    for cookie in cookies.split("; "):
        tools.hide(cookie.partition("=")[2])


def _user_header(tools: Tools) -> Credential:
    return Credential({tools.host.header or "kubeflow-userid": tools.host.user}, None, tools.host.user)


_CLIENT = "Check `kfp-issuer`, `kfp-client-id`, `kfp-client-secret` and `kfp-audience`, and that KFP trusts the issuer"

SIGN_INS: Mapping[str, Way] = {
    "none": Way(_none),
    "token": Way(_token, ("token",), "Check `kfp-token`: it may have expired"),
    "token-file": Way(_token_file, ("token_file",), "Check that `kfp-token-file` is renewed before its token expires"),
    "kubernetes": Way(
        _kubernetes,
        ("user",),
        "Check the service account `kfp-user`, and `kfp-audience` if KFP wants another than its own",
    ),
    "github": Way(
        _github, (), "Let KFP trust GitHub's tokens for `kfp-audience`, or set `kfp-issuer` to exchange them"
    ),
    "password": Way(_password, ("issuer", "user", "token", "client_id"), _CLIENT),
    "client-credentials": Way(_client_credentials, ("issuer", "client_id", "client_secret"), _CLIENT),
    "login-form": Way(_login_form, ("user", "token"), "Check that `kfp-user` may use Kubeflow"),
    "cookie": Way(_cookie, ("token",), "Check `kfp-token`: the session has ended, copy a new cookie"),
    "user-header": Way(_user_header, ("user",), "Check `kfp-header` and `kfp-user`; from outside most set-ups drop it"),
}
"""Every way to sign in by its name."""


def _way_of(host: Host) -> Way:
    way = SIGN_INS.get(host.sign_in)
    if way is None:
        raise BadInput(f"`kfp-sign-in`: there is no {host.sign_in!r}", fix=f"One of: {', '.join(SIGN_INS)}")
    missing = [f"`kfp-{name.replace('_', '-')}`" for name in way.needs if not getattr(host, name)]
    if missing:
        raise BadInput(
            f"`kfp-sign-in: {host.sign_in}` needs {' and '.join(missing)}", fix=f"Set {' and '.join(missing)}"
        )
    if host.sign_in == "none" and (host.token or host.token_file):
        given = "kfp-token" if host.token else "kfp-token-file"
        fix = f"Set `kfp-sign-in`, one of: {', '.join(name for name in SIGN_INS if name != 'none')}"
        raise BadInput(f"`{given}` is set, and `kfp-sign-in` does not say what it is", fix=fix)
    for name in ("token", "user", "header"):
        if len(getattr(host, name).splitlines()) > 1:
            raise BadInput(f"`kfp-{name}` has several lines", fix="Give it in one line")
    return way
