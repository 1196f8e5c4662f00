"""Feast's own engines and older versions of Feast: the work is handed to them, and what they say is not taken on trust.

The consumer names Spark, Ray or another Feast in `requirements`; the action's lock has none of them.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from feast_worlds import DEFINITIONS, STORE, Run, Shop, make_shop, views

DASK = "offline_store: {type: dask}\n"
SPARK = DASK + 'batch_engine: {type: spark.engine, spark_conf: {spark.master: "local[2]", spark.ui.enabled: "false"}}\n'
RAY = DASK + "batch_engine: {type: ray.engine, ray_conf: {num_cpus: 2, include_dashboard: false}}\n"
LONG = DEFINITIONS.replace("ttl=timedelta(days=3)", "ttl=timedelta(days=99999)")
"""Feast's Ray engine leaves out what is older than the ttl, counted from now."""


@pytest.fixture
def shop(tmp_path: Path, mlops: Run) -> Shop:
    return make_shop(tmp_path, mlops)


def hand_to(shop: Shop, engine: str, *packages: str) -> tuple[str, str]:
    """Configure the engine; the options that a run needs then."""
    (shop.folder / "feature_store.yaml").write_text(STORE.replace(DASK, engine))
    (shop.root / "requirements.txt").write_text("\n".join(packages) + "\n")
    return "--requirements", "requirements.txt"


def rows(shop: Shop) -> list[tuple[bytes, ...]]:
    """All that is online of both views; event times as Feast's text or number."""
    with sqlite3.connect(Path(shop.environ["MLOPS_HOME"]) / "shop.db") as connection:
        found = [connection.execute(f"SELECT entity_key, feature_name, value, value_text, event_ts FROM shop_{view}")
                 for view in ("sales", "stock")]  # fmt: skip
        return sorted(row for each in found for row in each.fetchall())


@pytest.mark.parametrize(
    ("engine", "name", "packages"),
    [(SPARK, "spark.engine", ["pyspark==4.3.0"]), (RAY, "ray.engine", ["ray[data]==2.60.0"])],
    ids=["spark", "ray"],
)
def test_an_engine_of_feasts_gives_the_rows_of_the_local_one(
    shop: Shop, engine: str, name: str, packages: list[str]
) -> None:
    if name == "spark.engine" and not shutil.which("java"):
        pytest.skip("no Java: `apt-get install default-jre-headless`")
    (shop.folder / "definitions.py").write_text(LONG)
    assert shop.materialize()[0] == 0
    local = rows(shop)
    shutil.rmtree(shop.environ["MLOPS_HOME"])
    (Path(shop.environ["MLOPS_STORE"].removeprefix("file://")) / "features" / "registry.db").unlink()

    options = hand_to(shop, engine, *packages)
    code, done, said = shop.materialize(*options)
    assert code == 0, said
    assert said.count(f"Feast's own: its batch engine is {name}") == 2
    assert views(done) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (2, "2020-01-05T00:00:00Z")}
    assert {view["compared"] for view in done["record"]["details"]["views"]} == {2}
    assert rows(shop) == local

    shop.give(days=6)
    code, done, said = shop.materialize(*options, "--views", "sales")
    assert code == 0, said
    assert views(done) == {"sales": (2, "2020-01-06T00:00:00Z")}, "the interval was recorded"


def test_an_engine_whose_workers_could_not_write_is_not_believed(shop: Shop) -> None:
    (shop.folder / "definitions.py").write_text(LONG)
    assert shop.materialize()[0] == 0
    with sqlite3.connect(Path(shop.environ["MLOPS_HOME"]) / "shop.db") as connection:
        connection.execute("DELETE FROM shop_sales WHERE feature_name = 'visits'")
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON shop_sales BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    options = hand_to(shop, RAY, "ray[data]==2.60.0")
    shop.give(days=6)
    code, _, said = shop.materialize(*options, "--views", "sales")
    assert code == 3, said
    assert "ray.engine reported no error, but not all rows of 'sales' are in the online store" in said

    with sqlite3.connect(Path(shop.environ["MLOPS_HOME"]) / "shop.db") as connection:
        connection.execute("DROP TRIGGER full")
    code, done, said = shop.materialize(*options, "--views", "sales")
    assert code == 0, said
    assert views(done) == {"sales": (2, "2020-01-06T00:00:00Z")}, "the interval had not been recorded as done"


@pytest.mark.parametrize("version", ["0.66.0", "0.60.0"])
def test_another_feast_goes_its_own_way(shop: Shop, version: str) -> None:
    (shop.root / "requirements.txt").write_text(f"feast=={version}\n")
    code, done, said = shop.materialize("--requirements", "requirements.txt")
    assert code == 0, said
    assert f"Feast {version}: every view is written by Feast itself" in said
    assert f"Feast's own: Feast {version} is not 0.67.0" in said
    assert views(done) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (2, "2020-01-05T00:00:00Z")}
    assert {view["compared"] for view in done["record"]["details"]["views"]} == {2}
    (shop.folder / "definitions.py").write_text(DEFINITIONS.replace(', Field(name="visits", dtype=Int64)', ""))
    code, refused, said = shop.materialize("--requirements", "requirements.txt")
    assert code == 1, said
    assert "its feature visits is removed" in refused["plan"]["destructive"][0]


def test_a_feast_that_is_newer_than_the_known_one_goes_its_own_way(shop: Shop) -> None:
    definitions = shop.folder / "definitions.py"
    definitions.write_text(f"{definitions.read_text()}\nimport feast\nfeast.__version__ = '0.68.0'\n")
    code, done, said = shop.materialize()
    assert code == 0, said
    assert said.count("Feast 0.68.0: every view is written by Feast itself; the faster way needs 0.67.0") == 1
    assert views(done) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (2, "2020-01-05T00:00:00Z")}
    assert {view["compared"] for view in done["record"]["details"]["views"]} == {2}
