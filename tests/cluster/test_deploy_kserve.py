"""The engine `kserve` on a real Kubernetes: a release comes up, gets its share, fails, is gone back from.

KServe is the cluster's own where KSERVE is `real`, else the double under tests/doubles/kserve; each test's name says
which. The same tests run on both. The model server is a stand-in (tests/standin_model.py), so that no test waits for
packages.
"""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

import clusters
import serving_worlds
import standin_model
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.kubernetes.objects import (
    DEPLOYMENT,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVING_RUNTIME,
    Cluster,
    Kind,
    Object,
)
from mlops_actions.serving.cluster import kserve
from mlops_actions.serving.cluster.engine import ClusterServing
from mlops_actions.serving.cluster.gateway import Gateway
from mlops_actions.serving.cluster.knative import Knative
from mlops_actions.serving.cluster.kserve import InferenceServices, Storage, name_in
from mlops_actions.serving.cluster.manifests import Settings
from mlops_actions.serving.cluster.names import pod_labels, selector, service_of
from mlops_actions.serving.cluster.pods import living
from mlops_actions.serving.engine import NotServed, Release, ServingEngine
from mlops_actions.serving.engines.kserve import ENGINE, KServeInputs
from mlops_actions.serving.protocol import Client, Direct
from mlops_actions.waiting import wait_until
from mlops_actions.workspace import Workspace
from standin_model import Behaviour, release
from workspaces import workspace

pytestmark = [clusters.needs_kubernetes, pytest.mark.parametrize("on", [clusters.kserve_name()])]
SMALL = {"cpu": "10m", "memory": "64Mi"}


class DeployInputs(KServeInputs):
    """With what the action itself takes."""

    timeout: float = 180.0


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace that KServe looks after."""
    with clusters.kserve() as name:
        yield name


class World:
    """A model in a namespace, and the engine that serves it.

    Attributes:
        behaviours: of releases that do not simply serve, by id.
        said: what the engine said.
    """

    def __init__(self, namespace: str, name: str, gateway: str = "", *, knative: str = "", **settings: Any) -> None:
        self.namespace, self.name = namespace, name
        self.cluster = clusters.administrator(namespace)
        self.behaviours: dict[str, Behaviour] = {}
        self.said: list[str] = []
        hostname = f"{name}.{namespace}.example.com" if gateway else ""
        fields = {"namespace": namespace, "gateway": gateway, "hostname": hostname}
        if knative:
            fields |= {"deployment_mode": "Knative", "ingress": knative}
        self.engine = self.made(KServeInputs.model_validate(fields), settings)

    def made(self, inputs: KServeInputs, settings: Mapping[str, Any], storage: Storage | None = None) -> ClusterServing:
        """The engine, with the stand-in's images."""
        environ = dict(os.environ)
        console = SimpleNamespace(say=self.said.append, mask=lambda _: None)
        workspace = cast(Workspace, SimpleNamespace(environ=environ, console=console))
        given = Settings(**{**SMALL, "timeout": 180.0, **settings})
        workload = InferenceServices(lambda: self.namespace, given, storage, inputs.deployment_mode)
        knative = inputs.deployment_mode == "Knative"
        ways = Knative(workload.configuration, inputs.ingress) if knative else Gateway(inputs.gateway, inputs.hostname)
        return ClusterServing("kserve", inputs, workspace, workload, ways, self.image, "kserve")

    def image(self, release: Release, make: bool) -> str:
        """As `image.image_maker` gives it."""
        return standin_model.image(release, self.behaviours.get(release.id, "serves"))

    def release(self, version: int, behaviour: Behaviour = "serves") -> Release:
        """A version that behaves so."""
        made = release(self.name, version)
        self.behaviours[made.id] = behaviour
        return made

    def live(self, version: int) -> Release:
        """A version that serves."""
        made = self.release(version)
        live(self.engine, made)
        return made

    def service(self, release: Release) -> Object:
        """Its InferenceService."""
        found = self.cluster.get(INFERENCE_SERVICE, name_in(self.namespace, self.name, release.id))
        assert found
        return found

    def answering(self, count: int = 20) -> Counter[str]:
        """Which releases answer at the model's own address, how often."""
        client = self.engine.ask(self.name)
        return Counter(client.infer([], "predict").release for _ in range(count))


