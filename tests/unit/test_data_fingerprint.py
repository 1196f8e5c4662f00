"""The fingerprint of data: what it depends on, and the published algorithm."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_actions.data.fingerprint import UnorderedFingerprint
from mlops_actions.data.sources import DataSource
from mlops_actions.data.tables import Batch, Part, open_table
from mlops_actions.data.validate import fingerprint

FRAME = pl.DataFrame(
    {
        "id": pl.Series([1, 2, None, 4], dtype=pl.Int64),
        "x": [0.5, None, -0.0, float("nan")],
        "name": ["ab", "", None, "ü"],
        "ok": [True, None, False, True],
        "day": [dt.date(1970, 1, 2), None, dt.date(2013, 1, 1), dt.date(2013, 1, 2)],
    }
)


def of(path: Path) -> str:
    return fingerprint([DataSource(path.name, path)])[0]


def parquet(folder: Path, frame: pl.DataFrame, name: str = "a.parquet", **options: Any) -> Path:
    frame.write_parquet(folder / name, **options)
    return folder / name


def by_hand() -> str:
    """The algorithm as its documentation has it, with nothing but the standard library."""

    def sha(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    nan = struct.pack("<Q", 0x7FF8000000000000)
    columns = [
        ["id", "int64", b"\1\1\0\1", struct.pack("<4q", 1, 2, 0, 4), b""],
        ["x", "float64", b"\1\0\1\1", struct.pack("<3d", 0.5, 0.0, 0.0) + nan, b""],
        ["name", "string", b"\1\1\0\1", "abü".encode(), struct.pack("<4Q", 2, 0, 0, 2)],
        ["ok", "boolean", b"\1\0\1\1", b"\1\0\0\1", b""],
        ["day", "date", b"\1\0\1\1", struct.pack("<4i", 1, 0, 15706, 15707), b""],
    ]
    listed = [[name, kind, *(sha(stream) for stream in streams)] for name, kind, *streams in columns]
    return "sha256:" + sha(json.dumps([1, 4, listed], separators=(",", ":")).encode())


def test_it_is_what_the_documentation_says(tmp_path: Path) -> None:
    assert of(parquet(tmp_path, FRAME)) == by_hand()


def test_the_layout_in_files_does_not_matter(tmp_path: Path) -> None:
    frame = pl.concat([FRAME] * 500)
    whole = of(parquet(tmp_path, frame, row_group_size=17, compression="zstd"))
    assert of(parquet(tmp_path, frame, "b.parquet", compression="uncompressed", statistics=False)) == whole
    frame.write_ipc(tmp_path / "c.arrow")
    assert of(tmp_path / "c.arrow") == whole
    halves = [parquet(tmp_path, frame[:701], "d1.parquet"), parquet(tmp_path, frame[701:], "d2.parquet")]
    assert fingerprint([DataSource(path.name, path) for path in halves]) == (whole, 2000)
    categories = frame.with_columns(pl.col("name").cast(pl.Categorical))
    assert of(parquet(tmp_path, categories, "e.parquet")) == whole


def test_a_csv_with_the_contracts_types_is_the_same_data(tmp_path: Path) -> None:
    frame = FRAME.select("id", "ok", "day")
    frame.write_csv(tmp_path / "a.csv")
    types: dict[str, pl.DataType] = {"id": pl.Int64(), "ok": pl.Boolean(), "day": pl.Date()}
    assert fingerprint([DataSource("a.csv", tmp_path / "a.csv")], types)[0] == of(parquet(tmp_path, frame))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.reverse(),
        lambda f: f.select("x", "id", "name", "ok", "day"),
        lambda f: f.rename({"x": "y"}),
        lambda f: f.with_columns(pl.col("id").cast(pl.Int32)),
        lambda f: f.with_columns(pl.col("id").fill_null(0)),
        lambda f: f.with_columns(pl.col("x").fill_nan(None)),
        lambda f: f.with_columns(name=pl.Series(["a", "b", None, "ü"])),
        lambda f: f[:3],
    ],
    ids=[
        "row order",
        "column order",
        "name",
        "type",
        "null is not zero",
        "NaN is not null",
        "split text",
        "fewer rows",
    ],
)
def test_content_matters(tmp_path: Path, change: Any) -> None:
    assert of(parquet(tmp_path, change(FRAME), "changed.parquet")) != of(parquet(tmp_path, FRAME))


def test_nested_decimal_and_binary_columns_have_one_too(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "list": [[1, 2], None, []],
            "struct": [{"a": 1}, {"a": None}, None],
            "money": pl.Series(["1.50", None, "2.25"]).cast(pl.Decimal(10, 2)),
            "raw": [b"ab", None, b"c"],
            "when": pl.Series([0, None, 10**15]).cast(pl.Datetime("us", "UTC")),
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
        }
    )
    first = of(parquet(tmp_path, frame))
    assert of(parquet(tmp_path, frame, "b.parquet", row_group_size=1)) == first
    for name in ("list", "struct", "money", "raw", "when"):
        other = frame.with_columns(pl.col(name).shift(1))
        assert of(parquet(tmp_path, other, f"{name}.parquet")) != first


def unordered(*frames: pl.DataFrame) -> str:
    taken = UnorderedFingerprint(frames[0].schema)
    for frame in frames:
        taken.update(Batch(Part("a", frame.lazy(), frame.lazy()), 0, frame))
    return taken.value()


def test_the_order_of_rows_does_not_matter_where_that_is_asked_for() -> None:
    frame = pl.concat([FRAME] * 3).with_columns(number=pl.int_range(12), list=pl.lit([1, 2]))
    whole = unordered(frame)
    assert unordered(frame.sample(fraction=1, shuffle=True, seed=1)) == whole
    assert unordered(frame[5:], frame[:5]) == whole
    others = [
        frame[:-1], pl.concat([frame, frame[:1]]), frame.rename({"x": "y"}), frame.with_columns(name=pl.lit("ab")),
        frame.with_columns(pl.col("id").fill_null(0)), frame.with_columns(pl.col("x").shift(1)),
    ]  # fmt: skip
    assert len({whole, *map(unordered, others)}) == 7


def test_the_fingerprint_in_any_order_is_what_the_documentation_says() -> None:
    frame = pl.DataFrame({"id": pl.Series([1, None], dtype=pl.Int16), "name": ["ü", None]})
    rows = [b"\1" + struct.pack("<h", 1) + b"\1" + struct.pack("<Q", 2) + "ü".encode(), b"\0\0\0\0"]
    sums = [sum(column) for column in zip(*(struct.unpack("<8I", hashlib.sha256(row).digest()) for row in rows))]
    parts = ["any-1", 2, [["id", "int16"], ["name", "string"]], sums]
    assert unordered(frame) == "sha256:" + hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


CELLS = ["1", "-1", "+1", "007", " 5", "5 ", "1e3", "1.0", ".5", "5.", "-0.0", "nan", "NaN", "inf", "-inf", "Infinity",
         "1_000", "0x10", "99999999999999999999", "1.7976931348623157e309", "0.1000000000000000055", "4.9e-324", "true",
         "True", "false", "t", "yes", "0", "x", '""', '" a"', "a b", "ü", "NULL", "null", "NA"]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pl.Int64(), pl.Int8(), pl.UInt16(), pl.Float64(), pl.Float32(), pl.Boolean(), pl.String()]
)
def test_numbers_that_are_parsed_at_once_are_those_that_are_parsed_from_text(tmp_path: Path, kind: pl.DataType) -> None:
    compared = 0
    for number, cell in enumerate(CELLS):
        path = tmp_path / f"{number}.csv"
        path.write_text(f"a,b\n{cell},1\n,2\n")
        tables = [open_table([DataSource(path.name, path)], {"a": kind}, lenient=lenient) for lenient in (False, True)]
        try:
            at_once = tables[0].frame.collect()
        except pl.exceptions.PolarsError:
            continue  # then the whole file is read as text
        from_text = tables[1].frame.collect()
        assert at_once.get_column("a").equals(from_text.get_column("a"), null_equal=True), cell
        compared += 1
    assert compared >= 4
