"""What must hold between the fields of an Experiment, whichever engine runs it: Katib's rules.

They are those of its validating webhook (pkg/webhook/v1beta1/experiment/validator/validator.go) and of its
algorithms' services (algorithms/settings.py), and what would only show when trials run. Each check yields what is wrong
and where it stands; the first one is told. What only the local engine cannot do is in checks_local.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ..errors import BadInput
from ..suggest import did_you_mean
from .algorithms.settings import ALGORITHMS, EARLY_STOPPING, NAS, Rule, problems
from .experiment import Algorithm, Experiment, Parameter, Path
from .metrics import compiled
from .reading import TRIAL_SPEC, Document, dotted
from .template import PLACEHOLDER, reference, texts

_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what, and what to do."""

    path: Path
    what: str
    fix: str


def check(document: Document, *, pipeline: bool = False) -> None:
    """Refuse an Experiment that Katib would refuse, or that would fail when it runs.

    Args:
        document: the Experiment.
        pipeline: its trials are runs of a pipeline, so it needs no trial template; one only names the parameters.

    Raises:
        BadInput: with the line.
    """
    refuse(document, _faults(document, pipeline))


def refuse(document: Document, faults: Iterable[Fault]) -> None:
    """Tell the first thing that is wrong, if anything is.

    Raises:
        BadInput: with the line.
    """
    for fault in faults:
        raise BadInput(f"{document.name}: {fault.what}", fix=fault.fix, place=document.place(fault.path))


def _faults(document: Document, pipeline: bool) -> Iterator[Fault]:
    experiment = document.experiment
    spec = experiment.spec
    yield from _whole(experiment)
    yield from _objective(experiment)
    yield from _settings(spec.algorithm, ("spec", "algorithm"), ALGORITHMS, "algorithm")
    if spec.early_stopping:
        yield from _settings(spec.early_stopping, ("spec", "earlyStopping"), EARLY_STOPPING, "early stopping")
    yield from _space(experiment)
    for where, what, fix in problems(spec):
        yield Fault(("spec", where), what, fix)
    yield from _collector(experiment)
    yield from _references(experiment)
    if not pipeline:
        yield from _template(document)


def _whole(experiment: Experiment) -> Iterator[Fault]:
    spec = experiment.spec
    if not _NAME.match(experiment.name):
        what = f"`metadata.name` {experiment.name!r} is not a name" if experiment.name else "`metadata.name` is missing"
        yield Fault(("metadata", "name"), what, "Use lower case letters, digits and '-', beginning with a letter")
    if spec.max_trial_count is None:
        return
    for key, count in (
        ("maxFailedTrialCount", spec.max_failed_trial_count),
        ("parallelTrialCount", spec.parallel_trial_count),
    ):
        given = key in {i.alias for n, i in type(spec).model_fields.items() if n in spec.model_fields_set}
        if given and count is not None and count > spec.max_trial_count:
            what = f"`spec.{key}` is {count}, more than `spec.maxTrialCount`, {spec.max_trial_count}"
            yield Fault(("spec", key), what, "Lower it")


def _objective(experiment: Experiment) -> Iterator[Fault]:
    objective = experiment.spec.objective
    path: Path = ("spec", "objective")
    if objective.objective_metric_name in objective.additional_metric_names:
        what = f"`additionalMetricNames` has the objective {objective.objective_metric_name!r}, too"
        yield Fault((*path, "additionalMetricNames"), what, "Leave it out there")
    for index, strategy in enumerate(objective.metric_strategies):
        if strategy.name not in objective.metrics:
            what = f"`metricStrategies` has {strategy.name!r}, which is not a metric of the objective"
            fix = f"The metrics are: {', '.join(objective.metrics)}"
            yield Fault((*path, "metricStrategies", index, "name"), what, fix)


