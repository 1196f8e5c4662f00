"""infer-schema as a person calls it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from conftest import Run


def test_the_contract_that_is_written_is_taken_by_validate_data(tmp_path: Path, mlops: Run) -> None:
    pl.DataFrame({"id": range(100), "kind": ["a", "b"] * 50}).write_csv(tmp_path / "a.csv")
    made = mlops("infer-schema", "*.csv", "-o", "contract.yaml")
    assert made.returncode == 0, made.stderr
    assert "kind: {dtype: String, isin: [a, b]}" in (tmp_path / "contract.yaml").read_text()
    assert mlops("validate-data", "--data", "a.csv", "--contract", "contract.yaml").returncode == 0
    pl.DataFrame({"id": [1], "kind": ["c"]}).write_csv(tmp_path / "a.csv")
    assert mlops("validate-data", "--data", "a.csv", "--contract", "contract.yaml").returncode == 1


def test_a_contract_that_is_there_is_not_written_over(tmp_path: Path, mlops: Run) -> None:
    pl.DataFrame({"id": [1, 2]}).write_csv(tmp_path / "a.csv")
    (tmp_path / "contract.yaml").write_text("columns: {}\n")
    done = mlops("infer-schema", "a.csv", "-o", "contract.yaml")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "contract.yaml").read_text() == "columns: {}\n"
    printed = mlops("infer-schema", "a.csv", "--strictness", "strict")
    assert printed.returncode == 0 and printed.stdout.startswith("# What a.csv must be")


def test_data_that_is_not_there_is_bad_input(mlops: Run) -> None:
    done = mlops("infer-schema", "none.csv")
    assert done.returncode == 2
    assert "No data file found at 'none.csv'" in done.stderr and "Traceback" not in done.stderr
