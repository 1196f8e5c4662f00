"""materialize-features, with Feast itself, on a small repository."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import servers
from feast_worlds import DAY, DEFINITIONS, STORE, Run, Shop, make_shop, views


@pytest.fixture
def shop(tmp_path: Path, mlops: Run) -> Shop:
    return make_shop(tmp_path, mlops)


def test_incremental_writes_what_is_new_and_the_same_work_is_reused(shop: Shop) -> None:
    code, first, said = shop.materialize("--data-fingerprint", "sha256:1")
    assert code == 0, said
    assert views(first) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (2, "2020-01-05T00:00:00Z")}
    assert first["plan"]["added"] == [
        "data source sales", "data source stock", "entity shop", "feature view sales", "feature view stock",
    ]  # fmt: skip
    assert first["registry"] == f"{shop.environ['MLOPS_STORE']}/features/registry.db"
    assert {view["compared"] for view in first["record"]["details"]["views"]} == {2}

    code, again, said = shop.materialize("--data-fingerprint", "sha256:1")
    assert (code, again["record"]["reused"]) == (0, True)
    assert "Reused" in said and "Plan" not in said

    shop.give(days=7)
    code, third, said = shop.materialize("--data-fingerprint", "sha256:2")
    assert code == 0, said
    assert views(third) == {"sales": (2, "2020-01-07T00:00:00Z"), "stock": (2, "2020-01-07T00:00:00Z")}
    assert third["record"]["details"]["views"][0]["start"] == "2020-01-06T00:00:00Z"
    assert not third["plan"]["added"] and not third["plan"]["changed"], "applying again changes nothing"
    assert third["features-digest"] != first["features-digest"]

    code, earlier, said = shop.materialize("--end", "2020-01-03")
    assert code == 0, said
    assert views(earlier) == {"sales": (0, "2020-01-07T00:00:00Z"), "stock": (0, "2020-01-07T00:00:00Z")}
    assert earlier["features-digest"] == third["features-digest"]


def test_a_pull_request_plans_features_and_applies_them_only_in_a_store_of_its_own(shop: Shop, tmp_path: Path) -> None:
    event, store = tmp_path / "event.json", shop.environ["MLOPS_STORE"]
    event.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": "abc"}}}))
    shop.environ |= {
        "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event),
        "GITHUB_RUN_ID": "1",
    }  # fmt: skip
    registry = Path(store.removeprefix("file://")) / "features" / "registry.db"
    config = "environments:\n  pull-request: {store: %s}\n  staging: {store: %s}\n"
    (shop.root / "mlops.yaml").write_text(config % ((tmp_path / "own").as_uri(), store))
    for options in ((), ("--environment", "staging"), ("--environment", "pull-request")):  # the variable's store wins
        code, planned, said = shop.materialize("--no-reuse", *options)
        assert code == 0, said
        assert planned["plan"]["added"] and not planned["record"]["details"]["views"]
        assert "A pull request changes no shared features" in said
        assert not registry.exists() and not (Path(shop.environ["MLOPS_HOME"]) / "shop.db").read_bytes()
    del shop.environ["MLOPS_STORE"]
    (shop.root / "mlops.yaml").write_text(config % (store, "s3://else/where"))
    code, done, said = shop.materialize("--environment", "pull-request")
    assert code == 0 and views(done)["sales"][0] == 2 and registry.exists(), said


def test_a_lost_online_store_is_filled_again_and_gives_the_same_digest(shop: Shop) -> None:
    _, first, _ = shop.materialize("--data-fingerprint", "sha256:1", "--end", "2020-01-04")
    assert views(first)["sales"] == (2, "2020-01-04T00:00:00Z")
    shutil.rmtree(shop.environ["MLOPS_HOME"])
    code, again, said = shop.materialize("--data-fingerprint", "sha256:1", "--end", "2020-01-04")
    assert code == 0, said
    assert "this machine has no online store" in said
    assert "materialized from the beginning" in said
    assert views(again) == views(first)
    assert again["features-digest"] == first["features-digest"]


def test_a_changed_definition_is_planned_and_materialized_from_the_beginning(shop: Shop) -> None:
    assert shop.materialize()[0] == 0
    text = DEFINITIONS.replace('Field(name="visits", dtype=Int64)', 'Field(name="visits", dtype=Float64)')
    (shop.folder / "definitions.py").write_text(text.replace("stock = FeatureView(", "store = FeatureView(").replace(
        'name="stock", entities', 'name="store", entities'))  # fmt: skip
    code, planned, said = shop.materialize("--mode", "plan-only")
    assert code == 0, said
    assert planned["plan"]["changed"] == ["feature view sales (features)"]
    assert planned["plan"]["removed"] == ["feature view stock"]
    assert planned["plan"]["added"] == ["feature view store"]
    assert planned["views"] == []
    code, refused, said = shop.materialize()
    assert code == 1, said
    assert (refused["plan"], refused["views"]) == (planned["plan"], []), "the plan had changed nothing"
    assert len(planned["plan"]["destructive"]) == 2
    assert "feature view sales: the type of visits changes from Int64 to Float64" in said
    code, applied, said = shop.materialize("--allow-destructive")
    assert code == 0, said
    assert applied["plan"] == planned["plan"], "the refusal had changed nothing"
    assert "sales: its definition changed" in said
    assert views(applied) == {"sales": (2, "2020-01-05T00:00:00Z"), "store": (2, "2020-01-05T00:00:00Z")}


def test_range_writes_the_latest_of_the_range_and_only_that_interval_is_recorded(shop: Shop) -> None:
    code, done, said = shop.materialize(
        "--mode", "range", "--start", "2020-01-02", "--end", "2020-01-03T12:00:00Z", "--views", "sales"
    )
    assert code == 0, said
    assert views(done) == {"sales": (2, "2020-01-03T00:00:00Z")}
    assert done["record"]["details"]["views"][0]["start"] == "2020-01-02T00:00:00Z"


def test_online_values_that_are_not_the_sources_are_rejected(shop: Shop) -> None:
    assert shop.materialize("--views", "sales")[0] == 0
    shop.give(days=5, factor=2.0)  # the past was rewritten, which an incremental materialization does not see
    code, done, said = shop.materialize("--views", "sales")
    assert code == 1
    assert "The online store differs from the source of sales" in said
    assert "sales:revenue of shop=a: offline 8.0, online 4.0" in done["record"]["details"]["views"][0]["differences"]


@pytest.mark.parametrize(
    ("file", "change", "options", "message"),
    [
        ("definitions.py", ("import os", "import os, nothing_of_the_kind"), [],
         "features/definitions.py:1: The feature definitions cannot be imported. ModuleNotFoundError"),
        ("definitions.py", ('ttl=timedelta(days=3), source=table("stock")', "ttl=3 3"), [],
         "features/definitions.py:21: The feature definitions are not Python. SyntaxError"),
        ("definitions.py", ('name="stock", entities', 'name="sales", entities'), [],
         "features/definitions.py:17: The feature repository cannot be applied. ConflictingFeatureViewNames"),
        ("definitions.py", ('Field(name="items"', 'Field(name="itemz"'), [],
         "features/definitions.py:22: The source of the feature view 'stock' has no column 'itemz'"),
        ("definitions.py", ('table("stock")', 'table("absent")'), [],
         "features/definitions.py:20: The table "),
        ("feature_store.yaml", ("provider: local", "provider: [local"), [],
         "features/feature_store.yaml:3: feature_store.yaml is not YAML"),
        ("feature_store.yaml", ("{MLOPS_HOME}", "{NOT_SET_ANYWHERE}"), [],
         "features/feature_store.yaml:5: feature_store.yaml uses the variable NOT_SET_ANYWHERE"),
        ("feature_store.yaml", ("type: dask", "type: dusk"), [], "Feast rejects feature_store.yaml"),
        ("", ("", ""), ["--views", "sale"],
         "The feature view 'sale' does not exist, or has nothing to materialize. Did you mean 'sales'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(
    shop: Shop, file: str, change: tuple[str, str], options: list[str], message: str
) -> None:
    if file:
        text = (shop.folder / file).read_text()
        assert change[0] in text
        (shop.folder / file).write_text(text.replace(*change))
    code, _, said = shop.materialize(*options)
    assert code == 2, said
    assert message in " ".join(said.split()), said
    assert not (shop.folder / "__pycache__").exists()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("python build.py", "build.py:2: `prepare` failed with exit code 1: python build.py. KeyError: 'origin'"),
        ("no-such-program --now", "`prepare` cannot be started: no-such-program"),
    ],
)
def test_a_prepare_that_fails_is_placed_in_the_consumers_file(shop: Shop, prepare: str, message: str) -> None:
    (shop.root / "build.py").write_text("def table():\n    raise KeyError('origin')\n\n\ntable()\n")
    code, _, said = shop.materialize("--prepare", prepare)
    assert code == 2, said
    assert message in " ".join(said.split()), said


def test_no_repository_is_said_before_anything_is_started(shop: Shop) -> None:
    code, _, said = shop.materialize("--repository", "elsewhere")
    assert code == 2
    assert "The folder elsewhere does not exist" in said


def test_a_registry_in_the_checkout_is_found_where_feast_finds_it_and_warned_of(shop: Shop) -> None:
    text = STORE.replace("${MLOPS_STORE}/features/registry.db", "data/registry.db")
    (shop.folder / "feature_store.yaml").write_text(text.replace("${MLOPS_HOME}/shop.db", "data/online.db"))
    options = ("--data-fingerprint", "sha256:1")
    code, done, said = shop.materialize(*options)
    assert code == 0, said
    registry = shop.folder / "data" / "registry.db"
    assert registry.is_file()
    assert done["registry"] == registry.as_uri()
    assert "The registry features/data/registry.db is in the checkout" in said
    assert "The online store features/data/online.db is in the checkout" in said
    assert shop.materialize(*options)[1]["record"]["reused"]
    registry.unlink()  # as with a fresh checkout
    code, done, said = shop.materialize(*options)
    assert code == 0 and registry.is_file(), said
    assert "the registry was changed since" in said


@pytest.mark.parametrize("server", ["seaweedfs", "minio"])
def test_tables_and_registry_on_s3(shop: Shop, server: str) -> None:
    s3: servers.S3 = getattr(servers, server)()
    url = s3.new_store()
    local = Path(shop.environ["MLOPS_STORE"].removeprefix("file://"))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for name in ("sales", "stock"):
        s3.client().fput_object(
            bucket, f"{prefix}/features/{name}.parquet", str(local / "features" / f"{name}.parquet")
        )
    shop.environ |= s3.environ(url)
    (shop.root / "requirements.txt").write_text("s3fs\n")
    code, done, said = shop.materialize("--data-fingerprint", "sha256:1", "--requirements", "requirements.txt")
    assert code == 0, said
    assert views(done) == {"sales": (2, "2020-01-05T00:00:00Z"), "stock": (2, "2020-01-05T00:00:00Z")}
    assert done["registry"] == f"{url}/features/registry.db"
    code, again, said = shop.materialize("--data-fingerprint", "sha256:1", "--requirements", "requirements.txt")
    assert (code, again["record"]["reused"]) == (0, True), said


def test_two_runs_at_once_take_turns(shop: Shop, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(shop.materialize, "--data-fingerprint", "sha256:1") for _ in range(2)]
        results = [run.result() for run in runs]
    assert [code for code, _, _ in results] == [0, 0]
    assert sorted(outputs["record"].get("reused", False) for _, outputs, _ in results) == [False, True]
    assert any("Waiting for a run of" in said for _, _, said in results)


CONTRACT = """\
schema_type: polars_dataframe
columns:
  shop: {dtype: String}
  revenue: {dtype: Float64}
