"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DAY = 24 * 3600
_UNFINISHED = "mlops-actions is writing this folder\n"


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

    One process at a time may do this with a folder. What a process left that was killed is removed, and nothing that
    was not written here.

    Args:
        folder: that is made or replaced.
        mark: a file that lists what was written into the folder, itself too.

    Raises:
        FileExistsError: the folder, or one that is needed beside it, has something that its mark does not list; it is
            the error's argument.
    """
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    for one in (folder, part, old):
        if other := _not_ours(one, mark):
            raise FileExistsError(other)
    if old.exists() and not folder.exists():  # one that was killed had just put it aside
        old.rename(folder)
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        (part / mark).write_text(_UNFINISHED, encoding="utf-8")
        yield part
        files = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
        (part / mark).write_text("".join(f"{name}\n" for name in files), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def _not_ours(folder: Path, mark: str) -> Path | None:
    """What a folder has that its mark does not list; None where all is ours, or nothing is there."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return folder
    text = (folder / mark).read_text("utf-8", "replace") if (folder / mark).is_file() else ""
    listed = {path for line in text.splitlines() for path in (folder / line, *(folder / line).parents)}
    found = sorted(folder.rglob("*")) if text != _UNFINISHED else []
    return next((path for path in found if path not in listed), None)


def remove_old(folders: Iterable[Path], days: float) -> None:
    """Remove the folders in which nothing has changed for so many days, two floors down: what is in use stays."""
    for folder in folders:
        with suppress(OSError):  # another process has just removed it
            changed = max(item.stat().st_mtime for item in (folder, *folder.glob("*"), *folder.glob("*/*")))
            if time.time() - changed > days * DAY:
                shutil.rmtree(folder, ignore_errors=True)
