"""The source text of components, as the compiler embeds it in a pipeline. Standard library only: the worker uses it.

The text is the component's function without its decorator, dedented, after a few lines of imports.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

_ARCHIVE = re.compile(r"(__KFP_EMBEDDED_ARCHIVE_B64 = ')([A-Za-z0-9+/=]+)'")
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist"}
_MOST_FILES = 2000


def stable(source: str) -> str:
    """The source with an embedded archive (`embedded_artifact_path`) replaced by a digest of what is in it.

    The archive holds the time it was made, so its bytes differ from one compilation to the next.
    """
    return _ARCHIVE.sub(lambda found: f"{found[1]}{_archive_digest(found[2])}'", source)


def locate(source: str, line: int | None, files: Iterable[Path]) -> tuple[Path, int] | None:
    """Where a line of a component's source stands in the consumer's files.

    Args:
        source: the embedded text.
        line: in it, from 1; None for the function itself.
        files: where to look, the likeliest first.

    Returns:
        The file and the line in it, from 1; None if no file has the function as it is.
    """
    ours = source.splitlines()
    starts = [i for i, text in enumerate(ours) if re.match(r"(async )?def ", text)]
    if not starts:
        return None
    at = line - 1 if line else starts[-1]
    start = max((i for i in starts if i <= at), default=starts[-1])
    ends = [i for i in starts if i > start]
    body = [text.strip() for text in ours[start : ends[0] if ends else len(ours)]]
    while body and not body[-1]:
        body.pop()
    for file in files:
        try:
            theirs = [text.strip() for text in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError):
            continue
        for i, text in enumerate(theirs):
            if text == body[0] and theirs[i : i + len(body)] == body:
                return file, i + 1 + max(at - start, 0)
    return None


def python_files(first: Path, root: Path) -> Iterable[Path]:
    """The consumer's Python files: the pipeline's own, then those beside and below it, then the rest."""
    seen = {first}
    if first.suffix == ".py":
        yield first
    for folder in (first.parent, root):
        for number, file in enumerate(_walk(folder)):
            if number >= _MOST_FILES:
                break
            if file not in seen:
                seen.add(file)
                yield file


def _walk(folder: Path) -> Iterable[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            own = not (entry.name.startswith(".") or entry.name in _SKIPPED or (entry / "pyvenv.cfg").exists())
            if own and not entry.is_symlink():
                yield from _walk(entry)
        elif entry.suffix == ".py":
            yield entry


def _archive_digest(encoded: str) -> str:
    digest = hashlib.sha256()
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(encoded)), mode="r:gz") as archive:
            for member in sorted(archive.getmembers(), key=lambda m: m.name):
                file = archive.extractfile(member) if member.isfile() else None
                content = hashlib.sha256(file.read()).hexdigest() if file else member.linkname
                digest.update(f"{member.name} {content}\n".encode())
    except (tarfile.TarError, ValueError, OSError):
        return encoded
    return digest.hexdigest()
