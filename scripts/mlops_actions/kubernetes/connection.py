"""Connecting to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from ..waiting import Clock
from .failures import Asked, ClusterFailed
from .kubeconfig import resolve
from .objects import Cluster
from .sources import secrets_in
from .transport import Transport

if TYPE_CHECKING:
    from ..inputs import ClusterInputs

__all__ = ["connect", "connector", "is_named", "secrets_in"]


def connect(inputs: ClusterInputs, environ: Mapping[str, str], *, clock: Clock | None = None) -> Cluster:
    """Reach the API server that the inputs name, and see that it accepts us.

    Args:
        inputs: name the kubeconfig, its context and the namespace.
        environ: variables, for KUBECONFIG, proxies and the programs that give credentials.
        clock: for pauses.

    Raises:
        BadInput: the kubeconfig is wrong, or names what does not exist.
        RemoteFailed: the cluster cannot be reached, is not trusted, or refuses the credentials.
    """
    settings = resolve(inputs, environ)
    transport = Transport(settings, environ, clock or Clock())
    try:
        version = (transport.call(Asked("tell its version"), "GET", "/version") or {}).get("gitVersion")
    except ClusterFailed as error:
        if error.reason != "Forbidden":
            raise
        version = ""  # a hardened cluster tells its version to few; it accepted us all the same
    return Cluster(transport, settings.namespace, str(version or ""))


def connector(inputs: ClusterInputs, environ: Mapping[str, str], mask: Callable[[str], None]) -> Callable[[], Cluster]:
    """The cluster that the inputs name, which is connected to with the first call.

    Args:
        inputs: name it.
        environ: variables; see `connect`.
        mask: told every secret of the kubeconfig, before anything is printed.

    Raises (the function that is returned):
        BadInput, RemoteFailed: see `connect`.
    """

    @cache
    def connected() -> Cluster:
        for secret in secrets_in(inputs.kubeconfig.get_secret_value()):
            mask(secret)
        return connect(inputs, environ)

    return connected


def is_named(inputs: ClusterInputs, environ: Mapping[str, str]) -> bool:
    """Whether a cluster was given for this work. A person's `~/.kube/config` may be for another one."""
    given = (environ.get(name) for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))
    return bool(inputs.kubeconfig.get_secret_value() or any(given))
