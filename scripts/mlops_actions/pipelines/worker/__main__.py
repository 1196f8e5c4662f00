"""The worker's entry, run by path: `python …/pipelines/worker`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Obey commands until the other end of the line is closed."""
    # The consumer's modules come first, so the package is found last; its own folder is not on the path at all.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]
    from mlops_actions.pipelines.worker.channel import Channel

    channel = Channel()
    while True:
        command = channel.command()
        if "compile" in command:
            from mlops_actions.pipelines.worker.compiling import compile_pipeline

            channel.tell("compiled", **compile_pipeline(**command["compile"]))
        else:
            from mlops_actions.pipelines.worker.running import run_pipeline

            channel.tell("done", **run_pipeline(channel, command["run"]))


if __name__ == "__main__":
    main()
