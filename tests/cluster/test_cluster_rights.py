"""With exactly the rights of the manifest everything in the adapter works; the doctor names each that is missing.

Needs KUBECONFIG of an administrator, PYTHON_IMAGE, and Katib's custom resource definitions, which are made if missing.
"""

from __future__ import annotations

import base64
import io
import json
import os
import uuid
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import clusters
import mlops_actions
from given import cluster_inputs
from mlops_actions.doctor import Finding, findings_of_cluster
from mlops_actions.inputs import ClusterInputs
from mlops_actions.kubernetes import rights
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.failures import ClusterFailed, Refused
from mlops_actions.kubernetes.objects import (
    CONFIG_MAP,
    CRD,
    EVENT,
    EXPERIMENT,
    INJECTION_LABEL,
    JOB,
    NAMESPACE,
    POD,
    SUGGESTION,
    TRIAL,
    Cluster,
    Kind,
    Object,
)
from mlops_actions.kubernetes.pods import explain, log_tail

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no kubernetes: set KUBECONFIG"),
    pytest.mark.skipif(not os.environ.get("PYTHON_IMAGE"), reason="no kubernetes: set PYTHON_IMAGE to one it has"),
]
KINDS = clusters.RIGHTS
DEFINITIONS = Path(__file__).resolve().parents[1] / "data" / "katib"


@pytest.fixture(scope="module")
def admin() -> Iterator[Cluster]:
    """An administrator in a namespace with Katib's label, the manifest applied."""
    name = f"mlops-rights-{uuid.uuid4().hex[:8]}"
    admin = connect(cluster_inputs(namespace=name), os.environ)
    for file in ("experiment", "trial", "suggestion"):
        definition = yaml.safe_load((DEFINITIONS / f"{file}.yaml").read_text())
        admin.create(CRD, definition)
        watch = admin.watch(CRD, name=definition["metadata"]["name"], until=admin.clock.now() + 30)
        next(change for change in watch if change and _established(change.object))
        watch.close()
    admin.create(NAMESPACE, {"metadata": {"name": name, "labels": {INJECTION_LABEL: "enabled"}}})
    documents = list(yaml.safe_load_all(rights.manifest(name)))
    try:
        for document in documents:
            admin.apply(KINDS[document["kind"]], document)
        yield admin
    finally:
        for document in documents:
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])
        admin.delete(NAMESPACE, name)


def _established(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def as_user(admin: Cluster, user: dict[str, Any]) -> ClusterInputs:
    """The same cluster as another user."""
    return cluster_inputs(clusters.kubeconfig_of(admin, user))


@pytest.fixture(scope="module")
def limited(admin: Cluster) -> Cluster:
    return connect(as_user(admin, {"token": admin.token("mlops-actions")}), {})


def experiment(name: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"maxTrialCount": 1}}


def test_everything_that_the_katib_engine_does_is_allowed(limited: Cluster) -> None:
    applied = limited.apply(EXPERIMENT, experiment("tune"), dry_run=True)
    assert applied["metadata"]["name"] == "tune"
    assert limited.get(EXPERIMENT, "tune") is None  # it was only checked
    limited.apply(EXPERIMENT, experiment("tune"))
    assert limited.create(EXPERIMENT, experiment("tune")) is None
    limited.patch(EXPERIMENT, "tune", {"spec": {"maxTrialCount": 2}})
    for kind in (EXPERIMENT, TRIAL, SUGGESTION, JOB, POD, EVENT):
        watch = limited.watch(kind, until=limited.clock.now() + 5)
        next(watch)
        watch.close()
        assert isinstance(limited.list(kind), list)
    namespace = limited.get(NAMESPACE, limited.namespace)
    assert namespace
    assert limited.delete(EXPERIMENT, "tune")
    assert not limited.delete(EXPERIMENT, "tune")


def test_failed_pod_is_explained_with_these_rights(admin: Cluster, limited: Cluster) -> None:
    container = {"name": "main", "image": os.environ["PYTHON_IMAGE"], "imagePullPolicy": "IfNotPresent"}
    container["command"] = ["sh", "-c", "echo lost; exit 4"]  # type: ignore[assignment]
    admin.create(POD, {"metadata": {"name": "bad"}, "spec": {"restartPolicy": "Never", "containers": [container]}})
    for change in limited.watch(POD, name="bad", until=limited.clock.now() + 60):
        if change and change.object["status"]["phase"] == "Failed":
            found = explain(limited, change.object)
            assert found
            assert found.exit_code == 4
            assert log_tail(limited, change.object) == "lost"
            return
    raise AssertionError("the pod did not fail")


