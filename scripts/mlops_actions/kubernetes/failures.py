"""What a cluster answers when something is wrong, in words that say what to do.

Answers: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from typing import Any

from urllib3 import exceptions as http

from ..errors import BadInput, MlopsError, RemoteFailed
from ..waiting import retry_after

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of an API server, or of what is in front of it, that is busy, starting or losing its etcd."""

RIGHTS = "Give it that right: `mlops rbac` prints a manifest with all that is needed, for an administrator to apply"

_X509_EXPIRED, _X509_NOT_YET, _X509_HOST, _X509_ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_…


class ClusterFailed(RemoteFailed):
    """The cluster failed, refused or cannot be reached.

    Attributes:
        status: of the HTTP answer; 0 when there was none.
        reason: Kubernetes' own word, such as `Forbidden` or `Expired`; "" if it said none.
        wait: seconds that it asks to wait before another try; 0 if it does not.
        transient: whether another try may help.
    """

    status = 0
    reason = ""
    wait = 0.0
    transient = False


class Refused(BadInput):
    """The cluster found fault with an object. `status` and `reason` as in `ClusterFailed`."""

    status = 0
    reason = ""


@dataclass(frozen=True)
class Asked:
    """What a request was about, for messages.

    Attributes:
        verb: as in RBAC: get, list, watch, create, patch, delete.
        resource: its plural and group, such as `experiments.kubeflow.org`.
        name, namespace: "" where there is none.
    """

    verb: str
    resource: str = ""
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{' ' + self.name if self.name else ''}{where}"


def status_of(body: bytes) -> dict[str, Any]:
    """The `Status` that an answer has; empty if it has none."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) and content.get("kind") == "Status" else {}


def is_absent(status: int, body: bytes, asked: Asked) -> bool:
    """Whether an answer says that the object is not there: not its namespace, and not its kind."""
    details = status_of(body).get("details") or {}
    plural = asked.resource.partition(".")[0].partition("/")[0]
    return status == 404 and details.get("name") == asked.name and details.get("kind") in (plural, None)


def refusal(server: str, asked: Asked, status: int, body: bytes, after: str = "") -> MlopsError:
    """The error that an answer is; `after` is its `Retry-After`."""
    said = status_of(body)
    message = str(said.get("message") or body[:300].decode(errors="replace").strip())
    reason = str(said.get("reason") or "")
    error = _refusal(server, asked, status, reason, message, said.get("details") or {})
    error.status, error.reason = status, reason
    if isinstance(error, ClusterFailed):
        error.transient = status in TRANSIENT
        error.wait = retry_after(after)
    return error


def _refusal(
    server: str, asked: Asked, status: int, reason: str, message: str, details: dict[str, Any]
) -> ClusterFailed | Refused:
    if status == 500 and "typed patch object" in message:  # the API server's answer to a field of a wrong type
        return Refused(f"The cluster refused to {asked}", why=message)
    hook = re.search(r'admission webhook "([^"]+)" denied the request:? *(.*)', message, re.DOTALL)
    if hook:
        return Refused(f"The cluster's {hook[1]} refused to {asked}", why=hook[2] or message)
    if status == 401:
        fix = "Store a kubeconfig, or a token, that is still valid"
        return ClusterFailed(f"The cluster {server} does not accept the credentials", why=message, fix=fix)
    if status == 403:
        return _forbidden(asked, message)
    if status == 404:
        return _not_found(server, asked, message, details)
    if status == 409 and reason == "Conflict":
        return ClusterFailed(
            f"The cluster refused to {asked}",
            why=message,
            fix="Another tool set these fields: leave them to it, or let it go of them",
        )
    if status in (400, 409, 413, 415, 422):
        return Refused(f"The cluster refused to {asked}", why=message)
    if status in TRANSIENT:
        return ClusterFailed(f"The cluster {server} failed to {asked}", why=f"HTTP {status} {message}".strip())
    if status == 410:
        return ClusterFailed(f"The cluster {server} has forgotten what it was asked about", why=message)
    return ClusterFailed(
        f"The cluster {server} did not {asked}",
        why=f"HTTP {status} {message}".strip(),
        fix="Check that the kubeconfig's `server` is a Kubernetes API, and not a page in front of it",
    )


def _forbidden(asked: Asked, message: str) -> ClusterFailed | Refused:
    quota = re.search(r"exceeded quota: (.*)", message)
    if quota:
        fix = "Ask for less, wait until others have ended, or have the quota raised"
        return ClusterFailed(f"The quota of the namespace {asked.namespace} is used up", why=quota[1], fix=fix)
    if "is being terminated" in message:
        fix = "Wait until it is gone, create it again, or name another one by `namespace`"
        return ClusterFailed(f"The namespace {asked.namespace} is being deleted", fix=fix)
    user = re.search(r'User "([^"]*)" cannot', message)
    if user:
        where = f"in the namespace {asked.namespace}" if asked.namespace else "in the cluster"
        who = user[1].replace("system:serviceaccount:", "The service account ", 1).replace(":", "/", 1)
        who = who if who.startswith("The ") else f"The user {user[1]}"
        what = f"{who} may not {asked.verb} {asked.resource} {where}"
        return ClusterFailed(what, why=message, fix=f"{RIGHTS}; and check `namespace`")
    if asked.verb in ("get", "list", "watch"):
        return ClusterFailed(f"The cluster refused to {asked}", why=message)
    return Refused(f"The cluster refused to {asked}", why=message)


def _not_found(server: str, asked: Asked, message: str, details: dict[str, Any]) -> ClusterFailed | Refused:
    if details.get("kind") == "namespaces" and asked.resource != "namespaces":
        fix = "Correct `namespace`, or have it created"
        return Refused(f"The cluster has no namespace {asked.namespace}", fix=fix)
    if details.get("name"):
        return ClusterFailed(f"There is no {details.get('kind') or asked.resource} {details['name']}", why=message)
    katib = asked.resource.endswith(".kubeflow.org")
    return ClusterFailed(
        f"The cluster {server} does not know {asked.resource.partition('/')[0]}",
        why="Its custom resource definition is not installed, or is of another version",
        fix="Install Katib (https://www.kubeflow.org/docs/components/katib/installation), or name another cluster"
        if katib
        else "Install what defines it, or name another cluster",
    )


def unreachable(server: str, error: Exception, proxy: str = "") -> ClusterFailed:
    """The error that an answer's absence is: a wrong host, a name that no certificate has, a cut connection."""
    cause: BaseException = error
    seen = [cause]
    while (deeper := _reason(cause)) is not None and deeper not in seen:
        cause = deeper
        seen.append(cause)
    through = f" through the proxy {proxy}" if proxy else ""
    failed = next((found for item in seen if isinstance(item, ssl.SSLError) and (found := _tls(server, item))), None)
    if failed:
        return failed
    what = f"The cluster {server} cannot be reached{through}"
    if any(isinstance(item, http.NameResolutionError) for item in seen) or "getaddrinfo" in str(cause):
        failed = ClusterFailed(
            what, why="Its name is not known here", fix="Check the kubeconfig's `server`, and the DNS"
        )
    elif isinstance(cause, (http.TimeoutError, TimeoutError)):
        fix = "Check the kubeconfig's `server`, and that a firewall lets this machine through"
        failed = ClusterFailed(what, why="It did not answer in time", fix=fix)
    else:
        why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        failed = ClusterFailed(what, why=why, fix="Check the kubeconfig's `server`, and that the cluster is up")
    failed.transient = True
    return failed


