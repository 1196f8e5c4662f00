"""Katib's Experiment (`kubeflow.org/v1beta1`) and the Kubernetes Job of its trials, field by field.

Every field that Katib knows is here, so that an unknown one is a spelling mistake and is refused. A field that the
local engine cannot honour is marked: `_refused` ends the command when it is given, `_ignored` is said aloud.
Sources: pkg/apis/controller/{experiments,common}/v1beta1 of github.com/kubeflow/katib; batch/v1 Job of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Path = tuple[str | int, ...]
"""Where a value stands in the YAML: `("spec", "parameters", 0, "name")`."""


def _refused(why: str) -> Any:
    return Field(None, json_schema_extra={"refused": why})


def _ignored(why: str) -> Any:
    return Field(None, json_schema_extra={"ignored": why})


class Part(BaseModel):
    """A mapping in the YAML: only known keys, and each value of the type that Katib's API server wants."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class Setting(Part):
    """A setting of an algorithm. Katib wants every value as text."""

    name: str
    value: str


class Algorithm(Part):
    """How the next trial's parameters are chosen."""

    algorithm_name: str
    algorithm_settings: list[Setting] = []


class MetricStrategy(Part):
    """Which of the values that a trial reported for a metric counts."""

    name: str
    value: Literal["min", "max", "latest"]


class Objective(Part):
    """What is optimised."""

    type: Literal["minimize", "maximize"]
    goal: float | None = None
    objective_metric_name: str = Field(min_length=1)
    additional_metric_names: list[str] = []
    metric_strategies: list[MetricStrategy] = []

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics; the objective is the first."""
        return [self.objective_metric_name, *self.additional_metric_names]

    def strategy(self, metric: str) -> Literal["min", "max", "latest"]:
        """Which value of a metric counts: as given, or the best by the objective's type, as Katib's defaulter sets."""
        given = {strategy.name: strategy.value for strategy in self.metric_strategies}
        return given.get(metric, "min" if self.type == "minimize" else "max")

    def better(self, value: float, than: float) -> bool:
        """Whether a value of the objective is strictly better than another."""
        return value < than if self.type == "minimize" else value > than

    def reached(self, value: float) -> bool:
        """Whether a value of the objective meets the goal."""
        return self.goal is not None and not self.better(self.goal, value)


class FeasibleSpace(Part):
    """The values that a parameter may take. Katib wants each as text."""

    min: str | None = None
    max: str | None = None
    step: str | None = None
    values: list[str] | None = Field(None, alias="list")
    distribution: Literal["uniform", "logUniform", "normal", "logNormal"] | None = None


class Parameter(Part):
    """A hyperparameter of the search space."""

    name: str = Field(min_length=1)
    parameter_type: Literal["double", "int", "discrete", "categorical"]
    feasible_space: FeasibleSpace


class TrialParameter(Part):
    """A name in the trial template (`${trialParameters.name}`) and the parameter or metadata that it stands for."""

    name: str = Field(min_length=1)
    description: str = ""
    reference: str = Field(min_length=1)


class Filter(Part):
    """Regular expressions with a group for a metric's name and one for its value."""

    metrics_format: list[str] = []


class Source(Part):
    """Where metrics are read from."""

    http_get: Any = _refused("metrics are read from the trial's output, not over HTTP")
    file_system_path: Any = _refused("metrics are read from the trial's output, not from a file")
    filter: Filter | None = None


class Collector(Part):
    """Which of Katib's metrics collectors is used."""

    kind: Literal["StdOut", "File", "TensorFlowEvent", "PrometheusMetric", "Custom", "None", "Push"] = "StdOut"
    custom_collector: Any = _refused("the container of a custom collector cannot run without a cluster")


class MetricsCollector(Part):
    """How a trial's metrics are collected."""

    source: Source | None = None
    collector: Collector = Collector()

    @property
    def formats(self) -> list[str]:
        """The custom formats; empty for Katib's default."""
        return self.source.filter.metrics_format if self.source and self.source.filter else []


class EnvironmentVariable(Part):
    """A variable of a container."""

    name: str = Field(min_length=1)
    value: str = ""
    value_from: Any = _refused("the values of secrets, config maps and fields are known only in a cluster")


