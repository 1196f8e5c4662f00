"""The engine `git` on a real cluster, with something that applies a repository's folder as Argo CD and Flux do.

Needs KUBECONFIG of an administrator, REGISTRY and git. What applies the folder is the test's own: it reads the branch
over and over, applies what is there, and deletes what is not there any more.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import create_model

import clusters
from mlops_actions.engines import engines
from mlops_actions.kubernetes.objects import DEPLOYMENT, SERVICE, Cluster
from mlops_actions.serving.cluster.names import RELEASE, service_of
from mlops_actions.serving.engine import NotServed, ServingEngine
from mlops_actions.serving.gitops.inputs import GitOpsInputs
from serving_worlds import Models, asking, base_image
from workspaces import workspace

pytestmark = [
    clusters.needs_kubernetes,
    pytest.mark.skipif(not os.environ.get("REGISTRY"), reason="no registry: set REGISTRY, which the nodes pull from"),
]
NAME = "my_model"
KINDS = {kind.kind: kind for kind in (DEPLOYMENT, SERVICE)}
Inputs = create_model("Inputs", __base__=GitOpsInputs, timeout=(float, 90.0))


class Applier:
    """Lets a namespace be as the folder `models` of a repository says."""

    def __init__(self, cluster: Cluster, remote: Path, clone: Path) -> None:
        self._cluster, self._clone, self.stop = cluster, clone, threading.Event()
        self.faults: list[Exception] = []
        subprocess.run(["git", "clone", "-q", str(remote), str(clone)], check=True)

    def run(self) -> None:
        while not self.stop.wait(0.5):
            try:
                self._sync()
            except Exception as fault:
                self.faults.append(fault)

    def _sync(self) -> None:
        pull = ["git", "-C", str(self._clone), "pull", "-q", "origin", "main"]
        subprocess.run(pull, check=True, capture_output=True)
        files = sorted((self._clone / "models").rglob("*.yaml"))
        wanted = [yaml.safe_load(file.read_text()) for file in files]
        for one in wanted:
            self._cluster.apply(KINDS[one["kind"]], one, force=True)
        names = {(one["kind"], one["metadata"]["name"]) for one in wanted}
        for kind in KINDS.values():
            for found in self._cluster.list(kind, labels="app.kubernetes.io/managed-by=mlops-actions"):
                if (kind.kind, found["metadata"]["name"]) not in names:
                    self._cluster.delete(kind, found["metadata"]["name"])


@contextmanager
def applied(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """A repository that is applied to a namespace."""
    remote, first = folder / "remote.git", folder / "first"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    subprocess.run(["git", "clone", "-q", str(remote), str(first)], check=True)
    commit = ["-c", "user.name=them", "-c", "user.email=them@test", "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(["git", "-C", str(first), *commit], check=True)
    subprocess.run(["git", "-C", str(first), "push", "-q", "origin", "HEAD:main"], check=True)
    applier = Applier(cluster, remote, folder / "applier")
    worker = threading.Thread(target=applier.run, daemon=True)
    worker.start()
    try:
        yield remote
    finally:
        applier.stop.set()
        worker.join(30)
    assert applier.faults == []


def engine_of(admin: Cluster, remote: Path, folder: Path, **given: Any) -> ServingEngine:
    base = {
        "gitops_repository": str(remote),
        "gitops_wait": True,
        "namespace": admin.namespace,
        "image_repository": f"{os.environ['REGISTRY']}/test/serving",
        "base_image": base_image(),
        "cpu": "50m",
        "memory": "400Mi",
    }
    made: ServingEngine = engines("mlops_actions.serving.engines")["git"].make(
        Inputs.model_validate({**base, **given}), workspace(folder)
    )
    return made


def commits(remote: Path) -> int:
    told = subprocess.run(
        ["git", "-C", str(remote), "rev-list", "--count", "main"], capture_output=True, text=True, check=True
    )
    return int(told.stdout)


def test_a_rollout_is_three_commits_and_no_request_fails(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = Models(tmp_path_factory.mktemp("models"))
    one, two, broken = models.sklearn(1), models.sklearn(2), models.code(3, load="raise RuntimeError('no vocabulary')")
    with clusters.namespace({}) as name, applied(clusters.administrator(name), tmp_path) as remote:
        admin = clusters.administrator(name)
        engine = engine_of(admin, remote, tmp_path)
        for release in (one, two):
            before = commits(remote)
            client = engine.start(release)
            assert client.metadata()["properties"]["release"] == release.id
            if release is one:
                engine.shift(one, 100)
                engine.finish(one)
                continue
            found = admin.get(SERVICE, service_of(NAME))
            assert found
            with asking(f"http://{found['spec']['clusterIP']}/v2/models/{NAME}") as asked:
                asked.wait_for(one.id)
                half = engine.serving(NAME)
                assert half and (half.release, half.candidate, half.percent) == (one.id, two.id, 0)
                engine.shift(two, 100)
                assert engine.ask(NAME).metadata()["properties"]["release"] == two.id
                engine.finish(two)
                asked.wait_for(two.id)
                assert commits(remote) == before + 3
                with pytest.raises(NotServed, match="no vocabulary"):
                    engine.start(broken)
                now = engine.abandon(NAME)
                assert now and (now.release, now.candidate, now.previous) == (two.id, "", one.id)
                asked.wait_for(two.id)
            assert asked.wrong == []
        pods = {
            found["metadata"]["labels"][RELEASE]: found["spec"]["replicas"]
            for found in admin.list(DEPLOYMENT)
            if RELEASE in found["metadata"]["labels"] and broken.id not in found["metadata"]["name"]
        }
        assert pods == {one.id: 0, two.id: 1}
        engine.finish(two)
        again = commits(remote)
        engine.finish(two)
        assert commits(remote) == again
        engine.stop(NAME)
        assert engine.serving(NAME) is None
