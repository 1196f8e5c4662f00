"""deploy-model as a person calls it, on a real cluster: a version goes live, another one, a wrong one, and back.

Needs KUBECONFIG of an administrator and REGISTRY, which the nodes pull from.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

import clusters
import gateway_server
import servers
import standin_model
from conftest import MLOPS
from mlops_actions.kubernetes.objects import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    INFERENCE_SERVICE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVING_RUNTIME,
    Cluster,
    Object,
)
from mlops_actions.kubernetes.rights import manifest
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.store import Store
from mlops_actions.yaml_io import load_yaml
from rollouts import LIGHT, LIMIT, changes, out_and_back, told, with_usual
from serving_worlds import asking, base_image

pytestmark = [
    clusters.needs_kubernetes,
    pytest.mark.skipif(not os.environ.get("REGISTRY"), reason="no registry: set REGISTRY, which the nodes pull from"),
]
OWN = """
import json

class Model:
    def load(self, path):
        self.by = json.loads(path.read_text())["by"]

    def predict(self, rows):
        return [row["x"] * self.by for row in rows]
"""


@dataclass
class World:
    """A registry with versions that give n times x; 3 has golden rows of another one, 4 cannot be loaded."""

    folder: Path
    namespace: str
    environ: dict[str, str]
    engine: str = "kubernetes"

    def call(self, command: str, *arguments: str, **variables: str) -> tuple[int, dict[str, Any], str]:
        """An action's exit code, outputs and log."""
        usual = {
            "--engine": self.engine, "--namespace": self.namespace, "--predict": "own.py:Model", "--cpu": "50m",
            "--memory": "300Mi", "--answers": "5", "--image-repository": f"{os.environ['REGISTRY']}/test/serving",
            "--base-image": base_image(),
        }  # fmt: skip
        done = subprocess.run(
            [str(MLOPS), command, *with_usual(arguments, usual), "--json"],
            env={**self.environ, **variables}, cwd=self.folder, text=True, capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    def deploy(self, *arguments: str, **variables: str) -> tuple[int, dict[str, Any], str]:
        return self.call("deploy-model", "--model", "times", "--requires", "[]", *arguments, **variables)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with clusters.namespace({}) as name:
        yield made(tmp_path_factory.mktemp("deploy"), name)


def made(folder: Path, namespace: str, engine: str = "kubernetes") -> World:
    """A world in a folder, for a namespace."""
    registry = Registry(Store((folder / "store").as_uri()))
    for version, (text, by) in enumerate((('{"by": 1}', 1), ('{"by": 2}', 2), ('{"by": 3}', 9), ("no JSON", 4)), 1):
        own = folder / str(version)
        own.mkdir()
        (own / "model.json").write_text(text)
        (own / "golden.csv").write_text("x,score\n" + "".join(f"{x}.5,{(x + 0.5) * by}\n" for x in range(5)))
        register(registry, Registration("times", own / "model.json", golden=own / "golden.csv"))
    (folder / "own.py").write_text(OWN)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_", "MLOPS_"))}
    kept |= {"MLOPS_CACHE": os.environ["MLOPS_CACHE"]} if "MLOPS_CACHE" in os.environ else {}
    kept |= {"MLOPS_STORE": (folder / "store").as_uri(), "MLOPS_HOME": str(folder / "home")}
    return World(folder, namespace, kept, engine)


def user_with(admin: Cluster, *parts: str) -> str:
    """The kubeconfig of a service account with the rights that `mlops rbac` prints."""
    kinds = {one.kind: one for one in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING)}
    account = "-".join(("deployer", *parts))
    for text in manifest(admin.namespace, account, parts).split("---\n"):
        body = load_yaml(text)
        admin.apply(kinds[body["kind"]], body, force=True)
    return clusters.kubeconfig_of(admin, {"token": admin.token(account)})


