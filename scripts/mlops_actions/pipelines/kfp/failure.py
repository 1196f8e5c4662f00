"""Why a run failed, in the consumer's terms: everything that one would otherwise look for in KFP's pages."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MlopsError, RemoteFailed
from ...store import Store, StoreOptions
from ..downloads import reachable
from ..failing import advice_on_module, place_of
from ..spec import Pipeline
from .client.api import KfpApi
from .following import log_path, telling
from .nodes import Task
from .settings import KfpSettings
from .tracking import LOG_LINES, Tracker

if TYPE_CHECKING:
    from ...cluster.objects import Cluster
    from ...cluster.pods import Trouble

_READ = 400  # lines of a log's end that are looked at
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)|[a-z_]\w*\.[\w.]+)(?:: .*)?$")
_LINE = re.compile(r'File "[^"]*ephemeral_component[^"]*", line (\d+)')
_EXIT = re.compile(r"exit (?:status|code) (\d+)")
_MISSING = re.compile(r"No module named '([\w.]+)'")
_ARCHIVES = (
    "{bucket}/private-artifacts/{namespace}/{workflow}/{year}/{month}/{day}/{pod}/main.log",
    "{bucket}/artifacts/{workflow}/{year}/{month}/{day}/{pod}/main.log",
)
"""Where KFP's manifests let Argo keep logs: since 2.5, and before (workflow-controller-configmap-patch.yaml)."""
_KILLED = 137

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Scene:
    """What there is to find out from.

    Attributes:
        api: of KFP.
        pipeline: as it was run.
        settings: of the engine.
        root: the consumer's folder.
        cluster: the Kubernetes cluster below; None where it is not known.
        store_options: how the store with archived logs is reached.
        url: the run's page.
        bucket: where the run's artifacts are, such as `s3://mlpipeline`; "" where that is not known.
    """

    api: KfpApi
    pipeline: Pipeline
    settings: KfpSettings
    root: Path
    cluster: Callable[[], Cluster] | None
    store_options: StoreOptions | None
    url: str
    bucket: str = ""

    def failure(self, tracker: Tracker) -> RemoteFailed:
        """Why a run that has failed did."""
        failed = tracker.failed or list(_drivers(tracker.run))
        if not failed:
            why = str((tracker.run.get("error") or {}).get("message", "")) or "KFP does not say why"
            return RemoteFailed("The run failed, and none of its tasks did", why=why, fix=f"See {self.url}")
        task, more = failed[0], len(failed) - 1
        trouble = self._trouble(task)
        lines = self._log(task, tracker)
        raised = _raised(lines)
        missing = _MISSING.search(raised)
        advice = (trouble.advice if trouble else "") or advice_on_module(missing[1] if missing else "", self.root)
        source, line = self._source(task), _line(lines)
        return RemoteFailed(
            f"The task {task.label!r} failed" + (f", and {more} more" if more else ""),
            why=". ".join(part.rstrip(".") for part in self._reasons(task, trouble, raised, lines, tracker) if part),
            fix=". ".join(part for part in (advice.rstrip("."), f"See {self.url}") if part),
            place=place_of(self.pipeline.file, self.root, source, line),
            log="\n".join(telling(lines[-LOG_LINES:])),
        )

    def _reasons(
        self, task: Task, trouble: Trouble | None, raised: str, lines: Sequence[str], tracker: Tracker
    ) -> Iterator[str]:
        """What is known, the most telling first."""
        code = trouble.exit_code if trouble else None
        told = [found[1] for line in lines if (found := _EXIT.search(line))]
        code = int(told[-1]) if code is None and told else code
        if trouble and not (raised and trouble.reason == "Error"):
            yield str(trouble)
        yield raised
        if code == _KILLED and not trouble:
            limit = self._memory_limit(task)
            yield "It was killed with exit code 137, which is what happens when memory runs out" + (
                f": its limit is {limit}" if limit else ""
            )
        elif code is not None and not (trouble and str(code) in trouble.message):
            yield f"It ended with exit code {code}"
        yield task.message or ("" if raised or trouble else _message(tracker.run))
        yield f"Attempts: {len(task.failed_pods) + 1}" if task.failed_pods else ""
        yield f"The run was tried {tracker.attempts} times" if tracker.attempts > 1 else ""
        yield f"States: {', '.join(task.history)}" if task.history else ""

    def _trouble(self, task: Task) -> Trouble | None:
        if not self.cluster or not task.pod:
            return None
        try:
            from ...cluster.objects import POD
            from ...cluster.pods import explain

            cluster = self.cluster()
            pod = cluster.get(POD, task.pod, self.api.namespace)
            return explain(cluster, pod) if pod else None
        except MlopsError:
            return None

    def _log(self, task: Task, tracker: Tracker) -> list[str]:
        """The end of the task's log, from the first place that has it."""
        run_id = str(tracker.run.get("run_id", ""))
        for read in (
            lambda: deque(self.api.stream(log_path(run_id, task.pod)), maxlen=_READ),
            lambda: self._of_kubernetes(task),
            lambda: self._of_archive(task, tracker.run),
        ):
            try:
                lines = list(read()) if task.pod else []
            except MlopsError:
                continue
            if lines:
                return lines
        return list(tracker.logs.get(task.label, ()))

    def _of_kubernetes(self, task: Task) -> list[str]:
        if not self.cluster:
            return []
        from ...cluster.objects import POD
        from ...cluster.pods import log_tail

        cluster = self.cluster()
        pod = cluster.get(POD, task.pod, self.api.namespace)
        return log_tail(cluster, pod, "main", _READ).splitlines() if pod else []

    def _of_archive(self, task: Task, run: Json) -> list[str]:
        """The log as Argo archived it."""
        details = (run.get("run_details") or {}).get("task_details") or []
        workflow = next((d["pod_name"] for d in details if d.get("pod_name") == d.get("display_name")), "")
        created = str(run.get("created_at", ""))
        facts = {
            "namespace": self.api.namespace or self.settings.inputs.namespace or "kubeflow",
            "workflow": workflow,
            "year": created[:4],
            "month": created[5:7],
            "day": created[8:10],
            "pod": task.pod,
            "bucket": self.bucket,
        }
        given = self.settings.archived_logs.rstrip("/")
        inside = given if "{" in given else f"{given}/{{workflow}}/{{year}}/{{month}}/{{day}}/{{pod}}/main.log"
        for template in [inside] if given else _ARCHIVES if self.bucket else ():
            if any(not facts.get(name, "x") for name in re.findall(r"\{(\w+)\}", template)):
                continue
            uri = re.sub(r"\{(\w+)\}", lambda found: facts.get(found[1], found[0]), template)
            bucket, _, path = reachable(uri).partition("://")[2].partition("/")
            try:
                data = Store(f"{reachable(uri).partition('://')[0]}://{bucket}", self.store_options).get(path)
            except FileNotFoundError:
                continue
            return data.decode("utf-8", errors="replace").splitlines()[-_READ:]
        return []

    def _source(self, task: Task) -> str:
        command = self.pipeline.executors.get(task.executor, {}).get("container", {}).get("command", [])
        return str(command[-1]) if command and "ephemeral_component.py" in " ".join(command[:-1]) else ""

    def _memory_limit(self, task: Task) -> str:
        resources = self.pipeline.executors.get(task.executor, {}).get("container", {}).get("resources", {})
        return str(resources.get("resourceMemoryLimit") or resources.get("memoryLimit") or "")


