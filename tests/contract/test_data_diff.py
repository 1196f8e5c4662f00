"""data diff as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from conftest import Run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two months: the second has another column, other rows, and a column that moved."""
    one = pl.DataFrame(
        {"id": range(1000), "x": [float(i % 50) for i in range(1000)], "mail": ["a@example.org"] * 1000, "old": 1}
    )
    one.write_parquet(tmp_path / "a.parquet")
    two = one.filter(pl.col("id") >= 10).with_columns(x=pl.col("x") + 30, new=2, mail=pl.lit("b@example.org"))
    two.drop("old").write_csv(tmp_path / "b.csv")
    return tmp_path


def test_what_differs_is_told_by_columns_rows_and_distributions(files: Path, mlops: Run) -> None:
    done = mlops("data", "diff", "a.parquet", "b.csv", "--key", "id", "--page", "diff.html")
    assert done.returncode == 1, done.stderr
    assert "| column old | there | removed |" in done.stdout and "| column new | not there | added |" in done.stdout
    assert "≠ 10 rows removed, 990 changed; 1 column added, 1 removed; 2 columns drifted" in done.stdout
    assert "Keys removed: 10, added: 0" in done.stdout
    assert "`10`: `10.0` → `40.0`" in done.stdout
    assert "example.org" not in done.stdout
    page = (files / "diff.html").read_text()
    assert page.count('class="bars pairs"') == 1 and "example.org" not in page
    assert "<h1>a.parquet → b.csv</h1>" in page and "says no" not in page
    found = json.loads(mlops("data", "diff", "a.parquet", "b.csv", "--json").stdout)
    assert "≠ 10 fewer rows; 1 column added" in mlops("data", "diff", "a.parquet", "b.csv").stdout
    assert (found["rows"], found["by_key"], found["removed"]) == ([1000, 990], None, ["old"])
    assert found["drift"][0]["column"] == "x" and found["drift"][0]["drifted"]


def test_the_same_content_in_another_layout_is_no_difference(files: Path, mlops: Run) -> None:
    (files / "parts").mkdir()
    frame = pl.read_parquet(files / "a.parquet")
    frame[:300].write_parquet(files / "parts" / "1.parquet")
    frame[300:].write_parquet(files / "parts" / "2.parquet")
    done = mlops("data", "diff", "a.parquet", "parts")
    assert done.returncode == 0, done.stderr
    assert "have the same content" in done.stdout


def test_names_and_values_stand_in_a_terminal_as_they_are(mlops: Run, tmp_path: Path) -> None:
    for name, value in (("a", 2), ("b", 3)):
        (tmp_path / f"{name}.csv").write_text(f"id,www.example.org,@team,\u200b\n1,{value},{value},{value}\n")
    done = mlops("data", "diff", "a.csv", "b.csv", "--key", "id")
    assert done.returncode == 1, done.stderr
    assert "| www.example.org | 1 | `1`: `2` → `3` |" in done.stdout and "| @team | 1 |" in done.stdout
    assert "\\u200b" in done.stdout, "what cannot be seen in the data is shown"
    assert "\u200b" not in done.stdout


def test_a_key_that_is_none_is_bad_input(files: Path, mlops: Run) -> None:
    done = mlops("data", "diff", "a.parquet", "b.csv", "--key", "x")
    assert done.returncode == 2
    assert "does not name one row" in done.stderr and "Traceback" not in done.stderr
    nobody = mlops("data", "diff", "a.parquet", "flights@champion")
    assert nobody.returncode == 2
    assert "Unknown model 'flights'" in nobody.stderr
