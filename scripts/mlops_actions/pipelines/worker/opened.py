"""What a task reads in the consumer's folder. Standard library only.

Python tells of every file that it opens and every folder that it lists (audit events), so a task that names a file in
its own code is run again when the file has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

_MOST = 10_000  # files of one task: more than that is a data set, which a parameter or a fingerprint should name


class Opened:
    """What is opened below a folder from now on.

    Args:
        root: the folder.
        apart: folders below it that do not count, such as the one of the run.
    """

    def __init__(self, root: str, apart: list[str]) -> None:
        self._root = Path(root).resolve()
        self._apart = [Path(p).resolve() for p in (*apart, sys.prefix, sys.base_prefix)]
        # Nearly all that is opened is the environment's own: it need not be resolved.
        self._quick = tuple(str(folder) + os.sep for folder in self._apart)
        self._read: dict[str, Any] = {}
        self._written: set[str] = set()
        self._folders: set[str] = set()
        self._listening = True
        sys.addaudithook(self._heard)

    def write(self, file: Path) -> None:
        """Write down what was read: by relative path, the time of its last change and its size, or a folder's names."""
        self._listening = False
        found = {name: state for name, state in self._read.items() if name not in self._written}
        for name in self._folders:
            try:
                names = sorted(entry.name for entry in (self._root / name).iterdir() if self._counts(entry))
            except OSError:
                continue
            found[name] = f"listing:{hashlib.sha256(json.dumps(names).encode()).hexdigest()}"
        file.write_text(json.dumps(found), encoding="utf-8")

    def _counts(self, entry: Path) -> bool:
        return not entry.name.startswith(".") and entry.relative_to(self._root).as_posix() not in self._written

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._listening or event not in ("open", "os.listdir", "os.scandir"):
            return
        self._listening = False
        try:
            self._note(event, arguments)
        except (OSError, ValueError, TypeError):  # a file that is open already has no name
            pass
        finally:
            self._listening = True

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        given = os.fsdecode("." if arguments[0] is None else arguments[0])
        if given.startswith(self._quick):
            return
        path = Path(given).resolve()
        if not path.is_relative_to(self._root) or any(path.is_relative_to(folder) for folder in self._apart):
            return
        name = path.relative_to(self._root).as_posix()
        if any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(self._root).parts[:-1]):
            return
        if event != "open":
            if len(self._folders) < _MOST:
                self._folders.add(name)
        elif _writes(arguments[1], arguments[2]):
            if name not in self._read:
                self._written.add(name)
        elif name not in self._read and name not in self._written and len(self._read) < _MOST and path.is_file():
            state = path.stat()
            self._read[name] = [state.st_mtime_ns, state.st_size]


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