def test_versions_go_live_by_their_own_answers_and_back_with_the_rights_of_rbac(world: World) -> None:
    admin = clusters.administrator(world.namespace)
    user = {"MLOPS_KUBECONFIG": user_with(admin, "kubernetes"), "KUBECONFIG": ""}
    code, outputs, log = world.deploy("--version", "1", "--alias", "champion", **user)
    assert code == 0, log
    assert (outputs["version"], outputs["promoted"]) == (1, True)
    assert outputs["url"] == f"http://times.{world.namespace}.svc/v2/models/times"
    code, outputs, log = world.deploy("--version", "2", "--alias", "champion", **user)
    assert (code, outputs.get("version"), outputs.get("previous-version")) == (0, 2, 1), log
    code, outputs, log = world.deploy("--version", "2", "--alias", "champion", **user)
    assert (code, outputs.get("version")) == (0, 2), log

    for version, why in (("3", r"golden predictions differ"), ("4", r"CrashLoopBackOff")):
        code, outputs, log = world.deploy("--version", version, "--alias", "champion", **user)
        assert (code, outputs["version"], outputs["rolled-back"]) == (1, 2, True), log
        assert why in log and "version 2 serves as before" in log
    registry = Registry(Store(world.environ["MLOPS_STORE"]))
    found = registry.alias("times", "champion")
    assert found and found.version == 2

    code, outputs, log = world.call("rollback", "times", **user)
    assert (code, outputs.get("version")) == (0, 1), log
    code, outputs, log = world.deploy("--stop", **user)
    assert (code, outputs["previous-version"]) == (0, 1), log


@pytest.mark.timeout(LIMIT)
def test_kubernetes_rolls_out_and_back_and_no_request_fails(tmp_path: Path) -> None:
    with clusters.namespace({}) as namespace:
        world, admin = made(tmp_path, namespace), clusters.administrator(namespace)

        def deploy(version: int) -> None:
            code, outputs, log = world.deploy("--version", str(version), *LIGHT)
            assert (code, outputs.get("version")) == (0, version), log

        def back() -> None:
            code, outputs, log = world.call("rollback", "times", *LIGHT)
            assert (code, outputs.get("version")) == (0, 1), log

        deploy(1)
        service = admin.get(SERVICE, "times")
        assert service
        url = f"http://{service['spec']['clusterIP']}/v2/models/times"
        with asking(url, threads=1) as kept, asking(url, threads=1, kept=False) as new:
            taken = out_and_back(changes(1), partial(deploy, 2), back)
        told("kubernetes", taken, Counter(kept.answers) + Counter(new.answers), len(kept.wrong + new.wrong))
        assert kept.wrong + new.wrong == []
        assert {release[:2] for release in new.answers} == {"v1", "v2"}
        code, outputs, log = world.call("drill", "times")
        assert (code, outputs.get("version")) == (0, 1) and "then only right ones" in log, log
        print(next(line for line in log.splitlines() if "Wrong answers came for" in line))


@pytest.mark.parametrize("on", [clusters.kserve_name()])
def test_on_kserve_versions_get_their_share_of_users_requests_and_go_back(
    on: str, tmp_path: Path, gateway: str
) -> None:
    with clusters.kserve() as namespace:
        world, host = made(tmp_path, namespace, "kserve"), f"times.{namespace}.example.com"
        shares = ("--gateway", gateway, "--hostname", host, "--alias", "champion", "--max-slowdown", "20")
        code, outputs, log = world.deploy("--version", "1", *shares)
        assert (code, outputs.get("url")) == (0, f"http://{host}/v2/models/times"), log
        url = f"{gateway_server.address(gateway)}/v2/models/times"
        with asking(url, host) as asked:
            code, outputs, log = world.deploy("--version", "2", "--steps", "20, 100", *shares)
            assert (code, outputs.get("version"), outputs.get("promoted")) == (0, 2, True), log
            assert "20 %: 5 right answers of its own in" in log
            second = outputs["release"]
            for version, why in (("3", "golden predictions differ"), ("4", "CrashLoopBackOff")):
                code, outputs, log = world.deploy("--version", version, *shares)
                assert (code, outputs.get("release"), outputs.get("rolled-back")) == (1, second, True), log
                assert why in log and "version 2 serves as before" in log
            code, outputs, log = world.call("rollback", "times", "--steps", "50, 100", *shares[:4])
            assert (code, outputs.get("version"), outputs.get("promoted")) == (0, 1, True), log
        assert asked.wrong == [] and {release[:2] for release in asked.answers} == {"v1", "v2"}
        code, _, log = world.deploy("--version", "2", "--steps", "20, 100")
        assert code == 2 and "cannot send a version 20 % of the requests" in log and "`gateway`" in log
        code, outputs, log = world.deploy("--stop", *shares[:4])
        assert (code, outputs.get("previous-version")) == (0, 1), log


