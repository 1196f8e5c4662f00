"""Checks of tables: what fails is counted, and shown with its rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_actions.data import keys, tables
from mlops_actions.data.contract import Contract, read_contract
from mlops_actions.data.findings import Check
from mlops_actions.data.personal import iban, luhn
from mlops_actions.data.sources import DataSource
from mlops_actions.data.validate import Validation, ValidationRequest, validate
from mlops_actions.errors import BadInput
from mlops_actions.github.console import TerminalConsole

NOW = datetime(2013, 2, 1, tzinfo=timezone.utc)
CONTRACT = """
strict: true
unique: [id, part]
columns:
  id: {dtype: Int64}
  part: {dtype: String, isin: [a, b]}
  x: {dtype: Float64, nullable: true, in_range: {min_value: 0, max_value: 10}}
  t: {dtype: String, required: false}
table:
  rows: {min: 3}
"""
GOOD = pl.DataFrame({"id": [1, 2, 3], "part": ["a", "a", "b"], "x": [0.0, None, 10.0]})


def check(folder: Path, *frames: pl.DataFrame, contract: str = CONTRACT, **options: Any) -> Validation:
    sources = []
    for number, frame in enumerate(frames):
        frame.write_parquet(folder / f"{number}.parquet")
        sources.append(DataSource(f"{number}.parquet", folder / f"{number}.parquet"))
    return validate(ValidationRequest(sources, read(folder, contract), NOW, **options))


def read(folder: Path, text: str) -> Contract:
    (folder / "contract.yaml").write_text(text)
    return read_contract(folder / "contract.yaml", "contract.yaml")


def failures(found: Validation) -> dict[tuple[str, str], Check]:
    return {(one.column, one.name.split("(")[0]): one for one in found.failed}


def test_good_data_passes_every_check(tmp_path: Path) -> None:
    found = check(tmp_path, GOOD)
    assert found.failed == []
    assert found.rows == 3
    names = {(one.column, one.name.split("(")[0]) for one in found.checks}
    assert {("id", "not_nullable"), ("part", "isin"), ("x", "in_range"), ("id, part", "unique"), ("", "rows")} <= names


def test_all_failures_are_found_at_once_with_their_rows_and_lines(tmp_path: Path) -> None:
    bad = pl.DataFrame({"id": [1, None, 3, 3], "part": ["a", "c", "b", "b"], "x": [-1.0, 2.0, None, 11.0]})
    failed = failures(check(tmp_path, GOOD.head(1), bad.with_columns(y=pl.lit(1))))
    assert set(failed) == {
        ("", "files_agree"), ("", "no_other_columns"), ("id", "not_nullable"), ("part", "isin"), ("x", "in_range"),
        ("id, part", "unique"),
    }  # fmt: skip
    out_of_range = failed["x", "in_range"]
    assert out_of_range.failed == 2
    assert out_of_range.examples == [
        {"file": "1.parquet", "row": 1, "value": -1.0},
        {"file": "1.parquet", "row": 4, "value": 11.0},
    ]
    assert str(out_of_range.place) == "contract.yaml:7"
    assert out_of_range.sentence() == "x: in_range(0, 10) fails in 2 of 5 rows"


def test_a_key_must_be_unique_across_files(tmp_path: Path) -> None:
    failed = failures(check(tmp_path, GOOD, GOOD.tail(1)))
    duplicates = failed["id, part", "unique"]
    assert duplicates.failed == 2
    assert [(e["file"], e["row"], e["value"]) for e in duplicates.examples] == [
        ("0.parquet", 3, "3, b"),
        ("1.parquet", 1, "3, b"),
    ]


def test_a_missing_column_and_a_wrong_type_are_said_once_each(tmp_path: Path) -> None:
    frame = GOOD.drop("part").with_columns(pl.col("x").cast(pl.Int64))
    failed = failures(check(tmp_path, frame))
    assert set(failed) == {("part", "present"), ("x", "dtype"), ("id, part", "unique")}
    assert failed["x", "dtype"].why == "is Int64, not Float64"


def test_examples_stop_at_twenty_and_counts_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_CELLS", 1)  # so that there are many batches
    frame = pl.DataFrame({"id": range(5000), "part": ["a"] * 5000, "x": [99.0] * 5000})
    failed = failures(check(tmp_path, frame))["x", "in_range"]
    assert failed.failed == 5000
    assert [e["row"] for e in failed.examples] == list(range(1, 21))


def test_cells_of_a_csv_that_are_not_of_their_type_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,part,x\n1,a,0.5\ntwo,a,\n3,b,1e1\n")
    found = validate(ValidationRequest([DataSource("a.csv", tmp_path / "a.csv")], read(tmp_path, CONTRACT), NOW))
    failed = failures(found)
    assert set(failed) == {("id", "readable"), ("id", "not_nullable")}
    assert failed["id", "readable"].examples == [{"file": "a.csv", "row": 2, "value": "two"}]


def test_json_lines_are_read(tmp_path: Path) -> None:
    GOOD.write_ndjson(tmp_path / "a.jsonl")
    found = validate(ValidationRequest([DataSource("a.jsonl", tmp_path / "a.jsonl")], read(tmp_path, CONTRACT), NOW))
    assert (found.rows, found.failed) == (3, [])


def test_json_lines_take_the_contracts_types(tmp_path: Path) -> None:
    contract = read(
        tmp_path,
        """columns:
  n: {dtype: Float64}
  t: {dtype: "Datetime(time_unit='us', time_zone=None)", ge: 2013-01-01}