def _settings(given: Algorithm, path: Path, known: Mapping[str, Mapping[str, Rule]], kind: str) -> Iterator[Fault]:
    """The name and the settings of an algorithm, against those that there are."""
    name = given.algorithm_name
    if name not in known:
        fix = did_you_mean(name, known, "Katib has: {}")
        yield Fault((*path, "algorithmName"), f"the {kind} {name!r} is unknown to Katib", fix)
        return
    rules = known[name]
    if name in NAS:
        return
    yield from repeated((s.name.lower() for s in given.algorithm_settings), (*path, "algorithmSettings"), "name")
    for index, setting in enumerate(given.algorithm_settings):
        here: Path = (*path, "algorithmSettings", index)
        if setting.name not in rules:
            fix = did_you_mean(setting.name, rules, "It has: {}")
            yield Fault((*here, "name"), f"the algorithm {name} has no setting {setting.name!r}", fix)
            continue
        rule = rules[setting.name]
        try:
            fits = rule.allowed(rule.read(setting.value))
        except ValueError:
            fits = False
        if not fits:
            what = f"`{setting.name}` must be {rule.words}, not {setting.value!r}"
            yield Fault((*here, "value"), what, "Correct it")
    for missing in (setting for setting, rule in rules.items() if rule.required and setting not in given.settings):
        what = f"the algorithm {name} needs the setting `{missing}`"
        yield Fault(path, what, f"Add it to `algorithmSettings`: {rules[missing].words}")


def _space(experiment: Experiment) -> Iterator[Fault]:
    """The search space."""
    spec = experiment.spec
    path: Path = ("spec", "parameters")
    if not spec.parameters and not spec.nas_config:
        yield Fault(("spec",), "`spec.parameters` is missing", "Add it")
    if spec.parameters and spec.nas_config:
        yield Fault(
            ("spec", "nasConfig"), "both `spec.parameters` and `spec.nasConfig` are given", "Leave one of them out"
        )
    for index, parameter in enumerate(spec.parameters):
        yield from _parameter(parameter, (*path, index), spec.algorithm.algorithm_name == "grid")
    yield from repeated((p.name for p in spec.parameters), path, "name")


def _parameter(parameter: Parameter, path: Path, grid: bool) -> Iterator[Fault]:
    space, kind, name = parameter.feasible_space, parameter.parameter_type, parameter.name
    here: Path = (*path, "feasibleSpace")
    if not space.model_fields_set:
        yield Fault(here, f"`feasibleSpace` of {name!r} is empty", "Say what the parameter may be")
    if kind in ("discrete", "categorical"):
        for key in ("min", "max", "step"):
            if getattr(space, key) is not None:
                yield Fault((*here, key), f"`{key}` does not apply to {name!r}, which is {kind}", "Use `list`")
        if not space.values:
            yield Fault(
                (*here, "list"),
                f"`list` of {name!r} is {'empty' if space.values == [] else 'missing'}",
                "List its values",
            )
        if space.distribution not in (None, "uniform"):
            yield Fault((*here, "distribution"), f"{name!r} is a list: it has no distribution", "Leave it out")
        yield from repeated(space.values or [], (*here, "list"), "")
        return
    if space.values is not None:
        yield Fault((*here, "list"), f"`list` does not apply to {name!r}, which is {kind}", "Use `min` and `max`")
    numbers: dict[str, Decimal] = {}
    for key in ("min", "max", "step"):
        text = getattr(space, key)
        number = _number(text, whole=kind == "int")
        if text is None and key != "step":
            yield Fault((*here, key), f"`{key}` of {name!r} is missing", "Add it")
        elif text is not None and number is None:
            noun = "an integer" if kind == "int" else "a number"
            yield Fault((*here, key), f"`{key}` of {name!r} must be {noun}, not {text!r}", "Correct it")
        elif number is not None:
            numbers[key] = number
    yield from _bounds(parameter, numbers, here, grid)


