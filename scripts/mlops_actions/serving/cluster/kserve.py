"""The pods of a release as an InferenceService of KServe, in Standard or in Knative mode.

Each release has an InferenceService of its own, which never changes, and is asked by Services of ours that choose its
pods by our labels. One that is changed in place cannot be rolled out: `canaryTrafficPercent` is ignored in Standard
mode, `spec.canary` is refused for containers, and for models KServe 0.20 admits it, reports its share, and sends it
nothing. An annotation chooses the mode, whatever KServe's default is; in Knative mode requests are split by a Route of
Knative (`cluster.knative`). Nor is the status believed: Ready and UpToDate stay true while new pods crash, and
`observedGeneration` is another object's. What counts is the Deployment and its pods, and after them the answers.

https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import BadInput, MlopsError
from ...kubernetes.objects import (
    CLUSTER_SERVING_RUNTIME,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Cluster,
    Kind,
    Object,
)
from ...waiting import wait_until
from ..engine import NotServed, Release
from ..served import EXPECTED
from . import manifests
from .knative import knative_pod
from .manifests import HTTP, Made, Settings
from .names import RELEASE, SETTINGS, pod_labels, pod_selector, service_of
from .pods import digest_of, wait_for_pods

CONTAINER = "kserve-container"
"""The name that KServe knows the container with the model by."""
_MODE = "serving.kserve.io/deploymentMode"
_NAMES = {"Standard": "RawDeployment", "Knative": "Serverless"}
"""Of the modes, and what all versions of KServe know them by."""
_STOP = "serving.kserve.io/stop"
_PRIVATE = {f"networking.{one}/visibility": "cluster-local" for one in ("kserve.io", "knative.dev")}
"""No release has an address of its own outside, by the label that each mode obeys."""
_POD_OF_RUNTIME = ("serviceAccountName", "nodeSelector", "imagePullSecrets")
_CONTAINER_OF_RUNTIME = ("resources", "startupProbe", "readinessProbe")  # KServe's own probe is only a TCP connection
_LONGEST = 63  # letters of a part of a host name
_HOST = "-predictor-"
"""In the host name that KServe makes, between an InferenceService's name and its namespace."""
_PATIENCE = 60.0
"""Seconds for KServe to make a Deployment, which takes it one."""


@dataclass(frozen=True)
class Storage:
    """Where KServe gets a model from that a runtime of the cluster serves.

    Attributes:
        uri: with `{name}`, `{version}` and `{release}` for the release's.
        format: of the model, by which KServe chooses a runtime.
        runtime: that serves it; "" for the one that KServe chooses.
    """

    uri: str
    format: str
    runtime: str = ""


