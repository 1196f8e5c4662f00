"""Which process a number means, and whether it is alive.

Standard library only and no import of the package: a server's process loads this in its own environment.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """A process, told apart from a later one that has the same number.

    Attributes:
        pid: its number.
        started: when it was started, as its system writes it; "" if it was not there, or the system does not tell.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The process that has this number now."""
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        """Whether it still runs; one that has ended and was not waited for does not."""
        return bool(self.started) and _started(self.pid) == self.started


def group_is_alive(group: int) -> bool:
    """Whether a process of the group still runs (POSIX only).

    Processes that have ended do not count, though nobody waited for them: in a container often nobody does.
    """
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group in which all have ended
        return _is_linux()
    if not _is_linux():
        return True
    fields = (_stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return any(not _ended(found) and int(found[2]) == group for found in fields if found)


def machine() -> str:
    """An id of this life of this machine, or container; "" where there is none.

    Numbers of processes mean the same only where it is the same.
    """
    try:
        return f"{_boot()}:{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> str:
    if _is_linux():
        found = _stat(pid)
        return f"{_boot()} {found[19]}" if found and not _ended(found) else ""
    if os.name == "nt":
        return ""
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else " ".join(started.split())


def _ended(stat: list[str]) -> bool:
    """Whether all of a process has ended: one that is killed is called a zombie (Z) as soon as its first thread has
    gone, while others still have its files and ports."""
    return stat[0] in "ZX" and int(stat[17]) <= 1


def _stat(pid: int) -> list[str]:
    """Fields 3 and on of `/proc/<pid>/stat` (proc_pid_stat(5)): state, parent, group, …, start time; [] if gone."""
    try:  # the name in field 2 may hold spaces and brackets
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_linux() -> bool:
    return (_PROC / "self/stat").exists()