@pytest.mark.parametrize("on", [clusters.kserve_name()])
def test_on_knative_versions_get_their_share_without_a_gateway_and_go_back(on: str, tmp_path: Path) -> None:
    ingress = clusters.knative_ingress()
    with clusters.kserve() as namespace:
        world = made(tmp_path, namespace, "kserve")
        user = {"MLOPS_KUBECONFIG": user_with(clusters.administrator(namespace), "kserve"), "KUBECONFIG": ""}
        knative = ("--deployment-mode", "Knative", "--ingress", ingress)
        shares = (*knative, "--alias", "champion", "--max-slowdown", "20")
        code, outputs, log = world.deploy("--version", "1", *shares, **user)
        assert code == 0, log
        host = urlsplit(outputs["url"]).hostname or ""
        assert host.startswith(f"times-live.{namespace}.")
        with asking(f"http://{ingress}/v2/models/times", host) as asked:
            code, outputs, log = world.deploy("--version", "2", "--steps", "20, 100", *shares, **user)
            assert (code, outputs.get("version"), outputs.get("promoted")) == (0, 2, True), log
            assert "20 %: 5 right answers of its own in" in log
            for version, why in (("3", "golden predictions differ"), ("4", "CrashLoopBackOff")):
                code, outputs, log = world.deploy("--version", version, *shares, **user)
                assert (code, outputs.get("version"), outputs.get("rolled-back")) == (1, 2, True), log
                assert why in log and "version 2 serves as before" in log
            code, outputs, log = world.call("rollback", "times", *knative, **user)
            assert (code, outputs.get("version"), outputs.get("promoted")) == (0, 1, True), log
        assert asked.wrong == [] and {release[:2] for release in asked.answers} == {"v1", "v2"}
        code, _, log = world.deploy("--version", "2", "--shadow", "3", *shares, **user)
        assert code == 2 and "cannot mirror requests" in log
        code, outputs, log = world.deploy("--stop", *knative, **user)
        assert (code, outputs.get("previous-version")) == (0, 1), log


