"""What the controller makes of an InferenceService: a Deployment and a Service for each predictor."""

from __future__ import annotations

from typing import Any

from mlops_actions.kubernetes.objects import Cluster, Kind, Object

INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
RUNTIME = Kind("serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime")
CLUSTER_RUNTIME = Kind(
    "serving.kserve.io", "v1alpha1", "clusterservingruntimes", "ClusterServingRuntime", namespaced=False
)
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
SERVICE = Kind("", "v1", "services", "Service")
FINALIZER = "inferenceservice.finalizers"
_MODE = "serving.kserve.io/deploymentMode"
_NOT_POD = {
    "model", "name", "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling",
    "containerConcurrency", "timeout", "canaryTrafficPercent", "logger", "batcher", "labels", "annotations",
    "deploymentStrategy", "storageUris", "workerSpec",
}  # fmt: skip
"""Fields of a predictor that are not its pod's."""
_OF_CONTAINER = ("image", "resources", "env", "args", "ports", "startupProbe", "readinessProbe")
"""Fields of a predictor's model that are its container's, over those of the runtime's."""
_FETCH = """
import io, sys, tarfile, urllib.request
uri, folder = sys.argv[1:]
print(f"INFO Copying contents of {uri} to local", flush=True)
try:
    found = urllib.request.urlopen(uri, timeout=20).read()
    tarfile.open(fileobj=io.BytesIO(found)).extractall(folder)
except Exception as error:
    print(f"ERROR Storage initialization failed: Failed to fetch model. {error}", flush=True)
    open("/dev/termination-log", "w").write(f"Storage initialization failed: Failed to fetch model. {error}")
    sys.exit(1)
"""


class NoRuntime(Exception):
    """No runtime serves the format. `reason` and the message are the status's, `event` the event's."""

    def __init__(self, reason: str, message: str, event: str) -> None:
        super().__init__(message)
        self.reason, self.event = reason, event


def owned(isvc: Object) -> str:
    """The selector of what the controller takes for its own."""
    return f"serving.kserve.io/inferenceservice={isvc['metadata']['name']},component=predictor"


def workload(cluster: Cluster, isvc: Object, predictor: Object, image: str) -> list[tuple[Kind, Object]]:
    """The Deployment and the Service of a predictor.

    Raises:
        NoRuntime: none of the namespace or the cluster serves the model's format.
    """
    about = isvc["metadata"]
    part = f"-{predictor['name']}" if predictor.get("name") else ""
    name = f"{about['name']}{part}-predictor"
    app = {"app": f"isvc.{name}"}
    labels = {
        **app,
        "component": "predictor",
        "serving.kserve.io/inferenceservice": about["name"],
        **(predictor.get("labels") or {}),
    }
    notes = {_MODE: "Standard", **(predictor.get("annotations") or {})}
    owner = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    pod = _pod(cluster, isvc, predictor, image)
    there = cluster.get(DEPLOYMENT, name)
    replicas = predictor.get("minReplicas", 1) if there else 1  # the HPA raises it afterwards
    metadata = {"name": name, "labels": labels, "annotations": notes, "ownerReferences": [owner]}
    deployment = {
        "metadata": metadata,
        "spec": {
            "replicas": max(replicas, 1),
            "selector": {"matchLabels": app},
            "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": pod},
        },
    }
    port = (pod["containers"][0].get("ports") or [{"containerPort": 8080}])[0]["containerPort"]
    service = {
        "metadata": metadata,
        "spec": {"selector": app, "ports": [{"name": name[:15].rstrip("-"), "port": 80, "targetPort": port}]},
    }
    return [(DEPLOYMENT, deployment), (SERVICE, service)]


def _pod(cluster: Cluster, isvc: Object, predictor: Object, image: str) -> Object:
    pod = {key: value for key, value in predictor.items() if key not in _NOT_POD}
    model = predictor.get("model")
    containers = [dict(one) for one in pod.get("containers") or []]
    if model:
        runtime = _runtime(cluster, model)
        overrides = {key: value for key, value in model.items() if key in _OF_CONTAINER}
        containers = [{**one, **overrides} for one in runtime["spec"]["containers"]]
        if model.get("storageUri"):
            volume = {"name": "kserve-provision-location", "emptyDir": {}}
            mount = {"name": volume["name"], "mountPath": "/mnt/models"}
            pod["volumes"] = [*(pod.get("volumes") or []), volume]
            containers[0]["volumeMounts"] = [*(containers[0].get("volumeMounts") or []), {**mount, "readOnly": True}]
            fetch = {
                "name": "storage-initializer",
                "image": image,
                "command": ["python3", "-c", _FETCH, model["storageUri"], "/mnt/models"],
                "volumeMounts": [mount],
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
            pod["initContainers"] = [*(pod.get("initContainers") or []), fetch]
    for one in containers:
        one["env"] = [*(one.get("env") or []), {"name": "INFERENCE_SERVICE_NAME", "value": isvc["metadata"]["name"]}]
        port = (one.get("ports") or [{"containerPort": 8080}])[0]["containerPort"]
        one.setdefault("readinessProbe", {"tcpSocket": {"port": port}, "periodSeconds": 10})
    pod["containers"] = containers
    return pod


def _runtime(cluster: Cluster, model: dict[str, Any]) -> Object:
    """The runtime that is named, else the first that is chosen for the format by itself."""
    found = [*cluster.list(RUNTIME), *cluster.list(CLUSTER_RUNTIME)]
    if name := model.get("runtime"):
        for one in found:
            if one["metadata"]["name"] == name:
                return one
        event = f"No ServingRuntimes or ClusterServingRuntimes with the name: {name}"
        raise NoRuntime("RuntimeNotRecognized", "Waiting for runtime to become available", event)
    wanted = model["modelFormat"]["name"]
    for one in found:
        for able in one["spec"].get("supportedModelFormats") or []:
            if able["name"] == wanted and able.get("autoSelect"):
                return one
    event = f"no runtime found to support predictor with model type: {{{wanted} <nil>}}"
    raise NoRuntime("NoSupportingRuntime", "No runtime found to support specified framework/version", event)
