"""What this process was started with, out of sight of the processes that it starts.

The environment that a process was started with can be read by every other one of the same user, in
`/proc/<pid>/environ` (proc(5)), its children among them: to leave a secret out of a child's own environment is not
enough. Linux shows there the bytes of the process's own memory, so they can be overwritten.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_DUMPABLE = 4  # prctl(2)
_TRACKED = "RUNNER_TRACKING_ID"  # by it GitHub's runner finds the processes that a job has left
_ENV_START = 47  # of the fields of /proc/<pid>/stat after the name: `env_start`, and `env_end` after it


def conceal_environ() -> None:
    """Let no other process read what variables this one was started with; `os.environ` and children keep them.

    Processes of the same user can then not read its memory either. Root can: a program that runs as root, or may
    become it, is kept from nothing. Linux only; elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        start, end = (int(field) for field in fields[_ENV_START : _ENV_START + 2])
        for name, value in os.environ.items():
            os.putenv(name, value)  # a copy elsewhere: from now on the C library and children have that one
        kept = f"{_TRACKED}={os.environ[_TRACKED]}".encode() if _TRACKED in os.environ else b""
        if 0 < start < end and len(kept) < end - start:
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, kept, len(kept))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def open_environ() -> dict[str, str]:
    """Variables for a process of ours that lives beside the consumer's code, which can read them: no secret ones."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", _TRACKED) if name in os.environ}
