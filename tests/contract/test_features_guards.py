"""What materialize-features does not let happen: faults of bare Feast, lost work, half-done work that looks done."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import servers
from conftest import MLOPS
from feast_worlds import DEFINITIONS, STORE, Run, Shop, make_shop, views
from mlops_actions import environments
from mlops_actions.waiting import wait_until

SQL = STORE.replace("registry: ${MLOPS_STORE}/features/registry.db",
                    "registry: {registry_type: sql, path: 'sqlite:///${MLOPS_HOME}/sql.db'}")  # fmt: skip
FAULTS = Path(__file__).resolve().parents[1] / "feast_faults.py"


@pytest.fixture
def shop(tmp_path: Path, mlops: Run) -> Shop:
    return make_shop(tmp_path, mlops)


def online(shop: Shop, view: str = "sales") -> int:
    """Rows in the online store's table of a view."""
    with sqlite3.connect(Path(shop.environ["MLOPS_HOME"]) / "shop.db") as connection:
        return int(connection.execute(f"SELECT count(*) FROM shop_{view}").fetchone()[0])


def test_bare_feast_has_the_faults_that_are_guarded_here(tmp_path: Path) -> None:
    python = environments.ensure("features", environments.cache_folder()).python
    done = subprocess.run(
        [str(python), str(FAULTS), str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "intervals after the view became a batch view": 0,
        "served after an end in the future": 2.0,
        "entities left after two clients": ["b"],
        "materialize after the file was deleted": True,
    }


def test_intervals_that_feast_wipes_are_kept(shop: Shop) -> None:
    (shop.folder / "feature_store.yaml").write_text(SQL)
    assert shop.materialize()[0] == 0
    text = DEFINITIONS.replace("import Entity, FeatureView", "import BatchFeatureView, Entity, FeatureView")
    text = text.replace("sales = FeatureView(", 'sales = BatchFeatureView(mode="pandas", online=True, ')
    (shop.folder / "definitions.py").write_text(text)
    code, done, said = shop.materialize()
    assert code == 0, said
    assert views(done)["sales"] == (0, "2020-01-05T00:00:00Z"), "nothing is written again"


def test_an_end_in_the_future_leaves_nothing_out_later(shop: Shop) -> None:
    future = (datetime.now(timezone.utc) + timedelta(days=30)).isoformat()
    assert shop.materialize("--end", future)[0] == 0
    shop.give(days=7)
    code, done, said = shop.materialize()
    assert code == 0, said
    assert views(done)["sales"] == (2, "2020-01-07T00:00:00Z")


def test_two_projects_that_change_one_registry_at_once_lose_nothing(tmp_path: Path, mlops: Run) -> None:
    shops = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = make_shop(tmp_path / name, mlops)
        made.environ["MLOPS_STORE"] = (tmp_path / "store").as_uri()
        made.give(days=5)
        shops.append(made)
        (made.folder / "feature_store.yaml").write_text(STORE.replace("project: shop", f"project: {name}"))
    with ThreadPoolExecutor(2) as pool:
        for code, _, said in pool.map(lambda shop: shop.materialize(), shops):
            assert code == 0, said
    for shop in shops:
        code, planned, said = shop.materialize("--mode", "plan-only")
        assert code == 0, said
        assert not planned["plan"]["added"], "everything that was applied is still there"


def test_a_plan_makes_no_tables_in_a_registry_of_sql_and_reads_those_that_are_there(shop: Shop) -> None:
    (shop.folder / "feature_store.yaml").write_text(SQL)
    file = Path(shop.environ["MLOPS_HOME"]) / "sql.db"
    code, planned, said = shop.materialize("--mode", "plan-only")
    assert code == 0, said
    assert any("sales" in name for name in planned["plan"]["added"])
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert shop.materialize()[0] == 0
    with sqlite3.connect(file) as connection:
        before = list(connection.iterdump())
    code, planned, said = shop.materialize("--mode", "plan-only")
    assert code == 0, said
    assert planned["plan"]["added"] == [] and planned["plan"]["changed"] == []
    with sqlite3.connect(file) as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("registry", ["file", "sql"])
def test_a_removed_feature_is_refused_before_anything_changes(shop: Shop, registry: str) -> None:
    if registry == "sql":
        (shop.folder / "feature_store.yaml").write_text(SQL)
    assert shop.materialize()[0] == 0
    before = online(shop)
    (shop.folder / "definitions.py").write_text(DEFINITIONS.replace(', Field(name="visits", dtype=Int64)', ""))
    code, refused, said = shop.materialize()
    assert code == 1, said
    assert "its feature visits is removed. It is materialized until 2020-01-05" in said
    assert refused["record"]["details"]["refused"] is True
    assert online(shop) == before
    (shop.folder / "definitions.py").write_text(DEFINITIONS)
    code, again, said = shop.materialize()
    assert code == 0 and not again["plan"]["changed"], said


def test_an_added_feature_is_not_destructive_and_is_filled_for_old_rows(shop: Shop) -> None:
    whole = ', Field(name="visits", dtype=Int64)'
    (shop.folder / "definitions.py").write_text(DEFINITIONS.replace(whole, ""))
    assert shop.materialize()[0] == 0
    (shop.folder / "definitions.py").write_text(DEFINITIONS)
    code, done, said = shop.materialize()
    assert code == 0, said
    assert (done["plan"]["destructive"], views(done)["sales"][0]) == ([], 2)
    assert online(shop) == 4


def test_a_source_that_moved_is_not_destructive_and_its_values_are_written_again(shop: Shop) -> None:
    assert shop.materialize()[0] == 0
    folder = Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features"
    (folder / "sales.parquet").rename(folder / "moved.parquet")
    (shop.folder / "definitions.py").write_text(DEFINITIONS.replace('table("sales")', 'table("moved")'))
    code, done, said = shop.materialize()
    assert code == 0, said
    assert done["plan"]["destructive"] == []
    assert views(done) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (0, "2020-01-05T00:00:00Z")}
    assert online(shop) == 4


