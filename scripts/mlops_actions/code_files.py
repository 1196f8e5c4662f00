"""The files of the consumer that a command runs: when they change, finished work is not taken again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from .stores.digests import file_digest


def code_files(words: Sequence[str], root: Path) -> list[Path]:
    """The files below `root` that a command names, and the modules there that its Python files import.

    A word names a file as itself, after `=` (`--config=train.yaml`), or after `-m` as a module. Imports are followed
    through the files; those of installed packages are not (their versions are in the environment's name).

    Args:
        words: of the command.
        root: the consumer's folder, in which the command runs.
    """
    todo = [path for word in _names(words) if (path := root / word).is_file()]
    for flag, module in pairwise(words):
        if flag == "-m":
            todo += _module(module, [root])
    found: set[Path] = set()
    while todo:
        path = todo.pop().resolve()
        if path in found or not path.is_relative_to(root.resolve()):
            continue
        found.add(path)
        if path.suffix == ".py":
            todo += _imports(path, root)
    return sorted(found)


def digest(files: Iterable[Path], root: Path) -> str:
    """One digest of the files' names and bytes."""
    lines = [f"{file_digest(file)} {_relative(file, root)}\n" for file in sorted(files)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _names(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from (part for part in {word, word.partition("=")[2]} if part and "\n" not in part and len(part) < 1024)


def _relative(file: Path, root: Path) -> str:
    root = root.resolve()
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _imports(path: Path, root: Path) -> list[Path]:
    """The files that a Python file imports from its own folder or from the root."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []  # the trial itself will say so
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found += _module(name.name, [path.parent, root])
        elif isinstance(node, ast.ImportFrom):
            bases = [path.parents[node.level - 1]] if 0 < node.level <= len(path.parents) else [path.parent, root]
            for imported in (node.module or "", *(f"{node.module or ''}.{n.name}".strip(".") for n in node.names)):
                found += _module(imported, bases)
    return found


def _module(name: str, folders: Sequence[Path]) -> list[Path]:
    """The files that importing a dotted name runs, in the first folder that has it: packages' `__init__` as well."""
    parts = [part for part in name.split(".") if part]
    for folder in folders:
        found: list[Path] = []
        for index in range(1, len(parts) + 1):
            stem = folder.joinpath(*parts[:index])
            candidates = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py", stem / "__main__.py")
            found += [file for file in candidates if file.is_file()]
        if found:
            return found
    return []
