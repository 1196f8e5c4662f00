"""Objects of a cluster: read, applied, created, patched, deleted, watched; logs of pods; what we may do.

Concepts: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from ..http.client import Response
from .failures import Asked, ClusterFailed, Refused
from .logs import follow_log, is_running, read_log
from .transport import Object, Transport
from .watching import Change, Watch, pages

__all__ = ["Change", "Cluster", "Kind", "Object"]

FIELD_MANAGER = "mlops-actions"
INJECTION_LABEL = "katib.kubeflow.org/metrics-collector-injection"
"""Of a namespace, `enabled` where Katib adds its collector of metrics to the pods of trials."""

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True)
class Kind:
    """A kind of object: its group ("" for the core), version, plural, name, and whether it lives in a namespace."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As `apiVersion` of an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC and people name it, such as `experiments.kubeflow.org`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of an object, or of all."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", quote(namespace, safe="")] if self.namespaced else []
        return "/" + "/".join([*parts, self.plural, *filter(None, (quote(name, safe=""), subresource))])


NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
POD = Kind("", "v1", "pods", "Pod")
EVENT = Kind("", "v1", "events", "Event")
SECRET = Kind("", "v1", "secrets", "Secret")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
RESOURCE_QUOTA = Kind("", "v1", "resourcequotas", "ResourceQuota")
SERVICE_ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
SERVICE = Kind("", "v1", "services", "Service")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")
AUTOSCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
GATEWAY_CLASS = Kind("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", namespaced=False)
GATEWAY = Kind("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
JOB = Kind("batch", "v1", "jobs", "Job")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CRD = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
EXPERIMENT = Kind("kubeflow.org", "v1beta1", "experiments", "Experiment")
TRIAL = Kind("kubeflow.org", "v1beta1", "trials", "Trial")
SUGGESTION = Kind("kubeflow.org", "v1beta1", "suggestions", "Suggestion")
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
SERVING_RUNTIME = Kind("serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime")
CLUSTER_SERVING_RUNTIME = Kind(
    "serving.kserve.io", "v1alpha1", "clusterservingruntimes", "ClusterServingRuntime", namespaced=False
)
KNATIVE_ROUTE = Kind("serving.knative.dev", "v1", "routes", "Route")
WORKFLOW = Kind("argoproj.io", "v1alpha1", "workflows", "Workflow")
_REVIEW = Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)