""",
    )
    path = tmp_path / "a.jsonl"
    lines = ['{"n": 1, "t": "2013-01-01T05:00:00"}'] * 20_000
    path.write_text("\n".join(lines))
    assert validate(ValidationRequest([DataSource("a.jsonl", path)], contract, NOW)).failed == []
    lines[12_345] = '{"n": "many", "t": "2012-01-01T05:00:00"}'
    path.write_text("\n".join(lines))
    found = failures(validate(ValidationRequest([DataSource("a.jsonl", path)], contract, NOW)))
    assert set(found) == {("n", "readable"), ("n", "not_nullable"), ("t", "greater_than_or_equal_to")}
    assert found["n", "readable"].examples == [{"file": "a.jsonl", "row": 12_346, "value": "many"}]


def test_a_file_is_read_a_second_time_only_for_cells_that_cannot_be_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    real = tables.open_table
    monkeypatch.setattr(
        "mlops_actions.data.validate.open_table",
        lambda *args, lenient=True: opened.append(lenient) or real(*args, lenient=lenient),
    )
    (tmp_path / "a.csv").write_text("n\n1\n")
    request = ValidationRequest(
        [DataSource("a.csv", tmp_path / "a.csv")], read(tmp_path, "columns: {n: {dtype: Int64}}"), NOW
    )
    validate(request)
    assert opened == [False]
    unfit = read(tmp_path, "columns: {n: {dtype: Int64, str_matches: x}}")
    with pytest.raises(BadInput, match="str_matches"):
        validate(replace(request, contract=unfit))
    assert opened == [False] * 2
    (tmp_path / "a.csv").write_text("n\n1\nx\n")
    assert failures(validate(request)).keys() == {("n", "readable"), ("n", "not_nullable")}
    assert opened == [*[False] * 3, True]


def test_names_and_values_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(tmp_path, pl.DataFrame({"\x1b[31mred\n": ["\x1b[2J\t"]}),
                  contract='columns: {"\\e[31mred\\n": {isin: [a]}}\n')  # fmt: skip
    (failed,) = found.failed
    console = TerminalConsole()
    console.warning(failed.sentence())
    console.table(["column", "value"], [(failed.column, failed.examples[0]["value"])])
    said = capsys.readouterr().err
    assert "\x1b" not in said and r"\x1b[31mred\n" in said and r"\x1b[2J" in said


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        ("2013-01-31T12:00:00Z", ""),
        ("2013-01-25T00:00:00Z", "7 d older"),
        ("2013-02-04T00:00:00Z", "3 d after"),
        ("yesterday", "no such column of times"),
    ],
)
def test_freshness_is_measured_against_as_of(tmp_path: Path, newest: str, why: str) -> None:
    contract = CONTRACT + "  freshness: {column: t, max-age: 2d}\n"
    frame = GOOD.with_columns(t=pl.Series(["2013-01-01T00:00:00Z", "2013-01-02T00:00:00Z", newest]))
    failed = failures(check(tmp_path, frame, contract=contract))
    assert (why in failed["t", "freshness"].why) if why else not failed


def test_row_count_sets_of_values_patterns_and_forbidden_columns(tmp_path: Path) -> None:
    contract = """
