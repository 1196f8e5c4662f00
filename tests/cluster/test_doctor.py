"""The doctor on a real cluster, as the service account of `mlops rbac`: what it finds, and which right is missing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

import clusters
import servers
from conftest import Run

pytestmark = clusters.needs_kubernetes
SETTINGS = {"environments": {"staging": {"tune-hyperparams": {"engine": "katib"}, "run-pipeline": {"engine": "kfp"}}}}


def doctor(mlops: Run, folder: Path, kubeconfig: str, namespace: str, host: str) -> tuple[int, str]:
    (folder / "mlops.yaml").write_text(json.dumps(SETTINGS))
    done: subprocess.CompletedProcess[str] = mlops(
        "doctor", "--environment", "staging", "--namespace", namespace, "--kfp-host", host,
        cwd=folder, KUBECONFIG="", MLOPS_KUBECONFIG=kubeconfig,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_doctor_finds_all_with_the_manifests_rights_and_names_the_one_that_is_missing(
    mlops: Run, tmp_path: Path
) -> None:
    with (
        clusters.namespace() as namespace,
        clusters.katib(namespace),
        clusters.kfp(servers.minio(), namespace) as kfp,
    ):
        admin = clusters.administrator(namespace)
        rules = [item for item in yaml.safe_load_all(mlops("rbac", "--namespace", namespace).stdout) if item]
        try:
            for item in rules:
                admin.apply(clusters.RIGHTS[item["kind"]], item)
            kubeconfig = clusters.kubeconfig_of(admin, {"token": admin.token("mlops-actions")})
            code, said = doctor(mlops, tmp_path, kubeconfig, namespace, kfp)
            assert code == 0, said
            assert "✓ rights: all in the namespace" in said and "✓ Katib: kubeflow.org/v1beta1" in said
            assert "✓ Katib's webhook: responds" in said
            assert f"✓ Kubeflow Pipelines: {kfp}" in said and "✓ ML Metadata: responds" in said
            assert f"✓ namespace: {namespace}" in said and kubeconfig not in said

            role = next(item for item in rules if item["kind"] == "Role")
            role["rules"] = [rule for rule in role["rules"] if "trials" not in rule["resources"]]
            admin.apply(clusters.RIGHTS["Role"], role)
            code, said = doctor(mlops, tmp_path, kubeconfig, namespace, "http://127.0.0.1:9")
        finally:
            for item in rules:
                admin.delete(clusters.RIGHTS[item["kind"]], item["metadata"]["name"])
    assert code == 1, said
    assert "✗ right: " in said and "trials" in said and "`mlops rbac` prints a manifest" in said
    assert "✗ Kubeflow Pipelines: Cannot reach http://127.0.0.1:9/" in said and "Connection refused" in said


@pytest.mark.skipif(os.environ.get("KATIB") == "real", reason="the cluster's Katib cannot be made to fail")
def test_doctor_finds_that_katibs_webhook_does_not_respond(mlops: Run, tmp_path: Path) -> None:
    from doubles.katib import KatibDouble

    settings = {"tune-hyperparams": {"engine": "katib"}}
    with clusters.namespace() as namespace, KatibDouble(os.environ["KUBECONFIG"], namespace) as katib:
        settings["tune-hyperparams"]["namespace"] = namespace
        (tmp_path / "mlops.yaml").write_text(json.dumps(settings))
        katib.stop_webhooks()
        done = mlops("doctor", cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "✓ Katib: kubeflow.org/v1beta1" in said
    assert f"✓ namespace: {namespace}" in said, "the namespace of the action that needs Katib"
    assert "✗ Katib's webhook: It does not respond: " in said
    assert "Check that katib-controller runs" in said