@pytest.fixture
def world(namespace: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Makes worlds, each with a model of its own."""
    made: list[World] = []

    def make(gateway: str = "", *, knative: str = "", **settings: Any) -> World:
        name = f"m{abs(hash(request.node.name)) % 10**6}"
        made.append(World(namespace, name, gateway, knative=knative, **settings))
        return made[-1]

    yield make
    for one in made:
        with suppress(RemoteFailed, NotServed):
            one.engine.stop(one.name)


def test_a_release_comes_up_and_serves(on: str, world: Callable[..., World]) -> None:
    one = world()
    first = one.release(1)
    alone = one.engine.start(first)
    assert alone.metadata()["properties"] == {"digest": first.digest, "release": first.id}
    now = one.engine.serving(one.name)
    assert now and (now.release, now.candidate, now.percent) == (None, first.id, 0)
    one.engine.shift(first, 100)
    one.engine.finish(first)
    now = one.engine.serving(one.name)
    assert now and (now.release, now.version, now.digest, now.candidate) == (first.id, 1, first.digest, "")
    assert one.answering(5) == {first.id: 5}
    found = one.service(first)
    assert (found["status"].get("deploymentMode"), found["spec"]["predictor"]["minReplicas"]) == ("Standard", 1)
    assert "maxReplicas" not in found["spec"]["predictor"]


def test_the_next_one_takes_over_and_the_one_before_can_be_gone_back_to(on: str, world: Callable[..., World]) -> None:
    one = world()
    first, second = one.live(1), one.live(2)
    assert one.answering(5) == {second.id: 5}
    now = one.engine.serving(one.name)
    assert now and now.previous == first.id
    rests = selector(one.name, first.id)
    assert wait_until(lambda: not one.cluster.list(POD, labels=rests), 60.0)
    assert one.service(first)
    one.engine.start(first)
    one.engine.shift(first, 100)
    one.engine.finish(first)
    assert one.answering(5) == {first.id: 5}
    third = one.live(3)
    assert wait_until(lambda: not one.cluster.list(DEPLOYMENT, labels=selector(one.name, second.id)), 60.0)
    assert wait_until(lambda: kept(one) == {first.id, third.id}, 60.0), kept(one)


def test_new_settings_are_in_force_when_it_is_done(on: str, world: Callable[..., World]) -> None:
    one = world()
    first = one.live(1)
    for memory in ("70Mi", "80Mi"):
        one.made(KServeInputs(namespace=one.namespace), {"memory": memory}).finish(first)
        (pod,) = living(one.cluster, selector(one.name, first.id))
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == memory
    assert one.answering(5) == {first.id: 5}


def kept(one: World) -> set[str]:
    """The releases that have an InferenceService."""
    found = one.cluster.list(INFERENCE_SERVICE, labels=selector(one.name))
    return {item["metadata"]["labels"]["mlops-actions.io/release"] for item in found}


@pytest.mark.parametrize(
    ("behaviour", "reason", "log"),
    [
        ("crashes", "CrashLoopBackOff", "boom: the model cannot be loaded"),
        ("needs memory", "CrashLoopBackOff: it needed more memory than its limit of 64Mi", "OOMKilled|64Mi"),
    ],
)
def test_one_that_does_not_come_up_is_told_by_its_pods_while_the_other_serves(
    on: str, world: Callable[..., World], behaviour: Behaviour, reason: str, log: str
) -> None:
    one = world()
    first = one.live(1)
    wrong = one.release(2, behaviour)
    with pytest.raises(NotServed, match=reason) as failed:
        one.engine.start(wrong)
    assert any(word in failed.value.log for word in log.split("|"))
    assert one.answering(5) == {first.id: 5}
    back = one.engine.abandon(one.name)
    assert back and back.release == first.id
    assert wait_until(lambda: kept(one) == {first.id}, 60.0), kept(one)


def test_an_image_that_cannot_be_pulled(on: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    one = world()
    missing = "localhost:5000/test/nosuch:1"
    monkeypatch.setattr(one.engine, "_image", lambda release, make: missing)
    with pytest.raises(NotServed, match=f"Cannot pull the image {missing}"):
        one.engine.start(one.release(1))


def test_pods_that_no_node_takes(on: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_actions.serving.cluster.pods._PATIENCE", ((r"Unschedulable", 1.0),))
    one = world(node_selector={"no": "such"})
    with pytest.raises(NotServed, match="Unschedulable") as failed:
        one.engine.start(one.release(1))
    assert "node selector" in failed.value.fix


def test_one_that_is_never_ready(on: str, world: Callable[..., World]) -> None:
    one = world(timeout=8.0)
    with pytest.raises(NotServed, match=r"0 of 1 pods were ready within 8 s.*503"):
        one.engine.start(one.release(1, "never ready"))


def test_a_real_model_takes_over_and_goes_back_without_a_failed_request(
    on: str, namespace: str, tmp_path: Path
) -> None:
    """An image that was put together from a version, with this project's server."""
    given = serving_worlds.inputs(namespace).model_dump()
    engine = ENGINE.make(DeployInputs.model_validate(given), workspace(tmp_path))
    models = serving_worlds.Models(tmp_path / "models")
    first, second = models.sklearn(1), models.sklearn(2)
    try:
        live(engine, first)
        assert engine.ask(first.name).metadata()["properties"]["digest"] == first.digest
        found = clusters.administrator(namespace).get(SERVICE, service_of(first.name))
        assert found
        url = f"http://{found['spec']['clusterIP']}"
        assert wait_until(Client(first.name, Direct(url)).ready, 30.0)  # a new Service takes its node a moment
        with serving_worlds.asking(f"{url}/v2/models/{first.name}") as asked:
            asked.wait_for(first.id)
            live(engine, second)
            asked.wait_for(second.id)
            live(engine, first)
            asked.wait_for(first.id)
        assert asked.wrong == []
    finally:
        engine.stop(first.name)


def live(engine: ServingEngine, release: Release) -> None:
    """What a rollout does when all is well."""
    engine.start(release)
    engine.shift(release, 100)
    engine.finish(release)


def test_fields_of_others_are_left_alone(on: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    one = world()
    first = one.live(1)
    name = name_in(one.namespace, one.name, first.id)
    transformer = {"name": "kserve-container", "image": standin_model.image(release("transformer", 9))}
    theirs: Object = {
        "metadata": {"name": name, "annotations": {"team": "search"}, "labels": {"cost": "7"}},
        "spec": {
            "predictor": {"scaleTarget": 3, "timeout": 77},
            "transformer": {"minReplicas": 2, "containers": [transformer]},
        },
    }
    monkeypatch.setattr("mlops_actions.kubernetes.objects.FIELD_MANAGER", "somebody-else")
    one.cluster.apply(INFERENCE_SERVICE, theirs)
    monkeypatch.undo()
    one.engine.start(first)
    found = one.service(first)
    assert found["metadata"]["annotations"]["team"] == "search"
    assert found["metadata"]["labels"]["cost"] == "7"
    predictor = found["spec"]["predictor"]
    assert (predictor["scaleTarget"], predictor["timeout"]) == (3, 77)
    assert found["spec"]["transformer"]["minReplicas"] == 2
    assert one.answering(20) == {first.id: 20}  # though KServe gives the transformer's pods our labels, too
    owners = {
        field["manager"]: field["fieldsV1"]
        for field in found["metadata"]["managedFields"]
        if field["operation"] == "Apply"
    }
    assert set(owners["mlops-actions"]["f:spec"]) == {"f:predictor"}
    ours = set(owners["mlops-actions"]["f:spec"]["f:predictor"])
    assert not ours & {"f:scaleTarget", "f:timeout", "f:maxReplicas", "f:canaryTrafficPercent"}


def test_shares_through_a_gateway(on: str, world: Callable[..., World], gateway: str) -> None:
    one = world(gateway)
    able = one.engine.capabilities()
    assert (able.weights, able.mirror, able.lacking) == (True, True, "")
    first = one.live(1)
    second = one.release(2)
    one.engine.start(second)
    assert one.answering(20) == {first.id: 20}
    one.engine.shift(second, 50)
    shares = one.answering(60)
    assert set(shares) == {first.id, second.id}
    assert 15 <= shares[second.id] <= 45
    now = one.engine.serving(one.name)
    assert now and (now.release, now.candidate, now.percent) == (first.id, second.id, 50)
    back = one.engine.abandon(one.name)
    assert back and (back.release, back.candidate) == (first.id, "")
    assert one.answering(20) == {first.id: 20}


def test_without_a_gateway_it_says_what_it_lacks(on: str, world: Callable[..., World]) -> None:
    able = world().engine.capabilities()
    assert not able.weights
    assert "`gateway`" in able.lacking


class TestKnative:
    """In Knative mode, on a real Knative Serving alone; tests/unit/test_knative.py has what its Routes say."""

    @pytest.fixture
    def ingress(self) -> str:
        """Where it takes requests."""
        return clusters.knative_ingress()

    def test_a_version_gets_its_share_by_a_route_and_nothing_after_it_is_gone(
        self, on: str, world: Callable[..., World], ingress: str
    ) -> None:
        one = world(knative=ingress)
        able = one.engine.capabilities()
        assert (able.weights, able.mirror) == (True, False) and "cannot mirror" in able.lacking
        first = one.live(1)
        assert one.service(first)["status"]["deploymentMode"] == "Knative"
        assert ".svc.cluster.local" in one.service(first)["status"]["url"]  # a release alone has no address outside
        second = one.release(2)
        one.engine.start(second)
        assert one.answering(20) == {first.id: 20}
        one.engine.shift(second, 50)
        shares = one.answering(60)
        assert set(shares) == {first.id, second.id} and 15 <= shares[second.id] <= 45
        now = one.engine.serving(one.name)
        assert now and (now.release, now.candidate, now.percent) == (first.id, second.id, 50)
        back = one.engine.abandon(one.name)
        assert back and (back.release, back.candidate) == (first.id, "")
        assert one.answering(20) == {first.id: 20}
        one.engine.start(second)
        one.engine.shift(second, 100)
        one.engine.finish(second)
        assert one.answering(20) == {second.id: 20}
        one.live(1)
        assert one.answering(20) == {first.id: 20}

    def test_one_that_crashes_or_is_not_there_gets_no_share_and_takes_none_from_the_other(
        self, on: str, world: Callable[..., World], ingress: str
    ) -> None:
        one = world(knative=ingress)
        first = one.live(1)
        crashing = one.release(2, "crashes")
        with pytest.raises(NotServed, match="boom: the model cannot be loaded"):
            one.engine.start(crashing)
        with pytest.raises(NotServed, match=r"does not give the Route .* these shares: RevisionMissing: "):
            one.engine.shift(crashing, 50)
        assert one.answering(20) == {first.id: 20}
        one.engine.abandon(one.name)
        with pytest.raises(NotServed, match=r"ConfigurationMissing: .*v3-.* not found"):
            one.engine.shift(one.release(3), 50)
        assert one.answering(20) == {first.id: 20}

    def test_a_setting_that_knative_does_not_take_is_told_at_once(
        self, on: str, world: Callable[..., World], ingress: str
    ) -> None:
        one = world(knative=ingress, node_selector={"disk": "fast"})
        with pytest.raises(NotServed, match=r"KServe cannot make its pods: .*must not set .*nodeSelector") as failed:
            one.engine.start(one.release(1))
        assert "`config-features`" in failed.value.fix

    def test_one_that_is_taken_away_while_it_has_a_share_takes_none_from_the_other(
        self, on: str, world: Callable[..., World], ingress: str
    ) -> None:
        one = world(knative=ingress)
        first, second = one.live(1), one.release(2)
        one.engine.start(second)
        one.engine.shift(second, 50)
        assert set(one.answering(60)) == {first.id, second.id}
        one.cluster.delete(INFERENCE_SERVICE, name_in(one.namespace, one.name, second.id))
        back = one.engine.abandon(one.name)
        assert back and back.release == first.id
        assert one.answering(20) == {first.id: 20}

    def test_a_real_model_takes_over_and_goes_back_without_a_failed_request(
        self, on: str, namespace: str, tmp_path: Path, ingress: str
    ) -> None:
        given = serving_worlds.inputs(namespace).model_dump()
        given |= {"deployment_mode": "Knative", "ingress": ingress}
        engine = ENGINE.make(DeployInputs.model_validate(given), workspace(tmp_path))
        models = serving_worlds.Models(tmp_path / "models")
        first, second = models.sklearn(1), models.sklearn(2)
        try:
            live(engine, first)
            host = urlsplit(engine.ask(first.name).url).hostname or ""
            with serving_worlds.asking(f"http://{ingress}/v2/models/{first.name}", host) as asked:
                asked.wait_for(first.id)
                for release in (second, first):
                    engine.start(release)
                    for percent in (10, 50, 100):
                        engine.shift(release, percent)
                        asked.wait_for(release.id)
                    engine.finish(release)
                    asked.wait_for(release.id)
            assert asked.wrong == []
        finally:
            engine.stop(first.name)


class Stored:
    """Models at a URL of this machine, which pods reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, release: Release) -> None:
        """A model folder as an archive, named by the release."""
        data = json.dumps(standin_model.about(release)).encode()
        with tarfile.open(self.folder / f"{release.id}.tar.gz", "w:gz") as tar:
            info = tarfile.TarInfo("about.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Stored, str]]:
    """Where KServe gets models from: by HTTP, which needs no keys."""
    address = os.environ.get("CLUSTER_IP")
    if not address:
        pytest.skip("no kubernetes: set CLUSTER_IP, an address of this machine that pods reach")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Stored(tmp_path), f"http://{address}:{server.server_address[1]}/{{release}}.tar.gz"
        server.shutdown()


def runtime(name: str, form: str) -> Object:
    """A runtime of the stand-in that serves what KServe has fetched."""
    command = ["python3", "-c", standin_model.SERVER, "/mnt/models"]
    container = {
        "name": "kserve-container",
        "image": standin_model.image(release("runtime", 1)),
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    formats = [{"name": form, "version": "1", "autoSelect": True}]
    spec = {"supportedModelFormats": formats, "protocolVersions": ["v2"], "containers": [container]}
    return {"metadata": {"name": name}, "spec": spec}


def test_a_runtime_of_the_cluster_serves_a_model_from_storage(
    on: str, world: Callable[..., World], stored: tuple[Stored, str]
) -> None:
    models, url = stored
    one = world()
    one.cluster.apply(SERVING_RUNTIME, runtime("standin", "standin"), force=True)
    inputs = KServeInputs.model_validate({"namespace": one.namespace})
    one.engine = one.made(inputs, {}, Storage(url, "standin"))
    first = one.release(1)
    with pytest.raises(NotServed) as failed:
        one.engine.start(first)
    assert "storage-initializer" in str(failed.value)
    assert "Storage initialization failed" in failed.value.log
    one.engine.abandon(one.name)
    assert wait_until(lambda: not kept(one), 60.0)
    models.keep(first)
    assert one.engine.start(first).metadata()["properties"]["release"] == first.id


def test_no_runtime_for_the_format_names_those_that_there_are(on: str, world: Callable[..., World]) -> None:
    one = world()
    one.cluster.apply(SERVING_RUNTIME, runtime("standin", "standin"), force=True)
    inputs = KServeInputs.model_validate({"namespace": one.namespace})
    one.engine = one.made(inputs, {}, Storage("s3://models/x", "nosuch"))
    with pytest.raises(NotServed, match="NoSupportingRuntime: No runtime found") as failed:
        one.engine.start(one.release(1))
    assert "standin (standin)" in failed.value.fix


def test_without_rights_it_says_which(on: str, namespace: str, world: Callable[..., World]) -> None:
    one = world()
    one.cluster.apply(SERVICE_ACCOUNT, {"metadata": {"name": "nobody"}})
    token = {"token": one.cluster.token("nobody")}
    fields = {"namespace": namespace, "kubeconfig": clusters.kubeconfig_of(one.cluster, token)}
    limited = one.made(KServeInputs.model_validate(fields), {})
    with pytest.raises(RemoteFailed, match=r"may not|right") as failed:
        limited.start(one.release(1))
    assert "inferenceservices" in f"{failed.value} {failed.value.why}" or "services" in str(failed.value)


def test_a_cluster_without_kserve_is_told_so(
    on: str, world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Kind("serving.kserve.io", "v9", "inferenceservices", "InferenceService")
    monkeypatch.setattr(kserve, "INFERENCE_SERVICE", unknown)
    one = world()
    with pytest.raises(
        (RemoteFailed, BadInput), match=r"does not know inferenceservices\.serving\.kserve\.io"
    ) as failed:
        one.engine.start(one.release(1))
    assert "Install KServe" in (failed.value.fix or "")
    monkeypatch.undo()


class TestWhyNothingElseIsBelieved:
    """What KServe says and does, on which the engine does not rely."""

    def bare(self, cluster: Cluster, version: int, behaviour: Behaviour = "serves", **predictor: Any) -> Release:
        """One InferenceService that is changed in place."""
        made = release("bare", version)
        image = standin_model.image(made, behaviour)
        container = {"name": "kserve-container", "image": image, "ports": [{"containerPort": 8080}]}
        own = {"labels": pod_labels("bare", made.id), "minReplicas": 1, "containers": [container]}
        body = {"metadata": {"name": "bare"}, "spec": {"predictor": {**own, **predictor}}}
        cluster.apply(INFERENCE_SERVICE, body, force=True)
        return made

    def status(self, cluster: Cluster) -> dict[str, Any]:
        """What it says of itself."""
        return (cluster.get(INFERENCE_SERVICE, "bare") or {}).get("status") or {}

    def ready(self, cluster: Cluster) -> bool:
        """Whether it says that it is ready."""
        found = self.status(cluster).get("conditions") or []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in found)

    @pytest.fixture
    def cluster(self, namespace: str) -> Iterator[Cluster]:
        """With an InferenceService of one release that serves."""
        cluster = clusters.administrator(namespace)
        self.bare(cluster, 1)
        assert wait_until(lambda: self.ready(cluster), 90.0), self.status(cluster)
        yield cluster
        cluster.delete(INFERENCE_SERVICE, "bare")
        assert wait_until(lambda: cluster.get(INFERENCE_SERVICE, "bare") is None, 60.0)

    def pods(self, cluster: Cluster, release: Release) -> list[Object]:
        """Of a release."""
        return cluster.list(POD, labels=selector("bare", release.id))

    def test_it_says_ready_and_up_to_date_while_the_new_pods_crash(self, on: str, cluster: Cluster) -> None:
        crashing = self.bare(cluster, 2, "crashes")

        def crashed() -> bool:
            statuses = [s for pod in self.pods(cluster, crashing) for s in pod["status"].get("containerStatuses") or []]
            return any(one.get("restartCount") for one in statuses)

        assert wait_until(crashed, 60.0)
        time.sleep(2)  # the controller has seen it by then
        said = self.status(cluster)
        assert self.ready(cluster)
        assert said["modelStatus"]["transitionStatus"] == "UpToDate"
        assert said["modelStatus"]["states"]["targetModelState"] == "Loaded"
        found = cluster.get(DEPLOYMENT, "bare-predictor")
        assert found and not kserve.is_complete(found, crashing.id)

    def test_a_share_by_canary_traffic_percent_is_the_whole(self, on: str, cluster: Cluster) -> None:
        second = self.bare(cluster, 2, canaryTrafficPercent=10)

        def complete() -> bool:
            found = cluster.get(DEPLOYMENT, "bare-predictor")
            return bool(found) and kserve.is_complete(found, second.id)  # type: ignore[arg-type]

        assert wait_until(complete, 90.0)
        running = [pod for pod in cluster.list(POD, labels="app=isvc.bare-predictor") if alive(pod)]
        assert {pod["metadata"]["labels"]["mlops-actions.io/release"] for pod in running} == {second.id}

    def test_observed_generation_is_not_that_of_what_it_observes(self, on: str, cluster: Cluster) -> None:
        self.bare(cluster, 1, timeout=33)  # changes no pod
        time.sleep(3)
        found = cluster.get(INFERENCE_SERVICE, "bare")
        assert found and found["metadata"]["generation"] > found["status"]["observedGeneration"]

    def test_what_carries_its_labels_is_deleted(self, on: str, cluster: Cluster) -> None:
        port = {"spec": {"selector": {"x": "y"}, "ports": [{"port": 80}]}}
        marked = {"serving.kserve.io/inferenceservice": "bare", "component": "predictor"}
        cluster.create(SERVICE, {"metadata": {"name": "ours-marked", "labels": marked}, **port})
        cluster.create(SERVICE, {"metadata": {"name": "ours"}, **port})
        cluster.patch(INFERENCE_SERVICE, "bare", {"metadata": {"annotations": {"seen": "again"}}})
        assert wait_until(lambda: cluster.get(SERVICE, "ours-marked") is None, 30.0)
        assert cluster.delete(SERVICE, "ours")


def test_spec_canary_says_it_has_its_share_and_gets_nothing(
    on: str, namespace: str, stored: tuple[Stored, str]
) -> None:
    models, url = stored
    cluster = clusters.administrator(namespace)
    cluster.apply(SERVING_RUNTIME, runtime("standin", "standin"), force=True)
    first, second = release("canary", 1), release("canary", 2)

    def predictor(one: Release) -> Object:
        models.keep(one)
        uri = url.format(release=one.id)
        model = {
            "modelFormat": {"name": "standin"},
            "protocolVersion": "v2",
            "storageUri": uri,
        }
        return {"minReplicas": 1, "labels": pod_labels("canary", one.id), "model": model}

    about = {"name": "canary", "annotations": {"serving.kserve.io/deploymentMode": "Standard"}}
    other = predictor(second)
    other["model"]["name"] = "kserve-container"  # the real one's webhook adds it
    canary = [{"trafficPercent": 50, "predictor": {**other, "name": "second"}}]
    body = {"metadata": about, "spec": {"predictor": predictor(first), "canary": canary}}
    cluster.apply(INFERENCE_SERVICE, body, force=True)

    def said() -> list[dict[str, Any]]:
        return ((cluster.get(INFERENCE_SERVICE, "canary") or {}).get("status") or {}).get("canaryStatuses") or []

    try:
        assert wait_until(lambda: any(one.get("ready") for one in said()), 120.0), said()
        assert said()[0]["trafficPercent"] == 50
        chosen = cluster.get(SERVICE, "canary-predictor")
        assert chosen
        took = cluster.list(POD, labels=",".join(f"{k}={v}" for k, v in chosen["spec"]["selector"].items()))
        assert {pod["metadata"]["labels"]["mlops-actions.io/release"] for pod in took if alive(pod)} == {first.id}
    finally:
        cluster.delete(INFERENCE_SERVICE, "canary")


def alive(pod: Object) -> bool:
    """Whether a pod is not about to end."""
    return not pod["metadata"].get("deletionTimestamp")


def test_where_kserve_serves_by_knative_ours_are_in_standard_mode(on: str) -> None:
    if on.startswith("real"):
        pytest.skip("the mode of a real KServe's configuration is its own")
    with clusters.kserve(mode="Knative") as name:
        one = World(name, "flights")
        first = one.live(1)
        assert one.service(first)["status"]["deploymentMode"] == "Standard"


def test_a_controller_that_does_not_run_is_told_so(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kserve, "_PATIENCE", 3.0)
    with clusters.namespace({"mlops-double": "none"}, "mlops-double") as name:
        one = World(name, "flights")
        if on.startswith("real") and one.cluster.list(DEPLOYMENT, namespace="kserve"):
            pytest.skip("a real KServe looks after all namespaces")
        with pytest.raises(NotServed, match="KServe has made nothing of the InferenceService flights-v1"):
            one.engine.start(one.release(1))