@pytest.mark.parametrize("on", [clusters.kserve_name()])
@pytest.mark.parametrize(
    ("engine", "shares"),
    [("kubernetes", False), ("kubernetes", True), ("kserve", False), ("kserve in Knative mode", True)],
)
def test_a_drill_in_the_cluster_ends_with_right_answers_only(
    on: str, engine: str, shares: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name, _, knative = engine.partition(" ")
    given = ["--deployment-mode", "Knative", "--ingress", clusters.knative_ingress()] if knative else []
    with clusters.kserve() as namespace:
        if shares and not knative:
            gateway = request.getfixturevalue("gateway")
            given = ["--gateway", gateway, "--hostname", f"times.{namespace}.example.com"]
        world = made(tmp_path, namespace, name)
        code, outputs, log = world.deploy("--version", "1", *given)
        assert code == 0, log
        first = outputs["release"]
        code, outputs, log = world.call("drill", "times", *given)
        assert (code, outputs.get("version"), outputs.get("release")) == (0, 1, first), log
        assert "then only right ones" in log
        (record,) = (one for one in records(world) if one.get("variant") == "drill")
        measured = record["drill"]
        assert measured["wrong"] >= 1 and measured["requests"] > measured["wrong"]
        print(f"drill on {engine}, {'with' if shares else 'without'} shares: {measured}")
        code, outputs, log = world.deploy("--version", "2", *given, "--max-slowdown", "20")
        assert (code, outputs.get("version")) == (0, 2), log  # nothing of the drill is in the way
        world.deploy("--stop", *given)


def records(world: World) -> list[dict[str, Any]]:
    """The details of what was done, as the store has them."""
    found = (world.folder / "store" / "runs").rglob("*.json")
    return [one["details"] for one in (json.loads(file.read_text()) for file in found) if "details" in one]


class Kept:
    """Where models are kept for KServe to fetch: on S3, or as images of their own (modelcars).

    Args:
        world: whose models.
        scheme: s3 or oci.
    """

    def __init__(self, world: World, scheme: str) -> None:
        self.world, self.scheme, self.admin = world, scheme, clusters.administrator(world.namespace)
        self.s3 = servers.minio()
        self.place = self.s3.new_store() if scheme == "s3" else f"oci://{os.environ['REGISTRY']}/test/modelcar"
        self.uri = f"{self.place}/{{name}}/{{release}}" if scheme == "s3" else f"{self.place}:{{release}}"
        self.admin.apply(SECRET, self._keys())
        account = {"metadata": {"name": "reader"}, "secrets": [{"name": "s3-keys"}]}
        self.admin.apply(SERVICE_ACCOUNT, account)
        self.admin.apply(SERVING_RUNTIME, self._runtime())

    @property
    def arguments(self) -> list[str]:
        """Of deploy-model."""
        return ["--storage", self.uri, "--model-format", "ours", "--service-account", "reader"]

    def keep(self, version: int) -> str:
        """Put a version there, as its release is called; the release."""
        given = ["--engine", "kserve", "--namespace", self.world.namespace, "--predict", "own.py:Model"]
        shown = subprocess.run(
            [str(MLOPS), "render", "times", "--version", str(version), *given, *self.arguments],
            env=self.world.environ, cwd=self.world.folder, text=True, capture_output=True, check=True,
        )  # fmt: skip
        (made,) = (one for one in yaml.safe_load_all(shown.stdout) if one["kind"] == "InferenceService")
        about = made["metadata"]["annotations"]
        release = made["metadata"]["labels"]["mlops-actions.io/release"]
        folder = self.world.folder / "kept" / release
        (folder / "code").mkdir(parents=True)
        shutil.copy(self.world.folder / "own.py", folder / "code")
        shutil.copy(self.world.folder / str(version) / "model.json", folder)
        asked = {"kind": "json", "predict": "own.py:Model", "model": "model.json", "root": "code"}
        row = [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [1.0]}]
        named = {"id": release, "name": "times", "version": version, "digest": about["mlops-actions.io/digest"]}
        (folder / "release.json").write_text(json.dumps({**named, **asked, "example": row}))
        uri = made["spec"]["predictor"]["model"]["storageUri"]
        assert uri == self.uri.format(name="times", release=release)
        if self.scheme == "s3":
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            for file in (one for one in folder.rglob("*") if one.is_file()):
                self.s3.client().fput_object(bucket, f"{prefix}/{file.relative_to(folder).as_posix()}", str(file))
        else:
            standin_model.modelcar(folder, uri.removeprefix("oci://"))
        return str(release)

    def _keys(self) -> Object:
        """As KServe reads them; see https://kserve.github.io/website/docs/model-serving/storage/providers/s3."""
        scheme, _, host = self.s3.endpoint.partition("://")
        said = {"s3-endpoint": host, "s3-usehttps": str(int(scheme == "https")), "s3-region": "us-east-1"}
        notes = {f"serving.kserve.io/{name}": value for name, value in said.items()}
        keys = {"AWS_ACCESS_KEY_ID": self.s3.access_key, "AWS_SECRET_ACCESS_KEY": self.s3.secret_key}
        return {"metadata": {"name": "s3-keys", "annotations": notes}, "stringData": keys}

    def _runtime(self) -> Object:
        """This project's server, out of the image of a version, for what KServe has fetched."""
        code, _, log = self.world.deploy("--version", "1")
        assert code == 0, log
        (served,) = self.admin.list(INFERENCE_SERVICE)
        image = served["spec"]["predictor"]["containers"][0]["image"]
        self.world.deploy("--stop")
        server = ["python3", "-m", "mlops_actions.serving.server", "/mnt/models", "--grpc-port", "8081"]
        container = {"name": "kserve-container", "image": image, "command": server, "args": []}
        formats = [{"name": "ours", "version": "1", "autoSelect": True}]
        spec = {"supportedModelFormats": formats, "protocolVersions": ["v2"], "containers": [container]}
        return {"metadata": {"name": "ours"}, "spec": spec}


