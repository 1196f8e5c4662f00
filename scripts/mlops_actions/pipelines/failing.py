"""A failed task in the consumer's terms, whichever engine ran it: the place in their file, and what to do."""

from __future__ import annotations

from pathlib import Path

from ..errors import Place
from .source import locate, python_files


def place_of(pipeline: Path, root: Path, source: str, line: int | None) -> Place:
    """Where a line of a component's embedded source stands in the consumer's files; else the pipeline's file.

    Args:
        pipeline: the pipeline's file.
        root: the consumer's folder.
        source: the text that the compiler embedded; "" for a component without one.
        line: in it, from 1; None for the function itself.
    """
    found = locate(source, line, python_files(pipeline, root)) if source else None
    return Place(shown(found[0], root), found[1]) if found else Place(shown(pipeline, root))


def shown(file: Path, root: Path) -> str:
    """A file as the consumer calls it."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def advice_on_module(missing: str, root: Path) -> str:
    """What to do about a module that a component does not find; "" when none is missing."""
    module = missing.split(".")[0]
    if not module:
        return ""
    if (root / f"{module}.py").exists() or (root / module).is_dir():
        return (
            f"A component sees only its own function and installed packages, not `{module}` of the repository:"
            " move the code into the function, or install it as a package"
        )
    return "Add the package that has it to the component's `packages_to_install`, or to `requirements`"
