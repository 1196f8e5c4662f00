"""What the engine `kserve` makes of a release, and when a Deployment counts as up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.serving.cluster.engine import ClusterServing
from mlops_actions.serving.cluster.gateway import Gateway
from mlops_actions.serving.cluster.kserve import InferenceServices, Storage, inference_service, is_complete, name_in
from mlops_actions.serving.cluster.manifests import Settings
from mlops_actions.serving.engine import Release
from mlops_actions.serving.engines.kserve import KServeInputs
from mlops_actions.workspace import Workspace

RELEASE = Release(
    name="flights", version=3, digest="sha256:1", kind="sklearn", model=Path("model"), predict="", root=Path(), code="",
    example=[], lock="", python=Path("python"),
)  # fmt: skip


def predictor(
    settings: Settings | None = None, storage: Storage | None = None, mode: str = "Standard"
) -> dict[str, Any]:
    """Of a release's InferenceService."""
    _, made = inference_service("flights-v3", RELEASE, "image@sha256:2", settings or Settings(), storage, mode)
    found: dict[str, Any] = made["spec"]["predictor"]
    return found


def test_the_name_is_that_of_the_release_where_it_fits() -> None:
    assert name_in("ml", "flights", "v1-0a1b2c3d") == "flights-v1-0a1b2c3d"


def test_a_name_is_cut_to_what_fits_with_its_namespace_into_a_host_name() -> None:
    space = "a-rather-long-namespace"
    long = name_in(space, "a-model-with-a-rather-long-name", "v12-0a1b2c3d")
    assert len(f"{long}-predictor-{space}") <= 63
    assert long.endswith("-v12-0a1b2c3d")
    assert long != name_in(space, "a-model-with-a-rather-long-title", "v12-0a1b2c3d")


def test_a_namespace_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(BadInput, match=r"KServe cannot serve flights in the namespace n+"):
        name_in("n" * 50, "flights", "v1-0a1b2c3d")


def test_only_what_was_asked_for_is_ours() -> None:
    found = predictor()
    assert found["minReplicas"] == 1
    assert not {"maxReplicas", "canaryTrafficPercent", "nodeSelector", "serviceAccountName", "model"} & set(found)
    assert predictor(Settings(max_replicas=4))["maxReplicas"] == 4


def test_the_container_is_the_one_that_kserve_knows_and_says_when_the_model_is_loaded() -> None:
    (container,) = predictor()["containers"]
    assert (container["name"], container["image"]) == ("kserve-container", "image@sha256:2")
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/flights/ready"


def test_a_model_from_storage_is_served_by_a_runtime() -> None:
    settings = Settings(service_account="reader", node_selector={"disk": "fast"})
    found = predictor(settings, Storage("s3://models/{name}/{version}/{release}", "sklearn", "mine"))
    assert "containers" not in found
    assert (found["serviceAccountName"], found["nodeSelector"]) == ("reader", {"disk": "fast"})
    model = found["model"]
    assert (model["storageUri"], model["runtime"]) == (f"s3://models/flights/3/{RELEASE.id}", "mine")
    assert model["modelFormat"] == {"name": "sklearn"}
    assert model["env"] == [{"name": "MLOPS_DIGEST", "value": RELEASE.digest}]


def test_settings_that_change_are_told_from_those_before() -> None:
    def settings(**given: Any) -> str:
        return str(predictor(Settings(**given))["labels"]["mlops-actions.io/settings"])

    assert settings() == settings(timeout=120.0)
    assert len({settings(), settings(memory="2Gi"), settings(replicas=2), settings(node_selector={"a": "b"})}) == 4


def deployment(**status: int) -> dict[str, Any]:
    """One of two pods, all of which are up."""
    counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 5}
    labels = {"mlops-actions.io/release": "v3-1"}
    spec = {"replicas": 2, "template": {"metadata": {"labels": labels}}}
    return {"metadata": {"generation": 5}, "spec": spec, "status": {**counts, **status}}


def test_a_deployment_is_complete_with_all_pods_of_the_release() -> None:
    assert is_complete(deployment(), "v3-1")
    assert not is_complete(deployment(), "v4-1")


@pytest.mark.parametrize(
    "status", [{"observedGeneration": 4}, {"replicas": 3}, {"updatedReplicas": 1}, {"availableReplicas": 1}]
)
def test_a_deployment_with_old_or_missing_pods_is_not_complete(status: dict[str, int]) -> None:
    assert not is_complete(deployment(**status), "v3-1")


def test_its_manifests_are_shown_without_a_cluster() -> None:
    said = SimpleNamespace(say=print, mask=lambda _: None)
    workspace = cast(Workspace, SimpleNamespace(environ={}, console=said))
    inputs = KServeInputs.model_validate({"namespace": "ml"})
    workload = InferenceServices(lambda: "ml", Settings())
    image = "image@sha256:2"
    engine = ClusterServing(
        "kserve", inputs, workspace, workload, Gateway("", ""), lambda _release, _make: image, "kserve"
    )
    made = engine.manifests(RELEASE)
    assert [one["kind"] for one in made] == ["Service", "InferenceService", "Service"]
    chosen = made[0]["spec"]["selector"]
    assert chosen.items() <= made[1]["spec"]["predictor"]["labels"].items()
    assert not chosen.items() <= made[1]["metadata"]["labels"].items()  # KServe puts these on a transformer's pods
