"""A registry, through its HTTP API: which manifest a tag names, one more tag for it, blobs, and new manifests.

API: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
Tokens: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urljoin

import urllib3

from ..http.client import HttpClient, Response
from ..http.faults import HttpError, Remedies, shown
from ..http.retry import Retry
from ..http.tls import Tls, machine_authority
from ..waiting import Clock
from .login import Credentials
from .names import HUB, ImageName

Say = Callable[[str], None]

PATIENCE = 300.0
"""Seconds that we wait in all when a registry fails, or asks for it (429 with Retry-After)."""

FIRST_PATIENCE = 5.0
"""Seconds that one is asked again that never responded: it is more likely named wrongly than restarting."""

_REDIRECTS = 3  # that are followed; registry.k8s.io leads to one near the client
_UPLOAD_LIMIT = 600.0  # seconds in which a registry must have read and hashed a blob
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True)
class Manifest:
    """What a tag names.

    Attributes:
        digest: of the body, `sha256:…`.
        media_type: of the body.
        body: as the registry has it.
    """

    digest: str
    media_type: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of the configuration and layers, compressed; 0 for an index of several platforms."""
        content = json.loads(self.body)
        parts = [content["config"], *content.get("layers", [])] if "config" in content else []
        return sum(int(part["size"]) for part in parts)


