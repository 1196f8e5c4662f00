"""A proxy before an API server that fails on demand: it cuts and stalls what goes through it, or answers by itself."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3


@dataclass
class Fault:
    """Answers that the next requests get instead of the server's."""

    pattern: str
    status: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FaultyProxy:
    """What stands before an API server.

    Attributes:
        url: to use instead of the server's.
        seen: the requests so far, as `GET /path?query`.
        flowing: cleared, connections stay and nothing comes through them.
        after_bytes: the next watch breaks after so many bytes of what comes; None for not.
    """

    def __init__(self, upstream: str, pool: urllib3.PoolManager) -> None:
        self.upstream, self.pool = upstream, pool
        self.seen: list[str] = []
        self.faults: list[Fault] = []
        self.flowing = threading.Event()
        self.flowing.set()
        self.after_bytes: int | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and cut those there are, as a server does that is down."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut()

    def answer(
        self, status: int, *, pattern: str = "", times: int = 1, headers: dict[str, str] | None = None, **said: object
    ) -> None:
        """Answer the next requests that match with an error."""
        body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, **said})
        self.faults.append(Fault(pattern, status, times, headers or {}, body.encode()))

    def cut(self) -> None:
        """Close all connections, wherever they are."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def streams(self, pattern: str = "watch=true") -> int:
        """How many requests of a kind there were."""
        return sum(bool(re.search(pattern, line)) for line in list(self.seen))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def setup(self) -> None:
        super().setup()
        with self.proxy._lock:
            self.proxy._sockets.add(self.connection)

    def finish(self) -> None:
        with self.proxy._lock:
            self.proxy._sockets.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        line = f"{self.command} {self.path}"
        self.proxy.seen.append(line)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for fault in self.proxy.faults:
            if fault.times and re.search(fault.pattern, line):
                fault.times -= 1
                self.send_response(fault.status)
                for name, value in {"Content-Type": "application/json", **fault.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(fault.body)))
                self.end_headers()
                self.wfile.write(fault.body)
                return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding", "connection")}
        answer = self.proxy.pool.request(
            self.command, self.proxy.upstream + self.path, body=body or None, headers=headers, preload_content=False,
            retries=False, timeout=120,
        )  # fmt: skip
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in answer.stream(65536):
                self.proxy.flowing.wait()  # else the connection stays, and nothing comes
                limit = self.proxy.after_bytes
                if limit is not None and "watch=true" in line:  # the connection breaks in the middle of a line
                    self.proxy.after_bytes = None
                    self.wfile.write(b"%x\r\n%s\r\n" % (limit, chunk[:limit]))
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            answer.close()

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = forward


@contextmanager
def faulty(upstream: str, pool: urllib3.PoolManager) -> Iterator[FaultyProxy]:
    """A proxy on 127.0.0.1 for as long as the block lasts."""
    proxy = FaultyProxy(upstream, pool)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.flowing.set()
        proxy.stop()
