"""What the objects of a served model are called, and what is in them."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlops_actions.kubernetes.objects import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    ENDPOINT_SLICE,
    POD,
    SERVICE,
    Cluster,
)
from mlops_actions.serving.cluster import manifests
from mlops_actions.serving.cluster.engine import ClusterServing
from mlops_actions.serving.cluster.gateway import Through, http_route
from mlops_actions.serving.cluster.inputs import ServingClusterInputs
from mlops_actions.serving.cluster.manifests import Settings
from mlops_actions.serving.cluster.names import name_of, pod_labels, service_of
from mlops_actions.serving.engine import Release
from mlops_actions.serving.protocol import Refused, Reply
from mlops_actions.waiting import Clock

IMAGE = "registry.example.com/models@sha256:1"


def release(name: str = "m", **changed: Any) -> Release:
    values: dict[str, Any] = {
        "name": name, "version": 3, "digest": "sha256:d", "kind": "sklearn", "model": Path("m"), "predict": "",
        "root": Path(), "code": "", "example": [], "lock": "numpy==2.0", "python": Path("python"),
    }  # fmt: skip
    return Release(**{**values, **changed})


@pytest.mark.parametrize(
    ("model", "service"),
    [
        ("flight-delays", "flight-delays"),
        ("flight_delays", r"flight-delays-[0-9a-f]{6}"),
        ("flight.delays", r"flight-delays-[0-9a-f]{6}"),
        ("1st", r"m-1st-[0-9a-f]{6}"),
        ("x" * 128, r"x{33}-[0-9a-f]{6}"),
        ("a" * 40, "a" * 40),
    ],
)
def test_a_model_has_a_service_by_its_name_or_close_to_it(model: str, service: str) -> None:
    assert re.fullmatch(service, service_of(model))
    assert len(name_of(model, "v100000-1a2b3c4d")) <= 63


def test_models_of_different_names_never_share_a_service() -> None:
    names = ["a-b", "a_b", "a.b", "a--b", "m-1", "1", "x" * 60, "x" * 61]
    assert len({service_of(name) for name in names}) == len(names)


def test_a_pod_has_no_rights_and_is_ready_when_the_model_is_loaded() -> None:
    kind, body = manifests.deployment(release(), IMAGE, Settings(memory="2Gi"))
    assert kind is DEPLOYMENT
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/m/ready"
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert body["metadata"]["annotations"]["mlops-actions.io/digest"] == "sha256:d"
    assert not {"nodeSelector", "serviceAccountName", "imagePullSecrets"} & pod.keys()


def test_the_number_of_pods_is_an_autoscalers_where_there_is_one() -> None:
    fixed = manifests.deployment(release(), IMAGE, Settings(replicas=2))[1]
    assert fixed["spec"]["replicas"] == 2
    scaled = Settings(replicas=2, max_replicas=5)
    assert "replicas" not in manifests.deployment(release(), IMAGE, scaled)[1]["spec"]
    assert [kind for kind, _ in manifests.scaling(release(), scaled)] == [AUTOSCALER, DISRUPTION_BUDGET]
    assert manifests.scaling(release(), Settings()) == []


def test_a_release_is_reached_alone_and_a_model_through_one_release() -> None:
    one = release()
    kind, alone = manifests.release_service(one)
    assert kind is SERVICE
    assert alone["spec"]["selector"] == pod_labels("m", one.id)
    _, public = manifests.public_service("m", one.id, {})
    assert public["metadata"]["name"] == "m"
    assert public["spec"]["selector"] == pod_labels("m", one.id)
    _, nobody = manifests.public_service("m", "", {})
    assert nobody["spec"]["selector"]["mlops-actions.io/release"] == ""


def test_no_object_has_a_label_that_kserve_takes_for_its_own() -> None:
    made = [manifests.release_service(release()), manifests.deployment(release(), IMAGE, Settings(max_replicas=2))]
    assert "kserve" not in str(made) + str(manifests.network_policy("m"))


def test_a_route_has_a_weight_for_each_release() -> None:
    _, body = http_route("infra/models", "m.example.com", "m", {"v1-a": 90, "v2-b": 10}, mirror="v2-b")
    assert body["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "models", "namespace": "infra"}
    ]
    rules = body["spec"]["rules"]
    assert [rule["matches"][0]["path"]["value"] for rule in rules] == [
        "/v2/models/m",
        "/inference.GRPCInferenceService",
    ]
    for rule, port in zip(rules, (manifests.PORT, manifests.GRPC), strict=True):
        refs = [(ref["name"], ref["port"], ref["weight"]) for ref in rule["backendRefs"]]
        assert refs == [("m-v1-a", port, 90), ("m-v2-b", port, 10)]
        mirrored = rule["filters"][0]["requestMirror"]["backendRef"]
        assert (mirrored["name"], mirrored["port"]) == ("m-v2-b", port)


def test_without_a_hostname_a_route_takes_no_grpc_since_that_names_no_model() -> None:
    _, body = http_route("models", "", "m", {"v1-a": 100})
    assert "hostnames" not in body["spec"] and len(body["spec"]["rules"]) == 1


def test_a_host_name_that_cannot_be_resolved_says_why_it_is_all_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*given: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    way = Through("http", "m.example.com", 80, "m.example.com", " (the Gateway may not be read)")
    reason = r"http://m\.example\.com: its host name cannot be resolved here \(the Gateway may not be read\)"
    with pytest.raises(Refused, match=reason):
        way.send("/v2", None, 1.0)


class Fresh:
    """A route whose address finds nothing at first, as a gateway's does that has just been given its first one."""

    url = "http://m.example.com"

    def __init__(self) -> None:
        self.statuses = [404, 404, 503]
        self.shares: dict[str, int] = {}

    def route(self, *_: object) -> Fresh:
        return self

    def public(self) -> Fresh:
        return self

    def split(self, shares: dict[str, int], mirror: str = "") -> None:
        self.shares = shares

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        return Reply(self.statuses.pop(0) if self.statuses else 200, {}, b"")


def test_the_first_version_has_its_address_when_that_responds() -> None:
    pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    found = {POD: [pod], ENDPOINT_SLICE: [{"endpoints": [{"targetRef": {"name": "p"}}]}]}
    cluster = SimpleNamespace(
        namespace="ml", clock=Clock(), get=lambda *_: None, apply=lambda *_: {}, list=lambda kind, **_: found[kind]
    )
    fresh, workspace = Fresh(), SimpleNamespace(environ={}, console=SimpleNamespace(mask=lambda _: None))
    given: Any = (ServingClusterInputs(), workspace, None, fresh, None, "kubernetes")
    engine = ClusterServing("kubernetes", *given)
    engine._connect = lambda: cast(Cluster, cluster)
    engine.shift(release(), 100)
    assert fresh.shares == {release().id: 100}
    assert fresh.statuses == []  # it was asked until it responded
