"""On a real Kubernetes: what build-image pushes is what a Pod runs, and the chain keeps its results on a real MinIO.

Needs KUBECONFIG, REGISTRY (a registry that the nodes pull from) and S3_ENDPOINT with S3_ACCESS_KEY and S3_SECRET_KEY.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import docker_engine as docker
import servers
from conftest import ROOT, Run

pytestmark = pytest.mark.skipif(
    not (os.environ.get("KUBECONFIG") and shutil.which("kubectl")),
    reason="no kubernetes: set KUBECONFIG, and have kubectl on the path",
)


def kubectl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"mlops-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.skipif(bool(docker.missing()), reason=docker.missing() or "-")
@pytest.mark.skipif(not os.environ.get("REGISTRY"), reason="no registry: set REGISTRY to one that the nodes pull from")
def test_image_that_is_pushed_is_the_one_that_a_job_runs(mlops: Run, namespace: str, tmp_path: Path) -> None:
    registry = os.environ["REGISTRY"]
    said = uuid.uuid4().hex
    (tmp_path / "Dockerfile").write_text(f"FROM {docker.BASE_IMAGE}\nCOPY said.txt /said.txt\n")
    (tmp_path / "said.txt").write_text(said)
    with docker.docker_engine() as engine:
        built = mlops(
            "build-image", "--json", "--push", "--image", f"{registry}/test/said", "--test", "cat /said.txt",
            **engine.environ,
        )  # fmt: skip
    assert built.returncode == 0, built.stderr
    outputs = json.loads(built.stdout)
    assert outputs["image-ref"].endswith(outputs["digest"])
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "said"},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [
                        {"name": "said", "image": outputs["image-ref"], "command": ["/bin/cat", "/said.txt"]}
                    ],
                }
            },
        },
    }
    kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=json.dumps(job))
    kubectl("--namespace", namespace, "wait", "--for=condition=complete", "job/said", "--timeout=120s")
    assert kubectl("--namespace", namespace, "logs", "job/said") == said


def test_chain_keeps_its_results_on_minio(mlops: Run, tmp_path: Path) -> None:
    s3 = servers.minio()
    url = s3.new_store()
    environ = s3.environ(url)
    shutil.copytree(ROOT / "examples" / "minimal", tmp_path / "consumer")
    for arguments in (
        ("doctor",),
        ("run-pipeline",),
        ("evaluate-model", "--model", "cancer"),
        ("test-model", "--variant", "training"),
        ("register-model", "--model", "cancer"),
        ("promote-model", "--model", "cancer"),
        ("report",),
    ):
        done = mlops(*arguments, cwd=tmp_path / "consumer", **environ)
        assert done.returncode == 0, (arguments, done.stderr)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    names = {o.object_name.removeprefix(f"{prefix}/") for o in s3.client().list_objects(bucket, recursive=True)}
    assert {"models/cancer/versions/1.json", "models/cancer/aliases/champion.json"} <= names
    manifest = json.loads(s3.client().get_object(bucket, f"{prefix}/models/cancer/versions/1.json").data)
    blobs = {f"blobs/{file['digest'].replace(':', '/')}" for file in manifest["files"]}
    assert blobs and blobs <= names
