"""What a server on this machine is told while it runs: a line of JSON each way on a Unix socket in its folder.

Another socket there, `http.sock`, takes requests: by it this release alone is asked. Sockets in a folder are reached
from and in a container, too, that is shown the folder; who may is decided by the folder above.

The standard library only: the server itself uses this in its own environment. POSIX only.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SOCKET = "control.sock"
HTTP = "http.sock"
_LONGEST = 90  # characters of a path; a socket's address has room for 104 on macOS
_LINE = 1_000_000
Handler = Callable[[dict[str, Any], list[int]], dict[str, Any]]


class Unheard(Exception):
    """A server does not respond, or cannot do what it was told."""


def tell(folder: Path, do: str, *, files: Sequence[int] = (), timeout: float = 30.0, **given: Any) -> dict[str, Any]:
    """Tell the server of a folder to do something; what it says.

    Args:
        folder: in which it has its socket.
        do: what; see `server.process`.
        files: descriptors that it is given.
        timeout: seconds.
        given: how.

    Raises:
        Unheard: there is no such server, or it says why not.
    """
    try:
        with connected(folder, SOCKET, timeout) as made:
            line = json.dumps({"do": do, **given}).encode() + b"\n"
            socket.send_fds(made, [line], list(files)) if files else made.sendall(line)
            with made.makefile("rb") as stream:
                said: dict[str, Any] = json.loads(stream.readline(_LINE))
    except (OSError, ValueError) as error:
        raise Unheard(f"The server of {folder.name} does not respond: {error}") from None
    if "error" in said:
        raise Unheard(str(said["error"]))
    return said


def listen(folder: Path, handle: Handler) -> None:
    """From now on let `handle` do what this folder's server is told, in a thread, one thing after the other."""
    made = bound(folder, SOCKET)
    made.listen(16)
    threading.Thread(target=_serve, args=(made, handle), daemon=True, name="control").start()


def _serve(listener: socket.socket, handle: Handler) -> None:
    while True:
        connection, _ = listener.accept()
        with suppress(OSError, ValueError), connection:
            connection.settimeout(10.0)
            line, files, _, _ = socket.recv_fds(connection, _LINE, 4)
            while not line.endswith(b"\n"):
                more = connection.recv(_LINE)
                if not more:
                    break
                line += more
            try:
                said = handle(json.loads(line), files)
            except Exception as error:
                said = {"error": str(error) or type(error).__name__}
                for file in files:
                    with suppress(OSError):
                        os.close(file)
            connection.sendall(json.dumps(said).encode() + b"\n")


def bound(folder: Path, name: str) -> socket.socket:
    """A socket of a server, bound to a name in its folder."""
    with suppress(FileNotFoundError):
        (folder / name).unlink()  # of a server that was killed
    made = socket.socket(socket.AF_UNIX)
    with short(folder, name) as path:
        made.bind(path)
    (folder / name).chmod(0o666)  # the user in a container is another one
    return made


def listener(host: str, port: int) -> socket.socket:
    """A socket of a server, bound to an address.

    Raises:
        OSError: another one has it.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def connected(folder: Path, name: str, timeout: float) -> socket.socket:
    """A connection to a socket in a folder.

    Raises:
        OSError: no server listens to it.
    """
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout)
        with short(folder, name) as path:
            made.connect(path)
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def short(folder: Path, name: str) -> Iterator[str]:
    """A path of a socket in a folder that fits into an address, while the block runs."""
    path = str(folder / name)
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mlops-") as near:
        link = Path(near) / "f"
        link.symlink_to(folder)
        yield str(link / name)
