"""What a cluster responds when something is wrong, in words that say what to do.

Responses: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import BadInput
from ..http.client import Response
from ..http.faults import TRANSIENT, HttpError

RIGHTS = "Give it that right: `mlops rbac` prints a manifest with all that is needed, for an administrator to apply"


class ClusterFailed(HttpError):
    """The cluster failed, refused or cannot be reached; `reason` is Kubernetes' own word, such as `Expired`, or ""."""

    reason = ""


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
    """The `Status` in a response; empty if there is none."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) and content.get("kind") == "Status" else {}


def is_absent(status: int, body: bytes, asked: Asked) -> bool:
    """Whether a response says that the object does not exist: not its namespace, and not its kind."""
    details = status_of(body).get("details") or {}
    plural = asked.resource.partition(".")[0].partition("/")[0]
    return status == 404 and details.get("name") == asked.name and details.get("kind") in (plural, None)


def refusal(server: str, asked: Asked, response: Response) -> ClusterFailed | Refused:
    """The error that a response is."""
    error = reported(server, asked, response.status, response.content)
    if isinstance(error, ClusterFailed):
        error.retry_after = response.facts["retry_after"]
    return error


def reported(server: str, asked: Asked, status: int, body: bytes) -> ClusterFailed | Refused:
    """The error that a `Status` is, or another body with an HTTP status."""
    said = status_of(body)
    message = str(said.get("message") or body[:300].decode(errors="replace").strip())
    reason = str(said.get("reason") or "")
    error = _refusal(server, asked, status, reason, message, said.get("details") or {})
    error.status, error.reason = status, reason
    if isinstance(error, ClusterFailed):
        error.transient = status in TRANSIENT
    return error


def _refusal(
    server: str, asked: Asked, status: int, reason: str, message: str, details: dict[str, Any]
) -> ClusterFailed | Refused:
    if status == 500 and "typed patch object" in message:  # the API server's response to a field of a wrong type
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
        fix = "Request less, wait for others to finish, or ask for a higher quota"
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
        fix = "Correct `namespace`, or create it"
        return Refused(f"The cluster has no namespace {asked.namespace}", fix=fix)
    if details.get("name"):
        return ClusterFailed(f"Not found: {details.get('kind') or asked.resource} {details['name']}", why=message)
    return ClusterFailed(
        f"The cluster {server} does not know {asked.resource.partition('/')[0]}",
        why="Its custom resource definition is not installed, or is of another version",
        fix=f"Install {_defined_by(asked.resource)}, or name another cluster",
    )


def _defined_by(resource: str) -> str:
    """What brings the definition of a kind."""
    group = resource.partition("/")[0].partition(".")[2]
    return {
        "kubeflow.org": "Katib (https://www.kubeflow.org/docs/components/katib/installation)",
        "gateway.networking.k8s.io": "Gateway API (https://gateway-api.sigs.k8s.io/guides)",
        "serving.kserve.io": "KServe (https://kserve.github.io/website)",
        "serving.knative.dev": "Knative Serving (https://knative.dev/docs/install)",
    }.get(group, "what defines it")
