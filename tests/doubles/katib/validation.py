"""What Katib's validating webhook refuses.

Source: pkg/webhook/v1beta1/experiment/{validation_webhook,validator/validator}.go of github.com/kubeflow/katib: the
conditions, the field's path and the first words of each message are Katib's; where Katib prints a Go value into a
message, the double prints JSON.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import conditions
from .algorithms import ALGORITHMS, EARLY_STOPPING
from .injection import COLLECTED, LABEL
from .manifest import PLACEHOLDER, refers_to_metadata

_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?")
_EDITABLE = ("maxTrialCount", "maxFailedTrialCount", "parallelTrialCount")
Spec = Mapping[str, Any]


def invalid(path: str, value: Any, why: str) -> str:
    """As Kubernetes' field.Invalid reads."""
    return f"{path}: Invalid value: {json.dumps(value)}: {why}"


def required(path: str, why: str = "must be specified") -> str:
    """As Kubernetes' field.Required reads."""
    return f"{path}: Required value: {why}"


def aggregate(errors: list[str]) -> str:
    """Several errors as one message, as Kubernetes joins them; "" for none."""
    return errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]" if errors else ""


def validate(
    experiment: Mapping[str, Any],
    old: Mapping[str, Any] | None,
    namespace_labels: Mapping[str, str],
    template: Mapping[str, Any] | None,
) -> list[str]:
    """Everything that is wrong with an Experiment that has its defaults.

    Args:
        old: before it was changed.
        namespace_labels: of its namespace.
        template: `trialTemplate.trialSpec`, or what its ConfigMap holds.
    """
    name, namespace = experiment["metadata"].get("name", ""), experiment["metadata"].get("namespace", "")
    if namespace_labels.get(LABEL) != "enabled":
        return [
            f'Cannot create the Experiment "{name}" in namespace "{namespace}": '
            f'the namespace lacks label "{LABEL}: enabled"'
        ]
    spec = experiment["spec"]
    errors = []
    if not _NAME.match(name) or len(name) > 40:
        why = "name must consist of lower case alphanumeric characters or '-' and may not be longer than 40 characters."
        errors.append(invalid("metadata.name", name, why))
    errors += _counts(spec)
    if old is not None:
        errors += _changes(experiment, old)
    objective = list(_objective(spec.get("objective")))
    if objective:
        return errors + objective
    errors += _algorithms(spec)
    if spec.get("resumePolicy") not in ("", None, "Never", "LongRunning", "FromVolume"):
        errors.append(invalid("spec.resumePolicy", spec["resumePolicy"], "invalid ResumePolicyType"))
    errors += _template(spec, template)
    if not spec.get("parameters") and not spec.get("nasConfig"):
        errors.append(required("spec", "spec.parameters or spec.nasConfig must be specified"))
    if spec.get("parameters") and spec.get("nasConfig"):
        errors.append(invalid("spec", {}, "only one of spec.parameters and spec.nasConfig can be specified"))
    errors += _parameters(spec.get("parameters") or [])
    return errors + list(_collector(spec["metricsCollectorSpec"]))


def _counts(spec: Spec) -> Iterator[str]:
    most, failed, parallel = (spec.get(key) for key in _EDITABLE)
    if failed is not None and failed < 0:
        yield invalid("spec.maxFailedTrialCount", failed, "should not be less than 0")
    if most is not None and most <= 0:
        yield invalid("spec.maxTrialCount", most, "must be greater than 0")
    if parallel is not None and parallel <= 0:
        yield invalid("spec.parallelTrialCount", parallel, "must be greater than 0")
    for key, value in (("maxFailedTrialCount", failed), ("parallelTrialCount", parallel)):
        if value is not None and most is not None and value > most:
            yield invalid(f"spec.{key}", value, "should be less than or equal to spec.maxTrialCount")


def restartable(experiment: Mapping[str, Any]) -> bool:
    """Whether an Experiment that has ended goes on when `maxTrialCount` is raised."""
    found = conditions.find(dict(experiment), "Succeeded")
    return bool(
        found
        and found["status"] == "True"
        and found["reason"] == "ExperimentMaxTrialsReached"
        and experiment["spec"].get("resumePolicy") in ("LongRunning", "FromVolume")
    )