def _bounds(parameter: Parameter, numbers: dict[str, Decimal], path: Path, grid: bool) -> Iterator[Fault]:
    """Rules for the numbers of an int or a double."""
    name = parameter.name
    low, high, step = numbers["min"], numbers["max"], numbers.get("step")
    if low > high:
        yield Fault((*path, "min"), f"`min` of {name!r} is {low}, above its `max`, {high}", "Exchange or correct them")
    if step is not None and step <= 0:
        yield Fault((*path, "step"), f"`step` of {name!r} must be above 0, not {step}", "Correct it")
    if grid and step is None and parameter.parameter_type == "double":
        yield Fault(path, f"{name!r} has no `step`, and a grid needs one of each double", "Add `step`")
    if parameter.feasible_space.distribution in ("logUniform", "logNormal") and low <= 0:
        yield Fault((*path, "min"), f"`min` of {name!r} is {low}, and a logarithm needs more than 0", "Raise it")


def _collector(experiment: Experiment) -> Iterator[Fault]:
    collector = experiment.spec.metrics_collector_spec
    kind, path = collector.collector.kind, ("spec", "metricsCollectorSpec")
    source: Path = (*path, "source")
    file = collector.source.file_system_path if collector.source else None
    if kind == "None":
        yield Fault(
            (*path, "collector", "kind"), "Katib no longer accepts a metrics collector of kind None", "Use StdOut"
        )
    if kind == "Custom" and collector.collector.custom_collector is None:
        yield Fault((*path, "collector"), "a custom collector needs its container", "Add `customCollector`")
    wanted = {"File": "File", "TensorFlowEvent": "Directory"}.get(kind)
    if wanted and not collector.path.startswith("/"):
        what = f"the metrics collector's path {collector.path!r} is not absolute"
        yield Fault((*source, "fileSystemPath", "path"), what, "Write where it is in the trial's container")
    if wanted and file and file.kind != wanted:
        what = f"`kind` of the metrics collector's path must be {wanted}, not {file.kind or 'left out'}"
        yield Fault((*source, "fileSystemPath", "kind"), what, f"Write `kind: {wanted}`")
    if kind == "TensorFlowEvent" and file and file.format is not None:
        what = "event files have no `format`"
        yield Fault((*source, "fileSystemPath", "format"), what, "Leave it out")
    if kind == "File" and collector.json_lines and collector.formats:
        yield Fault((*source, "filter"), "a metrics file in JSON has no filter", "Leave it out")
    if kind == "PrometheusMetric":
        if not str(collector.port).isdecimal() or not 0 < int(collector.port) < 65536:
            what = f"the port of the metrics must be a number from 1 to 65535, not {collector.port!r}"
            yield Fault((*source, "httpGet", "port"), what, "Correct it")
        if not collector.path.startswith("/"):
            what = f"the path of the metrics must begin with /, not {collector.path!r}"
            yield Fault((*source, "httpGet", "path"), what, "Correct it")
    for index, text in enumerate(collector.formats):
        here: Path = (*source, "filter", "metricsFormat", index)
        try:
            groups = compiled([text])[0].groups
        except re.error as error:
            yield Fault(here, f"the metrics format {text!r} is not a regular expression: {error}", "Correct it")
        else:
            if groups < 2:
                what = f"the metrics format {text!r} needs two groups: the metric's name and its value"
                yield Fault(here, what, "Put each in parentheses")


def _references(experiment: Experiment) -> Iterator[Fault]:
    """Trial parameters and the search space must name each other."""
    path: Path = ("spec", "trialTemplate")
    given = experiment.spec.trial_template.trial_parameters
    space = {parameter.name: "" for parameter in experiment.spec.parameters}
    yield from repeated((p.name for p in given), (*path, "trialParameters"), "name")
    yield from repeated((p.reference for p in given), (*path, "trialParameters"), "reference")
    for index, parameter in enumerate(given):
        if space and reference(experiment, "", space, parameter.reference) is None:
            otherwise = "Define it in `spec.parameters`, or correct the reference"
            fix = did_you_mean(parameter.reference, space, otherwise)
            what = f"the trial parameter {parameter.name!r} refers to {parameter.reference!r}, which is not defined"
            yield Fault((*path, "trialParameters", index, "reference"), what, fix)
    if not given:
        return  # a pipeline's parameters are the search space's
    used = {parameter.reference for parameter in given}
    for index, defined in enumerate(experiment.spec.parameters):
        if defined.name not in used:
            what = f"the parameter {defined.name!r} is not used: no trial parameter refers to it"
            yield Fault(("spec", "parameters", index, "name"), what, "Add it to `trialParameters`, or leave it out")


