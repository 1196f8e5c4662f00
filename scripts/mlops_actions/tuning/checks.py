"""What must hold between the fields of an Experiment: Katib's rules, and what the local engine can honour.

Katib's rules are those of its validating webhook (pkg/webhook/v1beta1/experiment/validator/validator.go). Each check
yields what is wrong and where it stands; the first one is told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ..errors import BadInput
from .experiment import Experiment, Parameter, Path, marked
from .metrics import compiled
from .reading import Document, dotted
from .space import ALGORITHMS, KATIB_ONLY, grid_size
from .template import PLACEHOLDER, reference, texts

_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_LARGEST_GRID = 1_000_000
_CONDITIONS = {
    "successCondition": 'status.conditions.#(type=="Complete")#|#(status=="True")#',
    "failureCondition": 'status.conditions.#(type=="Failed")#|#(status=="True")#',
}
_ON_KATIB = "Leave it out, or run the Experiment on Katib"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what, and what to do."""

    path: Path
    what: str
    fix: str


def check(document: Document) -> None:
    """Refuse an Experiment that Katib would refuse, or that asks for what the local engine cannot do.

    Raises:
        BadInput: with the line.
    """
    for fault in _faults(document):
        raise BadInput(f"{document.name}: {fault.what}", fix=fault.fix, place=document.place(fault.path))


def notices(experiment: Experiment) -> list[str]:
    """What the Experiment says and a process on this machine does not have, each with what is done instead."""
    container = experiment.primary[1]
    found = [f"`{dotted(path)}` is ignored: {why}" for path, why in marked(experiment, "ignored")]
    if container.image:
        found.insert(
            0, f"The image {container.image} is not used: trials run as processes in the consumer's environment"
        )
    return found


def _faults(document: Document) -> Iterator[Fault]:
    experiment = document.experiment
    for where, why in marked(experiment, "refused"):
        yield Fault(where, f"`{dotted(where)}` cannot be honoured by the local engine: {why}", _ON_KATIB)
    yield from _whole(experiment)
    yield from _objective(experiment)
    yield from _algorithm(experiment)
    for index, parameter in enumerate(experiment.spec.parameters):
        path: Path = ("spec", "parameters", index)
        yield from _parameter(parameter, path, experiment.spec.algorithm.algorithm_name == "grid")
    yield from _repeated((p.name for p in experiment.spec.parameters), ("spec", "parameters"), "name")
    if experiment.spec.algorithm.algorithm_name == "grid" and grid_size(experiment.spec.parameters) > _LARGEST_GRID:
        size = f"{grid_size(experiment.spec.parameters):,}"
        yield Fault(
            ("spec", "parameters"), f"the grid has {size} combinations", "Take larger steps, or another algorithm"
        )
    yield from _collector(experiment)
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
            what = f"`metricStrategies` has {strategy.name!r}, which is no metric of the objective"
            fix = f"The metrics are: {', '.join(objective.metrics)}"
            yield Fault((*path, "metricStrategies", index, "name"), what, fix)


def _algorithm(experiment: Experiment) -> Iterator[Fault]:
    algorithm = experiment.spec.algorithm
    path: Path = ("spec", "algorithm")
    name = algorithm.algorithm_name
    if name not in ALGORITHMS:
        known = name in KATIB_ONLY
        what = f"the algorithm {name!r} " + (
            "cannot be honoured by the local engine" if known else "is unknown to Katib"
        )
        near = difflib.get_close_matches(name, [*ALGORITHMS, *KATIB_ONLY], n=1)
        here = f"The local engine has: {', '.join(ALGORITHMS)}"
        fix = here if known or not near else f"Did you mean {near[0]!r}? {here}"
        yield Fault((*path, "algorithmName"), what, fix)
        return
    yield from _repeated((s.name.lower() for s in algorithm.algorithm_settings), (*path, "algorithmSettings"), "name")
    for index, setting in enumerate(algorithm.algorithm_settings):
        here_: Path = (*path, "algorithmSettings", index)
        rules = ALGORITHMS[name]
        if setting.name not in rules:
            near = difflib.get_close_matches(setting.name, list(rules), n=1)
            fix = f"Did you mean `{near[0]}`?" if near else f"It has: {', '.join(rules)}"
            yield Fault((*here_, "name"), f"the algorithm {name} has no setting {setting.name!r}", fix)
            continue
        rule = rules[setting.name]
        try:
            fits = rule.allowed(rule.read(setting.value))
        except ValueError:
            fits = False
        if not fits:
            yield Fault(
                (*here_, "value"), f"`{setting.name}` must be {rule.words}, not {setting.value!r}", "Correct it"
            )


