"""Feast's own servers on 127.0.0.1: of a registry (gRPC) and of features, and the repository that they serve."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import servers
from mlops_actions import environments

PACKAGES = ("grpcio", "grpcio-health-checking", "grpcio-reflection")
"""What Feast's remote registry needs, on both sides."""


@contextmanager
def feast_server(command: str, folder: Path, environ: dict[str, str]) -> Iterator[int]:
    """`feast serve` or `feast serve_registry` of a repository, as long as the block lasts; its port."""
    python = environments.ensure("features", environments.cache_folder(), packages=PACKAGES).python
    port, log = servers.free_port(), folder.parent / f"{command}.log"
    options = ["--host", "127.0.0.1"] if command == "serve" else []
    temporary = folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    with log.open("wb") as file:
        server = subprocess.Popen(
            [str(python.with_name("feast")), command, "--port", str(port), *options],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ, "TMPDIR": str(temporary), "FEAST_USAGE": "False"},
        )
    try:
        servers.wait_for_port(port, log)
        yield port
    finally:
        servers.end(server)


class Relay:
    """What stands before a server and passes on what clients send, until it has passed on so many bytes.

    Attributes:
        port: to use instead of the server's.
    """

    def __init__(self, upstream: int, limit: int) -> None:
        self._upstream, self._left = upstream, limit
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections and accept no more."""
        for each in [self._listener, *self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, given: socket.socket, taken: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := given.recv(65536):
                if counted:
                    self._left -= len(data)
                    if self._left < 0:
                        continue  # taken, and never answered
                taken.sendall(data)
            taken.shutdown(socket.SHUT_WR)


@contextmanager
def stalling(upstream: int, limit: int) -> Iterator[int]:
    """The port of a relay to a server that stalls after `limit` bytes, as long as the block lasts."""
    relay = Relay(upstream, limit)
    try:
        yield relay.port
    finally:
        relay.close()
