"""Serving on a real Kubernetes: real pods of an image that was put together from a release, real Services and Routes.

Needs KUBECONFIG of an administrator and REGISTRY, which the nodes pull from; for the tests with a Gateway see
`gateway_server`.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import clusters
from conftest import MLOPS, ROOT
from faults import faulty
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.kubernetes import rights
from mlops_actions.kubernetes.objects import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    NETWORK_POLICY,
    POD,
    RESOURCE_QUOTA,
    SERVICE,
    Cluster,
)
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.serving.cluster.engine import ClusterServing
from mlops_actions.serving.cluster.names import RELEASE, name_of, service_of
from mlops_actions.serving.engine import NotServed, Release, ServingEngine
from mlops_actions.serving.engines.kubernetes import ENGINE
from mlops_actions.serving.protocol import Client, Direct
from mlops_actions.stores.store import Store
from mlops_actions.waiting import Clock, wait_until
from serving_worlds import EXAMPLE, PACKAGES, Models, asking, inputs
from workspaces import workspace

pytestmark = [
    clusters.needs_kubernetes,
    pytest.mark.skipif(not os.environ.get("REGISTRY"), reason="no registry: set REGISTRY, which the nodes pull from"),
]
NAME = "my_model"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def admin() -> Iterator[Cluster]:
    """An administrator in a namespace that admits only restricted pods."""
    with clusters.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        yield clusters.administrator(name)


def engine_of(admin: Cluster, tmp_path: Path, **given: Any) -> ServingEngine:
    made: ServingEngine = ENGINE.make(inputs(admin.namespace, **given), workspace(tmp_path))
    return made


def deploy(engine: ServingEngine, release: Release) -> None:
    """What a rollout does when all is well."""
    engine.start(release)
    engine.shift(release, 100)
    engine.finish(release)


def address(admin: Cluster) -> str:
    """A model's URL on this machine, which reaches the cluster's Services."""
    found = admin.get(SERVICE, service_of(NAME))
    assert found
    url = f"http://{found['spec']['clusterIP']}"
    assert wait_until(Client(NAME, Direct(url)).ready, 30)  # a new Service takes its node a moment
    return f"{url}/v2/models/{NAME}"


def replicas(admin: Cluster) -> dict[str, int]:
    """How many pods each release's Deployment asks for."""
    return {one["metadata"]["labels"][RELEASE]: one["spec"]["replicas"] for one in admin.list(DEPLOYMENT)}