def test_token_of_the_own_service_account_is_given_and_of_no_other(limited: Cluster) -> None:
    token = limited.token("mlops-actions", audience="pipelines.kubeflow.org")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["aud"] == ["pipelines.kubeflow.org"]
    with pytest.raises(ClusterFailed, match="may not create serviceaccounts/token"):
        limited.token("default")


def test_what_is_not_in_the_manifest_is_denied(limited: Cluster) -> None:
    for verb, kind in (("create", POD), ("delete", TRIAL), ("list", NAMESPACE), ("get", CONFIG_MAP)):
        assert not limited.may(verb, kind)
    with pytest.raises(ClusterFailed) as caught:
        limited.list(CONFIG_MAP)
    account = f"The service account {limited.namespace}/mlops-actions"
    assert caught.value.what == f"{account} may not list configmaps in the namespace {limited.namespace}"
    assert "mlops rbac" in caught.value.fix
    assert caught.value.exit_code == 3


def test_doctor_is_content_with_the_manifest(limited: Cluster) -> None:
    findings = findings_of_cluster(lambda: limited, rights.PARTS)
    others = ("Katib's webhook", "KServe")  # no controller runs here, and there may be no KServe
    assert [(finding.name, finding.state) for finding in findings if finding.name not in others] == [
        ("Kubernetes", "ok"), ("namespace", "ok"), ("Katib", "ok"), ("rights", "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("rule", rights.RULES, ids=lambda rule: rule.resource)
def test_doctor_names_the_right_that_is_missing(admin: Cluster, rule: rights.Rule) -> None:
    """The service account of another name gets all rules but one."""
    account = f"without-{uuid.uuid4().hex[:6]}"
    documents = list(yaml.safe_load_all(rights.manifest(admin.namespace, account)))
    kind = "Role" if rule.kind.namespaced else "ClusterRole"
    role = next(document for document in documents if document["kind"] == kind)
    kept = [
        one
        for one in role["rules"]
        if (one["resources"], one["apiGroups"], one["verbs"]) != ([rule.resource], [rule.kind.group], list(rule.verbs))
    ]
    assert len(kept) == len(role["rules"]) - 1
    role["rules"] = kept
    try:
        for document in documents:
            admin.apply(KINDS[document["kind"]], document)
        cluster = connect(as_user(admin, {"token": admin.token(account)}), {})
        lacking = rights.missing(cluster, rights.PARTS, service_account=account)
        resource = rule.resource + (f".{rule.kind.group}" if rule.kind.group else "")
        assert [str(right) for right in lacking] == [f"{', '.join(rule.verbs)} {resource}"]
        findings = {finding.name: finding for finding in findings_of_cluster(lambda: cluster, rule.parts)}
        assert f"right: {lacking[0]}" in findings, findings
        found = findings[f"right: {lacking[0]}"]
        assert found.state == ("optional" if rule.optional else "missing")
        assert rule.reason in found.found
        assert "mlops rbac" in found.fix
    finally:
        for document in documents:
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_doctor_finds_a_namespace_that_is_not_there_or_has_no_label(admin: Cluster) -> None:
    nowhere = connect(cluster_inputs(namespace="mlops-nowhere"), os.environ)
    assert by_name(findings_of_cluster(lambda: nowhere, ["katib"]))["namespace"].state == "missing"
    plain = connect(cluster_inputs(namespace="default"), os.environ)
    found = by_name(findings_of_cluster(lambda: plain, ["katib"]))["namespace's label"]
    assert found.state == "missing"
    assert found.fix.startswith(f"`kubectl label namespace default {INJECTION_LABEL}=enabled`")
    assert "namespace's label" not in by_name(findings_of_cluster(lambda: plain, ["kfp"]))


def test_doctor_finds_a_kind_of_another_version(admin: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = Kind("kubeflow.org", "v9", "experiments", "Experiment")
    monkeypatch.setattr("mlops_actions.kubernetes.objects.EXPERIMENT", newer)
    found = by_name(findings_of_cluster(lambda: admin, ["katib"]))["Katib"]
    assert found.state == "missing"
    assert found.found == "the cluster does not know Experiment of kubeflow.org/v9, only v1beta1"


def test_missing_kind_is_one_clear_error(admin: Cluster) -> None:
    for kind in (Kind("nothing.example.org", "v1", "things", "Thing"), Kind("kubeflow.org", "v9", "trials", "Trial")):
        for ask in (lambda kind=kind: admin.list(kind), lambda kind=kind: admin.get(kind, "x")):
            with pytest.raises(ClusterFailed, match=f"does not know {kind.plural}"):
                ask()
        with pytest.raises(ClusterFailed, match=f"does not know {kind.plural}"):
            next(admin.watch(kind, until=admin.clock.now() + 10))


def test_missing_namespace_is_one_clear_error(admin: Cluster) -> None:
    nowhere = connect(cluster_inputs(namespace="mlops-nowhere"), os.environ)
    for call in (nowhere.apply, nowhere.create):
        with pytest.raises(Refused, match="no namespace mlops-nowhere"):
            call(EXPERIMENT, experiment("tune"))


def test_fault_of_an_object_is_bad_input_at_once(admin: Cluster) -> None:
    with pytest.raises(Refused, match="RFC 1123"):
        admin.apply(EXPERIMENT, experiment("Not_A_Name"))
    with pytest.raises(Refused, match="expected map"):
        admin.apply(CONFIG_MAP, {"metadata": {"name": "bad"}, "data": [1]})


def test_field_that_another_tool_manages_is_a_conflict_unless_forced(admin: Cluster) -> None:
    admin.create(CONFIG_MAP, {"metadata": {"name": "shared"}, "data": {"x": "theirs"}})
    ours: Object = {"metadata": {"name": "shared"}, "data": {"x": "ours"}}
    with pytest.raises(ClusterFailed, match="conflict"):
        admin.apply(CONFIG_MAP, ours)
    assert admin.apply(CONFIG_MAP, ours, force=True)["data"] == {"x": "ours"}


def test_pod_signs_in_with_its_own_service_account(admin: Cluster) -> None:
    """The adapter itself, in a pod, with nothing but what a pod has."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("urllib3", "yaml"):
            spec = find_spec(package)
            assert spec
            assert spec.origin
            _pack(archive, Path(spec.origin).parent, package)
        root = Path(mlops_actions.__file__).parent
        for name in ("kubernetes", "http"):
            _pack(archive, root / name, f"mlops_actions/{name}")
        for file in root.glob("*.py"):
            archive.write(file, f"mlops_actions/{file.name}")
    code = base64.b64encode(packed.getvalue()).decode()
    admin.create(CONFIG_MAP, {"metadata": {"name": "code"}, "binaryData": {"code.zip": code}})
    program = (
        "import os, types\n"
        "from mlops_actions.kubernetes.connection import connect\n"
        "from mlops_actions.kubernetes.objects import POD\n"
        "none = types.SimpleNamespace(get_secret_value=lambda: '')\n"  # the pod has no pydantic
        "inputs = types.SimpleNamespace(kubeconfig=none, kube_context='', namespace='')\n"
        "cluster = connect(inputs, os.environ)\n"
        "print(cluster.namespace, *[pod['metadata']['name'] for pod in cluster.list(POD)])\n"
    )
    container = {
        "name": "main", "image": os.environ["PYTHON_IMAGE"], "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program], "env": [{"name": "PYTHONPATH", "value": "/code/code.zip"}],
        "volumeMounts": [{"name": "code", "mountPath": "/code"}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "serviceAccountName": "mlops-actions", "containers": [container],
        "volumes": [{"name": "code", "configMap": {"name": "code"}}],
    }  # fmt: skip
    admin.create(POD, {"metadata": {"name": "inside"}, "spec": spec})
    said = list(admin.follow("inside"))
    assert said[0].startswith(f"{admin.namespace} "), said
    assert "inside" in said[0].split()


def _pack(archive: zipfile.ZipFile, folder: Path, name: str) -> None:
    for file in sorted(folder.rglob("*.py")):
        archive.write(file, f"{name}/{file.relative_to(folder).as_posix()}")
