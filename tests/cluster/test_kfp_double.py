"""The double of KFP with a real cluster: a task that a fault strikes is a real pod, which fails for its own reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml

import clusters
from doubles.kfp import KfpDouble, Settings
from mlops_actions.kubernetes.objects import POD, Cluster
from mlops_actions.waiting import Clock

pytestmark = clusters.needs_kubernetes
SPEC = """
pipelineInfo: {name: one-task}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
root: {dag: {tasks: {work: {componentRef: {name: comp-work}, taskInfo: {name: work}}}}}
components: {comp-work: {executorLabel: exec-work}}
deploymentSpec:
  executors:
    exec-work:
      container:
        image: python:3.11
        args: [--executor_input, "{{$}}", --function_to_execute, work]
        command: [sh, -ec, python3 -m kfp.dsl.executor_main ephemeral_component.py, "def work(): 0"]
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    with clusters.namespace() as name:
        yield name


def run_with(outcome: str, namespace: str, code: int = 1) -> tuple[Any, Any]:
    """The run's state and the pod of its task, when the pod can no more change."""
    cluster = clusters.administrator(namespace)
    image = os.environ.get("PYTHON_IMAGE", "python:3.11")
    clock, http = Clock(), requests.Session()
    http.trust_env = False
    with KfpDouble(settings=Settings(namespace=namespace), metadata=False, cluster=cluster, image=image) as kfp:
        kfp.fault("task", task="work", outcome=outcome, code=code)
        body = {"display_name": "one", "pipeline_spec": yaml.safe_load(SPEC)}
        answer = http.post(f"{kfp.url}/apis/v2beta1/runs", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        run, began = answer.json(), clock.now()
        while True:
            assert clock.now() - began < 90, "the pod does not end"
            clock.wait(0.2)
            run = http.get(f"{kfp.url}/apis/v2beta1/runs/{run['run_id']}", timeout=30).json()
            pod = _pod(cluster, run["run_id"])
            if pod and (run["state"] in ("SUCCEEDED", "FAILED") or _stuck(pod)):
                break
        if run["state"] == "RUNNING":
            kfp.fault("terminate", run=run["run_id"])
            while _pod(cluster, run["run_id"]):
                assert clock.now() - began < 90, "the pod of a terminated run stays"
                clock.wait(0.2)
        assert kfp.violations == []
    return run, pod


def _pod(cluster: Cluster, run_id: str) -> Any:
    return next(iter(cluster.list(POD, labels=f"pipeline/runid={run_id}")), None)


def _stuck(pod: Any) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    reasons = [s["state"].get("waiting", {}).get("reason", "") for s in statuses]
    conditions = [c.get("reason") for c in pod["status"].get("conditions", [])]
    return "Unschedulable" in conditions or any(r in ("ErrImagePull", "ImagePullBackOff") for r in reasons)


def test_a_task_that_takes_all_memory_is_killed_by_the_kernel(namespace: str) -> None:
    run, pod = run_with("oom", namespace)
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert run["state"] == "FAILED"
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 1), "the launcher's, as on a real server"
    assert pod["metadata"]["name"].startswith("one-task-")


def test_the_container_of_a_task_that_fails_leaves_with_its_launchers_exit_code(namespace: str) -> None:
    run, pod = run_with("exit", namespace, code=7)
    assert run["state"] == "FAILED"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


@pytest.mark.parametrize("outcome", ["image", "unschedulable"])
def test_a_pod_that_cannot_start_waits_until_the_run_is_terminated(namespace: str, outcome: str) -> None:
    run, pod = run_with(outcome, namespace)
    assert run["state"] == "RUNNING" and pod["status"]["phase"] == "Pending"
    (executor,) = [d for d in run["run_details"]["task_details"] if d.get("display_name") == "executor(0)"]
    assert executor["state"] == "PENDING"
