"""Processes that run a consumer's code: each is the head of a group, which ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

PATIENCE = 2.0
"""Seconds between asking a group to end and ending it: a cancelled job has 7.5 s in all."""


def own_group() -> dict[str, Any]:
    """Options of `subprocess.Popen` for a process that is the head of a group, apart from ours and our terminal's."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def signal_group(group: int, number: int) -> bool:
    """Signal every process of a group (not on Windows); whether there was any."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_group(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> None:
    """Ask a process and all that it started to end, and end what is left after `patience` seconds."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    elif signal_group(process.pid, signal.SIGTERM):
        deadline = time.monotonic() + patience
        while signal_group(process.pid, 0) and time.monotonic() < deadline:
            process.poll()  # a head that has ended counts as there until it is waited for
            time.sleep(0.02)
        signal_group(process.pid, signal.SIGKILL)
    process.wait()
