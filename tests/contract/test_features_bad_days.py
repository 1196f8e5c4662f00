"""Bad days of materialize-features: each ends with one clear error, and nothing is recorded that was not written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import servers
from feast_servers import stalling
from feast_worlds import DAY, STORE, Run, Shop, make_shop, views
from mlops_actions import environments

SQLITE = 'online_store: {type: sqlite, path: "${MLOPS_HOME}/shop.db"}'
SHOPS = 20_000


@pytest.fixture
def shop(tmp_path: Path, mlops: Run) -> Shop:
    return make_shop(tmp_path, mlops)


def give_many(shop: Shop) -> None:
    """A row of a day for each of many shops."""
    folder = Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features"
    table = pl.DataFrame({"event_timestamp": [DAY + timedelta(days=5)] * SHOPS,
                          "shop": [f"shop {number}" for number in range(SHOPS)],
                          "revenue": [float(number) for number in range(SHOPS)],
                          "visits": list(range(SHOPS))})  # fmt: skip
    table.write_parquet(folder / "sales.parquet")


def use(shop: Shop, online_store: dict[str, Any]) -> None:
    (shop.folder / "feature_store.yaml").write_text(STORE.replace(SQLITE, f"online_store: {json.dumps(online_store)}"))


def postgres(port: int, server: servers.Postgres) -> dict[str, Any]:
    reach = {"host": "127.0.0.1", "port": port, "database": server.database, "user": server.user}
    return {"type": "postgres", "password": "none", "sslmode": "disable", "db_schema": "public", **reach}


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("no root: a disk of its own cannot be mounted")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no mount: this container has no right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_a_disk_that_is_full_halfway_leaves_no_interval(shop: Shop, tmp_path: Path) -> None:
    give_many(shop)
    with disk(tmp_path / "disk", "1m") as folder:
        use(shop, {"type": "sqlite", "path": str(folder / "shop.db")})
        code, _, said = shop.materialize("--views", "sales")
        assert code == 3, said
        assert "full" in said and "'sales'" in said and "Traceback" not in said
        remount(folder, "size=64m")
        code, done, said = shop.materialize("--views", "sales")
        assert code == 0, said
        assert views(done)["sales"] == (SHOPS, "2020-01-06T00:00:00Z")


def test_a_disk_that_is_read_only_is_a_failure_of_the_store(shop: Shop, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "16m") as folder:
        use(shop, {"type": "sqlite", "path": str(folder / "shop.db")})
        assert shop.materialize()[0] == 0
        shop.give(days=6)
        remount(folder, "ro")
        code, _, said = shop.materialize()
        assert code == 3, said
        assert "readonly database" in said or "read-only" in said
        remount(folder, "rw")
        assert views(shop.materialize()[1])["sales"] == (2, "2020-01-06T00:00:00Z")


def test_a_redis_that_only_reads_is_a_failure_of_it(shop: Shop) -> None:
    port = servers.redis()

    def command(text: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(text)
            assert connection.recv(100).startswith(b"+OK")

    use(shop, {"type": "redis", "connection_string": f"127.0.0.1:{port}"})
    command(b"REPLICAOF 127.0.0.1 1\r\n")
    try:
        code, _, said = shop.materialize("--views", "sales")
    finally:
        command(b"REPLICAOF NO ONE\r\n")
    assert code == 3, said
    assert "read only replica" in said and "Traceback" not in said
    assert views(shop.materialize("--views", "sales")[1])["sales"] == (2, "2020-01-05T00:00:00Z")


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_server_that_takes_rows_and_never_answers_is_given_up(shop: Shop, kind: str) -> None:
    give_many(shop)
    server = servers.postgres() if kind == "postgres" else None
    upstream = server.port if server else servers.redis()

    def reach(port: int) -> dict[str, Any]:
        return postgres(port, server) if server else {"type": "redis", "connection_string": f"127.0.0.1:{port}"}

    with stalling(upstream, limit=100_000) as port:
        use(shop, reach(port))
        code, _, said = shop.materialize("--views", "sales", "--store-timeout", "0.15min")
    assert code == 3, said
    assert f"Timed out after 9 s waiting for {kind} to accept rows of 'sales'" in said
    use(shop, reach(upstream))
    code, done, said = shop.materialize("--views", "sales")
    assert code == 0, said
    assert views(done)["sales"] == (SHOPS, "2020-01-06T00:00:00Z"), "the interval had not been recorded as done"


def test_a_registry_that_cannot_be_written_is_the_old_one(tmp_path: Path) -> None:
    """Feast's own store empties the file first; a limit of a file's size stands for the disk that is full."""
    code = """
import resource, sys
from pathlib import Path
from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig
from mlops_actions.features.worker.registry_file import WholeFileRegistryStore
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for kind in (FileRegistryStore, WholeFileRegistryStore):
    file = Path(sys.argv[1]) / kind.__name__
    store = kind(RegistryConfig(path=str(file)), Path(sys.argv[1]))
    registry = Registry()
    registry.entities.add().spec.name = "small"
    store.update_registry_proto(registry)
    registry.entities.add().spec.name = "large" * 1000
    try:
        store.update_registry_proto(registry)
    except OSError:
        pass
    try:
        print([entity.spec.name for entity in store.get_registry_proto().entities])
    except Exception as error:
        print(type(error).__name__)
print(len(list(Path(sys.argv[1]).iterdir())))
"""
    python = environments.ensure("features", environments.cache_folder()).python
    scripts = Path(environments.__file__).parents[1]
    (tmp_path / "registries").mkdir()
    done = subprocess.run(
        [str(python), "-c", code, str(tmp_path / "registries")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(scripts), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["DecodeError", "['small']", "2"], done.stderr[-2000:]


def test_times_without_a_zone_are_taken_as_utc_with_one_warning(shop: Shop) -> None:
    folder = Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features"
    for name in ("sales", "stock"):
        table = pl.read_parquet(folder / f"{name}.parquet")
        table.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)).write_parquet(
            folder / f"{name}.parquet"
        )
    code, done, said = shop.materialize("--views", "sales")
    assert code == 0, said
    assert said.count("The column 'event_timestamp' of the source of 'sales' has times without a zone") == 1
    assert views(done)["sales"] == (2, "2020-01-05T00:00:00Z")


def test_a_run_leaves_nothing_in_the_temporary_folder(shop: Shop, tmp_path: Path) -> None:
    shop.environ["TMPDIR"] = str(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    assert shop.materialize()[0] == 0
    assert list((tmp_path / "temporary").iterdir()) == []
    assert list((Path(shop.environ["MLOPS_HOME"]) / "features").glob("mlops-*")) == []