def _parameter(parameter: Parameter, path: Path, grid: bool) -> Iterator[Fault]:
    space, kind, name = parameter.feasible_space, parameter.parameter_type, parameter.name
    here: Path = (*path, "feasibleSpace")
    if space.distribution in ("normal", "logNormal"):
        what = f"the distribution {space.distribution} of {name!r} cannot be honoured by the local engine"
        yield Fault((*here, "distribution"), what, "Use uniform or logUniform, or run the Experiment on Katib")
    if kind in ("discrete", "categorical"):
        for key in ("min", "max", "step"):
            if getattr(space, key) is not None:
                yield Fault((*here, key), f"`{key}` means nothing for {name!r}, which is {kind}", "Use `list`")
        if not space.values:
            yield Fault(
                (*here, "list"),
                f"`list` of {name!r} is {'empty' if space.values == [] else 'missing'}",
                "List its values",
            )
        if space.distribution == "logUniform":
            yield Fault((*here, "distribution"), f"{name!r} is a list: it has no distribution", "Leave it out")
        yield from _repeated(space.values or [], (*here, "list"), "")
        return
    if space.values is not None:
        yield Fault((*here, "list"), f"`list` means nothing for {name!r}, which is {kind}", "Use `min` and `max`")
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
    name, log = parameter.name, parameter.feasible_space.distribution == "logUniform"
    low, high, step = numbers["min"], numbers["max"], numbers.get("step")
    if low > high:
        yield Fault((*path, "min"), f"`min` of {name!r} is {low}, above its `max`, {high}", "Exchange or correct them")
    if step is not None and step <= 0:
        yield Fault((*path, "step"), f"`step` of {name!r} must be above 0, not {step}", "Correct it")
    if grid and step is None and parameter.parameter_type == "double":
        yield Fault(path, f"{name!r} has no `step`, and a grid needs one of each double", "Add `step`")
    if not log:
        return
    if low <= 0:
        yield Fault((*path, "min"), f"`min` of {name!r} is {low}, and a logarithm needs more than 0", "Raise it")
    if grid:
        yield Fault(
            (*path, "distribution"), f"a grid has even steps: {name!r} cannot be logUniform on it", "Leave it out"
        )
    if step is not None and (parameter.parameter_type == "double" or step != 1):
        yield Fault((*path, "step"), f"{name!r} cannot have a `step` and be logUniform", "Leave one of them out")


def _collector(experiment: Experiment) -> Iterator[Fault]:
    collector = experiment.spec.metrics_collector_spec
    path: Path = ("spec", "metricsCollectorSpec")
    if collector.collector.kind != "StdOut":
        what = f"the metrics collector {collector.collector.kind} cannot be honoured by the local engine"
        yield Fault(
            (*path, "collector", "kind"), what, "Print the metrics and use StdOut, or run the Experiment on Katib"
        )
    for index, text in enumerate(collector.formats):
        here: Path = (*path, "source", "filter", "metricsFormat", index)
        try:
            groups = compiled([text])[0].groups
        except re.error as error:
            yield Fault(here, f"the metrics format {text!r} is not a regular expression: {error}", "Correct it")
        else:
            if groups < 2:
                what = f"the metrics format {text!r} needs two groups: the metric's name and its value"
                yield Fault(here, what, "Put each in parentheses")


