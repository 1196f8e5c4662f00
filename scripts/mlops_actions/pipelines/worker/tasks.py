"""One task of a run: its arguments, its process, its outputs, and whether it was done before."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..files import named_files, tree_digest
from ..source import stable
from .channel import Channel

_RUNNER = Path(__file__).with_name("task.py")
_VOLATILE = ("{{$.pipeline_job", "{{$.pipeline_task", "{{$.pipeline_root", "{{$.workspace_path", "/kfp-workspace")
"""Placeholders whose values differ from run to run: a task that has one is never reused."""
_LOG = ".log.txt"
_LINGER = 2.0  # seconds that output is read after a task's end, from what it left running

Outputs = dict[str, Any]


class Tasks:
    """The tasks of one run. `execute` takes the place of kfp.local's `execute_single_task`.

    Args:
        channel: where progress is told, and finished work and its files are asked for.
        plan: see `running.run_pipeline`.
        label: gives a task its name for people.
    """

    def __init__(self, channel: Channel, plan: dict[str, Any], label: Callable[[str, str], str]) -> None:
        self._channel, self._plan, self._label = channel, plan, label
        self._digests: dict[str, str] = {}
        self._elsewhere: dict[str, str] = {}
        self._fetching = threading.Lock()

    def execute(
        self,
        task_name: str,
        task_spec: Any,
        pipeline_resource_name: str,
        components: dict[str, Any],
        executors: dict[str, Any],
        io_store: Any,
        **context: Any,
    ) -> tuple[Outputs, Any]:
        """Run a task, or find its earlier result; its outputs and kfp.local's status."""
        from kfp.local import status
        from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

        name = self._label(pipeline_resource_name, task_name)
        component = components[task_spec.component_ref.name]
        executor = executors[component.executor_label]
        arguments = OrchestratorUtils.make_task_arguments(task_spec.inputs, io_store)
        if executor.WhichOneof("spec") == "importer":
            return self._imported(name, component, executor, arguments, task_spec.component_ref.name, context)
        key = self._key(task_spec, component, executor, arguments)
        found = self._channel.ask("lookup", task=name, key=key) if key else None
        if found:
            self._channel.tell("ended", task=name, state="reused", found=found)
            return self._restored(name, component, found), status.Status.SUCCESS
        self._channel.tell("started", task=name)
        self._bring(arguments)
        policy = task_spec.retry_policy
        for attempt in range(policy.max_retry_count + 1):
            if attempt:
                pause = policy.backoff_duration.seconds * (policy.backoff_factor or 2.0) ** (attempt - 1)
                self._channel.tell("log", task=name, line=f"attempt {attempt} failed; trying again in {pause:g} s")
                time.sleep(min(pause, policy.backoff_max_duration.seconds or 3600))
            ended = self._run(name, task_name, component, executor, arguments)
            if ended["state"] == "succeeded":
                break
        made = ended.pop("made", {})
        self._channel.tell("ended", task=name, key=key, **ended)
        return made, status.Status.SUCCESS if ended["state"] == "succeeded" else status.Status.FAILURE

    def _run(self, name: str, task_name: str, component: Any, executor: Any, arguments: Outputs) -> dict[str, Any]:
        """One attempt: what the event of its end says, and under `made` the outputs as kfp.local wants them."""
        began = time.monotonic()
        folder = _empty(Path(self._plan["folder"]) / name)
        failure = folder / ".failure.json"
        message = self._message(task_name, component, arguments, folder)
        command = list(executor.container.command)
        source = folder / "ephemeral_component.py"
        source.write_text(command[-1], encoding="utf-8")
        order = {"source": str(source), "function": _function(executor), "input": message, "failure": str(failure)}
        (folder / ".task.json").write_text(json.dumps(order), encoding="utf-8")
        python = self._plan["pythons"][component.executor_label]["executable"]
        environ = {variable.name: variable.value for variable in executor.container.env}
        code = self._process(name, [python, str(_RUNNER), str(folder / ".task.json")], environ, folder / _LOG)
        ended: dict[str, Any] = {"seconds": round(time.monotonic() - began, 3)}
        if code == 0:
            try:
                made, described = self._outputs(component, message)
                return ended | {"state": "succeeded", "made": made, **described}
            except (ValueError, KeyError, OSError) as wrong:
                raised = {"type": type(wrong).__name__, "message": str(wrong), "line": None, "missing": None}
                return ended | {"state": "failed", "exit": 0, "error": raised, "source": command[-1]}
        error = json.loads(failure.read_text(encoding="utf-8")) if failure.exists() else None
        signalled = signal.Signals(-code).name if code < 0 else None
        return ended | {"state": "failed", "exit": code, "signal": signalled, "error": error, "source": command[-1]}

    def _process(self, name: str, command: list[str], environ: dict[str, str], log: Path) -> int:
        """Run a process; its output goes to its log, and line by line to the channel."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._plan["root"],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            encoding="utf-8",
            errors="replace",
        )

        def read() -> None:
            assert process.stdout
            with log.open("a", encoding="utf-8") as file:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    self._channel.tell("log", task=name, line=line.rstrip("\n"))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        code = process.wait()
        reader.join(_LINGER)
        return code

    def _message(self, task_name: str, component: Any, arguments: Outputs, folder: Path) -> dict[str, Any]:
        """KFP's ExecutorInput, as JSON from the start, so that a number stays what it is."""
        from kfp.local import placeholder_utils

        parameters = dict(_given(component, arguments))
        artifacts = {
            name: {"artifacts": [_artifact_message(item) for item in _flat(arguments[name])]}
            for name in component.input_definitions.artifacts
            if arguments.get(name) is not None
        }
        outputs = {
            "parameters": {
                name: {"outputFile": str(folder / name)} for name in component.output_definitions.parameters
            },
            "artifacts": {
                name: {"artifacts": [{"name": name, "type": _type(spec), "uri": str(folder / name), "metadata": {}}]}
                for name, spec in component.output_definitions.artifacts.items()
            },
            "outputFile": str(folder / "executor_output.json"),
        }
        message = {"inputs": {"parameterValues": parameters, "artifacts": artifacts}, "outputs": outputs}
        resolved: dict[str, Any] = placeholder_utils.resolve_self_references_in_executor_input(
            executor_input_dict=message,
            pipeline_resource_name=self._plan["key"],
            task_resource_name=task_name,
            pipeline_root=self._plan["folder"],
            pipeline_job_id=self._plan["key"],
            pipeline_task_id=f"{self._plan['key']}-{folder.name}",
        )
        return resolved

    def _outputs(self, component: Any, message: dict[str, Any]) -> tuple[Outputs, dict[str, Any]]:
        """What the task made: for kfp.local, and described for the event."""
        from kfp.local import executor_output_utils

        path = Path(message["outputs"]["outputFile"])
        # JSON has no infinity and no NaN, which scikit-learn's first ROC threshold is: they are null from here on.
        text = path.read_text(encoding="utf-8") if path.exists() else "{}"
        written = json.loads(text, parse_constant=lambda _: None)
        parameters = written.get("parameterValues", {})
        for name, place in message["outputs"]["parameters"].items():
            if Path(place["outputFile"]).is_file():
                kind = component.output_definitions.parameters[name].parameter_type
                parameters[name] = executor_output_utils.special_dsl_outputpath_read(name, place["outputFile"], kind)
        for name, spec in component.output_definitions.parameters.items():
            if name in parameters and parameters[name] is None:
                raise ValueError(f"the output {name!r} is not a finite number")
            if name in parameters:
                parameters[name] = _cast(parameters[name], spec.parameter_type)
        made, described = dict(parameters), []
        for name, spec in component.output_definitions.artifacts.items():
            messages = written.get("artifacts", {}).get(name, {}).get("artifacts", [])
            artifacts = [_artifact(item, _type(spec)) for item in messages]
            made[name] = artifacts if spec.is_artifact_list else artifacts[0] if artifacts else None
            for artifact in artifacts:
                digest = self._digests[artifact.uri] = tree_digest(Path(artifact.path)) if artifact.path else ""
                described.append(_described(name, artifact, digest))
        return made, {"parameters": parameters, "artifacts": described}

    def _restored(self, name: str, component: Any, found: dict[str, Any]) -> Outputs:
        """An earlier result. Its files are brought when a task needs them."""
        made: Outputs = dict(found["parameters"])
        for item in found["artifacts"]:
            spec = component.output_definitions.artifacts[item["name"]]
            uri = item["uri"]
            if item["stored"]:
                uri = str(Path(self._plan["folder"]) / name / item["name"])
                self._elsewhere[uri] = item["stored"]
            artifact = _artifact({"name": item["name"], "uri": uri, "metadata": item["metadata"]}, _type(spec))
            self._digests[uri] = item["digest"]
            if spec.is_artifact_list:
                made.setdefault(item["name"], []).append(artifact)
            else:
                made[item["name"]] = artifact
        return made

    def _bring(self, arguments: Outputs) -> None:
        with self._fetching:
            for artifact in _artifacts(arguments):
                if stored := self._elsewhere.pop(artifact.uri, None):
                    self._channel.ask("fetch", stored=stored, target=artifact.uri)

    def _imported(
        self, name: str, component: Any, executor: Any, arguments: Outputs, component_name: str, context: dict[str, Any]
    ) -> tuple[Outputs, Any]:
        from kfp.local import importer_handler

        began = time.monotonic()
        outputs, ended = importer_handler.run_importer(
            pipeline_resource_name=self._plan["key"],
            component_name=component_name,
            component_spec=component,
            executor_spec=executor,
            arguments=arguments,
            pipeline_root=context["pipeline_root"],
            unique_pipeline_id=context["unique_pipeline_id"],
        )
        described = [_described(key, artifact, self._digest(artifact)) for key, artifact in outputs.items()]
        seconds = round(time.monotonic() - began, 3)
        self._channel.tell(
            "ended", task=name, state="succeeded", key="", imported=True, seconds=seconds, parameters={},
            artifacts=described,
        )  # fmt: skip
        return outputs, ended

    def _key(self, task_spec: Any, component: Any, executor: Any, arguments: Outputs) -> str:
        """The hash of all that decides what a task makes; "" for a task that must not be reused."""
        from google.protobuf import json_format

        values = dict(_given(component, arguments))
        if not task_spec.caching_options.enable_cache or any(mark in json.dumps(values) for mark in _VOLATILE):
            return ""
        if any(spec.HasField("task_final_status") for spec in task_spec.inputs.parameters.values()):
            return ""
        parts = {
            "source": stable(executor.container.command[-1]),
            "function": _function(executor),
            "variables": {variable.name: variable.value for variable in executor.container.env},
            "python": self._plan["pythons"][component.executor_label]["digest"],
            "outputs": json_format.MessageToDict(component.output_definitions),
            "parameters": values,
            "artifacts": {
                name: [[item.schema_title, item.metadata, self._digest(item)] for item in _flat(arguments[name])]
                for name in component.input_definitions.artifacts
                if arguments.get(name) is not None
            },
            "files": named_files(values, Path(self._plan["root"])),
            "inputs": self._plan["inputs"],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _digest(self, artifact: Any) -> str:
        """Of an artifact's bytes; of its URI, when they are not on this machine."""
        if artifact.uri not in self._digests:
            path = Path(artifact.path or artifact.uri)
            there = path if path.is_absolute() else Path(self._plan["root"]) / path
            self._digests[artifact.uri] = tree_digest(there)
        return self._digests[artifact.uri] or str(artifact.uri)


def _empty(folder: Path) -> Path:
    """A task's folder, without what an earlier attempt made; its log goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        elif item.name != _LOG:
            item.unlink()
    return folder


def _given(component: Any, arguments: Outputs) -> Iterator[tuple[str, Any]]:
    """The parameters of a task, as the types that the component declares; those without a value are left out."""
    from kfp.local import executor_output_utils

    declared = component.input_definitions.parameters
    for name in {**dict.fromkeys(declared), **dict.fromkeys(arguments)}:
        if name in component.input_definitions.artifacts:
            continue
        value = arguments.get(name)
        if value is None and name in declared and declared[name].HasField("default_value"):
            value = executor_output_utils.pb2_value_to_python(declared[name].default_value)
        if value is not None:
            yield name, _cast(value, declared[name].parameter_type) if name in declared else value


def _cast(value: Any, kind: int) -> Any:
    from kfp.pipeline_spec import pipeline_spec_pb2

    types = pipeline_spec_pb2.ParameterType
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if kind == types.NUMBER_INTEGER:
        return int(value)
    return float(value) if kind == types.NUMBER_DOUBLE else value


def _function(executor: Any) -> str:
    arguments = list(executor.container.args)
    return str(arguments[arguments.index("--function_to_execute") + 1])


def _flat(value: Any) -> list[Any]:
    """An artifact, or lists of artifacts in lists, as one list."""
    return [inner for item in value for inner in _flat(item)] if isinstance(value, list) else [value]


def _artifacts(arguments: Outputs) -> Iterator[Any]:
    from kfp import dsl

    for value in arguments.values():
        yield from (item for item in _flat(value) if isinstance(item, dsl.Artifact))


def _type(spec: Any) -> dict[str, str]:
    kind = spec.artifact_type
    return {"schemaTitle": kind.schema_title, "schemaVersion": kind.schema_version}


def _artifact(message: dict[str, Any], kind: dict[str, str]) -> Any:
    from kfp.dsl import executor

    artifact = executor.create_artifact_instance({**message, "type": kind})
    if message.get("custom_path"):
        artifact.custom_path = message["custom_path"]
    return artifact


def _artifact_message(artifact: Any) -> dict[str, Any]:
    message = {
        "name": artifact.name,
        "type": {"schemaTitle": artifact.schema_title, "schemaVersion": artifact.schema_version},
        "uri": artifact.uri,
        "metadata": artifact.metadata,
    }
    return {**message, "custom_path": artifact.custom_path} if artifact.custom_path else message


def _described(name: str, artifact: Any, digest: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": artifact.schema_title,
        "uri": artifact.uri,
        "path": artifact.path or "",
        "digest": digest,
        "metadata": artifact.metadata,
    }
