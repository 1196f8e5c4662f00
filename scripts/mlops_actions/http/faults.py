"""What can go wrong between a request and its response: one table, one error.

The idea is httpx's `map_exceptions`: whatever urllib3, ssl or the socket raises is looked up here, and nothing else of
the project knows their exceptions.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from urllib3 import exceptions as raised

from ..errors import BadInput, RemoteFailed

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of a server, or of what is in front of it, that is busy, starting or losing its database."""


class HttpError(RemoteFailed):
    """A response that is an error, or no response.

    Args, and attributes:
        what, why, fix: as for every error.
        status: of the response; 0 when none came.
        transient: whether the same request may succeed later.
        sent: whether the server may have got the request.
        retry_after: seconds that the server asks to wait.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        fix: str = "",
        status: int = 0,
        transient: bool = False,
        sent: bool = True,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status, self.transient, self.sent, self.retry_after = status, transient, sent, retry_after

    @property
    def unsure(self) -> bool:
        """Whether what was asked for may have been done all the same: look before asking again."""
        return self.sent and (self.status == 0 or self.status >= 500)


@dataclass(frozen=True)
class Remedies:
    """What corrects a fault, in the settings of who uses the client.

    Attributes:
        address: what names the server.
        authority: what names the certificates to trust.
        name: what to do when the certificate is for another name.
        identity: what names the client certificate.
        proxy: what names the proxy.
    """

    address: str = "Check host and port"
    authority: str = "Set REQUESTS_CA_BUNDLE to a file with the certificate of its CA"
    name: str = "Use a name that the certificate has"
    identity: str = "The server requires a client certificate: use one that does not"
    proxy: str = "Check HTTPS_PROXY and NO_PROXY"


@dataclass(frozen=True)
class Exchange:
    """A request that is on its way, for messages.

    Attributes:
        url: where it goes.
        peer: what to call the server, such as `the cluster https://…`; "" for the URL.
        proxy: URL of the proxy in between; "" for none.
        connect: seconds that a connection may take.
        remedies: what corrects faults.
        error: the class of the errors.
    """

    url: str
    peer: str = ""
    proxy: str = ""
    connect: float = 0.0
    remedies: Remedies = Remedies()
    error: type[HttpError] = HttpError

    @property
    def name(self) -> str:
        """What to call the server in a sentence."""
        return self.peer or shown(self.url)

    @property
    def subject(self) -> str:
        """What to call it at the beginning of one."""
        return self.peer[:1].upper() + self.peer[1:] or shown(self.url)


def is_url(text: str) -> bool:
    """Whether a text is the URL of a server that speaks HTTP."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def shown(url: str) -> str:
    """A URL without what may be secret in it: user and password, query, fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket that is not closed
        return url.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def unreachable(exchange: Exchange, why: str, fix: str, *, transient: bool = True) -> HttpError:
    """The error for a request that never arrived."""
    through = f" through the proxy {shown(exchange.proxy)}" if exchange.proxy else ""
    return exchange.error(f"Cannot reach {exchange.name}{through}", why=why, fix=fix, transient=transient, sent=False)


def fault(error: Exception, exchange: Exchange) -> HttpError | BadInput:
    """Why no response came, or not all of it."""
    chain = list(_chain(error))
    words, remedies, failed = _last_words(chain), exchange.remedies, exchange.error

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if found := next((one for one in chain if isinstance(one, ssl.SSLError)), None):
        return tls_fault(found, exchange)
    if is_a(raised.ProxyError):
        return unreachable(exchange, words, remedies.proxy, transient="connection failed: 4" not in words)
    if is_a(raised.NameResolutionError):
        host = urlsplit(exchange.url).hostname
        return unreachable(exchange, f"Cannot resolve the host name {host!r}", remedies.address)
    if is_a(raised.NewConnectionError):
        return unreachable(exchange, words, remedies.address)
    if is_a(raised.ConnectTimeoutError):
        fix = f"{remedies.address}, and whether a firewall is in between"
        return unreachable(exchange, f"No connection within {exchange.connect:g} s", fix)
    if is_a(raised.ReadTimeoutError, TimeoutError):
        why = "It accepted the connection and then sent nothing in time"
        return failed(f"Timed out waiting for {exchange.name}", why=why, transient=True)
    if is_a(IncompleteRead, raised.DecodeError):
        return failed(f"{exchange.subject} sent a truncated response", why=words, transient=True)
    if isinstance(error, ValueError) and "closed file" not in words:  # its text may show a header, and so a secret
        fix = "Check the URL, and that no setting that is sent has a line break"
        return BadInput(f"Cannot send a request to {shown(exchange.url)!r}", fix=fix)
    return failed(f"{exchange.subject} closed the connection", why=words, transient=True)


def tls_fault(error: ssl.SSLError, exchange: Exchange) -> HttpError:
    """Why there is no trust between client and server. Nothing of it changes by asking again."""
    remedies, failed = exchange.remedies, exchange.error
    if isinstance(error, ssl.SSLCertVerificationError):
        unknown = (f"its certificate cannot be verified ({error.verify_message})", "authority")
        why, fix = _DISTRUST.get(error.verify_code, unknown)
        why = why.format(name=urlsplit(exchange.url).hostname)
        fix = getattr(remedies, fix, fix)
        return failed(f"Cannot trust {exchange.name}: {why}", fix=fix, sent=False)
    text = str(error.reason or error).upper().replace(" ", "_")
    if any(
        sign in text for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
    ):
        fix = f"Write `http://…`, or give the port that speaks TLS. {remedies.address}"
        return failed(f"{exchange.subject} does not speak TLS on this port", fix=fix, sent=False)
    if "ALERT" in text or "HANDSHAKE_FAILURE" in text:
        why = f"It requires a client certificate, or does not accept the one it got ({text.replace('_', ' ').lower()})"
        return failed(f"{exchange.subject} refused the TLS connection", why=why, fix=remedies.identity, sent=False)
    why = f"TLS: {str(error.reason or error).replace('_', ' ').lower()}"
    return failed(f"{exchange.subject} closed the connection", why=why, transient=True)


_DISTRUST = {  # OpenSSL's X509_V_ERR_… (openssl/x509_vfy.h): the reason, and the remedy or the field that has it
    9: ("its certificate is not valid yet", "Check the clocks of this machine and of the server"),
    10: ("its certificate has expired", "Renew it, and check this machine's clock"),
    18: ("its certificate is signed by itself", "authority"),
    19: ("its certificate is signed by a CA that is not trusted here", "authority"),
    20: ("its certificate is signed by a CA that is not trusted here", "authority"),
    21: ("its certificate is signed by a CA that is not trusted here", "authority"),
    62: ("its certificate is not for the name {name!r}", "name"),
    64: ("its certificate is not for the address {name}", "name"),
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was made of; urllib3 keeps them in attributes and in arguments."""
    seen: set[int] = set()
    pending: list[Any] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            inner = (getattr(one, name, None) for name in ("reason", "original_error"))
            pending += [*inner, one.__cause__, one.__context__, *one.args]


def _last_words(chain: list[BaseException]) -> str:
    """The system's own words, which are the clearest."""
    for one in reversed(chain):
        if isinstance(one, OSError) and one.strerror:
            return str(one.strerror)
    text = str(chain[-1]) or type(chain[-1]).__name__
    return "It sent no response" if "Remote end closed" in text else text
