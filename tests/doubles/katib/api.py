"""The Kubernetes API as plain dictionaries, and caches of a namespace's objects that follow it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.watch.watch import iter_resp_lines

Object = dict[str, Any]
_WATCH_SECONDS = 15


@dataclass(frozen=True)
class Kind:
    """A kind of object: where the API has it."""

    prefix: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As it stands in an object: `kubeflow.org/v1beta1`, `v1`."""
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")


EXPERIMENT = Kind("/apis/kubeflow.org/v1beta1", "experiments", "Experiment")
SUGGESTION = Kind("/apis/kubeflow.org/v1beta1", "suggestions", "Suggestion")
TRIAL = Kind("/apis/kubeflow.org/v1beta1", "trials", "Trial")
JOB = Kind("/apis/batch/v1", "jobs", "Job")
DEPLOYMENT = Kind("/apis/apps/v1", "deployments", "Deployment")
SERVICE = Kind("/api/v1", "services", "Service")
POD = Kind("/api/v1", "pods", "Pod")
EVENT = Kind("/api/v1", "events", "Event")
NAMESPACE = Kind("/api/v1", "namespaces", "Namespace")
CONFIG_MAP = Kind("/api/v1", "configmaps", "ConfigMap")
CRD = Kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition")
MUTATING = Kind(
    "/apis/admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"
)
VALIDATING = Kind(
    "/apis/admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"
)