def test_versions_take_over_and_go_back_without_a_failed_request(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    engine = engine_of(admin, tmp_path)
    one, two = models.sklearn(1), models.sklearn(2)
    assert engine.serving(NAME) is None
    client = engine.start(one)
    answer = client.infer(EXAMPLE, "predict")
    assert answer.values == pytest.approx([1.0])
    assert (answer.release, answer.version, answer.digest) == (one.id, "1", one.digest)
    half = engine.serving(NAME)
    assert half and (half.release, half.candidate, half.percent) == (None, one.id, 0)
    engine.shift(one, 100)
    engine.finish(one)
    now = engine.serving(NAME)
    assert now and (now.release, now.version, now.digest, now.candidate) == (one.id, 1, one.digest, "")
    assert now.url == f"http://{service_of(NAME)}.{admin.namespace}.svc/v2/models/{NAME}"
    assert engine.ask(NAME).infer(EXAMPLE, "predict").release == one.id
    (pod,) = admin.list(POD)
    assert "@sha256:" in pod["spec"]["containers"][0]["image"]

    with asking(address(admin)) as kept, asking(address(admin), kept=False) as fresh:
        kept.wait_for(one.id)
        engine.start(two)
        during = engine.serving(NAME)
        assert during and (during.release, during.candidate, during.percent) == (one.id, two.id, 0)
        engine.shift(two, 100)
        fresh.wait_for(two.id)
        moved = engine.serving(NAME)
        assert moved and (moved.release, moved.candidate, moved.percent) == (one.id, two.id, 100)
        engine.finish(two)
        kept.wait_for(two.id)
        assert replicas(admin) == {one.id: 0, two.id: 1}
        after = engine.serving(NAME)
        assert after and (after.release, after.previous) == (two.id, one.id)

        # what served before comes back as it was: nothing is built
        back = engine_of(admin, tmp_path, image_repository="")
        deploy(back, one)
        kept.wait_for(one.id)
        assert replicas(admin) == {one.id: 1, two.id: 0}

        # a third one ends what is neither of the last two
        three = models.sklearn(3)
        deploy(engine, three)
        kept.wait_for(three.id)
        assert replicas(admin) == {one.id: 0, three.id: 1}
        assert admin.get(SERVICE, name_of(NAME, two.id)) is None
    assert kept.wrong == []
    assert fresh.wrong == []

    was = engine.stop(NAME)
    assert was and was.release == three.id
    assert engine.serving(NAME) is None
    assert admin.list(DEPLOYMENT) == [] and admin.list(SERVICE) == []
    assert engine.stop(NAME) is None


class Watching(Clock):
    """A clock that looks at the cluster in each long wait, and does not wait then."""

    def __init__(self, look: Any) -> None:
        self._look = look

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        return bool(self._look()) if seconds > 5 else super().wait(seconds, wake)


def test_pods_that_are_replaced_serve_until_every_node_knows(admin: Cluster, models: Models, tmp_path: Path) -> None:
    one, two, seen = models.sklearn(1), models.sklearn(2), list[tuple[Any, dict[str, int]]]()

    def look() -> None:
        service = admin.get(SERVICE, service_of(NAME)) or {}
        seen.append((service["spec"]["selector"][RELEASE], replicas(admin)))

    def engine() -> ServingEngine:
        made = engine_of(admin, tmp_path)
        assert isinstance(made, ClusterServing)
        made._cluster.clock = Watching(look)
        return made

    deploy(engine(), one)
    deploy(engine(), two)
    killed = engine()
    killed.start(one)
    killed.shift(one, 100)
    engine().finish(one)
    both = {one.id: 1, two.id: 1}
    assert seen == [(one.id, {one.id: 1}), (two.id, both), (one.id, both)]
    assert replicas(admin) == {one.id: 1, two.id: 0}
    engine().finish(one)  # nothing moves
    assert len(seen) == 3


def test_a_candidate_that_fails_is_explained_and_ended_while_the_other_serves(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    good = models.sklearn(1)
    engine = engine_of(admin, tmp_path)
    deploy(engine, good)
    crash = models.code(2, load="raise RuntimeError('the vocabulary is missing')")
    hungry = models.code(3, load="self.much = bytearray(2_000_000_000)")
    slow = models.code(4, load="time.sleep(3600)")
    fine = models.code(5)
    nowhere = f"{os.environ['REGISTRY']}/test/nowhere:1"
    cases: list[tuple[Release, dict[str, Any], str, str, str]] = [
        (crash, {}, r"CrashLoopBackOff: it ended with exit code 1.*the vocabulary is missing", "RuntimeError", ""),
        (hungry, {}, r"CrashLoopBackOff: it needed more memory than its limit of 400Mi", "pod ", "memory limit"),
        (slow, {"timeout": 12.0}, r"0 of 1 pods were ready within 12 s: .*probe failed", "pod ", "`timeout`"),
        (
            fine,
            {"image": nowhere},
            rf"ImagePull.*Cannot pull the image {nowhere}: .*not found",
            "pod ",
            "Push the image",
        ),
        (
            fine,
            {"node_selector": {"disk": "gold"}, "timeout": 8.0},
            r"Unschedulable: 0/1 nodes",
            "pod ",
            "node selector",
        ),
        (fine, {"cpu": "500"}, r"Unschedulable: .*Insufficient cpu", "pod ", "Request less"),
        (fine, {"service_account": "nobody"}, r"FailedCreate: .*serviceaccount \"nobody\" not found", "", "Create"),
    ]
    with asking(address(admin)) as asked:
        for release, given, reason, log, fix in cases:
            trying = engine_of(admin, tmp_path, **{"timeout": 60.0, **given})
            with pytest.raises(NotServed, match=reason) as caught:
                trying.start(release)
            assert log in caught.value.log
            assert fix in caught.value.fix
            assert "\n" not in str(caught.value)
            now = trying.serving(NAME)
            assert now and (now.release, now.candidate) == (good.id, release.id)
            assert trying.why(NAME)
            after = trying.abandon(NAME)
            assert after and (after.release, after.candidate) == (good.id, "")
            assert replicas(admin) == {good.id: 1}
        admin.create(RESOURCE_QUOTA, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}})
        with pytest.raises(NotServed, match=r"FailedCreate: .*exceeded quota: small") as caught:
            engine.start(fine)
        assert "quota" in caught.value.fix
        engine.abandon(NAME)
    assert asked.wrong == []
    assert set(asked.answers) == {good.id}


