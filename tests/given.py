"""Inputs of actions, for tests that call what lies below the actions."""

from __future__ import annotations

from typing import Any

from mlops_actions.action import ClusterInputs, KfpInputs


def cluster_inputs(kubeconfig: str = "", context: str = "", namespace: str = "") -> ClusterInputs:
    """What names a cluster."""
    return ClusterInputs(kubeconfig=kubeconfig, kube_context=context, namespace=namespace)  # type: ignore[arg-type]


def kfp_inputs(url: str, *, namespace: str = "", **settings: Any) -> KfpInputs:
    """What names a Kubeflow Pipelines; `sign_in="token"` is `kfp-sign-in: token`, and so on."""
    return KfpInputs(kfp_host=url, namespace=namespace, **{f"kfp_{name}": value for name, value in settings.items()})
