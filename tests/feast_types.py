"""Every value type of Feast, written by Feast and by the fast way: `python tests/feast_types.py STORE FOLDER`.

Run with a Python that has Feast. STORE is the `online_store` of feature_store.yaml as JSON, with `{side}` where the two
must not meet. It prints JSON: for each view how many rows each side has, and the names of features that differ.

One process, because Feast writes sets in the order of Python's hashes, which differ between processes.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 257
START, END = datetime(1960, 1, 1, tzinfo=timezone.utc), datetime(2030, 1, 1, tzinfo=timezone.utc)
UTC = timezone.utc
UUID = "6f1c2f7e-6b0c-4a5e-9d55-00000000000"


def every(values: list[Any], type_: pa.DataType) -> pa.Array:
    """The values again and again; over the rows, so that each entity has one."""
    return pa.array([values[row % len(values)] for row in range(ROWS)], type_)


def columns() -> dict[str, tuple[Any, pa.Array]]:
    """A feature's type in Feast and its column, by name: the ends of the ranges, nulls, NaN, empty ones, zeros."""
    from feast import types as t

    moments = [datetime(2024, 1, 2, 3, 4, 5, 678901), datetime(1969, 12, 31, 23, 59, 59, 5000), datetime(1970, 1, 1)]
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    i32, i64 = [0, 1, -1, 127, 128, 2**31 - 1, -(2**31)], [0, 1, -1, 300, 2**53, 2**63 - 1, -(2**63)]
    floats = [0.0, -0.0, 1.5, 1e300, 5e-324, float("inf"), float("-inf"), 0.1]
    texts = ["", "a", "ü€𝄞", "x" * 127, "x" * 128, "'\"\\\n end"]
    two_texts = pa.struct({"k": pa.string(), "l": pa.string()})
    text_and_number = pa.struct({"n": pa.string(), "a": pa.int64()})
    found: dict[str, tuple[Any, pa.Array]] = {
        "int32": (t.Int32, every(i32, pa.int32())),
        "int32_of_int8": (t.Int32, every([1, -128, 127], pa.int8())),
        "int32_null": (t.Int32, every([*i32, None], pa.int32())),
        "int64": (t.Int64, every(i64, pa.int64())),
        "int64_null": (t.Int64, every([0, None, -5, 2**53 + 1], pa.int64())),
        "int64_of_float": (t.Int64, every([0.0, -1.9, 1.9, None], pa.float64())),
        "int64_of_uint": (t.Int64, every([0, 1, 2**32 - 1], pa.uint32())),
        "float32": (t.Float32, every([f for f in floats if abs(f) < 1e38 or f - f != 0], pa.float32())),
        "float32_of_64": (t.Float32, every(floats, pa.float64())),
        "float32_null": (t.Float32, every([None, 2.5, float("nan")], pa.float32())),
        "float64": (t.Float64, every(floats, pa.float64())),
        "float64_of_int": (t.Float64, every([3, 1, -7], pa.int64())),
        "float64_null": (t.Float64, every([None, 2.5, float("nan")], pa.float64())),
        "string": (t.String, every(texts, pa.string())),
        "string_large": (t.String, every(texts, pa.large_string())),
        "string_null": (t.String, every([None, "", "b"], pa.string())),
        "string_of_int": (t.String, every([1, 2, 3], pa.int64())),
        "bytes": (t.Bytes, every([b"a", b"\0\xff", b"x" * 300], pa.binary())),
        "bytes_null": (t.Bytes, every([b"a", None], pa.binary())),
        "bool": (t.Bool, every([True, False], pa.bool_())),
        "bool_null": (t.Bool, every([True, None, False], pa.bool_())),
        "time": (t.UnixTimestamp, every(aware, pa.timestamp("us", "UTC"))),
        "time_naive": (t.UnixTimestamp, every(moments, pa.timestamp("us"))),
        "time_ms": (t.UnixTimestamp, every([m.replace(microsecond=5000) for m in moments], pa.timestamp("ms"))),
        "time_ns": (t.UnixTimestamp, every(aware, pa.timestamp("ns", "UTC"))),
        "time_zone": (t.UnixTimestamp, every(aware, pa.timestamp("us", "America/New_York"))),
        "time_null": (t.UnixTimestamp, every([aware[0], None], pa.timestamp("us", "UTC"))),
        "nothing": (t.Float64, every([None], pa.float64())),
        "nothing_text": (t.String, every([None], pa.string())),
        "ints32": (t.Array(t.Int32), every([i32, [5]], pa.list_(pa.int32()))),
        "ints64": (t.Array(t.Int64), every([i64, [5], [2**40] * 40], pa.list_(pa.int64()))),
        "ints64_null": (t.Array(t.Int64), every([i64, None], pa.list_(pa.int64()))),
        "floats32": (t.Array(t.Float32), every([[0.5, 1.5], [2.5] * 50, [0.0]], pa.list_(pa.float32()))),
        "floats32_null": (t.Array(t.Float32), every([[0.5], None, []], pa.list_(pa.float32()))),
        "floats64": (t.Array(t.Float64), every([floats, [0.25]], pa.list_(pa.float64()))),
        "floats64_hole": (t.Array(t.Float64), every([[1.0, None], [0.25]], pa.list_(pa.float64()))),
        "strings": (t.Array(t.String), every([["a", "ü", ""], ["b"]], pa.list_(pa.string()))),
        "strings_null": (t.Array(t.String), every([["a", None], None, []], pa.list_(pa.string()))),
        "bytes_list": (t.Array(t.Bytes), every([[b"a", b""], [b"\0"]], pa.list_(pa.binary()))),
        "bools": (t.Array(t.Bool), every([[True, False], [True]], pa.list_(pa.bool_()))),
        "times": (t.Array(t.UnixTimestamp), every([aware, aware[:1]], pa.list_(pa.timestamp("us", "UTC")))),
        "times_null": (t.Array(t.UnixTimestamp), every([aware, None], pa.list_(pa.timestamp("us", "UTC")))),
        "fixed": (t.Array(t.Float32), every([[0.5, 1.5], [2.5, 3.5]], pa.list_(pa.float32(), 2))),
        "set_int": (t.Set(t.Int64), every([[3, 1, 3], [2]], pa.list_(pa.int64()))),
        "set_text": (t.Set(t.String), every([["a", "b", "a"], ["c"]], pa.list_(pa.string()))),
        "set_float": (t.Set(t.Float64), every([[0.5, 0.5, 1.0], [2.0]], pa.list_(pa.float64()))),
        "set_bool": (t.Set(t.Bool), every([[True, True], [False]], pa.list_(pa.bool_()))),
        "map": (t.Map, every([{"k": "v", "l": "w"}, {"k": "x", "l": None}], two_texts)),
        "maps": (t.Array(t.Map), every([['[{"k": "v"}]'][0]], pa.string())),
        "json": (t.Json, every(['{"a": [1, 2]}', "null"], pa.string())),
        "struct": (t.Struct({"n": t.String, "a": t.Int64}), every([{"n": "x", "a": 1}], text_and_number)),
        "nested": (t.Array(t.Array(t.Int64)), every([[[1, 2], [3]], [[4]]], pa.list_(pa.list_(pa.int64())))),
        "uuid": (t.Uuid, every([UUID + "1", UUID + "2"], pa.string())),
        "uuids": (t.Array(t.Uuid), every([[UUID + "1", UUID + "2"], [UUID + "3"]], pa.list_(pa.string()))),
        "decimal": (t.Decimal, every([Decimal("1.50"), Decimal("-2.25")], pa.decimal128(10, 2))),
        "decimals": (t.Array(t.Decimal), every([["1.5", "2"], ["3"]], pa.list_(pa.string()))),
        "categories": (t.String, every(["red", "green"], pa.string()).dictionary_encode()),
        "string_zero": (t.String, every(["a\0b"], pa.string())),
    }  # fmt: skip
    return found


