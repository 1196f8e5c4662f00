"""A pipeline in KFP: uploaded once, as a version that is found again.

A version tells its spec's digest in its description; one that somebody else uploaded is compared by its spec.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from ...errors import BadInput
from ...stores.store import STORE_KEYS
from ...waiting import Backoff, Clock
from ..spec import Pipeline
from .client.api import ApiError, Json, KfpApi
from .names import LONGEST, pipeline_name, shortened, version_name
from .settings import KfpSettings

DEFAULT_IMAGES = ("python:3.7", "python:3.8", "python:3.9", "python:3.11")
"""What the SDK, from 2.0 to 2.17, writes as the image of a component that names none."""
_PIPELINES = "/apis/v2beta1/pipelines"
_ATTEMPTS = 5
T = TypeVar("T")


@dataclass(frozen=True)
class Published:
    """A version of a pipeline in KFP.

    Attributes:
        pipeline_id, version_id: KFP's; "" where the run brings its spec itself.
        pipeline, version: their names there.
        spec: the PipelineSpec as it is there; with its platforms where the run brings it.
        reused: whether it was there before.
    """

    pipeline_id: str
    version_id: str
    pipeline: str
    version: str
    spec: Mapping[str, Any]
    reused: bool


def ensured(find: Callable[[], T | None], make: Callable[[], T], clock: Clock) -> T:
    """What is found, else made. Somebody else may make it at the same time, and an answer may get lost.

    Raises:
        ApiError: it cannot be made.
    """
    backoff, error = Backoff(), None
    for _ in range(_ATTEMPTS):
        if (found := find()) is not None:
            return found
        try:
            return make()
        except ApiError as raised:
            error = raised
            if not (raised.unsure or raised.status == 409):
                raise
        if error.unsure:
            clock.wait(backoff.pause())
    if (found := find()) is not None:
        return found
    assert error is not None
    raise error


def filtered(key: str, value: str, operation: str = "EQUALS") -> str:
    """A filter of a list: https://www.kubeflow.org/docs/components/pipelines/reference/api/kubeflow-pipeline-api-spec/"""
    return json.dumps({"predicates": [{"operation": operation, "key": key, "string_value": value}]})


def adapted(pipeline: Pipeline, settings: KfpSettings, *, cache: bool) -> Pipeline:
    """The pipeline as it is to run on this KFP.

    Its name is one that KFP allows; a pull request has one of its own, for KFP's cache is by name. Components that name
    no image get the settings' one, every container gets the settings' variables and secret that it does not set itself,
    and without `cache` no task takes an earlier result.
    """
    spec: dict[str, Any] = copy.deepcopy(dict(pipeline.spec))
    platforms: dict[str, Any] = copy.deepcopy(dict(pipeline.platforms))
    where = settings.origin.context
    name = f"{pipeline.name}-pull-{where.pull_request}" if where.pull else pipeline.name
    spec["pipelineInfo"]["name"] = pipeline_name(name)
    for label, executor in spec.get("deploymentSpec", {}).get("executors", {}).items():
        container = executor.get("container")
        if container is None:
            continue
        if settings.image and container.get("image") in DEFAULT_IMAGES:
            container["image"] = settings.image
        own = {variable["name"] for variable in container.get("env", [])}
        more = [{"name": name, "value": value} for name, value in settings.variables.items() if name not in own]
        if more:
            container["env"] = [*container.get("env", []), *more]
        if settings.inputs.store_secret:
            _give_secret(platforms, label, settings.inputs.store_secret, own)
    if not cache:
        for task in _tasks(spec):
            task.pop("cachingOptions", None)
    return dataclasses.replace(pipeline, spec=spec, platforms=platforms)


def publish(api: KfpApi, pipeline: Pipeline, settings: KfpSettings, *, cache: bool, clock: Clock) -> Published:
    """Have the pipeline as a version in KFP, which is uploaded unless it is there.

    Args:
        api: of KFP.
        pipeline: as `adapted` gives it.
        settings: have the version's name.
        cache: as for `adapted`; versions without it have names of their own.
        clock: for pauses.

    Raises:
        BadInput: the version that was named is there with another spec.
        ApiError: KFP refuses or fails.
    """
    name = pipeline.name
    found = ensured(lambda: _pipeline(api, name), lambda: _create_pipeline(api, name, settings), clock)
    return _Versions(api, pipeline, str(found["pipeline_id"]), settings, clock).publish("" if cache else "-no-cache")


def unpublished(pipeline: Pipeline) -> Published:
    """The pipeline for a run that brings its spec itself, as a pull request's does.

    Recurring runs that name no version take the latest, so that an upload would change what others use.
    """
    platforms = {"platform_spec": {"platforms": dict(pipeline.platforms)}} if pipeline.platforms else {}
    return Published("", "", pipeline.name, "", {"pipeline_spec": dict(pipeline.spec), **platforms}, False)


