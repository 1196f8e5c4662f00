"""Requests to an API server: one connection pool, credentials that are renewed, limits of time, faults that pass.

The requests are our own, over urllib3. The official client takes 0.4 s to import, hides why a program gave no
credentials, never reads a token file again, knows no `proxy-url`, and cannot tell silence from an idle watch.
"""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from ..errors import BadInput, MlopsError
from ..proxies import proxy_for
from ..waiting import Backoff, Clock
from .credentials import Credentials
from .failures import Asked, ClusterFailed, is_absent, refusal, unreachable
from .kubeconfig import Settings

Object = dict[str, Any]
"""An object of Kubernetes, as its JSON."""

CONNECT_LIMIT = 10.0
"""Seconds that a connection may take."""

READ_LIMIT = 30.0
"""Seconds without a byte of an answer."""

PATIENCE = 120.0
"""Seconds that a request is repeated while the cluster does not answer: an API server restarts within that."""


class Transport:
    """Requests to one API server, as one user. May be used by several threads.

    Args:
        settings: the context.
        environ: variables, for the proxy and the program that gives credentials.
        clock: for pauses.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        self.server, self.clock = settings.server.url, clock
        self.patience = PATIENCE
        self.requests = 0
        self._settings = settings
        self._credentials = Credentials(settings.user, environ, clock)
        self._proxy = settings.server.proxy or proxy_for(settings.server.url, environ)
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._certificate: tuple[str, str] = ("", "")

    def call(self, asked: Asked, method: str, path: str, *, repeat: bool = True, **request: Any) -> Object | None:
        """Send a request, again as long as the fault may pass, and return the answer's JSON.

        Args:
            asked: what it is about, for messages.
            method, path: of the request.
            repeat: whether it may reach the server twice.
            request: as `send` takes it. With `absent`, the answer is None when the object is not there.

        Raises:
            ClusterFailed: the cluster failed, refused or cannot be reached.
            Refused: it found fault with the object.
        """
        answer = self._ask(asked, method, path, repeat, **request)
        return None if answer is None else self.json(asked, answer)

    def text(self, asked: Asked, path: str, query: Mapping[str, object]) -> str:
        """Read what is no JSON. As `call`."""
        answer = self._ask(asked, "GET", path, True, query=query)
        return answer.data.decode(errors="replace") if answer is not None else ""

    def _ask(
        self, asked: Asked, method: str, path: str, repeat: bool, **request: Any
    ) -> urllib3.BaseHTTPResponse | None:
        backoff, deadline = Backoff(), self.clock.now() + self.patience
        while True:
            try:
                return self.send(asked, method, path, **request)
            except ClusterFailed as error:
                pause = max(error.wait, backoff.pause())
                if not (repeat and error.transient) or self.clock.now() + pause > deadline:
                    raise
                self.clock.wait(pause)

    def json(self, asked: Asked, answer: urllib3.BaseHTTPResponse) -> Object:
        """The object that an answer is; `ClusterFailed` if it is none."""
        try:
            content = json.loads(answer.data)
            if isinstance(content, dict):
                return content
        except ValueError:
            pass
        kind = answer.headers.get("Content-Type", "no type")
        raise ClusterFailed(
            f"{self.server} is no Kubernetes API",
            why=f"Asked to {asked}, it answered with {kind}",
            fix="Check the kubeconfig's `server`",
        )

    def send(
        self,
        asked: Asked,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        absent: bool = False,
        stream: bool = False,
        read_limit: float = READ_LIMIT,
    ) -> urllib3.BaseHTTPResponse | None:
        """Send a request once, or twice if the credentials had run out.

        Args:
            asked: what it is about, for messages.
            method, path: of the request.
            query: of the request; what is "" or None is left out.
            body, content_type: of the request.
            absent: whether to return None when the object is not there.
            stream: whether to return before the answer is read.
            read_limit: seconds without a byte of the answer.

        Raises: as `call` does.
        """
        answer = self._once(asked, method, path, query, body, content_type, stream, read_limit)
        if answer.status == 401:
            self._credentials.refresh()
            answer.drain_conn()
            answer = self._once(asked, method, path, query, body, content_type, stream, read_limit)
        if answer.status < 300:
            return answer
        with self._faults():
            content = answer.read() if stream else answer.data
        if absent and is_absent(answer.status, content, asked):
            return None
        raise self._refusal(asked, answer, content)

    def lines(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """The lines of an answer as they come, without their ends. Ends with the answer.

        Raises:
            ClusterFailed: the connection broke, or was silent for as long as its request allowed.
        """
        rest = b""
        with self._faults():
            for chunk in answer.stream(65536):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        if rest:
            yield rest

    def _once(
        self,
        asked: Asked,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Object | None,
        content_type: str,
        stream: bool,
        read_limit: float,
    ) -> urllib3.BaseHTTPResponse:
        headers = self._credentials.headers()
        headers.add("Accept", "application/json, */*")
        headers.add("User-Agent", "mlops-actions")
        if not stream:
            headers.add("Accept-Encoding", "gzip")
        if body is not None:
            headers.add("Content-Type", content_type)
        wanted = {name: value for name, value in (query or {}).items() if value not in ("", None)}
        self.requests += 1
        with self._faults():
            return self._connections().request(
                method,
                self.server + path + (f"?{urlencode(wanted)}" if wanted else ""),
                body=json.dumps(body).encode() if body is not None else None,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_LIMIT, read=read_limit),
                retries=False,
                redirect=False,
                preload_content=not stream,
            )

    def _refusal(self, asked: Asked, answer: urllib3.BaseHTTPResponse, content: bytes) -> MlopsError:
        error = refusal(self.server, asked, answer.status, content, answer.headers.get("Retry-After", ""))
        if answer.status == 401:
            error.why = self._credentials.why_refused() or error.why
        return error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn what the network raises into our error."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(self.server, error, urlsplit(self._proxy).hostname or "") from error

    def _connections(self) -> urllib3.PoolManager:
        """The pool; a new one when the client certificate has changed."""
        certificate = self._credentials.certificate()
        with self._lock:
            if self._pool is None or certificate != self._certificate:
                self._pool, self._certificate = self._open(certificate), certificate
            return self._pool

    def _open(self, certificate: tuple[str, str]) -> urllib3.PoolManager:
        server = self._settings.server
        options: dict[str, Any] = {"num_pools": 2, "maxsize": 8}
        if server.url.startswith("https"):
            options["ssl_context"] = _tls(self._settings, certificate)
            if server.name:
                options["server_hostname"] = server.name
            if server.insecure:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if not self._proxy:
            return urllib3.PoolManager(**options)
        parts = urlsplit(self._proxy)
        if parts.scheme not in ("http", "https"):
            raise BadInput(
                f"A proxy by {parts.scheme or 'no scheme'} is not supported", fix="Name one by http or https"
            )
        sign_in = f"{parts.username}:{parts.password or ''}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=sign_in) if sign_in else None
        return urllib3.ProxyManager(self._proxy, proxy_headers=headers, **options)


def _tls(settings: Settings, certificate: tuple[str, str]) -> ssl.SSLContext:
    """Trust only the cluster's own authority, or the machine's if it names none; show the client certificate."""
    server = settings.server
    try:
        context = ssl.create_default_context(cadata=server.authority.read() or None)
    except (ssl.SSLError, ValueError) as error:
        raise BadInput("`certificate-authority` of the kubeconfig is no certificate", why=str(error)) from error
    # As Go's and so kubectl's rules: authorities need no key identifier, and one below the root is enough.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if server.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate[0]:
        _show(context, certificate)
    return context


def _show(context: ssl.SSLContext, certificate: tuple[str, str]) -> None:
    """OpenSSL takes a key only from a file: it is ours alone, and gone when this returns."""

    def locked() -> str:
        raise BadInput("The kubeconfig's client key is encrypted", fix="Store it without a passphrase, in a secret")

    with tempfile.TemporaryDirectory(prefix="client-certificate-") as folder:  # for this user alone
        path = Path(folder) / "both.pem"
        path.touch(mode=0o600)
        path.write_text("\n".join(certificate))
        try:
            context.load_cert_chain(path, password=locked)
        except ssl.SSLError as error:
            raise BadInput(
                "The kubeconfig's client certificate and key cannot be used",
                why=str(error.reason or error).replace("_", " ").lower(),
                fix="Check that both are PEM and belong together",
            ) from error
