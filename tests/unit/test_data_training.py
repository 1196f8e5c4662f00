"""Rules of tables that models are trained on: leakage, class balance, held-out rows, train/serve skew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_actions.data import rowdiff
from mlops_actions.data.contract import read_contract
from mlops_actions.data.findings import Check
from mlops_actions.data.rowdiff import compare_rows
from mlops_actions.data.sources import DataSource
from mlops_actions.data.tables import Table, open_table
from mlops_actions.data.validate import ValidationRequest, validate
from mlops_actions.errors import BadInput

NOW = datetime(2024, 2, 1, tzinfo=timezone.utc)


def failures(
    folder: Path,
    rules: str,
    frame: pl.DataFrame,
    others: Mapping[str, pl.DataFrame] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, str], Check]:
    (folder / "c.yaml").write_text("columns: {}\ntable:\n" + rules)
    frame.write_parquet(folder / "a.parquet")
    tables = {}
    for name, other in (others or {}).items():
        other.write_parquet(folder / name)
        tables[name] = [DataSource(name, folder / name)]
    contract = read_contract(folder / "c.yaml", "c.yaml")
    request = ValidationRequest([DataSource("a.parquet", folder / "a.parquet")], contract, NOW, tables=tables)
    found = validate(request, say)
    return {(one.column, one.name.split("(")[0]): one for one in found.failed}


def labelled(rows: int = 4000) -> pl.DataFrame:
    random = np.random.default_rng(2)
    late = random.random(rows) < 0.3
    return pl.DataFrame(
        {
            "late": late,
            "noise": random.normal(size=rows),
            "useful": random.normal(size=rows) + late,
            "minutes": np.where(late, 15.0, 0.0) + random.uniform(0, 14, rows),
            "status": pl.Series(np.where(late, "LATE", "ok")).set(pl.Series(random.random(rows) < 0.01), None),
            "missing_when_late": pl.Series(random.normal(size=rows)).set(pl.Series(late), None),
            "id": [f"k{i}" for i in range(rows)],
            "row": range(rows),
            "class": pl.Series(["a", "b", "c"])[random.integers(0, 3, rows).tolist()],
            "amount": random.normal(size=rows),
        }
    ).with_columns(copy=pl.col("class").str.to_uppercase(), doubled=pl.col("amount") * 2)


def test_a_feature_that_alone_predicts_the_label_leaks_it(tmp_path: Path) -> None:
    found = failures(tmp_path, "  training: {label: late}\n", labelled())
    assert {column for column, name in found if name == "no_leak"} == {"minutes", "status", "missing_when_late"}
    assert str(found["minutes", "no_leak"].place) == "c.yaml:3"
    assert "alone predicts late" in found["minutes", "no_leak"].why


@pytest.mark.parametrize(("label", "leak"), [("class", "copy"), ("amount", "doubled")])
def test_leaks_of_several_classes_and_of_quantities_are_found_too(tmp_path: Path, label: str, leak: str) -> None:
    found = failures(tmp_path, f"  training: {{label: {label}}}\n", labelled())
    assert {column for column, name in found if name == "no_leak"} == {leak}


def test_a_class_must_not_be_too_rare(tmp_path: Path) -> None:
    frame = pl.DataFrame({"late": [True] * 2 + [False] * 98})
    found = failures(tmp_path, "  training: {label: late, min-class-share: 0.05}\n", frame)
    assert found["late", "class_share"].why == "rare: True has 2.00%"
    one = failures(tmp_path, "  training: {label: late, min-class-share: 0.05}\n", frame.filter("late"))
    assert one["late", "class_share"].why == "has only one class"


def test_what_is_only_known_after_the_prediction_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"asked": [10, 20, 30], "temp": [1.0, 2.0, 3.0], "measured": [9, 21, None], "arr_time": [1, 2, 3]}
    )
    rules = """\
  training:
    prediction-time: asked
    known-at: {temp: measured}
    known-later: ["arr_*", "dep_*"]
