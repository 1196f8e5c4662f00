"""A connection to a server over HTTP: proxies, certificates, time limits, and its faults told in plain words.

Its own session, and no variable of the process is read: what `requests` would take from the environment (proxies, CA
bundles, and a `.netrc` that silently replaces the Authorization header) comes from `Host` alone.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import get_cookie_header
from urllib3.exceptions import HTTPError as UrllibError
from urllib3.exceptions import NameResolutionError, NewConnectionError, ReadTimeoutError
from urllib3.exceptions import ProxyError as RefusedByProxy

from ... import __version__
from ...errors import BadInput, RemoteFailed
from ...proxies import proxy_for

CONNECT, READ = 10.0, 60.0
"""Seconds to wait for a connection, and for the next bytes of an answer."""

_ALERT = 2.0  # seconds that a refusal by TLS may take
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Host:
    """How to reach a Kubeflow Pipelines (KFP).

    Attributes:
        url: of the API server or of the Kubeflow that it is behind; `/pipeline` is found out.
        namespace: of runs, where KFP serves several users (a Kubeflow profile).
        sign_in: how, a name of `sign_in.SIGN_INS`.
        token: the secret of the sign-in: token, password, or cookie.
        token_file: a file with a token, which may change.
        user: who signs in: a user, or a service account (`name` or `namespace/name`).
        issuer: URL of the OpenID Connect provider.
        audience: for whom the token is.
        client_id, client_secret: of the OAuth client that this is.
        header: which one has the token, by default Authorization; for `user-header`, the one with the user.
        ca: certificates trusted beside the public ones: PEM, or the path of such a file.
        client_certificate, client_key: PEM, or paths; the key may be in the certificate's file.
        environ: variables, for proxies, CA bundles, and GitHub's OIDC token.
    """

    url: str
    namespace: str = ""
    sign_in: str = "none"
    token: str = field(default="", repr=False)
    token_file: str = ""
    user: str = ""
    issuer: str = ""
    audience: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    header: str = ""
    ca: str = ""
    client_certificate: str = ""
    client_key: str = field(default="", repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def secret(self) -> str:
        """The secret of the sign-in, without the end of line that a file or a pipe left at it."""
        return self.token.rstrip("\r\n")


class ApiError(RemoteFailed):
    """An answer that is an error, or no answer.

    Attributes:
        status: HTTP's; 0 when no answer came, 401 when there was nothing to sign in with.
        code: gRPC's, as KFP has it in the answer; 0 when there is none.
        message: the server's own words.
        transient: whether the same request may succeed later.
        sent: whether the server may have got the request.
        retry_after: seconds that the server asks to wait.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int = 0,
        code: int = 0,
        message: str = "",
        transient: bool = False,
        sent: bool = True,
        retry_after: float = 0.0,
        why: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status, self.code, self.message = status, code, message
        self.transient, self.sent, self.retry_after = transient, sent, retry_after

    @property
    def unsure(self) -> bool:
        """Whether what was asked for may have been done all the same: look before asking again."""
        return self.sent and (self.status == 0 or self.status >= 500)


