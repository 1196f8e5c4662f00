"""The pods of a release as an InferenceService of KServe, in Standard mode.

Each release has an InferenceService of its own, which never changes, and is asked by Services of ours that choose its
pods by our labels. One InferenceService that is changed in place cannot be rolled out: `canaryTrafficPercent` is ignored
in Standard mode, `spec.canary` is refused for containers, and where it is admitted KServe 0.20 reports its share as
served and sends it nothing. What its status says is not believed either: Ready and UpToDate stay true while new pods
crash, and `observedGeneration` is another object's. The Deployment and its pods tell.

https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import BadInput
from ...kubernetes.objects import DEPLOYMENT, INFERENCE_SERVICE, SERVING_RUNTIMES, Cluster, Kind, Object
from ..engine import NotServed, Release
from .manifests import RELEASE_LABEL, Pods, deployment, labels, selector, service_name

CONTAINER = "kserve-container"
"""The name that KServe knows the container with the model by."""
_MODE = "serving.kserve.io/deploymentMode"
_STANDARD = ("Standard", "RawDeployment")
_STOP = "serving.kserve.io/stop"
_PRIVATE = {"networking.kserve.io/visibility": "cluster-local"}
_LABEL = 63  # letters of a part of a host name
_HOST = "-predictor-"
"""Between an InferenceService's name and its namespace in the host name that KServe makes."""
_PATIENCE = 60.0
"""Seconds for the controller to make a Deployment, which takes it one."""


@dataclass(frozen=True)
class Storage:
    """A model that KServe fetches, and a runtime of the cluster serves.

    Attributes:
        uri: with `{name}`, `{version}` and `{release}` for the release's.
        format: of the model, by which KServe chooses a runtime.
        runtime: that serves it; "" for the one that KServe chooses.
    """

    uri: str
    format: str
    runtime: str = ""


class InferenceServices:
    """See `workload.Workload`.

    Args:
        cluster: where.
        pods: how they are run.
        storage: where KServe gets the model from; None for an image with the model in it.
    """

    kinds: tuple[Kind, ...] = (INFERENCE_SERVICE,)

    def __init__(self, cluster: Callable[[], Cluster], pods: Pods, storage: Storage | None = None) -> None:
        self._cluster, self._pods, self._storage = cluster, pods, storage

    @property
    def needs_image(self) -> bool:
        """Whether an image with the model must be built."""
        return self._storage is None

    def objects(self, release: Release, image: str) -> list[tuple[Kind, Object]]:
        """What is applied for a release.

        Raises:
            BadInput: KServe cannot name it in this namespace.
        """
        name = name_in(self._cluster().namespace, release.name, release.id)
        return [(INFERENCE_SERVICE, inference_service(name, release, image, self._pods, self._storage))]

    def wait(self, cluster: Cluster, release: Release, timeout: float) -> None:
        """Until all pods of a release are up, and no others are left.

        Raises:
            NotServed: KServe makes no pods, or they do not come up.
        """
        until = cluster.clock.now() + timeout
        began = cluster.clock.now()
        while not (found := _deployment(cluster, release)):
            isvc = cluster.get(INFERENCE_SERVICE, name_in(cluster.namespace, release.name, release.id))
            _refused(cluster, isvc or {})
            if cluster.clock.now() - began > _PATIENCE:
                raise NotServed(
                    f"KServe has made no Deployment within {_PATIENCE:g} s",
                    log=_said(isvc or {}),
                    fix="See whether its controller runs: `kubectl get pods -n kserve`",
                )
            cluster.clock.wait(0.5)
        wait_for_pods(cluster, release, until)
        while not is_complete(found, release.id):
            if cluster.clock.now() > until:
                raise NotServed(f"its Deployment is not complete within {timeout:g} s: {_progress(found)}")
            cluster.clock.wait(0.5)
            found = _deployment(cluster, release) or {}

    def scale(self, cluster: Cluster, model: str, release: str, *, up: bool) -> None:
        """End the pods of a release that is kept to go back to, or start them again."""
        name = name_in(cluster.namespace, model, release)
        cluster.patch(INFERENCE_SERVICE, name, {"metadata": {"annotations": {_STOP: None if up else "true"}}})


def name_in(namespace: str, model: str, release: str) -> str:
    """The name of a release's InferenceService: KServe makes one part of a host name of it and the namespace.

    Raises:
        BadInput: the namespace leaves no room for one.
    """
    room = _LABEL - len(_HOST) - len(namespace)
    service = service_name(model)
    whole = f"{service}-{release}"
    if len(whole) <= room:
        return whole
    end = f"-{hashlib.sha256(service.encode()).hexdigest()[:6]}-{release}"
    if room <= len(end):
        raise BadInput(
            f"KServe cannot serve {model} in the namespace {namespace}",
            why=f"It makes a part of a host name of both names, of at most {_LABEL} letters",
            fix="Use a namespace with a shorter name",
        )
    return service[: room - len(end)].rstrip("-") + end


