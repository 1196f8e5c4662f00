"""Why pods do not run or have failed, as a real scheduler and a real node say it; and their logs.

Needs KUBECONFIG, and PYTHON_IMAGE: an image that the node has, with Python and a shell.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from faults import faulty
from given import cluster_inputs
from mlops_actions.kubernetes.connection import connect
from mlops_actions.kubernetes.objects import JOB, NAMESPACE, POD, RESOURCE_QUOTA, Cluster, Object
from mlops_actions.kubernetes.pods import Trouble, explain, explain_owner, log_tail

pytestmark = [
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="no kubernetes: set KUBECONFIG"),
    pytest.mark.skipif(not os.environ.get("PYTHON_IMAGE"), reason="no kubernetes: set PYTHON_IMAGE to one it has"),
]
_LIMIT = 90.0  # seconds until a node must have said what is wrong


def pod(name: str, *command: str, image: str = "", container: Mapping[str, Any] | None = None, **spec: Any) -> Object:
    main = {
        "name": "main",
        "image": image or os.environ.get("PYTHON_IMAGE", ""),
        "imagePullPolicy": "IfNotPresent",
        "command": list(command) or ["python3", "-c", "print('done')"],
        **(container or {}),
    }
    options = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, **spec}
    return {"metadata": {"name": name}, "spec": {"containers": [main], **options}}


_EAT = "data = bytearray()\nwhile True: data += b'x' * (1 << 22)"
_ORPHAN = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}
PODS = {
    "no-image": pod("no-image", image="localhost:5000/never/pushed:1"),
    "bad-image": pod("bad-image", image="Not An Image"),
    "no-config": pod("no-config", container={"env": [_ORPHAN]}),
    "no-volume": pod(
        "no-volume", volumes=[{"name": "v", "secret": {"secretName": "keys"}}],
        container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    ),
    "no-command": pod("no-command", "no-such-program"),
    "too-large": pod("too-large", container={"resources": {"requests": {"cpu": "1000"}}}),
    "no-node": pod("no-node", nodeSelector={"accelerator": "h100"}),
    "memory": pod("memory", "python3", "-c", _EAT, container={"resources": {"limits": {"memory": "48Mi"}}}),
    "code": pod("code", "sh", "-c", "echo first; echo last words; exit 3"),
    "signal": pod("signal", "python3", "-c", "import os; os.kill(os.getpid(), 11)", shareProcessNamespace=True),
    "late": pod("late", "sleep", "300", activeDeadlineSeconds=1),
    "crash": pod("crash", "sh", "-c", "echo it cannot go on; exit 7", restartPolicy="Always"),
    "init": pod("init", initContainers=[
        {"name": "prepare", "image": os.environ.get("PYTHON_IMAGE", ""), "command": ["sh", "-c", "echo no; exit 9"]}
    ]),
    "good": pod("good"),
    "running": pod("running", "sleep", "300"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A namespace with all the pods, so that they fail side by side."""
    name = f"mlops-pods-{uuid.uuid4().hex[:8]}"
    cluster = connect(cluster_inputs(namespace=name), os.environ)
    cluster.create(NAMESPACE, {"metadata": {"name": name}})
    try:
        for body in PODS.values():
            body["spec"]["automountServiceAccountToken"] = False
            assert cluster.create(POD, body)
        yield cluster
    finally:
        cluster.delete(NAMESPACE, name)


def until(cluster: Cluster, name: str, wanted: Callable[[Object], bool]) -> Object:
    for change in cluster.watch(POD, name=name, until=cluster.clock.now() + _LIMIT):
        if change and wanted(change.object):
            return change.object
    raise AssertionError(f"{name} is not as it should be after {_LIMIT} s: {cluster.get(POD, name)}")


def trouble(cluster: Cluster, name: str, *reasons: str) -> Trouble:
    """What is said of a pod, once it has one of the reasons (a node asks for an image before it backs off …)."""
    deadline = cluster.clock.now() + _LIMIT
    found = None
    for _ in cluster.watch(POD, name=name, until=deadline):
        current = cluster.get(POD, name)
        assert current
        found = explain(cluster, current)
        if found and found.reason in reasons:
            return found
    raise AssertionError(f"{name}: {found}")


def test_image_that_is_not_there_is_named(cluster: Cluster) -> None:
    found = trouble(cluster, "no-image", "ErrImagePull", "ImagePullBackOff")
    assert "localhost:5000/never/pushed:1" in found.message
    assert "not found" in found.message
    assert found.advice == "Push the image first, or correct its name and tag"
    assert found.container == "main"
    assert found.exit_code is None


def test_image_name_that_is_none(cluster: Cluster) -> None:
    found = trouble(cluster, "bad-image", "InvalidImageName")
    assert "Not An Image" in found.message
    assert found.advice == "Correct the image's name"


def test_missing_config_map_is_named(cluster: Cluster) -> None:
    found = trouble(cluster, "no-config", "CreateContainerConfigError")
    assert 'configmap "settings" not found' in found.message
    assert found.advice.startswith("Create what is missing")


def test_missing_secret_of_a_volume_is_found_in_the_events(cluster: Cluster) -> None:
    found = trouble(cluster, "no-volume", "FailedMount")
    assert 'secret "keys" not found' in found.message
    assert found.advice.startswith("Create what is missing")


