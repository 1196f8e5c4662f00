"""The matrix of test-model: the environments that a model must work in, and the runner that each one is tested on."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..errors import BadInput
from ..inputs import Written
from ..suggest import did_you_mean
from ..values import Lines, parse_mappings
from .golden_worker import gpus

BUILT = "built"
"""The image of a leg that is tested in the one that build-image made in the same run."""
TRAINING = "training"
"""What the only environment is called where none is configured: that of the training."""


class RunnerGroup(Written):
    """A group of runners, as `runs-on` of a workflow has it."""

    group: str = ""
    labels: str | list[str] = ""


def _version(value: object) -> object:
    """A Python version as text; YAML reads 3.10 without quotes as 3.1."""
    if isinstance(value, float):
        if len(str(value).partition(".")[2]) < 2:
            raise ValueError(f'is {value:g}, as YAML reads 3.10 without quotes: write it in quotes, "3.10"')
        return str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Leg(Written):
    """One environment of the matrix. What it leaves out is as the inputs of test-model say."""

    runs_on: str | list[str] | RunnerGroup = Field(
        default="", description="The runner: a label, a list of labels, or a mapping of `group` and `labels`."
    )
    python: Annotated[str, BeforeValidator(_version)] = Field(default="", description="Python: a version or a path.")
    requirements: str = Field(default="", description="A requirements file, or a pyproject.toml.")
    packages: Lines = Field(default_factory=list, description="Packages beside `requirements`.")
    dependencies: Literal["", "locked", "lowest", "newest"] = Field(
        default="", description="Which versions are taken of those that the requirements allow."
    )
    image: str = Field(default="", description="An image to test in: its name, or `built` for the one of build-image.")
    gpu: bool = Field(default=False, description="Whether there must be a GPU.")


def _parse_legs(value: object) -> object:
    found = parse_mappings(value)
    if not isinstance(found, Mapping):
        return found
    for name in found:
        if not re.fullmatch(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}", str(name)):
            raise ValueError(f"the name {name!r} becomes a part of a path: it must not have `/` or begin with `.`")
    return {str(name): {} if leg is None else leg for name, leg in found.items()}


Legs = Annotated[dict[str, Leg], BeforeValidator(_parse_legs, json_schema_input_type=dict[str, Leg | None])]
"""Legs by name, as a mapping or `name={…}` lines."""


def leg_of(matrix: Mapping[str, Leg], variant: str) -> tuple[str, Leg]:
    """The name and the settings of the leg to test: of the one that is named, or of the only one.

    Without a matrix a variant is only a name.

    Raises:
        BadInput: the matrix does not have it, or has several and none is named.
    """
    if not matrix:
        return variant, Leg()
    if variant in matrix or (not variant and len(matrix) == 1):
        name = variant or next(iter(matrix))
        return name, matrix[name]
    if variant:
        fix = did_you_mean(variant, matrix, "It has: {}")
        raise BadInput(f"The matrix of test-model has no environment {variant!r}", fix=fix)
    raise BadInput(
        f"The matrix of test-model has {len(matrix)} environments, and none is named: {', '.join(matrix)}",
        fix="Name one with `variant`; `mlops run --only test-model` tests all of them, one after the other",
    )


def github_matrix(matrix: Mapping[str, Leg]) -> list[dict[str, Any]]:
    """The matrix of a job: the name of each leg, and its runner in the form of `runs-on`; "" for the workflow's own.

    A leg with an image says so: it gets the login of the registry. So does one that must have a GPU.
    """
    return [
        {"name": name, "runs-on": leg.model_dump(by_alias=True, exclude_defaults=True).get("runs-on", "")}
        | ({"image": True} if leg.image else {})
        | ({"gpu": True} if leg.gpu else {})
        for name, leg in (matrix or {TRAINING: Leg()}).items()
    ]


_SYSTEMS = {"linux": "Linux", "ubuntu": "Linux", "windows": "Windows", "macos": "Darwin"}
_MACHINES = {"arm64": "arm64", "arm": "arm64", "aarch64": "arm64", "x64": "x64", "amd64": "x64", "x86_64": "x64"}


def elsewhere(runs_on: object, *, gpu: bool = False) -> str:
    """Why a leg cannot be tested on this machine, by the labels of its runner and the GPU that it must have; "" where
    nothing speaks against it.

    GitHub's own labels tell the system and the processor: `windows-2025`, `ubuntu-24.04-arm`, and of self-hosted
    runners `Linux`, `ARM64`.
    """
    labels = runs_on.get("labels") or [] if isinstance(runs_on, Mapping) else runs_on
    given = [labels] if isinstance(labels, str) else labels if isinstance(labels, list) else []
    machine = _MACHINES.get(platform.machine().lower(), platform.machine())
    for label in map(str, given):
        first, *rest = label.lower().split("-")
        system = _SYSTEMS.get(first)
        if system and system != platform.system():
            return f"it runs on {label}, and this machine has {platform.system()}"
        named = _MACHINES.get(rest[-1] if system and rest else first, "")
        if named and named != machine:
            return f"it runs on {label}, and this machine is {machine}"
    return "it needs a GPU, and this machine has none" if gpu and not gpus() else ""
