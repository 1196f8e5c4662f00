"""One task of a run: found among finished work, or run as a process or a container, with retries."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import RESULTS
from ..files import named_files, named_in_source, opened_files
from ..source import stable
from .artifacts import Artifacts, settle, type_of
from .containers import Containers
from .graph import Artifact, Call, State, Values
from .plan import TaskPlan, Tell
from .processes import in_thread, run_process
from .values import ValueFault, as_text, fill, natural, read_output

_TASK = Path(__file__).parent.parent / "worker" / "task.py"
_LOG = ".log.txt"
_HERE = "{run-folder}"
"""Stands for the run's folder in what is kept and in keys: the next run has another one."""
Made = dict[str, Any]


class Tasks:
    """The tasks of one run; see `graph.Runner`.

    Args:
        plan: the run.
        tell: told what happens, and asked for finished work.
    """

    def __init__(self, plan: TaskPlan, tell: Tell) -> None:
        self._plan, self._tell = plan, tell
        self._artifacts = Artifacts(plan, tell)
        self._containers = Containers(plan)
        self._slots = asyncio.Semaphore(plan.at_once)
        self._executors: Mapping[str, Any] = plan.spec.get("deploymentSpec", {}).get("executors", {})

    def skipped(self, tasks: list[str], condition: bool) -> None:
        """See `graph.Runner`."""
        self._tell({"event": "skipped", "tasks": tasks, "condition": condition})

    def failed(self, task: str, why: str) -> None:
        """See `graph.Runner`."""
        self._tell({"event": "ended", "task": task, "key": "", **_failure(0.0, why)})

    async def run(self, call: Call) -> tuple[State, Values]:
        """Find a task's earlier result, or run it."""
        executor = self._executors[call.component["executorLabel"]]
        if "importer" in executor:
            return await self._import(call, executor["importer"])
        container = executor["container"]
        named = await in_thread(self._named, call, program(container))
        key = await in_thread(self._key, call, container, named)
        found = await in_thread(self._tell, {"event": "lookup", "task": call.label, "key": key}) if key else None
        if found:
            made = await self._restored(call, found)
            values = dict(made.parameters)
            self._tell({"event": "ended", "task": call.label, "state": "reused", "found": found, "parameters": values})
            return "CACHED", made
        async with self._slots:
            self._tell({"event": "started", "task": call.label})
            await self._artifacts.bring(call.inputs)
            ended = await self._attempts(call, container)
        made = ended.pop("made", Values())
        if (opened := ended.get("files", {})) is None:  # what it read has changed in the meantime
            key, opened = "", {}
        ended["files"] = {**named, **opened}
        self._tell({"event": "ended", "task": call.label, "key": key, **ended})
        return ("COMPLETE" if ended["state"] == "succeeded" else "FAILED"), made

    async def _attempts(self, call: Call, container: Mapping[str, Any]) -> Made:
        policy = call.task.get("retryPolicy", {})
        factor, longest = policy.get("backoffFactor") or 2.0, _seconds(policy.get("backoffMaxDuration")) or 3600.0
        pause = _seconds(policy.get("backoffDuration"))
        for attempt in range(1, int(policy.get("maxRetryCount", 0)) + 2):
            ended = await self._attempt(call, container)
            ended["attempts"] = attempt
            if ended["state"] == "succeeded" or attempt > int(policy.get("maxRetryCount", 0)):
                break
            wait = min(pause * factor ** (attempt - 1), longest)
            why = cause_of(ended)
            line = f"attempt {attempt} failed ({why}); retrying in {wait:g} s"
            self._tell({"event": "log", "task": call.label, "line": line})
            await asyncio.sleep(wait)
        return ended

    async def _attempt(self, call: Call, container: Mapping[str, Any]) -> Made:
        """Run a task once: what the event of its end says, and under `made` what it gives."""
        began = time.monotonic()
        folder = _empty(self._plan.folder / call.label)
        message = self._message(call, folder)
        failure = folder / ".failure.json"
        opened = folder / ".opened.json"
        order = {"input": message, "failure": str(failure), "opened": str(opened), "apart": [str(self._plan.folder)]}
        source = program(container)
        if source:
            file = folder / "ephemeral_component.py"
            file.write_text(source, encoding="utf-8")
            order |= {"source": str(file), "function": function(container)}
        (folder / ".task.json").write_text(json.dumps(order), encoding="utf-8")
        code = await self._process(call, container, folder, message)
        ended: Made = {"seconds": round(time.monotonic() - began, 3), "source": source}
        if code == 0:
            try:
                files = await in_thread(opened_files, opened, self._plan.root)
                return ended | {"state": "succeeded", "files": files} | await in_thread(self._outputs, call, message)
            except (ValueFault, ValueError, OSError) as wrong:
                return ended | _failure(ended["seconds"], str(wrong))
        error = json.loads(failure.read_text(encoding="utf-8")) if failure.exists() else None
        failure.unlink(missing_ok=True)  # it may hold what must not be seen
        signalled = signal.Signals(-code).name if code < 0 else None
        return ended | {"state": "failed", "exit": code, "signal": signalled, "error": error}

    async def _process(self, call: Call, container: Mapping[str, Any], folder: Path, message: Made) -> int:
        values = self._values(call)
        constants = self._constants(call, message)
        environ = {
            each["name"]: as_text(fill(each.get("value", ""), values, constants)) for each in container.get("env", [])
        }

        def line(text: str) -> None:
            self._tell({"event": "log", "task": call.label, "line": text})

        if program(container):
            python = self._plan.pythons[call.component["executorLabel"]].executable
            command = [python, str(_TASK), str(folder / ".task.json")]
            environ = {**self._plan.environ, "PYTHONUNBUFFERED": "1", **environ}
            return await run_process(command, self._plan.root, environ, folder / _LOG, line, self._plan.hide)
        places = [path for items in call.inputs.artifacts.values() for a in items if (path := self._artifacts.path(a))]
        return await self._containers.run(call, container, message, values, constants, environ, places, line)

    def _values(self, call: Call) -> dict[str, Any]:
        """A task's parameters with the component's defaults, which the backend's launcher adds."""
        declared = call.component.get("inputDefinitions", {}).get("parameters", {})
        defaults = {name: natural(spec["defaultValue"]) for name, spec in declared.items() if "defaultValue" in spec}
        return {**defaults, **call.inputs.parameters}

    def _constants(self, call: Call, message: Made) -> dict[str, str]:
        """The placeholders of a container's command."""
        constants = {
            **self._plan.constants_of(call.name, call.label),
            "{{$.outputs.output_file}}": message["outputs"]["outputFile"],
            "{{$.outputMetadataUri}}": message["outputs"]["outputFile"],
            "{{$}}": json.dumps(message),
        }
        for side in ("inputs", "outputs"):
            for name, listed in message[side]["artifacts"].items():
                for artifact in listed["artifacts"][:1]:
                    place = f"{{{{$.{side}.artifacts['{name}']"
                    constants[f"{place}.uri}}}}"] = artifact["uri"]
                    constants[f"{place}.path}}}}"] = artifact.get("custom_path") or artifact["uri"]
                    constants[f"{place}.metadata}}}}"] = json.dumps(artifact["metadata"])
        for name, parameter in message["outputs"]["parameters"].items():
            constants[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
        return constants

    def _message(self, call: Call, folder: Path) -> Made:
        """KFP's ExecutorInput as JSON."""
        outputs = call.component.get("outputDefinitions", {})
        return {
            "inputs": {
                "parameterValues": self._values(call),
                "artifacts": {
                    name: {"artifacts": [self._artifacts.message(item) for item in items]}
                    for name, items in call.inputs.artifacts.items()
                },
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(folder / name)} for name in outputs.get("parameters", {})},
                "artifacts": {
                    name: {"artifacts": [_artifact(name, type_of(spec), str(folder / name))]}
                    for name, spec in outputs.get("artifacts", {}).items()
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }

    def _outputs(self, call: Call, message: Made) -> Made:
        """What a task gave: `made`, and `parameters` and `artifacts` as the event of its end describes them."""
        declared, outputs = call.component.get("outputDefinitions", {}), message["outputs"]
        path = Path(outputs["outputFile"])
        # JSON has no infinity and no NaN, which scikit-learn's first ROC threshold is: they are null from here on.
        text = path.read_text(encoding="utf-8") if path.exists() else "{}"
        written = json.loads(text, parse_constant=lambda _: None)
        made = Values()
        for name, spec in declared.get("parameters", {}).items():
            file = Path(outputs["parameters"][name]["outputFile"])
            value = _output(name, spec, written.get("parameterValues", {}), file)
            if value is not None:
                made.parameters[name] = value
        described = []
        for name, spec in declared.get("artifacts", {}).items():
            items = written.get("artifacts", {}).get(name, {}).get("artifacts")
            made.artifacts[name] = []
            for item in items if items is not None else outputs["artifacts"][name]["artifacts"]:
                artifact = _artifact(item["name"], type_of(spec), item["uri"], item.get("metadata", {}))
                if item.get("custom_path"):
                    settle(artifact, item["custom_path"])
                made.artifacts[name].append(artifact)
                described.append(self._described(name, artifact))
        here = self._portable({"parameters": made.parameters, "artifacts": described})
        return {"made": made, "kept": here, "parameters": made.parameters, "artifacts": described}

    def _described(self, name: str, artifact: Artifact) -> Made:
        path = self._artifacts.path(artifact)
        return {
            "name": name,
            "type": artifact["type"]["schemaTitle"],
            "uri": artifact["uri"],
            "path": str(path) if path else "",
            "digest": self._artifacts.digest(artifact) if path and path.exists() else "",
            "metadata": artifact["metadata"],
        }

    async def _restored(self, call: Call, found: Made) -> Values:
        """An earlier result. The files in it are brought when a task needs them, or at once if one may know a path."""
        parameters = self._of_this_run(found["parameters"])
        folder = self._plan.folder / call.label
        declared = call.component.get("outputDefinitions", {}).get("artifacts", {})
        made = Values(dict(parameters), {name: [] for name in declared})
        for item in found["artifacts"]:
            spec = declared[item["name"]]
            uri = str(folder / item["name"]) if item["stored"] else self._of_this_run(item["uri"])
            artifact = _artifact(item["name"], type_of(spec), uri, self._of_this_run(item["metadata"]))
            self._artifacts.keep(artifact, item["digest"], item["stored"])
            made.artifacts[item["name"]].append(artifact)
        if parameters != found["parameters"]:
            await self._artifacts.bring_under(folder)
        return made

    async def _import(self, call: Call, importer: Mapping[str, Any]) -> tuple[State, Values]:
        began = time.monotonic()
        declared = next(iter(call.component["outputDefinitions"]["artifacts"]))
        source = importer["artifactUri"]
        uri = source.get("constant", "") or as_text(call.inputs.parameters.get(source.get("runtimeParameter", "uri")))
        metadata = fill(importer.get("metadata", {}), call.inputs.parameters, self._plan.constants)
        artifact = _artifact(declared, type_of(importer), uri, natural(metadata))
        await self._artifacts.imported(artifact, self._plan.folder / call.label / declared)
        digest, described = self._artifacts.digest(artifact), self._described(declared, artifact)
        self._tell({
            "event": "ended", "task": call.label, "state": "succeeded", "key": "", "imported": True, "parameters": {},
            "seconds": round(time.monotonic() - began, 3), "artifacts": [described], "files": {uri: digest},
        })  # fmt: skip
        return "COMPLETE", Values({}, {declared: [artifact]})

    def _named(self, call: Call, source: str) -> dict[str, str]:
        """The digests of files that a task's arguments and its source name, by name; not those of this run."""
        root = self._plan.root
        found = {**named_files(self._values(call), root), **named_in_source(source, root)}
        return {name: found[name] for name in found if not (root / name).is_relative_to(self._plan.folder)}

    def _key(self, call: Call, container: Mapping[str, Any], named: Mapping[str, str]) -> str:
        """The hash of all that decides what a task makes; "" for one that must not be reused.

        Args:
            call: the task.
            container: of its executor.
            named: see `_named`.
        """
        label = call.component["executorLabel"]
        values, source = self._values(call), program(container)
        given = call.task.get("inputs", {}).get("parameters", {}).values()
        volatile = json.dumps([values, container.get("command", [])[:-1], container.get("args", [])])
        run_bound = [mark for mark in self._plan.constants.values() if mark != str(self._plan.folder)]
        if not call.task.get("cachingOptions", {}).get("enableCache"):
            return ""
        if any(mark in volatile for mark in [*run_bound, "{{$.pipeline_"]) or any(
            "taskFinalStatus" in g for g in given
        ):
            return ""
        python = self._plan.pythons.get(label)
        parts = {
            "tool": RESULTS,
            "source": stable(source),
            "command": [] if source else [container.get("command", []), container.get("args", [])],
            "function": function(container) if source else "",
            "variables": {variable["name"]: variable.get("value", "") for variable in container.get("env", [])},
            "python": python.digest if python and source else self._containers.identity(container["image"]),
            "outputs": call.component.get("outputDefinitions", {}),
            "parameters": self._portable(values),
            "artifacts": {
                name: [self._identity(artifact) for artifact in items] for name, items in call.inputs.artifacts.items()
            },
            "files": dict(named),
            "made": self._made_here(values),
            "inputs": dict(self._plan.inputs),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _identity(self, artifact: Artifact) -> list[Any]:
        """What a task sees of an artifact that decides its result. Where it is, if not in this run's own folder."""
        own = artifact["uri"].startswith(str(self._plan.folder))
        place = "" if own else artifact["uri"]
        return [artifact["type"]["schemaTitle"], artifact["metadata"], self._artifacts.digest(artifact), place]

    def _made_here(self, value: Any) -> dict[str, str]:
        """The digests of files of this run that a value names."""
        found = named_files(value, self._plan.folder)
        inside = {name: digest for name, digest in found.items() if name.startswith(str(self._plan.folder))}
        return {str(self._portable(name)): digest for name, digest in inside.items()}

    def _portable(self, value: Any) -> Any:
        """A value with this run's folder taken out, so that it can be kept."""
        return _replaced(value, str(self._plan.folder), _HERE)

    def _of_this_run(self, value: Any) -> Any:
        """A kept value with this run's folder put in."""
        return _replaced(value, _HERE, str(self._plan.folder))


def _output(name: str, spec: Mapping[str, Any], written: Mapping[str, Any], file: Path) -> Any:
    """An output parameter: what the executor wrote down, else what is in the output's file; None for an optional one.

    Raises:
        ValueFault: there is none, or it is not of its type.
    """
    kind = spec.get("parameterType", "")
    if name in written:
        if written[name] is None:
            raise ValueFault(f"the output {name!r} is not a finite number")
        return int(written[name]) if kind == "NUMBER_INTEGER" else written[name]
    if file.is_file():
        return read_output(name, file.read_text(encoding="utf-8"), kind)
    if spec.get("isOptional"):
        return None
    raise ValueFault(f"the output {name!r} was not given: return a value, or write it to its file")


def program(container: Mapping[str, Any]) -> str:
    """The source of a lightweight Python component, which is the last word of its command; "" for another container."""
    command = container.get("command", [])
    return str(command[-1]) if len(command) > 1 and "ephemeral_component.py" in command[-2] else ""


def function(container: Mapping[str, Any]) -> str:
    """The name of a Python component's function."""
    words = list(container.get("args", []))
    return str(words[words.index("--function_to_execute") + 1])


def _artifact(name: str, kind: dict[str, str], uri: str, metadata: Mapping[str, Any] | None = None) -> Artifact:
    return {"name": name, "type": kind, "uri": uri, "metadata": dict(metadata or {})}


def _failure(seconds: float, why: str) -> Made:
    error = {"type": "", "message": f"{why[:1].upper()}{why[1:]}", "line": None, "missing": None}
    return {"state": "failed", "seconds": seconds, "exit": 0, "error": error, "source": ""}


def cause_of(ended: Mapping[str, Any]) -> str:
    """Why a task failed, from the event of its end."""
    error = ended.get("error")
    if error:
        return ": ".join(filter(None, [error["type"], error["message"]]))
    if ended.get("signal"):
        memory = ", which is what happens when memory runs out" if ended["signal"] == "SIGKILL" else ""
        return f"It was ended by {ended['signal']}{memory}"
    return f"It ended with exit code {ended['exit']}"


def _empty(folder: Path) -> Path:
    """A task's folder, without what an earlier attempt made; its log goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        elif item.name != _LOG:
            item.unlink()
    return folder


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(item, old, new) for key, item in value.items()}
    return value


def _seconds(duration: Any) -> float:
    """A protobuf Duration as JSON has it: `3.5s`."""
    return float(str(duration or "0s").rstrip("s") or 0)
