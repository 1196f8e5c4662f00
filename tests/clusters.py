"""Kubernetes, Katib and Kubeflow Pipelines for tests: the real ones where they are named, else the doubles.

CONTRIBUTING.md lists the variables that name them. Kubernetes is always real.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import servers
from given import cluster_inputs
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.objects import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    NAMESPACE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Cluster,
)

needs_kubernetes = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no kubernetes: set KUBECONFIG")
RIGHTS = {kind.kind: kind for kind in (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, CLUSTER_ROLE, CLUSTER_ROLE_BINDING)}
COLLECTED = "until grep -qsa '[-]s-db' /proc/[0-9]*/cmdline; do sleep 0.1; done; sleep 2"
"""In a trial's shell: wait for Katib's metrics collector, which fails when the trial ends before it has started."""
INJECTION = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}


def administrator(namespace: str = "") -> Cluster:
    """The cluster, with the rights of KUBECONFIG."""
    return connect(cluster_inputs(namespace=namespace), os.environ)


@contextmanager
def namespace(labels: Mapping[str, str] = INJECTION, beginning: str = "mlops") -> Iterator[str]:
    """A namespace of its own, by default one in which Katib collects metrics; it is deleted afterwards."""
    name = f"{beginning}-{uuid.uuid4().hex[:8]}"
    cluster = administrator()
    cluster.create(
        NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
    )
    try:
        yield name
    finally:
        cluster.delete(NAMESPACE, name)


def make_secret(namespace: str, name: str, values: Mapping[str, str]) -> None:
    """Make a secret of texts."""
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(values),
    }
    administrator(namespace).create(SECRET, body)


def kubeconfig_of(admin: Cluster, user: Mapping[str, Any]) -> str:
    """A kubeconfig, as base64 as a secret has it, of the same cluster and namespace for another user."""
    server = admin._transport._server
    authority = base64.b64encode(server.authority.read().encode()).decode()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": dict(user)}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": admin.namespace}}],
        "current-context": "c",
    }
    return base64.b64encode(yaml.safe_dump(config).encode()).decode()


@contextmanager
def katib(namespace: str) -> Iterator[None]:
    """Katib for a namespace: the cluster's own where KATIB is `real`."""
    if os.environ.get("KATIB") == "real":
        yield
        return
    from doubles.katib import KatibDouble

    with KatibDouble(Path(os.environ["KUBECONFIG"]), namespaces=[namespace]):
        yield


def kserve_name() -> str:
    """Which KServe tests run on, for their names."""
    return "real KServe" if os.environ.get("KSERVE") == "real" else "double of KServe"


def knative_ingress() -> str:
    """Where the Knative Serving of a real KServe takes requests, as KNATIVE names it; skips where there is none."""
    found = os.environ.get("KNATIVE", "")
    if not found or os.environ.get("KSERVE") != "real":
        pytest.skip("no Knative: set KNATIVE to where it takes requests, and KSERVE=real")
    return found


@contextmanager
def kserve(*, mode: str = "Standard") -> Iterator[str]:
    """A namespace that KServe looks after: the cluster's own where KSERVE is `real`, else a double.

    Args:
        mode: of the double's configuration, for InferenceServices that do not say theirs.
    """
    if os.environ.get("KSERVE") == "real":
        with namespace({}) as name:
            yield name
        return
    from doubles.kserve import KServeDouble

    image = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    with (
        namespace({"mlops-double": "kserve"}, "mlops-double") as name,
        KServeDouble(administrator, [name], image=image, mode=mode),
    ):
        yield name


@contextmanager
def kfp(s3: servers.S3, namespace: str) -> Iterator[str]:
    """The URL of Kubeflow Pipelines: of the one that KFP_HOST names, else of a double that keeps artifacts on S3."""
    if os.environ.get("KFP_HOST"):
        yield os.environ["KFP_HOST"]
        return
    from doubles.kfp import KfpDouble, Settings

    bucket = s3.new_store().removeprefix("s3://").partition("/")[0]
    settings = Settings(namespace, pipeline_root=f"minio://{bucket}/v2/artifacts")
    image = os.environ.get("PYTHON_IMAGE", "python:3.11-slim")
    with KfpDouble(s3.options(), settings, cluster=administrator(namespace), image=image) as double:
        yield double.url
        assert not double.violations
