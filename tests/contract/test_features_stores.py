"""Registries and online stores that are servers: a plan, the guards and the rows are the same as with files."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from feast_servers import PACKAGES, feast_server
from feast_worlds import DEFINITIONS, STORE, Run, Shop, make_shop, views

FILE = "registry: ${MLOPS_STORE}/features/registry.db"
SQLITE = 'online_store: {type: sqlite, path: "${MLOPS_HOME}/shop.db"}'
NO_VISITS = DEFINITIONS.replace(', Field(name="visits", dtype=Int64)', "")


@pytest.fixture
def shop(tmp_path: Path, mlops: Run) -> Shop:
    made = make_shop(tmp_path, mlops)
    (made.root / "requirements.txt").write_text("\n".join(PACKAGES) + "\n")
    return made


def planned_guarded_and_materialized(shop: Shop, *options: str) -> None:
    """The whole life of a repository: a plan that changes nothing, rows, a refusal, more rows, a new feature."""
    (shop.folder / "definitions.py").write_text(NO_VISITS)
    code, planned, said = shop.materialize(*options, "--mode", "plan-only")
    assert code == 0, said
    assert {"feature view sales", "feature view stock"} <= set(planned["plan"]["added"])
    for days, rows in ((5, 2), (6, 2)):
        shop.give(days=days)
        code, done, said = shop.materialize(*options)
        assert code == 0, said
        assert views(done)["sales"] == (rows, f"2020-01-0{days}T00:00:00Z")
        assert {view["compared"] for view in done["record"]["details"]["views"]} == {2}
    (shop.folder / "definitions.py").write_text(DEFINITIONS)
    code, added, said = shop.materialize(*options)
    assert code == 0, said
    assert added["plan"]["changed"] and not added["plan"]["destructive"]
    assert views(added) == {"sales": (2, "2020-01-06T00:00:00Z"), "stock": (0, "2020-01-06T00:00:00Z")}
    (shop.folder / "definitions.py").write_text(NO_VISITS)
    code, refused, said = shop.materialize(*options)
    assert code == 1, said
    assert "its feature visits is removed. It is materialized until 2020-01-06" in said
    assert refused["record"]["details"]["refused"]


def test_a_registry_in_postgres(shop: Shop) -> None:
    server = servers.postgres()
    url = f"postgresql+psycopg://{server.user}@127.0.0.1:{server.port}/{server.database}"
    (shop.folder / "feature_store.yaml").write_text(
        STORE.replace(FILE, f"registry: {{registry_type: sql, path: '{url}', cache_ttl_seconds: 0}}")
    )
    planned_guarded_and_materialized(shop)


@pytest.fixture
def served(shop: Shop) -> Iterator[Path]:
    """A repository of its own for Feast's servers, with a registry and an online store in files."""
    folder = shop.root.parent / "server"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(
        STORE.replace(FILE, f"registry: {shop.root.parent}/registry.db").replace(SQLITE, "online_store: " + json.dumps(
            {"type": "sqlite", "path": str(shop.root.parent / "served.db")}))
    )  # fmt: skip
    yield folder


def test_a_registry_behind_feasts_server(shop: Shop, served: Path) -> None:
    with feast_server("serve_registry", served, shop.environ) as port:
        remote = f"registry: {{registry_type: remote, path: '127.0.0.1:{port}'}}"
        (shop.folder / "feature_store.yaml").write_text(STORE.replace(FILE, remote))
        planned_guarded_and_materialized(shop, "--requirements", "requirements.txt")
    code, _, said = shop.materialize("--requirements", "requirements.txt")
    assert code == 3, said
    assert "Cannot use the registry or the online store" in said and "Traceback" not in said


