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
from mlops_actions.serving.engine import Declarative, HandedOver
from mlops_actions.serving.gitops.engine import GitServing
from mlops_actions.serving.gitops.inputs import GitOpsInputs
from mlops_actions.serving.gitops.repository import Repository
from workspaces import workspace

IMAGE = "registry.test/models:1"
ENGINE = engines("mlops_actions.serving.engines")["git"]


class Inputs(GitOpsInputs):
    """Those of the action that the engine reads."""

    timeout: float = 120.0


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
    world.engine().stop("m")
    assert world.objects() == {} and world.git("show", "main:README.md") == "theirs"
    world.engine().stop("m")
    assert world.commits == 3


@pytest.mark.parametrize(
    ("inputs", "error", "what"),
    [
        ({"gitops-repository": ""}, BadInput, "Set `gitops-repository`"),
        ({"gitops-repository": "nowhere.git"}, RemoteFailed, "Cannot read the repository nowhere.git.*does not exist"),
        ({"gitops-branch": "production"}, RemoteFailed, "Cannot read the repository.*production"),
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
