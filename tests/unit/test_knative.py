"""Shares by a Route of Knative: what is asked of it, and what its status means.

The statuses are those of a real Knative Serving 1.21 (net-kourier), as it gave them.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.kubernetes.objects import Cluster, Kind
from mlops_actions.serving.cluster.knative import Knative, KnativeRoute, knative_route
from mlops_actions.serving.cluster.kserve import inference_service
from mlops_actions.serving.cluster.manifests import Settings
from mlops_actions.serving.engine import NotServed
from mlops_actions.serving.engines.kserve import ENGINE, KServeInputs
from mlops_actions.waiting import Clock
from standin_model import release

ONE, TWO = "v1-0a1b2c3d", "v2-4e5f6a7b"
READY = [
    {"status": "True", "type": "AllTrafficAssigned"},
    {"message": "external-domain-tls is not enabled", "reason": "TLSNotEnabled", "status": "True",
     "type": "CertificateProvisioned"},
    {"status": "True", "type": "IngressReady"},
    {"status": "True", "type": "Ready"},
]  # fmt: skip


def lacking(reason: str, message: str) -> list[dict[str, str]]:
    """Of a Route that names a Configuration without a revision that is ready."""
    refused = {"message": message, "reason": reason, "status": "False"}
    unknown = {"message": "Ingress has not yet been reconciled.", "reason": "IngressNotConfigured", "status": "Unknown"}
    return [{**refused, "type": "AllTrafficAssigned"}, READY[1], {**unknown, "type": "IngressReady"},
            {**refused, "type": "Ready"}]  # fmt: skip


class Turning(Clock):
    """A clock that goes on as it is waited for."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """The time."""
        return self.time

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Let it be later."""
        self.time += seconds
        return False


class Routes:
    """A cluster with one Route, whose statuses follow each other as they are looked at."""

    namespace = "ml"

    def __init__(self, *statuses: dict[str, Any]) -> None:
        self.clock, self.statuses = Turning(), list(statuses)
        self.spec: dict[str, Any] | None = None
        self.labels: dict[str, str] = {}
        self.generation = 0

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The Route."""
        if self.spec is None:
            return None
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        about = {"name": name, "labels": self.labels, "generation": self.generation}
        return {"metadata": about, "spec": self.spec, "status": status}

    def apply(self, kind: Kind, body: dict[str, Any], *, force: bool) -> dict[str, Any]:
        """Take it."""
        self.spec, self.labels, self.generation = body["spec"], body["metadata"]["labels"], self.generation + 1
        return {**body, "metadata": {**body["metadata"], "generation": self.generation}}

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """None of Knative."""
        return ()


def status(generation: int, conditions: list[dict[str, str]]) -> dict[str, Any]:
    """Of the Route."""
    url = "http://flights-live.ml.models.example.com"
    return {"observedGeneration": generation, "conditions": conditions, "url": url}


def route_in(cluster: Routes, ingress: str = "") -> KnativeRoute:
    """The Route of the model flights."""
    return KnativeRoute(cast(Cluster, cluster), "flights", lambda one: f"flights-{one}-predictor", ingress)


def test_a_route_names_the_configuration_of_each_release_that_has_a_share() -> None:
    _, made = knative_route("flights", {f"flights-{ONE}-predictor": 100, f"flights-{TWO}-predictor": 0})
    assert made["metadata"]["name"] == "flights-live"  # Knative makes a Service of this name
    (target,) = made["spec"]["traffic"]
    assert target == {"configurationName": f"flights-{ONE}-predictor", "latestRevision": True, "percent": 100}


def test_shares_are_in_force_when_knative_has_seen_them_and_is_ready() -> None:
    cluster = Routes(status(0, READY), status(0, READY), status(1, lacking("", "")[2:3]), status(1, READY))
    route = route_in(cluster)
    route.split({ONE: 90, TWO: 10})
    assert len(cluster.statuses) == 1  # one that is ready for what was asked before is not believed
    assert route.shares() == {ONE: 90, TWO: 10}


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("RevisionMissing", 'Configuration "flights-v2-4e5f6a7b-predictor" does not have any ready Revision.'),
        ("ConfigurationMissing", 'Configuration "flights-v2-4e5f6a7b-predictor" referenced in traffic not found.'),
    ],
)
def test_a_release_that_is_not_ready_gets_no_share_and_that_is_told(reason: str, message: str) -> None:
    cluster = Routes(status(1, lacking(reason, message)))
    with pytest.raises(NotServed, match=f"does not give the Route flights-live these shares: {reason}: {message}"):
        route_in(cluster).split({ONE: 50, TWO: 50})
    assert cluster.clock.now() < 60


def test_a_controller_that_does_not_run_is_told_so() -> None:
    with pytest.raises(NotServed, match="has not picked it up") as failed:
        route_in(Routes(status(0, READY))).split({ONE: 100})
    assert "kubectl -n knative-serving" in failed.value.fix


def test_a_route_of_somebody_else_is_left_alone() -> None:
    cluster = Routes(status(0, READY))
    cluster.spec, cluster.labels = {"traffic": [{"revisionName": "theirs-00001", "percent": 100}]}, {"team": "search"}
    route = route_in(cluster)
    with pytest.raises(NotServed, match="belongs to somebody else"):
        route.split({ONE: 100})
    assert route.shares() == {}
    assert cluster.spec["traffic"][0]["revisionName"] == "theirs-00001"


@pytest.mark.parametrize(
    ("ingress", "address"),
    [("", "flights-live.ml.models.example.com:80"), ("10.0.0.7", "10.0.0.7:80"), ("node:31080", "node:31080")],
)
def test_users_ask_by_the_routes_name_at_the_ingress(ingress: str, address: str) -> None:
    cluster = Routes(status(1, READY))
    route = route_in(cluster, ingress)
    route.split({ONE: 100})
    way = route.public()
    assert (way.address, way.url.split(":")[1]) == (address, "//flights-live.ml.models.example.com")


def test_a_cluster_without_knative_is_told_so_before_anything_begins() -> None:
    with pytest.raises(BadInput, match="KServe cannot serve by Knative in this cluster") as failed:
        Knative(lambda model, one: one, "").capabilities(cast(Cluster, Routes({})))
    assert "`deployment-mode: Standard`" in (failed.value.fix or "")


def test_a_pod_has_only_what_knative_takes() -> None:
    _, made = inference_service("flights-v3", release("flights", 3), "image@sha256:2", Settings(), None, "Knative")
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Serverless"
    predictor = made["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)  # Knative's own most is without end
    assert not {"securityContext", "terminationGracePeriodSeconds", "nodeSelector"} & predictor.keys()
    (container,) = predictor["containers"]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert "lifecycle" not in container
    assert container["securityContext"]["runAsNonRoot"] and container["securityContext"]["runAsUser"]


@pytest.mark.parametrize("name", ["gateway", "hostname", "network_policy"])
def test_what_knative_has_no_use_for_is_refused(name: str) -> None:
    fields = {"deployment_mode": "Knative", name: True if name == "network_policy" else "x.example.com"}
    given = name.replace("_", "-")
    with pytest.raises(BadInput, match=f"`{given}` cannot be used with `deployment-mode: Knative`"):
        ENGINE.make(KServeInputs.model_validate(fields), cast(Any, SimpleNamespace(environ={})))
