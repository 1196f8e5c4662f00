"""Ends the process groups of a process that died without ending them (`kill -9`, out of memory).

Standard input is a pipe that only the watched process writes to: `+<group>` when a group starts and `-<group>` when it
has ended, a line each. The pipe ends when the watched process does, however that happens. Then the groups that are left
are asked to end, and soon killed. The guard lives until they are gone, so that its own end says that none of them is
still at work. POSIX only.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from mlops_actions.processes.identity import group_is_alive

ASKED = 1.0
"""Seconds between asking the groups to end and killing them."""
KILLED = 20.0
"""Seconds that a killed process may take to go: one that waits for a disk goes when the disk has answered."""


def main() -> None:
    """Listen to the end, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what ends the watched process must not end its guard before it
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        groups.add(group) if line.startswith("+") else groups.discard(group)
    for number, seconds in ((signal.SIGTERM, ASKED), (signal.SIGKILL, KILLED)):
        deadline = time.monotonic() + seconds
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        while any(map(group_is_alive, groups)) and time.monotonic() < deadline:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
