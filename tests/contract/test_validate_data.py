"""validate-data as a person and a runner call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import servers
from conftest import Run
from mlops_actions.registry.manifest import Lineage, Manifest, Move
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.store import Store

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
    warnings = [line for line in done.stdout.splitlines() if line.startswith("::warning")]
    assert [line.split("::")[1] for line in warnings] == [
        "warning file=contract.yaml,line=4",
        "warning file=contract.yaml,line=1",
    ]
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


def test_drift_is_reported_with_its_distribution_and_fails_only_when_asked(tmp_path: Path, mlops: Run) -> None:
    pl.DataFrame({"x": [float(i) for i in range(500)]}).write_csv(tmp_path / "before.csv")
    pl.DataFrame({"x": [float(i + 400) for i in range(500)]}).write_csv(tmp_path / "now.csv")
    call = ("validate-data", "--data", "now.csv", "--reference", "before.csv", "--json")
    told = mlops(*call)
    assert told.returncode == 0, told.stderr
    details = outputs(told.stdout)["record"]["details"]
    assert [c["column"] for c in details["drift"] if c["drifted"]] == ["x"]
    (shown,) = details["distributions"]["columns"]
    assert shown["drifted"] and sum(old for _, old, _ in shown["bins"]) == pytest.approx(1, abs=0.01)
    assert mlops(*call, "--drift-gate").returncode == 1


def test_the_page_draws_each_column_that_drifted(tmp_path: Path, mlops: Run) -> None:
    before = pl.DataFrame({f"x{i}": [float(j % 97) for j in range(1000)] for i in range(8)})
    before.write_csv(tmp_path / "before.csv")
    before.select(pl.all() + 50).write_csv(tmp_path / "now.csv")
    told = mlops("validate-data", "--data", "now.csv", "--reference", "before.csv", "--json")
    assert len(outputs(told.stdout)["record"]["details"]["distributions"]["columns"]) == 8
    page = Path(outputs(mlops("report", "--json").stdout)["page-file"]).read_text()
    assert page.count('class="bars pairs"') == 8 and "<img" not in page


def test_the_reference_may_be_what_a_registered_version_was_trained_on(tmp_path: Path, mlops: Run) -> None:
    pl.DataFrame({"x": [float(i) for i in range(500)]}).write_csv(tmp_path / "train.csv")
    pl.DataFrame({"x": [float(i + 400) for i in range(500)]}).write_csv(tmp_path / "now.csv")
    store = Store((tmp_path / "store").as_uri())
    seen = mlops("validate-data", "--data", "train.csv", "--store", store.url, "--json")
    registry = Registry(store)
    file = registry.put_bytes(b"model", "model.pkl")
    lineage = Lineage(data_fingerprint=outputs(seen.stdout)["fingerprint"])
    draft = Manifest(
        name="delays", version=1, created="2013-01-01", digest=file.digest, identity="x", files=[file], lineage=lineage
    )
    manifest, _ = registry.register(lambda n: draft.model_copy(update={"version": n}))
    registry.move_alias(manifest, "champion", Move(version=1, at="2013-01-01"))
    call = ("validate-data", "--data", "now.csv", "--store", store.url, "--drift-gate", "--json", "--reference")
    moved = mlops(*call, "delays@champion")
    assert moved.returncode == 1, moved.stderr
    assert "1 column has drifted, x" in moved.stderr
    assert mlops(*call, "delays@1", "--data", "train.csv").returncode == 1
    nobody = mlops(*call, "delays@7")
    assert nobody.returncode == 2 and "Traceback" not in nobody.stderr


def test_the_other_tables_of_a_contract_are_found_as_the_data_is(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    (tmp_path / "kinds.csv").write_text("kind\na\n")
    with (tmp_path / "contract.yaml").open("a") as file:
        file.write("  foreign-keys:\n    - {columns: kind, table: kinds.csv}\n")
    done = mlops(*ARGUMENTS, GITHUB_ACTIONS="true")
    assert done.returncode == 1
    assert "file=contract.yaml,line=9" in done.stdout and "fails in 500 of 1,000 rows" in done.stdout
    (tmp_path / "kinds.csv").write_text("kind\na\nb\n")
    assert mlops(*ARGUMENTS).returncode == 0
    (tmp_path / "kinds.csv").unlink()
    assert mlops(*ARGUMENTS).returncode == 2


FORMATS = {
    "parquet": pl.DataFrame.write_parquet,
    "csv": pl.DataFrame.write_csv,
    "jsonl": pl.DataFrame.write_ndjson,
    "arrow": pl.DataFrame.write_ipc,
}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_table_is_found_in_every_place_and_read_in_every_format(kind: str, tmp_path: Path, mlops: Run) -> None:
    """A path, a glob, a folder as Spark leaves it, `file://`, `store:` and `s3://`: one table, one fingerprint."""
    plain = tmp_path / "plain"
    plain.mkdir()
    consumer(plain)
    expected = outputs(mlops(*ARGUMENTS, "--json", cwd=plain).stdout)["fingerprint"]

    frame = pl.read_parquet(plain / "data" / "*.parquet")
    folder = tmp_path / "table" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    for number, part in enumerate((frame[:300], frame[300:])):
        FORMATS[kind](part, folder / f"part-{number}.{kind}")
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").write_bytes(b"crc")
    FORMATS[kind](frame, tmp_path / f"whole.{kind}")
    s3 = servers.seaweedfs()
    url = s3.new_store()
    environ = s3.environ(url)
    store = Store(url, s3.options())
    for file in sorted(folder.iterdir()):
        store.put_file(file, f"table/{file.name}")

    places = [
        f"whole.{kind}", f"table/**/*.{kind}", "table", folder.as_uri(), f"{folder.as_uri()}/part-?.{kind}",
        "store:table", f"store:table/*.{kind}", f"{url}/table/*.{kind}",
    ]  # fmt: skip
    for place in places:
        done = mlops("validate-data", "--data", place, *ARGUMENTS[3:], "--json", **environ)
        assert done.returncode == 0, (place, done.stderr)
        found = outputs(done.stdout)
        assert (found["rows"], found["failed"], found["fingerprint"]) == (1000, 0, expected), place


def test_a_drift_gate_without_a_reference_has_checked_nothing(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    done = mlops(*ARGUMENTS, "--json", "--drift-gate")
    assert done.returncode == 0, done.stderr
    record = outputs(done.stdout)["record"]
    assert record["verdict"] == "unchecked" and "nothing was checked for drift: no `reference`" in record["reason"]
    named = mlops(*ARGUMENTS, "--json", "--columns", "kind")
    assert outputs(named.stdout)["record"]["verdict"] == "unchecked"
    bare = mlops("validate-data", "--json", "--data", "data/1.parquet", "--personal-data", "off")
    assert outputs(bare.stdout)["record"]["verdict"] == "unchecked"


def test_failing_rows_are_shown_in_the_terminal(tmp_path: Path, mlops: Run) -> None:
    consumer(tmp_path)
    pl.DataFrame({"id": [1, 2], "kind": ["a", "odd"], "t": ["2013-01-31T05:00:00Z"] * 2}).write_parquet(
        tmp_path / "data" / "1.parquet"
    )
    (tmp_path / "data" / "2.parquet").unlink()
    done = mlops(*ARGUMENTS)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "data/1.parquet" in line]
    assert line.split() == ["kind", "isin(['a',", "'b'])", "data/1.parquet", "2", "odd"]
