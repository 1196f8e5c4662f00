"""The address of gRPC as a socket that can be given away: gRPC itself only listens where it wants to.

Each connection is passed on to the server's own port, byte by byte. gRPC ends it after some seconds in the protocol's
own way, which loses no request (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md), and the
client's next one goes to whoever has the address by then.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

_CHUNK = 64 * 1024


class Pipes:
    """Connections to an address, passed on to a port of 127.0.0.1.

    Args:
        port: where they go.

    Attributes:
        listener: the address's socket.
        open: connections that there are.
    """

    def __init__(self, port: int, listener: socket.socket) -> None:
        self.listener, self.open = listener, 0
        self._port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connected, sock=self.listener)

    def close(self) -> None:
        """Take no more of them; those that there are go on."""
        if self._server:
            self._server.close()
        self.listener.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", self._port)
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        finally:
            self.open -= 1
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one of both sides ends: then nobody waits for the other one."""
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
