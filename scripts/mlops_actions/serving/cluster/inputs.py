"""What the engines take that serve images, in a cluster or in containers of this machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...inputs import ClusterInputs, RegistryInputs
from ...values import QUANTITY, Texts


class ImageInputs(RegistryInputs):
    """Which image serves, and where it comes from."""

    image_repository: str = Field(
        "",
        description="Where the images with models are pushed and whoever serves them pulls them from, without tag.",
        examples=["ghcr.io/${{ github.repository }}/models"],
    )
    image: str = Field(
        "",
        description="An image that is served as it is instead, with the server, the packages and the model in it."
        " By default one is built from the version and the packages that it was trained with.",
    )
    base_image: str = Field(
        "", description="The image with Python that it begins with. By default `python:<version>-slim`."
    )
    memory: str = Field(
        "1Gi", description="Memory that a pod requests, and its limit; that of a container, too.", pattern=QUANTITY
    )


class ServingClusterInputs(ImageInputs, ClusterInputs):
    """What engines take that serve in a cluster."""

    architecture: Literal["amd64", "arm64"] = Field("amd64", description="Of the cluster's nodes.")
    image_pull_secret: str = Field("", description="The Kubernetes secret with which nodes pull the image.")
    replicas: int = Field(1, ge=1, le=1000, description="Pods of a version; with `max-replicas` the fewest.")
    max_replicas: int = Field(
        0, ge=0, le=1000, description="The most pods: a HorizontalPodAutoscaler keeps their CPU near 80 % of `cpu`."
    )
    cpu: str = Field("500m", description="CPU that a pod requests.", pattern=QUANTITY)
    node_selector: Texts = Field({}, description="Labels of the nodes that pods may run on.")
    service_account: str = Field("", description="The pods' service account. They get no token of it.")
    network_policy: bool = Field(
        False, description="Allow pods only requests to the server's ports, and no connection of their own."
    )
    gateway: str = Field(
        "",
        description="The Gateway (`name` or `namespace/name`) whose HTTPRoute splits requests between versions. Without"
        " one they move from one version to the other all at once.",
    )
    hostname: str = Field(
        "", description="Of the HTTPRoute, which then takes gRPC, too. By default all of the Gateway's, without gRPC."
    )
