"""Kubeflow Pipelines' (KFP) REST API, for as long as a run takes: signs in, tries again, and says what is wrong.

Why not `kfp.Client`, or the generated `kfp_server_api` below it: they stop at the first 5xx, keep a token until it has
expired, have no time limits unless each call names one, know one of our ten sign-ins, and neither the log reader nor
the metadata service is in them. What they would save us is the paths.

Descriptions: v2beta1 of https://github.com/kubeflow/pipelines/tree/master/backend/api/v2beta1/swagger
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ....errors import BadInput
from ....http.client import READ_LIMIT, Response
from ....http.faults import shown
from ....http.retry import Retry
from ....waiting import Clock
from .connection import ApiError, address_of, connect
from .grpc_web import HEADERS, GrpcError, framed, message_of
from .responses import Json, error_of, json_of, wants_sign_in
from .sign_in import AuthContext, SignIn

if TYPE_CHECKING:
    from ....inputs import KfpInputs
    from ....kubernetes.objects import Cluster

__all__ = ["ApiError", "Json", "KfpApi"]

PATIENCE = 300.0
"""Seconds that a server may be away once it has responded, before we give up."""
FIRST_PATIENCE = 20.0
"""Seconds that it may be away before its first response: it is more likely a wrong host than a restart."""
PAGE_SIZE = 100
_SILENCE = 120.0  # seconds without a byte after which a followed log is taken for cut
_HEALTH = "/apis/v2beta1/healthz"

T = TypeVar("T")


class KfpApi:
    """One KFP. It may be used by several threads.

    Faults that pass (no connection, a truncated response, 408, 429, 5xx) are waited out if the request may be repeated:
    GET and DELETE always, a POST when `again` says so or when it never reached the server. A sign-in that was refused
    is refreshed once a request.

    Args:
        inputs: how to reach it, and how to sign in.
        environ: variables, for proxies, CA bundles, and GitHub's OIDC token. Those of the process are not read.
        folder: what paths in the inputs are relative to.
        cluster: the Kubernetes cluster, for the sign-in `kubernetes`.
        clock: what pauses are measured with.
        hide: told every secret that comes up, before anything is printed.
        say: told once when the server is away, and once when it is back.
        patience: seconds that it may be away; may be set to less when there is no time left.

    Attributes:
        url: where it is: `/pipeline` is added when that is found out.

    Raises (all methods):
        ApiError: the server cannot be reached, refuses or fails.
        BadInput: the URL, a certificate or the sign-in cannot be used.
    """

    def __init__(
        self,
        inputs: KfpInputs,
        environ: Mapping[str, str],
        folder: Path,
        *,
        cluster: Callable[[], Cluster] | None = None,
        clock: Clock = Clock(),  # noqa: B008 - it has no state
        hide: Callable[[str], None] | None = None,
        say: Callable[[str], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        self.url = address_of(inputs.kfp_host)
        self._inputs = inputs
        bare = connect(inputs, environ, folder)
        context = AuthContext(inputs, self.url, bare, environ, folder, hide or (lambda _: None), cluster)
        self._sign_in = SignIn(context, clock)
        self._client = connect(inputs, environ, folder, self._sign_in)
        self._retry = Retry(shown(self.url), clock, patience=patience, first=FIRST_PATIENCE, say=say)
        self._lock = threading.RLock()
        self._base: str | None = None
        self._metadata_base: str | None = None
        self._several_users: bool | None = None

    @property
    def requests(self) -> int:
        """How many were sent, without those of the sign-in."""
        return self._client.requests

    @property
    def patience(self) -> float:
        """Seconds that the server may be away."""
        return self._retry.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._retry.patience = seconds

    @property
    def namespace(self) -> str:
        """The namespace that requests must name: "" where KFP serves one user, whatever the inputs say."""
        self._open()
        return "" if self._several_users is False else self._inputs.namespace

    def get(self, path: str, **query: object) -> Json:
        """The JSON at a path such as `/apis/v2beta1/runs/{id}`."""
        return self._ask("GET", path, json_of, query=query, again=True)

    def post(self, path: str, body: Json | None = None, *, again: bool = False, **query: object) -> Json:
        """Post JSON.

        Args:
            path: where.
            body: what.
            again: whether it does no harm to send it twice. If not, an `ApiError` that is `unsure` leaves it to the
                caller to look whether the thing was made.
            query: parameters of the URL.
        """
        return self._ask("POST", path, json_of, query=query, again=again, json={} if body is None else body)

    def delete(self, path: str, **query: object) -> Json:
        """Delete what is at a path. Sent again after a fault, it may find nothing (404), which is what was wanted."""
        repeated = False

        def sent() -> None:
            nonlocal repeated
            repeated = True

        try:
            return self._ask("DELETE", path, json_of, query=query, again=True, repeated=sent)
        except ApiError as error:
            if repeated and error.status == 404:
                return {}
            raise

    def upload(self, path: str, file: bytes, filename: str, **query: object) -> Json:
        """Upload a file, as the form field `uploadfile`."""
        return self._ask("POST", path, json_of, query=query, fields={"uploadfile": (filename, file)})

    def pages(self, path: str, key: str, **query: object) -> Iterator[Json]:
        """All items of a list, page after page: those under `key` of each response."""
        token, seen = "", set()
        query.setdefault("page_size", PAGE_SIZE)
        while True:
            page = self.get(path, **{**query, "page_token": token or None})
            yield from page.get(key) or []
            token = str(page.get("next_page_token") or "")
            if not token:
                return
            if token in seen:
                raise ApiError(f"{shown(self.url)} sends the same page of {path} again and again", fix="Update KFP")
            seen.add(token)

    def stream(self, path: str, **query: object) -> Iterator[str]:
        """The lines of a text that may go on.

        Only its opening is tried again: who follows a log knows which lines it has seen. The log reader says HTTP 500
        for whatever it does not find, so that is no fault that passes.

        Raises:
            ApiError: also when the text is cut; it may be opened again.
        """
        response = self._ask("GET", path, lambda found: found, query=query, again=True, final=(500,), stream=True)
        try:
            for line in response.lines():
                yield line.decode("utf-8", errors="replace")
        finally:
            response.close()

    def grpc_web(self, service: str, method: str, message: bytes) -> bytes:
        """A unary gRPC-web call, such as of `ml_metadata.MetadataStoreService`; gives the response's message.

        It is repeated after faults when the method's name begins with Get. Kubeflow has the metadata service at the
        root of the host and not below `/pipeline`: both are tried.

        Raises:
            ApiError: `code` is gRPC's, and `status` what HTTP would say for it; 404 without a code: this host has
                no such service.
        """
        path, base = f"/{service}/{method}", self._open()
        roots = list(dict.fromkeys([self._metadata_base or base, base, _root(base)]))
        for root in roots:
            try:
                found = self._ask(
                    "POST",
                    path,
                    message_of,
                    base=root,
                    again=method.startswith("Get"),
                    body=framed(message),
                    headers=HEADERS,
                )
            except GrpcError:
                self._metadata_base = root
                raise
            except ApiError as error:
                if error.status not in (404, 405, 501):
                    raise
                continue
            self._metadata_base = root
            return found
        raise ApiError(f"{shown(_root(base))} has no {service}", fix="Let its gateway route that path too", status=404)

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Response], T],
        *,
        again: bool = False,
        final: tuple[int, ...] = (),
        repeated: Callable[[], None] = lambda: None,
        base: str | None = None,
        **options: Any,
    ) -> T:
        """One request, repeated while its faults pass and it may be."""
        found = self._open() if base is None else base
        return self._retry.run(
            lambda: read(self._send(method, found, path, **options)), again=again, final=final, repeated=repeated
        )

    def _send(
        self,
        method: str,
        base: str,
        path: str,
        *,
        query: dict[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        **content: Any,
    ) -> Response:
        """One attempt."""
        response = self._client.send(
            method,
            base + path,
            query={name: _text(value) for name, value in (query or {}).items() if value is not None},
            headers={"Accept": "application/json", **(headers or {})},
            stream=stream,
            read_limit=_SILENCE if stream else READ_LIMIT,
            **content,
        )
        if refusal := wants_sign_in(response):
            raise self._refused(refusal)
        if not response.ok:
            raise error_of(response, f"{method} {path}", self._sign_in.who, self._inputs.namespace)
        return response

    def _refused(self, refusal: str) -> ApiError:
        why, method = f"It responded with {refusal}", self._inputs.kfp_sign_in
        if method == "none":
            fix = "Set `kfp-sign-in` and what it needs"
            return ApiError(f"{shown(self.url)} requires a sign-in", why=why, fix=fix, status=401)
        what = f"{shown(self.url)} refused the sign-in `{method}`"
        return ApiError(what, why=why, fix=self._sign_in.fix, status=401)

    def _open(self) -> str:
        """Where the API is, found out with the first request: at the URL, or below `/pipeline` of a Kubeflow."""
        with self._lock:
            if self._base is None:
                self._base = self._find()
            return self._base

    def _find(self) -> str:
        problem: ApiError | None = None
        for base in dict.fromkeys([self.url, self.url if self.url.endswith("/pipeline") else f"{self.url}/pipeline"]):
            try:
                health = self._ask("GET", _HEALTH, json_of, base=base, again=True)
            except ApiError as error:
                if error.status not in (401, 403, 404, 405) or not error.sent:
                    raise
                problem = problem if problem is not None and problem.status != 404 else error
                continue
            found = health.get("multi_user", health.get("apiServerMultiUser"))
            self._several_users = found if isinstance(found, bool) else None
            if self._several_users and not self._inputs.namespace:
                raise BadInput(f"{shown(base)} serves several users, and no namespace was named", fix="Set `namespace`")
            self.url = base
            return base
        assert problem is not None
        if problem.status == 404:
            why = f"It has neither {_HEALTH} nor /pipeline{_HEALTH}; a KFP older than 2.0 has not, either"
            what = f"{shown(self.url)} is not a Kubeflow Pipelines"
            raise ApiError(what, why=why, fix="Check `kfp-host`", status=404)
        raise problem


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
