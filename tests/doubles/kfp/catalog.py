"""Experiments, pipelines and their versions (experiment_server.go, pipeline_server.go, pipeline_upload_server.go)."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from . import listing
from .refusals import EXISTS, PRECONDITION, Refusal, UploadRefusal, invalid, not_found
from .world import Json, World

_LIMITS = {"Experiment.Name": 128, "Pipeline.Name": 128, "PipelineVersion.Name": 127, "Pipeline.Namespace": 63}
_SIZE = 32 << 20
_KUBERNETES = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


@dataclass(frozen=True)
class Call:
    """A request to an operation: its parameters by name, its body, the uploaded file, and who sends it."""

    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    file: tuple[str, bytes] | None = None
    user: str = ""


def read_spec(data: bytes) -> Json:
    """What was uploaded: `pipeline_spec`, and `platform_spec` where there is one.

    Raises:
        Refusal: it is no PipelineSpec.
    """
    try:
        documents = [part for part in yaml.safe_load_all(data.decode()) if part]
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise invalid(f"unknown template format: {str(error).splitlines()[0]}", "InvalidInputError") from error
    spec = next((d for d in documents if isinstance(d, dict) and "pipelineInfo" in d), None)
    if spec is None:
        raise invalid("unknown template format: pipeline spec is invalid")
    check_spec(spec)
    platforms = next((d for d in documents if isinstance(d, dict) and "platforms" in d), None)
    return {"pipeline_spec": spec, "platform_spec": platforms} if platforms else {"pipeline_spec": spec}


def check_spec(spec: Any) -> None:
    """What the template package refuses (template/v2_template.go)."""
    name = spec.get("pipelineInfo", {}).get("name", "")
    if not name:
        raise invalid("invalid v2 pipeline spec: name is empty")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", name):
        raise invalid(
            "invalid v2 pipeline spec: name should consist of lower case alphanumeric characters or '-', start with an"
            f" alphanumeric character, and be at most 128 characters long, got {name!r}"
        )
    if "root" not in spec:
        raise invalid("invalid v2 pipeline spec: root component is empty")


def shown(version: Json) -> Json:
    """A version as the API shows it: the spec alone, or beside its settings for platforms."""
    spec = version["pipeline_spec"]
    flat = spec if "platform_spec" in spec else spec["pipeline_spec"]
    return present({**version, "pipeline_spec": flat})


class Catalog:
    """The operations."""

    def __init__(self, world: World) -> None:
        self._world = world

    # Experiments

    def create_experiment(self, call: Call) -> Json:
        """ExperimentService_CreateExperiment."""
        given = call.body
        name, namespace = given.get("display_name", ""), given.get("namespace", "")
        if not name:
            raise invalid("Experiment must have a non-empty name", "Failed to create an experiment")
        namespace = self._world.admit(call.user, namespace, "create", "experiments")
        _length("Experiment", "Name", name)
        if any((e["display_name"], e["namespace"]) == (name, namespace) for e in self._world.experiments.values()):
            raise Refusal(
                EXISTS,
                f"Failed to create a new experiment. The name {name} already exists. Please specify a new name",
                "Failed to create an experiment",
                "Already exist error",
            )
        return present(self._world.add_experiment(name, namespace, given.get("description", "")))

    def get_experiment(self, call: Call) -> Json:
        """ExperimentService_GetExperiment."""
        return present(self.experiment(call, call.path["experiment_id"], "get"))

    def list_experiments(self, call: Call) -> Json:
        """ExperimentService_ListExperiments."""
        namespace = self._world.admit(call.user, call.query.get("namespace", ""), "list", "experiments")
        items = [e for e in self._world.experiments.values() if e["namespace"] == namespace]
        return listing.page(items, call.query, listing.EXPERIMENT, "experiments", present)

    def delete_experiment(self, call: Call) -> Json:
        """ExperimentService_DeleteExperiment."""
        found = self.experiment(call, call.path["experiment_id"], "delete")
        del self._world.experiments[found["experiment_id"]]
        return {}

    def archive_experiment(self, call: Call) -> Json:
        """ExperimentService_ArchiveExperiment: with its runs and recurring runs."""
        found = self.experiment(call, call.path["experiment_id"], "archive")
        found["storage_state"] = "ARCHIVED"
        for run in self._world.runs.values():
            if run.fields["experiment_id"] == found["experiment_id"]:
                run.fields["storage_state"] = "ARCHIVED"
        for recurring in self._world.recurring.values():
            if recurring["experiment_id"] == found["experiment_id"]:
                recurring["mode"], recurring["status"] = "DISABLE", "DISABLED"
        return {}

    def unarchive_experiment(self, call: Call) -> Json:
        """ExperimentService_UnarchiveExperiment."""
        self.experiment(call, call.path["experiment_id"], "unarchive")["storage_state"] = "AVAILABLE"
        return {}

    def experiment(self, call: Call, identity: str, verb: str) -> Json:
        """An experiment that the caller may see; the default one when none is named."""
        found = self._world.experiments.get(identity)
        if not identity and self._world.settings.users is None:
            return next(iter(self._world.experiments.values()))
        if found is None:
            raise not_found("Experiment", identity, f"Failed to {verb} an experiment")
        self._world.admit(call.user, found["namespace"], verb, "experiments")
        return found

    # Pipelines

    def create_pipeline(self, call: Call) -> Json:
        """PipelineService_CreatePipeline."""
        return present(self._pipeline(call, call.body))

    def create_both(self, call: Call) -> Json:
        """PipelineService_CreatePipelineAndVersion, from a URL; this server reaches none."""
        raise invalid("Failed to create a pipeline and a pipeline version: the package URL cannot be reached")

    def upload_pipeline(self, call: Call) -> Json:
        """UploadPipeline: the pipeline, and its first version of the same name."""
        given, data = self._uploaded(call, "Failed to read a pipeline spec file")
        try:
            spec = read_spec(data)
            made = self._pipeline(call, given)
        except Refusal as error:
            raise _of_upload(error, "Failed to create a pipeline and a pipeline version") from error
        self._version(made, given, spec)
        return present(made)

    def upload_version(self, call: Call) -> Json:
        """UploadPipelineVersion."""
        what = "Failed to create a pipeline version"
        given, data = self._uploaded(call, what)
        pipeline = self._world.pipelines.get(call.query.get("pipelineid", ""))
        if pipeline is None:
            raise UploadRefusal(400, what)
        try:
            self._world.admit(call.user, pipeline["namespace"], "create", "pipelines")
            return shown(self._version(pipeline, given, read_spec(data)))
        except Refusal as error:
            raise _of_upload(error, what) from error

    def get_pipeline(self, call: Call) -> Json:
        """PipelineService_GetPipeline."""
        return present(self.pipeline(call, call.path["pipeline_id"], "get"))

    def get_pipeline_by_name(self, call: Call) -> Json:
        """PipelineService_GetPipelineByName."""
        namespace = self._world.admit(call.user, call.query.get("namespace", ""), "get", "pipelines")
        for pipeline in self._world.pipelines.values():
            if (pipeline["name"], pipeline["namespace"]) == (call.path["name"], namespace):
                return present(pipeline)
        raise not_found("Pipeline", call.path["name"], "Failed to get a pipeline by name and namespace")

    def list_pipelines(self, call: Call) -> Json:
        """PipelineService_ListPipelines: those of the namespace; without one, the shared ones."""
        namespace = call.query.get("namespace", "")
        if namespace:
            namespace = self._world.admit(call.user, namespace, "list", "pipelines")
        items = [p for p in self._world.pipelines.values() if p["namespace"] == namespace]
        return listing.page(items, call.query, listing.PIPELINE, "pipelines", present)

    def update_pipeline(self, call: Call) -> Json:
        """PipelineService_UpdatePipeline."""
        found = self.pipeline(call, call.path["pipeline.pipeline_id"], "update")
        found |= {k: v for k, v in call.body.items() if k in ("display_name", "description", "tags")}
        return present(found)

    def delete_pipeline(self, call: Call) -> Json:
        """PipelineService_DeletePipeline: only when it has no versions, or with `cascade`."""
        found = self.pipeline(call, call.path["pipeline_id"], "delete")
        versions = [v for v in self._world.versions.values() if v["pipeline_id"] == found["pipeline_id"]]
        if versions and call.query.get("cascade") != "true":
            raise invalid(
                f"Failed to delete pipeline {found['pipeline_id']} as it has existing pipeline versions"
                f" (e.g. {versions[0]['pipeline_version_id']})"
            )
        for version in versions:
            del self._world.versions[version["pipeline_version_id"]]
        del self._world.pipelines[found["pipeline_id"]]
        return {}

    def pipeline(self, call: Call, identity: str, verb: str) -> Json:
        """A pipeline that the caller may see."""
        found = self._world.pipelines.get(identity)
        if found is None:
            raise not_found("Pipeline", identity, f"Failed to {verb} a pipeline")
        if found["namespace"]:
            self._world.admit(call.user, found["namespace"], verb, "pipelines")
        return found

    # Versions

    def create_version(self, call: Call) -> Json:
        """PipelineService_CreatePipelineVersion, with the spec itself."""
        pipeline = self.pipeline(call, call.path["pipeline_id"], "create")
        given = call.body
        if "pipeline_spec" not in given:
            raise invalid("Failed to create a pipeline version: the package URL cannot be reached")
        spec = given["pipeline_spec"]
        spec = spec if "pipeline_spec" in spec else {"pipeline_spec": spec}
        check_spec(spec["pipeline_spec"])
        return shown(self._version(pipeline, given, spec))

    def get_version(self, call: Call) -> Json:
        """PipelineService_GetPipelineVersion."""
        return shown(self.version(call, call.path["pipeline_id"], call.path["pipeline_version_id"], "get"))

    def list_versions(self, call: Call) -> Json:
        """PipelineService_ListPipelineVersions."""
        pipeline = self.pipeline(call, call.path["pipeline_id"], "list")
        items = [v for v in self._world.versions.values() if v["pipeline_id"] == pipeline["pipeline_id"]]
        return listing.page(items, call.query, listing.VERSION, "pipeline_versions", shown)

    def update_version(self, call: Call) -> Json:
        """PipelineService_UpdatePipelineVersion."""
        found = self.version(
            call,
            call.path["pipeline_version.pipeline_id"],
            call.path["pipeline_version.pipeline_version_id"],
            "update",
        )
        found |= {k: v for k, v in call.body.items() if k in ("display_name", "description", "tags")}
        return shown(found)

    def delete_version(self, call: Call) -> Json:
        """PipelineService_DeletePipelineVersion."""
        found = self.version(call, call.path["pipeline_id"], call.path["pipeline_version_id"], "delete")
        del self._world.versions[found["pipeline_version_id"]]
        return {}

    def version(self, call: Call, pipeline_id: str, identity: str, verb: str) -> Json:
        """A version; the latest when none is named."""
        pipeline = self.pipeline(call, pipeline_id, verb)
        versions = [v for v in self._world.versions.values() if v["pipeline_id"] == pipeline["pipeline_id"]]
        found = versions[-1:] if not identity else [v for v in versions if v["pipeline_version_id"] == identity]
        if not found:
            raise not_found("PipelineVersion", identity or pipeline_id, f"Failed to {verb} a pipeline version")
        return found[0]

    # Inside

    def _uploaded(self, call: Call, what: str) -> tuple[Json, bytes]:
        if call.file is None:
            raise UploadRefusal(400, what)
        filename, data = call.file
        if len(data) > _SIZE:
            raise UploadRefusal(413, "File size too large. Maximum supported file size is 32MB")
        given: Json = {k: call.query[k] for k in ("name", "display_name", "description") if call.query.get(k)}
        if PurePosixPath(filename).suffix not in (".yaml", ".yml"):
            why = f"Unexpected pipeline file format. Support .zip, .tar.gz, .json or YAML. {filename}"
            raise UploadRefusal(400, what, why)
        given["name"] = given.get("name") or given.get("display_name") or filename
        given["code_source_url"] = call.query.get("code_source_url", "")
        given["namespace"] = call.query.get("namespace", "")
        try:
            given["tags"] = json.loads(call.query.get("tags") or "{}")
            if not all(isinstance(v, str) for v in given["tags"].values()):
                raise ValueError("a value is no string")
        except (ValueError, AttributeError) as error:
            raise UploadRefusal(
                400, "Failed to parse tags query parameter. Expected JSON object with string keys and values"
            ) from error
        return given, data

    def _pipeline(self, call: Call, given: Json) -> Json:
        namespace = given.get("namespace", "")
        namespace = self._world.admit(call.user, namespace, "create", "pipelines") if namespace else ""
        name = given.get("name") or given.get("display_name") or ""
        if not name:
            raise invalid("pipeline's name cannot be empty", "Failed to create a pipeline")
        _length("Pipeline", "Name", name)
        self._kubernetes_name(name)
        if any((p["name"], p["namespace"]) == (name, namespace) for p in self._world.pipelines.values()):
            raise Refusal(
                EXISTS,
                f"Failed to create a new pipeline. The name {name} already exists. Please specify a new name",
                "Failed to create a pipeline",
                "Already exist error",
            )
        made = {
            "pipeline_id": str(uuid.uuid4()),
            "display_name": given.get("display_name") or name,
            "name": name,
            "description": given.get("description", ""),
            "created_at": self._world.stamp(),
            "namespace": namespace,
            "tags": given.get("tags", {}),
        }
        self._world.pipelines[made["pipeline_id"]] = made
        return made

    def _version(self, pipeline: Json, given: Json, spec: Json) -> Json:
        name = given.get("name") or given.get("display_name") or ""
        _length("PipelineVersion", "Name", name)
        self._kubernetes_name(name)
        mine = [v for v in self._world.versions.values() if v["pipeline_id"] == pipeline["pipeline_id"]]
        if any(v["name"] == name for v in mine):
            raise Refusal(
                EXISTS,
                f"Failed to create a new pipeline version. The name {name} already exists. Specify a new name",
                "Failed to create a pipeline version",
                "Already exist error",
            )
        made = {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": given.get("display_name") or name,
            "name": name,
            "description": given.get("description", ""),
            "created_at": self._world.stamp(),
            "code_source_url": given.get("code_source_url", ""),
            "pipeline_spec": spec,
            "tags": given.get("tags", {}),
        }
        self._world.versions[made["pipeline_version_id"]] = made
        return made

    def _kubernetes_name(self, name: str) -> None:
        if self._world.settings.pipeline_store == "kubernetes" and not (_KUBERNETES.match(name) and len(name) < 254):
            raise Refusal(
                PRECONDITION,
                f"{name!r}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
                " '.', and must start and end with an alphanumeric character",
            )


def _length(model: str, name: str, value: str) -> None:
    limit = _LIMITS[f"{model}.{name}"]
    if len(value.encode()) > limit:
        raise invalid(f"{model}.{name} length cannot exceed {limit}")


def _of_upload(error: Refusal, what: str) -> UploadRefusal:
    """How the upload endpoints tell an error: bad input in full, a clash by its status only."""
    if error.status == 400:
        return UploadRefusal(400, error.external, error.message)
    return UploadRefusal(error.status, what, error.message)


def present(item: Json) -> Json:
    """Without what is empty, which protobuf's JSON leaves out."""
    return {name: value for name, value in item.items() if value not in ("", None, {}, [])}