class Cluster:
    """A cluster that responds. May be used by several threads.

    Every method raises `RemoteFailed` when the cluster fails, cannot be reached or denies a right, and `BadInput` when
    it finds fault with an object. A method's `namespace` is the cluster's own if it is "".

    Attributes:
        namespace: where objects are, unless an object or a call names another one.
        server: the API server's address.
        version: such as `v1.34.2`; "" if it does not tell.
        clock: that pauses use.
    """

    def __init__(self, transport: Transport, namespace: str, version: str = "") -> None:
        self.namespace, self.server, self.version = namespace, transport.server, version
        self.clock = transport.clock
        self._transport = transport

    @property
    def requests(self) -> int:
        """How many were sent so far."""
        return self._transport.requests

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """An object; None if there is none. That the cluster does not know the kind is an error."""
        return self._call("get", kind, namespace, name, absent=True)

    def list(self, kind: Kind, *, labels: str = "", fields: str = "", namespace: str = "") -> list[Object]:
        """All objects that the selectors take, page after page."""
        asked, path = self._target("list", kind, namespace)
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        found: list[Object] = []
        for page in pages(lambda query: self._transport.call(asked, "GET", path, query={**selectors, **query}) or {}):
            found = [*([] if page.first else found), *page.objects]
        return [_whole(kind, item) for item in found]

    def apply(
        self, kind: Kind, body: Object, *, dry_run: bool = False, force: bool = False, repeat: bool = True
    ) -> Object:
        """Make an object be as given (server-side apply): what is not named is left alone.

        Args:
            kind: of the object.
            body: with `metadata.name`.
            dry_run: let the cluster check it, admission webhooks included, and change nothing.
            force: take fields over that another manager has set; without it they are a conflict.
            repeat: try again, for two minutes, what may pass.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "", "dryRun": "All" if dry_run else ""}
        name, namespace = _name(body), _namespace(body)
        applied = _whole(kind, body)
        content_type = "application/apply-patch+yaml"  # JSON is YAML
        return self._changed(
            "patch", kind, namespace, name, query=query, body=applied, content_type=content_type, repeat=repeat
        )

    def create(self, kind: Kind, body: Object) -> Object | None:
        """Create an object; None if there is one of that name, be it one that is being deleted.

        When a response is lost the request is repeated, so None may also mean that this very call has created it: who
        gets None looks at what exists. With `generateName` it is not repeated.
        """
        name = _name(body)
        try:
            return self._changed("create", kind, _namespace(body), name, body=_whole(kind, body), repeat=bool(name))
        except Refused as error:
            if error.reason == "AlreadyExists":
                return None
            raise

    def patch(
        self,
        kind: Kind,
        name: str,
        patch: Object,
        *,
        subresource: str = "",
        namespace: str = "",
        repeat: bool = True,
    ) -> Object:
        """Change fields of an object or its `status` by a merge patch (None deletes one); `repeat` as in `apply`."""
        options: Object = {"body": patch, "content_type": "application/merge-patch+json", "repeat": repeat}
        options["query"] = {"fieldManager": FIELD_MANAGER}
        return self._changed("patch", kind, namespace, name, subresource=subresource, **options)

    def delete(
        self, kind: Kind, name: str, *, propagation: str = "Background", uid: str = "", namespace: str = ""
    ) -> bool:
        """Delete an object, with `uid` only that very one; whether there was one. `propagation`: to what it owns."""
        body: Object = {"propagationPolicy": propagation, **({"preconditions": {"uid": uid}} if uid else {})}
        return self._call("delete", kind, namespace, name, body=body, absent=True) is not None

    def watch(
        self,
        kind: Kind,
        *,
        name: str = "",
        labels: str = "",
        fields: str = "",
        namespace: str = "",
        until: float | None = None,
        known: Sequence[Object] = (),
    ) -> Generator[Change | None, None, None]:
        """Tell what there is, and then what happens to it; None about every second in which nothing does.

        It goes on through restarts of the API server, cut and silent connections, compaction and expired credentials;
        each state is told once. Close it, or leave the loop, to end it.

        Args:
            kind: of the objects.
            name, labels, fields: which of them.
            namespace: of them.
            until: moment of `clock` at which it ends; None to go on.
            known: objects that are not told of as they are in these, only when they change or are gone.
        """
        asked, path = self._target("watch", kind, namespace, name)
        fields = ",".join(filter(None, (f"metadata.name={name}" if name else "", fields)))
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        return Watch(self._transport, asked, path, selectors, lambda item: _whole(kind, item), known).changes(until)

    def through(
        self, service: str, port: int, path: str, data: bytes | None, *, timeout: float, namespace: str = ""
    ) -> Response:
        """Ask a pod behind a service, through the API server: GET a path, or POST JSON to it.

        Returns:
            The pod's response, whatever its status.

        Raises:
            ClusterFailed: the cluster itself responds instead: there is no pod that is ready, or we may not.
        """
        asked, where = self._target("get", SERVICE, namespace, f"{service}:{port}", "proxy")
        asked = replace(asked, verb="get" if data is None else "create", name=service)
        return self._transport.pass_on(asked, where + path, data, timeout)

    def logs(
        self, pod: str, *, container: str = "", tail: int | None = None, previous: bool = False, namespace: str = ""
    ) -> str:
        """What a container has written, its last lines; "" when there is nothing.

        Args:
            pod: its name.
            container: which; "" if there is one.
            tail: how many; None for 100,000.
            previous: of the container before it was restarted.
            namespace: of the pod.
        """
        return read_log(self._transport, *self._log(pod, namespace), container, tail, previous)

    def follow(self, pod: str, *, container: str = "", namespace: str = "") -> Iterator[str]:
        """The lines of a container as they come, from its first one to its end, through cut connections.

        Waits for the container to start. Ends when it has ended for good, or the pod is gone.
        """

        def running() -> bool:
            found = self.get(POD, pod, namespace)
            return found is not None and is_running(found, container)

        return follow_log(self._transport, *self._log(pod, namespace), container, running)

    def may(self, verb: str, kind: Kind, *, subresource: str = "", name: str = "", namespace: str = "") -> bool:
        """Whether these credentials have a right."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "subresource": subresource,
            "name": name,
        }
        if kind.namespaced:
            attributes["namespace"] = namespace or self.namespace
        body: Object = {"spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}}}
        review = self._changed("create", _REVIEW, "", "", body=_whole(_REVIEW, body))
        return bool(review["status"].get("allowed"))

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """In which versions the cluster knows a kind, the preferred one first; none if it does not."""
        about = self._discovered(kind, f"/apis/{kind.group}")
        found: tuple[str, ...] = ()
        for version in about.get("versions") or []:
            content = self._discovered(kind, f"/apis/{version['groupVersion']}")
            if any(resource["name"] == kind.plural for resource in content.get("resources") or []):
                found = (*found, str(version["version"]))
        return found

    def _discovered(self, kind: Kind, path: str) -> Object:
        """What the API server says at a path of its discovery; nothing when it does not know the path (any more)."""
        try:
            return self._transport.call(Asked("discover", kind.resource), "GET", path) or {}
        except ClusterFailed as error:
            if error.status == 404:
                return {}
            raise

    def token(self, service_account: str, *, audience: str = "", seconds: int = 3600, namespace: str = "") -> str:
        """A token of a service account for an audience, valid for so long (TokenRequest; 600 s at least)."""
        spec: Object = {"expirationSeconds": seconds, **({"audiences": [audience]} if audience else {})}
        body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        made = self._changed("create", SERVICE_ACCOUNT, namespace, service_account, subresource="token", body=body)
        return str(made["status"]["token"])

    def _target(
        self, verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = ""
    ) -> tuple[Asked, str]:
        where = (namespace or self.namespace) if kind.namespaced else ""
        resource = kind.resource + (f"/{subresource}" if subresource else "")
        collection = verb in ("create", "list", "watch") and not subresource
        path = kind.path(where, "" if collection else name, subresource)
        return Asked(verb, resource, name, where), path

    def _call(
        self, verb: str, kind: Kind, namespace: str, name: str, *, subresource: str = "", **options: Any
    ) -> Object | None:
        asked, path = self._target(verb, kind, namespace, name, subresource)
        return self._transport.call(asked, _METHODS[verb], path, **options)

    def _changed(self, verb: str, kind: Kind, namespace: str, name: str, **options: Any) -> Object:
        changed = self._call(verb, kind, namespace, name, **options)
        assert changed is not None  # only a call with `absent` gives None
        return changed

    def _log(self, pod: str, namespace: str) -> tuple[Asked, str]:
        return self._target("get", POD, namespace, pod, "log")


def _whole(kind: Kind, item: Object) -> Object:
    """What a list gives has no kind."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, **item}


def _name(body: Object) -> str:
    return str((body.get("metadata") or {}).get("name") or "")


def _namespace(body: Object) -> str:
    return str((body.get("metadata") or {}).get("namespace") or "")
