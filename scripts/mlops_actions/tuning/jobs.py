"""The Kubernetes Job of a trial, field by field, for the engine that runs its primary container on this machine.

Every field that a Job (batch/v1) may have is here, so that an unknown one is a spelling mistake and is refused. A field
that is not supported here is marked: one that is `_refused` ends the command when it is given, one that is `_ignored`
is said aloud, and one that is `_for_containers` is said aloud unless trials are containers, which honour it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from .experiment import ObjectMeta, Part, Path

Mark = Literal["refused", "ignored", "for-containers"]


def _refused(why: str) -> Any:
    return Field(None, json_schema_extra={"refused": why})


def _ignored(why: str) -> Any:
    return Field(None, json_schema_extra={"ignored": why})


def _for_containers(why: str) -> Any:
    return Field(None, json_schema_extra={"for-containers": why})


class EnvironmentVariable(Part):
    """A variable of a container."""

    name: str = Field(min_length=1)
    value: str = ""
    value_from: Any = _refused("the values of secrets, config maps and fields are known only in a cluster")


class Resources(Part):
    """What a container may use and what it asks for: quantities by resource, as Kubernetes writes them."""

    limits: dict[str, str | int | float] = Field({})
    requests: dict[str, str | int | float] = Field({})
    claims: Any = _refused("devices are claimed in a cluster")


class Container(Part):
    """A container of the trial's pod, of which the primary one is run."""

    name: str
    image: str = ""
    command: list[str] = Field([])
    args: list[str] = Field([])
    env: list[EnvironmentVariable] = Field([])
    working_dir: str = ""
    resources: Resources | None = _for_containers("the trial may use what this machine has")
    env_from: Any = _refused("config maps and secrets are in a cluster")
    volume_mounts: Any = _refused("volumes are in a cluster")
    volume_devices: Any = _refused("volumes are in a cluster")
    lifecycle: Any = _refused("hooks are run by a cluster")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    termination_message_path: Any = None
    termination_message_policy: Any = None
    ports: Any = _ignored("a trial opens what it opens")
    security_context: Any = _ignored("a trial has the rights that it gets here")
    liveness_probe: Any = _ignored("nothing probes a trial")
    readiness_probe: Any = _ignored("nothing probes a trial")
    startup_probe: Any = _ignored("nothing probes a trial")
    stdin: Any = _ignored("a trial's input is empty")
    stdin_once: Any = _ignored("a trial's input is empty")
    tty: Any = _ignored("a trial has no terminal")


class Pod(Part):
    """The pod of a trial."""

    containers: list[Container] = Field(min_length=1)
    restart_policy: Literal["Never", "OnFailure"] | None = None
    init_containers: Any = _refused("other containers need a cluster")
    ephemeral_containers: Any = _refused("other containers need a cluster")
    volumes: Any = _refused("volumes are in a cluster")
    host_aliases: Any = _refused("names of hosts are those of this machine")
    active_deadline_seconds: Any = _refused("give `activeDeadlineSeconds` of the Job instead")
    termination_grace_period_seconds: Any = _ignored("a trial that must end is given 2 seconds")
    service_account_name: Any = _ignored("trials run on this machine")
    service_account: Any = _ignored("trials run on this machine")
    automount_service_account_token: Any = _ignored("trials run on this machine")
    image_pull_secrets: Any = _ignored("images are pulled with this machine's sign-in")
    security_context: Any = _ignored("a trial has the rights that it gets here")
    node_selector: Any = _ignored("trials run on this machine")
    node_name: Any = _ignored("trials run on this machine")
    affinity: Any = _ignored("trials run on this machine")
    tolerations: Any = _ignored("trials run on this machine")
    topology_spread_constraints: Any = _ignored("trials run on this machine")
    priority_class_name: Any = _ignored("trials run on this machine")
    scheduler_name: Any = _ignored("trials run on this machine")
    runtime_class_name: Any = _ignored("trials run on this machine")
    host_network: Any = _ignored("trials run on this machine")
    host_ipc: Any = Field(None, alias="hostIPC", json_schema_extra={"ignored": "trials run on this machine"})
    host_pid: Any = Field(None, alias="hostPID", json_schema_extra={"ignored": "trials run on this machine"})
    enable_service_links: Any = _ignored("trials run on this machine")
    dns_policy: Any = _ignored("names are resolved as on this machine")
    dns_config: Any = _ignored("names are resolved as on this machine")


class PodTemplate(Part):
    """The template of a trial's pod."""

    metadata: ObjectMeta = ObjectMeta()
    spec: Pod


class JobSpec(Part):
    """The specification of a trial's Job."""

    template: PodTemplate
    active_deadline_seconds: int | None = Field(None, gt=0)
    parallelism: Literal[0, 1] | None = None
    completions: Literal[1] | None = None
    backoff_limit: Any = _ignored("a failed trial is not tried again")
    backoff_limit_per_index: Any = _refused("only one pod a trial is run")
    max_failed_indexes: Any = _refused("only one pod a trial is run")
    completion_mode: Any = _refused("only one pod a trial is run")
    pod_failure_policy: Any = _refused("a trial fails when its container does")
    pod_replacement_policy: Any = _ignored("a failed trial is not tried again")
    success_policy: Any = _refused("a trial succeeds when its container does")
    selector: Any = None
    manual_selector: Any = None
    suspend: Any = _refused("a trial runs at once")
    ttl_seconds_after_finished: Any = None


class TrialJob(Part):
    """The Job that is made for each trial (`spec.trialTemplate.trialSpec`)."""

    api_version: Literal["batch/v1"]
    kind: Literal["Job"]
    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec
    status: Any = None


def marked(part: Part, mark: Mark, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The given fields with a mark, each with where it stands and why."""
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        here = (*path, info.alias or name)
        extra = info.json_schema_extra
        if value is not None and isinstance(extra, dict) and mark in extra:
            yield here, str(extra[mark])
        elif isinstance(value, Part):
            yield from marked(value, mark, here)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Part):
                    yield from marked(item, mark, (*here, index))
