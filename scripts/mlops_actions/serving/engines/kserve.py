"""The engine `kserve`: an InferenceService a version in a cluster with KServe."""

from __future__ import annotations

from pydantic import Field

from ...engines import Engine
from ...errors import BadInput
from ...workspace import Workspace
from ..cluster.inputs import ServingClusterInputs
from ..engine import ServingEngine


class KServeInputs(ServingClusterInputs):
    """What the engine `kserve` takes."""

    storage: str = Field(
        "",
        description="Where KServe gets the model from, for a runtime of the cluster to serve; the service account has"
        " the keys. The runtime must say in its answers which release gave them, as this project's server does. By"
        " default the model is in the image.",
        examples=["s3://models/{name}/{version}", "oci://ghcr.io/owner/models:{release}"],
        pattern=r"^([a-z0-9]+://\S+)?$",
    )
    model_format: str = Field("", description="The format by which KServe chooses a runtime for `storage`.")
    runtime: str = Field(
        "", description="The ServingRuntime or ClusterServingRuntime for `storage`. By default KServe chooses."
    )


def _make(inputs: KServeInputs, workspace: Workspace) -> ServingEngine:
    from ...kubernetes.kubeconfig import resolve
    from ..cluster.engine import ClusterServing
    from ..cluster.image import image_maker
    from ..cluster.kserve import InferenceServices, Storage
    from ..cluster.manifests import Settings

    def namespace() -> str:
        try:
            return inputs.namespace or resolve(inputs, workspace.environ).namespace
        except BadInput:
            return ""  # no cluster is named: manifests are only shown

    storage = Storage(inputs.storage, inputs.model_format, inputs.runtime) if inputs.storage else None
    return ClusterServing(
        "kserve",
        inputs,
        workspace,
        InferenceServices(namespace, Settings.of(inputs), storage),
        image_maker(inputs, workspace),
        "kserve",
    )


ENGINE = Engine(
    "kserve",
    "an InferenceService a version in a cluster with KServe, behind a Gateway where one is named",
    _make,
    KServeInputs,
    needs=("kserve",),
    remote=True,
)