def test_a_back_fill_that_was_killed_goes_on_with_its_first_unfinished_chunk(shop: Shop) -> None:
    options = ["--mode", "range", "--start", "2020-01-01", "--chunk", "1d", "--views", "sales"]
    code, first, said = shop.materialize(*options, "--end", "2020-01-03T12:00Z")
    assert code == 0, said
    assert views(first)["sales"] == (4, "2020-01-03T00:00:00Z")
    code, second, said = shop.materialize(*options)
    assert code == 0, said
    assert views(second)["sales"] == (4, "2020-01-05T00:00:00Z"), "the chunks that were recorded are not written again"
    code, third, said = shop.materialize(*options, "--no-reuse")
    assert code == 0, said
    assert views(third)["sales"][0] == 2, "only the last chunk has the newest values; the others would replace them"


def served(shop: Shop) -> set[str]:
    """The revenue of each shop that is online."""
    with sqlite3.connect(Path(shop.environ["MLOPS_HOME"]) / "shop.db") as connection:
        rows = connection.execute("SELECT value_text FROM shop_sales WHERE feature_name = 'revenue'").fetchall()
    return {text for (text,) in rows}


def test_a_range_before_what_is_materialized_leaves_newer_values_in_their_place(shop: Shop) -> None:
    assert shop.materialize("--views", "sales")[0] == 0
    options = ["--views", "sales", "--mode", "range", "--start", "2020-01-01", "--end", "2020-01-02"]
    code, done, said = shop.materialize(*options)
    assert code == 0, said
    assert "2 entities have newer values online than in the range, which are kept" in said
    assert views(done)["sales"] == (0, "2020-01-05T00:00:00Z")
    assert served(shop) == {"4.0"}
    code, done, said = shop.materialize(*options, "--allow-destructive")
    assert code == 0, said
    assert views(done)["sales"] == (2, "2020-01-05T00:00:00Z")
    assert served(shop) == {"1.0"}, "as Feast does it"


def test_a_range_that_feast_would_write_over_newer_values_is_refused(shop: Shop) -> None:
    text = DEFINITIONS.replace('name="sales", entities', 'name="sales", enable_validation=True, entities')
    (shop.folder / "definitions.py").write_text(text)
    assert shop.materialize("--views", "sales")[0] == 0
    options = ["--views", "sales", "--mode", "range", "--start", "2020-01-01", "--end", "2020-01-02"]
    code, _, said = shop.materialize(*options)
    assert code == 2, said
    assert "The range would replace newer values of 2 entities of 'sales' in the online store" in said
    assert served(shop) == {"4.0"}
    assert shop.materialize(*options, "--allow-destructive")[0] == 0
    assert served(shop) == {"1.0"}


