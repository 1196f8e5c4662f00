"""Whether a host has ML Metadata, which is where the results of runs are; needs no protobuf."""

from __future__ import annotations

from ....errors import BadInput
from ..client.api import ApiError, KfpApi

SERVICE = "ml_metadata.MetadataStoreService"
ROUTE = (
    f"Set `kfp-host` to KFP's UI (`ml-pipeline-ui`), or let the host route /{SERVICE}/ to"
    " `metadata-envoy-service` (port 9090)"
)
"""What to do where a host has no ML Metadata."""


def check_metadata(api: KfpApi) -> None:
    """See that ML Metadata is there.

    Raises:
        BadInput: the service is not at this host.
        ApiError: it fails, or sends something else.
    """
    try:
        api.grpc_web(SERVICE, "GetContextTypes", b"")
    except ApiError as error:
        if error.status == 404:
            raise BadInput(
                f"{api.url} has no ML Metadata, so the results of a run cannot be read",
                why="KFP's API server alone does not have them",
                fix=ROUTE,
            ) from error
        if not error.code:  # gRPC's: a service that refuses is there
            raise
