"""What a pipeline asks of Kubernetes (kfp-kubernetes), on a machine that is none.

The format is kfp-kubernetes' own: kubernetes_platform/proto/kubernetes_executor_config.proto of kubeflow/pipelines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, Place
from .spec import Pipeline

_VARIABLES = {"secretAsEnv": "secret", "configMapAsEnv": "config map"}
_VOLUMES = {"secretAsVolume": "secret", "configMapAsVolume": "config map"}


def variables_of(
    pipeline: Pipeline, environ: Mapping[str, str], place: Place, mask: Callable[[str], None]
) -> dict[str, str]:
    """The variables that tasks get from secrets and config maps on a cluster, taken from this process's own.

    Args:
        pipeline: the pipeline.
        environ: this process's variables.
        place: of the pipeline.
        mask: told every value that comes from a secret.

    Raises:
        BadInput: a task needs a variable that is not set, or a file of a secret or config map that is not here.
    """
    found: dict[str, str] = {}
    for task, settings in _settings(pipeline):
        for kind, what in _VARIABLES.items():
            for source in settings.get(kind, []):
                name = _name(source, what)
                for pair in source.get("keyToEnv", []):
                    variable = pair["envVar"]
                    if variable in environ:
                        found[variable] = environ[variable]
                        if what == "secret":
                            mask(environ[variable])
                    elif not source.get("optional"):
                        raise BadInput(
                            f"The task {task!r} needs the variable {variable}, which is not set",
                            why=f"On a cluster it comes from the {what} {name}; the engine `local` has none",
                            fix=f"Set {variable} in the environment of the run (`env:` of the step)",
                            place=place,
                        )
        for kind, what in _VOLUMES.items():
            for source in settings.get(kind, []):
                path = source.get("mountPath", "")
                if not source.get("optional") and not Path(path).exists():
                    raise BadInput(
                        f"The task {task!r} reads the {what} {_name(source, what)} at {path}, which does not exist",
                        why="The engine `local` mounts nothing",
                        fix=f"Put the files at {path}, or run the pipeline on a cluster",
                        place=place,
                    )
    return found


def settings_left_out(pipeline: Pipeline) -> str:
    """The settings for Kubernetes that have no meaning on one machine, with their tasks; "" when there are none."""
    tasks: dict[str, list[str]] = {}
    for task, settings in _settings(pipeline):
        for setting in sorted(settings.keys() - _VARIABLES.keys() - _VOLUMES.keys()):
            words = re.sub(r"([A-Z])", lambda found: f" {found[1].lower()}", setting)
            tasks.setdefault(words, []).append(task)
    return ", ".join(f"{setting} ({', '.join(names)})" for setting, names in tasks.items())


def _settings(pipeline: Pipeline) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The settings of each task, under the task's name; those of the whole pipeline under the pipeline's."""
    kubernetes = pipeline.platforms.get("kubernetes", {})
    labels = {str(component.get("executorLabel")): name for name, _, component in pipeline.tasks()}
    for label, settings in kubernetes.get("deploymentSpec", {}).get("executors", {}).items():
        yield labels.get(label, label), settings
    if whole := kubernetes.get("pipelineConfig"):
        yield pipeline.name, whole


def _name(source: Mapping[str, Any], what: str) -> str:
    prefix = "secret" if what == "secret" else "configMap"
    named = source.get(f"{prefix}NameParameter", source.get("configNameParameter", {}))
    constant = named.get("runtimeValue", {}).get("constant", "")
    return str(source.get(f"{prefix}Name") or constant or "that a parameter names")