class Killed(BaseException):
    """The process ended at this very line."""


class Mortal:
    """A cluster whose user is killed after so many changes; what was changed before stays."""

    def __init__(self, cluster: Cluster, left: int) -> None:
        self._cluster, self._left = cluster, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cluster, name)
        if name not in ("apply", "patch", "delete", "create"):
            return found

        def change(*arguments: Any, **options: Any) -> Any:
            if options.get("dry_run"):
                return found(*arguments, **options)
            if not self._left:
                raise Killed
            self._left -= 1
            return found(*arguments, **options)

        return change


def until_done(admin: Cluster, tmp_path: Path, do: Any, **given: Any) -> int:
    """Do something with an engine that is killed one change later each time, until it is done; how many were killed."""
    for left in range(30):
        engine = engine_of(admin, tmp_path, **given)
        assert isinstance(engine, ClusterServing)
        mortal: Any = Mortal(admin, left)
        engine._connect = lambda mortal=mortal: mortal  # type: ignore[misc]
        try:
            do(engine)
        except Killed:
            continue
        return left
    raise AssertionError("it never ends")


def test_killed_at_any_change_it_goes_on_or_back(admin: Cluster, models: Models, tmp_path: Path) -> None:
    one, two = models.sklearn(1), models.sklearn(2)
    assert until_done(admin, tmp_path, lambda engine: engine.start(one)) == 3
    assert until_done(admin, tmp_path, lambda engine: engine.shift(one, 100)) == 1
    until_done(admin, tmp_path, lambda engine: engine.finish(one))
    engine = engine_of(admin, tmp_path)
    with asking(address(admin), kept=False) as asked:
        assert until_done(admin, tmp_path, lambda engine: engine.start(two)) == 3
        until_done(admin, tmp_path, lambda engine: engine.abandon(NAME))
        now = engine.serving(NAME)
        assert now and (now.release, now.candidate) == (one.id, "")
        assert replicas(admin) == {one.id: 1}
        until_done(admin, tmp_path, lambda engine: engine.start(two))
        until_done(admin, tmp_path, lambda engine: engine.shift(two, 100))
        asked.wait_for(two.id)
        until_done(admin, tmp_path, lambda engine: engine.abandon(NAME))  # back from all requests
        asked.wait_for(one.id)
        assert replicas(admin) == {one.id: 1}
        engine.start(two)
        engine.shift(two, 100)
        until_done(admin, tmp_path, lambda engine: engine.finish(two))
        asked.wait_for(two.id)
        assert replicas(admin) == {one.id: 0, two.id: 1}
    assert asked.wrong == []
    until_done(admin, tmp_path, lambda engine: engine.stop(NAME))
    assert admin.list(DEPLOYMENT) == [] and admin.list(SERVICE) == []


def test_what_is_somebody_elses_is_left_alone(admin: Cluster, models: Models, tmp_path: Path) -> None:
    ports = {"ports": [{"port": 80}], "selector": {"app": "shop"}}
    admin.create(SERVICE, {"metadata": {"name": service_of(NAME)}, "spec": ports})
    engine = engine_of(admin, tmp_path)
    for do in (lambda: engine.serving(NAME), lambda: engine.start(models.sklearn(1)), lambda: engine.stop(NAME)):
        with pytest.raises(BadInput, match=f"The Service {service_of(NAME)} .* was not made by mlops-actions"):
            do()
    found = admin.get(SERVICE, service_of(NAME))
    assert found and found["spec"]["selector"] == {"app": "shop"}
    assert admin.list(DEPLOYMENT) == []


def test_a_namespace_that_is_not_there_is_one_clear_error(models: Models, tmp_path: Path) -> None:
    engine = ENGINE.make(inputs("mlops-nowhere"), workspace(tmp_path))
    with pytest.raises(BadInput, match="no namespace mlops-nowhere"):
        engine.start(models.sklearn(1))


