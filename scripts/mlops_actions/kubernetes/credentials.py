"""Credentials that are asked for anew when they run out: token files that rotate, programs, certificates.

Programs: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from urllib3 import HTTPHeaderDict

from ..errors import BadInput, RemoteFailed
from ..http.client import Response
from ..http.tokens import claims_of
from ..waiting import Clock
from .kubeconfig import Plugin, User

_FRESH = 60.0
"""Seconds that a file's token is used before the file is read again (the kubelet replaces it long before its end)."""

_EARLY = timedelta(seconds=30)
"""What a program gave is asked for anew so long before it expires."""

_PROGRAM_LIMIT = 120.0
"""Seconds that a program may take: some sign in over a slow network."""


class Credentials:
    """What a user signs in with, at this moment. May be used by several threads.

    Args:
        user: from the kubeconfig.
        environ: variables for the program.
        clock: tells how old a token is.
    """

    def __init__(self, user: User, environ: Mapping[str, str], clock: Clock) -> None:
        self._user, self._environ, self._clock = user, environ, clock
        self._lock = threading.Lock()
        self._token, self._read_at = "", float("-inf")
        self._given: Mapping[str, Any] = {}

    def headers(self) -> HTTPHeaderDict:
        """Headers of a request.

        Raises:
            BadInput: a file or a program is missing.
            RemoteFailed: the program failed.
        """
        with self._lock:
            token = self._current_token()
        headers = HTTPHeaderDict()
        if token:
            headers.add("Authorization", f"Bearer {token}")
        elif self._user.basic:
            headers.add("Authorization", "Basic " + base64.b64encode(self._user.basic.encode()).decode())
        for name, value in self._user.impersonate:
            headers.add(name, value)
        return headers

    def certificate(self) -> tuple[str, str]:
        """The client certificate and its key, as PEM; empty if there is none. Raises as `headers` does."""
        with self._lock:
            self._current_token()
            given = self._given
        if given.get("clientCertificateData"):
            return str(given["clientCertificateData"]), str(given.get("clientKeyData") or "")
        return self._user.certificate.read(), self._user.key.read()

    def wanted(self, response: Response) -> bool:
        """Whether the server refused them."""
        return response.status == 401

    def refresh(self, response: Response, refused: Mapping[str, str]) -> bool:
        """Forget what may have run out, for the server refused it; whether another try is worth it: always."""
        with self._lock:
            self._read_at, self._given = float("-inf"), {}
        return True

    def why_refused(self) -> str:
        """What speaks against the credentials, such as that they have expired; "" if nothing is known."""
        expiry, what = _token_expiry(self._token), "The token"
        if not self._token:
            expiry, what = _certificate_expiry(self.certificate()[0]), "The client certificate"
        if not self._token and not expiry and not self._user.basic and not self._user.certificate:
            return "The kubeconfig's context has no user, or a user without credentials"
        if expiry and expiry <= datetime.now(timezone.utc):
            return f"{what} expired on {expiry:%Y-%m-%d at %H:%M} UTC"
        return ""

    def _current_token(self) -> str:
        user = self._user
        if user.plugin is not None and not user.token:
            expiry = _parse(str(self._given.get("expirationTimestamp") or ""))
            if not self._given or (expiry and expiry - _EARLY <= datetime.now(timezone.utc)):
                self._given = ask(user.plugin, self._environ)
            self._token = str(self._given.get("token") or "")
        elif self._clock.now() - self._read_at >= _FRESH:
            self._token, self._read_at = user.token.read(), self._clock.now()
        return self._token


def ask(plugin: Plugin, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Call the program that gives credentials, and return the `status` that it prints.

    Raises:
        BadInput: the program does not exist.
        RemoteFailed: it failed, or printed something else; with its own last words.
    """
    told: dict[str, Any] = {"interactive": False, **({"cluster": dict(plugin.cluster)} if plugin.cluster else {})}
    info = {"apiVersion": plugin.version, "kind": "ExecCredential", "spec": told}
    settings = {**environ, **plugin.environ, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    # Popen looks a name up on the PATH of the variables that it is given; on Windows on our own.
    try:
        done = subprocess.run(
            [plugin.command, *plugin.arguments],
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROGRAM_LIMIT,
            check=False,
        )
    except OSError as error:
        raise BadInput(
            f"Cannot run the program `{plugin.command}`, which the kubeconfig names for credentials",
            why="It is not installed here" if isinstance(error, FileNotFoundError) else os.strerror(error.errno or 0),
            fix=plugin.hint or "Install it before this step, or use a kubeconfig with a service account's token",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise RemoteFailed(
            f"The program `{plugin.command}`, which gives the cluster's credentials, took over {_PROGRAM_LIMIT:.0f} s"
        ) from error
    words = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode:
        raise RemoteFailed(
            f"The program `{plugin.command}`, which gives the cluster's credentials, failed with {done.returncode}",
            why=words[-1] if words else "It printed nothing",
            fix="Sign in to the cloud before this step, and check the variables that it needs",
            log="\n".join(words[-40:]),
        )
    try:
        printed = json.loads(done.stdout)
        status = printed["status"]
        if not status.get("token") and not (status.get("clientCertificateData") and status.get("clientKeyData")):
            raise ValueError("it has neither a token nor a certificate with its key")
        if printed.get("apiVersion") != plugin.version:
            raise ValueError(f"expected {plugin.version}, as in the kubeconfig, got {printed.get('apiVersion')}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "it is not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        raise RemoteFailed(
            f"The output of the program `{plugin.command}` is not an ExecCredential",
            why=reason,
            log="\n".join(words[-40:]),
        ) from error
    found: Mapping[str, Any] = status
    return found


def _parse(timestamp: str) -> datetime | None:
    try:
        return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None


def _token_expiry(token: str) -> datetime | None:
    """When a JSON web token ends; None for another kind of token."""
    try:
        return datetime.fromtimestamp(float(claims_of(token)["exp"]), timezone.utc)
    except (ValueError, KeyError, TypeError):
        return None


def _certificate_expiry(pem: str) -> datetime | None:
    from cryptography import x509  # only when the server has refused

    try:
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    except ValueError:
        return None