columns:
  part: {dtype: String, unique_values_eq: [a, b, c]}
  "^x": {dtype: Float64, nullable: true, regex: true, gt: 1}
  "^z": {regex: true}
table: {rows: {min: 1, max: 2}, forbidden: ["ID"]}
"""
    failed = failures(check(tmp_path, GOOD, contract=contract))
    assert set(failed) == {
        ("part", "unique_values_eq"), ("x", "greater_than"), ("^z", "present"), ("", "rows"), ("", "forbidden"),
    }  # fmt: skip
    assert failed["part", "unique_values_eq"].why == "missing: c"
    assert failed["x", "greater_than"].failed == 1


def test_a_check_that_does_not_fit_its_column_is_bad_input_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot run the check .* of the column id") as raised:
        check(tmp_path, GOOD, contract="columns:\n  id: {dtype: Int64, str_matches: a}\n")
    assert str(raised.value.place) == "contract.yaml:2"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"id,part,x\n", "has no rows"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.xlsx", b"x", "an unknown format"),
        ("_SUCCESS", b"x", "no data file"),
    ],
)
def test_a_file_without_data_is_bad_input(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=words):
        validate(ValidationRequest([DataSource(name, tmp_path / name)], Contract(), NOW))


PEOPLE = {
    "contact": ["a@example.org", None, "see b.c@mail.example.com"],
    "card": ["4111 1111 1111 1111", "5500005555555559", "340000000000009"],
    "account": ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606"],
    "call": ["+49 30 901820", "(212) 555-0100", "212-555-0199"],
    "firstName": ["x", "y", "z"],
    "sum": [4111111111111111, 5500005555555559, 340000000000009],
    "flight": ["UA1", "AA22", "B6333"],
    "epoch": [1357000000000000000, 1357000000000000001, 1357000000000000012],
}


def test_personal_data_is_seen_in_values_and_names_and_never_shown(tmp_path: Path) -> None:
    found = check(tmp_path, pl.DataFrame(PEOPLE), contract="columns:\n  contact: {isin: [a]}\n")
    flagged = {one.column: one.why for one in found.failed if one.name == "personal_data"}
    assert set(flagged) == {"contact", "card", "account", "call", "firstName", "sum"}
    assert "e-mail addresses" in flagged["contact"]
    assert "payment card" in flagged["card"]
    assert "bank account" in flagged["account"]
    text = repr(found.failed) + repr([c for c in found.columns if c["column"] in flagged])
    assert "example" not in text.replace("examples=", "")
    assert "4111" not in text


def test_personal_data_may_be_allowed_or_only_warned_of(tmp_path: Path) -> None:
    allowed = "columns: {}\ntable: {personal-data: {allow: [contact, card, account, call, firstName, sum]}}\n"
    frame = pl.DataFrame(PEOPLE)
    assert check(tmp_path, frame, contract=allowed).failed == []
    warned = check(tmp_path, frame, contract="columns: {}\n", personal_data="warn")
    assert (warned.failed, len(warned.warnings)) == ([], 6)
    assert check(tmp_path, frame, contract="columns: {}\n", personal_data="off").warnings == []


def test_check_digits() -> None:
    assert luhn("79927398713") and not luhn("79927398710")  # the example of Luhn's patent's descriptions
    assert iban("GB82 WEST 1234 5698 7654 32") and not iban("GB82 WEST 1234 5698 7654 33")


def test_summary_has_what_each_column_holds(tmp_path: Path) -> None:
    columns = {row["column"]: row for row in check(tmp_path, GOOD).columns}
    assert columns["x"] == {
        "column": "x", "type": "Float64", "nulls": 1, "distinct": 3, "min": 0.0, "max": 10.0, "mean": 5.0,
    }  # fmt: skip
    assert (columns["part"]["min"], columns["part"]["max"]) == ("a", "b")


def test_very_many_duplicates_are_counted_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_LOOKED_AT", 10)
    frame = pl.DataFrame({"id": [*range(100), *range(60)], "part": ["a"] * 160, "x": [1.0] * 160})
    duplicates = failures(check(tmp_path, frame, frame.head(1)))["id, part", "unique"]
    assert duplicates.failed == 121
    assert len(duplicates.examples) == 20


EXPRESSIONS = """
columns: {}
table:
  checks:
    arrives-later: "dep < arr OR overnight"
    short: "arr - dep BETWEEN 0 AND 5"
    mostly-early: "AVG(dep) < 3"
    few-nulls: "COUNT(arr) > 100"
    many: "COUNT(*) > 3"
    sums: "dep * 2 + 1 - arr > 0"
