"""A trial's object from the template, and what its status says.

Source: pkg/controller.v1beta1/experiment/manifest/generator.go, pkg/controller.v1beta1/trial/util/job_util.go and
pkg/controller.v1beta1/consts/const.go of github.com/kubeflow/katib.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\$\{trialParameters\..+?\}")
_METADATA = re.compile(r"\$\{trialSpec\.(.+?)\}")
_INDEXED = re.compile(r"(.+)\[(.+)\]")
_METADATA_KEYS = ("Name", "Namespace", "Kind", "APIVersion", "Annotations", "Labels")
_FILTER = re.compile(r'#\((\w+)==?"([^"]*)"\)#')


class TemplateError(Exception):
    """A template that cannot be filled in; Katib says so in an event of the Experiment."""


def refers_to_metadata(reference: str) -> bool:
    """Whether a trial parameter refers to the trial's metadata and not to a parameter of the search space."""
    found = _METADATA.search(reference)
    if not found:
        return False
    indexed = _INDEXED.search(found[1])
    return found[1] in _METADATA_KEYS or bool(indexed and indexed[1] in _METADATA_KEYS)


def run_spec(
    template: Mapping[str, Any],
    trial_spec: Mapping[str, Any],
    trial: str,
    namespace: str,
    assignments: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The object that a trial runs.

    Args:
        template: `spec.trialTemplate`.
        trial_spec: its `trialSpec`, or what its ConfigMap holds.

    Raises:
        TemplateError: a reference that stands for nothing.
    """
    given = {assignment["name"]: assignment["value"] for assignment in assignments}
    values, plain = {}, 0
    for parameter in template.get("trialParameters") or []:
        reference = parameter["reference"]
        found = _METADATA.search(reference)
        if found:
            values[parameter["name"]] = _metadata(found[1], reference, trial_spec, trial, namespace)
        elif reference in given:
            values[parameter["name"]], plain = given[reference], plain + 1
        else:
            raise TemplateError(f"Unable to find parameter: {reference} in parameter assignment {given}")
    if len(assignments) != plain:
        raise TemplateError(
            f"Number of TrialAssignment: {len(assignments)} != number of nonMetaTrialParameters in TrialSpec: {plain}"
        )
    text = json.dumps(trial_spec)
    for name, value in values.items():
        # As in Katib, the value goes into the JSON as it is: a quotation mark in it breaks the template.
        text = text.replace(f"${{trialParameters.{name}}}", value)
    try:
        filled: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise TemplateError(f"ConvertStringToUnstructured failed: {error}") from error
    filled.setdefault("metadata", {}).update(name=trial, namespace=namespace)
    return filled


def _metadata(key: str, reference: str, trial_spec: Mapping[str, Any], trial: str, namespace: str) -> str:
    plain = {
        "Name": trial,
        "Namespace": namespace,
        "Kind": trial_spec.get("kind", ""),
        "APIVersion": trial_spec.get("apiVersion", ""),
    }
    if key in plain:
        return str(plain[key])
    indexed = _INDEXED.search(key)
    if not indexed or indexed[1] not in ("Annotations", "Labels"):
        raise TemplateError(f"illegal reference of trial metadata: {reference}")
    found = (trial_spec.get("metadata", {}).get(indexed[1].lower()) or {}).get(indexed[2])
    if found is None:
        kind = indexed[1].removesuffix("s")
        raise TemplateError(f"illegal reference of trial metadata: {reference}; failed to fetch {kind}: {indexed[2]}")
    return str(found)


def matching(body: Any, expression: str) -> dict[str, Any] | None:
    """The first item that a success or failure condition finds in an object.

    Of GJSON's language, the form of Katib's documentation: `status.conditions.#(type=="Complete")#|#(status=="True")#`.
    """
    path, *rest = expression.split(".#(", 1)
    items = body
    for part in path.split("."):
        items = items.get(part) if isinstance(items, dict) else None
    if not rest:
        return items if isinstance(items, dict) else None
    filters = _FILTER.findall("#(" + rest[0])
    found = [i for i in items or [] if isinstance(i, dict) and all(str(i.get(k)) == v for k, v in filters)]
    return found[0] if found else None
