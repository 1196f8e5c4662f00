"""Inputs of actions, for tests that call what lies below the actions."""

from __future__ import annotations

from typing import Any

from mlops_actions.inputs import ClusterInputs
from mlops_actions.kubernetes.objects import Cluster
from mlops_actions.pipelines.kfp.inputs import KfpEngineInputs


def cluster_inputs(kubeconfig: str = "", context: str = "", namespace: str = "") -> ClusterInputs:
    """What names a cluster."""
    return ClusterInputs(kubeconfig=kubeconfig, kube_context=context, namespace=namespace)  # type: ignore[arg-type]


def kfp_inputs(url: str, *, namespace: str = "", **settings: Any) -> KfpEngineInputs:
    """What names a Kubeflow Pipelines; `sign_in="token"` is `kfp-sign-in: token`, and so on."""
    fields = {
        name if name in KfpEngineInputs.model_fields else f"kfp_{name}": value for name, value in settings.items()
    }
    return KfpEngineInputs.model_validate({"kfp_host": url, "namespace": namespace, **fields})


def no_cluster() -> Cluster:
    """In the place of a cluster that must not be asked for anything."""
    raise AssertionError("the cluster was asked for")