def _changes(experiment: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    spec, before = experiment["spec"], old["spec"]
    if spec == before:
        return
    if conditions.has(dict(old), *conditions.EXPERIMENT_ENDED) and not restartable(old):
        yield invalid(
            "spec.resumePolicy",
            spec.get("resumePolicy"),
            "Experiment can be restarted if it is in succeeded state by reaching max trials and "
            "spec.resumePolicy = LongRunning or spec.resumePolicy = FromVolume, when experiment is completed",
        )
    trials = (old.get("status") or {}).get("trials", 0)
    if spec.get("maxTrialCount") is not None and spec["maxTrialCount"] <= trials:
        yield invalid("spec.maxTrialCount", spec["maxTrialCount"], "must be greater than status.trials count")
    if _without(spec) != _without(before):
        why = "only spec.parallelTrialCount, spec.maxTrialCount and spec.maxFailedTrialCount are editable"
        yield f"spec: Forbidden: {why}"


def _without(spec: Spec) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in _EDITABLE}


def _objective(objective: Spec | None) -> Iterator[str]:
    path = "spec.objective"
    if not objective:
        yield required(path)
        return
    if objective.get("type") not in ("minimize", "maximize"):
        yield invalid(f"{path}.type", objective.get("type", ""), "must be minimize or maximize")
    if not objective.get("objectiveMetricName"):
        yield required(f"{path}.objectiveMetricName")
    more = objective.get("additionalMetricNames") or []
    if objective.get("objectiveMetricName") in more:
        yield invalid(f"{path}.additionalMetricNames", more, "should not contain spec.objective.objectiveMetricName")


def _algorithms(spec: Spec) -> Iterator[str]:
    known = (("algorithm", "Suggestion", ALGORITHMS), ("earlyStopping", "EarlyStopping", EARLY_STOPPING))
    for field, kind, names in known:
        given = spec.get(field)
        if given is None:
            if field == "algorithm":
                yield required("spec.algorithm")
            continue
        name, path = given.get("algorithmName", ""), f"spec.{field}.algorithmName"
        if not name:
            yield required(path)
        if name not in names:
            why = f"unable to get {kind} config data for algorithm {name}"
            yield invalid(path, name, f"{why}: failed to find {kind} configuration in ConfigMap: katib-config")


def _template(spec: Spec, trial_spec: Mapping[str, Any] | None) -> list[str]:
    path, template = "spec.trialTemplate", spec.get("trialTemplate")
    if not template:
        return [required(path)]
    errors = []
    if not template.get("primaryContainerName"):
        errors.append(required(f"{path}.primaryContainerName"))
    if not template.get("successCondition") or not template.get("failureCondition"):
        errors.append(required(path, "successCondition and failureCondition must be specified"))
    if template.get("trialParameters") is None:
        return [*errors, required(f"{path}.trialParameters")]
    given = [key for key in ("trialSpec", "configMap") if template.get(key)]
    if not given:
        why = "spec.trialTemplate.trialSpec or spec.trialTemplate.configMap must be specified"
        return [*errors, required(f"{path}.TrialSource", why)]
    if len(given) == 2:
        why = "only one of spec.trialTemplate.trialSpec or spec.trialTemplate.configMap can be specified"
        return [*errors, required(path, why)]
    source = template.get("configMap") or {}
    if source and not all(source.get(key) for key in ("configMapName", "configMapNamespace", "templatePath")):
        why = "configMapName, configMapNamespace and templatePath must be specified"
        return [*errors, required(f"{path}.configMap", why)]
    if trial_spec is None:
        return [*errors, invalid(path, "", "unable to parse spec.trialTemplate: GetConfigMap failed: not found")]
    return errors + _trial_parameters(spec, template, trial_spec)


