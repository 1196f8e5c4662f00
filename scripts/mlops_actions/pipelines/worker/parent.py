"""Ends a process, with all that it started, when the process that started it is gone. Standard library only."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


def end_with_parent() -> None:
    """Watch standard input, whose other end only the parent has: it closes when the parent is gone, however it ended.

    From here on, standard input is empty.
    """
    pipe = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)

    def watch() -> None:
        while os.read(pipe, 1024):
            pass
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
