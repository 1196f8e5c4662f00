"""Ends the process groups of a process that died without ending them itself (`kill -9`, out of memory).

Run by path, with the standard library only. On standard input it is told `+<group>` and `-<group>`, a line each; the
input ends when the process that tells does, and then the groups that are left are killed. POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Listen to the end, then kill what is left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        groups.add(group) if line.startswith("+") else groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
