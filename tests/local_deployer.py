"""A deployer that is killed (SIGKILL) at the n-th thing that it does, as a process: `local_deployer.py N ARGUMENTS`.

What it does is what another process can see: files that it writes, servers or containers that it makes, starts, tells
something, or ends. The arguments are JSON: `state`, `port`, the fields of the release, and the `image` to serve it in a
container, "" for a process. It prints the number of things at its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.models.containers import Container, ContainerCollection

from mlops_actions.serving import container, local, served
from mlops_actions.serving.container import Containers
from mlops_actions.serving.engine import Release
from mlops_actions.serving.local import Address, LocalServing

done = 0


def counted(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same, and then perhaps the end."""

    def call(*given: Any, **named: Any) -> Any:
        global done
        found = work(*given, **named)
        done += 1
        if done == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return call


def main() -> None:
    given = json.loads(sys.argv[2])
    values = {**given["release"], **{name: Path(given["release"][name]) for name in ("model", "root", "python")}}
    release = Release(**values)
    for owner, name in (
        (local, "write_json"), (served, "write_json"), (local, "end"), (local, "write_release"),
        (container.process, "remember"), (ContainerCollection, "create"), (Container, "start"), (Container, "stop"),
        (Container, "remove"),
    ):  # fmt: skip
        setattr(owner, name, counted(getattr(owner, name)))
    local.process.start = counted(local.process.start)
    tell = local.control.tell
    changing = counted(tell)
    local.control.tell = lambda folder, do, **more: (tell if do == "state" else changing)(folder, do, **more)
    state = Path(given["state"])
    environ, address = dict(os.environ), Address(port=given["port"])
    containers = Containers(environ, lambda release, architecture: str(given["image"]), None, print)
    memory = "512Mi" if given["image"] else None
    engine = LocalServing(lambda name: state, address, environ, 60.0, print, lambda: containers, memory)
    engine.start(release)
    for percent in (10, 100):
        engine.shift(release, percent)
    engine.finish(release)
    print(done)


if __name__ == "__main__":
    main()