"""
    found = failures(tmp_path, rules, frame)
    assert set(found) == {("temp", "known_at"), ("", "known_later")}
    assert found["temp", "known_at"].examples == [{"file": "a.parquet", "row": 2, "value": "21, 20"}]
    assert found["", "known_later"].why == "there is arr_time, only known after the prediction"
    assert str(found["", "known_later"].place) == "c.yaml:6"


def test_rows_of_the_test_set_must_not_be_among_those_for_training(tmp_path: Path) -> None:
    train = pl.DataFrame({"id": [1, 2, 3], "x": [1.0, None, 3.0]})
    test = {"test.parquet": pl.DataFrame({"id": [2, 3], "x": [None, 9.0]})}
    whole = failures(tmp_path, "  training: {held-out: {data: test.parquet}}\n", train, test)
    assert whole["", "not_in"].examples == [{"file": "a.parquet", "row": 2, "value": "2, None"}]
    by_id = failures(tmp_path, "  training: {held-out: {data: test.parquet, columns: id}}\n", train, test)
    assert by_id["", "not_in"].failed == 2


def test_what_is_compared_with_another_table_has_the_contracts_types_there_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("at,x\n2024-01-01T10:00:00,1\n2024-01-02T10:00:00,2\n")
    (tmp_path / "test.csv").write_text("at,x\n2024-01-02T10:00:00,2\n")
    (tmp_path / "days.csv").write_text("day\n2024-01-01T10:00:00\n")
    rules = """\
columns: {at: {dtype: "Datetime(time_unit='us', time_zone=None)"}, x: {dtype: Float64}}
table:
  training: {held-out: {data: test.csv}}
  serving: {data: test.csv, keys: at}
  foreign-keys: [{columns: at, table: days.csv, keys: day}]