"""


def test_expressions_of_several_columns_fail_where_they_are_false_and_not_where_they_are_null(tmp_path: Path) -> None:
    frame = pl.DataFrame({"dep": [1, 2, 3, 4], "arr": [2, 1, None, 1], "overnight": [False, False, False, True]})
    failed = failures(check(tmp_path, frame, contract=EXPRESSIONS))
    assert set(failed) == {("", "arrives-later"), ("", "short"), ("", "few-nulls")}
    later = failed["", "arrives-later"]
    assert (later.failed, str(later.place)) == (1, "contract.yaml:5")
    assert later.examples == [{"file": "0.parquet", "row": 2, "value": "2, 1, False"}]
    assert failed["", "short"].failed == 2
    assert failed["", "few-nulls"].sentence() == "the table: few-nulls is false"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("dep <", "cannot be understood"),
        ("dep < arrival", "unknown column 'arrival'"),
        ("dep + 1", "true or false"),
        ("dep < AVG(dep)", "Cannot run the check"),
        ("ROW_NUMBER() OVER (ORDER BY dep) = 1", "Cannot run the check"),
        ("dep > (SELECT 1)", "cannot be understood"),
        ("dep LIKE 'a%'", "Cannot run the check"),
    ],
)
def test_an_expression_that_cannot_be_made_is_bad_input_with_its_line(tmp_path: Path, sql: str, words: str) -> None:
    contract = f"columns: {{}}\ntable:\n  checks:\n    odd: {sql!r}\n"
    with pytest.raises(BadInput) as raised:
        check(tmp_path, pl.DataFrame({"dep": [1, 2]}), contract=contract)
    assert words in str(raised.value)
    assert str(raised.value.place) == "contract.yaml:4"


def test_an_aggregate_of_no_values_fails(tmp_path: Path) -> None:
    contract = "columns: {}\ntable: {checks: {low: 'AVG(x) < 3'}}\n"
    frame = pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64})
    assert failures(check(tmp_path, frame, contract=contract))["", "low"].why == "is null: there are no values"


@pytest.mark.parametrize("sql", ["1 = 1", "NULL"])
def test_an_expression_that_names_no_column_is_bad_input(tmp_path: Path, sql: str) -> None:
    with pytest.raises(BadInput, match="names no column"):
        check(tmp_path, GOOD, contract=f"columns: {{}}\ntable: {{checks: {{odd: {sql!r}}}}}\n")


def test_nan_counts_as_null_and_nested_values_are_not_passed_over(tmp_path: Path) -> None:
    contract = "columns: {}\ntable: {nulls: {x: 0.5}, not-constant: [l, x], duplicates: 0}\n"
    frame = pl.DataFrame({"x": [float("nan"), None, 1.0], "l": [[1], [1], [2]]})
    failed = failures(check(tmp_path, frame, contract=contract))
    assert failed["x", "nulls"].failed == 2
    assert failed["x", "not_constant"].why == "every row has the same value"
    assert failed["l", "not_constant"].why == "is List(Int64), whose values are not compared"
    alone = "columns: {}\ntable: {duplicates: 0}\n"
    assert failures(check(tmp_path, frame.select("l"), contract=alone))["", "duplicates"].failed == 2
    with pytest.raises(BadInput, match="unique_values_eq of the column l"):
        check(tmp_path, frame, contract="columns: {l: {unique_values_eq: [1]}}\n")


RELATIONS = """
columns: {}
table:
  foreign-keys:
    - {columns: carrier, table: airlines.csv, keys: code}
    - {columns: [plane, year], table: planes.csv}
