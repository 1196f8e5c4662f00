"""A trial's command: Katib's substitution in the template, then Kubernetes' in the container.

Katib replaces `${trialParameters.name}` by the parameter or the trial's metadata that `name` refers to
(pkg/controller.v1beta1/experiment/manifest/generator.go); Kubernetes replaces `$(NAME)` in command, args and env by
the container's own variables, and `$$(NAME)` by `$(NAME)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .experiment import Experiment
from .reading import Document

PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.+?)\}")
_METADATA = re.compile(r"^\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|(?:Annotations|Labels)\[(.+)\])\}$")
_VARIABLE = re.compile(r"\$?\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
TRIAL_NAME = "KATIB_TRIAL_NAME"
"""The variable in which Katib tells a trial its name."""


@dataclass(frozen=True)
class Command:
    """What a trial's container runs: its words (none: the image's own), arguments, variables and folder."""

    words: tuple[str, ...]
    arguments: tuple[str, ...]
    environ: dict[str, str]
    folder: str


def command(document: Document, trial: str, parameters: Mapping[str, str]) -> Command:
    """The command of one trial: that of its job's primary container.

    Args:
        document: the Experiment.
        trial: the trial's name.
        parameters: the text of every parameter's value, by the names of the search space.
    """
    assert document.primary
    container = document.primary[1]
    values = assignments(document.experiment, trial, parameters)
    environ = {TRIAL_NAME: trial}
    for variable in container.env:
        environ[variable.name] = _expand(_fill(variable.value, values), environ)

    def filled(words: list[str]) -> tuple[str, ...]:
        return tuple(_expand(_fill(word, values), environ) for word in words)

    return Command(filled(container.command), filled(container.args), environ, _fill(container.working_dir, values))


def words(document: Document) -> list[str]:
    """The words of a trial's command, with the placeholders in them."""
    assert document.primary
    return [*document.primary[1].command, *document.primary[1].args]


def assignments(experiment: Experiment, trial: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """What stands for each trial parameter, by its name; without those that stand for nothing."""
    return {
        given.name: value
        for given in experiment.spec.trial_template.trial_parameters
        if (value := reference(experiment, trial, parameters, given.reference)) is not None
    }


def reference(experiment: Experiment, trial: str, parameters: Mapping[str, str], name: str) -> str | None:
    """What a `reference` of a trial parameter stands for: a parameter's value or the trial's metadata, or None."""
    found = _METADATA.match(name)
    if not found:
        return parameters.get(name)
    spec = experiment.spec.trial_template.trial_spec or {}
    key, index = found[1].split("[")[0], found[2]
    if index:
        metadata = spec.get("metadata")
        given = metadata.get(key.lower()) if isinstance(metadata, dict) else None
        return str(given[index]) if isinstance(given, dict) and index in given else None
    # Without a namespace Kubernetes puts the Experiment in the one that is called "default".
    namespace = experiment.metadata.namespace or "default"
    kind, version = str(spec.get("kind", "")), str(spec.get("apiVersion", ""))
    return {"Name": trial, "Namespace": namespace, "Kind": kind, "APIVersion": version}[key]


def texts(value: Any) -> list[str]:
    """All strings in a YAML value, in which placeholders may stand."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts(item)]


def _fill(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """Kubernetes' rule: a reference to a variable that is not the container's stays as it is."""
    return _VARIABLE.sub(
        lambda found: found[0][1:] if found[0].startswith("$$") else environ.get(found[1], found[0]), text
    )
