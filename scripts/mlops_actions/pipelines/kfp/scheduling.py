"""From `schedules` in `mlops.yaml` to recurring runs in Kubeflow Pipelines (KFP)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...action import kebab
from ...errors import BadInput, Place
from ..engine import RunRequest, Site
from .client.api import KfpApi
from .publishing import adapted, publish
from .runs import Runs
from .schedules import Change, Schedule, Target, apply, plan

_KEYS = {kebab(field.name): field.name for field in fields(Schedule) if field.name not in ("name", "place")}


def read(values: Mapping[str, Any], place: Place | None) -> list[Schedule]:
    """The schedules that are wanted.

    Args:
        values: by name, as they are written; the keys are `Schedule`'s attributes.
        place: where.

    Raises:
        BadInput: a schedule has an unknown key, or a value of the wrong type.
    """
    schedule = TypeAdapter(Schedule)
    wanted = []
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise BadInput(f"`schedules`: `{name}` must be a mapping", fix=f"It has: {', '.join(_KEYS)}", place=place)
        for key in value:
            if key not in _KEYS:
                near = difflib.get_close_matches(str(key), _KEYS, 1)
                fix = f"Did you mean `{near[0]}`?" if near else f"A schedule has: {', '.join(_KEYS)}"
                raise BadInput(f"`schedules`: `{name}.{key}` is unknown", fix=fix, place=place)
        try:
            given = {_KEYS[key]: item for key, item in value.items()}
            wanted.append(schedule.validate_python({**given, "name": name, "place": place}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([name, *(kebab(str(part)) for part in first["loc"])])
            words = str(first["msg"]).replace("Input should", "must")
            raise BadInput(f"`schedules`: `{where}` {words[:1].lower()}{words[1:]}", place=place) from None
    return wanted


def schedule(request: RunRequest, site: Site, wanted: list[Schedule], *, repository: str, change: bool) -> list[Change]:
    """Let KFP have the schedules that are wanted for this pipeline, and no other of this repository.

    Args:
        request: the run that has passed: its version is the one that the schedules start.
        site: where it ran.
        wanted: the schedules.
        repository: to whom they belong.
        change: whether anything may be changed; otherwise it is only looked at what would be.

    Raises:
        BadInput, ApiError: as `schedules.plan` and `schedules.apply`.
    """
    assert site.kfp is not None
    settings = site.kfp
    kfp = (settings.inputs, settings.environ, settings.folder)
    api = KfpApi(*kfp, cluster=site.cluster, clock=site.clock, hide=site.hide)
    pipeline = adapted(request.pipeline, settings, cache=settings.cache)
    published = publish(api, pipeline, settings, cache=settings.cache, clock=site.clock)
    target = Target(
        scope=f"{repository}/{published.pipeline}",
        pipeline=published.pipeline,
        pipeline_id=published.pipeline_id,
        version=published.version,
        version_id=published.version_id,
        experiment_id=Runs(api, settings, request.key, site.clock).experiment(published.pipeline),
        declared=request.pipeline.parameters,
        service_account=settings.service_account,
        pipeline_root=settings.pipeline_root,
    )
    return apply(api, wanted, target, clock=site.clock) if change else plan(api, wanted, target)