"""


def related(folder: Path, frame: pl.DataFrame, contract: str = RELATIONS) -> Validation:
    (folder / "airlines.csv").write_text("code,name\nUA,United\nAA,American\n")
    (folder / "planes.csv").write_text("plane,year\nN1,2001\nN2,2002\n")
    others = {name: [DataSource(name, folder / name)] for name in ("airlines.csv", "planes.csv")}
    return check(folder, frame, contract=contract, tables=others)


def test_a_value_that_the_other_table_lacks_is_found_with_its_row(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"carrier": ["UA", "ZZ", None, "AA"], "plane": ["N1", "N2", "N2", None], "year": [2001, 2001, 2002, 9]},
        schema_overrides={"year": pl.Int32},  # another type than the other table's
    )
    failed = failures(related(tmp_path, frame))
    assert set(failed) == {("carrier", "in"), ("plane, year", "in")}
    one, two = failed["carrier", "in"], failed["plane, year", "in"]
    assert (one.failed, one.examples) == (1, [{"file": "0.parquet", "row": 2, "value": "ZZ"}])
    assert (two.failed, two.examples[0]["value"], str(two.place)) == (1, "N2, 2001", "contract.yaml:6")


def test_a_relation_to_a_column_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    contract = RELATIONS.replace("keys: code", "keys: iata")
    with pytest.raises(BadInput, match=r"airlines.* has no column 'iata'") as raised:
        related(tmp_path, pl.DataFrame({"carrier": ["UA"], "plane": ["N1"], "year": [1]}), contract)
    assert str(raised.value.place) == "contract.yaml:5"


def test_every_check_of_pandera_says_of_each_row_what_pandera_says() -> None:
    from pandera.polars import Check as Theirs

    from mlops_actions.data.rowchecks import _expression

    numbers, texts = pl.DataFrame({"c": [-1.5, 0.0, 3.0, None]}), pl.DataFrame({"c": ["", "abc", "bcd", None]})
    made = [
        (numbers, Theirs.eq(3)), (numbers, Theirs.ne(3)), (numbers, Theirs.gt(0)), (numbers, Theirs.ge(0)),
        (numbers, Theirs.lt(0)), (numbers, Theirs.le(0)), (numbers, Theirs.in_range(0, 3, include_max=False)),
        (numbers, Theirs.isin([0.0, 3.0])), (numbers, Theirs.notin([0.0, 3.0])),
        (texts, Theirs.str_matches("b")), (texts, Theirs.str_contains("b")), (texts, Theirs.str_startswith("a")),
        (texts, Theirs.str_endswith("d")), (texts, Theirs.str_length(1, 3)), (texts, Theirs.str_length(exact_value=3)),
    ]  # fmt: skip
    for frame, test in made:
        theirs = test(frame.lazy(), "c").check_output.collect().to_series().to_list()
        ours = frame.select(_expression(test, "c").fill_null(True)).to_series().to_list()
        assert ours == theirs, test.name


def test_cells_of_a_csv_that_cannot_be_parsed_are_found_in_every_type(tmp_path: Path) -> None:
    text = "i,f,b,d,t\n1,0.5,true,2013-01-01,2013-01-01T00:00:00\nx,y,z,w,v\n,,,,\n"
    (tmp_path / "a.csv").write_text(text)
    types = {"i": "Int8", "f": "Float32", "b": "Boolean", "d": "Date", "t": "Datetime"}
    contract = "columns:\n" + "".join(f"  {n}: {{dtype: {kind}, nullable: true}}\n" for n, kind in types.items())
    found = validate(ValidationRequest([DataSource("a.csv", tmp_path / "a.csv")], read(tmp_path, contract), NOW))
    failed = failures(found)
    assert {(name, one.failed) for (name, _), one in failed.items()} == {(name, 1) for name in types}
    assert [failed[name, "readable"].examples[0]["value"] for name in types] == ["x", "y", "z", "w", "v"]
    assert {row["column"]: row["nulls"] for row in found.columns} == dict.fromkeys(types, 2)


def test_distinct_values_are_counted_when_few_and_estimated_when_many(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": range(300_000), "few": [i % 1000 for i in range(300_000)], "one": [1] * 300_000})
    columns = {row["column"]: row["distinct"] for row in check(tmp_path, frame, contract="columns: {}\n").columns}
    assert (columns["few"], columns["one"]) == (1000, 1)
    assert columns["id"] == pytest.approx(300_000, rel=0.1)


def test_whole_numbers_may_be_listed_for_a_column_of_floats(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [0.0, 3.0, 4.0]})
    failed = failures(check(tmp_path, frame, contract="columns:\n  x: {dtype: Float64, isin: [0, 3]}\n"))
    assert failed["x", "isin"].examples == [{"file": "0.parquet", "row": 3, "value": 4.0}]