class InferenceServices:
    """An InferenceService a release; see `workload.Workload`.

    Args:
        namespace: gives the namespace where they are.
        settings: of the pods.
        storage: of the model; None for an image with the model in it.
        mode: Standard or Knative.
    """

    kinds: tuple[Kind, ...] = (DISRUPTION_BUDGET, INFERENCE_SERVICE)

    def __init__(
        self,
        namespace: Callable[[], str],
        settings: Settings,
        storage: Storage | None = None,
        mode: str = "Standard",
    ) -> None:
        self._namespace, self._settings, self._storage, self._mode = namespace, settings, storage, mode
        self.needs_image = storage is None

    def objects(self, release: Release, image: str) -> list[Made]:
        """See `Workload`.

        Raises:
            BadInput: KServe cannot name it in this namespace.
        """
        name = name_in(self._namespace(), release.name, release.id)
        service = inference_service(name, release, image, self._settings, self._storage, self._mode)
        budgets = [one for one in manifests.scaling(release, self._settings) if one[0] == DISRUPTION_BUDGET]
        return [service, *budgets]

    def configuration(self, model: str, release: str) -> str:
        """The name of what Knative makes the pods of a release by, in Knative mode."""
        return f"{name_in(self._namespace(), model, release)}-predictor"

    def image(self, cluster: Cluster, model: str, release: str) -> str:
        """See `Workload`."""
        found = cluster.get(INFERENCE_SERVICE, name_in(cluster.namespace, model, release)) or {}
        containers = (found.get("spec") or {}).get("predictor", {}).get("containers") or []
        return next((str(one["image"]) for one in containers if one["name"] == CONTAINER), "")

    def begin(self, cluster: Cluster, release: Release) -> None:
        """See `Workload`."""
        self._stop(cluster, release.name, release.id, None)

    def wait(self, cluster: Cluster, release: Release) -> None:
        """See `Workload`. No pods but those of the release's template may be left.

        Until KServe looks at an InferenceService that was changed, what it made of the one before is complete, too.
        """
        name, made = name_in(cluster.namespace, release.name, release.id), list[Object]()

        def is_taken() -> bool:
            service = cluster.get(INFERENCE_SERVICE, name) or {}
            made[:] = cluster.list(DEPLOYMENT, labels=pod_selector(release.name, release.id))
            wanted = _settings_of((service.get("spec") or {}).get("predictor") or {})
            if any(_settings_of(one["spec"]["template"]["metadata"]) == wanted for one in made):
                return True
            _check(cluster, service, self._mode)
            return False

        def complete() -> bool:
            return is_taken() and all(is_complete(one, release.id) for one in made)

        if not wait_until(is_taken, _PATIENCE, cluster.clock):
            raise NotServed(
                f"KServe has made nothing of the InferenceService {name} within {_PATIENCE:g} s",
                fix="See whether its controller runs: `kubectl -n kserve get pods`",
            )
        wait_for_pods(cluster, release.name, release.id, self._settings.replicas, self._settings.timeout)
        if not wait_until(complete, self._settings.timeout, cluster.clock):
            why = f"the Deployment of {name} is not complete within {self._settings.timeout:g} s"
            raise NotServed(why, digest_of(cluster, release.name, release.id))

    def rest(self, cluster: Cluster, model: str, release: str) -> None:
        """See `Workload`. KServe before 0.16 does not know the annotation and lets the pods run."""
        self._stop(cluster, model, release, "true")

    def at_rest(self, kind: Kind, item: Object) -> Object | None:
        """See `Workload`."""
        about = item["metadata"]
        notes = {**(about.get("annotations") or {}), _STOP: "true"}
        return {**item, "metadata": {**about, "annotations": notes}} if kind == INFERENCE_SERVICE else None

    def _stop(self, cluster: Cluster, model: str, release: str, wanted: str | None) -> None:
        name = name_in(cluster.namespace, model, release)
        found = cluster.get(INFERENCE_SERVICE, name)
        if found and (found["metadata"].get("annotations") or {}).get(_STOP) != wanted:
            cluster.patch(INFERENCE_SERVICE, name, {"metadata": {"annotations": {_STOP: wanted}}})


def name_in(namespace: str, model: str, release: str) -> str:
    """The name of a release's InferenceService, of which and its namespace KServe makes a part of a host name.

    Raises:
        BadInput: the namespace leaves no room for one.
    """
    room, service = _LONGEST - len(_HOST) - len(namespace), service_of(model)
    if len(service) + 1 + len(release) <= room:
        return f"{service}-{release}"
    end = f"-{hashlib.sha256(service.encode()).hexdigest()[:6]}-{release}"
    if room <= len(end):
        raise BadInput(
            f"KServe cannot serve {model} in the namespace {namespace}",
            why=f"It makes a part of a host name of both names, which may have {_LONGEST} letters",
            fix="Use a namespace with a shorter name",
        )
    return service[: room - len(end)].rstrip("-") + end


