"""Runs (run_server.go, resource_manager.go, template/v2_template.go)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from . import listing
from .catalog import Call, Catalog, check_spec, present
from .nodes import timestamp
from .refusals import ABORTED, Refusal, invalid, not_found
from .workflow import Workflow
from .world import FINAL_STATES, UNFINISHED, Json, Run, World

_TYPES: dict[str, tuple[type, ...]] = {
    "NUMBER_DOUBLE": (int, float), "NUMBER_INTEGER": (int, float), "STRING": (str,), "BOOLEAN": (bool,),
    "LIST": (list,), "STRUCT": (dict,),
}  # fmt: skip


class Runs:
    """The operations.

    Args:
        start: executes a run, or goes on with one that is retried; returns at once.
    """

    def __init__(self, world: World, catalog: Catalog, start: Callable[[Run], None]) -> None:
        self._world, self._catalog, self._start = world, catalog, start

    def create(self, call: Call) -> Json:
        """RunService_CreateRun."""
        return self.show(self.new(call, call.body))

    def new(self, call: Call, given: Json, recurring: Json | None = None) -> Run:
        """A run that starts now.

        Args:
            call: who asks.
            given: the fields of a Run.
            recurring: the recurring run that it comes from, with the time it is for under `scheduled_at`.
        """
        what = "Failed to create a run"
        name = given.get("display_name", "")
        if not name:
            raise invalid("The run name is empty. Please specify a valid name", what)
        experiment = self._catalog.experiment(call, given.get("experiment_id", ""), "get")
        if experiment["storage_state"] == "ARCHIVED":
            raise invalid(f"experiment {experiment['experiment_id']} is archived", what)
        self._world.admit(call.user, experiment["namespace"], "create", "runs")
        reference, spec, platforms = self._source(call, given, what)
        config = given.get("runtime_config", {})
        parameters = check_parameters(spec, config.get("parameters", {}), what)
        now = self._world.now()
        fields = {
            "experiment_id": experiment["experiment_id"],
            "run_id": str(uuid.uuid4()),
            "display_name": name,
            "storage_state": "AVAILABLE",
            "description": given.get("description", ""),
            "pipeline_version_reference": reference,
            "pipeline_spec": {} if reference else given["pipeline_spec"],
            "runtime_config": config,
            "service_account": given.get("service_account") or "pipeline-runner",
            "created_at": timestamp(now),
            "scheduled_at": (recurring or {}).get("scheduled_at", timestamp(now)),
            "recurring_run_id": (recurring or {}).get("recurring_run_id", ""),
        }
        root = config.get("pipeline_root") or spec.get("defaultPipelineRoot") or self._world.settings.pipeline_root
        run = Run(
            fields,
            spec,
            experiment["namespace"] or self._world.settings.namespace,
            Workflow(spec, self._world.now, self._world.settings.retries),
            f"{root.rstrip('/')}/{spec['pipelineInfo']['name']}/{fields['run_id']}",
            parameters,
            [(now, "PENDING")],
            platforms=platforms,
        )
        self._world.runs[run.id] = run
        experiment["last_run_created_at"] = timestamp(now)
        self._start(run)
        return run

    def get(self, call: Call) -> Json:
        """RunService_GetRun."""
        return self.show(self.run(call, "get"))

    def list(self, call: Call) -> Json:
        """RunService_ListRuns."""
        identity, namespace = call.query.get("experiment_id", ""), call.query.get("namespace", "")
        if identity:
            self._catalog.experiment(call, identity, "get")
        elif namespace or self._world.settings.users is not None:
            namespace = self._world.admit(call.user, namespace, "list", "runs")
        now = self._world.now()
        runs = [
            {**run.fields, "namespace": run.namespace, "state": run.state(now), "_": run}
            for run in self._world.runs.values()
            if (not identity or run.fields["experiment_id"] == identity)
            and (not namespace or run.namespace == namespace)
        ]
        return listing.page(runs, call.query, listing.RUN, "runs", lambda item: self.show(item["_"]))

    def archive(self, call: Call) -> Json:
        """RunService_ArchiveRun."""
        self.run(call, "archive").fields["storage_state"] = "ARCHIVED"
        return {}

    def unarchive(self, call: Call) -> Json:
        """RunService_UnarchiveRun."""
        self.run(call, "unarchive").fields["storage_state"] = "AVAILABLE"
        return {}

    def delete(self, call: Call) -> Json:
        """RunService_DeleteRun: its workflow goes too, and with that what is at work."""
        run = self.run(call, "delete")
        run.stopping.set()
        del self._world.runs[run.id]
        return {}

    def terminate(self, call: Call) -> Json:
        """RunService_TerminateRun."""
        run = self.run(call, "terminate")
        if run.state(self._world.now()) in FINAL_STATES:
            raise invalid(f"Failed to terminate run {run.id}. Row not found", f"Failed to terminate run {run.id}")
        run.states.append((self._world.now(), "CANCELING"))
        run.stopping.set()
        return {}

    def retry(self, call: Call) -> Json:
        """RunService_RetryRun: from the tasks that failed."""
        run = self.run(call, "retry")
        what = f"Failed to retry run {run.id}"
        if run.fields["storage_state"] == "ARCHIVED":
            raise Refusal(ABORTED, f"Failed to retry run {run.id} as it is archived", what, "BadRequestError")
        if run.state(self._world.now()) != "FAILED":
            raise Refusal(ABORTED, "Workflow must be Failed/Error to retry", what, "BadRequestError")
        run.workflow.retry()
        run.kept = {task: kept for task, kept in run.kept.items() if run.workflow.has(task)}
        run.finished, run.attempt = 0.0, run.attempt + 1
        run.stopping.clear()
        run.states.append((self._world.now(), "RUNNING"))
        self._start(run)
        return {}

    def run(self, call: Call, verb: str) -> Run:
        """A run that the caller may see."""
        identity = call.path["run_id"]
        found = self._world.runs.get(identity)
        if found is None:
            raise not_found("Run", identity, f"Failed to {verb} a run", f"Failed to fetch run {identity}")
        if self._world.settings.users is not None:
            self._world.admit(call.user, found.namespace, verb, "runs")
        return found

    def show(self, run: Run) -> Json:
        """As the API shows it now."""
        world = self._world
        now = world.now()
        states = [(time, state) for time, state in run.states if time <= now]
        state = world.forced.get((run.id, "")) or world.forced.get(("", "")) or states[-1][1]
        finished = run.finished and run.finished + world.lag <= now and state in FINAL_STATES
        details = _bent(run.workflow.details(run.id, now - world.lag - self._late()), world.details_mode)
        for (only, task), forced in world.forced.items():
            if task and only in ("", run.id):
                details = [d | ({"state": forced} if d.get("display_name") == task else {}) for d in details]
        return present(
            {
                **run.fields,
                "state": state,
                "state_history": [{"update_time": timestamp(time), "state": name} for time, name in states],
                "finished_at": timestamp(run.finished) if finished else UNFINISHED,
                "run_details": {"task_details": details} if details else {},
            }
        )

    def _late(self) -> float:
        return self._world.details_seconds if self._world.details_mode == "late" else 0.0

    def _source(self, call: Call, given: Json, what: str) -> tuple[Json, Json, Json]:
        """The reference to a version that the run is of, or {}, the spec, and the settings for platforms."""
        asked = given.get("pipeline_version_reference")
        if asked:
            version = self._catalog.version(
                call, asked.get("pipeline_id", ""), asked.get("pipeline_version_id", ""), "get"
            )
            reference = {name: version[name] for name in ("pipeline_id", "pipeline_version_id")}
            whole = version["pipeline_spec"]
        elif given.get("pipeline_spec"):
            inline = given["pipeline_spec"]
            whole = inline if "pipeline_spec" in inline else {"pipeline_spec": inline}
            check_spec(whole["pipeline_spec"])
            reference = {}
        else:
            raise invalid("Failed to fetch a template with an empty pipeline spec manifest", what)
        return reference, whole["pipeline_spec"], whole.get("platform_spec", {}).get("platforms", {})


def check_parameters(spec: Mapping[str, Any], given: Mapping[str, Any], what: str) -> Json:
    """The parameters of a run: what is given, over the pipeline's defaults.

    Raises:
        Refusal: one is unknown, missing or of another type.
    """
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    made: Json = {}
    for name, value in given.items():
        if name not in declared:
            raise invalid(f"parameter {name} is not defined by the pipeline", what)
        kind = declared[name].get("parameterType", "STRING")
        wrong = not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN")
        if wrong or (kind == "NUMBER_INTEGER" and value != int(value)):
            raise invalid(f"input parameter {name} requires type {kind}, but the parameter value is not of it", what)
        made[name] = value
    for name, entry in declared.items():
        if name not in made and "defaultValue" in entry:
            made[name] = entry["defaultValue"]
        elif name not in made and not entry.get("isOptional"):
            raise invalid(
                f"parameter {name} is not optional, yet has neither default value nor user provided value", what
            )
    return made


def _bent(details: list[Json], mode: str) -> list[Json]:
    if mode == "duplicate":
        return [detail for detail in details for _ in range(2)]
    if mode == "nameless":
        return [{k: v for k, v in detail.items() if k != "display_name"} for detail in details]
    return [] if mode == "absent" else details
