"""A consumer with a small Feast repository: two views of two shops, a row a day each."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl

Run = Callable[..., subprocess.CompletedProcess[str]]
DAY = datetime(2020, 1, 1, tzinfo=timezone.utc)

STORE = """\
project: shop
provider: local
registry: ${MLOPS_STORE}/features/registry.db
offline_store: {type: dask}
online_store: {type: sqlite, path: "${MLOPS_HOME}/shop.db"}
entity_key_serialization_version: 3
"""
DEFINITIONS = """\
import os
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

shop = Entity(name="shop", value_type=ValueType.STRING)
root = os.environ["MLOPS_STORE"].removeprefix("file://")
endpoint = os.environ.get("MLOPS_STORE_ENDPOINT", "")


def table(name):
    path = f"{root}/features/{name}.parquet"
    return FileSource(name=name, path=path, timestamp_field="event_timestamp", s3_endpoint_override=endpoint)


sales = FeatureView(
    name="sales", entities=[shop], ttl=timedelta(days=3), source=table("sales"),
    schema=[Field(name="revenue", dtype=Float64), Field(name="visits", dtype=Int64)],
)
stock = FeatureView(
    name="stock", entities=[shop], ttl=timedelta(days=3), source=table("stock"),
    schema=[Field(name="items", dtype=Int64)],
)
"""


def sales(days: int, factor: float = 1.0) -> pl.DataFrame:
    """Two shops, a row a day."""
    rows = [(DAY + timedelta(days=d), shop, factor * d, d * 10) for d in range(days) for shop in ("a", "b")]
    return pl.DataFrame(rows, schema=["event_timestamp", "shop", "revenue", "visits"], orient="row")


@dataclass
class Shop:
    """A consumer with a Feast repository, on a store of its own."""

    root: Path
    run: Run
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "features"

    def give(self, days: int, factor: float = 1.0) -> None:
        """Put the tables into the store; a file:// store only."""
        folder = Path(self.environ["MLOPS_STORE"].removeprefix("file://")) / "features"
        folder.mkdir(parents=True, exist_ok=True)
        table = sales(days, factor)
        table.write_parquet(folder / "sales.parquet")
        table.select("event_timestamp", "shop", items="visits").write_parquet(folder / "stock.parquet")

    def materialize(self, *options: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, outputs, and what was said."""
        done = self.run("materialize-features", "--json", *options, cwd=self.root, **self.environ)
        return done.returncode, json.loads(done.stdout), done.stderr


def make_shop(folder: Path, run: Run) -> Shop:
    """A consumer in a new folder, with five days of data."""
    root = folder / "shop"
    (root / "features").mkdir(parents=True)
    (root / "features" / "feature_store.yaml").write_text(STORE)
    (root / "features" / "definitions.py").write_text(DEFINITIONS)
    made = Shop(root, run, {"MLOPS_STORE": (folder / "store").as_uri(), "MLOPS_HOME": str(folder / "home")})
    made.give(days=5)
    return made


def views(outputs: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {view["name"]: (view["rows"], view["watermark"]) for view in outputs["views"]}
