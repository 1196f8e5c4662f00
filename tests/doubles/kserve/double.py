"""The double as a whole: CRDs, and a controller that looks after the InferenceServices of some namespaces."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import yaml

from mlops_actions.errors import MlopsError
from mlops_actions.kubernetes.objects import CRD, POD, Cluster, Kind, Object
from mlops_actions.waiting import wait_until

from . import status
from .manifest import DEPLOYMENT, FINALIZER, INFERENCE_SERVICE, RUNTIME, SERVICE, NoRuntime, owned, workload

SPECS = Path(__file__).resolve().parents[4] / "shared" / "specs" / "kserve"
_LOG = logging.getLogger("doubles.kserve")
_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}
_TICK = 0.3


def _is_served(cluster: Cluster, kind: Kind) -> bool:
    """Whether objects of a kind can be listed: a moment after the cluster has begun to know it."""
    try:
        cluster.list(kind)
    except MlopsError:
        return False
    return True


class KServeDouble:
    """KServe 0.20 in Standard mode for some namespaces, while the `with` lasts.

    Args:
        connect: gives the cluster with an administrator's rights, for a namespace.
        namespaces: that exist; several doubles may run at once in different ones.
        image: with Python 3, that the nodes have; for the storage initializer.
        mode: of InferenceServices that do not say it, as KServe's configuration has it.
    """

    def __init__(
        self, connect: Callable[[str], Cluster], namespaces: Sequence[str], *, image: str, mode: str = "Standard"
    ) -> None:
        self._connect, self.namespaces, self._image, self._mode = connect, tuple(namespaces), image, mode
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._applied: dict[tuple[str, str], Object] = {}
        self._told: dict[str, Object] = {}

    def __enter__(self) -> KServeDouble:
        self.install()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for namespace in self.namespaces:
            cluster = self._connect(namespace)
            for isvc in cluster.list(INFERENCE_SERVICE):
                cluster.patch(INFERENCE_SERVICE, isvc["metadata"]["name"], {"metadata": {"finalizers": None}})

    def install(self) -> None:
        """KServe's CRDs, as they were published; they stay, since others may use them."""
        cluster = self._connect("")
        for path in sorted(SPECS.glob("*.yaml")):
            body = yaml.safe_load(path.read_text())
            if cluster.get(CRD, body["metadata"]["name"]) is None:
                cluster.create(CRD, body)
        assert wait_until(lambda: all(_is_served(cluster, kind) for kind in (INFERENCE_SERVICE, RUNTIME)), 60.0)

    def start(self) -> None:
        """Start the controller, as after a crash: it knows nothing but what the API server has."""
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(self._connect(one),), name=f"kserve-double {one}", daemon=True)
            for one in self.namespaces
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the controller."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, cluster: Cluster) -> None:
        while not self._stopped.wait(_TICK):
            try:
                for isvc in cluster.list(INFERENCE_SERVICE):
                    self._reconcile(cluster, isvc)
            except MlopsError as error:  # a conflict, or a namespace that is going: the next round sees
                _LOG.info("%s", error)

    def _reconcile(self, cluster: Cluster, isvc: Object) -> None:
        about, name = isvc["metadata"], isvc["metadata"]["name"]
        if about.get("deletionTimestamp"):
            cluster.patch(INFERENCE_SERVICE, name, {"metadata": {"finalizers": None}})
            return
        if FINALIZER not in (about.get("finalizers") or []):
            cluster.patch(INFERENCE_SERVICE, name, {"metadata": {"finalizers": [FINALIZER]}})
        mode = self._mode_of(isvc)
        if mode != "Standard":
            return  # Knative is not doubled: nothing comes of it
        if (about.get("annotations") or {}).get("serving.kserve.io/stop") == "true":
            self._sweep(cluster, isvc, set())
            self._tell(cluster, isvc, status.stopped(mode))
            return
        try:
            wanted = list(self._workloads(cluster, isvc))
        except NoRuntime as missing:
            if self._tell(cluster, isvc, status.invalid(isvc, mode, missing)):  # the real one says so again and again
                status.event(cluster, isvc, "InternalError", missing.event)
            return
        for one in wanted:
            for kind, body in one:
                self._apply(cluster, kind, body)
        self._sweep(cluster, isvc, {body["metadata"]["name"] for one in wanted for _, body in one})
        found = [cluster.get(DEPLOYMENT, one[0][1]["metadata"]["name"]) or {} for one in wanted]
        pods = cluster.list(POD, labels=f"app=isvc.{wanted[0][0][1]['metadata']['name']}")
        before = status.is_ready(isvc)
        told = status.of(isvc, mode, found, pods)
        self._tell(cluster, isvc, told)
        if status.is_ready({"status": told}) and not before:  # what the real one says of healthy ones, too
            status.event(cluster, isvc, "UpdateFailed", status.CONFLICT.format(name=name))

    def _mode_of(self, isvc: Object) -> str:
        said = (isvc.get("status") or {}).get("deploymentMode")
        asked = (isvc["metadata"].get("annotations") or {}).get("serving.kserve.io/deploymentMode") or self._mode
        return str(said or _MODES.get(asked, asked))

    def _workloads(self, cluster: Cluster, isvc: Object) -> Iterator[list[tuple[Kind, Object]]]:
        """The stable predictor, then the canaries: each a Deployment and a Service."""
        stable = isvc["spec"]["predictor"]
        yield workload(cluster, isvc, stable, self._image)
        for canary in isvc["spec"].get("canary") or []:
            predictor = {**stable, **canary["predictor"]}
            predictor.setdefault("minReplicas", 1)
            yield workload(cluster, isvc, predictor, self._image)

    def _apply(self, cluster: Cluster, kind: Kind, body: Object) -> None:
        key = (f"{cluster.namespace} {kind.kind}", body["metadata"]["name"])
        there = cluster.get(kind, key[1])
        if there is None or self._applied.get(key) != body:
            cluster.apply(kind, body, force=True)
            self._applied[key] = body

    def _sweep(self, cluster: Cluster, isvc: Object, wanted: set[str]) -> None:
        """Delete what carries the predictor's labels and is not expected, whoever made it."""
        for kind in (DEPLOYMENT, SERVICE):
            for item in cluster.list(kind, labels=owned(isvc)):
                if item["metadata"]["name"] not in wanted and not item["metadata"].get("deletionTimestamp"):
                    cluster.delete(kind, item["metadata"]["name"])

    def _tell(self, cluster: Cluster, isvc: Object, told: Object) -> bool:
        """Write the status; whether it is another one than before."""
        key = isvc["metadata"]["uid"]
        if self._told.get(key) == told:
            return False
        gone = {field: None for field in isvc.get("status") or {} if field not in told}
        changed = {"status": {**gone, **told}}
        cluster.patch(INFERENCE_SERVICE, isvc["metadata"]["name"], changed, subresource="status")
        self._told[key] = told
        return True
