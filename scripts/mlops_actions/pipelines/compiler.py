"""Compiling a pipeline, and saying what is wrong with it in the consumer's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, Place
from ..suggest import did_you_mean
from .process import compile_in
from .spec import Pipeline


def compile_pipeline(
    python: Path, environ: Mapping[str, str], file: Path, name: str, root: Path,
    debug: Callable[[str], None] | None = None,
) -> Pipeline:  # fmt: skip
    """The pipeline in a `.py` file, or in compiled YAML.

    Args:
        python: the interpreter of an environment with KFP's SDK.
        environ: variables of the process that compiles.
        file: absolute path.
        name: of the pipeline, when the file has several; else "".
        root: the consumer's folder.
        debug: told what the consumer's file printed.

    Raises:
        BadInput: the file does not exist, it is wrong (with its place), or it has no pipeline or several.
        RemoteFailed: the process that compiles failed.
    """
    shown = _relative(file, root)
    if not file.is_file():
        raise BadInput(f"The pipeline file {shown} does not exist", fix=_near(file, root))
    if file.suffix not in (".py", ".yaml", ".yml"):
        raise BadInput(f"{shown} is neither Python nor YAML", fix="Name a `.py` file or a compiled `.yaml`")
    compiled = compile_in(python, root, environ, {"file": str(file), "name": name, "root": str(root)}, debug)
    if "error" in compiled:
        raise _refusal(compiled, name, shown, root)
    pipeline = Pipeline(file, compiled["spec"], compiled["platforms"], compiled["kfp"])
    pipeline.require_sound(Place(shown))
    return pipeline


def _refusal(compiled: dict[str, Any], name: str, shown: str, root: Path) -> BadInput:
    kind, message = compiled["error"]["kind"], compiled["error"]["message"]
    place = Place(_relative(Path(compiled["file"]), root), compiled["line"], compiled["column"])
    names = compiled.get("names", [])
    if kind == "syntax":
        return BadInput(f"{place.file} has a syntax error", why=message, fix="Correct that line", place=place)
    if kind == "raised":
        return BadInput(
            f"{shown} cannot be loaded", why=message, fix="Correct that line", place=place, log=compiled["log"]
        )
    if kind == "none":
        return BadInput(
            f"{shown} has no pipeline",
            fix="Decorate the function that connects the components with `@dsl.pipeline`",
            place=place,
        )
    if kind == "several":
        return BadInput(
            f"{shown} has {len(names)} pipelines: {', '.join(names)}",
            fix=f"Say which one with `pipeline-name`, such as `{names[-1]}`",
            place=place,
        )
    if kind == "unknown":
        return BadInput(
            f"{shown} has no pipeline {name!r}",
            why=f"It has: {', '.join(names)}",
            fix=did_you_mean(name, names, "Correct `pipeline-name`"),
            place=place,
        )
    if kind == "argo":
        return BadInput(
            f"{shown} is an Argo Workflow, not a Kubeflow pipeline",
            why=message,
            fix="Compile the pipeline with the SDK of KFP 2, or name its `.py` file",
            place=place,
        )
    if kind == "not-a-pipeline":
        return BadInput(
            f"{shown} is not a compiled pipeline",
            why=message,
            fix="Compile one with `kfp dsl compile`, or name the `.py` file itself",
            place=place,
        )
    return BadInput(f"{shown} cannot be read", why=message, place=place)


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def _near(file: Path, root: Path) -> str:
    folder = file.parent if file.parent.is_dir() else root
    names = [path.name for path in folder.iterdir() if path.suffix in (".py", ".yaml", ".yml")]
    return did_you_mean(_relative(file, root), [_relative(folder / name, root) for name in names], "Correct `pipeline`")
