"""The engine `local`: a server on this machine."""

from __future__ import annotations

import re
from functools import partial

from pydantic import Field

from ...engines import Engine
from ...inputs import Inputs
from ...workspace import Workspace
from ..engine import ServingEngine, folder_of


class LocalServingInputs(Inputs):
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
    timeout: float = Field(120.0, gt=0, description="Seconds until the model must be ready.")


def _make(inputs: LocalServingInputs, workspace: Workspace) -> ServingEngine:
    import platform

    from ..local import Address, LocalServing

    hosted = workspace.environ.get("RUNNER_ENVIRONMENT") == "github-hosted"
    return LocalServing(
        partial(folder_of, workspace),
        Address(inputs.host, inputs.port, inputs.grpc_port),
        workspace.child_environ(),
        inputs.timeout,
        workspace.console.say,
        f"local-{re.sub('[^a-z0-9-]+', '-', platform.node().lower()).strip('-') or 'machine'}",
        "What is started on a GitHub-hosted runner ends with the job" if hosted else "",
    )


ENGINE = Engine("local", "a server on this machine", _make, LocalServingInputs)
