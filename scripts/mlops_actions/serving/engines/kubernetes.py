"""The engine `kubernetes`: a Deployment and a Service a version in a cluster."""

from __future__ import annotations

from typing import Any

from ...engines import Engine
from ...workspace import Workspace
from ..cluster.inputs import ServingClusterInputs
from ..engine import ServingEngine


def _make(inputs: Any, workspace: Workspace) -> ServingEngine:
    from ..cluster.engine import ClusterServing
    from ..cluster.gateway import Gateway
    from ..cluster.image import image_maker
    from ..cluster.manifests import Settings
    from ..cluster.workload import Deployments

    settings = Settings.of(inputs)
    sharing = Gateway(inputs.gateway, inputs.hostname)
    image = image_maker(inputs, workspace)
    return ClusterServing("kubernetes", inputs, workspace, Deployments(settings), sharing, image, "kubernetes")


ENGINE = Engine(
    "kubernetes",
    "a Deployment and a Service a version in a Kubernetes cluster, behind a Gateway where one is named",
    _make,
    ServingClusterInputs,
    needs=lambda inputs: ("kubernetes", "gateway") if inputs.gateway else ("kubernetes",),
    remote=True,
)
