"""validate-data as a person and a runner call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from conftest import Run

CONTRACT = """\
unique: [id]
columns:
  id: {dtype: Int64}
  kind: {dtype: String, isin: [a, b]}
  t: {dtype: String}
table:
  freshness: {column: t, max-age: 2d}
"""


def consumer(folder: Path, rows: int = 1000) -> Path:
    (folder / "data").mkdir()
    (folder / "contract.yaml").write_text(CONTRACT)
    frame = pl.DataFrame({"id": range(rows), "kind": ["a", "b"] * (rows // 2), "t": ["2013-01-31T05:00:00Z"] * rows})
    frame[: rows // 2].write_parquet(folder / "data" / "1.parquet")
    frame[rows // 2 :].write_parquet(folder / "data" / "2.parquet")
    return folder


def outputs(text: str) -> dict[str, Any]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


ARGUMENTS = ("validate-data", "--data", "data/*.parquet", "--contract", "contract.yaml", "--as-of", "2013-02-01")


def test_sound_data_passes_and_is_not_validated_twice(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    first = mlops(*ARGUMENTS, "--json")
    assert first.returncode == 0, first.stderr
    found = outputs(first.stdout)
    assert (found["rows"], found["failed"]) == (1000, 0)
    assert found["fingerprint"].startswith("sha256:")
    assert found["record"]["subject"] == {"data": found["fingerprint"]}
    again = mlops(*ARGUMENTS, "--json")
    assert outputs(again.stdout)["record"]["reused"] is True
    anew = mlops(*ARGUMENTS, "--json", "--no-reuse")
    assert outputs(anew.stdout)["fingerprint"] == found["fingerprint"]
    assert "reused" not in outputs(anew.stdout)["record"]


def test_unsound_data_is_refused_on_the_contracts_line(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    pl.DataFrame({"id": [5, None], "kind": ["a", "x"], "t": ["2013-01-31T00:00:00Z"] * 2}).write_parquet(
        tmp_path / "data" / "3.parquet"
    )
    out, summary = tmp_path / "out", tmp_path / "summary.md"
    done = mlops(*ARGUMENTS, GITHUB_ACTIONS="true", GITHUB_OUTPUT=str(out), GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert len(errors) == 1 and "3 of" in errors[0]
    assert "file=contract.yaml,line=3" in errors[0] and "id: not_nullable fails in 1 of 1,002 rows" in errors[0]
    text = summary.read_text()
    assert "| kind | `isin(['a', 'b'])` | 1 |" in text
    assert "`x` <sub>data/3.parquet row 2</sub>" in text
    assert "| id | `unique` | 2 |" in text
    assert "fingerprint<<" in out.read_text()


def test_an_empty_data_file_is_bad_input(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    (tmp_path / "data" / "2.parquet").write_bytes(b"")
    done = mlops(*ARGUMENTS)
    assert done.returncode == 2
    assert "The data file data/2.parquet is empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_drift_is_reported_with_a_picture_and_fails_only_when_asked(tmp_path: Path, mlops: Run) -> None:
    pl.DataFrame({"x": [float(i) for i in range(500)]}).write_csv(tmp_path / "before.csv")
    pl.DataFrame({"x": [float(i + 400) for i in range(500)]}).write_csv(tmp_path / "now.csv")
    call = ("validate-data", "--data", "now.csv", "--reference", "before.csv", "--json")
    told = mlops(*call)
    assert told.returncode == 0, told.stderr
    details = outputs(told.stdout)["record"]["details"]
    assert [c["column"] for c in details["drift"] if c["drifted"]] == ["x"]
    picture = Path(details["pictures"][0]["uri"].removeprefix("file://"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert mlops(*call, "--drift-gate").returncode == 1
