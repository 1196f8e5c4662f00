"""MLServer on this machine: one detached process a model, which stays when the job ends.

A version that goes with the running server's environment is loaded into it beside the one that serves, under another
name, asked the golden rows, and only then loaded under the model's own name: callers see one version or the other.
When the environment differs, a second server is tried on another port first, and then takes the first one's place.

`<home>/serving/<name>/`: `current.json` (what serves, written when it does), `stable/` and `trial/` (folders of
servers), `versions/<n>/` (files of models). All under one lock a model, so that nobody else changes them meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import BadInput, RemoteFailed
from .engine import Request, Served
from .process import Process, free_port, is_free, running, start, wait_until
from .protocol import Answered, Client, Refused

_CANDIDATE = "--candidate"
_PORTS = range(21000, 31000)
_UNASKED = Answered(0, 0.0, 0.0)


class Current(BaseModel):
    """What serves a model: enough to ask it, to end it, and to start it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    digest: str
    model: str
    host: str
    port: int
    runtime: str
    environment: str
    python: str
    environ: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Of the server."""
        return address(self.host, self.port)


class LocalServing:
    """MLServer processes of this machine.

    Args:
        home: the folder of the servers' state.
        say: is told what is done.
    """

    def __init__(self, home: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self._home, self._say = home, say

    def folder(self, name: str) -> Path:
        """Where a model's state is."""
        return self._home / "serving" / name

    def deploy(self, request: Request) -> Served:
        """Serve a version; see `ServingEngine`. The caller holds the model's lock.

        Raises:
            BadInput: the port is somebody else's.
            RemoteFailed: MLServer does not run on this system.
        """
        if sys.platform == "win32":
            raise RemoteFailed("MLServer does not run on Windows", fix="Use Linux, macOS or WSL")
        return _Deployment(self.folder(request.name), request, self._say).run()

    def stop(self, name: str) -> int | None:
        """End what serves a model; the version that did, or None when nothing served."""
        folder = self.folder(name)
        current = read_current(folder)
        served = running(folder / "stable")
        for part in ("trial", "stable"):
            if process := running(folder / part):
                process.end()
        (folder / "current.json").unlink(missing_ok=True)
        return current.version if current and served else None
