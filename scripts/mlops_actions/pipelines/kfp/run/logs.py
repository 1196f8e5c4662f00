"""Where the log of a run's pod can be read, and what in it is the component's own."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import MlopsError, RemoteFailed
from ....stores.store import Store, StoreOptions
from ...downloads import reachable
from ..client.api import KfpApi
from .argo import RUN_LABEL, hash_in, workflow_of

if TYPE_CHECKING:
    from ....kubernetes.objects import Cluster, Object

LOG_LINES = 40
"""Lines of the end of a task's log that are shown."""
_READ = 400  # lines of the end of a pod's log that are looked at
_KLOG = r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.go:\d+\] "  # KFP's driver and launcher
_OTHERS = re.compile(rf"{_KLOG}|time=\S+ .*\bargo=true\b|\[KFP Executor \d[^\]]*\]: ")
_LAST = re.compile(r"Error: exit status \d+$")  # what Argo's own process says of the launcher in the end
_OBJECT = re.compile(rf"(?:\[KFP Executor .*Got executor_input:|{_KLOG}ExecutorOutput: {{)$")
_ARCHIVES = (
    "{bucket}/private-artifacts/{namespace}/{workflow}/{year}/{month}/{day}/{pod}/main.log",
    "{bucket}/artifacts/{workflow}/{pod}/main.log",
    "{bucket}/artifacts/{workflow}/{year}/{month}/{day}/{pod}/main.log",
)
"""Where KFP's manifests let Argo keep logs: since 2.5, and before (workflow-controller-configmap-patch.yaml)."""

Json = Mapping[str, Any]