def test_an_online_store_behind_feasts_server(shop: Shop, served: Path) -> None:
    """The server has the repository and writes; here are the plan, the guards and what is read back."""
    (served / "definitions.py").write_text(DEFINITIONS)
    (shop.folder / "feature_store.yaml").write_text((served / "feature_store.yaml").read_text())
    assert shop.materialize("--mode", "plan-only")[0] == 0
    assert shop.materialize("--views", "stock")[0] == 0  # registers what the server serves
    with feast_server("serve", served, shop.environ) as port:
        text = (served / "feature_store.yaml").read_text().splitlines()
        text = [f"online_store: {{type: remote, path: 'http://127.0.0.1:{port}'}}" if line.startswith("online_store")
                else line for line in text]  # fmt: skip
        (shop.folder / "feature_store.yaml").write_text("\n".join(text) + "\n")
        code, done, said = shop.materialize("--views", "sales")
        assert code == 0, said
        assert "Feast's own: its online store is remote" in said
        assert views(done)["sales"] == (2, "2020-01-05T00:00:00Z")
        assert done["record"]["details"]["views"][0]["compared"] == 2
        with sqlite3.connect(shop.root.parent / "served.db") as connection:
            assert connection.execute("SELECT count(*) FROM shop_sales").fetchone() == (4,)
    shop.give(days=6)
    code, _, said = shop.materialize("--views", "sales")
    assert code == 3, said
    assert "remote" in said and "Traceback" not in said
    (shop.folder / "feature_store.yaml").write_text((served / "feature_store.yaml").read_text())
    assert views(shop.materialize("--views", "sales")[1])["sales"] == (2, "2020-01-06T00:00:00Z")


def test_rights_that_are_missing_are_a_failure_of_the_store(shop: Shop) -> None:
    server = servers.postgres()

    def sql(text: str) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        reach = ["-h", "127.0.0.1", "-p", str(server.port), "-U", server.user, "-d", server.database]
        subprocess.run([str(programs), "-q", *reach, "-c", text], check=True, capture_output=True)

    def online_store(user: str) -> str:
        reach = {"host": "127.0.0.1", "port": server.port, "database": server.database, "user": user}
        store = {"type": "postgres", "password": "none", "sslmode": "disable", "db_schema": "public", **reach}
        return STORE.replace(SQLITE, f"online_store: {json.dumps(store)}")

    (shop.folder / "feature_store.yaml").write_text(online_store(server.user))
    assert shop.materialize()[0] == 0
    reader = f"reader_{server.database}"
    sql(f"CREATE ROLE {reader} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    (shop.folder / "feature_store.yaml").write_text(online_store(reader))
    shop.give(days=6)
    code, _, said = shop.materialize()
    assert code == 3, said
    assert "permission denied" in said and "postgres" in said
    (shop.folder / "feature_store.yaml").write_text(online_store(server.user))
    code, done, said = shop.materialize()
    assert code == 0, said
    assert views(done)["sales"] == (2, "2020-01-06T00:00:00Z"), "the interval had not been recorded as done"


def test_vectors_of_a_feature_service_are_made_after_the_fast_way_too(shop: Shop) -> None:
    port = servers.redis()
    redis = json.dumps({"type": "redis", "connection_string": f"127.0.0.1:{port}"})
    (shop.folder / "feature_store.yaml").write_text(STORE.replace(SQLITE, f"online_store: {redis}"))
    service = "kept = FeatureService(name='kept', features=[sales], precompute_online=True)"
    (shop.folder / "definitions.py").write_text(f"{DEFINITIONS}\nfrom feast import FeatureService\n{service}\n")
    code, done, said = shop.materialize()
    assert code == 0, said
    assert {view["way"] for view in done["record"]["details"]["views"]} == {"fast"}
    script = "return #redis.call('KEYS', '*') .. ' ' .. redis.call('HEXISTS', redis.call('KEYS', '*')[1], ARGV[1])"
    told = subprocess.run(
        ["redis-cli", "-p", str(port), "EVAL", script, "0", "_ts:__precomputed__kept"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "2 1"
