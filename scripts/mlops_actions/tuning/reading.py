"""From a YAML file to an Experiment: what is wrong with it is said with its line, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ..errors import BadInput, Place
from ..misfits import misfit
from ..suggest import did_you_mean
from ..yaml_io import Document as Yaml
from ..yaml_io import read_documents
from .experiment import Experiment, Part, Path
from .jobs import Container, TrialJob

API_VERSION = "kubeflow.org/v1beta1"
TRIAL_SPEC: Path = ("spec", "trialTemplate", "trialSpec")
P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class Document:
    """An Experiment and where its parts stand.

    Attributes:
        name: the file's name, for messages.
        values: the YAML as it was written, without anything that was added.
        experiment: the same, typed.
        places: line and column of each key and item.
    """

    name: str
    values: dict[str, Any]
    experiment: Experiment
    places: dict[Path, tuple[int, int]]

    def place(self, path: Path) -> Place:
        """Where a part stands; the nearest known one above it."""
        return _place(self.name, self.places, path)

    @cached_property
    def job(self) -> TrialJob:
        """The trial's object as the Kubernetes Job that it has to be to run here.

        Raises:
            BadInput: it is of another kind, or not a Job as Kubernetes knows it; with the line.
        """
        spec = self.experiment.spec.trial_template.trial_spec or {}
        if (spec.get("apiVersion"), spec.get("kind")) != ("batch/v1", "Job"):
            raise BadInput(
                f"{self.name}: a trial of kind {spec.get('kind')!r} ({spec.get('apiVersion')!r}) is not supported",
                why="The local engine runs the primary container of a batch/v1 Job",
                fix="Write the trial as a Job, or run the Experiment on Katib",
                place=self.place((*TRIAL_SPEC, "kind")),
            )
        return _typed(TrialJob, spec, self.name, self.places, TRIAL_SPEC)

    @property
    def primary(self) -> tuple[int, Container] | None:
        """The primary container of the job and its place among the pod's containers, if there is one of its name."""
        name = self.experiment.spec.trial_template.primary_container_name
        containers = self.job.spec.template.spec.containers
        return next(((i, c) for i, c in enumerate(containers) if c.name == name), None)


def read(file: File, name: str) -> Document:
    """The Experiment in a file, which may hold other documents beside it.

    Args:
        file: where it is.
        name: what messages call it.

    Raises:
        BadInput: the file does not exist, it is not YAML, it holds no or several Experiments, or a field is unknown,
            absent or of the wrong type; with the line.
    """
    values, places = _experiment(name, read_documents(file, name, "Correct `experiment`"))
    _check_kinds(name, values, places)
    return Document(name, values, _typed(Experiment, values, name, places), places)


def _typed(model: type[P], values: Any, name: str, places: dict[Path, tuple[int, int]], path: Path = ()) -> P:
    """A part of the YAML, which stands at a path, as what it has to be."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, model, name, places, path) from None


def _experiment(name: str, found: list[Yaml]) -> Yaml:
    """The one document that is an Experiment; of a single document the kind is checked later, with its line."""
    documents = [document for document in found if isinstance(document.value, dict)]
    if not documents:
        raise BadInput(f"{name} holds no Experiment", why="It is empty or not a mapping", place=Place(name, 1))
    experiments = [document for document in documents if document.value.get("kind") == "Experiment"]
    if len(experiments) > 1:
        line, _ = min(experiments[1].places.values())
        raise BadInput(
            f"{name} holds {len(experiments)} Experiments", fix="Keep one in a file", place=Place(name, line)
        )
    if not experiments and len(documents) > 1:
        kinds = ", ".join(str(document.value.get("kind") or "no kind") for document in documents)
        raise BadInput(f"{name} holds no Experiment", why=f"Its documents are: {kinds}", place=Place(name, 1))
    return (experiments or documents)[0]


def _check_kinds(name: str, values: Any, places: dict[Path, tuple[int, int]]) -> None:
    """The kinds decide which fields there are, so they are looked at first."""
    if values.get("kind") != "Experiment":
        raise BadInput(
            f"{name}: " + (f"the kind is {values['kind']!r}, not Experiment" if "kind" in values else "it has no kind"),
            fix="Give a Katib Experiment",
            place=_place(name, places, ("kind",)),
        )
    if values.get("apiVersion") != API_VERSION:
        raise BadInput(
            f"{name}: `apiVersion` is {values.get('apiVersion')!r}",
            fix=f"Write it for {API_VERSION}",
            place=_place(name, places, ("apiVersion",)),
        )


def _place(name: str, places: dict[Path, tuple[int, int]], path: Path) -> Place:
    while path and path not in places:
        path = path[:-1]
    return Place(name, *places.get(path, (1, 1)))


def dotted(path: Path) -> str:
    """A path as Kubernetes writes it: `spec.parameters[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _refusal(
    error: ValidationError, model: type[Part], name: str, places: dict[Path, tuple[int, int]], above: Path
) -> BadInput:
    """The first thing that is wrong: unknown keys before all else, since a misspelt key is also a missing one."""
    problem = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path: Path = (*above, *problem["loc"])
    place = _place(name, places, path)
    where, value = dotted(path), problem.get("input")
    if problem["type"] == "extra_forbidden":
        fix = did_you_mean(path[-1], _fields_at(model, problem["loc"][:-1]), "Known here: {}")
        owner = "Kubernetes" if above else "Katib"
        return BadInput(f"{name}: `{where}` is unknown to {owner}", fix=fix, place=place)
    if problem["type"] == "string_type" and isinstance(value, int | float):
        fix = f'Katib expects text here: write "{value}" in quotes'
        return BadInput(f"{name}: `{where}` must be text, not {value!r}", fix=fix, place=place)
    return BadInput(f"{name}: {misfit(where, problem)}", fix="Correct it", place=place)


def _fields_at(model: type[Part], path: Path) -> list[str]:
    """The keys that the mapping at a path in a part may have."""
    for part in path:
        if isinstance(part, str):
            info = next(i for n, i in model.model_fields.items() if part in (i.alias, n))
            model = _model_in(info.annotation) or model
    return sorted(info.alias or name for name, info in model.model_fields.items())


def _model_in(annotation: Any) -> type[Part] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if issubclass(annotation, Part) else None
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
