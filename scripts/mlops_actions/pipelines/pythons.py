"""The Python environments that the components of a pipeline run in on this machine."""

from __future__ import annotations

import hashlib
import platform
import re

from ..environments import Environment, lock_of
from ..errors import BadInput, Place
from ..inputs import CodeInputs
from ..workspace import Workspace
from .engine import Python
from .spec import Pipeline


def pythons_of(pipeline: Pipeline, code: CodeInputs, workspace: Workspace) -> dict[str, Python]:
    """An environment for each set of packages that components ask for, by the executor's label.

    Raises:
        BadInput: the packages of a component conflict with those that every component has.
        RemoteFailed: packages cannot be installed.
    """
    made: dict[tuple[str, ...], Python] = {}
    pythons = {}
    for label, packages in pipeline.packages().items():
        if packages not in made:
            made[packages] = python_of(workspace.environment("pipelines", code, packages), pipeline)
        pythons[label] = made[packages]
    return pythons


def python_of(environment: Environment, pipeline: Pipeline) -> Python:
    """An environment by what is installed in it.

    Raises:
        BadInput: its kfp is of another major version than the lock's, by whose executor components run.
    """
    frozen = environment.frozen()
    pinned, installed = (re.search(r"^kfp==([^\s;.]+)\S*", text, re.MULTILINE) for text in (_lock(), frozen))
    if not pinned or not installed or pinned[1] != installed[1]:
        raise BadInput(
            f"The pipeline {pipeline.name!r} asks for {installed[0] if installed else 'another kfp'},"
            f" and components run with kfp {pinned[1] if pinned else ''}",
            fix="Leave kfp out of `packages_to_install` and `requirements`: every component has it",
            place=Place(pipeline.file.name),
        )
    configuration = (environment.folder / "pyvenv.cfg").read_text(encoding="utf-8")
    about = [line for line in configuration.splitlines() if line.startswith("version")]
    text = "\n".join([frozen, *about, platform.system(), platform.machine()])
    return Python(str(environment.python), hashlib.sha256(text.encode()).hexdigest(), frozen)


def _lock() -> str:
    return lock_of("pipelines").read_text(encoding="utf-8")