def _reason(error: BaseException) -> BaseException | None:
    reason = getattr(error, "reason", None) or getattr(error, "original_error", None)
    if isinstance(reason, BaseException):
        return reason
    found = next((part for part in error.args if isinstance(part, BaseException)), None)
    return found or error.__cause__ or error.__context__


def _tls(server: str, error: ssl.SSLError) -> ClusterFailed | None:
    """What is wrong with the server's certificate; None if it is a connection that broke."""
    code = getattr(error, "verify_code", None)
    if code in (_X509_HOST, _X509_ADDRESS):
        return ClusterFailed(
            f"The certificate of {server} is not for that name",
            why=str(getattr(error, "verify_message", "")),
            fix="Use a name that it has as the kubeconfig's `server`, or name one by `tls-server-name`",
        )
    if code in (_X509_EXPIRED, _X509_NOT_YET):
        what = "has expired" if code == _X509_EXPIRED else "is not valid yet"
        fix = "Have it renewed, and check this machine's clock"
        return ClusterFailed(f"The certificate of the cluster {server} {what}", fix=fix)
    if code is not None:
        return ClusterFailed(
            f"The certificate of the cluster {server} is not trusted",
            why=str(getattr(error, "verify_message", "")),
            fix="Take the cluster's own `certificate-authority-data` into the kubeconfig",
        )
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return ClusterFailed(
            f"{server} does not speak TLS", fix="Check the port of the kubeconfig's `server`, and https against http"
        )
    if "ALERT" in str(error.reason):
        return ClusterFailed(
            f"The cluster {server} refused the TLS connection",
            why=str(error.reason).replace("_", " ").lower(),
            fix="Check the kubeconfig's client certificate: it may have expired, or be another cluster's",
        )
    return None
