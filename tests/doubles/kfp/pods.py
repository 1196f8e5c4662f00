"""Real pods for tasks that fail in ways that only Kubernetes can tell: their names, labels and containers are KFP's."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_actions.kubernetes.objects import POD, SECRET, Cluster
from mlops_actions.waiting import Clock

from .faults import Fault
from .nodes import Node
from .world import Run

_TICK = 0.5
_TAKES_MEMORY = """
import subprocess, sys
print("taking all memory", flush=True)
code = subprocess.call([sys.executable, "-c", "kept = [bytearray(1 << 20) for _ in range(1 << 14)]"])
print("F0101 00:00:00.000000 16 main.go:59] failed to execute component: signal: killed", flush=True)
sys.exit(1 if code else 0)
"""
"""As KFP's launcher, which outlives the component that the kernel kills, and ends with exit code 1."""

Json = dict[str, Any]


class Pods:
    """Makes them in a run's namespace, which must exist, and removes them with `close`.

    Args:
        image: one with `python3`.
    """

    def __init__(self, cluster: Cluster, image: str, clock: Clock) -> None:
        self._cluster, self._image, self._clock = cluster, image, clock
        self._made: list[tuple[str, str, str]] = []
        self._closed = threading.Event()

    def make(self, run: Run, node: Node, fault: Fault, ended: Path) -> None:
        """A pod for a node that a fault struck. The file `ended` is made when its container has ended."""
        self._cluster.create(POD, self._body(run, node, fault))
        self._made.append((run.id, run.namespace, node.pod))
        threading.Thread(target=self._watch, args=(run.namespace, node.pod, ended), daemon=True).start()

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """The values of a secret; none where it is absent."""
        found = self._cluster.get(SECRET, name, namespace) or {}
        return {key: base64.b64decode(value).decode() for key, value in found.get("data", {}).items()}

    def remove(self, run: Run) -> None:
        """Those of a run that was terminated."""
        for made in [made for made in self._made if made[0] == run.id]:
            self._made.remove(made)
            self._cluster.delete(POD, made[2], namespace=made[1])

    def close(self) -> None:
        """Remove them all."""
        self._closed.set()
        for _, namespace, name in self._made:
            self._cluster.delete(POD, name, namespace=namespace)

    def _watch(self, namespace: str, name: str, ended: Path) -> None:
        while not self._clock.wait(_TICK, self._closed):
            pod = self._cluster.get(POD, name, namespace)
            if pod is None or pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
                if ended.parent.exists():
                    ended.touch()
                return

    def _body(self, run: Run, node: Node, fault: Fault) -> Json:
        main: Json = {"name": "main", "image": self._image, "imagePullPolicy": "IfNotPresent"}
        spec: Json = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
        if fault.outcome == "image":
            main["image"] = fault.body or "localhost:5000/there-is/no-such-image:1"
        elif fault.outcome == "unschedulable":
            spec["nodeSelector"] = {"there-is": "no-such-node"}
        elif fault.outcome == "oom":
            main |= _program(_TAKES_MEMORY)
            main["resources"] = {"limits": {"memory": fault.body or "64Mi"}}
        else:
            last = f"F0101 00:00:00.000000 16 main.go:59] failed to execute component: exit status {fault.code}"
            said = f"leaving with {fault.code}\n{last}"
            main |= _program(f"print({said!r}, flush=True); raise SystemExit(1)")
        labels = {
            "pipeline/runid": run.id,
            "pipelines.kubeflow.org/v2_component": "true",
            "workflows.argoproj.io/workflow": run.workflow.name,
        }
        metadata = {
            "name": node.pod,
            "namespace": run.namespace,
            "labels": labels,
            "annotations": {"workflows.argoproj.io/node-name": node.name, "workflows.argoproj.io/node-id": node.id},
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _program(text: str) -> Mapping[str, Any]:
    return {"command": ["python3", "-c", text]}
