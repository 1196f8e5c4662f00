"""The content key of a build: a hash of all that decides what is in the image.

It holds the Dockerfile, what the builder gets of the context (paths, bytes, links, modes, empty folders), build
arguments, target, platforms, the identity of base images that this machine has, and the test that the image must pass.
Dates and owners of files do not count. What a `RUN` downloads cannot be seen: pin it, or build with `--no-reuse`.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadInput
from . import dockerignore
from .dockerfile import context_sources, instructions

_CHUNK = 1 << 20


def context_files(context: Path, dockerfile: Path) -> dict[str, str]:
    """What the builder gets of a context: each path, relative to it and with `/`, and what of it reaches the image.

    `.git` counts only if an instruction reads it: it changes with each fetch and each commit, and few images need it.

    Raises:
        BadInput: a line of the ignore file is not a pattern.
        OSError: a file cannot be read.
    """
    patterns: list[dockerignore.Pattern] = []
    own = dockerfile.with_name(dockerfile.name + ".dockerignore")
    for file in (own, context / ".dockerignore"):
        if file.is_file():
            patterns = dockerignore.read_ignore_file(file, file.name)
            break
    text = dockerfile.read_text(encoding="utf-8-sig", errors="replace")
    git = any(_reads_git(context, source) for source in context_sources(instructions(text)))
    paths = dockerignore.sent(context, patterns, without="" if git else ".git")
    return {path: _identity(context / path) for path in sorted(paths)}


def content_key(
    context: Path,
    dockerfile: Path,
    *,
    build_args: Mapping[str, str],
    target: str,
    platforms: Sequence[str],
    bases: Mapping[str, str],
    test: str,
) -> str:
    """The key: 32 hexadecimal digits, the same on each machine with the same content.

    Args:
        context: the folder that is sent to the builder.
        dockerfile: its instructions; it may stand outside the context.
        build_args: values of `ARG`.
        target: the stage that is built; "" for the last.
        platforms: such as `linux/arm64`; the order does not count.
        bases: identity of each base image, by name; "" where only the builder can know it.
        test: the command that the image must pass.

    Raises:
        BadInput: a line of the ignore file is not a pattern, or a file cannot be read.
    """
    try:
        files = context_files(context, dockerfile)
    except OSError as error:
        raise BadInput(
            f"Cannot read {error.filename} in the build context",
            why=error.strerror or "",
            fix="Make it readable, or exclude it in `.dockerignore`",
        ) from error
    parts = {
        "dockerfile": _digest(dockerfile),
        "files": files,
        "build-args": dict(build_args),
        "target": target,
        "platforms": sorted(platforms),
        "bases": dict(bases),
        "test": test,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _reads_git(context: Path, source: str) -> bool:
    """Whether a source of COPY, ADD or a mount may be in `.git`, hold it, or lead there; if in doubt, yes."""
    if "$" in source:
        return True
    path = posixpath.normpath(f"/{source}").lstrip("/")
    first = path.partition("/")[0]
    try:
        if not path or dockerignore.compiled(first).fullmatch(".git"):
            return True
    except ValueError:
        return True
    return Path(os.path.realpath(context / path)).is_relative_to(os.path.realpath(context / ".git"))


def _identity(path: Path) -> str:
    """What of a path reaches the image: its kind and mode, and a link's target or a file's bytes."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"link {os.fsdecode(path.readlink())}"
    mode = 0o755 if os.name == "nt" else stat.S_IMODE(found.st_mode)  # docker on Windows sends all as programs
    return f"folder {mode:o}" if stat.S_ISDIR(found.st_mode) else f"file {mode:o} {_digest(path)}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