def _trial_parameters(spec: Spec, template: Spec, trial_spec: Mapping[str, Any]) -> list[str]:
    path, errors, text = "spec.trialTemplate", [], json.dumps(trial_spec)
    known = {parameter.get("name") for parameter in spec.get("parameters") or []}
    names: set[str] = set()
    references: set[str] = set()
    for index, parameter in enumerate(template["trialParameters"]):
        here = f"{path}.trialParameters[{index}]"
        name, reference = parameter.get("name", ""), parameter.get("reference", "")
        if not name or not reference or "{" in name or "}" in name:
            why = "name and reference must be specified and name must not contain '{' or '}'"
            errors.append(invalid(here, "", why))
            continue
        if name in names:
            errors.append(invalid(f"{here}.name", name, f"parameter name {name} can't be duplicated in {path}"))
            continue
        if reference in references:
            why = f"parameter reference {reference} can't be duplicated in {path}"
            errors.append(invalid(f"{here}.reference", reference, why))
            continue
        names.add(name)
        references.add(reference)
        if known and not refers_to_metadata(reference) and reference not in known:
            why = f"parameter reference {reference} does not exist in spec.parameters: {sorted(known)}"
            errors.append(invalid(f"{here}.reference", reference, why))
        if f"${{trialParameters.{name}}}" not in text:
            why = f"parameter name: {name} in spec.trialParameters not found in spec.trialTemplate: {text}"
            return [*errors, invalid(f"{here}.name", name, why)]
        text = text.replace(f"${{trialParameters.{name}}}", "test-value")
    left = PLACEHOLDER.findall(text)
    if left:
        why = f"parameters: [{' '.join(left)}] in spec.trialTemplate not found in spec.trialParameters: {sorted(names)}"
        errors.append(invalid(path, "", why))
    meta = trial_spec.get("metadata") or {}
    if meta.get("name") or meta.get("namespace"):
        errors.append(invalid(path, "", "metadata.name and metadata.namespace in spec.trialTemplate must be omitted"))
    if not trial_spec.get("apiVersion") or not trial_spec.get("kind"):
        errors.append(required(path, "APIVersion and Kind in spec.trialTemplate must be specified"))
    return errors


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    for index, parameter in enumerate(parameters):
        path, kind = f"spec.parameters[{index}]", parameter.get("parameterType", "")
        space = parameter.get("feasibleSpace") or {}
        if kind not in ("int", "double", "categorical", "discrete", "unknown"):
            yield invalid(f"{path}.parameterType", kind, f"parameterType: {kind} is not supported")
        distribution = space.get("distribution", "uniform")
        if distribution not in ("uniform", "logUniform", "normal", "logNormal", "unknown"):
            why = f"distribution: {distribution} is not supported"
            yield invalid(f"{path}.feasibleSpace.distribution", distribution, why)
        if not space:
            yield required(f"{path}.feasibleSpace", "feasibleSpace must be specified")
        elif kind in ("int", "double"):
            if space.get("list"):
                why = f"feasibleSpace.list is not supported for parameterType: {kind}"
                yield invalid(f"{path}.feasibleSpace.list", space["list"], why)
            if not space.get("max") or not space.get("min"):
                why = f"feasibleSpace.max or feasibleSpace.min must be specified for parameterType: {kind}"
                yield required(f"{path}.feasibleSpace.max", why)
        elif kind in ("categorical", "discrete") and any(space.get(key) for key in ("min", "max", "step")):
            why = f"feasibleSpace .max, .min and .step is not supported for parameterType: {kind}"
            yield invalid(f"{path}.feasibleSpace", space, why)


def _collector(spec: Spec) -> Iterator[str]:
    path, kind = "spec.metricsCollectorSpec", spec["collector"].get("kind", "")
    source = spec.get("source") or {}
    if kind in ("TensorFlowEvent", "PrometheusMetric"):
        why = f"GetMetricsCollectorConfigData failed: failed to find metrics collector configuration for kind: {kind}"
        yield invalid(f"{path}.collector.kind", kind, f"{why} in ConfigMap: katib-config")
    elif kind == "File":
        file = source.get("fileSystemPath") or {}
        if file.get("kind") != "File" or not posixpath.isabs(file.get("path", "")):
            yield required(f"{path}.source.fileSystemPath.path", "file path where metrics file exists is required")
        if file.get("format") not in ("TEXT", "JSON"):
            why = "format of metrics file is required for metrics collector"
            yield required(f"{path}.source.fileSystemPath.format", why)
        if file.get("format") == "JSON" and source.get("filter") is not None:
            yield invalid(f"{path}.source.filter", "", "filter must be nil when format of metrics file is json")
    elif kind == "Custom":
        if not spec["collector"].get("customCollector"):
            yield required(f"{path}.collector.customCollector", f"metrics collector kind: {kind} is required")
    elif kind not in ("Push", *COLLECTED):
        yield invalid(f"{path}.collector.kind", kind, f"invalid metrics collector kind: {kind}")
    if kind in ("Push", "StdOut"):
        return  # Katib looks no further, not even at the filter
    for text in (source.get("filter") or {}).get("metricsFormat") or []:
        here = f"{path}.source.filter.metricsFormat"
        try:
            re.compile(text)
        except re.error as error:
            yield invalid(here, text, f"invalid filter: {error}")
            continue
        if not re.search(r".*\(.*\).*\(.*\).*", text):
            yield invalid(here, text, "two top subexpressions are required")