def component_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a pod's log that its component printed, without those of KFP's launcher and executor and of Argo."""
    skipping, others = False, False
    for line in lines:
        if skipping:
            skipping = line != "}"
            continue
        skipping = bool(_OBJECT.match(line))  # its JSON follows, to `}`
        before, others = others, bool(_OTHERS.match(line))
        if not others and not (before and _LAST.match(line)):
            yield line


@dataclass(frozen=True)
class Archive:
    """Where Argo keeps the logs of pods that are gone.

    Attributes:
        given: by the user: a folder, or a log's whole URI with placeholders; see `KfpSettings.archived_logs`.
        bucket: of the run's artifacts, such as `s3://mlpipeline`; "" where that is not known.
        options: how the store is reached.
    """

    given: str = ""
    bucket: str = ""
    options: StoreOptions | None = None

    def read(self, workflow: str, pod: str, namespace: str, created: str) -> list[str]:
        """The end of a pod's log.

        Raises:
            RemoteFailed: there is none.
        """
        facts = {
            "namespace": namespace,
            "workflow": workflow,
            "year": created[:4],
            "month": created[5:7],
            "day": created[8:10],
            "pod": pod,
            "bucket": self.bucket,
        }
        given = self.given.rstrip("/")
        inside = given if "{" in given else f"{given}/{{workflow}}/{{year}}/{{month}}/{{day}}/{{pod}}/main.log"
        tried = []
        for template in [inside] if given else _ARCHIVES if self.bucket else ():
            if any(not facts.get(name, "x") for name in re.findall(r"\{(\w+)\}", template)):
                continue
            uri = reachable(re.sub(r"\{(\w+)\}", lambda found: facts.get(found[1], found[0]), template))
            tried.append(uri)
            scheme, _, rest = uri.partition("://")
            bucket, _, path = rest.partition("/")
            try:
                data = Store(f"{scheme}://{bucket}", self.options).get(path)
            except FileNotFoundError:
                continue
            return data.decode("utf-8", errors="replace").splitlines()[-_READ:]
        if not tried:
            raise RemoteFailed("the place is unknown: set `archived-logs`")
        raise RemoteFailed(f"not found: {', '.join(tried)}")


class Logs:
    """The logs of one run's pods.

    Args:
        api: of KFP.
        run_id: KFP's.
        namespace: of the run's pods; "" where it is unknown.
        cluster: the Kubernetes cluster below; None where it is not known.
        archive: of Argo.
    """

    def __init__(
        self,
        api: KfpApi,
        run_id: str,
        namespace: Callable[[], str],
        cluster: Callable[[], Cluster] | None = None,
        archive: Archive | None = None,
    ) -> None:
        self._api, self._run_id, self._namespace, self._cluster = api, run_id, namespace, cluster
        self._archive = archive or Archive()

    def end_of(self, pod: str, run: Json) -> tuple[list[str], list[str]]:
        """The end of a pod's log, from the first place that has it, and why each place before it has not.

        Args:
            pod: its name.
            run: as the API shows it.
        """
        workflow = workflow_of(pod)
        places: dict[str, Callable[[], Iterable[str]]] = {
            "the cluster": lambda: self._of_cluster(pod),
            "KFP's UI": lambda: self.of_ui(pod),
            "KFP's API": lambda: self.of_api(pod),
            "the archive": lambda: self._archive.read(workflow, pod, self._namespace(), str(run.get("created_at", ""))),
        }
        if not self._cluster:
            del places["the cluster"]
        failed = []
        for place, read in places.items():
            try:
                lines = list(deque(read(), maxlen=_READ))
            except MlopsError as error:
                failed.append(f"No log from {place}: {_reason(error)}")
                continue
            if lines:
                return lines, failed
            failed.append(f"No log from {place}: it is empty")
        return [], failed

    def pod(self, name: str) -> Object | None:
        """A pod of the run in the cluster, by its name or its node's id; None when it is gone.

        Raises:
            MlopsError: the cluster cannot be asked.
        """
        if not self._cluster:
            return None
        from ....kubernetes.objects import POD

        pods = self._cluster().list(POD, labels=f"{RUN_LABEL}={self._run_id}", namespace=self._namespace())
        return next((pod for pod in pods if hash_in(pod["metadata"]["name"]) == hash_in(name)), None)

    def of_ui(self, pod: str) -> Iterator[str]:
        """A pod's log as KFP's UI reads it from Kubernetes and the archive (frontend/server/handlers/pod-logs.ts)."""
        query = {"podname": pod, "runid": self._run_id, "podnamespace": self._namespace() or None}
        return _checked(self._api.stream("/k8s/pod/logs", **query))

    def of_api(self, pod: str) -> Iterator[str]:
        """A pod's log as KFP's API server reads it: what there is now (run_log_server.go)."""
        return _checked(self._api.stream(f"/apis/v1alpha1/runs/{self._run_id}/nodes/{pod}/log"))

    def _of_cluster(self, pod: str) -> list[str]:
        from ....kubernetes.pods import log_tail

        found = self.pod(pod)
        if not found:
            raise RemoteFailed(f"the pod {pod} is gone")
        assert self._cluster
        return log_tail(self._cluster(), found, "main", _READ).splitlines()


def _checked(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a log.

    Raises:
        RemoteFailed: it ends with the log reader's error, which is JSON, with HTTP's status 200; or it is a web page.
    """
    for number, line in enumerate(lines):
        if not number and line.lstrip().lower().startswith(("<!doctype", "<html")):
            raise RemoteFailed("it sent a web page")
        text, found, rest = line.partition('{"error_message":')
        if found and (message := _message(found + rest)):
            if text:
                yield text
            raise RemoteFailed(message)
        yield line


def _message(text: str) -> str:
    """The message of an error of the log reader, without the errors that it came from; "" when it is none."""
    try:
        whole = str(json.loads(text)["error_message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return re.sub(r"^(\w+Error: |Failed to [^:]*: )+", "", whole)[:300]


def _reason(error: MlopsError) -> str:
    """What is wrong, in one line."""
    return " ".join(": ".join(part.rstrip(".:") for part in (error.what, error.why) if part).split())[:300]
