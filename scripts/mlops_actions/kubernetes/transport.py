"""Requests to an API server: its credentials, and objects as JSON.

Why not the official client: it takes 0.4 s to import, hides why a program gave no credentials, never reads a token file
again, and cannot tell silence from an idle watch. (kubernetes 37 does know `proxy-url`; 30, which kfp 2 asks for, does
not.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..http.client import HttpClient, Response
from ..http.faults import Remedies, shown
from ..http.retry import Retry
from ..http.tls import Tls
from ..waiting import Clock
from .credentials import Credentials
from .failures import Asked, ClusterFailed, is_absent, refusal, status_of
from .kubeconfig import Settings

Object = dict[str, Any]
"""An object of Kubernetes, as its JSON."""

PATIENCE = 120.0
"""Seconds that a request is repeated while the cluster does not respond: an API server restarts within that."""

FIRST_PATIENCE = 5.0
"""Seconds that one is asked again that never responded: it is more likely named wrongly than restarting."""

READ_LIMIT = 30.0
"""Seconds without a byte of a response."""

_REMEDIES = Remedies(
    address="Check the kubeconfig's `server`, and that the cluster is up",
    authority="Take the cluster's own `certificate-authority-data` into the kubeconfig",
    name="Use a name that it is for as the kubeconfig's `server`, or set its `tls-server-name`",
    identity="Check the kubeconfig's client certificate: it may have expired, or be another cluster's",
    proxy="Check the kubeconfig's `proxy-url`, or HTTPS_PROXY and NO_PROXY",
)


class Transport:
    """Requests to one API server, as one user. May be used by several threads.

    Args:
        settings: the context.
        environ: variables, for the proxy and the program that gives credentials.
        clock: for pauses.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        self.server, self.clock = shown(settings.server.url), clock
        self._server, self._credentials = settings.server, Credentials(settings.user, environ, clock)
        peer = f"the cluster {self.server}"
        self._client = HttpClient(
            environ,
            tls=self._tls,
            auth=self._credentials,
            proxy=settings.server.proxy,
            peer=peer,
            remedies=_REMEDIES,
            error=ClusterFailed,
            clock=clock,
        )
        self._retry = Retry(peer, clock, patience=PATIENCE, first=FIRST_PATIENCE)

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self._client.requests

    def call(self, asked: Asked, method: str, path: str, *, repeat: bool = True, **request: Any) -> Object | None:
        """Send a request, again as long as the fault may pass, and return the response's JSON.

        Args:
            asked: what it is about, for messages.
            method, path: of the request.
            repeat: whether it may reach the server twice.
            request: as `send` takes it. With `absent`, the result is None when the object does not exist.

        Raises:
            ClusterFailed: the cluster failed, refused or cannot be reached.
            Refused: it found fault with the object.
        """
        response = self._retry.run(lambda: self.send(asked, method, path, **request), again=repeat)
        return None if response is None else self.json(asked, response)

    def text(self, asked: Asked, path: str, query: Mapping[str, object]) -> str:
        """Read what is not JSON. As `call`."""
        response = self._retry.run(lambda: self.send(asked, "GET", path, query=query))
        return response.text if response is not None else ""

    def json(self, asked: Asked, response: Response) -> Object:
        """The object in a response; `ClusterFailed` if there is none."""
        content = response.json()
        if isinstance(content, dict):
            return content
        kind = response.headers.get("Content-Type", "no type")
        raise ClusterFailed(
            f"{self.server} is not a Kubernetes API",
            why=f"Asked to {asked}, it responded with {kind}",
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
    ) -> Response | None:
        """Send a request once, or twice if the credentials had run out.

        Args:
            asked: what it is about, for messages.
            method, path: of the request.
            query: of the request; what is "" or None is left out.
            body, content_type: of the request.
            absent: whether to return None when the object does not exist.
            stream: whether to return before the response is read.
            read_limit: seconds without a byte of the response.

        Raises: as `call` does.
        """
        headers = {"Accept": "application/json, */*", **({"Content-Type": content_type} if body is not None else {})}
        response = self._client.send(
            method,
            self._server.url + path,
            query={name: str(value) for name, value in (query or {}).items() if value not in ("", None)},
            headers=headers,
            stream=stream,
            read_limit=read_limit,
            json=body,
        )
        if response.ok:
            return response
        if absent and is_absent(response.status, response.content, asked):
            return None
        error = refusal(self.server, asked, response)
        if response.status == 401:
            error.why = self._credentials.why_refused() or error.why
        raise error

    def pass_on(self, asked: Asked, path: str, data: bytes | None, timeout: float) -> Response:
        """Send a request that the API server passes on; the response of who gets it.

        Args:
            asked: what it is about, for messages.
            path: of the request.
            data: JSON that is posted; None to GET.
            timeout: seconds without a byte of the response.

        Raises:
            ClusterFailed: the API server responds itself.
        """
        method = "GET" if data is None else "POST"
        headers = {"Content-Type": "application/json"}
        url = self._server.url + path
        response = self._client.send(method, url, headers=headers, body=data, read_limit=timeout)
        if not response.ok and status_of(response.content):
            raise refusal(self.server, asked, response)
        return response

    def _tls(self) -> Tls:
        """Trust only the cluster's own authority, or the machine's if it names none; show the client certificate."""
        if self._server.url.startswith("http:"):
            return Tls()
        server, (certificate, key) = self._server, self._credentials.certificate()
        return Tls(
            authority=server.authority.read(),
            alone=bool(server.authority),
            certificate=certificate,
            key=key,
            server_name=server.name,
            insecure=server.insecure,
            names=("`certificate-authority` of the kubeconfig", "the kubeconfig's client certificate"),
        )