class Api:
    """Calls to one API server. Threads may share it.

    Args:
        kubeconfig: the file; None for KUBECONFIG and the other usual places.
    """

    def __init__(self, kubeconfig: Path | None = None) -> None:
        settings = client.Configuration()
        config.load_kube_config(config_file=str(kubeconfig) if kubeconfig else None, client_configuration=settings)
        settings.connection_pool_maxsize = 64
        self._client = client.ApiClient(settings)

    def call(self, method: str, path: str, body: Object | None = None, *, raw: bool = False, **query: object) -> Any:
        """One request: the decoded answer, or with `raw` the open response.

        Raises:
            ApiException: an answer that is an error.
        """
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self._client.call_api(
            path,
            method,
            query_params=[(name, value) for name, value in query.items() if value not in (None, "")],
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            response_type=None if raw else "object",
            auth_settings=["BearerToken"],
            _preload_content=not raw,
            _return_http_data_only=True,
            _request_timeout=(5, _WATCH_SECONDS + 15),
        )

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """The object, or None when there is none."""
        try:
            return self.call("GET", _path(kind, namespace, name))  # type: ignore[no-any-return]
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str = "", labels: str = "") -> Object:
        """The list object: `items`, and `metadata.resourceVersion`."""
        return self.call("GET", _path(kind, namespace), labelSelector=labels)  # type: ignore[no-any-return]

    def create(self, kind: Kind, body: Object, namespace: str = "") -> Object | None:
        """What was made; None when it existed."""
        try:
            return self.call("POST", _path(kind, namespace), body)  # type: ignore[no-any-return]
        except ApiException as error:
            if error.status == 409 and json.loads(error.body or "{}").get("reason") == "AlreadyExists":
                return None
            raise

    def replace(self, kind: Kind, body: Object, subresource: str = "") -> Object:
        """Write an object, or its status; a conflict (409) when it was changed since it was read."""
        path = _path(kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        return self.call("PUT", f"{path}/{subresource}".rstrip("/"), body)  # type: ignore[no-any-return]

    def patch(self, kind: Kind, name: str, body: Object, namespace: str = "") -> Object:
        """Merge into an object."""
        return self.call("PATCH", _path(kind, namespace, name), body)  # type: ignore[no-any-return]

    def delete(self, kind: Kind, name: str, namespace: str = "", propagation: str = "Background") -> None:
        """Delete an object that need not exist."""
        try:
            self.call("DELETE", _path(kind, namespace, name), {"propagationPolicy": propagation})
        except ApiException as error:
            if error.status != 404:
                raise

    def log(self, pod: str, container: str, namespace: str) -> str:
        """All that a container printed; "" when it cannot be had."""
        try:
            response = self.call("GET", f"{_path(POD, namespace, pod)}/log", raw=True, container=container)
        except ApiException:
            return ""
        return str(response.read().decode(errors="replace"))

    def watch(self, kind: Kind, namespace: str, version: str) -> Iterator[Object]:
        """Changes since a resource version, for a while."""
        response = self.call(
            "GET", _path(kind, namespace), raw=True, watch="true", resourceVersion=version,
            allowWatchBookmarks="true", timeoutSeconds=_WATCH_SECONDS,
        )  # fmt: skip
        with suppress(ValueError):  # the server ends the stream in the middle of nothing
            for line in iter_resp_lines(response):
                yield json.loads(line)


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    return "/".join(part for part in (kind.prefix, namespace and f"namespaces/{namespace}", kind.plural, name) if part)


@dataclass
class Cache:
    """A namespace's objects of one kind, kept by a watch in a thread of its own.

    Args:
        changed: called with the name of each object that came, changed or went.
    """

    api: Api
    kind: Kind
    namespace: str
    changed: Callable[[Object], None]
    objects: dict[str, Object] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _gone: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _listed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """List, then follow."""
        name = f"katib-double-{self.namespace}-{self.kind.plural}"
        threading.Thread(target=self._follow, name=name, daemon=True).start()

    def wait(self) -> None:
        """Until it knows what there is: a controller that looks earlier takes what it does not see for absent."""
        while not self._listed.wait(0.5) and not self._stopped.is_set():
            pass

    def stop(self) -> None:
        """Tell nobody of a change any more."""
        self._stopped.set()

    def get(self, name: str) -> Object | None:
        """A copy of the object, so that it can be changed."""
        with self._lock:
            found = self.objects.get(name)
            return json.loads(json.dumps(found)) if found else None

    def all(self) -> list[Object]:
        """The objects themselves, only to be read, in the order of their creation."""
        with self._lock:
            return list(self.objects.values())

    def put(self, body: Object) -> bool:
        """Keep what the API answered, unless something newer is known; whether it was kept."""
        meta = body["metadata"]
        with self._lock:
            known = self.objects.get(meta["name"])
            if meta["uid"] in self._gone or (known and _version(known) >= _version(body)):
                return False
            self.objects[meta["name"]] = body
            return True

    def _remove(self, body: Object) -> None:
        with self._lock:
            self._gone.add(body["metadata"]["uid"])
            known = self.objects.get(body["metadata"]["name"])
            if known and known["metadata"]["uid"] == body["metadata"]["uid"]:
                del self.objects[body["metadata"]["name"]]

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                version = self._list()
                self._listed.set()
                while not self._stopped.is_set():
                    version = self._watch(version)
            except Exception:
                # A list from the start mends whatever it was: an expired version, a cut line, a server that restarts.
                self._stopped.wait(0.5)

    def _list(self) -> str:
        found = self.api.list(self.kind, self.namespace)
        # Items of a list name neither their kind nor their version.
        items = [{"apiVersion": self.kind.api_version, "kind": self.kind.kind, **item} for item in found["items"]]
        items.sort(key=lambda item: str(item["metadata"]["creationTimestamp"]))
        uids = {item["metadata"]["uid"] for item in items}
        for known in self.all():
            if known["metadata"]["uid"] not in uids:
                self._remove(known)
                self._tell(known)
        for item in items:
            self.put(item)
            self._tell(item)
        return str(found["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        for event in self.api.watch(self.kind, self.namespace, version):
            body = event["object"]
            if event["type"] == "ERROR":
                raise RuntimeError(body)
            version = body["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self._remove(body)
                self._tell(body)
            elif event["type"] != "BOOKMARK":
                self.put(body)
                self._tell(body)
            if self._stopped.is_set():
                break
        return version

    def _tell(self, body: Object) -> None:
        if not self._stopped.is_set():
            self.changed(body)


def _version(body: Object) -> int:
    return int(body["metadata"]["resourceVersion"])
