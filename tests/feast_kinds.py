"""A Feast repository with every kind of view, and what its online store holds."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl

STORE = """\
project: kinds
provider: local
registry: {folder}/registry.db
offline_store: {{type: dask}}
online_store: {{type: sqlite, path: {folder}/online.db}}
entity_key_serialization_version: 3
"""
DEFINITIONS = """
from datetime import timedelta

import pandas as pd
from feast import (BatchFeatureView, Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource, PushSource,
                   RequestSource, StreamFeatureView, ValueType)
from feast.data_format import JsonFormat
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64, tags={"team": "growth"})
country = Entity(name="country", value_type=ValueType.STRING)
path = "TABLE"


def source(name, **more):
    return FileSource(name=name, path=path, timestamp_field="at", **more)


several = FeatureView(name="several", entities=[user, country], ttl=timedelta(days=1), source=source("several"),
                      schema=[Field(name="amount", dtype=Float64)], tags={"owner": "me"}, description="two keys")
nobody = FeatureView(name="nobody", entities=[], source=source("nobody"), schema=[Field(name="amount", dtype=Float64)])
mapped = FeatureView(
    name="mapped", entities=[user], ttl=timedelta(0),
    source=source("mapped", field_mapping={"amount": "spent", "who": "nick"}, created_timestamp_column="made"),
    schema=[Field(name="spent", dtype=Float64), Field(name="nick", dtype=String, tags={"pii": "yes"})],
)
plain = FeatureView(name="plain", entities=[user], source=source("plain"), schema=[Field(name="amount", dtype=Float64)])
pushed = FeatureView(name="pushed", entities=[user], source=PushSource(name="push", batch_source=source("push_batch")),
                     schema=[Field(name="visits", dtype=Int64)])


def stream(name):
    return KafkaSource(name=name, kafka_bootstrap_servers="localhost:9092", topic="t", timestamp_field="at",
                       message_format=JsonFormat("user_id bigint"), batch_source=source(name + "_batch"))


of_a_stream = FeatureView(name="of_a_stream", entities=[user], source=stream("kafka"),
                          schema=[Field(name="visits", dtype=Int64)])
streamed = StreamFeatureView(name="streamed", entities=[user], source=stream("kafka_stream"), timestamp_field="at",
                             schema=[Field(name="visits", dtype=Int64)], ttl=timedelta(days=2))


def doubled(df):
    return df.assign(twice=df["visits"] * 2)


text = "def doubled(df):\\n    return df.assign(twice=df['visits'] * 2)\\n"

transformed = BatchFeatureView(name="transformed", entities=[user], source=source("transformed_source"), mode="pandas",
                               udf=doubled, udf_string=text, online=True,
                               schema=[Field(name="twice", dtype=Int64)])
asked = RequestSource(name="asked", schema=[Field(name="factor", dtype=Float64)])


@on_demand_feature_view(sources=[mapped, asked], schema=[Field(name="scaled", dtype=Float64)])
def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"scaled": inputs["spent"] * inputs["factor"]})


# Feast itself cannot write one over a source with a field mapping.
@on_demand_feature_view(sources=[plain], schema=[Field(name="halved", dtype=Float64)], write_to_online_store=True,
                        entities=[user])
def halved(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"halved": inputs["amount"] / 2})


service = FeatureService(name="service", features=[mapped[["spent"]], scaled], tags={"model": "m"})
kept_online = FeatureService(name="kept_online", features=[several], precompute_online=True)
"""
VIEWS = {"several", "nobody", "mapped", "plain", "pushed", "of_a_stream", "streamed", "transformed"}
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
ROWS = 60
END = START + timedelta(hours=ROWS - 1)


def make(folder: Path) -> Path:
    """The repository, its table, its registry and its online store, all in a new folder."""
    (folder / "features").mkdir(parents=True)
    numbers = range(ROWS)
    pl.DataFrame({
        "user_id": [number % 7 for number in numbers], "country": [("fr", "de", "it")[n % 3] for n in numbers],
        "amount": [None if number % 11 == 5 else number / 4 for number in numbers],
        "who": [f"nick {number}" for number in numbers], "visits": list(numbers),
        "at": [START + timedelta(hours=number) for number in numbers],
        "made": [START + timedelta(days=30, hours=-number) for number in numbers],
    }).write_parquet(folder / "table.parquet")  # fmt: skip
    (folder / "features" / "feature_store.yaml").write_text(STORE.format(folder=folder))
    (folder / "features" / "definitions.py").write_text(DEFINITIONS.replace("TABLE", str(folder / "table.parquet")))
    return folder


def online(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the online store."""
    with sqlite3.connect(folder / "online.db") as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr) for name in names}
