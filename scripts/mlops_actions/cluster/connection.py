"""Connecting to a cluster."""

from __future__ import annotations

from ..waiting import Clock
from .failures import Asked, ClusterFailed
from .kubeconfig import resolve
from .objects import Cluster
from .sources import Access, secrets_in, words_to_mask
from .transport import PATIENCE, Transport

__all__ = ["Access", "connect", "secrets_in", "words_to_mask"]

_FIRST = 5.0
"""Seconds that a cluster that was never reached is asked again: it is more likely named wrongly than restarting."""


def connect(access: Access, *, clock: Clock | None = None) -> Cluster:
    """Reach the API server and see that it accepts us.

    Raises:
        BadInput: the kubeconfig is wrong, or names what is not there.
        RemoteFailed: the cluster cannot be reached, is not trusted, or refuses the credentials.
    """
    settings = resolve(access)
    transport = Transport(settings, access.environ, clock or Clock())
    transport.patience = _FIRST
    try:
        answer = transport.call(Asked("tell its version"), "GET", "/version") or {}
    except ClusterFailed as error:
        if error.reason != "Forbidden":
            raise
        answer = {}  # a hardened cluster tells its version to few; it accepted us all the same
    transport.patience = PATIENCE
    return Cluster(transport, settings.namespace, str(answer.get("gitVersion") or ""))