def _placeholders(document: Document) -> Iterator[Fault]:
    """Trial parameters and the template must name each other."""
    raw, path = document.experiment.spec.trial_template.trial_spec, TRIAL_SPEC[:-1]
    used = {name for text in texts(raw) for name in PLACEHOLDER.findall(text)}
    given = [parameter.name for parameter in document.experiment.spec.trial_template.trial_parameters]
    for name in sorted(used - set(given)):
        fix = did_you_mean(name, given, "Add it to `trialParameters`")
        where = next(p for p, text in _texts_at(raw, (*path, "trialSpec")) if f"${{trialParameters.{name}}}" in text)
        yield Fault(
            where, f"the template uses ${{trialParameters.{name}}}, which is not among the trial parameters", fix
        )
    for index, name in enumerate(given):
        if name not in used:
            what = f"the trial parameter {name!r} is not in the template"
            yield Fault(
                (*path, "trialParameters", index, "name"), what, f"Use ${{trialParameters.{name}}}, or leave it out"
            )


def _template(document: Document) -> Iterator[Fault]:
    template, path = document.experiment.spec.trial_template, TRIAL_SPEC[:-1]
    if template.trial_spec is None and template.config_map is None:
        missing = "trialSpec" if "trialTemplate" in document.values["spec"] else ""
        where: Path = (*path, missing) if missing else path
        yield Fault(where, f"`{dotted(where)}` is missing", "Say what a trial runs")
    if template.trial_spec is not None and template.config_map is not None:
        yield Fault((*path, "configMap"), "both `trialSpec` and `configMap` are given", "Leave one of them out")
    if template.config_map is not None:
        given = template.config_map
        if not (given.config_map_name and given.config_map_namespace and given.template_path):
            what = "`configMapName`, `configMapNamespace` and `templatePath` must all be given"
            yield Fault((*path, "configMap"), what, "Add what is missing")
    if template.trial_spec is not None:
        yield from _object(document)
        yield from _placeholders(document)


def _object(document: Document) -> Iterator[Fault]:
    """What a trial's object must be, whatever its kind."""
    template = document.experiment.spec.trial_template
    spec = template.trial_spec or {}
    for key in ("apiVersion", "kind"):
        if not spec.get(key):
            yield Fault(TRIAL_SPEC, f"`{dotted((*TRIAL_SPEC, key))}` is missing", "Add it")
    metadata = spec.get("metadata")
    for key in ("name", "namespace"):
        if isinstance(metadata, dict) and metadata.get(key):
            what = f"the trial's `metadata.{key}` is Katib's to set"
            yield Fault((*TRIAL_SPEC, "metadata", key), what, "Leave it out")
    if not template.primary_container_name:
        yield Fault(TRIAL_SPEC[:-1], "`spec.trialTemplate.primaryContainerName` is missing", "Add it")
    elif (spec.get("apiVersion"), spec.get("kind")) == ("batch/v1", "Job") and document.primary is None:
        names = [container.name for container in document.job.spec.template.spec.containers]
        what = f"the primary container {template.primary_container_name!r} does not exist, only {', '.join(names)}"
        yield Fault(("spec", "trialTemplate", "primaryContainerName"), what, "Correct the name")


def repeated(values: Iterable[str], path: Path, key: str) -> Iterator[Fault]:
    """What is there more than once."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            where: Path = (*path, index, key) if key else (*path, index)
            yield Fault(where, f"{value!r} appears twice in `{path[-1]}`", "Leave one out")
        seen.add(value)


def _texts_at(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from _texts_at(item, (*path, key))


def _number(text: str | None, *, whole: bool) -> Decimal | None:
    """A number as Katib reads it, or None."""
    try:
        number = Decimal(int(text)) if whole and text is not None else Decimal(text or "")
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None
