"""Folders for temporary files that go with their process, though it be killed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .identity import Identity, machine

_NAME = re.compile(r"mlops-([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-\w+")
_OLD = 24 * 3600  # seconds after which a folder of a process that cannot be looked up here is taken for left over


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` while the block runs. What killed processes left there is removed before.

    Args:
        parent: an existing folder, which other processes may use for the same at once.
    """
    _sweep(parent)
    mark = f"mlops-{_short(machine())}-{os.getpid()}-{_short(Identity.of(os.getpid()).started)}-"
    with tempfile.TemporaryDirectory(prefix=mark, dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def temporary_files() -> Iterator[None]:
    """While the block runs, all temporary files of this process are in a folder of its own."""
    before = tempfile.tempdir
    with scratch(Path(tempfile.gettempdir())) as folder:
        tempfile.tempdir = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _sweep(parent: Path) -> None:
    for folder in parent.glob("mlops-*-*-*-*"):
        if (found := _NAME.fullmatch(folder.name)) and _is_left(folder, *found.groups()):
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays


def _is_left(folder: Path, where: str, pid: str, started: str) -> bool:
    """Whether the process that made the folder has ended. One of another container cannot be seen from here."""
    if machine() and where == _short(machine()):
        return _short(Identity.of(int(pid)).started) != started
    with suppress(FileNotFoundError):
        return time.time() - folder.stat().st_mtime > _OLD
    return False


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
