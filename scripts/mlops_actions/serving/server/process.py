"""The server as a process: what it listens on, and what it is told while it runs.

On one machine it has a folder with sockets (`serving.control`): by one it alone is asked, by the other one it is told.
`state` asks what it does; `route` sets what another release is sent (`traffic`); `take` gives it an address, which is
the listening sockets themselves; `hand` lets it give these to another release's server, so that no connection is
refused or lost between them, whatever container either of them is in. Then it lets the other one answer what still
comes on its own connections, and ends when these have; by gRPC it answers itself until the clients connect anew, which
they do every few seconds (`pipes`).
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from ...processes.identity import Identity
from .. import control
from ..served import EXPECTED, read_release, write_json
from .model import ServedModel
from .pipes import Pipes
from .rest import Rest, application
from .traffic import Other, Traffic

PROCESS = "process.json"
"""In the release's folder: which process serves it (`pid`, `started`)."""
_KEPT = 75  # seconds that a connection may be idle: longer than proxies keep theirs
_GRACE = 10  # seconds for requests that are under way when the server is asked to end
_SOON = 1  # seconds for connections, where whoever asks it to end waits for that
_AGE = 5  # seconds after which a client of gRPC connects anew, and so comes to who serves by then
_LEAVING = _KEPT + _GRACE  # seconds after which a server that gave its address away ends, whatever is still open


def main() -> int:
    """Serve a folder until told to end."""
    given = _arguments()
    faulthandler.enable()  # a library that crashes says where
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    folder = given.folder.absolute()  # resolved, a modelcar's link into another container leads nowhere
    if given.control:  # before the model is loaded: whoever started it may be killed, and the next one still finds it
        with suppress(OSError):  # in an image, where nothing can be written and nobody looks for it
            write_json(folder / PROCESS, asdict(Identity.of(os.getpid())))
    code = _run(Server(folder, given.control).run(given.host, given.port, given.grpc_port))
    logging.shutdown()
    os._exit(code)  # a thread of the model may be at work, and cannot be ended


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mlops_actions.serving.server", description=__doc__)
    parser.add_argument("folder", type=Path, help="The folder with release.json.")
    parser.add_argument("--host", default="0.0.0.0", help="The address to listen on.")
    parser.add_argument("--port", type=int, default=8080, help="The port for REST; 0 for any.")
    parser.add_argument("--grpc-port", type=int, default=0, help="The port for gRPC; 0 for none.")
    parser.add_argument("--control", type=Path, help="Its folder for sockets, beside those of others, not a port.")
    return parser.parse_args()