"""
    (tmp_path / "c.yaml").write_text(rules)
    source = {name: [DataSource(name, tmp_path / name)] for name in ("a.csv", "test.csv", "days.csv")}
    contract = read_contract(tmp_path / "c.yaml", "c.yaml")
    found = validate(ValidationRequest(source["a.csv"], contract, NOW, tables=source)).failed
    assert {(check.name.split("(")[0], check.failed) for check in found} == {("not_in", 1), ("in", 1)}


def test_a_label_of_one_class_cannot_be_looked_for_in_the_features(tmp_path: Path) -> None:
    frame = pl.DataFrame({"late": [True, True], "x": [1, 2]})
    assert failures(tmp_path, "  training: {label: late}\n", frame)["late", "class_share"].why == "has only one class"


@pytest.mark.parametrize("rules", ["label: list", "label: late, features: list"])
def test_a_nested_label_or_feature_is_bad_input(tmp_path: Path, rules: str) -> None:
    with pytest.raises(BadInput, match="'list', which cannot be judged") as raised:
        failures(tmp_path, f"  training: {{{rules}}}\n", pl.DataFrame({"late": [1, 2], "list": [[1], [2]]}))
    assert str(raised.value.place) == "c.yaml:3"


def test_held_out_rows_of_which_none_can_be_looked_up_are_bad_input(tmp_path: Path) -> None:
    train = pl.DataFrame({"id": [1, 2]})
    for ids in (pl.Series([], dtype=pl.Int64), pl.Series(["k1", "k2"])):
        with pytest.raises(BadInput, match=r"No row of test\.parquet can be looked up") as raised:
            rules, others = (
                "  training: {held-out: {data: test.parquet}}\n",
                {"test.parquet": pl.DataFrame({"id": ids})},
            )
            failures(tmp_path, rules, train, others)
        assert str(raised.value.place) == "c.yaml:3"


@pytest.mark.parametrize(
    "rules",
    [
        "label: lat",
        "label: late, features: [y]",
        "prediction-time: t, known-at: {late: late}",
        "known-at: {late: late}",
    ],
    ids=str,
)
def test_a_rule_of_a_column_that_is_not_there_is_bad_input(tmp_path: Path, rules: str) -> None:
    with pytest.raises(BadInput) as raised:
        failures(tmp_path, f"  training: {{{rules}}}\n", pl.DataFrame({"late": [1]}))
    assert str(raised.value.place) == "c.yaml:3"


def test_skew_between_training_and_serving_is_found_by_column_with_its_rows(tmp_path: Path) -> None:
    offline = pl.DataFrame({"id": [1, 2, 3, 4], "a": [1.0, 2.0, 3.0, None], "b": ["x", "y", "z", None], "c": [1] * 4})
    online = pl.DataFrame({"id": [2, 3, 4, 9], "a": [2.0 + 1e-9, 3.5, 0.0, 1.0], "b": ["y", "z", None, ""]})
    found = failures(tmp_path, "  serving: {data: on.parquet, keys: id}\n", offline, {"on.parquet": online})
    assert set(found) == {("a", "no_skew")}
    assert found["a", "no_skew"].failed == 2
    assert found["a", "no_skew"].examples[1] == {"file": "a.parquet", "row": 4, "value": "None, served 0.0"}
    lenient = "  serving: {data: on.parquet, keys: id, max-share: 0.7}\n"
    assert failures(tmp_path, lenient, offline, {"on.parquet": online}) == {}
    other = {"on.parquet": online.with_columns(pl.col("id") + 100)}
    assert set(failures(tmp_path, "  serving: {data: on.parquet, keys: id}\n", offline, other)) == {("", "served")}


def test_serving_that_shares_no_column_with_the_table_is_not_without_skew(tmp_path: Path) -> None:
    offline = pl.DataFrame({"id": [1, 2], "a": [1.0, 2.0]})
    other = {"on.parquet": offline.rename({"a": "A"})}
    found = failures(tmp_path, "  serving: {data: on.parquet, keys: id}\n", offline, other)
    assert found["", "served"].why == "no column of on.parquet is in the table, beside the keys"
    assert str(found["", "served"].place) == "c.yaml:3"


def test_what_of_a_served_table_is_compared_is_said(tmp_path: Path) -> None:
    offline = pl.DataFrame({"id": [1, 2], "a": [1.0, 2.0], "late": [True, False]})
    online = pl.DataFrame({"id": [2, 3], "a": [2.0, 3.0]})
    said: list[str] = []
    rules = "  serving: {data: on.parquet, keys: id}\n"
    assert failures(tmp_path, rules, offline, {"on.parquet": online}, said.append) == {}
    assert said[-1] == "Compared 1 of 2 served rows in 1 column with the table; not compared: late"


def test_skew_is_found_in_what_was_read_back_from_the_online_store(tmp_path: Path) -> None:
    hours = pl.datetime_range(datetime(2013, 1, 1), datetime(2013, 1, 1, 9), "1h", eager=True)
    offline = pl.DataFrame(
        {"airport": ["EWR", "JFK"] * 5, "event_timestamp": hours, "temp": [float(i) for i in range(10)]}
    )
    # the newest row of each entity, as Feast has it: times in UTC, floats of 32 bits, features that are not trained on
    served = offline.tail(2).with_columns(
        pl.col("event_timestamp").dt.replace_time_zone("UTC"), pl.col("temp").cast(pl.Float32), wind=pl.lit(1)
    )
    rule = "  serving: {data: on.parquet, keys: [airport, event_timestamp]}\n"
    assert failures(tmp_path, rule, offline, {"on.parquet": served}) == {}
    stale = served.with_columns(pl.col("temp") - 2)
    found = failures(tmp_path, rule, offline, {"on.parquet": stale})
    assert {name: one.failed for name, one in found.items()} == {("temp", "no_skew"): 2}
    assert found["temp", "no_skew"].examples[0] == {"file": "a.parquet", "row": 9, "value": "8.0, served 6.0"}


def opened(folder: Path, name: str, frame: pl.DataFrame) -> Table:
    frame.write_parquet(folder / name)
    return open_table([DataSource(name, folder / name)])


def test_rows_are_matched_by_their_key_in_parts_as_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = opened(tmp_path, "1.parquet", pl.DataFrame({"id": range(1000), "x": [float(i) for i in range(1000)]}))
    changed = pl.DataFrame({"id": range(100, 1100), "x": [float(i + (i % 10 == 0)) for i in range(100, 1100)]})
    two = opened(tmp_path, "2.parquet", changed.reverse())
    whole = compare_rows(one, two, ["id"])
    assert (whole.both, whole.removed, whole.added, whole.changed) == (900, 100, 100, 90)
    assert [(c.column, c.rows, len(c.examples)) for c in whole.columns] == [("x", 90, 20)]
    monkeypatch.setattr(rowdiff, "_CELLS", 500)
    parted = compare_rows(one, two, ["id"])
    assert (parted.both, parted.removed, parted.added, parted.changed) == (900, 100, 100, 90)


def test_a_key_that_names_two_rows_is_bad_input(tmp_path: Path) -> None:
    one = opened(tmp_path, "1.parquet", pl.DataFrame({"id": [1, 1], "x": [1, 2]}))
    with pytest.raises(BadInput, match="1 is there more than once"):
        compare_rows(one, one, ["id"])
