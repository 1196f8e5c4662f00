"""The engine `local`: a server on this machine, as a process or in a container."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING

from pydantic import Field

from ...engines import Engine
from ...workspace import Workspace
from ..cluster.inputs import ImageInputs
from ..engine import Release, ServingEngine, folder_of

if TYPE_CHECKING:
    from ..container import Containers


class LocalServingInputs(ImageInputs):
    """What the engine `local` takes."""

    host: str = Field(
        "",
        description="The address to listen on. By default where the model is served, else `127.0.0.1`. For the engine"
        " `local`.",
    )
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="The port to listen on. By default one that stays the same for the model. For the engine `local`.",
    )
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="The port for gRPC; 0 for none. gRPC goes over to a version as a whole, within five seconds after"
        " the other requests. For the engine `local`.",
    )
    container: bool = Field(
        False,
        description="Serve the image that a cluster would (`image`, or one built into `image-repository`) in a"
        " container of this machine's Docker, with `memory` as its limit, instead of a process. For the engine"
        " `local`.",
    )
    timeout: float = Field(120.0, gt=0, description="Seconds until the model must be ready.")


def _make(inputs: LocalServingInputs, workspace: Workspace) -> ServingEngine:
    import platform

    from ..local import Address, LocalServing

    @cache
    def containers() -> Containers:
        from ...images.login import given_credentials
        from ..cluster.image import image_of
        from ..container import Containers

        def image(release: Release, architecture: str) -> str:
            return image_of(release, True, architecture, inputs, workspace)

        return Containers(workspace.environ, image, given_credentials(inputs), workspace.console.say)

    hosted = workspace.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    return LocalServing(
        partial(folder_of, workspace),
        Address(inputs.host, inputs.port, inputs.grpc_port),
        workspace.child_environ(),
        inputs.timeout,
        workspace.console.say,
        containers,
        inputs.memory if inputs.container else None,
        f"local-{re.sub('[^a-z0-9-]+', '-', platform.node().lower()).strip('-') or 'machine'}",
        "What is started on a GitHub-hosted runner ends with the job" if hosted else "",
    )


ENGINE = Engine(
    "local",
    "a server on this machine, as a process or in a container",
    _make,
    LocalServingInputs,
    needs=lambda inputs: ("docker",) if inputs.container else (),
)
