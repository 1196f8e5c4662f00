"""infer-schema: what it writes is a contract that its own data passes, and that other data does not."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from mlops_actions.data.contract import read_contract
from mlops_actions.data.infer import Strictness, infer
from mlops_actions.data.sources import DataSource
from mlops_actions.data.validate import Validation, ValidationRequest, validate
from mlops_actions.errors import BadInput

NOW = datetime(2024, 2, 1, tzinfo=timezone.utc)
N = 1000
FRAME = pl.DataFrame(
    {
        "id": range(N),
        "kind": ["a", "no", "ü,"] * 333 + [None],
        "x": [i / 7 - 20 for i in range(N)],
        "nan": [float("nan"), 1.0] * (N // 2),
        "month": [i % 12 + 1 for i in range(N)],
        "code": [[3, 70][i % 2] for i in range(N)],
        "when": [datetime(2024, 1, 1, i % 24, 0, 0, 250_000) for i in range(N)],
        "day": [datetime(2024, 1, 1 + i % 28).date() for i in range(N)],
        "flag": [True, False] * (N // 2),
        "small": pl.Series([i % 100 for i in range(N)], dtype=pl.Int8),
        "big": pl.Series([2**63 + i for i in range(N)], dtype=pl.UInt64),
        "odd name": ["x"] * N,
        "list": [[1]] * N,
        "none": pl.Series([None] * N, dtype=pl.Float64),
    }
)


def inferred(folder: Path, strictness: Strictness, frame: pl.DataFrame = FRAME) -> str:
    frame.write_parquet(folder / "a.parquet")
    return infer([DataSource("a.parquet", folder / "a.parquet")], strictness)


def check(folder: Path, text: str, frame: pl.DataFrame) -> Validation:
    (folder / "c.yaml").write_text(text)
    frame.write_parquet(folder / "b.parquet")
    contract = read_contract(folder / "c.yaml", "c.yaml")
    return validate(ValidationRequest([DataSource("b.parquet", folder / "b.parquet")], contract, NOW))


@pytest.mark.parametrize("strictness", ["loose", "normal", "strict"])
def test_the_data_passes_its_own_contract(tmp_path: Path, strictness: Strictness) -> None:
    found = check(tmp_path, inferred(tmp_path, strictness), FRAME)
    assert [one.sentence() for one in found.failed] == []
    assert len(found.checks) > len(FRAME.columns)


def test_strictness_decides_what_fails(tmp_path: Path) -> None:
    other = FRAME.with_columns(
        x=pl.col("x") + 1, month=pl.lit(13, pl.Int64), kind=pl.lit("z"), id=pl.lit(5, pl.Int64), extra=1
    )
    failed = {s: {c.column for c in check(tmp_path, inferred(tmp_path, s), other).failed} for s in ("loose", "normal")}
    assert failed == {"loose": set(), "normal": {"id", "kind", "month"}}
    strict = {c.column for c in check(tmp_path, inferred(tmp_path, "strict"), other).failed}
    assert strict == {"id", "kind", "x", "month", ""}


def test_comments_say_what_was_seen_and_no_personal_value_is_shown(tmp_path: Path) -> None:
    frame = pl.DataFrame({"contact": ["ann@example.org", "bob@example.org"] * 50, "n": [1.5, None] * 50})
    text = inferred(tmp_path, "strict", frame)
    assert "ann@" not in text
    assert "looks personal" in text and "# personal-data: {allow: [contact]}" in text
    assert "0.5 of the rows are null" in text


def test_no_rows_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no rows"):
        inferred(tmp_path, "normal", FRAME.head(0))


def test_the_next_year_is_not_a_fault_but_a_thirteenth_month_is(tmp_path: Path) -> None:
    frame = pl.DataFrame({"year": [2019 + i % 5 for i in range(N)], "month": [i % 12 + 1 for i in range(N)]})
    contract = inferred(tmp_path, "normal", frame)
    assert check(tmp_path, contract, frame.with_columns(year=pl.lit(2024, pl.Int64))).failed == []
    (failed,) = check(tmp_path, contract, frame.with_columns(month=pl.lit(13, pl.Int64))).failed
    assert "month" in failed.sentence()
