"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAY = 24 * 3600


def write_whole(path: Path, text: str) -> None:
    """Write a file, and its folder, so that nobody ever sees a part of it, also when this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, mark: str) -> Iterator[Path]:
    """A new folder that is given the place of another one when it is done; when it fails, that one stays as it was.

    One process at a time may do this with a folder. What a process left that was killed is removed.

    Args:
        folder: that is made or replaced.
        mark: a file that each such folder has; a folder without it is not ours to replace.

    Raises:
        FileExistsError: the folder holds something else.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise FileExistsError(folder)
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def remove_old(folders: Iterable[Path], days: float) -> None:
    """Remove the folders in which nothing has changed for so many days, two floors down: what is in use stays."""
    for folder in folders:
        with suppress(OSError):  # another process has just removed it
            changed = max(item.stat().st_mtime for item in (folder, *folder.glob("*"), *folder.glob("*/*")))
            if time.time() - changed > days * DAY:
                shutil.rmtree(folder, ignore_errors=True)
