"""Rolling a version out on MLServer, which serves it only after it has passed its golden requests.

A version that goes with the running server is loaded into it beside the one that serves, under another name, and asked;
only then it is loaded under the model's own name, which MLServer does between two requests. When the environment, the
consumer's code or the address differs, a second server is tried on another port first; then the old one is ended and a
new one is started in its place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from ..models.checks import remedy
from ..processes.group import Group
from ..processes.identity import Identity
from ..waiting import wait_until
from .engine import DeployRequest
from .process import end, free_port, running, start
from .protocol import Answered, Client, Refused

CURRENT = "current.json"
_CANDIDATE = "--candidate"
_RUNTIME = "mlops_actions.serving.runtime.ServedModel"
_FAILURE = "failure.json"  # as `runtime` calls it, which is not imported here: it needs MLServer
_LOG_LINES = 40
_LOG_BYTES = 5_000_000


class Current(BaseModel):
    """What serves a model: enough to ask it, and to start it again. `example`: its first golden row as tensors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    digest: str
    model: str
    host: str
    port: int
    environment: str
    python: str
    predict: str
    root: str
    code: str
    example: list[dict[str, Any]]

    @property
    def url(self) -> str:
        """Of the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def infer_url(self) -> str:
        """Of the model."""
        return f"{self.url}/v2/models/{self.name}"

    def goes_with(self, other: Current) -> bool:
        """Whether one server can serve both."""
        same = ("name", "host", "port", "environment", "python", "code")  # a module is imported once
        return all(getattr(self, name) == getattr(other, name) for name in same)


class Rollout:
    """One deployment.

    Args:
        folder: of the model's state.
        request: the version.
        before: what served before, if anything.
        say: is told what is done.
    """

    def __init__(
        self, folder: Path, request: DeployRequest, before: Current | None, say: Callable[[str], None]
    ) -> None:
        self._stable, self._trial = folder / "stable", folder / "trial"
        self._request, self._before, self._say = request, before, say
        self._log, self._log_start = self._stable / "server.log", 0

    def clean_up(self) -> bool:
        """End what a killed deployment left; whether what served before still does."""
        if left := running(self._trial):
            self._say("Ending a server that an earlier deployment left")
            end(left)
        process, before = running(self._stable), self._before
        if process and before and wait_until(Client(before.url).ready, 5.0):
            self._forget_candidate(Client(before.url))
            if Client(before.url).ready(before.name, before.version):
                return True
        if process:
            self._say("Ending a server that an earlier deployment left")
            end(process)
        return False

    def reload(self, wanted: Current) -> Answered:
        """Serve the version with the server that runs.

        Raises:
            Refused: the version cannot be loaded, or does not predict as it should.
        """
        client, candidate = Client(wanted.url, self._request.timeout), wanted.name + _CANDIDATE
        self._watch_log(self._stable)
        self._say(f"Loading version {wanted.version} beside the one that serves")
        try:
            _write_model(self._stable, candidate, wanted)
            try:
                client.load(candidate)
            except Refused as error:
                self._not_loaded(wanted, str(error))
            answered = self.check(client, candidate)
            _write_model(self._stable, wanted.name, wanted)
            client.load(wanted.name)
            self.check(client, wanted.name)
            if not client.ready(wanted.name, wanted.version):
                raise Refused(0, f"version {wanted.version} is not ready after it was loaded")
        finally:
            self._forget_candidate(client)
        return answered

    def replace(self, wanted: Current) -> Answered:
        """Serve the version with a server of its own.

        Raises:
            Refused: it does not start, or does not predict as it should.
        """
        if running(self._stable):
            self._say(f"Trying version {wanted.version} on another port")
            trial = wanted.model_copy(update={"port": free_port(wanted.host)})
            process = self._start(self._trial, trial)
            try:
                self.check(Client(trial.url), trial.name)
            finally:
                end(process)
            self._end_stable()
        self._say(f"Starting a server for version {wanted.version}")
        self._start(self._stable, wanted)
        return self.check(Client(wanted.url), wanted.name)

    def restore(self, *, wait: bool = True) -> bool:
        """Let what served before serve again; whether it does. When nothing did, nothing is left running.

        Args:
            wait: until it is ready. A cancelled job has no time for that.
        """
        before = self._before
        if left := running(self._trial):
            end(left)
        if before is None:
            self._end_stable()
            return False
        _write_model(self._stable, before.name, before)
        client = Client(before.url, 10.0)
        if running(self._stable) and client.ready():
            if client.ready(before.name, before.version) and not client.ready(before.name, self._request.version):
                return True
            try:
                client.load(before.name)
                return client.ready(before.name, before.version)
            except Refused:
                pass
        self._end_stable()
        if not Path(before.python).exists() or not Path(before.model).exists():
            return False
        self._say(f"Starting version {before.version} again")
        try:
            self._start(self._stable, before, wait=wait)
        except Refused:
            return False
        return True

    def check(self, client: Client, model: str) -> Answered:
        """Ask the golden rows, if there are any.

        Raises:
            Refused: it does not predict as it should.
        """
        golden = self._request.golden
        try:
            return client.check(model, golden, self._request.tolerance) if golden else Answered()
        except Refused as error:
            if error.status == 0 and wait_until(lambda: running(self._log.parent) is None, 2.0):  # it may be dying
                raise Refused(0, "the server ended while it was asked the golden rows") from None
            raise

    def log(self) -> str:
        """What the server that was tried last says of its failure.

        The traceback of a model that could not be loaded, where Python crashed, or else the last lines of its log.
        """
        if failure := self._failure():
            return failure["traceback"]
        try:
            text = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        except OSError:
            return ""
        lines = text.splitlines()
        crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
        return "\n".join(lines[crashes[-1] :][:_LOG_LINES] if crashes else lines[-_LOG_LINES:])

    def _start(self, folder: Path, wanted: Current, *, wait: bool = True) -> Identity:
        _write_server(folder, wanted)
        self._watch_log(folder)
        began = time.monotonic()
        child = start(Path(wanted.python), folder, self._request.environ, self._log)
        try:
            ours = wait_until(lambda: running(folder) is not None or child.process.poll() is not None, 10.0)
            process = running(folder)
            if process is None or not ours:
                raise Refused(0, f"the server ended at once with exit code {child.process.poll()}")
            if wait:
                self._await(child, wanted)
                self._say(f"Ready after {time.monotonic() - began:.1f} s")
        except BaseException:
            child.end()
            raise
        return process

    def _await(self, child: Group, wanted: Current) -> None:
        client = Client(wanted.url)

        def settled() -> bool:
            return child.process.poll() is not None or (client.ready() and client.ready(wanted.name, wanted.version))

        if not wait_until(settled, self._request.timeout):
            raise Refused(0, f"the server was not ready within {self._request.timeout:g} s")
        if child.process.poll() is not None:
            self._not_loaded(wanted, f"the server ended with exit code {child.process.returncode}")

    def _end_stable(self) -> None:
        if process := running(self._stable):
            end(process)

    def _forget_candidate(self, client: Client) -> None:
        candidate = self._request.name + _CANDIDATE
        _model_settings(self._stable, candidate).unlink(missing_ok=True)
        try:
            client.unload(candidate)
        except Refused:
            pass  # the server is gone, or will be ended

    def _watch_log(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "server.log"
        size = self._log.stat().st_size if self._log.exists() else 0
        if size > _LOG_BYTES and not running(folder):
            self._log.unlink()
            size = 0
        self._log_start = size
        (folder / _FAILURE).unlink(missing_ok=True)

    def _failure(self) -> dict[str, str] | None:
        """What the server's model wrote when it could not be loaded."""
        try:
            found: dict[str, str] = json.loads((self._log.parent / _FAILURE).read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def _not_loaded(self, wanted: Current, otherwise: str) -> NoReturn:
        failure = self._failure()
        why = failure["error"] if failure else otherwise
        fix = f". {remedy(failure['missing'])}" if failure and failure["missing"] else ""
        raise Refused(0, f"version {wanted.version} cannot be loaded: {why}{fix}")


def read_current(folder: Path) -> Current | None:
    """What serves, as it was written; None when nothing does."""
    try:
        return Current.model_validate_json((folder / CURRENT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_current(folder: Path, current: Current) -> None:
    """Write what serves, as a whole or not at all."""
    _write(folder / CURRENT, current.model_dump())


def _write_server(folder: Path, wanted: Current) -> None:
    """MLServer's settings: https://mlserver.readthedocs.io/en/latest/reference/settings.html."""
    _write(
        folder / "settings.json",
        {
            "host": wanted.host,
            "http_port": wanted.port,
            "grpc_port": 0,  # it cannot be left out; any free one will do
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "debug": False,
        },
    )
    _model_settings(folder, wanted.name + _CANDIDATE).unlink(missing_ok=True)
    _write_model(folder, wanted.name, wanted)


def _write_model(folder: Path, name: str, wanted: Current) -> None:
    extra = {"predict": wanted.predict, "root": wanted.root, "example": wanted.example}
    parameters = {"uri": wanted.model, "version": str(wanted.version), "extra": extra}
    _write(
        _model_settings(folder, name),
        {"name": name, "versions": [str(wanted.version)], "implementation": _RUNTIME, "parameters": parameters},
    )


def _model_settings(folder: Path, name: str) -> Path:
    return folder / "models" / name / "model-settings.json"


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value, indent=2))
    part.replace(path)