class Registry:
    """One image's place in its registry.

    Args:
        image: which.
        credentials: of a user, or None.
        environ: variables, for proxies and CA bundles.
        insecure: whether plain HTTP, or TLS without a check, may be spoken, as Docker does on the machine itself.
        say: told why we wait.
        clock: for pauses.
    """

    def __init__(
        self,
        image: ImageName,
        credentials: Credentials | None,
        environ: Mapping[str, str],
        *,
        insecure: bool,
        say: Say,
        clock: Clock = Clock(),  # noqa: B008 - it has no state
    ) -> None:
        self._image, self._peer = image, f"the registry {image.registry}"
        self._host = "registry-1.docker.io" if image.registry == HUB else image.registry
        self._schemes = ["https", "http"] if insecure else ["https"]
        tls = Tls(authority=machine_authority(environ), insecure=insecure)
        remedies = Remedies(address="Check `image`, and that the registry is up")

        self._bare = HttpClient(environ, tls=lambda: tls, remedies=remedies, clock=clock)
        login = _Login(image, credentials, self._bare)
        self._client = HttpClient(environ, tls=lambda: tls, auth=login, peer=self._peer, remedies=remedies, clock=clock)
        self._retry = Retry(self._peer, clock, patience=PATIENCE, first=FIRST_PATIENCE, say=say)

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest of a tag; None if there is none that these credentials may see.

        Raises:
            HttpError: the registry cannot be reached or fails.
        """
        response = self._ask("GET", f"manifests/{reference}", absent=True, headers={"Accept": _MANIFESTS})
        if response is None:
            return None
        content = response.content
        digest = response.headers.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(content).hexdigest()}"
        return Manifest(digest, response.headers["Content-Type"].split(";")[0], content)

    def has(self, reference: str) -> bool:
        """Whether there is such a tag. Cheap: no manifest is sent.

        Raises:
            HttpError: the registry cannot be reached or fails.
        """
        return self._ask("HEAD", f"manifests/{reference}", absent=True, headers={"Accept": _MANIFESTS}) is not None

    def tag(self, manifest: Manifest, tag: str) -> None:
        """Let a tag name a manifest that the registry has.

        Raises:
            HttpError: it is refused.
        """
        headers = {"Content-Type": manifest.media_type}
        self._ask("PUT", f"manifests/{tag}", headers=headers, body=manifest.body)

    def read(self, digest: str) -> bytes:
        """A small blob, such as an image's configuration.

        Raises:
            HttpError: it is not there, or not what its digest says.
        """
        response = self._ask("GET", f"blobs/{digest}", headers={})
        assert response is not None
        if f"sha256:{hashlib.sha256(response.content).hexdigest()}" != digest:
            raise HttpError(f"{self._peer} sent something else than {digest}")
        return response.content

    def download(self, digest: str, file: IO[bytes]) -> None:
        """Write a blob to a file, from its beginning.

        Raises:
            HttpError: it is not there, the connection broke, or it is not what its digest says.
        """

        def attempt() -> None:
            response = self._send("GET", f"blobs/{digest}", {}, stream=True)
            if not response.ok:
                raise self._error(response)
            found = hashlib.sha256()
            file.seek(0)
            file.truncate()
            for piece in response.pieces():
                found.update(piece)
                file.write(piece)
            if f"sha256:{found.hexdigest()}" != digest:
                raise HttpError(f"{self._peer} sent something else than {digest}", transient=True)

        self._retry.run(attempt)

    def take(self, digest: str, there: ImageName, blob: Callable[[], IO[bytes]]) -> bool:
        """Let the image's place have a blob; whether it had to be uploaded.

        Args:
            digest: of the blob.
            there: an image that may have it; in the same registry it is taken from there.
            blob: opens it; asked only if it must be sent.

        Raises:
            HttpError: it is refused.
        """
        if self._ask("HEAD", f"blobs/{digest}", headers={}, absent=True) is not None:
            return False
        same = there.registry == self._image.registry and there.path != self._image.path
        mount = f"?mount={digest}&from={quote(there.path, safe='')}" if same else ""

        def attempt() -> bool:
            begun = self._send("POST", f"blobs/uploads/{mount}", {"Content-Length": "0"})
            if begun.status == 201:
                return False
            if not begun.ok:
                raise self._error(begun)
            to = urljoin(begun.url, begun.headers["Location"])
            to += ("&" if "?" in to else "?") + f"digest={digest}"
            with blob() as file:
                size = file.seek(0, 2)
                file.seek(0)
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
                done = self._client.send("PUT", to, headers=headers, body=file, read_limit=_UPLOAD_LIMIT)
            if not done.ok:
                raise self._error(done)
            return True

        return self._retry.run(attempt)

    def _ask(
        self, method: str, what: str, *, headers: Mapping[str, str], absent: bool = False, body: bytes | None = None
    ) -> Response | None:
        """A request, repeated while its faults pass; None if `absent` and it is not there, or not shown."""

        def attempt() -> Response | None:
            response = self._send(method, what, headers, body=body)
            if response.ok:
                return response
            if absent and response.status in (400, 401, 403, 404):
                return None
            raise self._error(response)

        return self._retry.run(attempt)

    def _error(self, response: Response) -> HttpError:
        name, words = self._image.registry, _words(response)
        if response.status in (401, 403):
            fix = "Check `registry-username` and `registry-password`, and that this user may write there"
            return HttpError(f"{name} refused the login", why=words, fix=fix, **response.facts)
        if response.status == 429:
            wait = response.facts["retry_after"]
            why = f"It asks to wait {wait:.0f} s" if wait else words
            fix = "Run this again later, or log in: known users may ask more often"
            return HttpError(f"{name} gets too many requests", why=why, fix=fix, **response.facts)
        return HttpError(f"The registry {name} failed", why=words, **response.facts)

    def _send(
        self, method: str, what: str, headers: Mapping[str, str], *, stream: bool = False, **content: Any
    ) -> Response:
        """One request, by the first scheme that works. Redirects of reading are followed, without the login."""
        problem: HttpError | None = None
        for scheme in self._schemes:
            url = f"{scheme}://{self._host}/v2/{self._image.path}/{what}"
            try:
                response = self._client.send(method, url, headers=headers, stream=stream, **content)
                for _ in range(_REDIRECTS if method in ("GET", "HEAD") else 0):
                    if not response.location.startswith(scheme):
                        break
                    response.close()
                    response = self._bare.send(method, response.location, headers=headers, stream=stream)
            except HttpError as error:
                problem = problem or error
                continue
            self._schemes = [scheme]
            return response
        assert problem is not None
        raise problem


class _Login:
    """The sign-in that a registry's challenge asks for.

    Args:
        image: what it is for.
        credentials: of a user, or None.
        client: for requests of its own.
    """

    def __init__(self, image: ImageName, credentials: Credentials | None, client: HttpClient) -> None:
        self._image, self._credentials, self._client = image, credentials, client
        self._headers: dict[str, str] = {}

    def headers(self) -> Mapping[str, str]:
        """What the last challenge asked for."""
        return self._headers

    def wanted(self, response: Response) -> bool:
        """Whether it is a challenge."""
        return response.status == 401

    def refresh(self, response: Response, refused: Mapping[str, str]) -> bool:
        """Take what the challenge asks for; whether there is anything to try."""
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        basic: dict[str, str] = {}
        if self._credentials:
            pair = f"{self._credentials.username}:{self._credentials.password}"
            basic = {"Authorization": urllib3.make_headers(basic_auth=pair)["authorization"]}
        if scheme.lower() == "basic" and basic:
            self._headers = basic
            return True
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() != "bearer" or not challenge.get("realm"):
            return False
        realm = challenge["realm"]
        if response.url.startswith("https:") and not realm.startswith("https:"):
            why = f"It asks for tokens at {shown(realm)}, and a password would go there unencrypted"
            raise HttpError(f"The login of {self._image.registry} is not safe", why=why, fix="Use https for its realm")
        query = {"service": challenge.get("service", "")}
        query["scope"] = f"repository:{self._image.path}:pull" + (",push" if basic else "")
        token = self._client.send("GET", realm, query=query, headers=basic)
        if token.facts["transient"]:
            raise HttpError(f"{shown(realm)} failed to give a token", why=_words(token), **token.facts)
        content = token.json()
        found = content.get("token") or content.get("access_token") if token.ok and isinstance(content, dict) else ""
        self._headers = {"Authorization": f"Bearer {found}"} if found else {}
        return bool(found)


def _words(response: Response) -> str:
    content = response.json()
    try:
        text = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in content["errors"])
    except (KeyError, TypeError, AttributeError):
        text = response.text[:200].strip()
    return f"HTTP {response.status} {text}".strip()
