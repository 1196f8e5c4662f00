"""The engine `kserve`: an InferenceService a version in a cluster with KServe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ...engines import Engine, Need
from ...errors import BadInput
from ...workspace import Workspace
from ..cluster.inputs import ServingClusterInputs
from ..engine import ServingEngine


class KServeInputs(ServingClusterInputs):
    """What the engine `kserve` takes."""

    deployment_mode: Literal["Standard", "Knative"] = Field(
        "Standard",
        description="KServe's: `Standard` runs a version by a Deployment, and a Gateway splits requests (`gateway`);"
        " `Knative` runs it by Knative Serving, which adds pods by requests and splits them by a Route, without gRPC.",
    )
    ingress: str = Field(
        "",
        description="Where Knative takes requests, as `host` or `host:port`. By default what the name of the model's"
        " Route leads to.",
        pattern=r"^([^\s/:]+(:[0-9]+)?)?$",
    )
    storage: str = Field(
        "",
        description="Where KServe gets the model from, for a runtime of the cluster to serve; the service account has"
        " the keys. The runtime must say in its answers which release gave them, as this project's server does"
        " (`python3 -m mlops_actions.serving.server /mnt/models`) on a copy of `/opt/model` of its image. By"
        " default the model is in the image.",
        examples=["s3://models/{name}/{version}", "oci://ghcr.io/owner/models:{release}"],
        pattern=r"^([a-z0-9]+://\S+)?$",
    )
    model_format: str = Field("", description="The format by which KServe chooses a runtime for `storage`.")
    runtime: str = Field(
        "", description="The ServingRuntime or ClusterServingRuntime for `storage`. By default KServe chooses."
    )


_STANDARD_ONLY = {
    "gateway": "Knative's own Route splits the requests",
    "hostname": "The name is that of Knative's Route, in its domain",
    "network_policy": "Knative's proxies in the pods take the requests, at other ports",
}


def _make(inputs: KServeInputs, workspace: Workspace) -> ServingEngine:
    from ...kubernetes.kubeconfig import resolve
    from ..cluster.engine import ClusterServing
    from ..cluster.gateway import Gateway
    from ..cluster.image import image_maker
    from ..cluster.knative import Knative
    from ..cluster.kserve import InferenceServices, Storage
    from ..cluster.manifests import Settings

    knative = inputs.deployment_mode == "Knative"
    for name, why in _STANDARD_ONLY.items():
        if knative and getattr(inputs, name):
            given = name.replace("_", "-")
            raise BadInput(
                f"`{given}` cannot be used with `deployment-mode: Knative`", why=why, fix=f"Leave out `{given}`"
            )

    def namespace() -> str:
        try:
            return inputs.namespace or resolve(inputs, workspace.environ).namespace
        except BadInput:
            return ""  # no cluster is named: manifests are only shown

    storage = Storage(inputs.storage, inputs.model_format, inputs.runtime) if inputs.storage else None
    workload = InferenceServices(namespace, Settings.of(inputs), storage, inputs.deployment_mode)
    sharing = Knative(workload.configuration, inputs.ingress) if knative else Gateway(inputs.gateway, inputs.hostname)
    return ClusterServing("kserve", inputs, workspace, workload, sharing, image_maker(inputs, workspace), "kserve")


def _needs(inputs: KServeInputs) -> Sequence[Need]:
    if inputs.deployment_mode == "Knative":
        return ("kserve", "knative")
    return ("kserve", "gateway") if inputs.gateway else ("kserve",)


ENGINE = Engine(
    "kserve",
    "an InferenceService a version in a cluster with KServe, behind a Gateway where one is named or Knative's Route",
    _make,
    KServeInputs,
    needs=_needs,
    remote=True,
)
