"""Requests to a server: connections, TLS, proxies, sign-in, limits of time and size; every fault an `HttpError`.

Over urllib3, which the actions have anyway. `requests` takes proxies, CA bundles and a `.netrc` that silently replaces
the Authorization header from the process's variables, follows redirects, and cannot change its client certificate;
httpx would be six more packages in every environment.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import unquote, urlencode, urljoin, urlsplit

import urllib3

from .. import __version__
from ..errors import BadInput
from ..waiting import Clock, retry_after
from .faults import TRANSIENT, Exchange, HttpError, Remedies, fault, shown, tls_fault, unreachable
from .proxies import proxy_for
from .tls import Tls

CONNECT_LIMIT = 10.0
"""Seconds that a connection may take."""

READ_LIMIT = 60.0
"""Seconds without a byte of a response."""

WHOLE_LIMIT = 600.0
"""Seconds that a whole response may take, however steadily it comes."""

SIZE_LIMIT = 256 << 20
"""Bytes that a whole response may have, unpacked."""

LINE_LIMIT = 16 << 20
"""Bytes that a line of a streamed response may have."""

_PIECE = 1 << 16
_ALERT = 2.0  # seconds that a refusal by TLS may take


class Auth(Protocol):
    """A sign-in."""

    def headers(self) -> Mapping[str, str]:
        """Headers for the next request; an `HTTPHeaderDict` where a name comes several times."""

    def wanted(self, response: Response) -> bool:
        """Whether a response asks for (another) sign-in."""

    def refresh(self, response: Response, refused: Mapping[str, str]) -> bool:
        """Get other headers than those that were refused by a response; whether another try is worth it."""


class Response:
    """A response. The body of one that is streamed is read when it is asked for.

    Attributes:
        status: such as 200.
        headers: by names in any case.
        url: that was asked for.
    """

    def __init__(self, raw: urllib3.BaseHTTPResponse, exchange: Exchange, clock: Clock) -> None:
        self.status, self.headers, self.url = raw.status, raw.headers, exchange.url
        self._raw, self._exchange, self._clock = raw, exchange, clock
        self._content: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300

    @property
    def location(self) -> str:
        """Where a redirect leads; "" if it is not one. Nobody follows it unasked."""
        target = self.headers.get("Location", "") if 300 <= self.status < 400 else ""
        return urljoin(self.url, target) if target else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What an `HttpError` says of a response: `status`, `transient`, `retry_after`."""
        wait = retry_after(self.headers.get("Retry-After", ""))
        return {"status": self.status, "transient": self.status in TRANSIENT, "retry_after": wait}

    @property
    def content(self) -> bytes:
        """The body. Raises `HttpError` when it is truncated, or over a limit."""
        if self._content is None:
            pieces, size, deadline = [], 0, self._clock.now() + WHOLE_LIMIT
            for piece in self.pieces():
                pieces.append(piece)
                size += len(piece)
                if size > SIZE_LIMIT or self._clock.now() > deadline:
                    limit = f"{SIZE_LIMIT >> 20} MiB" if size > SIZE_LIMIT else f"{WHOLE_LIMIT:.0f} s"
                    raise self._over(f"The response of {self._exchange.name} takes over {limit}")
            self._content = b"".join(pieces)
        return self._content

    @property
    def text(self) -> str:
        """The body as UTF-8, with a sign for what is not."""
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body's JSON; None if it is not JSON. Raises as `content` does."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    def lines(self) -> Iterator[bytes]:
        """The lines of the body, each as soon as it is there, without their ends (LF or CRLF).

        Raises:
            HttpError: the connection broke, or was silent for longer than its request allowed; or a line is too long.
        """
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r")
            if len(rest) > LINE_LIMIT:
                raise self._over(f"A line from {self._exchange.name} is over {LINE_LIMIT >> 20} MiB")
        if rest:
            yield rest.removesuffix(b"\r")

    def close(self) -> None:
        """Give up what was not read."""
        self._raw.close()

    def interrupt(self) -> None:
        """Let a thread that reads the body see its end."""
        try:
            self._raw.shutdown()
        except (RuntimeError, ValueError, OSError):
            pass  # it had just ended

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Not by `stream`: urllib3 2.8 loses bytes of a body that is chunked and gzipped.

        Raises:
            HttpError: the connection broke, or was silent for longer than its request allowed.
        """
        with _faults(self._exchange):
            while piece := self._raw.read1(_PIECE):
                yield piece

    def _over(self, what: str) -> HttpError:
        self.close()
        return self._exchange.error(what)


class HttpClient:
    """Sends requests. May be used by several threads.

    Args:
        environ: variables, for the proxy. Those of the process are not read.
        tls: how connections are secured at this moment: files and programs may change it.
        auth: the sign-in; None for nobody.
        proxy: URL of the proxy; "" for the one that the variables name.
        peer: what to call the server in messages, such as `the cluster https://…`; "" for its URL.
        remedies: what corrects faults.
        error: the class of the errors.
        clock: what limits are measured with.

    Attributes:
        requests: how many were sent.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        tls: Callable[[], Tls] = Tls,
        auth: Auth | None = None,
        proxy: str = "",
        peer: str = "",
        remedies: Remedies = Remedies(),  # noqa: B008 - it is frozen
        error: type[HttpError] = HttpError,
        clock: Clock = Clock(),  # noqa: B008 - it has no state
    ) -> None:
        self.requests = 0
        self._environ, self._tls, self._auth, self._proxy, self._clock = environ, tls, auth, proxy, clock
        self._about = Exchange("", peer, remedies=remedies, error=error)
        self._lock = threading.Lock()
        self._opened: Tls | None = None
        self._context: ssl.SSLContext | None = None
        self._pools: dict[str, urllib3.PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        read_limit: float = READ_LIMIT,
        **content: Any,
    ) -> Response:
        """Send a request; once more if its sign-in was refused and another can be had. No redirect is followed.

        Args:
            method, url: of the request.
            query: parameters, added to the URL's own.
            headers: of the request, beside those of the sign-in.
            stream: whether to return before the body is there, which then comes uncompressed.
            read_limit: seconds without a byte of the response.
            content: the body, as urllib3 takes it: `json`, `body`, or `fields`.

        Returns:
            The response, whatever its status.

        Raises:
            HttpError: no response came, or only a part.
            BadInput: the URL, a certificate or the sign-in cannot be used.
        """
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        for again in (True, False):
            credentials = self._auth.headers() if self._auth else {}
            every = urllib3.HTTPHeaderDict({"User-Agent": f"mlops-actions/{__version__}"})
            every["Accept-Encoding"] = "identity" if stream else "gzip"
            every.extend(headers or {})
            every.extend(credentials)
            limits = urllib3.Timeout(connect=CONNECT_LIMIT, read=read_limit)
            response = self._once(method, url, headers=every, timeout=limits, **content)
            if not stream:
                response.content  # noqa: B018 - read now: a truncated response is a fault of its request
            if not (again and self._auth and self._auth.wanted(response)):
                break
            response.close()
            if not self._auth.refresh(response, credentials):
                break
        return response

    def _once(self, method: str, url: str, **options: Any) -> Response:
        exchange = replace(self._about, url=url, connect=CONNECT_LIMIT)
        with _faults(exchange):
            proxy = self._proxy or proxy_for(url, self._environ)
            pool = self._pool(proxy)
        exchange = replace(exchange, proxy=proxy)
        with self._lock:
            self.requests += 1
        try:
            with _faults(exchange):
                raw = pool.request(method, url, retries=False, redirect=False, preload_content=False, **options)
        except HttpError as error:
            was_cut = (
                error.sent and error.transient and not isinstance(error.__cause__, urllib3.exceptions.TimeoutError)
            )
            if was_cut and (alert := self._alert(url, proxy)):
                raise tls_fault(alert, exchange) from error
            raise
        if proxy and raw.status == 407:
            raw.close()
            raise unreachable(exchange, "The proxy requires authentication", exchange.remedies.proxy, transient=False)
        return Response(raw, exchange, self._clock)

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        """The connections through a proxy, or straight; new ones when the certificates have changed."""
        tls = self._tls()
        with self._lock:
            if tls != self._opened:
                self._context, self._pools, self._opened = tls.context(), {}, tls
            if proxy not in self._pools:
                self._pools[proxy] = _open(proxy, tls, self._context, self._about.remedies)
            return self._pools[proxy]

    def _alert(self, url: str, proxy: str) -> ssl.SSLError | None:
        """What a server that closed a connection has against us; None if it does not say.

        With TLS 1.3 a server refuses a client's certificate, or the lack of one, when the client takes the handshake
        for done (RFC 8446, section 2). A request that is on its way then makes the server reset the connection, and
        the alert is lost. So a connection is made on which nothing is sent.
        """
        parts, context = urlsplit(url), self._context
        if parts.scheme != "https" or proxy or context is None:
            return None
        name = (self._opened.server_name if self._opened else "") or parts.hostname
        try:
            with (
                socket.create_connection((parts.hostname or "", parts.port or 443), CONNECT_LIMIT) as plain,
                context.wrap_socket(plain, server_hostname=name) as connection,
            ):
                connection.settimeout(_ALERT)
                connection.recv(1)
        except ssl.SSLError as error:
            return error
        except OSError:
            pass
        return None


def _open(proxy: str, tls: Tls, context: ssl.SSLContext | None, remedies: Remedies) -> urllib3.PoolManager:
    options: dict[str, Any] = {"num_pools": 8, "maxsize": 32, "ssl_context": context}
    if tls.server_name:
        options["server_hostname"] = tls.server_name
    if tls.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    if not proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https"):
        raise BadInput(
            f"The scheme of the proxy {shown(proxy)} is not supported",
            why="It must be http or https",
            fix=remedies.proxy,
        )
    sign_in = ":".join(unquote(part or "") for part in (parts.username, parts.password)) if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=sign_in) if sign_in else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


@contextmanager
def _faults(exchange: Exchange) -> Iterator[None]:
    """Turn what the network raises into our error."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise fault(error, exchange) from error
