"""The objects that serve a release and a model in a plain Kubernetes cluster, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ...kubernetes.objects import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, NETWORK_POLICY, SERVICE, Kind, Object
from ..engine import Release
from .names import DIGEST, NAME, RELEASE, VERSION, labels, name_of, pod_labels, service_of

HTTP, GRPC = 8080, 8081
PORT = 80
"""Of our Services."""
USER = 65532
DRAIN = 5
"""Seconds that a pod goes on serving when it is to end, in which all that sends it requests hears of that."""
_GRACE = 30
_TARGET_CPU = 80

Made = tuple[Kind, Object]


@dataclass(frozen=True)
class Settings:
    """How pods run; see `inputs.ServingClusterInputs`. `timeout`: seconds until one must be ready."""

    replicas: int = 1
    max_replicas: int = 0
    cpu: str = "500m"
    memory: str = "1Gi"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    image_pull_secret: str = ""
    timeout: float = 120.0

    @classmethod
    def of(cls, inputs: Any) -> Settings:
        """Those of an action that has the engine's inputs."""
        return cls(**{one.name: getattr(inputs, one.name) for one in fields(cls)})


def deployment(release: Release, image: str, settings: Settings) -> Made:
    """The Deployment of a release. Its number of pods is not in it when something else decides that."""
    own = pod_labels(release.name, release.id)
    spec: Object = {
        "selector": {"matchLabels": own},
        "progressDeadlineSeconds": math.ceil(settings.timeout) + 60,
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": own}, "spec": pod(release, image, settings)},
    }
    if not settings.max_replicas:
        spec["replicas"] = settings.replicas
    return DEPLOYMENT, {"metadata": about(release), "spec": spec}


def pod(release: Release, image: str, settings: Settings) -> Object:
    """The pods of a release: no rights, no root, nothing to write to but `/tmp`; ready when the model is loaded."""
    ready = {"httpGet": {"path": f"/v2/models/{release.name}/ready", "port": HTTP}, "timeoutSeconds": 3}
    live = {"httpGet": {"path": "/v2/health/live", "port": HTTP}, "timeoutSeconds": 10}
    container: Object = {
        "name": "model",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "image": image,
        "ports": [{"name": "http", "containerPort": HTTP}, {"name": "grpc", "containerPort": GRPC}],
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": math.ceil(settings.timeout / 2)},
        "readinessProbe": {**ready, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**live, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN}}},
        "resources": {
            "requests": {"cpu": settings.cpu, "memory": settings.memory},
            "limits": {"memory": settings.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN + _GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    if settings.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return spec


def scaling(release: Release, settings: Settings) -> list[Made]:
    """What keeps the right number of pods, where there may be several."""
    most, name = max(settings.replicas, settings.max_replicas), name_of(release.name, release.id)
    made: list[Made] = []
    if settings.max_replicas:
        target = {"type": "Utilization", "averageUtilization": _TARGET_CPU}
        spec: Object = {
            "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": name},
            "minReplicas": settings.replicas,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        }
        made.append((AUTOSCALER, {"metadata": about(release), "spec": spec}))
    if most > 1:
        pods = {"matchLabels": pod_labels(release.name, release.id)}
        budget = {"maxUnavailable": 1, "selector": pods}
        made.append((DISRUPTION_BUDGET, {"metadata": about(release), "spec": budget}))
    return made


def release_service(release: Release) -> Made:
    """The Service of one release, by which it alone is asked."""
    return SERVICE, {"metadata": about(release), "spec": _ports(pod_labels(release.name, release.id))}


def public_service(model: str, release: str, annotations: Mapping[str, str]) -> Made:
    """The Service of a model, whose requests go to one release; "" for none."""
    notes = {NAME: model, **annotations}
    metadata = {"name": service_of(model), "labels": labels(model), "annotations": notes}
    return SERVICE, {"metadata": metadata, "spec": _ports(pod_labels(model, release) | {RELEASE: release})}


def network_policy(model: str) -> Made:
    """Pods of a model are sent requests at the server's ports, and connect to nothing."""
    spec: Object = {
        "podSelector": {"matchLabels": labels(model)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": HTTP, "protocol": "TCP"}, {"port": GRPC, "protocol": "TCP"}]}],
    }
    return NETWORK_POLICY, {"metadata": {"name": service_of(model), "labels": labels(model)}, "spec": spec}


def about(release: Release) -> Object:
    """`metadata` of a release's objects."""
    return {
        "name": name_of(release.name, release.id),
        "labels": labels(release.name, release.id),
        "annotations": {NAME: release.name, VERSION: str(release.version), DIGEST: release.digest},
    }


def documents(made: Iterable[Made], namespace: str = "") -> list[dict[str, Any]]:
    """The objects as documents for people and GitOps, in their order."""
    where = {"namespace": namespace} if namespace else {}
    return [
        {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": {**body["metadata"], **where}}
        for kind, body in made
    ]


def _ports(selector: Mapping[str, str]) -> Object:
    ports = [
        {"name": "http", "port": PORT, "targetPort": HTTP, "protocol": "TCP", "appProtocol": "http"},
        {"name": "grpc", "port": GRPC, "targetPort": GRPC, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
    ]
    return {"selector": dict(selector), "ports": ports}
