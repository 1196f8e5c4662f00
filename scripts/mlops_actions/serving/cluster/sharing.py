"""How the requests of a model are split between its releases: what an engine that serves in a cluster is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...kubernetes.objects import Cluster
from ..engine import Capabilities
from ..protocol import Transport
from .manifests import Made


class Route(Protocol):
    """The object of a model that splits its requests."""

    def shares(self) -> dict[str, int]:
        """The weight of each release; none when there is no such object."""

    def split(self, shares: Mapping[str, int], mirror: str = "") -> None:
        """Give releases these weights, and one of them copies of the requests; returns when that is in force.

        Raises:
            NotServed: it cannot be.
        """

    def delete(self) -> None:
        """Take the object away, if it is ours."""

    def public(self) -> Transport:
        """The way that users' requests take."""


class Sharing(Protocol):
    """Makes the routes of models."""

    def capabilities(self, cluster: Cluster) -> Capabilities:
        """What it can do in a cluster."""

    def route(self, cluster: Cluster, model: str) -> Route | None:
        """That of a model; None where requests can only be moved all at once."""

    def objects(self, model: str, shares: Mapping[str, int]) -> list[Made]:
        """What splits a model's requests so, for people and GitOps."""
