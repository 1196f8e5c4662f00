"""MLServer on this machine: one detached process a model, which stays when the job ends.

`<home>/serving/<name>-<hash of the store>/`: `current.json` (what serves, written when it does), `stable/` and
`trial/` (folders of servers), `versions/<n>/` (files of models).
"""

from __future__ import annotations

import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import BadInput, RemoteFailed
from ..models.tensors import rows_of
from .engine import DeployRequest, Served
from .process import end, free_port, is_free, running
from .protocol import Answered, Client, Refused
from .rollout import CURRENT, Current, Rollout, read_current, write_current

_PORTS = range(21000, 31000)


class LocalServing:
    """MLServer processes of this machine. The caller holds the model's lock.

    Args:
        folder: gives the folder of a model's state.
        say: is told what is done.
    """

    def __init__(self, folder: Callable[[str], Path], say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say

    def deploy(self, request: DeployRequest) -> Served:
        """Serve a version; see `ServingEngine`.

        What an earlier, killed deployment left half done is ended first.

        Raises:
            BadInput: another process has the port.
            RemoteFailed: MLServer does not run on this system.
        """
        if sys.platform == "win32":
            raise RemoteFailed("MLServer does not run on Windows", fix="Use Linux, macOS or WSL")
        folder = self._folder(request.name)
        folder.mkdir(parents=True, exist_ok=True)
        before = read_current(folder)
        rollout = Rollout(folder, request, before, self._say)
        serving = rollout.clean_up()
        wanted = self._wanted(request, before, serving)
        if serving and before == wanted:
            try:
                return self._served(wanted, before, "reused", rollout.check(Client(wanted.url), request.name))
            except Refused as error:
                self._say(f"Version {wanted.version} serves, but {error}: loading it again")
        try:
            if serving and before and before.goes_with(wanted):
                answered, how = rollout.reload(wanted), "reloaded"
            else:
                answered, how = rollout.replace(wanted), "started"
        except Refused as error:
            return self._rolled_back(rollout, before, str(error))
        except BaseException:
            rollout.restore(wait=False)
            raise
        write_current(folder, wanted)
        self._sweep(folder, {wanted.version, *({before.version} if before else ())})
        return self._served(wanted, before, how, answered)

    def stop(self, name: str) -> int | None:
        """End what serves a model; the version that did, or None when nothing served."""
        folder = self._folder(name)
        current, served = read_current(folder), running(folder / "stable")
        for part in ("trial", "stable"):
            if process := running(folder / part):
                end(process)
        (folder / CURRENT).unlink(missing_ok=True)
        return current.version if current and served else None

    def _wanted(self, request: DeployRequest, before: Current | None, serving: bool) -> Current:
        own = before.port if before and before.host == request.host else 0
        port = request.port or own or _stable_port(self._folder(request.name).name)
        if not (serving and port == own) and not is_free(request.host, port):
            if request.port:
                raise BadInput(
                    f"The port {port} of {request.host} is used by another process",
                    fix="Choose another `port`, or 0 for any",
                )
            port = free_port(request.host)
            self._say(f"Another process uses the usual port; using {port}")
        return Current(
            name=request.name,
            version=request.version,
            digest=request.digest,
            model=str(request.model),
            host=request.host,
            port=port,
            environment=request.environment,
            python=str(request.python),
            predict=request.predict,
            root=str(request.root) if request.code else "",
            code=request.code,
            example=rows_of(request.golden.inputs, 0, 1) if request.golden else [],
        )

    def _rolled_back(self, rollout: Rollout, before: Current | None, reason: str) -> Served:
        log = rollout.log()
        back = rollout.restore()
        version = before.version if before and back else None
        if before and back:
            self._say(f"Version {before.version} serves as before")
        return Served(
            url=before.infer_url if before and back else "",
            version=version,
            previous=before.version if before else None,
            passed=False,
            how="rolled back" if back else "failed",
            reason=reason,
            log=log,
        )

    def _served(self, wanted: Current, before: Current | None, how: str, answered: Answered) -> Served:
        return Served(
            url=wanted.infer_url,
            version=wanted.version,
            previous=before.version if before else None,
            passed=True,
            how=how,
            rows=answered.rows,
            max_difference=answered.max_difference,
            latency=answered.latency,
            output=answered.output,
        )

    def _sweep(self, folder: Path, kept: set[int]) -> None:
        for path in (folder / "versions").glob("*"):
            if path.name not in {str(version) for version in kept}:
                shutil.rmtree(path, ignore_errors=True)


def _stable_port(name: str) -> int:
    """The port that a model has unless it is taken: by its folder's name, so that its address stays."""
    return _PORTS[zlib.crc32(name.encode()) % len(_PORTS)]