def test_a_killed_job_neither_blocks_the_next_nor_leaves_an_interval_that_is_not_true(shop: Shop) -> None:
    shop.give(days=400)
    command = [str(MLOPS), "materialize-features", "--chunk", "2d", "--views", "sales"]
    killed = subprocess.Popen(
        command, cwd=shop.root, env={**os.environ, **shop.environ}, stderr=subprocess.PIPE, start_new_session=True
    )
    assert killed.stderr and any(line.startswith(b"sales: ") for line in killed.stderr)
    registry = Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features" / "registry.db"
    for _ in range(3):  # chunks that are recorded
        before = registry.stat().st_mtime_ns
        assert wait_until(lambda before=before: registry.stat().st_mtime_ns != before, 60)
    assert killed.poll() is None
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    code, done, said = shop.materialize("--chunk", "2d", "--views", "sales")
    assert code == 0, said
    assert 0 < views(done)["sales"][0] < 400, "what was recorded is not written again"
    assert views(done)["sales"][1] == "2021-02-03T00:00:00Z"
    assert done["record"]["details"]["views"][0]["compared"] == 2, "and what is online is what the source has"


def test_a_view_that_is_older_than_it_may_be_is_a_no(shop: Shop) -> None:
    code, done, said = shop.materialize("--max-age", "7d", "--data-fingerprint", "sha256:1")
    assert code == 1
    assert "days old, and `max-age` is 7.0 days" in said
    assert done["views"][0]["age"] > 5 * 365 * 86400
    assert shop.materialize("--max-age", "9999w", "--data-fingerprint", "sha256:1")[0] == 0


def test_a_value_that_does_not_fit_is_said_and_no_interval_is_recorded(shop: Shop) -> None:
    import polars as pl

    path = Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features" / "sales.parquet"
    table = pl.read_parquet(path).with_columns(visits=pl.lit("many"))
    table.write_parquet(path)
    code, _, said = shop.materialize("--views", "sales")
    assert code == 2, said
    assert "definitions.py:18: The column 'visits'" in said
    assert "is large_string and the feature is Int64" in said or "is string and the feature is Int64" in said


def test_a_read_only_online_store_is_a_failure_of_it(shop: Shop) -> None:
    text = STORE.replace('path: "${MLOPS_HOME}/shop.db"', 'path: "/proc/shop.db"')
    (shop.folder / "feature_store.yaml").write_text(text)
    code, _, said = shop.materialize()
    assert code == 3, said
    assert "online store" in said


def test_an_online_store_that_is_down_is_a_failure_of_it(shop: Shop) -> None:
    port = servers.free_port()
    online_store = f'online_store: {{type: redis, connection_string: "127.0.0.1:{port}"}}'
    text = STORE.replace('online_store: {type: sqlite, path: "${MLOPS_HOME}/shop.db"}', online_store)
    (shop.folder / "feature_store.yaml").write_text(text)
    code, _, said = shop.materialize()
    assert code == 3, said
    assert "redis" in said and "Traceback" not in said


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_servers_are_written_to_and_read_back(shop: Shop, kind: str) -> None:
    if kind == "redis":
        online_store: dict[str, Any] = {"type": "redis", "connection_string": f"127.0.0.1:{servers.redis()}"}
    else:
        server = servers.postgres()
        reach = {"host": "127.0.0.1", "port": server.port, "database": server.database, "user": server.user}
        online_store = {"type": "postgres", "password": "none", "sslmode": "disable", "db_schema": "public", **reach}
    sqlite = '{type: sqlite, path: "${MLOPS_HOME}/shop.db"}'
    (shop.folder / "feature_store.yaml").write_text(STORE.replace(sqlite, json.dumps(online_store)))
    code, done, said = shop.materialize()
    assert code == 0, said
    assert {view["way"] for view in done["record"]["details"]["views"]} == {"fast"}
    assert {view["compared"] for view in done["record"]["details"]["views"]} == {2}
    shop.give(days=6)
    code, done, said = shop.materialize()
    assert code == 0, said
    assert views(done)["sales"] == (2, "2020-01-06T00:00:00Z")