def _drivers(run: Json) -> Iterator[Task]:
    """Pods of KFP itself that failed, for a run that failed before its first task."""
    for detail in (run.get("run_details") or {}).get("task_details") or []:
        name = str(detail.get("display_name") or detail.get("pod_name") or "")
        if detail.get("state") == "FAILED" and not detail.get("child_tasks"):
            message = str((detail.get("error") or {}).get("message", ""))
            yield Task(name, "failed", pod=str(detail.get("pod_name", "")), message=message)


def _raised(lines: Sequence[str]) -> str:
    """The exception that ended a log, with its message's first line; "" when there is none."""
    return next((line.strip() for line in _traceback(lines) if _EXCEPTION.match(line)), "")


def _line(lines: Sequence[str]) -> int | None:
    """The component's line in the last traceback."""
    found = [int(found[1]) for line in _traceback(lines) if (found := _LINE.search(line))]
    return found[-1] if found else None


def _traceback(lines: Sequence[str]) -> Sequence[str]:
    """What follows the last time that a traceback begins; nothing when none does."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return lines[starts[-1] + 1 :] if starts else ()


def _message(run: Json) -> str:
    history = [entry.get("error") for entry in run.get("state_history") or []]
    errors = [run.get("error"), *reversed(history)]
    return next((str(error["message"]) for error in errors if error and error.get("message")), "")
