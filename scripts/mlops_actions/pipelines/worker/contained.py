"""Runs a `docker run` and removes its container when the process that started this is gone. Standard library only.

`contained.py DOCKER NAME COMMAND…`: the container of that name goes when standard input closes, or a signal comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


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
