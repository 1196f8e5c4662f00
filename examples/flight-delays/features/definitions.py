"""The features, as Feast knows them. build.py makes the tables that they are read from."""

from __future__ import annotations

import os
from datetime import timedelta
from urllib.parse import urlsplit
from urllib.request import url2pathname

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32, Int64

STORE = os.environ["MLOPS_STORE"]
if STORE.startswith("file://"):
    STORE = url2pathname(urlsplit(STORE).path)  # Feast takes file:// for a relative path

carrier = Entity(name="carrier", value_type=ValueType.STRING, description="Two-letter code of the airline")
route = Entity(name="route", value_type=ValueType.STRING, description="Airports as ORIGIN-DEST")
origin = Entity(name="origin", value_type=ValueType.STRING, description="Airport of departure: EWR, JFK or LGA")


def source(name: str) -> FileSource:
    """A table that build.py made."""
    return FileSource(
        name=name,
        path=f"{STORE}/features/{name}.parquet",
        timestamp_field="event_timestamp",
        s3_endpoint_override=os.environ.get("MLOPS_STORE_ENDPOINT", ""),
    )


def delays(entity: Entity) -> FeatureView:
    """How late an entity's flights have been, known each day before the first departure."""
    return FeatureView(
        name=f"{entity.name}_delays",
        entities=[entity],
        ttl=timedelta(days=3),
        schema=[
            Field(name=f"{entity.name}_late_7d", dtype=Float32, description="Share of late arrivals in 7 days"),
            Field(name=f"{entity.name}_late_28d", dtype=Float32, description="Share of late arrivals in 28 days"),
            Field(name=f"{entity.name}_flights_28d", dtype=Int64, description="Arrivals in 28 days"),
        ],
        source=source(f"{entity.name}_delays"),
    )


carrier_delays = delays(carrier)
route_delays = delays(route)
origin_delays = delays(origin)
weather = FeatureView(
    name="weather",
    entities=[origin],
    ttl=timedelta(hours=6),
    schema=[
        Field(name="temp", dtype=Float32, description="°F"),
        Field(name="humid", dtype=Float32, description="Relative humidity, %"),
        Field(name="wind_speed", dtype=Float32, description="mph"),
        Field(name="wind_gust", dtype=Float32, description="mph; the wind's speed when there are no gusts"),
        Field(name="precip", dtype=Float32, description="Inches in the hour"),
        Field(name="precip_6h", dtype=Float32, description="Inches in six hours"),
        Field(name="pressure", dtype=Float32, description="Millibars at sea level"),
        Field(name="visib", dtype=Float32, description="Miles"),
    ],
    source=source("weather"),
)

flight_delays = FeatureService(name="flight_delays", features=[carrier_delays, route_delays, origin_delays, weather])
