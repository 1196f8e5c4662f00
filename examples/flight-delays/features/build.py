"""Make the feature tables from the raw tables of the store: `python features/build.py`.

Each row has an `event_timestamp`, the moment from which its values are known; they are made of nothing later:

    features/{carrier,route,origin}_delays.parquet   one row an entity and day: shares of late arrivals before that day
    features/weather.parquet                         one row an airport and observation

The store is MLOPS_STORE; see ingest.py for the raw tables. Equal tables are not written again.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

DAY = pd.Timedelta(days=1)
SNAPSHOT = pd.Timedelta(hours=8)
"""Time of day, UTC, of the daily snapshot: after the last departure of a New York day and before the first."""
LATE = 15
"""Minutes after the scheduled arrival from which a flight is late."""
PRIOR_FLIGHTS = 20
"""A share is pulled to that of all flights as if by this many flights, so that one late flight is not 100 %."""
CARIBBEAN = dict.fromkeys(("BQN", "PSE", "SJU"), "America/Puerto_Rico") | {"STT": "America/St_Thomas"}
"""Destinations that the table of airports lacks."""


def arrivals(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """The flights that arrived: carrier, route, origin, `arrived_at` (UTC) and `late`.

    The sources give the clock at the destination, not the moment: it is the first time that the clock there shows
    `arr_time` after the flight has been in the air for `air_time` minutes.
    """
    done = flights.dropna(subset=["arr_delay", "air_time", "arr_time", "dep_delay"])
    zones = {**airports.set_index("faa")["tzone"], **CARIBBEAN}
    departed = scheduled_departure(done) + pd.to_timedelta(done["dep_delay"], unit="min")
    landed = departed + pd.to_timedelta(done["air_time"], unit="min")
    clock = pd.Series(0, index=done.index)
    for zone, group in landed.groupby(done["dest"].map(zones)):
        local = group.dt.tz_convert(zone).dt
        clock[group.index] = local.hour * 60 + local.minute
    shown = done["arr_time"] // 100 * 60 + done["arr_time"] % 100
    taxi = (shown - clock) % 1440
    taxi = taxi.where(taxi < 1440 - 60, 0)  # times are in whole minutes and from several sources: do not wait a day
    return pd.DataFrame(
        {
            "carrier": done["carrier"],
            "route": done["origin"] + "-" + done["dest"],
            "origin": done["origin"],
            "arrived_at": landed + pd.to_timedelta(taxi, unit="min"),
            "late": (done["arr_delay"] >= LATE).astype("int64"),
        }
    )


def scheduled_departure(flights: pd.DataFrame) -> pd.Series:
    """The moment of the scheduled departure, UTC."""
    return flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")


def delays(arrived: pd.DataFrame, entity: str) -> pd.DataFrame:
    """For each entity and day: the share of late ones among the arrivals of the last 7 and 28 days, and their number.

    An arrival belongs to the first snapshot after it, so a snapshot holds only what arrived before it. A row is there
    from the entity's first arrival on.
    """
    day = ((arrived["arrived_at"] - SNAPSHOT).dt.floor("D") + DAY + SNAPSHOT).rename("event_timestamp")
    counts = arrived.groupby([arrived[entity], day])["late"].agg(["sum", "size"])
    days = pd.date_range(day.min(), day.max(), freq="D")
    late = counts["sum"].unstack(0, fill_value=0).reindex(days, fill_value=0)
    flights = counts["size"].unstack(0, fill_value=0).reindex(days, fill_value=0)
    columns = {}
    for width in (7, 28):
        n, bad = (table.rolling(width, min_periods=1).sum() for table in (flights, late))
        overall = bad.sum(axis=1) / n.sum(axis=1)
        share = bad.add(PRIOR_FLIGHTS * overall, axis=0) / (n + PRIOR_FLIGHTS)
        columns[f"{entity}_late_{width}d"] = share.astype("float32").stack()
        columns[f"{entity}_flights_{width}d"] = n.astype("int64").stack()
    seen = flights.cumsum().stack() > 0
    table = pd.DataFrame(columns)[seen].drop(columns=f"{entity}_flights_7d")
    return table.rename_axis(["event_timestamp", entity]).reset_index()


def weather(observations: pd.DataFrame) -> pd.DataFrame:
    """The observations by airport, each known when its hour is over; a value that is missing is the one before it."""
    table = observations.sort_values(["origin", "time_hour"], ignore_index=True)
    hours = table.set_index("time_hour").groupby("origin")["precip"].rolling("6h").sum()
    table["precip_6h"] = hours.to_numpy()
    table["wind_gust"] = table["wind_gust"].fillna(table["wind_speed"])
    table["event_timestamp"] = table["time_hour"] + pd.Timedelta(hours=1)
    names = ["temp", "humid", "wind_speed", "wind_gust", "precip", "precip_6h", "pressure", "visib"]
    table[names] = table.groupby("origin")[names].ffill().astype("float32")
    return table[["event_timestamp", "origin", *names]]


def feature_tables(
    flights: pd.DataFrame, airports: pd.DataFrame, observations: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Every feature table by its name."""
    arrived = arrivals(flights, airports)
    made = {f"{entity}_delays": delays(arrived, entity) for entity in ("carrier", "route", "origin")}
    return {**made, "weather": weather(observations)}


def open_store(url: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of the store, and the path in it."""
    if url.startswith("s3://"):
        endpoint = os.environ.get("MLOPS_STORE_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL")
        return fs.S3FileSystem(endpoint_override=endpoint), url.removeprefix("s3://")
    return fs.LocalFileSystem(), url2pathname(urlsplit(url).path) if url.startswith("file://") else url


def write(filesystem: fs.FileSystem, path: str, table: pd.DataFrame) -> bool:
    """Write a table as Parquet unless it is there; whether it was written."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None), sink)
    data = sink.getvalue()
    if filesystem.get_file_info(path).size == len(data):
        with filesystem.open_input_stream(path) as stream:
            if stream.read() == data:
                return False
    local = isinstance(filesystem, fs.LocalFileSystem)
    if local:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    target = f"{path}.{os.getpid()}.part" if local else path  # an S3 object appears when it is complete
    with filesystem.open_output_stream(target) as stream:
        stream.write(data)
    if local:
        Path(target).replace(path)
    return True


def main() -> None:
    """Read the raw tables, write the feature tables."""
    filesystem, folder = open_store(os.environ["MLOPS_STORE"])

    def read(name: str) -> pd.DataFrame:
        return ds.dataset(f"{folder}/data/{name}", filesystem=filesystem, format="parquet").to_table().to_pandas()

    for name, table in feature_tables(read("flights"), read("airports.parquet"), read("weather")).items():
        written = write(filesystem, f"{folder}/features/{name}.parquet", table)
        last = np.datetime_as_string(table["event_timestamp"].max().to_datetime64(), unit="m")
        print(f"{name}: {len(table)} rows until {last}Z{'' if written else ', as before'}")


if __name__ == "__main__":
    main()
