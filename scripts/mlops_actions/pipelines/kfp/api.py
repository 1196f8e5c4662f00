"""Kubeflow Pipelines' (KFP) REST API, for as long as a run takes: signs in, tries again, and says what is wrong.

Why not `kfp.Client`, or the generated `kfp_server_api` below it: their classes refuse states that they do not know
(kubeflow/pipelines issue 14473), they stop at the first 5xx, they keep a token until it has expired, they have no time
limits, and the log reader and the metadata service are not in them. What they save us is the paths.

Descriptions: v2beta1 of https://github.com/kubeflow/pipelines/tree/master/backend/api/v2beta1/swagger
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from urllib3.exceptions import HTTPError as UrllibError

from ...errors import BadInput
from ...waiting import Backoff, Clock
from .answers import Json, error_of, json_of, page_title, wants_sign_in
from .connection import READ, ApiError, Connection, Host, fault, shown
from .grpc_web import HEADERS, GrpcError, framed, message_of
from .sign_in import SignIn, Tools

if TYPE_CHECKING:
    from ...kubernetes.objects import Cluster

__all__ = ["ApiError", "Host", "Json", "KfpApi"]

PATIENCE = 300.0
"""Seconds that a server may be away once it has answered, before we give up."""
FIRST_PATIENCE = 20.0
"""Seconds that it may be away before its first answer: it is more likely a wrong host than a restart."""
PAGE_SIZE = 100
_SILENCE = 120.0  # seconds without a byte after which a followed log is taken for cut
_HEALTH = "/apis/v2beta1/healthz"

T = TypeVar("T")


class KfpApi:
    """One KFP. It may be used by several threads.

    Faults that pass (no connection, a cut answer, 408, 429, 5xx) are waited out if the request may be repeated: GET
    and DELETE always, a POST when `again` says so or when it never reached the server. A sign-in that was refused is
    refreshed once a request.

    Args:
        host: how to reach it.
        cluster: the Kubernetes cluster, for the sign-in `kubernetes`.
        clock: what pauses are measured with.
        hide: told every secret that comes up, before anything is printed.
        say: told once when the server is away, and once when it is back.
        patience: seconds that it may be away; may be set to less when there is no time left.

    Attributes:
        url: where it is: `/pipeline` is added when that is found out.
        requests: how many were sent.

    Raises (all methods):
        ApiError: the server cannot be reached, refuses or fails.
        BadInput: the URL, a certificate or the sign-in cannot be used.
    """

    def __init__(
        self,
        host: Host,
        *,
        cluster: Callable[[], Cluster] | None = None,
        clock: Clock = Clock(),  # noqa: B008 - it has no state
        hide: Callable[[str], None] | None = None,
        say: Callable[[str], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        self.url = _normal(host.url)
        self.requests = 0
        self.patience = patience
        self._host, self._clock, self._say = host, clock, say
        self._connection = Connection(host)
        self._sign_in = SignIn(Tools(host, self.url, self._connection, hide or (lambda _: None), cluster), clock)
        self._lock = threading.RLock()
        self._base: str | None = None
        self._metadata_base: str | None = None
        self._several_users: bool | None = None
        self._away_since: float | None = None

    @property
    def namespace(self) -> str:
        """The namespace that requests must name: "" where KFP serves one user, whatever `Host` says."""
        self._open()
        return "" if self._several_users is False else self._host.namespace

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
        return self._ask("POST", path, json_of, query=query, files={"uploadfile": (filename, file)})

    def pages(self, path: str, key: str, **query: object) -> Iterator[Json]:
        """All items of a list, page after page: those under `key` of each answer."""
        token, seen = "", set()
        query.setdefault("page_size", PAGE_SIZE)
        while True:
            page = self.get(path, **{**query, "page_token": token or None})
            yield from page.get(key) or []
            token = str(page.get("next_page_token") or "")
            if not token:
                return
            if token in seen:
                raise ApiError(f"{shown(self.url)} gives the same page of {path} again and again", fix="Update KFP")
            seen.add(token)

    def stream(self, path: str, **query: object) -> Iterator[str]:
        """The lines of a text that may go on.

        Only its opening is tried again: who follows a log knows which lines it has seen. The log reader says HTTP 500
        for whatever it does not find, so that is no fault that passes.

        Raises:
            ApiError: also when the text is cut; it may be opened again.
        """
        answer = self._ask(
            "GET",
            path,
            lambda answer: answer,
            query=query,
            again=True,
            final=(500,),
            stream=True,
            read_timeout=_SILENCE,
            headers={"Accept-Encoding": "identity"},
        )
        with answer:
            try:
                yield from _lines(answer)
            except UrllibError as error:
                raise fault(error, answer.url) from error

    def grpc_web(self, service: str, method: str, message: bytes) -> bytes:
        """A unary gRPC-web call, such as of `ml_metadata.MetadataStoreService`; gives the answer's message.

        It is repeated after faults when the method's name begins with Get. Kubeflow has the metadata service at the
        root of the host and not below `/pipeline`: both are tried.

        Raises:
            ApiError: `code` is gRPC's, and `status` what HTTP would say for it; 404 without a code: there is no such
                service at this host.
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
                    no_pages=True,
                    data=framed(message),
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
        read: Callable[[requests.Response], T],
        *,
        again: bool = False,
        final: tuple[int, ...] = (),
        repeated: Callable[[], None] = lambda: None,
        base: str | None = None,
        **options: Any,
    ) -> T:
        """One request, repeated while its faults pass and it may be."""
        base = self._open() if base is None else base
        since: float | None = None
        backoff = Backoff()
        while True:
            try:
                found = read(self._answer(method, base, path, **options))
            except ApiError as error:
                if not error.transient or error.status in final or not (again or not error.sent or error.status == 429):
                    raise
                since = self._clock.now() if since is None else since
                self._wait_out(error, since, backoff)
                repeated()
            else:
                self._answered()
                return found

    def _answer(
        self,
        method: str,
        base: str,
        path: str,
        *,
        query: dict[str, object] | None = None,
        no_pages: bool = False,
        **options: Any,
    ) -> requests.Response:
        """One attempt, with one more after a sign-in that was refused and could be refreshed.

        With `no_pages` a web page says that nothing else is there, and not that a sign-in is wanted.
        """
        params = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        headers = {"Accept": "application/json", **options.pop("headers", {})}
        read_timeout = options.pop("read_timeout", READ)
        for attempt in (1, 2):
            credentials = self._sign_in.headers()
            with self._lock:
                self.requests += 1
            answer = self._connection.send(
                method,
                base + path,
                params=params,
                headers={**headers, **credentials},
                read_timeout=read_timeout,
                **options,
            )
            if no_pages and answer.ok and page_title(answer) is not None:
                raise ApiError(f"{shown(base)} has no {path}", status=404)
            refusal = wants_sign_in(answer)
            if not refusal:
                break
            answer.close()
            if attempt == 2 or not self._sign_in.refresh(credentials):
                raise self._refused(answer, refusal)
        if not answer.ok:
            raise error_of(answer, f"{method} {path}", self._sign_in.who, self._host.namespace)
        return answer

    def _refused(self, answer: requests.Response, refusal: str) -> ApiError:
        if self._host.sign_in == "none":
            return ApiError(
                f"{shown(self.url)} wants a sign-in",
                why=f"It answered {refusal}",
                fix="Set `kfp-sign-in` and what it needs",
                status=401,
            )
        return ApiError(
            f"{shown(self.url)} refused the sign-in `{self._host.sign_in}`",
            why=f"It answered {refusal}",
            fix=self._sign_in.fix,
            status=401,
        )

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
            if self._several_users and not self._host.namespace:
                raise BadInput(f"{shown(base)} serves several users, and no namespace was named", fix="Set `namespace`")
            self.url = base
            return base
        assert problem is not None
        if problem.status == 404:
            why = f"It has neither {_HEALTH} nor /pipeline{_HEALTH}; a KFP older than 2.0 has not, either"
            raise ApiError(f"{shown(self.url)} is no Kubeflow Pipelines", why=why, fix="Check `kfp-host`", status=404)
        raise problem

    def _wait_out(self, error: ApiError, since: float, backoff: Backoff) -> None:
        """Wait before the next attempt, or give up."""
        patience = self.patience if self._base is not None else min(self.patience, FIRST_PATIENCE)
        pause = max(backoff.pause(), error.retry_after)
        away = self._clock.now() - since
        if away + pause > patience:
            error.what = f"{error.what} (tried for {away:.0f} s)"
            raise error
        with self._lock:
            said, self._away_since = self._away_since is not None, self._away_since or since
        if not said:
            self._say(f"{error.what}: {error.why or error.message}. Trying again for up to {patience:.0f} s")
        self._clock.wait(pause)

    def _answered(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            self._say(f"{shown(self.url)} answers again, after {self._clock.now() - since:.0f} s")


def _normal(url: str) -> str:
    """The URL without what people copy with it from a browser: a fragment, a query, a slash at the end.

    Raises:
        BadInput: it is no URL of a server, or has a password in it.
    """
    fix = "Set `kfp-host` to the URL of Kubeflow Pipelines, such as `https://kubeflow.example.com`"
    if not url:
        raise BadInput("No Kubeflow Pipelines is named", fix=fix)
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(f"`kfp-host`: {url.split('?')[0].rpartition('@')[2]!r} is no URL", fix=fix)
    if "@" in parts.netloc:
        raise BadInput("`kfp-host` has a user in it", fix="Leave it out, and set `kfp-sign-in` and `kfp-token`")
    path = parts.path.partition("/apis/")[0].rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _lines(answer: requests.Response) -> Iterator[str]:
    """The lines of a text, each as soon as it is there, however the server cuts its text into pieces."""
    rest = b""
    while piece := answer.raw.read1(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", errors="replace").removesuffix("\r")
    if rest:
        yield rest.decode("utf-8", errors="replace").removesuffix("\r")


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
