"""Serving on this machine: one detached process or container a release, which stays when the job ends.

The server of the release that serves has the model's address. That of a candidate has none, only a socket in a folder
(`control`), and gets its requests through the other one, in the share that this was told. When the rollout is finished,
the candidate is handed the listening socket itself: no connection is refused or lost, and none takes a longer way any
more. The server before it ends when its connections have, which frees its memory; to go back to it starts it again from
its folder or image, which takes as long as its model needs to be loaded.

`<home>/serving/<name>-<hash of the store>/`, which only its owner can enter: `state.json` (what serves where, what is
tried, what served before), `releases/<id>/` (folders of servers, with the consumer's code as it was then),
`sockets/<id>/` (all that a container sees of this), `versions/<n>/` (files of models). What is said in `state.json` is
written before it is done, and done again when it is found undone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import BadInput, RemoteFailed
from ..models.checks import copy_code, remedy
from ..processes.group import Group
from ..processes.identity import Identity
from ..waiting import wait_until
from . import control, process
from .control import Unheard
from .engine import Capabilities, NotServed, Release, Serving
from .process import end, free_port, is_free, running
from .protocol import BySocket, Client, Direct, Refused, Reply, Transport
from .served import write_json, write_release
from .server.traffic import Comparison

if TYPE_CHECKING:
    from .container import Containers

_PORTS = range(21000, 31000)
_STATE = "state.json"
_FAILURE = "failure.json"  # as `server.model` calls it, which is not imported here: it needs the server's packages
_START = "start.json"  # with which `python` a release's server is started, or of which `image` within what `memory`
_CODE = "code"  # the consumer's, as it was when the release was made
_LOG = "server.log"
_LOG_LINES = 40
_LOG_BYTES = 5_000_000
_COMPARED = 10.0  # seconds that copies of requests which are under way are waited for
_OPEN, _OWN = 0o777, 0o755  # folders of sockets: of containers, whose user is another one, and of processes
_DYING = 2.0  # seconds that a process which does not respond may take to be gone


class State(BaseModel):
    """What serves a model, as it was last decided.

    Attributes:
        host, port, grpc_port: the model's address; the last 0 for no gRPC.
        release, version, digest: that serves; "", None and "" while the first one is being brought up.
        candidate: the release that is tried; "" for none.
        previous: the release that served before; "" for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int
    grpc_port: int = 0
    release: str = ""
    version: int | None = None
    digest: str = ""
    candidate: str = ""
    previous: str = ""

    @property
    def url(self) -> str:
        """Of the address, as this machine asks it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Address:
    """Where a model is to be served; "" and 0 for where it is, else for 127.0.0.1, a port of its own, and no gRPC."""

    host: str = ""
    port: int = 0
    grpc_port: int = 0


class LocalServing:
    """The servers of this machine; see `ServingEngine`.

    Args:
        folder: gives the folder of a model's state.
        address: where models are served.
        environ: variables for servers.
        timeout: seconds until a model must be loaded.
        say: is told what is done.
        containers: gives the containers of this machine, when one is needed.
        memory: limit of a container in which a release is to be started; None for a process.
        place, lasting: see `ServingEngine`.
    """

    def __init__(
        self,
        folder: Callable[[str], Path],
        address: Address,
        environ: Mapping[str, str],
        timeout: float,
        say: Callable[[str], None],
        containers: Callable[[], Containers],
        memory: str | None = None,
        place: str = "local",
        lasting: str = "",
    ) -> None:
        if sys.platform == "win32":
            raise RemoteFailed("The engine local does not run on Windows", fix="Use Linux, macOS or WSL")
        self._folder, self._address, self._environ = folder, address, environ
        self._timeout, self._say, self.place, self.lasting = timeout, say, place, lasting
        self._containers, self._memory = containers, memory

    def capabilities(self) -> Capabilities:
        """It can send any share, and copies; gRPC goes over as a whole."""
        return Capabilities(weights=True, mirror=True)

    def serving(self, name: str) -> Serving | None:
        """What serves the model: nothing, when the server of what did has died."""
        state = self._read(name)
        if state is None:
            return None
        stable, candidate = self._running(name, state.release), self._running(name, state.candidate)
        if not stable and not candidate:
            return None
        other = (self._state_of(name, state.release) or {}).get("other") or {} if stable else {}
        share = int(other["percent"]) if candidate and other.get("release") == state.candidate else 0
        if not stable and candidate and (self._state_of(name, state.candidate) or {}).get("public"):
            share = 100
        return Serving(
            url=f"{state.url}/v2/models/{name}",
            release=state.release if stable else None,
            version=state.version if stable else None,
            digest=state.digest if stable else "",
            candidate=state.candidate if candidate else "",
            percent=share,
            previous=state.previous,
        )

    def start(self, release: Release) -> Client:
        """Start its server, unless it runs; and that of what serves, if it has died.

        Raises:
            NotServed: the model cannot be loaded, or not within the time.
            BadInput: another process has the port.
        """
        name = release.name
        state = self._addressed(name)
        if release.id != state.release:
            self._settle(name, state)
            self._end_others(name, {state.release, release.id})
            state = state.model_copy(update={"candidate": release.id})
        self._write(name, state)
        folder = self._of(name, release.id)
        found, contained = running(folder), self._memory is not None
        otherwise = ("image" in _start(folder)) != contained
        if found is None or otherwise or (self._state_of(name, release.id) or {}).get("leaving"):
            self._end(folder, found)
            how = {"python": str(release.python)}
            if contained:
                how = {"image": self._containers().image(release), "memory": str(self._memory)}
            copy_code(release.predict, release.root, folder / _CODE)
            write_release(folder, release, str(release.model), _CODE)
            write_json(folder / _START, how)
            self._say(f"Starting a {'container' if contained else 'server'} for version {release.version}")
        self._up(name, release.id, f"version {release.version}")
        return self.ask(name, release.id)

    def ask(self, name: str, release: str = "") -> Client:
        """Whom to ask."""
        if release:
            folder = self._of(name, release)
            if running(folder) is None:
                raise NotServed(f"The server of {release} does not run", self._log(folder))
            alone = BySocket(_sockets(folder))
            return Client(name, _Watched(alone, partial(self._check, name, release)), self._timeout)
        state = self._read(name)
        if state is None:
            raise NotServed(f"Nothing serves {name}")
        return Client(name, _Watched(Direct(state.url), partial(self._check, name, state.candidate)), self._timeout)

    def shift(self, release: Release, percent: int, *, mirror: bool = False) -> None:
        """Tell the server that has the address what to send to the candidate. The first release gets the address.

        Raises:
            NotServed: the candidate's server does not run.
            BadInput: another process has the port.
        """
        name, state = release.name, self._addressed(release.name)
        if state.release == release.id:
            self._take_over(name, state)
        elif self._running(name, state.release):
            self._tell(name, state.release, "route", other=self._other(name, release.id, percent, mirror))
        elif percent:
            self._listen(name, release.id, state)

    def finish(self, release: Release) -> None:
        """Write down that it serves, and give it the address itself; what served before ends by itself."""
        if ("image" in _start(self._of(release.name, release.id))) != (self._memory is not None):
            now, fix = ("a process", "in") if self._memory is not None else ("a container", "without")
            self._say(
                f"Version {release.version} goes on serving as {now}. To serve it {fix} a container, end it first by"
                f" `mlops deploy-model --model {release.name} --stop`"
            )
        name, state = release.name, self._addressed(release.name)
        if state.release != release.id:
            state = state.model_copy(
                update={
                    "release": release.id,
                    "version": release.version,
                    "digest": release.digest,
                    "candidate": "",
                    "previous": state.release,
                }
            )
            self._write(name, state)
        self._take_over(name, state)
        self._end_others(name, {state.release, state.previous})
        self._sweep(name, state)

    def abandon(self, name: str) -> Serving | None:
        """Send all to what serves, and end the candidate; what serves is started again if it has died."""
        state = self._read(name)
        if state is None:
            return None
        if self._running(name, state.release):
            self._take_over(name, state)
            self._tell(name, state.release, "route", other=None)
        self._end_others(name, {state.release})
        self._write(name, state.model_copy(update={"candidate": ""}))
        self._settle(name, state)
        return self.serving(name)

    def stop(self, name: str) -> Serving | None:
        """End all servers of the model; what served."""
        was = self.serving(name)
        self._end_others(name, set())
        (self._folder(name) / _STATE).unlink(missing_ok=True)
        return was

    def why(self, name: str) -> str:
        """The traceback of a model that could not be loaded, where Python crashed, or the last lines of the log."""
        state = self._read(name)
        return self._log(self._of(name, state.candidate or state.release)) if state else ""

    def compared(self, name: str) -> Comparison:
        """See `Comparing`. Those that are under way are waited for."""
        found = Comparison()

        def settled() -> bool:
            nonlocal found
            state = self._read(name)
            told = self._state_of(name, state.release) if state else None
            found = Comparison(**told["comparison"]) if told else Comparison()
            return found.requests == found.equal + found.differing + found.failed

        wait_until(settled, _COMPARED)
        return found

    # What is kept, and where.

    def _of(self, name: str, release: str) -> Path:
        return self._folder(name) / "releases" / release

    def _running(self, name: str, release: str) -> Identity | None:
        return running(self._of(name, release)) if release else None

    def _read(self, name: str) -> State | None:
        try:
            return State.model_validate_json((self._folder(name) / _STATE).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _write(self, name: str, state: State) -> None:
        write_json(self._folder(name) / _STATE, state.model_dump())

    def _addressed(self, name: str) -> State:
        """The state, with the address that the inputs ask for once nothing has another one.

        Raises:
            BadInput: another process has the port, or a server of the model serves elsewhere.
        """
        state, asked = self._read(name), self._address
        if state and any(self._holds(name, one) for one in {state.release, state.previous, state.candidate}):
            others = ((asked.host, state.host), (asked.port, state.port), (asked.grpc_port, state.grpc_port))
            if any(wanted and wanted != now for wanted, now in others):
                raise BadInput(
                    f"{name} is served at {state.host}:{state.port}, and its address cannot change while it is",
                    fix="Leave `host`, `port` and `grpc-port` out, or end it first with"
                    f" `mlops deploy-model --model {name} --stop`",
                )
            return state
        host = asked.host or (state.host if state else "127.0.0.1")
        port = asked.port or (state.port if state else 0) or _stable_port(self._folder(name).name)
        if not is_free(host, port):
            if asked.port:
                raise BadInput(
                    f"The port {port} of {host} is used by another process", fix="Choose another `port`, or 0 for any"
                )
            port = free_port(host)
            self._say(f"Another process uses the usual port; using {port}")
        grpc_port = asked.grpc_port or (state.grpc_port if state else 0)
        if grpc_port and not is_free(host, grpc_port):
            fix = "Choose another `grpc-port`, or 0 for none"
            raise BadInput(f"The port {grpc_port} of {host} is used by another process", fix=fix)
        return (state or State(host=host, port=port)).model_copy(
            update={"host": host, "port": port, "grpc_port": grpc_port}
        )

    def _holds(self, name: str, release: str) -> bool:
        return bool((self._state_of(name, release) or {}).get("public"))

    # What servers are told.

    def _tell(self, name: str, release: str, do: str, **given: Any) -> dict[str, Any]:
        try:
            return control.tell(_sockets(self._of(name, release)), do, **given)
        except Unheard as error:
            raise NotServed(str(error), self._log(self._of(name, release))) from None

    def _state_of(self, name: str, release: str) -> dict[str, Any] | None:
        if not self._running(name, release):
            return None
        try:
            return control.tell(_sockets(self._of(name, release)), "state", timeout=5.0)
        except Unheard:
            return None

    def _other(self, name: str, release: str, percent: int, mirror: bool = False) -> dict[str, Any]:
        if self._running(name, release) is None:
            raise NotServed(f"The server of {release} has ended", self._log(self._of(name, release)))
        return {"release": release, "percent": percent, "mirror": mirror}

    def _listen(self, name: str, release: str, state: State) -> None:
        """Give a server the address, from the system."""
        if self._holds(name, release):
            return
        with ExitStack() as stack:
            files = []
            for port in filter(None, (state.port, state.grpc_port)):
                try:
                    files.append(stack.enter_context(control.listener(state.host, port)).fileno())
                except OSError as error:
                    raise BadInput(f"Cannot listen on the port {port} of {state.host}", why=str(error)) from None
            self._tell(name, release, "take", files=files)

    def _take_over(self, name: str, state: State) -> None:
        """Let what serves have the address: from the server that has it, or from the system."""
        if self._holds(name, state.release):
            return
        if self._holds(name, state.previous):
            try:
                sockets = _sockets(self._of(name, state.previous))
                control.tell(sockets, "hand", other=self._other(name, state.release, 100))
                return
            except Unheard:
                if running(self._of(name, state.previous)) and not self._holds(name, state.release):
                    raise RemoteFailed(
                        f"The server of {state.previous} does not give the address of {name} away",
                        fix=f"End both with `mlops deploy-model --model {name} --stop`, and deploy again",
                    ) from None
                if self._holds(name, state.release):
                    return
        self._listen(name, state.release, state)

    def _check(self, name: str, release: str, seconds: float) -> None:
        """Whether a release's server lives, or dies within so many seconds.

        Raises:
            NotServed: it does not.
        """
        if release and wait_until(lambda: self._running(name, release) is None, seconds):
            folder = self._of(name, release)
            why = self._cause(folder)
            raise NotServed(f"the server ended while it was asked{why and ': '}{why}", self._log(folder))

    # Processes.

    def _up(self, name: str, release: str, what: str) -> None:
        """Start a release's server, unless it runs, and wait until its model is loaded.

        Raises:
            NotServed: it is not within the time.
        """
        began, folder = time.monotonic(), self._of(name, release)
        started, how = False, _start(folder)
        child: Group | None = None

        def settled() -> bool:
            nonlocal started, child
            if running(folder):
                return Client(name, BySocket(_sockets(folder))).ready()
            if started:
                return child is None or child.process.poll() is not None
            started = True
            child = self._started(folder, how, what)
            return False

        try:
            if not wait_until(settled, self._timeout):
                raise NotServed(f"{what} was not loaded within {self._timeout:g} s", self._log(folder))
            if running(folder) is None:
                self._not_loaded(folder, what, child.process.poll() if child else None)
        except BaseException:
            if child:
                child.end()
            elif started:
                self._end(folder, running(folder))
            raise
        if started:
            self._say(f"Ready after {time.monotonic() - began:.1f} s")

    def _started(self, folder: Path, how: Mapping[str, str], what: str) -> Group | None:
        """Start the server of a release's folder; its process, if that is ours."""
        sockets = _sockets(folder)
        sockets.mkdir(parents=True, exist_ok=True)
        folder.parent.parent.chmod(0o700)
        sockets.parent.chmod(_OWN)
        sockets.chmod(_OPEN if "image" in how else _OWN)
        (sockets / _FAILURE).unlink(missing_ok=True)
        if "image" in how:
            self._containers().start(folder, sockets, how["image"], how["memory"])
            return None
        python, log = Path(how["python"]), folder / _LOG
        if not python.exists():
            raise NotServed(f"{what} cannot be started: its Python {python} is gone")
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.unlink()
        return process.start(python, folder, sockets, self._environ, log)

    def _not_loaded(self, folder: Path, what: str, code: int | None) -> NoReturn:
        failure = _failure(folder)
        ended = f"the server ended with exit code {code}" if code is not None else "the server ended"
        why = failure["error"] if failure else self._cause(folder) or ended
        fix = remedy(failure["missing"], _start(folder).get("python", "")) if failure and failure["missing"] else ""
        raise NotServed(f"{what} cannot be loaded: {why}", self._log(folder), fix)

    def _settle(self, name: str, state: State) -> None:
        """Let what is to serve do so as far as possible: after a kill it may not have its address, or have died."""
        if not (self._of(name, state.release) / _START).exists() or not state.release:
            return
        try:
            if not self._running(name, state.release):
                self._say(f"The server of version {state.version} has ended: starting it again")
                self._up(name, state.release, f"version {state.version}")
            self._take_over(name, state)
        except (NotServed, BadInput) as error:
            self._say(f"Version {state.version} does not serve again: {error}")

    def _end(self, folder: Path, server: Identity | None) -> None:
        """End the server of a release's folder, if it runs, and remove its container."""
        if "image" in _start(folder):
            try:
                self._containers().end(folder)
            except (RemoteFailed, NotServed):  # without Docker there is no container, unless it is seen to run
                if server:
                    raise
        elif server:
            end(server)

    def _end_others(self, name: str, kept: set[str]) -> None:
        """End servers of the model, but not those of `kept` releases, nor those that finish what they have."""
        folders = list((self._folder(name) / "releases").glob("*"))
        for folder in folders:
            if folder.name not in kept and (found := running(folder)):
                self._end(folder, found)
        contained = [folder for folder in folders if "image" in _start(folder)]
        if contained:
            try:
                self._containers().end_others(contained[0], kept)
            except (RemoteFailed, NotServed) as error:
                self._say(f"Containers that an earlier rollout left may still run: {getattr(error, 'what', error)}")

    def _sweep(self, name: str, state: State) -> None:
        """Remove the folders of releases that are not gone back to, and the files of their models."""
        kept = {state.release, state.previous}
        folder = self._folder(name)
        for path in [*(folder / "releases").glob("*"), *(folder / "sockets").glob("*")]:
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        numbers = {release.partition("-")[0].removeprefix("v") for release in kept}
        for path in (folder / "versions").glob("*"):
            if path.name not in numbers:
                shutil.rmtree(path, ignore_errors=True)

    def _cause(self, folder: Path) -> str:
        """Why the container of a release's folder has ended; "" for a process, or when nobody knows."""
        how = _start(folder)
        return self._containers().cause(folder, how["memory"]) if "image" in how else ""

    def _log(self, folder: Path) -> str:
        if failure := _failure(folder):
            return failure["traceback"]
        if "image" in _start(folder):
            text = self._containers().log(folder)
        else:
            text = (folder / _LOG).read_text(errors="replace") if (folder / _LOG).exists() else ""
        lines = text.splitlines()
        crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
        return "\n".join(lines[crashes[-1] :][:_LOG_LINES] if crashes else lines[-_LOG_LINES:])


