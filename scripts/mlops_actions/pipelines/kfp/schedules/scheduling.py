"""From `schedules` in `mlops.yaml` to recurring runs in Kubeflow Pipelines (KFP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ....errors import BadInput, Place
from ....inputs import kebab
from ....misfits import misfit
from ....suggest import did_you_mean
from ....waiting import Clock
from ...engine import RunRequest
from ..client.api import KfpApi
from ..names import pipeline_name
from ..publishing import adapted, publish
from ..run.runs import Runs
from ..settings import KfpSettings
from .recurring import Change, Schedule, Target, apply, plan

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
                fix = did_you_mean(key, _KEYS, "A schedule has: {}")
                raise BadInput(f"`schedules`: `{name}.{key}` is unknown", fix=fix, place=place)
        try:
            given = {_KEYS[key]: item for key, item in value.items()}
            wanted.append(schedule.validate_python({**given, "name": name, "place": place}))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([name, *(kebab(str(part)) for part in first["loc"])])
            raise BadInput(f"`schedules`: {misfit(where, first)}", place=place) from None
    return wanted


def schedule(
    api: KfpApi,
    request: RunRequest,
    settings: KfpSettings,
    wanted: list[Schedule],
    clock: Clock,
    *,
    repository: str,
    change: bool,
) -> list[Change]:
    """Let KFP have the schedules that are wanted for this pipeline, and no other of this repository.

    Args:
        api: of KFP.
        request: the run that has passed: its version is the one that the schedules start.
        settings: how runs are started.
        wanted: the schedules.
        clock: for pauses.
        repository: to whom they belong.
        change: whether anything may be changed; otherwise it is only looked at what would be.

    Raises:
        BadInput, ApiError: as `recurring.plan` and `recurring.apply`.
    """
    if not change:  # nothing is uploaded either: the next version is not known yet
        name = pipeline_name(request.pipeline.name)
        target = Target(f"{repository}/{name}", name, "", "a new one", "", "", request.pipeline.parameters)
        return plan(api, wanted, target)
    pipeline = adapted(request.pipeline, settings, cache=settings.inputs.cache)
    published = publish(api, pipeline, settings, cache=settings.inputs.cache, clock=clock)
    target = Target(
        scope=f"{repository}/{published.pipeline}",
        pipeline=published.pipeline,
        pipeline_id=published.pipeline_id,
        version=published.version,
        version_id=published.version_id,
        experiment_id=Runs(api, settings, request.key, clock).experiment(published.pipeline),
        declared=request.pipeline.parameters,
        service_account=settings.inputs.service_account,
        pipeline_root=settings.inputs.pipeline_root,
    )
    return apply(api, wanted, target, clock=clock)