class Connection:
    """Sends requests.

    Args:
        host: has the proxies and certificates.
        cookies: whether cookies that a server sets are kept and sent back, as a browser does.

    Raises:
        BadInput: a certificate, key or CA cannot be used.
    """

    def __init__(self, host: Host, *, cookies: bool = False) -> None:
        self._environ = host.environ
        self._tls = _tls(host)
        self._session = requests.Session()
        self._session.trust_env = False
        if not cookies:
            self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers["User-Agent"] = f"mlops-actions/{__version__}"
        self._session.mount("https://", _Adapter(self._tls, pool_maxsize=32))
        self._session.mount("http://", HTTPAdapter(pool_maxsize=32))

    def send(self, method: str, url: str, *, read_timeout: float | None = READ, **options: Any) -> requests.Response:
        """Send one request; redirects are not followed.

        Raises:
            ApiError: no answer came.
            BadInput: the URL is none.
        """
        try:
            return self._session.request(
                method,
                url,
                timeout=(CONNECT, read_timeout),
                allow_redirects=False,
                proxies=self._proxies(url),
                **options,
            )
        except (requests.RequestException, UrllibError, ValueError) as error:
            found = fault(error, url)
            was_cut = isinstance(found, ApiError) and found.transient and found.sent
            if was_cut and not isinstance(error, requests.Timeout) and (alert := self._alert(url)):
                found = _tls_fault(alert, url)
            raise found from error

    def cookies(self, url: str) -> tuple[str, float | None]:
        """The Cookie header for a URL, and when the first of the cookies ends (seconds since 1970), if any does."""
        header = get_cookie_header(self._session.cookies, requests.Request("GET", url).prepare()) or ""  # type: ignore[no-untyped-call]
        names = {pair.partition("=")[0] for pair in header.split("; ")}
        ends = [cookie.expires for cookie in self._session.cookies if cookie.name in names and cookie.expires]
        return header, min(ends, default=None)

    def _alert(self, url: str) -> ssl.SSLError | None:
        """What a server that cut a connection has against us; None if it does not say.

        With TLS 1.3 a server refuses a client's certificate, or the lack of one, when the client takes the handshake
        for done (RFC 8446, section 2). A request that is on its way then makes the server reset the connection, and
        the alert is lost. So a connection is made on which nothing is sent.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or self._proxies(url):
            return None
        try:
            with (
                socket.create_connection((parts.hostname or "", parts.port or 443), CONNECT) as plain,
                self._tls.wrap_socket(plain, server_hostname=parts.hostname) as connection,
            ):
                connection.settimeout(_ALERT)
                connection.recv(1)
        except ssl.SSLError as error:
            return error
        except OSError:
            pass
        return None

    def _proxies(self, url: str) -> dict[str, str]:
        proxy = proxy_for(url, self._environ)
        return {urlsplit(url).scheme: proxy} if proxy else {}


def shown(url: str) -> str:
    """A URL without what may be secret in it: user, query, fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fault(error: Exception, url: str) -> ApiError | BadInput:
    """Why no answer came, or not all of it."""
    what = f"{shown(url)} cannot be reached"
    chain = list(_chain(error))
    if isinstance(error, ValueError) and not isinstance(error, requests.ConnectionError):
        return BadInput(f"No request can be sent to {shown(url)!r}", why=str(error), fix="Check the URL")
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return _tls_fault(one, url)
    if any(isinstance(one, RefusedByProxy) for one in chain):
        why = f"The proxy does not let it through: {_last_words(chain)}"
        return ApiError(what, why=why, fix="Check HTTPS_PROXY and NO_PROXY", transient=True, sent=False)
    if any(isinstance(one, NameResolutionError) for one in chain):
        why = f"There is no host of the name {urlsplit(url).hostname!r}, or the name server does not answer"
        return ApiError(what, why=why, fix="Check the host's name", transient=True, sent=False)
    if isinstance(error, requests.ConnectTimeout):
        why, fix = (
            f"No connection within {CONNECT:.0f} s",
            "Check host and port, and whether a firewall or VPN is between",
        )
        return ApiError(what, why=why, fix=fix, transient=True, sent=False)
    if any(isinstance(one, NewConnectionError) for one in chain):
        return ApiError(what, why=_last_words(chain), fix="Check host and port", transient=True, sent=False)
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return ApiError(f"{shown(url)} does not answer", why="It took the request and then was silent", transient=True)
    return ApiError(f"{shown(url)} cut the connection", why=_last_words(chain), transient=True)


