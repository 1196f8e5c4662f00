"""Asking a model server in a cluster through the API server, from wherever the cluster is reached.

https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/
"""

from __future__ import annotations

from ...http.faults import HttpError
from ...kubernetes.objects import Cluster
from ..protocol import Refused, Reply
from .manifests import PORT


class Proxied:
    """A transport to a Service of the cluster. See `serving.protocol.Transport`.

    Args:
        cluster: where it is.
        service: its name.
        url: under which the cluster's own programs reach it.
    """

    def __init__(self, cluster: Cluster, service: str, url: str) -> None:
        self.url, self._cluster, self._service = url, cluster, service

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        """See `Transport`.

        Raises:
            ClusterFailed: we may not ask it so.
        """
        try:
            got = self._cluster.through(self._service, PORT, path, data, timeout=timeout)
        except HttpError as error:
            if error.status in (401, 403):
                raise
            raise Refused(0, str(error)) from None
        return Reply(got.status, {name.lower(): value for name, value in got.headers.items()}, got.content)
