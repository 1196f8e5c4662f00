"""What runs the pods of a release: here a Deployment; an engine may bring another one."""

from __future__ import annotations

from typing import Protocol

from ...kubernetes.objects import AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, Cluster, Kind, Object
from ...waiting import wait_until
from ..engine import Release
from . import manifests
from .manifests import Made, Settings
from .names import name_of
from .pods import wait_for_pods

_SEEN = 10.0
"""Seconds in which the cluster's controller must have looked at a Deployment that was changed."""


class Workload(Protocol):
    """Makes the pods of releases; they carry `names.pod_labels(model, release)` and listen at `manifests.HTTP`."""

    kinds: tuple[Kind, ...]
    """Of the objects that it makes for a release; they carry the same labels."""
    needs_image: bool
    """Whether pods run an image that is made of the release."""

    def objects(self, release: Release, image: str) -> list[Made]:
        """What runs a release."""

    def image(self, cluster: Cluster, model: str, release: str) -> str:
        """The image of a release's objects that are there; "" when they are not."""

    def begin(self, cluster: Cluster, release: Release) -> None:
        """The objects were applied: see that they make pods, also when they had been at rest."""

    def wait(self, cluster: Cluster, release: Release) -> None:
        """Wait until all pods of a release are ready.

        Raises:
            NotServed: they will not be, or were not in time.
        """

    def rest(self, cluster: Cluster, model: str, release: str) -> None:
        """A release's objects stay and have no pods."""

    def at_rest(self, kind: Kind, item: Object) -> Object | None:
        """One of a release's objects as it is at rest; None for one that is of no use then."""


class Deployments:
    """A Deployment a release.

    Args:
        settings: of the pods; the image comes with each release.
    """

    kinds: tuple[Kind, ...] = (AUTOSCALER, DISRUPTION_BUDGET, DEPLOYMENT)
    needs_image = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def objects(self, release: Release, image: str) -> list[Made]:
        """See `Workload`."""
        return [manifests.deployment(release, image, self._settings), *manifests.scaling(release, self._settings)]

    def image(self, cluster: Cluster, model: str, release: str) -> str:
        """See `Workload`."""
        found = cluster.get(DEPLOYMENT, name_of(model, release))
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""

    def begin(self, cluster: Cluster, release: Release) -> None:
        """See `Workload`. An autoscaler leaves a Deployment without pods alone."""
        name = name_of(release.name, release.id)
        found = cluster.get(DEPLOYMENT, name)
        if found and not found["spec"].get("replicas"):
            cluster.patch(DEPLOYMENT, name, {"spec": {"replicas": self._settings.replicas}})

    def wait(self, cluster: Cluster, release: Release) -> None:
        """See `Workload`."""
        wait_until(lambda: _is_seen(cluster.get(DEPLOYMENT, name_of(release.name, release.id))), _SEEN, cluster.clock)
        wait_for_pods(cluster, release.name, release.id, self._settings.replicas, self._settings.timeout)

    def rest(self, cluster: Cluster, model: str, release: str) -> None:
        """See `Workload`."""
        name = name_of(model, release)
        found = cluster.get(DEPLOYMENT, name)
        if found and found["spec"].get("replicas"):
            cluster.patch(DEPLOYMENT, name, {"spec": {"replicas": 0}})

    def at_rest(self, kind: Kind, item: Object) -> Object | None:
        """See `Workload`."""
        return {**item, "spec": {**item["spec"], "replicas": 0}} if kind == DEPLOYMENT else None


def _is_seen(found: Object | None) -> bool:
    """Whether the pods that a Deployment asks for have been made, perhaps beside those that it had before."""
    status = (found or {}).get("status") or {}
    wanted = ((found or {}).get("spec") or {}).get("replicas") or 0
    current = status.get("observedGeneration", 0) >= (found or {"metadata": {}})["metadata"].get("generation", 0)
    return bool(current and status.get("updatedReplicas", 0) >= min(wanted, 1))