class _Versions:
    """The versions of one pipeline."""

    def __init__(self, api: KfpApi, pipeline: Pipeline, pipeline_id: str, settings: KfpSettings, clock: Clock) -> None:
        self._api, self._pipeline, self._id, self._settings, self._clock = api, pipeline, pipeline_id, settings, clock
        self._reused = True

    def publish(self, suffix: str) -> Published:
        """The version with the pipeline's spec."""
        settings, digits = self._settings, self._pipeline.digest.partition(":")[2]
        base = version_name(
            settings.inputs.version or settings.origin.context.tag or settings.origin.context.commit[:12] or digits[:12]
        )
        for name in (_joined(base, suffix), _joined(base, f"{suffix}-{digits[:8]}")):
            found = ensured(lambda name=name: self._find(name), lambda name=name: self._upload(name), self._clock)  # type: ignore[misc]
            if self._same(found):
                return Published(
                    self._id,
                    str(found["pipeline_version_id"]),
                    self._pipeline.name,
                    name,
                    self._pipeline.spec,
                    self._reused,
                )
            if settings.inputs.version:
                break
        raise BadInput(
            f"The pipeline {self._pipeline.name!r} has a version {name!r} with another spec",
            why=f"It was uploaded at {found.get('created_at', 'some time')}, and versions do not change",
            fix="Give another `version`, or none: then the name has the commit in it",
        )

    def _find(self, name: str) -> Json | None:
        path = f"{_PIPELINES}/{self._id}/versions"
        versions = self._api.pages(path, "pipeline_versions", filter=filtered("name", name))
        return next((v for v in versions if name in (v.get("name"), v.get("display_name"))), None)

    def _upload(self, name: str) -> Json:
        pipeline, settings = self._pipeline, self._settings
        description = "\n".join(part for part in (settings.origin.description, _mark(pipeline)) if part)
        documents = [pipeline.spec, *([{"platforms": pipeline.platforms}] if pipeline.platforms else [])]
        made = self._api.upload(
            f"{_PIPELINES}/upload_version",
            yaml.safe_dump_all(documents, sort_keys=True).encode(),
            "pipeline.yaml",
            name=name,
            pipelineid=self._id,
            description=description,
            code_source_url=settings.origin.url or None,
        )
        self._reused = False
        return made

    def _same(self, version: Json) -> bool:
        told = re.search(r"mlops-actions digest=(sha256:[0-9a-f]{64})", str(version.get("description", "")))
        if told:
            return told[1] == self._pipeline.digest
        shown = version.get("pipeline_spec") or {}
        spec = shown.get("pipeline_spec") or shown
        if "pipelineInfo" not in spec:
            return False
        platforms = (shown.get("platform_spec") or {}).get("platforms", {})
        theirs = dataclasses.replace(self._pipeline, spec=_plain(spec), platforms=_plain(platforms))
        ours = dataclasses.replace(
            self._pipeline, spec=_plain(self._pipeline.spec), platforms=_plain(self._pipeline.platforms)
        )
        return theirs.digest == ours.digest


def _pipeline(api: KfpApi, name: str) -> Json | None:
    try:
        return api.get(f"{_PIPELINES}/names/{name}", namespace=api.namespace or None)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _create_pipeline(api: KfpApi, name: str, settings: KfpSettings) -> Json:
    """The pipeline without a version: an upload would give the first version the pipeline's name."""
    body = {"display_name": name, "description": settings.origin.description, "namespace": api.namespace}
    return api.post(_PIPELINES, {field: value for field, value in body.items() if value})


def _mark(pipeline: Pipeline) -> str:
    return f"mlops-actions digest={pipeline.digest}"


def _joined(base: str, suffix: str) -> str:
    return shortened(base, LONGEST - len(suffix)) + suffix


def _tasks(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    components = spec.get("components", {})
    for dag in [spec["root"]["dag"], *(c["dag"] for c in components.values() if "dag" in c)]:
        yield from dag.get("tasks", {}).values()


def _give_secret(platforms: dict[str, Any], label: str, secret: str, own: set[str]) -> None:
    """As kfp-kubernetes' `use_secret_as_env` writes it. Optional: where it is absent, the pod's own rights must do."""
    executors = platforms.setdefault("kubernetes", {}).setdefault("deploymentSpec", {}).setdefault("executors", {})
    given = executors.setdefault(label, {}).setdefault("secretAsEnv", [])
    own = own | {pair["envVar"] for entry in given for pair in entry.get("keyToEnv", [])}
    pairs = [{"secretKey": key, "envVar": key} for key in STORE_KEYS if key not in own]
    if pairs:
        constant = {"runtimeValue": {"constant": secret}}
        given.append({"secretName": secret, "secretNameParameter": constant, "keyToEnv": pairs, "optional": True})


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them: a server's `1` is the compiler's `1.0`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
