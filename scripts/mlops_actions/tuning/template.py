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

from .experiment import Container, Experiment

PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.+?)\}")
_METADATA = re.compile(r"^\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|(?:Annotations|Labels)\[(.+)\])\}$")
_VARIABLE = re.compile(r"\$?\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
TRIAL_NAME = "KATIB_TRIAL_NAME"
"""The variable in which Katib tells a trial its name."""


@dataclass(frozen=True)
class Command:
    """What a trial's process is started with: its words, its variables, and its folder below the consumer's."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    folder: str


def command(experiment: Experiment, trial: str, parameters: Mapping[str, str]) -> Command:
    """The command of one trial.

    Args:
        experiment: with its template.
        trial: the trial's name.
        parameters: the text of every parameter's value, by the names of the search space.
    """
    values = {
        given.name: value
        for given in experiment.spec.trial_template.trial_parameters
        if (value := reference(experiment, trial, parameters, given.reference)) is not None
    }
    container = experiment.primary[1]
    environ = {TRIAL_NAME: trial}
    for variable in container.env:
        environ[variable.name] = _expand(_fill(variable.value, values), environ)
    words = [_fill(word, values) for word in (*container.command, *container.args)]
    return Command(tuple(_expand(word, environ) for word in words), environ, _fill(container.working_dir, values))


def reference(experiment: Experiment, trial: str, parameters: Mapping[str, str], name: str) -> str | None:
    """What a `reference` of a trial parameter stands for: a parameter's value or the trial's metadata, or None."""
    found = _METADATA.match(name)
    if not found:
        return parameters.get(name)
    job = experiment.spec.trial_template.trial_spec
    key, index = found[1].split("[")[0], found[2]
    if index:
        return (job.metadata.labels if key == "Labels" else job.metadata.annotations).get(index)
    # Without a namespace Kubernetes puts the Experiment in the one that is called "default".
    namespace = experiment.metadata.namespace or "default"
    return {"Name": trial, "Namespace": namespace, "Kind": job.kind, "APIVersion": job.api_version}[key]


def texts(value: Any) -> list[str]:
    """All strings in a YAML value, in which placeholders may stand."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts(item)]


def words(container: Container) -> list[str]:
    """The words of a container's command, with the placeholders in them."""
    return [*container.command, *container.args]


def _fill(text: str, values: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _expand(text: str, environ: Mapping[str, str]) -> str:
    """Kubernetes' rule: a reference to a variable that is not the container's stays as it is."""
    return _VARIABLE.sub(
        lambda found: found[0][1:] if found[0].startswith("$$") else environ.get(found[1], found[0]), text
    )
