"""Connecting to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from ..inputs import ClusterInputs
from ..waiting import Clock
from .failures import Asked, ClusterFailed
from .kubeconfig import resolve
from .objects import Cluster
from .sources import Access, secrets_in, words_to_mask
from .transport import PATIENCE, Transport

__all__ = ["Access", "connect", "connector", "is_named", "secrets_in", "words_to_mask"]

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


def connector(inputs: ClusterInputs, environ: Mapping[str, str], mask: Callable[[str], None]) -> Callable[[], Cluster]:
    """The cluster that the inputs name, which is connected to with the first call.

    Args:
        inputs: name it.
        environ: variables, for the kubeconfig and the proxy.
        mask: told every secret of the kubeconfig, before anything is printed.

    Raises (the function that is returned):
        BadInput, RemoteFailed: the kubeconfig cannot be used, or the cluster cannot be reached.
    """

    @cache
    def connected() -> Cluster:
        kubeconfig = inputs.kubeconfig.get_secret_value()
        for secret in words_to_mask(kubeconfig):
            mask(secret)
        return connect(Access(kubeconfig, inputs.kube_context, inputs.namespace, environ))

    return connected


def is_named(inputs: ClusterInputs, environ: Mapping[str, str]) -> bool:
    """Whether a cluster was given for this work. A person's `~/.kube/config` may be for another one."""
    given = (environ.get(name) for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))
    return bool(inputs.kubeconfig.get_secret_value() or any(given))