def _template(document: Document) -> Iterator[Fault]:
    experiment = document.experiment
    template = experiment.spec.trial_template
    path: Path = ("spec", "trialTemplate")
    for key, default in _CONDITIONS.items():
        given = template.success_condition if key == "successCondition" else template.failure_condition
        if given not in (None, default):
            what = (
                f"`{dotted((*path, key))}` cannot be honoured by the local engine: a trial's process succeeds or fails"
            )
            yield Fault((*path, key), what, _ON_KATIB)
    yield from _references(experiment, path)
    yield from _placeholders(document, path)
    yield from _containers(experiment, (*path, "trialSpec", "spec", "template", "spec", "containers"))
    metadata = template.trial_spec.metadata
    if metadata.name or metadata.namespace:
        key = "name" if metadata.name else "namespace"
        yield Fault(
            (*path, "trialSpec", "metadata", key), f"the trial's `metadata.{key}` is Katib's to set", "Leave it out"
        )


def _references(experiment: Experiment, path: Path) -> Iterator[Fault]:
    """Trial parameters and the search space must name each other."""
    given = experiment.spec.trial_template.trial_parameters
    space = {parameter.name: "" for parameter in experiment.spec.parameters}
    yield from _repeated((p.name for p in given), (*path, "trialParameters"), "name")
    yield from _repeated((p.reference for p in given), (*path, "trialParameters"), "reference")
    for index, parameter in enumerate(given):
        if reference(experiment, "", space, parameter.reference) is None:
            near = difflib.get_close_matches(parameter.reference, list(space), n=1)
            fix = f"Did you mean {near[0]!r}?" if near else "Define it in `spec.parameters`, or correct the reference"
            what = f"the trial parameter {parameter.name!r} refers to {parameter.reference!r}, which is not defined"
            yield Fault((*path, "trialParameters", index, "reference"), what, fix)
    used = {parameter.reference for parameter in given}
    for index, defined in enumerate(experiment.spec.parameters):
        if defined.name not in used:
            what = f"the parameter {defined.name!r} is not used: no trial parameter refers to it"
            yield Fault(("spec", "parameters", index, "name"), what, "Add it to `trialParameters`, or leave it out")


def _placeholders(document: Document, path: Path) -> Iterator[Fault]:
    """Trial parameters and the template must name each other."""
    raw = document.values["spec"]["trialTemplate"]["trialSpec"]
    used = {name for text in texts(raw) for name in PLACEHOLDER.findall(text)}
    given = [parameter.name for parameter in document.experiment.spec.trial_template.trial_parameters]
    for name in sorted(used - set(given)):
        near = difflib.get_close_matches(name, given, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else "Add it to `trialParameters`"
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


def _containers(experiment: Experiment, path: Path) -> Iterator[Fault]:
    template = experiment.spec.trial_template
    containers = template.trial_spec.spec.template.spec.containers
    names = [container.name for container in containers]
    if template.primary_container_name not in names:
        what = f"there is no container {template.primary_container_name!r}, the primary one, but {', '.join(names)}"
        yield Fault(("spec", "trialTemplate", "primaryContainerName"), what, "Correct the name")
        return
    index, primary = experiment.primary
    if len(containers) > 1:
        other = next(i for i in range(len(containers)) if i != index)
        what = f"the container {names[other]!r} beside the primary one cannot be honoured by the local engine"
        yield Fault((*path, other), what, _ON_KATIB)
    if not primary.command:
        what = "the container has no `command`, and the image's own is not known here"
        yield Fault((*path, index), what, "Write the command, such as [python, train.py]")
    if primary.working_dir.startswith("/"):
        what = f"`workingDir` {primary.working_dir} is a folder of the image"
        yield Fault(
            (*path, index, "workingDir"),
            what,
            "Leave it out (trials run in the consumer's folder), or make it relative",
        )


def _repeated(values: Iterable[str], path: Path, key: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            where: Path = (*path, index, key) if key else (*path, index)
            yield Fault(where, f"{value!r} is in `{path[-1]}` twice", "Leave one out")
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
