"""Rows of two tables matched by a key, against a dictionary that does the same."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

from mlops_actions.data import rowdiff
from mlops_actions.data.rowdiff import compare_rows
from mlops_actions.data.sources import DataSource
from mlops_actions.data.tables import Table, open_table

KEYS = ["day", "name"]


def write(folder: Path, frame: pl.DataFrame, files: int) -> Table:
    folder.mkdir()
    for number, part in enumerate(frame.iter_slices(-(-frame.height // files))):
        part.write_parquet(folder / f"{number}.parquet")
    return open_table([DataSource(path.name, path) for path in sorted(folder.iterdir())])


def two_tables(random_: random.Random) -> list[pl.DataFrame]:
    keys = [(day, f"{name:03}") for day in range(30) for name in range(30)]
    frames = []
    for side in range(2):
        kept = sorted(random_.sample(keys, random_.choice([1, 300, 700])))
        values = [(*key, float(key[0] * 31 + int(key[1])) + (random_.random() < 0.1) * side) for key in kept]
        frames.append(pl.DataFrame(values, schema=[*KEYS, "value"], orient="row"))
    return frames


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("order", ["rising", "shuffled"])
def test_a_comparison_by_key_finds_what_a_dictionary_finds(
    tmp_path: Path, seed: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowdiff, "_CELLS", 400)
    frames = two_tables(random.Random(seed))
    if order == "shuffled":
        frames = [frame.sample(fraction=1, shuffle=True, seed=seed) for frame in frames]
    one, two = ({(day, name): value for day, name, value in frame.rows()} for frame in frames)
    tables = [write(tmp_path / str(number), frame, files) for number, (frame, files) in enumerate(zip(frames, (3, 2)))]
    found = compare_rows(tables[0], tables[1], KEYS)
    changed = [key for key in one if key in two and one[key] != two[key]]
    assert (found.removed, found.added) == (len(one.keys() - two.keys()), len(two.keys() - one.keys()))
    assert (found.both, found.changed) == (len(one.keys() & two.keys()), len(changed))
    for example in found.columns[0].examples if changed else []:
        file = pl.read_parquet(tmp_path / "0" / example["file"])
        day, name, value = file.row(example["row"] - 1)
        assert example["key"] == f"{day}, {name}" and value == example["before"] and (day, name) in changed


def test_a_key_that_is_there_twice_is_refused_whatever_the_order(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1, 2, 2, 3], "value": [1, 2, 3, 4]})
    one, two = write(tmp_path / "one", frame, 1), write(tmp_path / "two", frame.unique("id"), 1)
    with pytest.raises(rowdiff.BadInput, match="2 is there more than once"):
        compare_rows(one, two, ["id"])


def test_a_key_with_a_null_is_matched_too(tmp_path: Path) -> None:
    one = write(tmp_path / "one", pl.DataFrame({"id": [None, 1, 2], "value": [1, 2, 3]}), 1)
    two = write(tmp_path / "two", pl.DataFrame({"id": [None, 1, 3], "value": [1, 5, 3]}), 1)
    found = compare_rows(one, two, ["id"])
    assert (found.both, found.removed, found.added, found.changed) == (2, 1, 1, 1)


def test_nothing_is_near_infinity(tmp_path: Path) -> None:
    values = ([1.0, 2.0, float("inf"), float("inf")], [1.0 + 1e-9, float("inf"), float("-inf"), float("inf")])
    one, two = (
        write(tmp_path / str(side), pl.DataFrame({"id": range(4), "x": value}), 1) for side, value in enumerate(values)
    )
    found = compare_rows(one, two, ["id"], tolerance=1e-6)
    assert found.changed == 2, "2 against inf, and inf against -inf"