@pytest.mark.parametrize("on", [clusters.kserve_name()])
@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("scheme", ["s3", "oci"])
def test_a_runtime_of_the_cluster_serves_models_that_kserve_fetches(
    on: str, scheme: str, mode: str, tmp_path: Path
) -> None:
    if not on.startswith("real"):
        pytest.skip("no KServe: its double fetches by HTTP alone; set KSERVE=real")
    ingress = ["--ingress", clusters.knative_ingress()] if mode == "Knative" else []
    with clusters.kserve() as namespace:
        world = made(tmp_path, namespace, "kserve")
        kept = Kept(world, scheme)
        given = [*kept.arguments, "--deployment-mode", mode, *ingress, "--max-slowdown", "20"]
        for version in (1, 2):
            release = kept.keep(version)
            code, outputs, log = world.deploy("--version", str(version), *given)
            assert (code, outputs.get("version"), outputs.get("release")) == (0, version, release), log
        code, outputs, log = world.deploy("--version", "3", *given)  # nothing was kept of it
        assert (code, outputs.get("version"), outputs.get("rolled-back")) == (1, 2, True), log
        assert {"s3": "No model found in", "oci": "Cannot pull the image"}[scheme] in log
        code, outputs, log = world.call("rollback", "times", *given)
        assert (code, outputs.get("version")) == (0, 1), log
        code, _, log = world.deploy("--stop", *given)
        assert code == 0, log


@pytest.mark.parametrize(
    ("arguments", "variables", "exit_code", "what"),
    [
        (["--namespace", "not-there"], {}, 2, "no namespace not-there"),
        (["--gateway", "not-there/at-all"], {}, 2, "Gateway"),  # without Gateway API it says that
        (["--kube-context", "nobody"], {}, 2, "nobody"),
        ([], {"HTTPS_PROXY": "http://127.0.0.1:1"}, 3, "proxy"),
    ],
)
def test_a_place_that_is_not_as_named_is_one_error(
    world: World, arguments: list[str], variables: dict[str, str], exit_code: int, what: str
) -> None:
    code, _, log = world.deploy("--version", "1", *arguments, **variables)
    assert code == exit_code, log
    assert what in log and "Traceback" not in log


def test_who_may_not_is_told_every_right_that_is_missing(world: World) -> None:
    admin = clusters.administrator(world.namespace)
    user = {"MLOPS_KUBECONFIG": user_with(admin, "kfp"), "KUBECONFIG": ""}
    code, _, log = world.deploy("--version", "1", **user)
    assert code == 3, log
    assert "deployments.apps" in log or "services" in log
    assert "mlops rbac" in log
    broken = base64.b64encode(b"apiVersion: v1\nclusters: [").decode()
    code, _, log = world.deploy("--version", "1", MLOPS_KUBECONFIG=broken, KUBECONFIG="")
    assert code == 2 and "kubeconfig" in log, log