def test_with_several_pods_there_is_an_autoscaler_a_budget_and_a_policy(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    engine = engine_of(admin, tmp_path, replicas=2, max_replicas=3, network_policy=True)
    one, two = models.sklearn(1), models.sklearn(2)
    deploy(engine, one)
    assert len(admin.list(POD)) == 2
    (scaler,) = admin.list(AUTOSCALER)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 3)
    assert len(admin.list(DISRUPTION_BUDGET)) == 1 and len(admin.list(NETWORK_POLICY)) == 1
    admin.patch(DEPLOYMENT, name_of(NAME, one.id), {"spec": {"replicas": 3}})  # as its autoscaler would
    engine.start(one)
    assert replicas(admin) == {one.id: 3}
    deploy(engine, two)
    assert replicas(admin) == {one.id: 0, two.id: 2}
    deploy(engine, one)
    assert replicas(admin) == {one.id: 2, two.id: 0}
    engine_of(admin, tmp_path, replicas=2, max_replicas=3).finish(one)
    assert admin.list(NETWORK_POLICY) == [], "the setting was taken back"
    engine.finish(one)
    assert len(admin.list(NETWORK_POLICY)) == 1
    engine.stop(NAME)
    assert [kind for kind in (DEPLOYMENT, AUTOSCALER, DISRUPTION_BUDGET, NETWORK_POLICY) if admin.list(kind)] == []


def test_a_release_that_serves_gets_new_settings_without_a_failed_request(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    one = models.sklearn(1)
    deploy(engine_of(admin, tmp_path), one)
    with asking(address(admin), kept=False) as asked:
        engine_of(admin, tmp_path, memory="500Mi").finish(one)
        (pod,) = [one for one in admin.list(POD) if not one["metadata"].get("deletionTimestamp")]
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "500Mi"
        with pytest.raises(RemoteFailed, match=r"new settings .* do not work") as caught:
            engine_of(admin, tmp_path, cpu="500", timeout=5.0).finish(one)
        assert "Insufficient cpu" in caught.value.why
        asked.wait_for(one.id, 100)
    assert asked.wrong == []


def test_the_engine_says_what_is_lacking_for_shares(admin: Cluster, tmp_path: Path) -> None:
    able = engine_of(admin, tmp_path).capabilities()
    assert (able.weights, able.mirror) == (False, False)
    assert "`gateway`" in able.lacking


def test_a_gateway_splits_and_mirrors_requests_and_others_rules_stay(
    admin: Cluster, models: Models, tmp_path: Path, gateway: str
) -> None:
    host = f"{admin.namespace}.example.com"
    engine = engine_of(admin, tmp_path, gateway=gateway, hostname=host)
    able = engine.capabilities()
    assert (able.weights, able.mirror, able.lacking) == (True, True, "")
    one, two = models.sklearn(1), models.sklearn(2)
    deploy(engine, one)
    now = engine.serving(NAME)
    assert now and now.url == f"http://{host}/v2/models/{NAME}"
    _someone_adds_a_rule_and_a_filter(admin)
    transport = engine.ask(NAME).transport
    assert wait_until(engine.ask(NAME).ready, 30)  # a new route takes the Gateway a moment
    with asking(f"http://{transport.address}/v2/models/{NAME}", host) as asked:  # type: ignore[attr-defined]
        asked.wait_for(one.id)
        engine.start(two)
        for percent in (10, 50):
            engine.shift(two, percent)
            found = engine.serving(NAME)
            assert found and (found.release, found.candidate, found.percent) == (one.id, two.id, percent)
            gave = [engine.ask(NAME).infer(EXAMPLE, "predict").release for _ in range(300)]
            assert abs(gave.count(two.id) / len(gave) - percent / 100) < 0.1
        engine.shift(two, 0)
        before = asked.answers[two.id]
        asked.wait_for(one.id, 50)
        assert asked.answers[two.id] - before <= 4  # those that were under way
        engine.shift(two, 100)
        engine.finish(two)
        asked.wait_for(two.id, 50)
        broken = models.code(3, predict="1 / 0 if len(rows['x']) == 1 else None")
        engine.start(replace(broken, example=[{**EXAMPLE[0], "shape": [2, 1], "data": [1.0, 2.0]}]))
        engine.shift(broken, 0, mirror=True)
        asked.wait_for(two.id, 100)
        assert "ZeroDivisionError" in engine.why(NAME)  # it was sent copies, and nobody saw what it made of them
        engine.abandon(NAME)
        asked.wait_for(two.id, 20)
    assert asked.wrong == []
    found_route = admin.get(HTTP_ROUTE, service_of(NAME))
    assert found_route
    theirs, ours, grpc = found_route["spec"]["rules"]
    assert theirs["backendRefs"][0]["name"] == "shop"
    assert [ref["name"] for ref in grpc["backendRefs"]] == [name_of(NAME, two.id)]
    assert [ref["name"] for ref in ours["backendRefs"]] == [name_of(NAME, two.id), "shop"]
    assert [one["type"] for one in ours["filters"]] == ["ResponseHeaderModifier"]
    engine.stop(NAME)
    assert admin.list(HTTP_ROUTE) == []


def _someone_adds_a_rule_and_a_filter(admin: Cluster) -> None:
    shop = {"metadata": {"name": "shop"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "shop"}}}
    admin.create(SERVICE, shop)
    found = admin.get(HTTP_ROUTE, service_of(NAME))
    assert found
    rule, _grpc = found["spec"]["rules"]
    ref = {"name": "shop", "port": 80, "weight": 0}
    rule["backendRefs"].append(ref)
    add = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-team", "value": "a"}]}}
    rule["filters"] = [add]
    theirs = {"matches": [{"path": {"type": "PathPrefix", "value": "/shop"}}], "backendRefs": [ref]}
    admin.patch(HTTP_ROUTE, service_of(NAME), {"spec": {"rules": [theirs, rule]}})


