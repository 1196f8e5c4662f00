"""The engine `kserve`: InferenceServices of KServe in a Kubernetes cluster."""

from __future__ import annotations

from pydantic import Field

from ...engines import Engine
from ...workspace import Workspace
from ..cluster.inputs import ServingClusterInputs
from ..engine import ServingEngine


class KServeInputs(ServingClusterInputs):
    """What the engine `kserve` takes."""

    storage: str = Field(
        "",
        description="Where KServe gets the model from, for a runtime of the cluster to serve it, such as"
        " `s3://bucket/models/{name}/{version}` or `oci://…`; the service account gives the keys. By default the model"
        " is in the image. The runtime must name the release in its answers, as this project's server does.",
        pattern=r"^([a-z0-9]+://\S+)?$",
    )
    model_format: str = Field("", description="The format by which KServe chooses a runtime for `storage`.")
    runtime: str = Field("", description="The (Cluster)ServingRuntime for `storage`. By default KServe chooses.")