class _Watched:
    """A way to a server that tells when the server of a release dies, even if another one then answers in its place."""

    def __init__(self, way: Transport, check: Callable[[float], None]) -> None:
        self.url, self._way, self._check = way.url, way, check

    def send(self, path: str, data: bytes | None, timeout: float) -> Reply:
        """See `Transport`.

        Raises:
            NotServed: the server has died.
        """
        try:
            reply = self._way.send(path, data, timeout)
        except Refused:
            self._check(_DYING)
            raise
        self._check(0.0)
        return reply


def _sockets(folder: Path) -> Path:
    """The folder for the sockets of a release's server."""
    return folder.parent.parent / "sockets" / folder.name


def _start(folder: Path) -> dict[str, str]:
    """How the server of a release's folder is started; {} when it was not yet."""
    try:
        found: dict[str, str] = json.loads((folder / _START).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _failure(folder: Path) -> dict[str, str] | None:
    """What the server wrote of a model that could not be loaded. It may be a container, so no link is followed."""
    try:
        with os.fdopen(os.open(_sockets(folder) / _FAILURE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            found = json.loads(file.read(_LOG_BYTES))
        return {name: str(found[name]) for name in ("error", "traceback", "missing")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stable_port(name: str) -> int:
    """The port that a model has unless it is taken: by its folder's name, so that its address stays."""
    return _PORTS[zlib.crc32(name.encode()) % len(_PORTS)]