def views(folder: Path) -> list[Any]:
    """A view for each kind of key, and one for each feature's type, so that one that Feast refuses spoils no other."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType

    kinds = columns()
    event = every([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(microseconds=1234567 * n) for n in range(ROWS)],
                  pa.timestamp("us", "UTC"))  # fmt: skip
    table = {
        "number": pa.array([(row * 7919) % 1000 - 300 for row in range(ROWS)], pa.int64()),
        "small": pa.array(range(ROWS), pa.int32()),
        "word": pa.array([f"{'w' * (row % 5)}{row}ü" for row in range(ROWS)], pa.string()),
        "at": event,
        "made": pa.array([datetime(2024, 2, 1, 0, 0, row % 60) for row in range(ROWS)], pa.timestamp("us")),
        **{name: column for name, (_, column) in kinds.items()},
    }
    path = folder / "every.parquet"
    pq.write_table(pa.table(table), path, row_group_size=100)

    def source(name: str, **more: Any) -> Any:
        return FileSource(name=name, path=str(path), timestamp_field="at", **more)

    number = Entity(name="by_number", join_keys=["number"], value_type=ValueType.INT64)
    small = Entity(name="by_small", join_keys=["small"], value_type=ValueType.INT32)
    word = Entity(name="by_word", join_keys=["word"], value_type=ValueType.STRING)
    renamed = Entity(name="by_renamed", join_keys=["other_name"], value_type=ValueType.INT64)
    plain = [Field(name=name, dtype=kinds[name][0]) for name in ("int64", "string_null", "floats32_null", "time_null")]
    keyed = [
        FeatureView(name="key_number", entities=[number], schema=plain, source=source("s1")),
        FeatureView(name="key_small", entities=[small], schema=plain, source=source("s2")),
        FeatureView(name="key_word", entities=[word], schema=plain, source=source("s3")),
        FeatureView(name="key_both", entities=[word, number], schema=plain, source=source("s4")),
        FeatureView(name="key_none", entities=[], schema=plain, source=source("s5")),
        FeatureView(name="created", entities=[number], schema=plain,
                    source=source("s6", created_timestamp_column="made")),
        FeatureView(name="mapped", entities=[renamed], schema=[Field(name="renamed", dtype=kinds["int64"][0])],
                    source=source("s7", field_mapping={"int64": "renamed", "number": "other_name"})),
    ]  # fmt: skip
    typed = [
        FeatureView(name=f"type_{name}", entities=[number], schema=[Field(name=name, dtype=kind)], source=source(name))
        for name, (kind, _) in kinds.items()
    ]
    for view in [*keyed, *typed]:
        view.ttl = timedelta(0)
    return [number, small, word, renamed, *keyed, *typed]


def store_of(online: dict[str, Any], folder: Path, side: str) -> Any:
    """A Feast store of its own; Redis has numbers for databases."""
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    (folder / side).mkdir()
    text = json.dumps(online).replace("db={side}", f"db={int(side == 'ours')}").replace("{side}", side)
    config = RepoConfig(
        project="types",
        provider="local",
        registry=str(folder / side / "registry.db"),
        offline_store={"type": "dask"},
        online_store=json.loads(text),
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(config=config)


def rows_of(store: Any, view: Any) -> dict[Any, Any]:
    """What the online store holds of a view, raw."""
    online = store.config.online_store
    if online.type == "sqlite":
        import sqlite3

        found = sqlite3.connect(online.path).execute(f'SELECT * FROM "{store.project}_{view.name}"').fetchall()
        return {(row[0], row[1]): row[2:] for row in found}
    if online.type == "postgres":
        from feast.infra.utils.postgres.connection_utils import _get_conn

        with _get_conn(online) as connection:  # Feast's own is of no use after a write that failed
            found = connection.execute(f'SELECT * FROM "{store.project}_{view.name}"').fetchall()
        return {(bytes(row[0]), row[1]): row[2:] for row in found}
    client = store._get_provider().online_store._get_client(online)
    return {(key, name): value for key in client.keys("*") for name, value in client.hgetall(key).items()}


def main() -> None:
    """Write each view by both ways and compare."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
    from mlops_actions.features.worker.fast import Fast, obstacle
    from mlops_actions.features.worker.source import BatchSource
    from mlops_actions.features.worker.watchdog import Watchdog

    online, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    theirs, ours = store_of(online, folder, "theirs"), store_of(online, folder, "ours")
    result: dict[str, Any] = {}
    objects = views(folder)
    for store in (theirs, ours):
        store.apply(objects)
    for view in objects:
        if not hasattr(view, "features"):
            continue
        answer: dict[str, Any] = {"feast": "", "fast": "", "obstacle": ""}
        for side, store in (("feast", theirs), ("fast", ours)):
            known = store.registry.get_any_feature_view(view.name, store.project)
            try:
                if side == "feast":
                    store.materialize(START, END, feature_views=[view.name])
                else:
                    source = BatchSource(store, known, END)
                    answer["obstacle"] = obstacle(store, known, source)
                    fast = Fast(store, source, folder, Watchdog(600.0, print))
                    fast.write(source.index().latest([(START, END)]), lambda rows: None)
                    fast.close()
            except Exception as error:
                answer[side] = f"{type(error).__name__}: {error}"[:200]
        a, b = rows_of(theirs, view), rows_of(ours, view)
        answer |= {"rows": len(a), "equal": a == b}
        if a != b:
            keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
            answer["differs"] = f"{len(keys)}: {keys[0]}: {a.get(keys[0])!r} {b.get(keys[0])!r}"[:600]
        result[view.name] = answer
    sys.stdout.flush()
    print("\n" + json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