class Container(Part):
    """A container of the trial's pod, of which the primary one is run as a process."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[EnvironmentVariable] = []
    working_dir: str = ""
    resources: Any = _ignored("the trial may use what this machine has")
    env_from: Any = _refused("config maps and secrets are in a cluster")
    volume_mounts: Any = _refused("volumes are in a cluster")
    volume_devices: Any = _refused("volumes are in a cluster")
    lifecycle: Any = _refused("hooks are run by a cluster")
    image_pull_policy: Any = None
    termination_message_path: Any = None
    termination_message_policy: Any = None
    ports: Any = _ignored("the process opens what it opens")
    security_context: Any = _ignored("the process has the rights of this one")
    liveness_probe: Any = _ignored("nothing probes the process")
    readiness_probe: Any = _ignored("nothing probes the process")
    startup_probe: Any = _ignored("nothing probes the process")
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
    termination_grace_period_seconds: Any = _ignored("a process that must end is given 2 seconds")
    service_account_name: Any = _ignored("there is no cluster")
    service_account: Any = _ignored("there is no cluster")
    automount_service_account_token: Any = _ignored("there is no cluster")
    image_pull_secrets: Any = _ignored("no image is pulled")
    security_context: Any = _ignored("the process has the rights of this one")
    node_selector: Any = _ignored("trials run on this machine")
    node_name: Any = _ignored("trials run on this machine")
    affinity: Any = _ignored("trials run on this machine")
    tolerations: Any = _ignored("trials run on this machine")
    topology_spread_constraints: Any = _ignored("trials run on this machine")
    priority_class_name: Any = _ignored("trials run on this machine")
    scheduler_name: Any = _ignored("trials run on this machine")
    runtime_class_name: Any = _ignored("no container is run")
    host_network: Any = _ignored("a process has this machine's network")
    host_ipc: Any = Field(None, alias="hostIPC", json_schema_extra={"ignored": "trials run on this machine"})
    host_pid: Any = Field(None, alias="hostPID", json_schema_extra={"ignored": "trials run on this machine"})
    enable_service_links: Any = _ignored("there is no cluster")
    dns_policy: Any = _ignored("names are resolved as on this machine")
    dns_config: Any = _ignored("names are resolved as on this machine")


class ObjectMeta(Part):
    """Metadata of a Kubernetes object. What only the server writes may be there and means nothing."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    finalizers: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    self_link: Any = None


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
    pod_failure_policy: Any = _refused("a trial fails when its process does")
    pod_replacement_policy: Any = _ignored("a failed trial is not tried again")
    success_policy: Any = _refused("a trial succeeds when its process does")
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


class TrialTemplate(Part):
    """What a trial runs."""

    primary_container_name: str = Field(min_length=1)
    trial_parameters: list[TrialParameter]
    trial_spec: TrialJob
    config_map: Any = _refused("a template in a config map is in a cluster: write it as `trialSpec`")
    retain: Any = None
    primary_pod_labels: Any = None
    success_condition: str | None = None
    failure_condition: str | None = None


class ExperimentSpec(Part):
    """What is searched, how, and how long."""

    objective: Objective
    algorithm: Algorithm
    parameters: list[Parameter] = Field(min_length=1)
    trial_template: TrialTemplate
    parallel_trial_count: int = Field(3, gt=0)
    max_trial_count: int | None = Field(None, gt=0)
    max_failed_trial_count: int | None = Field(None, ge=0)
    resume_policy: Literal["Never", "LongRunning", "FromVolume"] = "Never"
    metrics_collector_spec: MetricsCollector = MetricsCollector()
    early_stopping: Any = _refused("trials run to their end")
    nas_config: Any = _refused("neural architecture search needs Katib itself")


class Experiment(Part):
    """A Katib Experiment."""

    api_version: Literal["kubeflow.org/v1beta1"]
    kind: Literal["Experiment"]
    metadata: ObjectMeta
    spec: ExperimentSpec
    status: Any = None

    @property
    def name(self) -> str:
        """The Experiment's name; trials are named after it."""
        return self.metadata.name or self.metadata.generate_name.rstrip("-")

    @property
    def primary(self) -> tuple[int, Container]:
        """The primary container and its place among the pod's containers."""
        template = self.spec.trial_template
        containers = template.trial_spec.spec.template.spec.containers
        return next((i, c) for i, c in enumerate(containers) if c.name == template.primary_container_name)


def marked(part: Part, mark: Literal["refused", "ignored"], path: Path = ()) -> Iterator[tuple[Path, str]]:
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