table:
  serving: {data: "store:features/served/shop/sales.parquet", keys: [shop, event_timestamp]}
"""


def test_what_was_read_back_is_a_table_of_what_is_served(shop: Shop) -> None:
    code, done, said = shop.materialize("--sample", "1")
    assert code == 0, said
    table = pl.read_parquet(done["served"]["sales"].removeprefix("file://"))
    assert table.columns == ["shop", "revenue", "visits", "event_timestamp"]
    assert table.rows() == [("a", 4.0, 40, DAY + timedelta(days=4))]
    code, again, said = shop.materialize("--sample", "20")
    assert again["served"] == done["served"], "the next run puts its own there"
    assert pl.read_parquet(again["served"]["sales"].removeprefix("file://")).height == 2


def test_validate_data_compares_training_data_with_what_is_served(shop: Shop) -> None:
    assert shop.materialize()[0] == 0
    (shop.root / "contract.yaml").write_text(CONTRACT)
    options = ["validate-data", "--data", "store:features/sales.parquet", "--contract", "contract.yaml"]
    done = shop.run(*options, cwd=shop.root, **shop.environ)
    assert done.returncode == 0, done.stderr
    shop.give(days=5, factor=2.0)  # the table was made again, and what is served was not
    done = shop.run(*options, cwd=shop.root, **shop.environ)
    assert done.returncode == 1, done.stderr
    assert "revenue" in done.stdout + done.stderr and "of 2 rows that were served" in done.stdout + done.stderr