class _Http(uvicorn.Server):  # type: ignore[misc]
    """uvicorn, which is told by a signal to end, and asks first."""

    def __init__(self, config: uvicorn.Config, ask: Callable[[], None]) -> None:
        super().__init__(config)
        self._ask = ask

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See `uvicorn.Server`."""
        self._ask()


class Server:
    """A release's server.

    Args:
        folder: with `release.json`.
        sockets: folder for its sockets, which has the release's name; None for a server that has a port from the
            beginning and is told nothing.
    """

    def __init__(self, folder: Path, sockets: Path | None) -> None:
        self._folder, self._sockets = folder, sockets
        self._model = ServedModel(read_release(folder), os.environ.get(EXPECTED, ""))
        self._worker = ThreadPoolExecutor(1, "model")
        self._traffic = Traffic(Rest(self._model, self._worker), sockets.parent if sockets else Path())
        self._config = uvicorn.Config(
            application(self._traffic),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEPT,
            timeout_graceful_shutdown=_GRACE,
        )
        self._http = _Http(self._config, self._asked_to_end)
        self._public: tuple[socket.socket, asyncio.Server] | None = None
        self._rpc: Any = None
        self._pipes: Pipes | None = None
        self._until = 0.0

    async def run(self, host: str, port: int, grpc_port: int) -> int:
        """Listen, load the model, and serve until told to end; the exit code."""
        self._loop = asyncio.get_running_loop()
        listeners = []
        if self._sockets:
            control.listen(self._sockets, self._told)
            private = control.bound(self._sockets, control.HTTP)
            self._private = await self._loop.create_unix_server(self._protocol, sock=private)
        else:
            listeners = [control.listener(host, port)]
            if grpc_port:
                await self._serve_grpc(host, grpc_port)
        loading = self._loop.run_in_executor(self._worker, self._model.load, self._sockets or self._folder)
        loading.add_done_callback(lambda done: None if done.result() else self._end())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # uvicorn takes them, and then gives them to whoever had them before
        await self._http.serve(listeners)
        if self._rpc:
            await self._rpc.stop(_GRACE)
        return 1 if loading.done() and not loading.result() else 0

    def _end(self) -> None:
        self._http.should_exit = True

    def _asked_to_end(self) -> None:
        """Called by a signal: end when the connections have, each with its next response, or after a time.

        To close one that its client is about to use would lose a request.
        """
        if self._traffic.leaving and self._pipes and self._pipes.open:
            self._until = time.monotonic() + _AGE + _SOON
            return
        if self._traffic.leaving or not self._model.ready:
            self._end()
            return
        self._traffic.leaving = True
        patience = _SOON if self._sockets else _GRACE
        self._loop.call_soon_threadsafe(lambda: setattr(self, "_leaving", asyncio.ensure_future(self._leave(patience))))

    def _told(self, said: dict[str, Any], files: list[int]) -> dict[str, Any]:
        """Do what the folder's socket says; called in a thread of its own."""
        do = said.pop("do", "")
        work: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
            "state": self._state, "route": self._route, "take": self._take, "hand": self._hand,
        }  # fmt: skip
        if do not in work:
            raise ValueError(f"This server cannot {do!r}")
        given = {"files": files} if files else {}
        return asyncio.run_coroutine_threadsafe(work[do](**said, **given), self._loop).result()

    async def _state(self) -> dict[str, Any]:
        other = self._traffic.other
        return {
            "release": self._model.release.id,
            "ready": self._model.ready,
            "public": self._public is not None,
            "leaving": self._traffic.leaving,
            "other": asdict(other) if other else None,
            "lost": self._traffic.lost,
            "comparison": asdict(self._traffic.comparison),
        }

    async def _route(self, other: dict[str, Any] | None) -> dict[str, Any]:
        self._traffic.route(Other(**other) if other else None)
        return {}

    async def _take(self, files: list[int]) -> dict[str, Any]:
        listeners = [socket.socket(fileno=file) for file in files]
        if self._public is None:
            await self._accept(*listeners)
        else:
            for one in listeners:
                one.close()
        return {}

    async def _hand(self, other: dict[str, Any]) -> dict[str, Any]:
        if self._public is None or self._sockets is None:
            raise ValueError("This server has no address to give away")
        listener, server = self._public
        self._traffic.route(Other(**other))
        to = self._sockets.parent / str(other["release"])
        files = [listener.fileno(), *([self._pipes.listener.fileno()] if self._pipes else [])]
        await asyncio.to_thread(partial(control.tell, to, "take", files=files))
        self._traffic.leaving = True
        self._public = None
        self._http.servers.remove(server)
        server.close()
        listener.close()
        if self._pipes:
            self._pipes.close()
        self._leaving = asyncio.ensure_future(self._leave(_LEAVING))
        return {}

    async def _leave(self, patience: float) -> None:
        """End when the last connection has, or after some seconds."""
        self._until = time.monotonic() + patience
        if self._rpc and not self._pipes:
            await self._rpc.stop(_GRACE)
        while self._connected() and time.monotonic() < self._until:
            await asyncio.sleep(0.1)
        self._end()

    def _connected(self) -> bool:
        return bool(self._http.server_state.connections or (self._pipes and self._pipes.open))

    async def _accept(self, listener: socket.socket, rpc: socket.socket | None = None) -> None:
        listener.setblocking(False)
        server = await self._loop.create_server(self._protocol, sock=listener, backlog=self._config.backlog)
        self._http.servers.append(server)
        self._public = listener, server
        if rpc:
            self._pipes = Pipes(await self._serve_grpc("127.0.0.1", 0, _AGE), rpc)
            await self._pipes.start()

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self._config.http_protocol_class(
            config=self._config, server_state=self._http.server_state, app_state={}
        )
        return made

    async def _serve_grpc(self, host: str, port: int, age: float = 0) -> int:
        from .rpc import Rpc

        self._rpc = Rpc(self._model, self._worker, age)
        found: int = await self._rpc.listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return found


def _run(work: Coroutine[Any, Any, int]) -> int:
    with suppress(ImportError):
        import uvloop

        return int(uvloop.run(work))
    return asyncio.run(work)
