"""Whether a cluster's Katib works, for the doctor: its webhooks respond, its controller and database manager run."""

from __future__ import annotations

from ...errors import RemoteFailed
from ...kubernetes.failures import ClusterFailed, Refused
from ...kubernetes.objects import EXPERIMENT, POD, Cluster, Kind
from .begin import NO_WEBHOOK
from .collector_log import DATABASE
from .status import Object
from .troubles import CONTROLLER

_WEBHOOKS = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
_COMPONENT = "katib.kubeflow.org/component"
_FIXES = {"controller": CONTROLLER, "db-manager": DATABASE}
"""What to do about each part of Katib that has to run."""


def check_webhooks(cluster: Cluster) -> None:
    """Have Katib's webhooks look at a small Experiment, by a dry run. They are part of its controller's process.

    Raises:
        RemoteFailed: they do not respond, are not registered, or these credentials may not ask.
    """
    try:
        made = cluster.apply(EXPERIMENT, _small(cluster.namespace), dry_run=True, repeat=False)
    except Refused:
        return  # they respond; that a namespace lacks Katib's label is told of the namespace
    except ClusterFailed as error:
        if NO_WEBHOOK not in error.why:
            raise
        raise RemoteFailed("It does not respond", why=error.why, fix=CONTROLLER) from error
    if "resumePolicy" not in made["spec"]:
        raise RemoteFailed(
            "It is not registered",
            why="An Experiment gets no defaults, and trials' pods no metrics collector",
            fix="Install Katib anew (kubectl get mutatingwebhookconfiguration katib.kubeflow.org)",
        )


def check_parts(cluster: Cluster) -> list[str]:
    """Check that Katib's controller and database manager are ready.

    Returns:
        The names of those that are; none where these credentials may not see them.

    Raises:
        RemoteFailed: one is not ready.
    """
    webhooks = cluster.get(_WEBHOOKS, "katib.kubeflow.org") if cluster.may("get", _WEBHOOKS) else None
    services = [hook["clientConfig"].get("service") for hook in (webhooks or {}).get("webhooks") or []]
    namespace = next((str(service["namespace"]) for service in services if service), "")
    if not namespace or not cluster.may("list", POD, namespace=namespace):
        return []
    pods = cluster.list(POD, labels=_COMPONENT, namespace=namespace)
    ready = {pod["metadata"]["labels"][_COMPONENT] for pod in pods if _ready(pod)}
    for part, fix in _FIXES.items():
        if part not in ready:
            raise RemoteFailed(f"katib-{part} is not ready in the namespace {namespace}", fix=fix)
    return [f"{namespace}/katib-{part}" for part in _FIXES]


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _small(namespace: str) -> Object:
    """An Experiment that Katib admits."""
    container = {"name": "main", "image": "none", "command": ["true", "${trialParameters.x}"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    return {
        "metadata": {"name": "mlops-doctor", "namespace": namespace},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": "random"},
            "parameters": [
                {"name": "x", "parameterType": "double", "feasibleSpace": {"min": "0", "max": "1"}},
            ],
            "maxTrialCount": 1,
            "parallelTrialCount": 1,
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": "x", "reference": "x"}],
                "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}},
            },
        },
    }
