"""The fast way leaves in each online store, byte for byte, what Feast writes: every value type, every kind of key."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import servers
from mlops_actions import environments

SCRIPT = Path(__file__).resolve().parents[1] / "feast_types.py"


def online_store(kind: str, folder: Path) -> dict[str, Any]:
    """The store, with `{side}` where the two ways must not meet."""
    if kind == "redis":
        return {"type": "redis", "connection_string": f"127.0.0.1:{servers.redis()},db={{side}}"}
    if kind == "postgres":
        server = servers.postgres()
        reach = {"host": "127.0.0.1", "port": server.port, "database": server.database, "user": server.user}
        return {"type": "postgres", "password": "none", "sslmode": "disable", "db_schema": "{side}", **reach}
    return {"type": "sqlite", "path": str(folder / "{side}.db")}


@pytest.mark.parametrize(
    ("kind", "zone"), [("sqlite", "UTC"), ("sqlite", "America/New_York"), ("redis", "UTC"), ("postgres", "UTC")]
)
def test_every_type_is_written_as_feast_writes_it(kind: str, zone: str, tmp_path: Path) -> None:
    python = environments.ensure("features", environments.cache_folder()).python
    command = [str(python), str(SCRIPT), json.dumps(online_store(kind, tmp_path)), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "TZ": zone, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 60
    both_fail = {"type_string_zero"} if kind == "postgres" else set()  # Postgres has no zero byte in a text
    for name, answer in found.items():
        assert answer["equal"], (name, answer)
        assert not answer["obstacle"], (name, answer)
        assert bool(answer["feast"]) == bool(answer["fast"]) == (name in both_fail), (name, answer)
        assert answer["rows"] or name in both_fail, (name, answer)
