"""Recurring runs (recurring_run_server.go, and the ScheduledWorkflow controller's util/scheduled_workflow.go)."""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any

from croniter import CroniterError, croniter

from mlops_actions.waiting import Clock

from . import listing
from .catalog import Call, Catalog, present
from .nodes import seconds, timestamp
from .refusals import Refusal, invalid, not_found
from .runs import Runs, check_parameters
from .world import FINAL_STATES, Json, World

_NAMED = {
    "@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}  # fmt: skip
_UNITS = {"h": 3600, "m": 60, "s": 1}
_TICK = 0.2


def cron_fields(text: str) -> str:
    """A cron expression as six fields, seconds first.

    KFP reads them with robfig/cron v1: a sixth field (the day of the week) may be left out, so five fields are no
    crontab of five fields: their first one is the second.

    Raises:
        ValueError: it is no cron expression.
    """
    fields = _NAMED.get(text, text).replace("?", "*").split()
    if len(fields) not in (5, 6):
        raise ValueError(f"Expected 5 or 6 fields, found {len(fields)}: {text}")
    six = " ".join([*fields, "*"][:6])
    try:
        croniter(six, 0, second_at_beginning=True)
    except (CroniterError, ValueError, KeyError) as error:
        raise ValueError(f"Failed to parse {text}: {error}") from error
    return six


def next_time(trigger: Json, after: float) -> float:
    """When a trigger fires next, in seconds since 1970; 0 for never any more."""
    schedule: Json = trigger.get("cron_schedule") or trigger.get("periodic_schedule") or {}
    start, end = seconds(schedule.get("start_time", "")), seconds(schedule.get("end_time", ""))
    if "cron" in schedule:
        base = max(after, start - 1)
        if every := _every(schedule["cron"]):
            found = base + every
        else:
            found = croniter(cron_fields(schedule["cron"]), base, second_at_beginning=True).get_next(float)
    else:
        found = max(after, start) + int(schedule.get("interval_second", 0))
    return 0.0 if end and found > end else found


class Schedules:
    """The operations, and the clockwork that fires them."""

    def __init__(self, world: World, catalog: Catalog, runs: Runs, clock: Clock) -> None:
        self._world, self._catalog, self._runs, self._clock = world, catalog, runs, clock
        self._last: dict[str, float] = {}
        self._fired: dict[str, int] = {}
        self._stopped = threading.Event()

    def create(self, call: Call) -> Json:
        """RecurringRunService_CreateRecurringRun."""
        given = call.body
        what = "Failed to create a recurring run"
        name, concurrency = given.get("display_name", ""), int(given.get("max_concurrency") or 0)
        if not name:
            raise invalid("Recurring run's name cannot be empty", what)
        if not 1 <= concurrency <= 10:
            raise invalid(
                f"Max concurrency of a recurring run must be at leas 1 and at most 10. Received {concurrency}", what
            )
        self._check_trigger(given.get("trigger", {}), what)
        experiment = self._catalog.experiment(call, given.get("experiment_id", ""), "get")
        spec = self._spec(call, given, what)
        check_parameters(spec, given.get("runtime_config", {}).get("parameters", {}), what)
        enabled = given.get("mode") == "ENABLE"
        made = {
            **{k: given[k] for k in _KEPT if k in given},
            "recurring_run_id": str(uuid.uuid4()),
            "service_account": given.get("service_account") or "pipeline-runner",
            "max_concurrency": str(concurrency),
            "mode": "ENABLE" if enabled else "DISABLE",
            "status": "ENABLED" if enabled else "DISABLED",
            "created_at": self._world.stamp(),
            "updated_at": self._world.stamp(),
            "namespace": experiment["namespace"] or self._world.settings.namespace,
            "experiment_id": experiment["experiment_id"],
        }
        self._world.recurring[made["recurring_run_id"]] = made
        self._last[made["recurring_run_id"]] = self._world.now()
        return present(made)

    def get(self, call: Call) -> Json:
        """RecurringRunService_GetRecurringRun."""
        return present(self._recurring(call, "get"))

    def list(self, call: Call) -> Json:
        """RecurringRunService_ListRecurringRuns."""
        identity, namespace = call.query.get("experiment_id", ""), call.query.get("namespace", "")
        if identity:
            self._catalog.experiment(call, identity, "get")
        elif namespace or self._world.settings.users is not None:
            namespace = self._world.admit(call.user, namespace, "list", "jobs")
        items = [
            item
            for item in self._world.recurring.values()
            if (not identity or item["experiment_id"] == identity) and (not namespace or item["namespace"] == namespace)
        ]
        return listing.page(items, call.query, listing.RECURRING, "recurringRuns", present)

    def delete(self, call: Call) -> Json:
        """RecurringRunService_DeleteRecurringRun."""
        del self._world.recurring[self._recurring(call, "delete")["recurring_run_id"]]
        return {}

    def enable(self, call: Call) -> Json:
        """RecurringRunService_EnableRecurringRun."""
        return self._switch(call, True)

    def disable(self, call: Call) -> Json:
        """RecurringRunService_DisableRecurringRun."""
        return self._switch(call, False)

    def run(self) -> None:
        """Fire what is due, until `stop`."""
        while not self._clock.wait(_TICK, self._stopped):
            with self._world.lock:
                self.fire()

    def stop(self) -> None:
        """Fire no more."""
        self._stopped.set()

    def fire(self) -> None:
        """Start the runs that are due now."""
        for item in list(self._world.recurring.values()):
            identity, now = item["recurring_run_id"], self._world.now()
            due = next_time(item["trigger"], self._last[identity])
            if item["status"] != "ENABLED" or not due or due > now or self._busy(item):
                continue
            if item.get("no_catchup"):  # only the latest of those that were missed
                while (later := next_time(item["trigger"], due)) and later <= now:
                    due = later
            self._last[identity] = due
            self._fired[identity] = number = self._fired.get(identity, 0) + 1
            given = {**{k: item[k] for k in _KEPT if k in item}, "experiment_id": item["experiment_id"]}
            given["display_name"] = f"{item['display_name']}-{number}-{int(due)}"
            given = {k: v for k, v in given.items() if k not in ("trigger", "no_catchup", "plugins_input")}
            given["service_account"] = item["service_account"]
            users = self._world.settings.users or {}
            user = next((u for u, names in users.items() if item["namespace"] in names), "")
            source = {"recurring_run_id": identity, "scheduled_at": timestamp(due)}
            try:
                self._runs.new(Call(user=user), given, source)
            except Refusal:  # its pipeline is gone: the controller tries again at the next time
                item["status"] = "STATUS_UNSPECIFIED"

    def _busy(self, item: Json) -> bool:
        now = self._world.now()
        mine = [r for r in self._world.runs.values() if r.fields["recurring_run_id"] == item["recurring_run_id"]]
        return sum(run.state(now) not in FINAL_STATES for run in mine) >= int(item["max_concurrency"])

    def _switch(self, call: Call, on: bool) -> Json:
        found = self._recurring(call, "enable" if on else "disable")
        found["mode"], found["status"] = ("ENABLE", "ENABLED") if on else ("DISABLE", "DISABLED")
        found["updated_at"] = self._world.stamp()
        return {}

    def _recurring(self, call: Call, verb: str) -> Json:
        identity = call.path["recurring_run_id"]
        found = self._world.recurring.get(identity)
        if found is None:
            raise not_found("Job", identity, f"Failed to {verb} a recurring run")
        if self._world.settings.users is not None:
            self._world.admit(call.user, found["namespace"], verb, "jobs")
        return found

    def _spec(self, call: Call, given: Json, what: str) -> Any:
        if asked := given.get("pipeline_version_reference"):
            version = self._catalog.version(
                call, asked.get("pipeline_id", ""), asked.get("pipeline_version_id", ""), "get"
            )
            return version["pipeline_spec"]["pipeline_spec"]
        if given.get("pipeline_spec"):
            return given["pipeline_spec"].get("pipeline_spec", given["pipeline_spec"])
        raise invalid("Failed to fetch a template with an empty pipeline spec manifest", what)

    def _check_trigger(self, trigger: Json, what: str) -> None:
        if cron := trigger.get("cron_schedule", {}).get("cron"):
            try:
                if not _every(cron):
                    cron_fields(cron)
            except ValueError as error:
                link = "https://godoc.org/github.com/robfig/cron"
                raise invalid(f"Schedule cron is not a supported format({link}). Error: {error}", what) from error
        periodic = trigger.get("periodic_schedule")
        if periodic is not None and int(periodic.get("interval_second") or 0) < 1:
            interval = periodic.get("interval_second", "0")
            raise invalid(f"Found invalid period schedule interval {interval}. Set at interval to least 1 second", what)
        if not cron and periodic is None:
            raise invalid("A trigger of a recurring run must have a schedule", what)


_KEPT = (
    "display_name", "description", "pipeline_spec", "pipeline_version_reference", "runtime_config", "trigger",
    "no_catchup", "plugins_input",
)  # fmt: skip


def _every(cron: str) -> int:
    """The seconds of `@every 1h30m`; 0 when it is something else."""
    found = re.fullmatch(r"@every ((?:\d+[hms])+)", cron)
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([hms])", found[1])) if found else 0