def _tls_fault(error: ssl.SSLError, url: str) -> ApiError:
    """Why there is no trust. Nothing of it changes by asking again."""
    what, name = f"The connection to {shown(url)} is not trusted", urlsplit(url).hostname
    if isinstance(error, ssl.SSLCertVerificationError):
        why, fix = _DISTRUST.get(
            error.verify_code, (f"Its certificate: {error.verify_message}", "Check the server's certificate")
        )
        return ApiError(what, why=why.format(name=name), fix=fix, sent=False)
    text = str(error).upper().replace(" ", "_")
    if any(sign in text for sign in ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")):
        why = "It wants a client certificate, or refuses the one it got"
        return ApiError(what, why=why, fix="Set `kfp-client-certificate` and `kfp-client-key`", sent=False)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "UNKNOWN_PROTOCOL" in text:
        why, fix = "It does not speak TLS on this port", "Write `http://…`, or give the port that speaks TLS"
        return ApiError(what, why=why, fix=fix, sent=False)
    return ApiError(f"{shown(url)} cut the connection", why=f"TLS: {error.reason or error}", transient=True)


_CA = "Give its CA's certificate: `kfp-ca`"
_DISTRUST = {  # OpenSSL's X509_V_ERR_…, openssl/x509_vfy.h
    9: ("Its certificate is not valid yet", "Check the clocks of this machine and of the server"),
    10: ("Its certificate has expired", "Renew the server's certificate"),
    18: ("Its certificate is signed by itself", _CA),
    19: ("Its certificate is signed by a CA that is not known here", _CA),
    20: ("Its certificate is signed by a CA that is not known here", _CA),
    21: ("Its certificate is signed by a CA that is not known here", _CA),
    62: ("Its certificate is for other names than {name!r}", "Use a name that the certificate has"),
    64: ("Its certificate is not for the address {name}", "Use a name that the certificate has"),
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it was made of; urllib3 keeps them in `reason` and in arguments."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]


def _last_words(chain: list[BaseException]) -> str:
    """The system's own words, which are the clearest."""
    for one in reversed(chain):
        if isinstance(one, OSError) and one.strerror:
            return str(one.strerror)
    text = str(chain[-1]) or type(chain[-1]).__name__
    return "The connection was closed" if "Remote end closed" in text else text


def is_transient(status: int) -> bool:
    """Whether an answer of this status says that the same request may succeed later."""
    return status in _TRANSIENT


class _Adapter(HTTPAdapter):
    """Speaks TLS with one context, through a proxy too."""

    def __init__(self, context: ssl.SSLContext, **options: Any) -> None:
        self._context = context
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As its parent, with the context."""
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """As its parent, with the context."""
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)


def _tls(host: Host) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca = host.ca or host.environ.get("REQUESTS_CA_BUNDLE") or host.environ.get("SSL_CERT_FILE", "")
    if ca:
        try:
            context.load_verify_locations(cadata=ca if "-----BEGIN" in ca else Path(ca).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise BadInput(
                "`kfp-ca` cannot be used", why=_reason(error), fix="Give a CA certificate as PEM, or the path of one"
            ) from error
    if host.client_certificate:
        try:
            with _as_file(host.client_certificate) as certificate, _as_file(host.client_key) as key:
                context.load_cert_chain(certificate, key or None)
        except (OSError, ValueError) as error:
            raise BadInput(
                "`kfp-client-certificate` cannot be used",
                why=_reason(error),
                fix="Give the certificate and its key (`kfp-client-key`, not encrypted) as PEM, or their paths",
            ) from error
    elif host.client_key:
        raise BadInput("`kfp-client-key` is set without a certificate", fix="Set `kfp-client-certificate` too")
    return context


@contextmanager
def _as_file(pem: str) -> Iterator[str]:
    """PEM as a file that its owner alone can read and that is gone afterwards; a path as it is."""
    if "-----BEGIN" not in pem:
        yield pem
        return
    with tempfile.TemporaryDirectory(prefix="pem-") as folder:  # mode 700
        file = Path(folder) / "pem"
        file.write_text(pem, encoding="ascii")
        yield str(file)


def _reason(error: Exception) -> str:
    """Why a file of certificates cannot be used. The message of a decoding error would show bytes of a key."""
    if isinstance(error, UnicodeError):
        return "It is no PEM"
    return error.strerror or str(error) if isinstance(error, OSError) else "It is no PEM"
