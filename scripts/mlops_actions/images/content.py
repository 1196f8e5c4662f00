"""The content key of a build: a hash of all that decides what is in the image.

It holds the Dockerfile, the files of the context that `.dockerignore` lets through, build arguments, target, platforms,
the identity of base images that this machine has, and the test that the image must pass. Dates and owners of files do
not count. What a `RUN` downloads cannot be seen: pin it, or build with `--no-reuse`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from docker.utils.build import exclude_paths

_CHUNK = 1 << 20


def ignore_patterns(context: Path, dockerfile: Path) -> list[str]:
    """The patterns of the ignore file: `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's own."""
    for file in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return []


def context_files(context: Path, dockerfile: Path) -> list[str]:
    """The files and links of a build's context, relative to it, sorted, with `/` between folders.

    The Dockerfile is not among them. `.git` counts only if the Dockerfile speaks of it: it changes with each fetch and
    each commit, and few images need it.
    """
    patterns = ignore_patterns(context, dockerfile)
    if not re.search(r"\.git(?![\w-])", dockerfile.read_text(encoding="utf-8", errors="replace")):
        patterns.insert(0, ".git")
    own = os.path.relpath(dockerfile, context)
    found: Iterable[str] = exclude_paths(str(context), patterns, dockerfile=own)
    paths = (path for path in found if path != own)
    return sorted(
        Path(path).as_posix() for path in paths if (context / path).is_symlink() or (context / path).is_file()
    )


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
        OSError: a file cannot be read.
    """
    files = {path: _identity(context / path) for path in context_files(context, dockerfile)}
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


def _identity(path: Path) -> str:
    """What of a file reaches the image: a link's target; or the bytes, and whether they may be executed."""
    if path.is_symlink():
        return f"link {os.fsdecode(path.readlink())}"
    executable = os.name != "nt" and bool(path.stat().st_mode & 0o111)
    return f"{'exec' if executable else 'file'} {_digest(path)}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