def test_command_that_the_image_lacks(cluster: Cluster) -> None:
    found = trouble(cluster, "no-command", "StartError")
    assert "no-such-program" in found.message
    assert found.advice == "Correct the command, or the image"


def test_scheduler_s_reason_is_given(cluster: Cluster) -> None:
    found = trouble(cluster, "too-large", "Unschedulable")
    assert "Insufficient cpu" in found.message
    assert found.advice.startswith("Request less")
    found = trouble(cluster, "no-node", "Unschedulable")
    assert found.advice.startswith("Correct the node selector")


def test_memory_limit_is_named(cluster: Cluster) -> None:
    found = trouble(cluster, "memory", "OOMKilled")
    assert "its limit of 48Mi" in found.message
    assert (found.exit_code, found.advice) == (137, "Raise the container's memory limit, or let it need less")


def test_exit_code_and_last_lines(cluster: Cluster) -> None:
    found = trouble(cluster, "code", "Error")
    assert (found.exit_code, found.message) == (3, "it ended with exit code 3")
    current = cluster.get(POD, "code")
    assert current
    assert log_tail(cluster, current) == "first\nlast words"
    assert log_tail(cluster, current, lines=1) == "last words"


def test_signal_is_named(cluster: Cluster) -> None:
    found = trouble(cluster, "signal", "Error")
    assert found.message == "it was ended by SIGSEGV (exit code 139)"


def test_deadline(cluster: Cluster) -> None:
    found = trouble(cluster, "late", "DeadlineExceeded")
    assert found.advice.startswith("Raise `activeDeadlineSeconds`")


def test_crash_loop_gives_the_exit_code_and_the_log_of_what_crashed(cluster: Cluster) -> None:
    found = trouble(cluster, "crash", "CrashLoopBackOff")
    assert found.message.startswith("it ended with exit code 7; it was started ")
    assert found.exit_code == 7
    current = cluster.get(POD, "crash")
    assert current
    assert log_tail(cluster, current) == "it cannot go on"


def test_init_container_that_failed_is_named(cluster: Cluster) -> None:
    found = trouble(cluster, "init", "Error")
    assert (found.container, found.exit_code) == ("prepare", 9)
    current = cluster.get(POD, "init")
    assert current
    assert log_tail(cluster, current) == "no"


def test_pods_that_are_well_have_no_trouble(cluster: Cluster) -> None:
    done = until(cluster, "good", lambda item: item["status"]["phase"] == "Succeeded")
    assert explain(cluster, done) is None
    running = until(cluster, "running", lambda item: item["status"]["phase"] == "Running")
    assert explain(cluster, running) is None


def test_no_log_is_empty_text(cluster: Cluster) -> None:
    assert cluster.logs("too-large") == ""
    assert cluster.logs("no-such-pod") == ""
    assert cluster.logs("running", previous=True) == ""
    assert cluster.logs("running", container="no-such-container") == ""


def test_quota_that_keeps_a_job_from_making_pods_is_found(cluster: Cluster) -> None:
    name = f"{cluster.namespace}-quota"
    cluster.create(NAMESPACE, {"metadata": {"name": name}})
    try:
        inside = connect(cluster_inputs(namespace=name), os.environ)
        inside.create(RESOURCE_QUOTA, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}})
        quota = inside.watch(RESOURCE_QUOTA, name="small", until=inside.clock.now() + _LIMIT)
        next(change for change in quota if change and change.object.get("status", {}).get("hard"))
        template = {"spec": pod("x")["spec"]}
        job = inside.create(JOB, {"metadata": {"name": "train"}, "spec": {"template": template, "backoffLimit": 0}})
        assert job
        found = None
        for _ in inside.watch(JOB, name="train", until=inside.clock.now() + _LIMIT):
            found = explain_owner(inside, job)
            if found:
                break
        assert found
        assert found.reason == "FailedCreate"
        assert "exceeded quota: small" in found.message
        assert "higher quota" in found.advice
    finally:
        cluster.delete(NAMESPACE, name)


def test_job_over_its_deadline_says_so(cluster: Cluster) -> None:
    body = {"template": {"spec": pod("x", "sleep", "300")["spec"]}, "activeDeadlineSeconds": 1, "backoffLimit": 0}
    cluster.create(JOB, {"metadata": {"name": "late"}, "spec": body})
    found = None
    for change in cluster.watch(JOB, name="late", until=cluster.clock.now() + _LIMIT):
        found = change and explain_owner(cluster, change.object)
        if found:
            break
    assert found
    assert found.reason == "DeadlineExceeded"


def test_followed_log_is_whole_though_the_connection_is_cut(cluster: Cluster) -> None:
    lines = 60
    code = f"import time\nfor i in range({lines}): print(f'line {{i}}\\nagain', flush=True); time.sleep(.05)"
    with faulty(cluster.server, cluster._transport._client._pool("")) as proxy:
        config = (
            f"clusters: [{{name: c, cluster: {{server: '{proxy.url}'}}}}]\n"
            f"contexts: [{{name: c, context: {{cluster: c, namespace: {cluster.namespace}}}}}]\n"
        )
        through = connect(cluster_inputs(config), {})
        through.create(POD, pod("chatty", "python3", "-c", code))
        told = []
        for line in through.follow("chatty"):  # from before it has started
            told.append(line)
            if len(told) in (5, 31, 50):
                proxy.cut()
    assert told == [line for i in range(lines) for line in (f"line {i}", "again")]
