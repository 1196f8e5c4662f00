"""Schedules: the recurring runs of Kubeflow Pipelines (KFP) that a repository wants, and no others of it.

A recurring run cannot be changed, so one that no longer fits is replaced: the new one is made disabled, the old one is
deleted, the new one is enabled. Cut anywhere, the next `apply` goes on from there: ours are known by a mark in their
description, and what fits is kept. A time that comes while the two change places may start a run twice or not at all.

They are pinned to the version that passed, and replaced at each new one. KFP can also take the latest version at each
time, but that is whatever was uploaded last, a pull request's trial included.

What a new one must not do is to begin anew: KFP counts an interval from a recurring run's start or creation, so that an
interval of a day would never end where versions come twice a day, and it makes up for all times since a start that is
past. So a replacement starts at the last point of its predecessor's grid.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote, unquote

from ....errors import BadInput, Place
from ....waiting import Clock
from ...parameters import resolve_parameters
from ...spec import Parameter
from ..client.api import ApiError, Json, KfpApi
from ..names import shortened
from ..publishing import ensured
from .cron import six_fields

_PATH = "/apis/v2beta1/recurringruns"
_MOST_AT_ONCE = 10  # KFP's own limit
_MARK = re.compile(r"^mlops-actions schedule=(\S+) of=(\S+) version=(\S*) digest=(\S+)$", re.MULTILINE)

Action = Literal["create", "replace", "enable", "disable", "delete", "same"]


@dataclass(frozen=True)
class Schedule:
    """When a pipeline is to run.

    Attributes:
        name: of letters, digits, `.`, `_` and `-`.
        cron: five fields as in GitHub's workflows, or KFP's six with seconds first, or `@daily` and the like; in the
            time zone of KFP's controller, which is UTC unless it was set up otherwise.
        every: seconds between two runs; either this or `cron`.
        start, end: when it begins and ends; the first interval ends that much after the start.
        concurrency: how many of its runs may go on at a time, 1 to 10.
        catch_up: whether times that were missed are made up for, one by one; otherwise only the last of them is.
        enabled: whether it runs at all.
        parameters: of the pipeline.
        place: where it is written.
    """

    name: str
    cron: str = ""
    every: int = 0
    start: datetime | None = None
    end: datetime | None = None
    concurrency: int = 1
    catch_up: bool = False
    enabled: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Target:
    """What schedules start.

    Attributes:
        scope: to whom the schedules belong, such as `owner/name/pipeline`: others' are never touched.
        pipeline, version: names in KFP.
        pipeline_id, version_id, experiment_id: KFP's.
        declared: the pipeline's parameters.
        service_account, pipeline_root: of the runs; "" for KFP's own.
    """

    scope: str
    pipeline: str
    pipeline_id: str
    version: str
    version_id: str
    experiment_id: str
    declared: Mapping[str, Parameter] = field(default_factory=dict)
    service_account: str = ""
    pipeline_root: str = ""


@dataclass(frozen=True)
class Change:
    """What is to be done about one schedule.

    Attributes:
        action: what.
        schedule: its name.
        why: what differs, for people.
        wanted: the schedule; None when it goes.
        kept: id of the recurring run that fits; "" when there is none.
        stale: ids of those that go.
        earlier: the one whose grid a new one takes over.
    """

    action: Action
    schedule: str
    why: tuple[str, ...] = ()
    wanted: Schedule | None = None
    kept: str = ""
    stale: tuple[str, ...] = ()
    earlier: Json | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """One line of the table."""
        return f"{self.action:<8} {self.schedule}" + (f": {'; '.join(self.why)}" if self.why else "")


def checked(wanted: Sequence[Schedule], target: Target, *, now: datetime | None = None) -> list[Schedule]:
    """The schedules as KFP takes them: six fields of cron, a value of the right type for each parameter.

    Raises:
        BadInput: a name appears twice, a cron is none, an end is before its start or past, a parameter is unknown.
    """
    found: dict[str, Schedule] = {}
    for schedule in wanted:
        if schedule.name in found:
            raise BadInput(f"The schedule {schedule.name!r} appears twice", fix="Name each once", place=schedule.place)
        found[schedule.name] = _checked(schedule, target, now or datetime.now(timezone.utc))
    return list(found.values())


def plan(api: KfpApi, wanted: Sequence[Schedule], target: Target, *, now: datetime | None = None) -> list[Change]:
    """What is to be done so that KFP has the schedules that are wanted, and no other of this scope.

    Raises:
        BadInput: as for `checked`.
        ApiError: KFP refuses or fails.
    """
    ours: dict[str, list[Json]] = {}
    for item in _ours(api, target):
        ours.setdefault(_marked(item)["schedule"], []).append(item)
    changes = [_change(schedule, target, ours.pop(schedule.name, [])) for schedule in checked(wanted, target, now=now)]
    for name, items in ours.items():
        gone = tuple(str(item["recurring_run_id"]) for item in items)
        changes.append(Change("delete", name, ("it is no longer wanted",), stale=gone))
    return changes


def apply(
    api: KfpApi,
    wanted: Sequence[Schedule],
    target: Target,
    *,
    clock: Clock = Clock(),  # noqa: B008 - it has no state
    now: datetime | None = None,
) -> list[Change]:
    """Let KFP have the schedules that are wanted; gives what had to be done.

    Raises:
        BadInput, ApiError: as for `plan`.
    """
    now = now or datetime.now(timezone.utc)
    changes = plan(api, wanted, target, now=now)
    missing = [change for change in changes if change.wanted is not None and not change.kept]
    for change in missing:
        _create(api, change, target, clock, now)
    # Seen again, for somebody else may have made the same ones meanwhile: of those that fit all keep the same one.
    for change in plan(api, wanted, target, now=now) if missing else changes:
        for stale in change.stale:
            _delete(api, stale)
        if change.wanted is not None and change.action != "same":
            verb = "enable" if change.wanted.enabled else "disable"
            api.post(f"{_PATH}/{change.kept}:{verb}", again=True)
    return changes


def _checked(schedule: Schedule, target: Target, now: datetime) -> Schedule:
    def bad(why: str, fix: str) -> BadInput:
        return BadInput(f"Cannot use the schedule {schedule.name!r}: {why}", fix=fix, place=schedule.place)

    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", schedule.name, re.ASCII):
        raise bad("its name is not allowed", "Use up to 63 letters, digits, `.`, `_` and `-`")
    if bool(schedule.cron) == bool(schedule.every):
        raise bad("it has " + ("both a cron and an interval" if schedule.cron else "no time"), "Set `cron` or `every`")
    if schedule.every < 0:
        raise bad("its interval is negative", "Set `every` to the time between two runs")
    try:
        cron = six_fields(schedule.cron) if schedule.cron else ""
    except ValueError as error:
        raise bad(f"in the cron {schedule.cron!r}, {error}", "Correct `cron`") from None
    for name, moment in (("start", schedule.start), ("end", schedule.end)):
        if moment is not None and moment.tzinfo is None:
            raise bad(f"its {name} has no time zone", f"Write it as {moment.isoformat(timespec='seconds')}Z")
    if schedule.end is not None and schedule.end <= (schedule.start or schedule.end - timedelta(1)):
        raise bad("it ends before it starts", "Correct `start` or `end`")
    if schedule.end is not None and schedule.end <= now and schedule.enabled:
        raise bad("its end is past", "Remove it, set `enabled: false`, or correct `end`")
    if not 1 <= schedule.concurrency <= _MOST_AT_ONCE:
        raise bad(f"{schedule.concurrency} runs at a time", f"Set `concurrency` to 1-{_MOST_AT_ONCE}")
    parameters = resolve_parameters(target.declared, schedule.parameters, target.pipeline, schedule.place)
    return replace(schedule, cron=cron, parameters=parameters)


def _ours(api: KfpApi, target: Target) -> Iterator[Json]:
    """The recurring runs with the mark of the scope, oldest first; a copy that a person made has another name."""
    found = []
    for item in api.pages(_PATH, "recurringRuns", namespace=api.namespace or None):
        mark = _marked(item)
        if (
            mark
            and mark["of"] == _quoted(target.scope)
            and item.get("display_name") == _title(target, mark["schedule"])
        ):
            found.append(item)
    yield from sorted(found, key=lambda item: (str(item.get("created_at", "")), str(item["recurring_run_id"])))


def _change(schedule: Schedule, target: Target, ours: Sequence[Json]) -> Change:
    """What is to be done about a schedule, with those of its name."""
    differences = [_differences(item, schedule, target) for item in ours]
    fit = next((item for item, found in zip(ours, differences) if not found), None)
    stale = tuple(str(item["recurring_run_id"]) for item in ours if item is not fit)
    if fit is None:
        action: Action = "replace" if ours else "create"
        why = tuple(differences[-1]) if ours else ()
        return Change(action, schedule.name, why, schedule, stale=stale, earlier=ours[-1] if ours else None)
    kept = str(fit["recurring_run_id"])
    if stale:
        return Change("replace", schedule.name, ("it had been left twice",), schedule, kept, stale)
    if _is_enabled(fit) != schedule.enabled:
        action, state = ("enable", "disabled") if schedule.enabled else ("disable", "enabled")
        return Change(action, schedule.name, (f"it is {state}",), schedule, kept)
    return Change("same", schedule.name, wanted=schedule, kept=kept)


def _differences(item: Json, schedule: Schedule, target: Target) -> list[str]:
    """In what a recurring run is not what is wanted.

    The digest in its mark says all that it was made of; what KFP shows is compared as well, because it can be changed
    in the cluster, and because people want to know what differs.
    """
    mark, found = _marked(item), []
    version = str((item.get("pipeline_version_reference") or {}).get("pipeline_version_id") or "")
    if version != target.version_id:
        found.append(f"the version is {target.version or target.version_id}, not {unquote(mark['version']) or version}")
    wanted, there = _shown(_body(schedule, target, None)), _shown(item)
    for name, value in wanted.items():
        if value != there[name]:
            found.append(f"{name} {_short(value)}, not {_short(there[name])}")
    if not found and mark["digest"] != _digest(schedule, target):
        found.append("the start or another setting that KFP does not show has changed")
    return found


def _shown(item: Json) -> dict[str, Any]:
    """What can be compared of a recurring run, in the words of the file. Values may be left out when they are zero."""
    trigger = item.get("trigger") or {}
    cron, periodic = trigger.get("cron_schedule") or {}, trigger.get("periodic_schedule") or {}
    return {
        "cron": cron.get("cron") or "",
        "every": int(periodic.get("interval_second") or 0),
        "end": _moment((cron or periodic).get("end_time")),
        "concurrency": int(item.get("max_concurrency") or 1),
        "catch-up": not item.get("no_catchup", False),
        "parameters": (item.get("runtime_config") or {}).get("parameters") or {},
    }


def _body(schedule: Schedule, target: Target, start: datetime | None) -> Json:
    """A recurring run as it is created: disabled."""
    times = {"start_time": _text(start), "end_time": _text(schedule.end)}
    times = {name: time for name, time in times.items() if time}
    trigger: Json = (
        {"cron_schedule": {"cron": schedule.cron, **times}}
        if schedule.cron
        else {"periodic_schedule": {"interval_second": str(schedule.every), **times}}
    )
    runtime: Json = {"parameters": dict(schedule.parameters)}
    if target.pipeline_root:
        runtime["pipeline_root"] = target.pipeline_root
    body: Json = {
        "display_name": _title(target, schedule.name),
        "experiment_id": target.experiment_id,
        "pipeline_version_reference": {
            "pipeline_id": target.pipeline_id,
            "pipeline_version_id": target.version_id,
        },
        "runtime_config": runtime,
        "trigger": trigger,
        "max_concurrency": str(schedule.concurrency),
        "no_catchup": not schedule.catch_up,
        "mode": "DISABLE",
    }
    return {**body, "service_account": target.service_account} if target.service_account else body


def _create(api: KfpApi, change: Change, target: Target, clock: Clock, now: datetime) -> None:
    schedule = change.wanted
    assert schedule is not None
    digest = _digest(schedule, target)
    mark = f"mlops-actions schedule={schedule.name} of={_quoted(target.scope)}"
    mark += f" version={quote(target.version, safe='')} digest={digest}"
    body = {**_body(schedule, target, _start(schedule, change.earlier, now)), "description": mark}

    def find() -> Json | None:
        items = (item for item in _ours(api, target) if str(item["recurring_run_id"]) not in change.stale)
        return next((item for item in items if _marked(item)["digest"] == digest), None)

    ensured(find, lambda: api.post(_PATH, body), clock)


def _start(schedule: Schedule, earlier: Json | None, now: datetime) -> datetime | None:
    """When a new recurring run starts: as is wanted the first time, at the last point of the grid when it replaces one.

    None is its creation.
    """
    start = schedule.start
    if start is not None and start > now:
        return start
    first = earlier is None and schedule.catch_up
    if schedule.cron:
        return start if first else None
    anchor = start or (_anchor(earlier) if earlier else None)
    if anchor is None or first:
        return start
    interval = timedelta(seconds=schedule.every)
    return anchor + interval * ((now - anchor) // interval)


def _anchor(item: Json) -> datetime | None:
    """A point of the grid of a recurring run with an interval: its start, or its creation."""
    periodic = (item.get("trigger") or {}).get("periodic_schedule") or {}
    return _moment(periodic.get("start_time")) or _moment(item.get("created_at"))


def _delete(api: KfpApi, identity: str) -> None:
    try:
        api.delete(f"{_PATH}/{identity}")
    except ApiError as error:
        if error.status != 404:  # somebody else was faster
            raise


def _is_enabled(item: Json) -> bool:
    """KFP's `status` is what its controller has seen, a little later than `mode`."""
    mode = item.get("mode")
    return bool(mode == "ENABLE" if mode in ("ENABLE", "DISABLE") else item.get("status") == "ENABLED")


def _digest(schedule: Schedule, target: Target) -> str:
    """Of all that makes a recurring run, but whether it is enabled."""
    whole = [_body(schedule, target, schedule.start), target.scope]
    return f"sha256:{hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()}"


def _marked(item: Json) -> dict[str, str]:
    """The mark in a recurring run's description; empty when it is not ours."""
    found = _MARK.search(str(item.get("description") or ""))
    return dict(zip(("schedule", "of", "version", "digest"), found.groups())) if found else {}


def _title(target: Target, name: str) -> str:
    return shortened(f"{target.pipeline}-{name}")


def _quoted(scope: str) -> str:
    return quote(scope, safe="/")


def _text(moment: datetime | None) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else ""


def _moment(text: object) -> datetime | None:
    """A time as KFP writes it; None for none, which may be written as the first moment of 1970."""
    if not isinstance(text, str) or not text:
        return None
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")  # Python 3.10 reads no nanoseconds
    moment = datetime.fromisoformat(whole)
    return moment if moment.timestamp() > 0 else None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"`{text[:77] + '…' if len(text) > 78 else text}`"