def test_a_gateway_splits_grpc_too_and_no_request_is_lost(
    admin: Cluster, models: Models, tmp_path: Path, gateway: str
) -> None:
    host = f"grpc.{admin.namespace}.example.com"
    engine = engine_of(admin, tmp_path, gateway=gateway, hostname=host)
    one, two = (models.code(n, predict=f"return [{n} + x for x in rows['x']]") for n in (1, 2))
    deploy(engine, one)
    assert wait_until(engine.ask(NAME).ready, 30)
    address = engine.ask(NAME).transport.address  # type: ignore[attr-defined]
    command = [str(models.environment.python), str(ROOT / "tests" / "grpc_user.py"), address, NAME, host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        for release in (two, one):
            engine.start(release)
            for percent in (50, 100):
                engine.shift(release, percent)
                assert {engine.ask(NAME).infer(EXAMPLE, "predict").release for _ in range(30)} <= {one.id, two.id}
            engine.finish(release)
        found = json.loads(user.communicate()[0])
    assert found["failed"] == [] and set(found["answers"]) == {one.id, two.id}
    engine.stop(NAME)


@pytest.mark.usefixtures("gateway")
def test_a_gateway_that_does_not_take_the_route_is_one_clear_error(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    one = models.sklearn(1)
    engine = engine_of(admin, tmp_path, gateway="nothing/here", hostname="x.example.com")
    assert isinstance(engine, ClusterServing)
    engine.start(one)
    route = engine._route(NAME)
    assert route
    route._timeout = 3.0
    with pytest.raises(NotServed, match="the Gateway nothing/here has not picked up the HTTPRoute") as caught:
        route.split({one.id: 100})
    assert "`gateway`" in caught.value.fix
    assert engine.abandon(NAME) is None
    assert admin.list(HTTP_ROUTE) == []


@dataclass(frozen=True)
class Consumer:
    """A consumer's folder, whose registry has three versions; the second one has the golden rows of the first."""

    folder: Path
    environ: dict[str, str]

    def mlops(self, action: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Call an action; its exit code, outputs and log."""
        command = [str(MLOPS), action, "--json", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=600, check=False
        )
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.fixture
def consumer(admin: Cluster, models: Models, tmp_path: Path) -> Consumer:
    registry = Registry(Store((tmp_path / "store").as_uri()))
    for version, golden in ((1, 1), (2, 1), (3, 3)):
        rows = tmp_path / f"golden{version}.csv"
        rows.write_text("x,score\n" + "".join(f"{x},{x * golden}\n" for x in (1.0, 2.0, 3.0)))
        register(registry, Registration(NAME, models.sklearn(version).model, golden=rows))
    (tmp_path / "requirements.txt").write_text("\n".join(PACKAGES))
    given = inputs(admin.namespace)
    settings = {
        "model": NAME,
        "store": (tmp_path / "store").as_uri(),
        "requirements": "requirements.txt",
        "namespace": admin.namespace,
        "deploy-model": {
            "engine": "kubernetes",
            **{name: getattr(given, name.replace("-", "_")) for name in ("image-repository", "base-image", "cpu")},
            "memory": given.memory,
            "max-slowdown": 20,
            "undecided-latency": "pass",
            "requires": [],
        },
    }
    (tmp_path / "mlops.yaml").write_text(yaml.safe_dump(settings))
    return Consumer(tmp_path, {**os.environ, "MLOPS_HOME": str(tmp_path / "home")})


def test_the_action_deploys_refuses_and_rolls_back(admin: Cluster, consumer: Consumer) -> None:
    code, outputs, log = consumer.mlops("deploy-model", "--version", "1", "--alias", "champion")
    assert code == 0, log
    assert (outputs["version"], outputs["promoted"]) == (1, True)
    assert outputs["url"] == f"http://{service_of(NAME)}.{admin.namespace}.svc/v2/models/{NAME}"
    first = outputs["release"]
    with asking(address(admin)) as asked:
        code, outputs, log = consumer.mlops("deploy-model", "--version", "2", "--alias", "champion")
        assert code == 1, log
        assert (outputs["version"], outputs["rolled-back"]) == (1, True)
        assert "golden predictions differ" in log
        code, outputs, log = consumer.mlops("deploy-model", "--version", "3", "--alias", "champion")
        assert code == 0, log
        assert outputs["version"] == 3
        asked.wait_for(outputs["release"])
        code, outputs, log = consumer.mlops("deploy-model", "--rollback")
        assert code == 0, log
        assert (outputs["version"], outputs["release"]) == (1, first)
        asked.wait_for(first)
    assert asked.wrong == []
    code, _, log = consumer.mlops("deploy-model", "--stop")
    assert code == 0, log
    assert admin.list(DEPLOYMENT) == []


def test_without_a_right_the_one_that_is_missing_is_named_and_nothing_is_begun(
    admin: Cluster, models: Models, tmp_path: Path
) -> None:
    documents = list(yaml.safe_load_all(rights.manifest(admin.namespace, parts=["kubernetes"])))
    role = next(one for one in documents if one["kind"] == "Role")
    whole = list(role["rules"])
    try:
        for lacking in (None, "deployments", "services/proxy"):
            role["rules"] = [rule for rule in whole if lacking not in rule["resources"]]
            for document in documents:
                admin.apply(clusters.RIGHTS[document["kind"]], document, force=True)
            config = clusters.kubeconfig_of(admin, {"token": admin.token("mlops-actions")})
            engine = engine_of(admin, tmp_path, kubeconfig=config)
            if lacking is None:
                deploy(engine, models.sklearn(1))
                deploy(engine, models.sklearn(2))
                now = engine.serving(NAME)
                assert now and now.version == 2
                continue
            with pytest.raises(RemoteFailed, match="a right is missing") as caught:
                engine.start(models.sklearn(1))
            assert lacking in caught.value.why
            assert "mlops rbac" in caught.value.fix
            now = engine_of(admin, tmp_path).serving(NAME)  # as an administrator sees it
            assert now and (now.version, now.candidate) == (2, "")
        expired = clusters.kubeconfig_of(admin, {"token": "expired"})
        with pytest.raises(RemoteFailed, match="does not accept the credentials"):
            engine_of(admin, tmp_path, kubeconfig=expired).start(models.sklearn(1))
    finally:
        for document in documents:
            admin.delete(clusters.RIGHTS[document["kind"]], document["metadata"]["name"])


def test_a_cluster_that_is_gone_halfway_is_waited_for_and_then_told(
    admin: Cluster, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = models.sklearn(1), models.sklearn(2)
    deploy(engine_of(admin, tmp_path), one)
    transport = admin._transport
    with faulty(admin.server, transport._client._pool("")) as proxy:
        config = yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": proxy.url}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "namespace": admin.namespace}}],
                "current-context": "c",
            }
        )
        monkeypatch.setattr("mlops_actions.kubernetes.transport.PATIENCE", 3.0)
        short = engine_of(admin, tmp_path, kubeconfig=config)
        assert short.place  # it is connected to
        monkeypatch.undo()
        with asking(address(admin)) as asked:
            short.start(two)
            proxy.stop()
            with pytest.raises(RemoteFailed, match=f"Cannot reach the cluster {proxy.url}"):
                short.shift(two, 100)
            threading.Timer(2.0, proxy.start).start()
            again = engine_of(admin, tmp_path, kubeconfig=config)
            assert wait_until(lambda: bool(proxy._server), 30)
            now = again.serving(NAME)
            assert now and (now.release, now.candidate) == (one.id, two.id)
            proxy.stop()
            threading.Timer(2.0, proxy.start).start()
            again.abandon(NAME)  # through an outage
            asked.wait_for(one.id)
        assert asked.wrong == []
        assert replicas(admin) == {one.id: 1}
