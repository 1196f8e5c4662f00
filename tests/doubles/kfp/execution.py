"""Really executes a run: the compiled pipeline by the engine `local`, and what it does shown as on a cluster."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlops_actions import environments
from mlops_actions.errors import RemoteFailed
from mlops_actions.pipelines.engine import Python
from mlops_actions.pipelines.local.engine import run_plan
from mlops_actions.pipelines.local.plan import TaskPlan
from mlops_actions.pipelines.local.processes import run_loop
from mlops_actions.pipelines.spec import Pipeline

from .artifacts import Artifacts
from .faults import Fault, program, spoiled
from .metadata import Metadata, Record
from .nodes import Node
from .pods import Pods
from .world import Run, World

_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
_EXECUTIONS = {"Failed": "FAILED", "Succeeded": "COMPLETE", "Skipped": "CANCELED"}
_SIGNALS = {signal.SIGKILL: "killed", signal.SIGTERM: "terminated"}  # as Go calls them
_RECORDED = Path(__file__).resolve().parents[2] / "data" / "kfp" / "recorded"
_PREFACE = (_RECORDED / "failing-pod.log").read_text(encoding="utf-8").partition("about to fail")[0].splitlines()
"""What launcher and executor print before a component does."""
_LOGS = "executor-logs"  # the launcher publishes a task's log as an artifact of this name

Json = dict[str, Any]


class Executor:
    """Executes runs, each in a thread and a process group of its own.

    Args:
        python: an interpreter with kfp, and with what components import.
        install: make an environment for the packages that a component asks for.
        archive: write logs to the object store when a pod ends, and forget the pod.
        pods: makes real pods for tasks that a fault strikes.
    """

    def __init__(
        self,
        world: World,
        artifacts: Artifacts,
        metadata: Metadata | None,
        *,
        python: Path,
        install: bool,
        archive: bool,
        pods: Pods | None,
    ) -> None:
        self.world, self.artifacts, self.metadata = world, artifacts, metadata
        self.python, self.install, self.archive, self.pods = python, install, archive, pods
        self.cache: dict[str, Json] = {}
        self._slots = threading.Semaphore(world.settings.max_runs)
        self._threads: list[threading.Thread] = []

    def start(self, run: Run) -> None:
        """Execute a run, or go on with it; returns at once."""
        thread = threading.Thread(target=self._execute, args=(run,), daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    @property
    def at_work(self) -> int:
        """How many runs are executed or wait for it."""
        return sum(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """End what runs."""
        for run in list(self.world.runs.values()):
            run.stopping.set()
        for thread in self._threads:
            thread.join(10)

    def _execute(self, run: Run) -> None:
        with self._slots:
            if not run.stopping.is_set():
                _Attempt(self, run).see_through()
            else:
                self.end(run, "FAILED")

    def end(self, run: Run, state: str) -> None:
        """A run has ended. The persistence agent writes that down a little later, when the server lags."""
        with self.world.lock:
            run.finished = self.world.now()
            run.states.append((run.finished + self.world.lag, state))


class _Stopped(Exception):
    """The run is to be stopped."""


class _Attempt:
    """One execution of a run."""

    def __init__(self, executor: Executor, run: Run) -> None:
        self._executor, self._run = executor, run
        self._world, self._artifacts = executor.world, executor.artifacts
        self._folder = Path(tempfile.mkdtemp(prefix="kfp-double-"))
        self._struck: dict[str, Fault] = {}
        self._reused: dict[str, Json] = {}
        self._again: set[str] = set()

    def see_through(self) -> None:
        """To its end, whatever that is."""
        run = self._run
        try:
            if not run.attempt:
                run.workflow.begin()
                run.states.append((self._world.now() + self._world.lag, "RUNNING"))
            self._begin_record()
            finished = self._work()
        except RemoteFailed:
            finished = True  # the process was killed: what it worked at has failed
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if not finished:
            run.workflow.stop()
            if self._executor.pods:
                self._executor.pods.remove(run)
            self._end_record("CANCELED")
            self._executor.end(run, "FAILED")
            return
        succeeded = run.workflow.finish()
        self._record_groups()
        self._end_record("COMPLETE" if succeeded else "FAILED")
        self._executor.end(run, "SUCCEEDED" if succeeded else "FAILED")

    def _work(self) -> bool:
        """Obey what the tasks tell; False when the run was stopped."""
        run = self._run
        spec, self._struck = spoiled(run.spec, self._world.faults, bool(self._executor.pods))
        if run.attempt:
            _ask_always(spec)
        if self._world.settings.retries:
            _try_once(spec)
        self._give_secrets(spec)
        pythons = self._pythons(spec)
        for name in ("run", "empty"):
            (self._folder / name).mkdir()
        plan = TaskPlan(
            spec=spec,
            parameters=run.parameters,
            key=run.id.replace("-", ""),
            folder=self._folder / "run",
            root=self._folder / "empty",
            pythons={label: Python(str(path), str(path)) for label, path in pythons.items()},
            environ={name: os.environ[name] for name in _PASSED if name in os.environ},
        )
        telling = threading.RLock()

        def tell(event: Json) -> Any:
            with telling:
                return self._obey(event)

        def tick() -> None:
            if run.stopping.is_set():
                raise _Stopped

        try:
            run_loop(run_plan(plan, tell), tick)
        except _Stopped:
            return False
        return True

    def _give_secrets(self, spec: Json) -> None:
        """The variables that tasks get from secrets of a real cluster; without one there are none."""
        there = self._run.platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        for label, settings in there.items() if self._executor.pods else ():
            container = spec["deploymentSpec"]["executors"][label].get("container", {})
            for entry in settings.get("secretAsEnv", []):
                values = self._executor.pods.secret(self._run.namespace, entry["secretName"])
                pairs = [(pair["envVar"], values.get(pair["secretKey"])) for pair in entry["keyToEnv"]]
                found = [{"name": name, "value": value} for name, value in pairs if value is not None]
                container["env"] = [*container.get("env", []), *found]

    def _pythons(self, spec: Json) -> dict[str, Path]:
        """The interpreter of each executor; one that cannot be run here is replaced by a program that says so."""
        made: dict[str, Path] = {}
        executors = spec.get("deploymentSpec", {}).get("executors", {})
        packages = Pipeline(Path("pipeline.yaml"), spec).packages()
        for label, executor in executors.items():
            made[label] = self._executor.python
            if "container" not in executor:
                continue
            if "ephemeral_component.py" not in "".join(executor["container"].get("command", [])[-2:-1]):
                why = "this double of KFP runs Python functions only, and no containers"
                executor["container"] = program(f"import sys\nprint({why!r}, flush=True)\nsys.exit(1)\n")
            elif packages[label] and self._executor.install:
                try:
                    found = environments.ensure("pipelines", environments.cache_folder(), packages=packages[label])
                    made[label] = found.python
                except environments.EnvironmentFailed as error:
                    executor["container"] = program(f"import sys\nprint({str(error)!r}, flush=True)\nsys.exit(1)\n")
        return made

    def _obey(self, event: Json) -> Any:
        task, kind = event.get("task", ""), event["event"]
        if kind == "lookup":
            return self._found(task, event["key"])
        if kind == "fetch":
            self._artifacts.get(event["stored"], Path(event["target"]))
            return True
        if kind == "started":
            waiting = self._outcome(task) in ("image", "unschedulable")
            pod = self._run.workflow.started(task, waiting)
            for line in _PREFACE:
                pod.log.add(line)
            self._record_groups()
            self._record_container(task, pod)
            if self._executor.pods and (fault := self._struck.get(_bare(task))):
                self._executor.pods.make(self._run, pod, fault, self._folder / "empty" / f"{_bare(task)}.ended")
        elif kind == "log":
            self._run.workflow.logged(task, event["line"])
        elif kind == "skipped":
            if event["condition"]:
                self._run.workflow.skipped([_bare(name) for name in event["tasks"]])
                self._record_groups()
        elif kind == "ended":
            self._ended(task, event)
        return None

    def _outcome(self, task: str) -> str:
        fault = self._struck.get(_bare(task))
        return fault.outcome if fault else ""

    def _found(self, task: str, key: str) -> Json | None:
        """An earlier result: of this run, when it is retried; of any run, when the task may be cached."""
        found = self._run.kept.get(task)
        if found:
            self._again.add(task)
        elif _caches(self._run.spec, _bare(task)):
            found = self._executor.cache.get(self._cached(key))
        if found:
            self._reused[task] = copy.deepcopy(found)
        return found

    def _cached(self, key: str) -> str:
        """KFP's cache is of a pipeline's name in a namespace."""
        return f"{self._run.namespace}/{self._run.spec['pipelineInfo']['name']}/{key}"

    def _ended(self, task: str, event: Json) -> None:
        workflow = self._run.workflow
        if event["state"] == "failed":
            for line in self._farewell(event):
                workflow.logged(task, line)
            pod = workflow.ended(task, "Failed")
            self._archive(pod)
            if self._outcome(task) != "oom":  # nothing publishes what a killed launcher did
                self._record_end(task, "FAILED", artifacts=self._publish_log(task), inputs=self._inputs(task))
            return
        if event["state"] == "reused":
            self._end_reused(task)
            return
        made = self._stored(task, event)
        kept = {"parameters": event["parameters"], "artifacts": made}
        if event.get("key"):
            self._executor.cache[self._cached(event["key"])] = kept
        self._run.kept[task] = kept
        imported = bool(event.get("imported"))
        if imported:
            self._record_groups()
            if record := self._run.record:
                record.importer(task, self._parent(task), _bare(task))
        logs = self._publish_log(task) if not imported else []
        self._record_end(task, "COMPLETE", event["parameters"], [*made, *logs], self._inputs(task))
        if record := self._run.record:
            kept["execution"] = record.identity(task)
        pod = workflow.ended(task, "Succeeded", imported=imported)
        if pod and not imported:
            pod.execution = str(kept.get("execution", "1"))
        self._archive(pod)

    def _farewell(self, event: Json) -> list[str]:
        """What KFP's launcher prints when a component failed."""
        time = datetime.fromtimestamp(self._world.now(), timezone.utc).strftime("%m%d %H:%M:%S.%f")
        code = event["exit"]
        how = f"exit status {code}" if code >= 0 else f"signal: {_SIGNALS.get(-code, signal.strsignal(-code))}"
        return [
            f"E{time}      16 launcher_v2.go:449] Component failed to execute successfully: {how}",
            f"I{time}      16 launcher_v2.go:206] publish success.",
            f"F{time}      16 main.go:59] failed to execute component: {how}",
        ]

    def _end_reused(self, task: str) -> None:
        kept = self._run.kept[task] = self._reused[task]
        for artifact in kept["artifacts"]:
            if artifact["stored"]:
                artifact["local"] = str(self._folder / "run" / task / artifact["name"])
            if "id" in artifact and self._run.record:
                self._run.record.known(artifact)
        if task in self._again:
            return
        node = self._run.workflow.ended(task, "Succeeded", cached=True)
        self._record_groups()
        self._record_container(task, node)
        self._record_end(task, "CACHED", kept["parameters"], kept["artifacts"], cached=kept.get("execution", ""))

    def _stored(self, task: str, event: Json) -> list[Json]:
        """Upload what a task made; each artifact as it is known from now on."""
        execution, made = self._artifacts.execution(), []
        for item in event["artifacts"]:
            uri, stored, path = item["uri"], "", Path(item["path"] or item["uri"])
            if not event.get("imported") and path.is_relative_to(self._folder) and path.exists():
                stored = uri = self._artifacts.place(self._run.pipeline_root, _bare(task), path.name, execution)
                self._artifacts.put(path, uri)
            elif path.is_relative_to(self._folder):  # declared, and nothing was written to it: metrics
                uri = self._artifacts.place(self._run.pipeline_root, _bare(task), path.name, execution)
            made.append({**item, "uri": uri, "stored": stored, "local": item["uri"]})
        return made

    def _publish_log(self, task: str) -> list[Json]:
        pod = next((n for n in self._run.workflow.work(task) if n.kind == "Pod"), None)
        if pod is None:
            return []
        execution = self._artifacts.execution()
        uri = self._artifacts.place(self._run.pipeline_root, _bare(task), _LOGS, execution)
        self._artifacts.put_text(pod.log.text(), uri)
        return [{"name": _LOGS, "type": "system.Artifact", "uri": uri, "metadata": {}, "local": uri}]

    def _archive(self, pod: Node | None) -> None:
        if pod and self._executor.archive:
            workflow = self._run.workflow
            self._artifacts.archive(
                self._run.pipeline_root, self._run.namespace, workflow.name, workflow.created, pod.pod, pod.log
            )

    def _inputs(self, task: str) -> tuple[Json, dict[str, list[str]]]:
        """What a task was given: parameters, and by input the local places of artifacts."""
        order = self._folder / "run" / task / ".task.json"
        if not order.exists():
            return {}, {}
        inputs = json.loads(order.read_text(encoding="utf-8"))["input"]["inputs"]
        taken = {
            name: [artifact["uri"] for artifact in value["artifacts"]]
            for name, value in inputs.get("artifacts", {}).items()
        }
        return inputs.get("parameterValues", {}), taken

    # ML Metadata

    def _begin_record(self) -> None:
        run, store = self._run, self._executor.metadata
        if store and run.record is None:
            pipeline = run.spec["pipelineInfo"]["name"]
            run.record = Record(store, pipeline, run.id, run.namespace, run.workflow.name, run.pipeline_root)
        self._record_groups()

    def _record_groups(self) -> None:
        """The drivers of groups that are there and not written down yet."""
        if not (record := self._run.record):
            return
        for group in self._run.workflow.groups():
            if group.key not in self._run.recorded:
                self._run.recorded.add(group.key)
                record.dag(group.key, group.parent, group.task, group.index, group.count, group.total)

    def _record_container(self, task: str, pod: Node | None) -> None:
        if record := self._run.record:
            image = _image(self._run.spec, _bare(task))
            record.container(task, self._parent(task), _bare(task), pod.pod if pod else "", image)

    def _record_end(
        self,
        task: str,
        state: str,
        outputs: Mapping[str, Any] | None = None,
        artifacts: Sequence[Json] = (),
        inputs: tuple[Json, dict[str, list[str]]] = ({}, {}),
        cached: str = "",
    ) -> None:
        if record := self._run.record:
            record.end(task, state, outputs, list(artifacts), inputs[0], inputs[1], cached)

    def _end_record(self, state: str) -> None:
        if record := self._run.record:
            for group in self._run.workflow.groups():
                ended = _EXECUTIONS.get(group.node.phase, state)
                record.end(group.key, ended if group.parent else state)

    def _parent(self, task: str) -> str:
        return self._run.workflow.group_of(task)


