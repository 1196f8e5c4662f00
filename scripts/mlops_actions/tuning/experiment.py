"""Katib's Experiment (`kubeflow.org/v1beta1`), field by field.

Every field that Katib knows is here, so that an unknown one is a spelling mistake and is refused. What a trial runs
(`trialSpec`) may be an object of any kind and stays as it was written; jobs.py has the one kind that runs locally.
Sources: pkg/apis/controller/{experiments,common}/v1beta1 of github.com/kubeflow/katib.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Path = tuple[str | int, ...]
"""Where a value stands in the YAML: `("spec", "parameters", 0, "name")`."""
Object = dict[str, Any]
"""A Kubernetes object as YAML or JSON has it."""


class Part(BaseModel):
    """A mapping in the YAML: only known keys, and each value of the type that Katib's API server wants."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class Setting(Part):
    """A setting of an algorithm. Katib expects every value as text."""

    name: str
    value: str


class Algorithm(Part):
    """How the next trial's parameters are chosen."""

    algorithm_name: str
    algorithm_settings: list[Setting] = []

    @property
    def settings(self) -> dict[str, str]:
        """The settings' values, as text, by their names."""
        return {setting.name: setting.value for setting in self.algorithm_settings}


class EarlyStopping(Algorithm):
    """When a running trial is given up."""


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
    """The values that a parameter may take. Katib expects each as text."""

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


class FileSystemPath(Part):
    """A file or folder of the trial's container that metrics are written to."""

    path: str = ""
    kind: Literal["Directory", "File"] | None = None
    format: Literal["TEXT", "JSON"] | None = None


class HttpHeader(Part):
    """A header of a request."""

    name: str
    value: str


class HttpGet(Part):
    """Where the trial's container serves metrics."""

    path: str = ""
    port: int | str
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: list[HttpHeader] = []


class MetricsSource(Part):
    """Where metrics are read from."""

    http_get: HttpGet | None = None
    file_system_path: FileSystemPath | None = None
    filter: Filter | None = None


class Collector(Part):
    """Which of Katib's metrics collectors is used."""

    kind: Literal["StdOut", "File", "TensorFlowEvent", "PrometheusMetric", "Custom", "None", "Push"] = "StdOut"
    custom_collector: Object | None = None


class MetricsCollector(Part):
    """How a trial's metrics are collected."""

    source: MetricsSource | None = None
    collector: Collector = Collector()

    @property
    def path(self) -> str:
        """The file or folder that is read, or the path that is asked over HTTP; Katib's default if none is given."""
        if self.collector.kind == "PrometheusMetric":
            return (self.source.http_get.path if self.source and self.source.http_get else "") or "/metrics"
        given = self.source.file_system_path.path if self.source and self.source.file_system_path else ""
        folder = self.collector.kind == "TensorFlowEvent"
        return given or ("/var/log/katib/tfevent/" if folder else "/var/log/katib/metrics.log")

    @property
    def port(self) -> int | str:
        """The port of the trial that serves metrics."""
        return self.source.http_get.port if self.source and self.source.http_get else 8080

    @property
    def json_lines(self) -> bool:
        """Whether the file holds a JSON object a line."""
        file = self.source.file_system_path if self.source else None
        return bool(file and file.format == "JSON")

    @property
    def formats(self) -> list[str]:
        """The custom formats; empty for Katib's default."""
        return self.source.filter.metrics_format if self.source and self.source.filter else []


class ConfigMap(Part):
    """The ConfigMap that holds a trial template."""

    config_map_name: str = ""
    config_map_namespace: str = ""
    template_path: str = ""


class TrialTemplate(Part):
    """What a trial runs."""

    primary_container_name: str = ""
    trial_parameters: list[TrialParameter] = []
    trial_spec: Object | None = None
    config_map: ConfigMap | None = None
    retain: bool = False
    primary_pod_labels: dict[str, str] = {}
    success_condition: str = ""
    failure_condition: str = ""


class GraphConfig(Part):
    """The graph of a neural architecture search."""

    num_layers: int | None = None
    input_sizes: list[int] = []
    output_sizes: list[int] = []


class Operation(Part):
    """An operation of a neural architecture search."""

    operation_type: str = ""
    parameters: list[Parameter] = []


class NasConfig(Part):
    """What a neural architecture search chooses from."""

    graph_config: GraphConfig = GraphConfig()
    operations: list[Operation] = []


class ExperimentSpec(Part):
    """What is searched, how, and how long."""

    objective: Objective
    algorithm: Algorithm
    early_stopping: EarlyStopping | None = None
    parameters: list[Parameter] = []
    nas_config: NasConfig | None = None
    trial_template: TrialTemplate = TrialTemplate()
    parallel_trial_count: int = Field(3, gt=0)
    max_trial_count: int | None = Field(None, gt=0)
    max_failed_trial_count: int | None = Field(None, ge=0)
    resume_policy: Literal["Never", "LongRunning", "FromVolume"] = "Never"
    metrics_collector_spec: MetricsCollector = MetricsCollector()


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