def inference_service(
    name: str, release: Release, image: str, settings: Settings, storage: Storage | None, mode: str
) -> Made:
    """The InferenceService of a release: what is ours of it, so that other managers' fields stay theirs."""
    own = pod_labels(release.name, release.id)
    pod = manifests.pod(release, image, settings)
    predictor: Object = {"labels": own, "minReplicas": settings.replicas}
    if settings.max_replicas:
        predictor["maxReplicas"] = settings.max_replicas
    if mode == "Knative":
        pod = knative_pod(pod)
        predictor["maxReplicas"] = max(settings.replicas, settings.max_replicas)  # its own default is without end
    if storage is None:
        model, *others = pod["containers"]
        predictor |= {**pod, "containers": [{**model, "name": CONTAINER}, *others]}
    else:
        predictor |= {key: pod[key] for key in _POD_OF_RUNTIME if key in pod}
        predictor["model"] = {
            "modelFormat": {"name": storage.format},
            "protocolVersion": "v2",
            "storageUri": storage.uri.format(name=release.name, version=release.version, release=release.id),
            "ports": [{"containerPort": HTTP, "protocol": "TCP"}],
            "env": [{"name": EXPECTED, "value": release.digest}],  # each pod fetches it anew, when it starts
            **{key: pod["containers"][0][key] for key in _CONTAINER_OF_RUNTIME},
            **({"runtime": storage.runtime} if storage.runtime else {}),
        }
    settings_digest = hashlib.sha256(json.dumps(predictor, sort_keys=True).encode()).hexdigest()[:10]
    predictor["labels"] = {**own, SETTINGS: settings_digest}
    about = manifests.about(release)
    metadata = {
        "name": name,
        "labels": {**about["labels"], **_PRIVATE},
        "annotations": {**about["annotations"], _MODE: _NAMES[mode]},
    }
    return INFERENCE_SERVICE, {"metadata": metadata, "spec": {"predictor": predictor}}


def _settings_of(labelled: Object) -> str:
    return str((labelled.get("labels") or {}).get(SETTINGS, ""))


def is_complete(deployment: Object, release: str) -> bool:
    """Whether all pods of a Deployment are of its template, which is the release's, and all can be asked."""
    spec, status = deployment["spec"], deployment.get("status") or {}
    own = spec["template"]["metadata"].get("labels") or {}
    counts = {status.get(name) or 0 for name in ("replicas", "updatedReplicas", "availableReplicas")}
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return own.get(RELEASE) == release and seen and counts == {spec.get("replicas", 1)}


def _check(cluster: Cluster, service: Object, wanted: str) -> None:
    """Whether KServe says that it will make nothing of an InferenceService.

    Raises:
        NotServed: it does.
    """
    status = service.get("status") or {}
    mode = status.get("deploymentMode") or wanted
    if mode not in (wanted, _NAMES[wanted]):
        raise NotServed(
            f"KServe serves it in the mode {mode}, and `deployment-mode` is {wanted}",
            fix=f"Let the annotation {_MODE} be {_NAMES[wanted]}, as it was applied",
        )
    model = status.get("modelStatus") or {}
    if model.get("transitionStatus") == "InvalidSpec":
        why = model.get("lastFailureInfo") or {}
        text = f"{why.get('reason') or 'InvalidSpec'}: {why.get('message') or 'KServe does not say why'}"
        raise NotServed(text, fix=f"Set `model-format` or `runtime` to what the cluster serves: {_formats(cluster)}")
    for one in status.get("conditions") or []:
        if one.get("type") == "PredictorReady" and one.get("reason") == "ReconcileFailed":
            message = str(one.get("message"))
            fix = "Leave out what sets it, or let Knative take it in its ConfigMap `config-features`"
            raise NotServed(f"KServe cannot make its pods: {message}", fix=fix if "must not set" in message else "")


def _formats(cluster: Cluster) -> str:
    """The formats that runtimes serve, each with their names."""
    found: dict[str, list[str]] = {}
    for kind in (SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME):
        try:
            runtimes = cluster.list(kind)
        except MlopsError:
            continue  # we may not see them
        for runtime in runtimes:
            for one in (runtime.get("spec") or {}).get("supportedModelFormats") or []:
                found.setdefault(str(one.get("name")), []).append(runtime["metadata"]["name"])
    listed = (f"{name} ({', '.join(dict.fromkeys(runtimes))})" for name, runtimes in sorted(found.items()))
    return ", ".join(listed) or "it has no runtime that we can see"
