"""Runs a `docker run` and removes its container when the process that started this is gone. Standard library only.

`contained.py DOCKER NAME COMMAND…`: the container of that name goes when standard input closes, or a signal comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def guarded(docker: str, name: str, run: Sequence[str]) -> list[str]:
    """The command of a process that runs a container, whose standard input must be a pipe of who starts it.

    Args:
        docker: the docker command.
        name: of the container.
        run: the `docker run` that starts it.
    """
    return [sys.executable, "-I", __file__, docker, name, *run]


def main() -> int:
    """Run it; its exit code."""
    docker, name, *command = sys.argv[1:]
    pipe = os.dup(0)

    def remove(*_: object) -> None:
        # In a session of its own: what kills this group must not end the removal.
        subprocess.run(
            [docker, "rm", "--force", name], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            start_new_session=True,
        )  # fmt: skip
        os._exit(143)

    def watch() -> None:
        while os.read(pipe, 1024):
            pass
        remove()

    signal.signal(signal.SIGTERM, remove)
    threading.Thread(target=watch, daemon=True).start()
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
