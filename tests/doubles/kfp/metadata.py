"""ML Metadata: the real library, filled as KFP's driver and launcher fill it (backend/src/v2/metadata/client.go)."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_actions import environments

PACKAGE = "ml-metadata==1.17.1"
_PYTHONS = ((3, 9), (3, 11))  # the oldest and the newest that it has wheels for
_SERVER = Path(__file__).with_name("metadata_server.py")

Json = dict[str, Any]


class MetadataUnavailable(Exception):
    """The library cannot be had here; the message says why."""


class MetadataError(Exception):
    """The library's answer is an error, with gRPC's code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class Metadata:
    """The store, in a process of its own.

    Args:
        file: where it is kept; None for memory.

    Raises:
        MetadataUnavailable: there is no such package for any Python here.
    """

    def __init__(self, file: Path | None = None) -> None:
        version = sys.version_info[:2]
        python = "" if _PYTHONS[0] <= version <= _PYTHONS[1] else ".".join(map(str, _PYTHONS[1]))
        try:
            made = environments.ensure("", environments.cache_folder(), packages=[PACKAGE], python=python)
        except environments.EnvironmentFailed as error:
            raise MetadataUnavailable(f"{PACKAGE} cannot be installed: {error}") from error
        command = [str(made.python), str(_SERVER), *([str(file)] if file else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lock = threading.Lock()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def call(self, method: str, request: bytes) -> bytes:
        """A serialized request's serialized answer.

        Raises:
            MetadataError: the answer is an error.
        """
        found = self._ask({"method": method, "bytes": base64.b64encode(request).decode()})
        return base64.b64decode(found["bytes"])

    def do(self, method: str, **request: Any) -> Json:
        """A request and its answer as protobuf's JSON.

        Raises:
            MetadataError: the answer is an error.
        """
        answer: Json = self._ask({"method": method, "json": request})["json"]
        return answer

    def _ask(self, request: Json) -> Json:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise MetadataError(14, "the metadata store has ended")
        answer: Json = json.loads(line)
        if answer.get("code"):
            raise MetadataError(answer["code"], answer["message"])
        return answer


class Record:
    """What one run leaves in ML Metadata.

    Args:
        root: the folder of the run's artifacts.
        session: how KFP says which object store it is (`store_session_info`).
    """

    def __init__(self, store: Metadata, pipeline: str, run_id: str, namespace: str, workflow: str, root: str) -> None:
        self._store = store
        self._session = json.dumps({"Provider": root.partition("://")[0], "Params": {"fromEnv": "true"}})
        self._namespace = namespace
        self._types: dict[str, int] = {}
        self._contexts = [
            self._context("system.Pipeline", pipeline, {}),
            self._context(
                "system.PipelineRun",
                run_id,
                {
                    "namespace": _text(namespace),
                    "resource_name": _text(workflow),
                    "pipeline_root": _text(root),
                    "store_session_info": _text(self._session),
                },
            ),
        ]
        child, parent = self._contexts[1]["id"], self._contexts[0]["id"]
        self._store.do("PutParentContexts", parent_contexts=[{"child_id": child, "parent_id": parent}])
        self._executions: dict[str, Json] = {}
        self._artifacts: dict[str, int] = {}

    def dag(self, key: str, parent: str, task: str, index: int | None, count: int | None, total: int) -> None:
        """A DAG's driver ran. Keys are the double's own; "" is no parent."""
        properties = {**self._named(task), **self._below(parent), "total_dag_tasks": _number(total)}
        if index is not None:
            properties["iteration_index"] = _number(index)
        if count is not None:
            properties["iteration_count"] = _number(count)
        self._put(key, {"type_id": self._type("system.DAGExecution"), "custom_properties": properties}, "RUNNING")

    def container(self, key: str, parent: str, task: str, pod: str, image: str, index: int | None = None) -> None:
        """A container's driver ran."""
        properties = {
            **self._named(task),
            **self._below(parent),
            "pod_name": _text(pod),
            "pod_uid": _text(str(uuid.uuid4())),
            "namespace": _text(self._namespace),
            "image": _text(image),
        }
        if index is not None:
            properties["iteration_index"] = _number(index)
        self._put(key, {"type_id": self._type("system.ContainerExecution"), "custom_properties": properties}, "RUNNING")

    def importer(self, key: str, parent: str, task: str) -> None:
        """An importer ran."""
        properties = {**self._named(task), **self._below(parent)}
        self._put(key, {"type_id": self._type("system.ImporterExecution"), "custom_properties": properties}, "RUNNING")

    def end(
        self,
        key: str,
        state: str,
        outputs: Mapping[str, Any] | None = None,
        artifacts: Sequence[Json] = (),
        inputs: Mapping[str, Any] | None = None,
        taken: Mapping[str, Sequence[str]] | None = None,
        cached: str = "",
    ) -> None:
        """An execution has ended.

        Args:
            state: COMPLETE, FAILED, CACHED or CANCELED.
            outputs: its output parameters.
            artifacts: what it made, each with name, type, uri, metadata, and `local`: its path for the tasks.
            inputs: its input parameters.
            taken: by input, the `local` of the artifacts.
            cached: the id of the execution whose result was taken.
        """
        execution = self._executions[key]
        properties = execution["custom_properties"]
        if inputs is not None:
            properties["inputs"] = {"struct_value": dict(inputs)}
        if outputs is not None:
            properties["outputs"] = {"struct_value": dict(outputs)}
        if cached:
            properties["cached_execution_id"] = _text(cached)
        pairs = [
            {"event": {"artifact_id": self._artifacts[local], "type": "INPUT", "path": _path(name)}}
            for name, locals_ in (taken or {}).items()
            for local in locals_
            if local in self._artifacts
        ]
        for artifact in artifacts:
            identity = artifact.get("id") or self._artifact(artifact)
            artifact["id"] = self._artifacts[artifact["local"]] = identity
            pairs.append({"event": {"artifact_id": identity, "type": "OUTPUT", "path": _path(artifact["name"])}})
        self._put(key, execution, state, pairs)

    def known(self, artifact: Json) -> None:
        """An artifact that is written down already, at the place where tasks now find it."""
        self._artifacts[artifact["local"]] = artifact["id"]

    def identity(self, key: str) -> str:
        """The id of an execution."""
        return str(self._executions[key]["id"])

    def _artifact(self, artifact: Json) -> int:
        kind = self._store.do("PutArtifactType", artifact_type={"name": artifact["type"]})["type_id"]
        properties = {name: _value(value) for name, value in artifact["metadata"].items() if value is not None}
        properties.setdefault("display_name", _text(artifact["name"]))
        properties.setdefault("store_session_info", _text(self._session))
        made = {"type_id": kind, "uri": artifact["uri"], "state": "LIVE", "custom_properties": properties}
        return int(self._store.do("PutArtifacts", artifacts=[made])["artifact_ids"][0])

    def _put(self, key: str, execution: Json, state: str, pairs: Sequence[Json] = ()) -> None:
        execution["last_known_state"] = state
        answer = self._store.do(
            "PutExecution", execution=execution, contexts=self._contexts, artifact_event_pairs=list(pairs)
        )
        self._executions[key] = {**execution, "id": answer["execution_id"]}

    def _named(self, task: str) -> Json:
        return {"display_name": _text(task), "task_name": _text(task)}

    def _below(self, parent: str) -> Json:
        return {"parent_dag_id": _number(int(self._executions[parent]["id"]))} if parent in self._executions else {}

    def _type(self, name: str) -> int:
        if name not in self._types:
            self._types[name] = self._store.do("PutExecutionType", execution_type={"name": name})["type_id"]
        return self._types[name]

    def _context(self, kind: str, name: str, properties: Json) -> Json:
        asked = {"type_name": kind, "context_name": name}
        found = self._store.do("GetContextByTypeAndName", **asked).get("context")
        if not found:
            type_id = self._store.do("PutContextType", context_type={"name": kind})["type_id"]
            made = {"name": name, "type_id": type_id, "custom_properties": properties}
            self._store.do("PutContexts", contexts=[made])
            found = self._store.do("GetContextByTypeAndName", **asked)["context"]
        context: Json = found
        return context


def _path(name: str) -> Json:
    return {"steps": [{"key": name}]}


def _text(text: str) -> Json:
    return {"string_value": text}


def _number(number: int) -> Json:
    return {"int_value": number}


def _value(value: Any) -> Json:
    """As toMLMDArtifact writes metadata: numbers are doubles; lists and maps are in a struct of one field."""
    if isinstance(value, bool):
        return {"int_value": int(value)}
    if isinstance(value, (int, float)):
        return {"double_value": value}
    if isinstance(value, list):
        return {"struct_value": {"list": value}}
    return {"struct_value": {"struct": value}} if isinstance(value, dict) else _text(str(value))