def inference_service(name: str, release: Release, image: str, pods: Pods, storage: Storage | None) -> Object:
    """The InferenceService of a release: only what is ours of it, so that other managers' fields stay theirs."""
    made = deployment(release, image, pods, pods.replicas)
    marks = labels(release.name, release.id)
    predictor: Object = {
        "minReplicas": pods.replicas,
        "maxReplicas": max(pods.most, pods.replicas),
        "labels": marks,
    }
    spec = made["spec"]["template"]["spec"]
    if storage is None:
        container, *others = spec["containers"]
        predictor |= {**spec, "containers": [{**container, "name": CONTAINER}, *others]}
    else:
        predictor |= {key: spec[key] for key in ("serviceAccountName", "nodeSelector", "imagePullSecrets") if key in spec}
        uri = storage.uri.format(name=release.name, version=release.version, release=release.id)
        model: Object = {
            "modelFormat": {"name": storage.format},
            "protocolVersion": "v2",
            "storageUri": uri,
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        }
        if resources := spec["containers"][0].get("resources"):
            model["resources"] = resources
        if storage.runtime:
            model["runtime"] = storage.runtime
        predictor["model"] = model
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": name,
            "labels": {**marks, **_PRIVATE},
            "annotations": {**made["metadata"]["annotations"], _MODE: _STANDARD[1]},  # which all versions know
        },
        "spec": {"predictor": predictor},
    }


def is_complete(found: Object, release: str) -> bool:
    """Whether all pods of a Deployment are of its template, which is that of the release, and all are available."""
    status, spec = found.get("status") or {}, found.get("spec") or {}
    if ((spec.get("template") or {}).get("metadata", {}).get("labels") or {}).get(RELEASE_LABEL) != release:
        return False
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    counts = {status.get(key) or 0 for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return seen and counts == {spec.get("replicas", 1)}


def _deployment(cluster: Cluster, release: Release) -> Object | None:
    """What KServe has made for a release; its labels are those of the InferenceService."""
    return next(iter(cluster.list(DEPLOYMENT, labels=selector(release.name, release.id))), None)


def _refused(cluster: Cluster, isvc: Object) -> None:
    """See whether the controller says that it will make nothing.

    Raises:
        NotServed: it does.
    """
    status = isvc.get("status") or {}
    mode = status.get("deploymentMode") or _STANDARD[0]
    if mode not in _STANDARD:
        raise NotServed(
            f"KServe serves it in {mode} mode, where pods of ours cannot be given a share of the requests",
            fix=f"Let nothing else set the annotation {_MODE}",
        )
    model = status.get("modelStatus") or {}
    if model.get("transitionStatus") == "InvalidSpec":
        why = model.get("lastFailureInfo") or {}
        listed = ", ".join(_formats(cluster)) or "none"
        fix = f"Set `model-format` or `runtime` to what the cluster serves: {listed}"
        raise NotServed(f"{why.get('reason', 'InvalidSpec')}: {why.get('message', 'KServe does not say why')}", fix=fix)
    for one in status.get("conditions") or []:
        if one.get("type") == "PredictorReady" and one.get("reason") == "ReconcileFailed":
            raise NotServed(f"KServe cannot make its pods: {one.get('message')}")


def _formats(cluster: Cluster) -> list[str]:
    """Formats that the runtimes of a cluster serve, each with their names."""
    found: dict[str, list[str]] = {}
    for kind in SERVING_RUNTIMES:
        for runtime in cluster.list(kind):
            for one in (runtime.get("spec") or {}).get("supportedModelFormats") or []:
                found.setdefault(str(one.get("name")), []).append(runtime["metadata"]["name"])
    return [f"{name} ({', '.join(dict.fromkeys(runtimes))})" for name, runtimes in sorted(found.items())]


def _said(isvc: Object) -> str:
    conditions = (isvc.get("status") or {}).get("conditions") or []
    return "\n".join(f"{one['type']} {one['status']} {one.get('message', '')}".rstrip() for one in conditions)


def _progress(found: Object) -> str:
    status = found.get("status") or {}
    names = ("replicas", "updatedReplicas", "availableReplicas")
    return ", ".join(f"{name} {status.get(name) or 0}" for name in names)
