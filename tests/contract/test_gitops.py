"""The engine `git` with a real git repository: what is written, that one commit has one state, who pushes meanwhile."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from memory_engine import release
from mlops_actions.engines import engines
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.kubernetes.objects import ENDPOINT_SLICE, POD, Kind
from mlops_actions.serving.cluster.engine import State
from mlops_actions.serving.engine import Declarative, HandedOver
from mlops_actions.serving.engines.kserve import KServeInputs
from mlops_actions.serving.gitops.engine import GitServing
from mlops_actions.serving.gitops.inputs import GitOpsInputs
from mlops_actions.serving.gitops.repository import Repository
from mlops_actions.serving.history import Deployment, History
from mlops_actions.serving.protocol import Client
from mlops_actions.serving.rollout import Questions, Rollout, Rules
from mlops_actions.stores.store import Store
from mlops_actions.waiting import Clock
from workspaces import workspace

IMAGE = "registry.test/models:1"
ENGINE = engines("mlops_actions.serving.engines")["git"]


class Inputs(GitOpsInputs, KServeInputs):
    """Those of the action that the engines read."""

    timeout: float = 120.0


class Applied:
    """A cluster that takes all that is applied, in which pods, routes and gateways are ready at once."""

    namespace, clock = "team-a", Clock()

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}

    def apply(self, kind: Kind, body: dict[str, Any], *, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        """Take it, and its status as a controller would write it."""
        made = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        made = {**made, "metadata": {"generation": 1, **body["metadata"]}}
        if not dry_run:
            self.objects[f"{kind.kind} {body['metadata']['name']}"] = made
        return made

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        """One of them."""
        found = self.objects.get(f"{kind.kind} {name}")
        true = {"status": "True", "observedGeneration": 1}
        conditions = [{"type": one, **true} for one in ("Accepted", "ResolvedRefs", "Ready")]
        parents = [{"parentRef": {"namespace": "infra", "name": "public"}, "conditions": conditions}]
        status = {"observedGeneration": 1, "conditions": conditions, "parents": parents}
        spec = {"replicas": 1, **found["spec"]} if found else {}  # an API server's own default
        return found and {**found, "spec": spec, "status": status}

    def list(self, kind: Kind, labels: str = "") -> list[dict[str, Any]]:
        """The pod of a release, and the endpoint that it is; no releases are left over."""
        pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        found: dict[Kind, dict[str, Any]] = {POD: pod, ENDPOINT_SLICE: {"endpoints": [{"targetRef": {"name": "p"}}]}}
        return [found[kind]] if kind in found else []

    def may(self, *_: Any, **__: Any) -> bool:
        """All."""
        return True

    def versions(self, kind: Kind) -> tuple[str, ...]:
        """Those that are spoken."""
        return (kind.version,)


@dataclass
class World:
    """A bare repository with a file of somebody's, and a consumer's folder."""

    folder: Path

    def git(self, *arguments: str, at: str = "remote.git") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder / at), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def engine(self, **inputs: Any) -> GitServing:
        given = {"gitops-repository": "remote.git", "image": IMAGE, **inputs}
        made = ENGINE.make(Inputs.model_validate(given), workspace(self.folder))
        assert isinstance(made, GitServing)
        return made

    def give(self, version: int, **inputs: Any) -> str:
        """Let a version serve; where it is."""
        with pytest.raises(HandedOver) as caught:
            self.engine(**inputs).start(release(version))
        return str(caught.value)

    def objects(self, branch: str = "main") -> dict[str, dict[str, Any]]:
        """The objects that the branch has, by kind and name."""
        names = self.git("ls-tree", "-r", "--name-only", branch, "models").splitlines()
        found = [yaml.safe_load(self.git("show", f"{branch}:{name}")) for name in names]
        return {f"{one['kind']} {one['metadata']['name']}": one for one in found}

    @property
    def commits(self) -> int:
        return int(self.git("rev-list", "--count", "main"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "remote.git")], check=True)
    subprocess.run(["git", "clone", "-q", str(tmp_path / "remote.git"), str(tmp_path / "theirs")], check=True)
    (tmp_path / "theirs" / "README.md").write_text("theirs\n")
    push(made, "README.md")
    return made


def push(world: World, *files: str) -> None:
    """Somebody else pushes."""
    who = ["-c", "user.name=them", "-c", "user.email=them@test"]
    world.git("add", *files, at="theirs")
    world.git(*who, "commit", "-q", "-m", "theirs", at="theirs")
    world.git("push", "-q", "origin", "HEAD:main", at="theirs")


def selected(objects: Mapping[str, Mapping[str, Any]]) -> str:
    return str(objects["Service m"]["spec"]["selector"]["mlops-actions.io/release"])


def test_a_version_is_one_commit_with_all_that_serves_it_and_nothing_of_others(world: World) -> None:
    assert world.give(1).startswith("commit ")
    one = release(1).id
    assert set(world.objects()) == {"Service m", f"Service m-{one}", f"Deployment m-{one}"}
    assert selected(world.objects()) == one
    assert world.objects()[f"Deployment m-{one}"]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert (world.commits, world.git("show", "main:README.md")) == (2, "theirs")


def test_the_same_version_again_is_no_commit(world: World) -> None:
    world.give(1)
    assert world.give(1) == "remote.git has version 1 already"
    assert world.commits == 2


def test_what_served_before_stays_until_the_next_version_and_argo_moves_requests_last(world: World) -> None:
    world.give(1)
    world.give(2)
    both = world.objects()
    assert selected(both) == release(2).id
    assert both[f"Deployment m-{release(1).id}"]["spec"]["replicas"] == 1, "it answers until requests have moved"
    waves = {
        name: (one["metadata"].get("annotations") or {}).get("argocd.argoproj.io/sync-wave")
        for name, one in both.items()
    }
    assert [name for name, wave in waves.items() if wave] == ["Service m"]
    world.give(3)
    assert f"Deployment m-{release(1).id}" not in world.objects()
    world.give(2)
    assert selected(world.objects()) == release(2).id
    assert {f"Deployment m-{release(2).id}", f"Deployment m-{release(3).id}"} <= set(world.objects())


def test_route_policy_and_namespace_are_written_where_they_are_asked_for(world: World) -> None:
    world.give(1, gateway="infra/public", hostname="models.test", namespace="team-a", **{"network-policy": True})
    found = world.objects()
    assert {one["metadata"]["namespace"] for one in found.values()} == {"team-a"}
    for rule in found["HTTPRoute m"]["spec"]["rules"]:
        assert [(one["name"], one["weight"]) for one in rule["backendRefs"]] == [(f"m-{release(1).id}", 100)]
    assert found["NetworkPolicy m"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_manifests_that_are_printed_are_those_that_are_written(world: World) -> None:
    engine = world.engine()
    assert isinstance(engine, Declarative)
    printed = {f"{one['kind']} {one['metadata']['name']}": one for one in engine.manifests(release(1))}
    world.give(1)
    written = world.objects()
    assert set(printed) == set(written)
    for name, one in printed.items():
        assert written[name]["spec"] == one["spec"]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("kubernetes", {}),
        (
            "kubernetes",
            {
                "gateway": "infra/public", "hostname": "m.test", "network-policy": True, "replicas": 2,
                "max-replicas": 4, "service-account": "models", "image-pull-secret": "pull",
                "node-selector": {"pool": "cpu"},
            },
        ),
        ("kserve", {"gateway": "infra/public", "network-policy": True, "replicas": 2}),
        ("kserve", {"deployment-mode": "Knative", "max-replicas": 4}),
        ("kserve", {"image": "", "storage": "s3://models/{name}/{version}", "model-format": "sklearn"}),
    ],
    ids=["plain", "all of kubernetes", "kserve", "knative", "storage"],
)  # fmt: skip
def test_the_repository_has_what_the_other_engine_applies(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, inputs: dict[str, Any]
) -> None:
    given = {"gitops-repository": "remote.git", "image": IMAGE, "namespace": "team-a", **inputs}
    other = engines("mlops_actions.serving.engines")[name].make(Inputs.model_validate(given), workspace(world.folder))
    cluster = Applied()
    monkeypatch.setattr(other, "_connect", lambda: cluster)
    monkeypatch.setattr(other._workload, "wait", lambda *_: None)
    monkeypatch.setattr(Client, "ready", lambda _: True)
    other.start(release(1))
    other.shift(release(1), 100)
    other.finish(release(1))

    world.give(1, namespace="team-a", **{"gitops-objects": name}, **inputs)
    written = world.objects()
    assert set(written) == set(cluster.objects)
    for key, one in cluster.objects.items():
        assert (written[key]["apiVersion"], written[key]["spec"]) == (one["apiVersion"], one["spec"]), key
        about, wanted = written[key]["metadata"], one["metadata"]
        assert (about["namespace"], about["labels"]) == ("team-a", wanted["labels"]), key
        wave = {"argocd.argoproj.io/sync-wave": "1"}
        assert {**(wanted.get("annotations") or {}), **wave}.items() >= (about.get("annotations") or {}).items()


def test_an_inference_service_that_can_be_gone_back_to_is_at_rest_once_the_next_one_serves(world: World) -> None:
    engine = world.engine(namespace="team-a", **{"gitops-objects": "kserve", "deployment-mode": "Knative"})
    documents: dict[str, Any] = {}
    for version in (1, 2):
        documents |= engine._with(release(version), IMAGE, {})
    one, two = release(1).id, release(2).id
    engine._write("m", State(stable=two, previous=one, selected=two), documents, "two serves")
    found = world.objects()
    stop = "serving.kserve.io/stop"
    assert found[f"InferenceService m-{one}"]["metadata"]["annotations"][stop] == "true"
    assert stop not in found[f"InferenceService m-{two}"]["metadata"]["annotations"]
    (target,) = found["Route m-live"]["spec"]["traffic"]
    assert (target["configurationName"], target["percent"]) == (f"m-{two}-predictor", 100)


def test_what_a_setting_that_went_had_made_goes_too(world: World) -> None:
    world.give(1, **{"max-replicas": 3})
    one = release(1).id
    assert f"HorizontalPodAutoscaler m-{one}" in world.objects()
    world.give(1)
    assert set(world.objects()) == {"Service m", f"Service m-{one}", f"Deployment m-{one}"}


@pytest.mark.parametrize(
    ("inputs", "what"),
    [
        ({"gitops-objects": "kserve"}, "`gitops-objects: kserve` needs `namespace`"),
        ({"deployment-mode": "Knative"}, "Set `gitops-objects: kserve`"),
        (
            {"gitops-objects": "kserve", "namespace": "ml", "deployment-mode": "Knative", "gateway": "public"},
            "`gateway` cannot be used with `deployment-mode: Knative`",
        ),
    ],
)
def test_objects_that_cannot_be_written_are_refused(world: World, inputs: dict[str, Any], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        world.engine(**inputs)


def test_somebody_who_pushes_meanwhile_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clone, pushes = Repository._clone, iter(("a", "b"))

    def raced(self: Repository, scratch: Path) -> Path:
        made = clone(self, scratch)
        if name := next(pushes, ""):
            (world.folder / "theirs" / name).write_text(name)
            push(world, name)
        return made

    engine = world.engine()
    monkeypatch.setattr(Repository, "_clone", raced)
    monkeypatch.setattr(engine, "_documents", lambda _: {})
    with pytest.raises(HandedOver):
        engine.start(release(1))
    assert selected(world.objects()) == release(1).id
    assert world.git("show", "main:a") + world.git("show", "main:b") == "ab"


def test_stop_removes_the_models_folder_and_no_more(world: World) -> None:
    world.give(1)
    was = world.engine().stop("m")
    assert was and (was.version, was.release, was.url) == (1, release(1).id, ""), "what was handed over is known"
    assert world.objects() == {} and world.git("show", "main:README.md") == "theirs"
    assert world.engine().stop("m") is None
    assert world.commits == 3


def test_stop_opens_a_pull_request_where_versions_come_by_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    proposed: list[str] = []
    monkeypatch.setattr(Repository, "propose", lambda _, branch, *__: proposed.append(branch) or "https://pull/7")
    (world.folder / "o").mkdir()
    (world.folder / "remote.git").rename(world.folder / "o" / "deployments")
    (world.folder / "remote.git").symlink_to(world.folder / "o" / "deployments")
    world.give(1)
    given = {"gitops-repository": "o/deployments", "gitops-pull-request": True, "gitops-token": "token"}
    with pytest.raises(HandedOver, match="its pull request is https://pull/7"):
        world.engine(**given).stop("m")
    assert world.objects() and proposed == ["mlops-actions/m-stop"], "the branch itself stays as it was"
    assert world.git("ls-tree", "-r", "--name-only", proposed[0], "models") == ""


@pytest.mark.parametrize(
    ("inputs", "error", "what"),
    [
        ({"gitops-repository": ""}, BadInput, "Set `gitops-repository`"),
        ({"gitops-repository": "nowhere.git"}, RemoteFailed, "Cannot read the repository nowhere.git.*does not exist"),
        ({"gitops-branch": "production"}, RemoteFailed, r"git[.] fatal: Remote branch production not found in"),
        ({"gitops-path": "../elsewhere"}, BadInput, "`gitops-path`"),
        ({"gitops-pull-request": True}, BadInput, "A pull request cannot be opened.*owner/name"),
    ],
)
def test_what_cannot_be_written_is_one_error(
    world: World, inputs: dict[str, Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        world.engine(**inputs).start(release(1))
    assert world.commits == 1
    assert world.git("branch", "--format", "%(refname:short)").split() == ["main"]


def test_a_branch_that_does_not_exist_is_told_once_and_nothing_began(world: World) -> None:
    said: list[str] = []
    history = History(Store((world.folder / "store").as_uri()), "m", "git")
    rollout = Rollout(world.engine(**{"gitops-branch": "production"}), history, Rules(), Questions(None), said.append)
    with pytest.raises(RemoteFailed, match="Cannot read the repository"):
        rollout.run(release(1), Deployment(version=1, release=release(1).id))
    known = history.read()
    assert (said, known.under_way, known.history) == ([], None, [])


@pytest.fixture
def pulls() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """An address that answers as GitHub's `/repos/{owner}/{repo}/pulls` does, in the fields that are read; what came.

    Of GitHub's own description no answer to these paths can be made: its examples do not fit its schemas.
    """
    came: list[tuple[str, str, Any]] = []
    one = {"number": 7, "html_url": "https://github.test/o/deployments/pull/7"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            path, _, query = self.path.partition("?")
            came.append((self.command, path, json.loads(self.rfile.read(size) or "{}") or query))
            known = {**one, "url": f"{url}{path}/7".replace("/7/7", "/7")}
            there = any(method == "POST" for method, _, _ in came[:-1])
            body = ([known] if there else []) if self.command == "GET" else known
            status = 403 if "refused" in path else 201 if self.command == "POST" else 200
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url, came
        server.shutdown()


def test_a_pull_request_is_opened_once_and_then_brought_up_to_date(
    tmp_path: Path, pulls: tuple[str, list[tuple[str, str, Any]]]
) -> None:
    url, came = pulls
    place = Repository("o/deployments", "main", "models", "token", {"GITHUB_API_URL": url}, tmp_path)
    place.check_proposing()
    for title in ("first", "second"):
        assert place.propose("mlops-actions/m-v1", title, "Release v1").endswith("/o/deployments/pull/7")
    assert [(method, path) for method, path, _ in came] == [
        ("GET", "/repos/o/deployments/pulls"),
        ("POST", "/repos/o/deployments/pulls"),
        ("GET", "/repos/o/deployments/pulls"),
        ("PATCH", "/repos/o/deployments/pulls/7"),
    ]
    assert came[0][2] == "base=main&head=o%3Amlops-actions%2Fm-v1&state=open"
    assert came[1][2] == {"base": "main", "head": "mlops-actions/m-v1", "title": "first", "body": "Release v1"}
    assert came[3][2] == {"title": "second", "body": "Release v1"}
    with pytest.raises(RemoteFailed, match="Cannot open a pull request in o/refused"):
        replace(place, name="o/refused").propose("mlops-actions/m-v1", "title", "text")


def test_no_shares_of_requests(world: World) -> None:
    able = world.engine().capabilities()
    assert not able.weights and "one state at a time" in able.lacking
