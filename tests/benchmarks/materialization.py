"""materialize-features against `feast materialize`: the same table, repository and online store, side by side.

`scripts/bench materialization` takes 100,000 rows of 10 features (ints, floats, strings, bools, timestamps, arrays,
nulls) to SQLite, Redis and Postgres by both ways. ROWS=1000000 STORES=sqlite sets other sizes, and OURS=1 leaves
Feast's out, which is needed where Feast's does not fit this machine's memory. Each way is a process of its own; its
peak memory is the kernel's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

TABLE = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
rows, path = int(sys.argv[1]), sys.argv[2]
random = np.random.default_rng(0)
words = np.array(["alpha", "beta", "gamma", "delta", "epsilon"])
order = random.permutation(rows)
writer = None
for first in range(0, rows, 131072):
    n = min(131072, rows - first)
    at = np.datetime64("2024-01-01", "us") + (np.arange(first, first + n) % 2592000).astype("timedelta64[s]")
    def holes(values):
        return pa.array(values, mask=random.random(n) < 0.05)
    floats = pa.array(random.random(4 * n).astype("f4"))
    arrays = pa.ListArray.from_arrays(np.arange(0, 4 * n + 1, 4, dtype="int32"), floats)
    table = pa.table({
        "id": order[first:first + n], "event_timestamp": pa.array(at, pa.timestamp("us", tz="UTC")),
        "small": random.integers(0, 1000, n), "with_null": holes(random.integers(0, 10**6, n)),
        "float32": random.random(n).astype("f4"), "float64": random.standard_normal(n),
        "float64_null": holes(random.standard_normal(n)), "word": pa.array(words[random.integers(0, 5, n)]),
        "name": pa.array(np.char.add("user-", random.integers(0, 10**7, n).astype(str))),
        "flag": random.random(n) < 0.5,
        "moment": pa.array(at, pa.timestamp("us", tz="UTC")), "numbers": arrays})
    writer = writer or pq.ParquetWriter(path, table.schema)
    writer.write_table(table)
writer.close()
"""
DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp
user = Entity(name="user", join_keys=["id"], value_type=ValueType.INT64)
kinds = dict(small=Int64, with_null=Int64, float32=Float32, float64=Float64, float64_null=Float64, word=String,
             name=String, flag=Bool, moment=UnixTimestamp, numbers=Array(Float32))
source = FileSource(name="users", path="{path}", timestamp_field="event_timestamp")
users = FeatureView(name="users", entities=[user], ttl=timedelta(0), source=source,
                    schema=[Field(name=name, dtype=kind) for name, kind in kinds.items()])
"""


def online_store(kind: str, folder: Path) -> dict[str, Any]:
    """A new online store."""
    import servers

    if kind == "redis":
        return {"type": "redis", "connection_string": f"127.0.0.1:{servers.redis()}"}
    if kind == "postgres":
        server = servers.postgres()
        reach = {"host": "127.0.0.1", "port": server.port, "database": server.database, "user": server.user}
        return {"type": "postgres", "password": "none", "sslmode": "disable", "db_schema": "public", **reach}
    return {"type": "sqlite", "path": str(folder / "online.db")}


def repository(folder: Path, table: Path, kind: str) -> Path:
    """A Feast repository in the folder, with registry and online store of its own."""
    (folder / "features").mkdir(parents=True)
    config = {
        "project": "bench", "provider": "local", "registry": str(folder / "registry.db"),
        "offline_store": {"type": "dask"}, "online_store": online_store(kind, folder),
        "entity_key_serialization_version": 3,
    }  # fmt: skip
    (folder / "features" / "feature_store.yaml").write_text(json.dumps(config))
    (folder / "features" / "definitions.py").write_text(DEFINITIONS.replace("{path}", str(table)))
    return folder


def measured(command: list[str], folder: Path, environ: dict[str, str]) -> tuple[float, float]:
    """Seconds of a command, and the GB that its largest process had at most."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n"
        "sys.stderr.buffer.write(done.stderr[-3000:] if done.returncode else b'')\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(done.returncode)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=folder, env=environ, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - began, int(done.stdout) / 1e6


def main() -> None:
    """Print seconds, peak memory and ratios."""
    from mlops_actions import environments

    rows = int(os.environ.get("ROWS", "100000"))
    python = environments.ensure("features", environments.cache_folder()).python
    feast = str(python.with_name("feast"))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        table = scratch / "users.parquet"
        subprocess.run([str(python), "-c", TABLE, str(rows), str(table)], check=True)
        print(f"{rows:,} rows of 10 features, {table.stat().st_size / 1e6:.0f} MB of Parquet; the whole command, warm")
        for kind in os.environ.get("STORES", "sqlite redis postgres").split():
            environ = {**os.environ, "MLOPS_HOME": str(scratch / f"home-{kind}")}
            ours = repository(scratch / kind / "ours", table, kind)
            mine = measured([str(ROOT / "scripts" / "mlops"), "materialize-features"], ours, environ)
            print(f"{kind}: materialize-features {mine[0]:.1f} s, {mine[1]:.2f} GB", flush=True)
            if os.environ.get("OURS"):
                continue
            bare = repository(scratch / kind / "feast", table, kind) / "features"
            subprocess.run([feast, "apply"], cwd=bare, check=True, capture_output=True)
            theirs = measured([feast, "materialize", "2020-01-01T00:00:00", "2025-01-01T00:00:00"], bare, environ)
            print(f"{kind}: feast materialize    {theirs[0]:.1f} s, {theirs[1]:.2f} GB", flush=True)
            print(
                f"{kind}: {theirs[0] / mine[0]:.1f} times as fast, {theirs[1] / mine[1]:.1f} times less memory",
                flush=True,
            )


if __name__ == "__main__":
    main()
