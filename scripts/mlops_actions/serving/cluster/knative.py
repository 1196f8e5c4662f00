"""Splitting the requests of a model between its releases by a Route of Knative Serving.

KServe's own share, `canaryTrafficPercent`, is that of the latest revision of one InferenceService that is changed in
place. The share of one that is not ready goes to the version before without a word, and which version that is follows
from the order of what was ready. A Route of our own names the Configuration of each release instead, which KServe makes
for its InferenceService: what is asked for is in force as it was asked for, or the Route says why not.

https://knative.dev/docs/serving/traffic-management
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from ...errors import BadInput
from ...kubernetes.objects import KNATIVE_ROUTE, Cluster, Object
from ...waiting import wait_until
from ..engine import Capabilities, NotServed
from .gateway import Through
from .manifests import HTTP, Made
from .names import MANAGED, MANAGER, labels, service_of

INSTALL = "Install Knative Serving (https://knative.dev/docs/install)"
_RELEASE = re.compile(r"-(v\d+-[0-9a-f]{8})-predictor")
_ASSIGNED = "AllTrafficAssigned"
_SHORT = 10.0
"""Seconds in which a Configuration must be found whose pods are ready."""


class KnativeRoute:
    """The Knative Route of a model. See `sharing.Route`.

    Args:
        cluster: where.
        model: its name in the registry.
        configuration: the name of a release's Configuration, by the release's id.
        ingress: `host` or `host:port` where requests are taken; "" for what the Route's own name leads to.
        timeout: seconds until Knative must have taken a change.
    """

    def __init__(
        self,
        cluster: Cluster,
        model: str,
        configuration: Callable[[str], str],
        ingress: str = "",
        timeout: float = 60.0,
    ) -> None:
        self._cluster, self._model, self._configuration = cluster, model, configuration
        self._ingress, self._timeout, self._name = ingress, timeout, route_of(model)

    def shares(self) -> dict[str, int]:
        """See `Route`."""
        found = self._cluster.get(KNATIVE_ROUTE, self._name) or {}
        targets = (found.get("spec") or {}).get("traffic") or []
        named = ((_RELEASE.search(str(one.get("configurationName"))), one.get("percent") or 0) for one in targets)
        return {name[1]: int(percent) for name, percent in named if name}

    def split(self, shares: Mapping[str, int], mirror: str = "") -> None:
        """See `Route`. Knative says that it is in force when its ingress has it.

        Raises:
            NotServed: Knative does not take it, in time or at all.
        """
        found = self._cluster.get(KNATIVE_ROUTE, self._name)
        if found and (found["metadata"].get("labels") or {}).get(MANAGED) != MANAGER:
            raise NotServed(f"the Knative Route {self._name} belongs to somebody else", fix="Rename it, or the model")
        kind, made = knative_route(self._model, {self._configuration(one): shares[one] for one in shares})
        applied = self._cluster.apply(kind, made, force=True)
        generation, clock = applied["metadata"]["generation"], self._cluster.clock
        began, said = clock.now(), dict[str, Object]()

        def settled() -> bool:
            status = (self._cluster.get(KNATIVE_ROUTE, self._name) or {}).get("status") or {}
            seen = status.get("observedGeneration") == generation
            said.clear()
            said.update({one["type"]: one for one in status.get("conditions") or [] if seen})
            refused = said.get(_ASSIGNED, {}).get("status") == "False"
            return _is_ready(said) or (refused and clock.now() - began >= _SHORT)

        wait_until(settled, self._timeout, clock)
        if not _is_ready(said):
            lacking = [one for one in said.values() if one["status"] != "True" and one["type"] != "Ready"]
            why = [one for one in lacking if one["status"] == "False"] or lacking
            text = "; ".join(f"{one.get('reason')}: {one.get('message')}" for one in why)
            raise NotServed(
                f"Knative does not give the Route {self._name} these shares: {text or 'it has not picked it up'}",
                fix="See whether its controller and its ingress run: `kubectl -n knative-serving get pods`",
            )

    def delete(self) -> None:
        """See `Route`."""
        found = self._cluster.get(KNATIVE_ROUTE, self._name)
        if found and (found["metadata"].get("labels") or {}).get(MANAGED) == MANAGER:
            self._cluster.delete(KNATIVE_ROUTE, self._name)

    def public(self) -> Through:
        """See `Route`."""
        status = (self._cluster.get(KNATIVE_ROUTE, self._name) or {}).get("status") or {}
        url = urlsplit(str(status.get("url") or f"http://{self._name}.{self._cluster.namespace}.svc.cluster.local"))
        host, _, port = (self._ingress or url.netloc).partition(":")
        hint = " (set `ingress` to where Knative takes requests, if its domain is not known here)"
        known = int(port or (443 if url.scheme == "https" else 80))
        return Through(url.scheme, host, known, str(url.hostname), "" if self._ingress else hint)


class Knative:
    """Routes of Knative for the releases of an engine. See `sharing.Sharing`.

    Args:
        configuration: the name of a release's Configuration, by the model's name and the release's id.
        ingress: see `KnativeRoute`.
    """

    def __init__(self, configuration: Callable[[str, str], str], ingress: str) -> None:
        self._configuration, self._ingress = configuration, ingress

    def capabilities(self, cluster: Cluster) -> Capabilities:
        """See `Sharing`.

        Raises:
            BadInput: the cluster has no Knative Serving.
        """
        if KNATIVE_ROUTE.version not in cluster.versions(KNATIVE_ROUTE):
            raise BadInput(
                "KServe cannot serve by Knative in this cluster",
                why="It does not know Routes of Knative Serving",
                fix=f"{INSTALL}, or set `deployment-mode: Standard`",
            )
        return Capabilities(weights=True, lacking="Knative cannot mirror requests; `gateway` in Standard mode can")

    def route(self, cluster: Cluster, model: str) -> KnativeRoute:
        """See `Sharing`."""
        return KnativeRoute(cluster, model, lambda release: self._configuration(model, release), self._ingress)

    def objects(self, model: str, shares: Mapping[str, int]) -> list[Made]:
        """See `Sharing`."""
        return [knative_route(model, {self._configuration(model, one): shares[one] for one in shares})]


def route_of(model: str) -> str:
    """The name of a model's Route. Knative makes a Service of the same name, so it is not that of the model's own."""
    return f"{service_of(model)}-live"


def knative_route(model: str, shares: Mapping[str, int]) -> Made:
    """The Route of a model, with the percentage of each Configuration; those with none are left out."""
    traffic = [
        {"configurationName": name, "latestRevision": True, "percent": share} for name, share in shares.items() if share
    ]
    return KNATIVE_ROUTE, {"metadata": {"name": route_of(model), "labels": labels(model)}, "spec": {"traffic": traffic}}


def knative_pod(pod: Object) -> Object:
    """A pod as Knative takes it: one port, no hooks and no settings of the pod as a whole, which are its own.

    https://knative.dev/docs/serving/services/configure-probing
    """
    own = {key: value for key, value in pod.items() if key not in ("securityContext", "terminationGracePeriodSeconds")}
    container, *others = pod["containers"]
    mine = {key: value for key, value in container.items() if key != "lifecycle"}
    mine["ports"] = [{"containerPort": HTTP, "protocol": "TCP"}]
    mine["securityContext"] = {**pod["securityContext"], **container["securityContext"]}
    return {**own, "containers": [mine, *others]}


def _is_ready(conditions: Mapping[str, Object]) -> bool:
    return bool(conditions.get("Ready", {}).get("status") == "True")
