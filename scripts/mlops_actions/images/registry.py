"""A registry, through its HTTP API: which manifest a tag names, and one more tag for it, with no layer moved.

API: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
Tokens: https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from .. import waiting
from ..errors import RemoteFailed
from .engine import Say, TooManyRequests
from .login import Credentials
from .names import HUB, ImageName

PATIENCE = 300.0
"""Seconds that we wait in all when a registry asks for it (429 with Retry-After)."""

_TIMEOUT = (10, 60)
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
        insecure: whether plain HTTP, or TLS without a check, may be spoken, as Docker does on the machine itself.
        say: told why we wait.
        wait: sleeps for a number of seconds.
    """

    def __init__(
        self,
        image: ImageName,
        credentials: Credentials | None,
        *,
        insecure: bool,
        say: Say,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._image, self._credentials, self._say, self._wait = image, credentials, say, wait
        self._host = "registry-1.docker.io" if image.registry == HUB else image.registry
        self._schemes, self._secure = (["https", "http"], False) if insecure else (["https"], True)
        self._session = requests.Session()
        self._authorization = ""

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest of a tag; None if there is none that these credentials may see.

        Raises:
            RemoteFailed: the registry cannot be reached or fails.
        """
        answer = self._ask("GET", reference, headers={"Accept": _MANIFESTS})
        if answer.status_code in (400, 401, 403, 404):
            return None
        self._expect(answer, 200)
        digest = answer.headers.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        return Manifest(digest, answer.headers["Content-Type"].split(";")[0], answer.content)

    def has(self, reference: str) -> bool:
        """Whether there is such a tag. Cheap: no manifest is sent.

        Raises:
            RemoteFailed: the registry cannot be reached or fails.
        """
        answer = self._ask("HEAD", reference, headers={"Accept": _MANIFESTS})
        if answer.status_code in (400, 401, 403, 404):
            return False
        self._expect(answer, 200)
        return True

    def tag(self, manifest: Manifest, tag: str) -> None:
        """Let a tag name a manifest that the registry has.

        Raises:
            RemoteFailed: it is refused.
        """
        answer = self._ask("PUT", tag, headers={"Content-Type": manifest.media_type}, data=manifest.body)
        self._expect(answer, 201)

    def _expect(self, answer: requests.Response, status: int) -> None:
        if answer.status_code == status:
            return
        if answer.status_code in (401, 403):
            raise RemoteFailed(
                f"{self._image.registry} refused the login",
                why=_words(answer),
                fix="Check `registry-username` and `registry-password`, and that this user may write there",
            )
        raise RemoteFailed(f"The registry {self._image.registry} failed", why=_words(answer))

    def _ask(self, method: str, reference: str, **options: Any) -> requests.Response:
        """One request; logs in when asked to, and waits as long as it is told to."""
        waited = 0.0
        while True:
            answer = self._send(method, reference, **options)
            if answer.status_code == 401 and self._log_in(answer):
                answer = self._send(method, reference, **options)
            if answer.status_code != 429:
                return answer
            seconds = retry_after(answer.headers.get("Retry-After", ""))
            if waited + seconds > PATIENCE:
                raise TooManyRequests(
                    f"{self._image.registry} gets too many requests and asks to wait {seconds:.0f} s",
                    fix="Run this again later, or log in: known users may ask more often",
                )
            self._say(f"{self._image.registry} gets too many requests and asks to wait {seconds:.0f} s")
            self._wait(seconds)
            waited += seconds

    def _send(self, method: str, reference: str, **options: Any) -> requests.Response:
        headers = {**options.pop("headers", {}), "Authorization": self._authorization or None}
        problem: Exception | None = None
        for scheme in self._schemes:
            url = f"{scheme}://{self._host}/v2/{self._image.path}/manifests/{reference}"
            try:
                answer = self._session.request(
                    method, url, headers=headers, timeout=_TIMEOUT, verify=self._secure, **options
                )
            except requests.RequestException as error:
                problem = error
                continue
            self._schemes = [scheme]
            return answer
        raise RemoteFailed(
            f"The registry {self._image.registry} cannot be reached",
            why=_plain(problem),
            fix="Check `image` and that the registry is up",
        ) from problem

    def _log_in(self, answer: requests.Response) -> bool:
        """Take what the registry's challenge asks for; whether there is anything to try."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        basic = (self._credentials.username, self._credentials.password) if self._credentials else None
        if scheme.lower() == "basic" and basic:
            self._authorization = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
            return True
        if scheme.lower() != "bearer":
            return False
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        scope = f"repository:{self._image.path}:pull" + (",push" if basic else "")
        try:
            token = self._session.get(
                challenge["realm"],
                params={"service": challenge.get("service", ""), "scope": scope},
                auth=basic,
                timeout=_TIMEOUT,
            )
            content = token.json()
        except (KeyError, ValueError, requests.RequestException):
            return False
        found = content.get("token") or content.get("access_token") if token.ok else ""
        self._authorization = f"Bearer {found}" if found else ""
        return bool(found)


def retry_after(value: str) -> float:
    """Seconds that a registry asks to wait by `Retry-After`; 10 if it says nothing."""
    return waiting.retry_after(value, 10.0)


def _words(answer: requests.Response) -> str:
    try:
        errors = answer.json()["errors"]
        text = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.text[:200].strip()
    return f"HTTP {answer.status_code} {text}".strip()


def _plain(error: Exception | None) -> str:
    text = str(error)
    found = re.search(r"(\[Errno -?\d+\] )?([A-Z][\w ]+(?:refused|known|timed out|unreachable|reset by peer))", text)
    return found[2] if found else text