def _bare(task: str) -> str:
    """A task's own name, of its label: `train` of `prep/train.0`."""
    return re.sub(r"(\.\d+)+$", "", task.rpartition("/")[2])


def _image(spec: Mapping[str, Any], task: str) -> str:
    """The image of a task's container."""
    reference = next(t["componentRef"]["name"] for name, t in _tasks(spec) if name == task)
    executor = spec["deploymentSpec"]["executors"][spec["components"][reference]["executorLabel"]]
    return str(executor.get("container", {}).get("image", ""))


def _tasks(spec: Mapping[str, Any]) -> list[tuple[str, Json]]:
    dags: list[Any] = [spec["root"]["dag"], *(c["dag"] for c in spec.get("components", {}).values() if "dag" in c)]
    return [(name, task) for dag in dags for name, task in dag["tasks"].items()]


def _caches(spec: Mapping[str, Any], task: str) -> bool:
    return any(name == task and t.get("cachingOptions", {}).get("enableCache") for name, t in _tasks(spec))


def _try_once(spec: Json) -> None:
    """What fails by itself is not tried again: KFP's configuration of Argo has `retryPolicy: OnError` for all."""
    for _, task in _tasks(spec):
        task.pop("retryPolicy", None)


def _ask_always(spec: Json) -> None:
    """Let the worker ask for an earlier result of every task; which ones there are is decided here."""
    for _, task in _tasks(spec):
        task.setdefault("cachingOptions", {})["enableCache"] = True
