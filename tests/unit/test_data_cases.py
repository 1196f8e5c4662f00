"""Tables from outside that were read wrongly once, with the right value of each. `tests/data/tables` has them."""

from __future__ import annotations

import gzip
import shutil
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_actions.data import drift
from mlops_actions.data.contract import Contract, read_contract
from mlops_actions.data.diff import Side, diff
from mlops_actions.data.infer import Strictness, infer
from mlops_actions.data.sources import DataSource, digests, find, find_one
from mlops_actions.data.tables import open_table
from mlops_actions.data.validate import Validation, ValidationRequest, fingerprint, validate
from mlops_actions.errors import BadInput, Place
from mlops_actions.evaluation.evaluate import EvaluationRequest, evaluate
from workspaces import workspace

CASES = Path(__file__).parents[1] / "data" / "tables"
NOW = datetime(2024, 2, 1, tzinfo=timezone.utc)


def case(*names: str) -> list[DataSource]:
    return [DataSource(name, CASES / name) for name in names]


def contract(folder: Path, text: str) -> Contract:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return read_contract(folder / "c.yaml", "c.yaml")


def found(sources: list[DataSource], rules: Contract | None = None) -> Validation:
    return validate(ValidationRequest(sources, rules or Contract(), NOW, personal_data="off"))


def write(folder: Path, name: str, frame: pl.DataFrame) -> DataSource:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / name)
    return DataSource(name, folder / name)


@pytest.mark.parametrize("strictness", ["loose", "normal", "strict"])
@pytest.mark.parametrize(
    "name", ["pandas_offset.parquet", "berlin.parquet", "bigint.csv", "strs.parquet", "outofpy.parquet"]
)
def test_data_passes_the_contract_that_is_inferred_from_it(tmp_path: Path, name: str, strictness: Strictness) -> None:
    text = infer(case(name), strictness)
    assert [check.sentence() for check in found(case(name), contract(tmp_path, text)).failed] == []


def test_times_beyond_a_microsecond_pass_their_strict_contract(tmp_path: Path) -> None:
    times = pl.Series([1, 10**18 + 999, 5], dtype=pl.Int64).cast(pl.Datetime("ns", "Asia/Kolkata"))
    source = write(tmp_path, "a.parquet", pl.DataFrame({"t": times, "u": times.dt.replace_time_zone(None)}))
    assert found([source], contract(tmp_path, infer([source], "strict"))).failed == []


def test_a_fixed_offset_is_the_same_moment_in_utc() -> None:
    frame = open_table(case("pandas_offset.parquet")).frame.collect()
    assert frame.schema["t"] == pl.Datetime("ns", "UTC")
    assert frame["t"][0] == datetime(2019, 12, 31, 18, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize("name", ["*", "^x$"])
def test_a_column_that_is_a_pattern_of_names_is_refused_by_name(tmp_path: Path, name: str) -> None:
    source = write(tmp_path, "a.parquet", pl.DataFrame({"x": [1], name: [2]}))
    with pytest.raises(BadInput) as raised:
        found([source])
    assert f"The column {name!r} of a.parquet" in raised.value.what


def test_other_odd_names_of_columns_pass_their_contract(tmp_path: Path) -> None:
    frame = pl.read_parquet(CASES / "names.parquet")
    frame = frame.select(name for name in frame.columns if name not in ("*", "^x$"))
    source = write(tmp_path, "a.parquet", pl.concat([frame] * 3))
    for strictness in ("loose", "normal", "strict"):
        assert found([source], contract(tmp_path, infer([source], strictness))).failed == []


def test_years_that_python_does_not_have_are_shown_as_text(tmp_path: Path) -> None:
    rules = contract(tmp_path, "columns:\n  us: {dtype: \"Datetime(time_unit='us')\", gt: 2000-01-01}\n")
    (failed,) = found(case("outofpy.parquet"), rules).failed
    assert [example["value"] for example in failed.examples] == [
        "-17720-01-05 23:59:59.999990",
        "1970-01-01 00:00:00.000000",
    ]
    rows = found(case("outofpy.parquet")).columns[0]
    assert str(rows["min"]).startswith("-17720-01-05")


def test_partitions_are_columns(tmp_path: Path) -> None:
    years = case("hive/year=2020/p.parquet", "hive/year=2021/p.parquet")
    table = open_table(years)
    assert table.schema["year"] == pl.Int64 and table.differences == []
    assert table.frame.select("year").unique().sort("year").collect().to_series().to_list() == [2020, 2021]
    assert fingerprint(years[:1]) != fingerprint(years[1:])
    renamed = DataSource(years[0].name.replace("2020", "2099"), years[0].path)
    assert digests([renamed]) != digests(years[:1]), "the same bytes of another partition are another table"
    moved = tmp_path / "year=2021" / "p.parquet"
    moved.parent.mkdir()
    shutil.copy(years[0].path, moved)
    assert fingerprint([DataSource("year=2021/p.parquet", moved)]) != fingerprint(years[:1])


def test_partitions_have_the_type_of_all_their_values_and_may_be_null(tmp_path: Path) -> None:
    names = ["d=2020-01-01/k=1/n=x%20y/a.parquet", "d=2020-01-02/k=b/n=__HIVE_DEFAULT_PARTITION__/a.parquet"]
    frame = open_table([write(tmp_path, name, pl.DataFrame({"x": [1]})) for name in names]).frame.collect()
    assert frame.schema["d"] == pl.Date and frame["k"].to_list() == ["1", "b"] and frame["n"].to_list() == ["x y", None]
    own = write(tmp_path, "k=7/a.parquet", pl.DataFrame({"k": [1]}))
    assert open_table([own]).frame.collect()["k"].to_list() == [1]


def test_keys_of_two_types_are_compared_by_value() -> None:
    sides = [Side(name, case(f"keycast/{name}.csv"), {}) for name in ("a", "b")]
    by_key = diff(*sides, key=["id"]).by_key
    assert by_key and (by_key.removed, by_key.added, by_key.both) == (2, 2, 0)


def test_a_foreign_key_of_another_type_is_compared_by_value(tmp_path: Path) -> None:
    write(tmp_path, "other.parquet", pl.DataFrame({"id": [0.5, 2.0]}))
    source = write(tmp_path, "a.parquet", pl.DataFrame({"id": [0, 2]}))
    rules = contract(tmp_path, "table:\n  foreign-keys: [{columns: id, table: other.parquet}]\n")
    tables = {"other.parquet": [DataSource("other.parquet", tmp_path / "other.parquet")]}
    (failed,) = validate(ValidationRequest([source], rules, NOW, tables=tables)).failed
    assert failed.failed == 1


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("semicolon.csv", 1, "separated by semicolons, and its numbers have decimal commas"),
        ("ragged.csv", 3, "Line 3, byte 12: it has 3 fields, and the header has 2"),
        ("comment.csv", 1, "looks like a comment"),
        ("pipe.csv", 1, "separated by pipes"),
        ("utf16.csv", 1, "it is UTF-16 text"),
    ],
)
def test_csv_that_cannot_be_read_is_told_with_line_byte_and_cause(name: str, line: int, words: str) -> None:
    with pytest.raises(BadInput) as raised:
        found(case(name))
    assert words in raised.value.why and raised.value.fix
    assert raised.value.place and (raised.value.place.file, raised.value.place.line) == (name, line)


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a,b\n1,2\n1,K\xf6ln\n", 3, "byte 11: the byte 0xf6 is not UTF-8; it may be Windows-1252"),
        (b"price,n\n" + b"1.5,1\n" * 10_001 + b'"2,5",1\n', 10_003, "decimal comma"),
        (b"price,n\n" + b"1.5,1\n" * 10_001 + b"2,5,1\n", 10_003, "it has 3 fields, and the header has 2"),
        (b"n,t\n" + b"1,x\n" * 10_001 + b"late,x\n", 10_003, "'late' in the column 'n' is not a whole number"),
        (b"a\tb\n1\t2\n", 1, "separated by tabs"),
        (b'"a";"b"\n1,5;2\n2,5;3\n', 1, "separated by semicolons, and its numbers have decimal commas"),
        (b'"id"|"t"\n1|"a,b"\n2|"c,d"\n', 1, "separated by pipes"),
        (b"a;b\n1;2\n3\n", 1, "separated by semicolons"),
        (b"a|b|\n1|2\n3|4\n", 1, "separated by pipes"),
        (b"a:b\n1:2\n3:4\n", 1, "separated by colons"),
        (b"a b  c\n1 2  3\n-4 5.5 NA\n", 1, "separated by spaces"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 1, "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>\n<html></html>\n", 1, "a page of HTML"),
        (b"PAR1\x15\x04\xff\n", 1, "a Parquet file"),
        (b"a,b\n1,x\0y\n", 2, "byte 7: it has a byte 0"),
        ("a,b\n1,2\n".encode("utf-16-le"), 1, "as in UTF-16"),
        (b"K\xf6ln,b\n1,2\n", 1, "byte 1: the byte 0xf6 is not UTF-8; it may be Windows-1252"),
        (b"a,b\r1,2\r3,4\r", 1, "its lines end in CR alone"),
        (b"a,b,a\n1,2,3\n", 1, "two columns have the name 'a'"),
        (b"n,t\n1,x\n" + b'2,"y\n' + b"3,z\n" * 20, 3, "a quote opens here and never closes"),
        (b'a,"b\n1,2\n3,4\n', 1, "byte 2: a quote in the columns' names never closes"),
        (b'a,b"\n1,2\n3,4\n', 1, "byte 3: a quote in the columns' names never closes"),
    ],
    ids=[
        "Latin-1",
        "decimal comma in quotes",
        "decimal comma",
        "text among numbers",
        "tabs",
        "semicolons and quotes",
        "pipes and quotes",
        "semicolons and a short line",
        "pipes and a longer header",
        "colons",
        "spaces",
        "Git LFS",
        "HTML",
        "Parquet",
        "NUL",
        "UTF-16 without a mark",
        "Latin-1 in the header",
        "CR",
        "a name twice",
        "quote",
        "quote in the header",
        "quote at the end of the header",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_line_of_a_fault_is_found(tmp_path: Path, data: bytes, line: int, words: str, *, packed: bool) -> None:
    name = "a.csv.gz" if packed else "a.csv"
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(BadInput) as raised:
        infer([DataSource(name, tmp_path / name)])
    assert words in raised.value.why
    assert raised.value.place and raised.value.place.line == line


@pytest.mark.parametrize(
    "text",
    [
        "n\n1\n2\n",
        "a;b\n",
        '"a;b"\n1\n',
        "#id,name\n1,a\n",
        "a b,c|d\n1,2|3\n",
        "\ufeffa,b\n1,2\n",
        '"a\na",b\n1,2\n',
        "a,,\n1,2,3\n",
        "full name\nJohn Smith\nJane Doe\n",
        "house no\nMain 5\nHigh 7\n",
        "at\n12 30\n13 45\n",
        "at:utc\n12:30\n2024-01-01 13:45:10\n",
        "home:page\nhttps://a.example:8080/b\n",
        "note: text\nhello\nyou: me\nbye\n",
        '"a;b","c"\n1,2\n',
        '"x;\ny;z"\n1\n',
        "a,b\r\n1,2\r\n",
    ],
)
def test_csv_that_only_looks_odd_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    if text == "a;b\n":
        with pytest.raises(BadInput, match="CSV"):
            open_table([DataSource("a.csv", tmp_path / "a.csv")])
    else:
        assert found([DataSource("a.csv", tmp_path / "a.csv")]).rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n\n3,4\n", [(1, 2), (3, 4)]),
        ("a,b\r\n1,2\r\n\r\n3,4\r\n\r\n\r\n", [(1, 2), (3, 4)]),
        ("\n\na,b\n\n1,2\n", [(1, 2)]),
        ("a,b\n1,2\n,\n\n3,4\n", [(1, 2), (None, None), (3, 4)]),
        ('a,b\n\n"x\n\ny",1\n\n"""",2\n\n', [("x\n\ny", 1), ('"', 2)]),
        ("a\n1\n\n3\n", [(1,), (None,), (3,)]),
    ],
    ids=["LF", "CRLF", "at the start", "a row of nulls", "in a text", "one column"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_blank_line_is_no_row_of_a_table_of_several_columns(
    tmp_path: Path, text: str, rows: list[tuple[object, ...]], *, packed: bool
) -> None:
    """As pandas, Arrow and DuckDB read it; in one column as DuckDB does, and as a null is written there."""
    name = "a.csv.gz" if packed else "a.csv"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    source = DataSource(name, tmp_path / name)
    assert open_table([source]).frame.collect().rows() == rows
    assert found([source]).rows == len(rows)


LACKING = [
    ("a,b,c\n1,2,3\n4,5\n7,8,9\n", 3, "Line 3, byte 12: it has 2 fields, and the header has 3"),
    ("a,b,c\n1,2,3\n4,5,6\n7,8", 4, "it has 2 fields, and the header has 3; it is the last line, as of a file"),
    ("a,b,c\n1,2,3\n7", 3, "it has 1 field, and the header has 3; it is the last line"),
    ("a,b,c\n\n1,2,3\n\n4,5\n\n7,8,9\n", 5, "Line 5, byte 14: it has 2 fields"),
    ("\n\na,b\n1\n2,3\n", 4, "it has 1 field, and the header has 2"),
    ('a,b\r\n"1,2",3\r\n"4,\r\n5"\r\n', 3, "it has 1 field, and the header has 2"),
    ('a,b\n1,"x"\n2,"y', 3, "a quote opens here and never closes"),
    ("a,b\n" + "1,2\n" * 200_000 + "1", 200_002, "it is the last line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), LACKING)
@pytest.mark.parametrize("packed", [False, True])
def test_a_line_of_csv_that_lacks_fields_is_refused(
    tmp_path: Path, text: str, line: int, words: str, *, packed: bool
) -> None:
    name = "a.csv.gz" if packed else "a.csv"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(BadInput) as raised:
        open_table([DataSource(name, tmp_path / name)])
    assert words in raised.value.why
    assert raised.value.place and raised.value.place.line == line


@pytest.mark.parametrize(
    "text", ['a,b\n1,2\n3,"a,\n\nb"\n', "a,b\n1,\n,", 'a,b\n"1,2,3",""""\n', "a\n1\n\n", "a,b\r\n\r\n1,2\r\n\r\n"]
)
def test_a_line_of_csv_that_has_all_its_fields_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert not open_table([DataSource("a.csv", tmp_path / "a.csv")]).frame.collect().is_empty()


@pytest.mark.parametrize("rows", [3, 100_000])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_packed_file_that_is_cut_or_damaged_cannot_be_read(tmp_path: Path, rows: int, damage: str) -> None:
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (row, row % 7) for row in range(rows)), mtime=0)
    half = len(packed) * 2 // 3
    (tmp_path / "a.csv.gz").write_bytes(packed[:half] + (b"" if damage == "cut" else b"\xff" * 8 + packed[half + 8 :]))
    with pytest.raises(BadInput, match=r"a\.csv\.gz cannot be read"):
        found([DataSource("a.csv.gz", tmp_path / "a.csv.gz")])


def test_the_line_of_a_fault_counts_the_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n\n1,2\n\n1,2,3\n", encoding="utf-8")
    with pytest.raises(BadInput, match="Line 5, byte 10: it has 3 fields") as raised:
        found([DataSource("a.csv", tmp_path / "a.csv")])
    assert raised.value.place and raised.value.place.line == 5


def test_labels_and_predictions_that_are_written_differently_are_the_same_classes() -> None:
    result = evaluate(EvaluationRequest(case("int_label_float_prediction.csv")[0], {}))
    assert result.task == "multiclass" and result.metrics["accuracy"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("rows", ["True,1\nFalse,0\n", "yes,1\nno,0\nno,0\n", "a,1\nb,2\nc,3\n"])
def test_predictions_of_which_none_is_a_label_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "p.csv").write_text(f"label,prediction\n{rows}")
    with pytest.raises(BadInput, match="is one of its labels"):
        evaluate(EvaluationRequest(DataSource("p.csv", tmp_path / "p.csv"), {}))


@pytest.mark.parametrize(
    ("name", "task"), [("int_label_with_score.csv", "multiclass"), ("labels_minus1_plus1.csv", "binary")]
)
def test_classes_are_not_taken_for_quantities(name: str, task: str) -> None:
    assert evaluate(EvaluationRequest(case(name)[0], {})).task == task


def test_two_samples_of_one_table_with_many_categories_have_not_drifted() -> None:
    tables = [open_table(case(name)) for name in ("tailnum_ref.parquet", "tailnum_now.parquet")]
    for pair in (tables, tables[::-1]):
        assert not drift.compare(*pair).drifted


def test_an_absolute_folder_is_data(tmp_path: Path) -> None:
    root, data = tmp_path / "repository", tmp_path / "data"
    root.mkdir()
    write(data, "part/a.parquet", pl.DataFrame({"x": [1]}))
    for note in ("_SUCCESS", ".a.parquet.crc", "_delta_log/0.json"):
        (data / note).parent.mkdir(exist_ok=True)
        (data / note).write_text("{}")
    where = workspace(root, tmp_path)
    assert [source.name for source in find(where, [str(data)])] == [str(data / "part" / "a.parquet")]
    (root / "a[1].csv").write_text("x\n1\n")
    assert [source.name for source in find(where, ["a[1].csv"])] == ["a[1].csv"]


MONTHS = "columns:\n  n: {dtype: %s, nullable: true, in_range: {min_value: 0, max_value: 9}}\n"


@pytest.mark.parametrize("kind", ["Int64", "Float64"])
def test_months_of_whole_numbers_and_of_floats_for_a_gap_are_one_column(tmp_path: Path, kind: str) -> None:
    first = write(tmp_path, "1.parquet", pl.DataFrame({"n": [1, 2]}))
    gap = float("nan") if kind == "Int64" else None
    second = write(tmp_path, "2.parquet", pl.DataFrame({"n": [3.0, None, gap]}))
    assert [check.name for check in found([first, second]).failed] == ["files_agree"]
    assert found([first, second], contract(tmp_path, MONTHS % kind)).failed == []
    wrong = write(tmp_path, "3.parquet", pl.DataFrame({"n": [3.5, 99.0]}))
    names = [check.name for check in found([first, wrong], contract(tmp_path, MONTHS % kind)).failed]
    assert names == (["readable(Int64)", "in_range(0, 9)"] if kind == "Int64" else ["in_range(0, 9)"])


def periodic(days: int, start: int = 0) -> pl.DataFrame:
    hours = np.arange(start, start + days * 24)
    noise = np.random.default_rng(start).normal(size=len(hours))
    return pl.DataFrame({"hour": hours % 24, "load": np.sin(hours / 24 * 2 * np.pi) + 0.1 * noise})


def test_rows_with_a_period_above_the_sample_size_are_not_aliased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_table([write(tmp_path, "a.parquet", periodic(1000))])
    now = open_table([write(tmp_path, "b.parquet", periodic(500, 24_000))])
    monkeypatch.setattr(drift, "SAMPLE", 1000)  # every 24th row, and every 12th, would be one hour, and two
    result = drift.compare(before, now)
    assert len(result.columns) == 2 and not result.drifted
    sample = before.sample(["hour"], 1000, 24_000)
    assert 900 < sample.height < 1100 and sample["hour"].n_unique() == 24
    assert sample.equals(before.sample(["hour"], 1000, 24_000))


def test_a_column_that_is_null_now_has_drifted_whatever_its_type(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pl.DataFrame({"x": random.normal(size=500), "k": ["a", "b"] * 250}).write_csv(tmp_path / "a.csv")
    pl.DataFrame({"x": [None] * 500, "k": [None] * 500}).write_csv(tmp_path / "b.csv")
    tables = [open_table([DataSource(name, tmp_path / name)]) for name in ("a.csv", "b.csv")]
    result = drift.compare(*tables)
    assert {column.column for column in result.drifted} == {"x", "k"} and not result.skipped


N = 600
GOOD = pl.DataFrame(
    {
        "x": pl.Series(np.random.default_rng(2).normal(size=N).round(2)),
        "code": [f"c{i % 37}" for i in range(N)],
        "gaps": [None if i % 50 == 0 else float(i % 7) + 0.5 for i in range(N)],
        "month": [i % 12 + 1 for i in range(N)],
    }
)


@pytest.mark.parametrize("strictness", ["normal", "strict"])
@pytest.mark.parametrize(
    ("bad", "checks"),
    [
        (GOOD.with_columns(gaps=pl.lit(None, pl.Float64)), {"nulls", "not_constant"}),
        (GOOD.with_columns(gaps=pl.when(pl.int_range(N) % 2 == 0).then("gaps")), {"nulls"}),
        (GOOD.with_columns(x=pl.lit(None, pl.Float64)), {"not_nullable", "not_constant"}),
        (GOOD.with_columns(x=pl.lit(0.25)), {"not_constant"}),
        (GOOD.with_columns(code=pl.lit("c1")), {"not_constant"}),
        (pl.concat([GOOD, GOOD]), {"duplicates"}),
    ],
    ids=["all null", "half null", "null for the first time", "constant number", "constant text", "doubled"],
)
def test_what_goes_wrong_in_whole_columns_is_found_by_an_inferred_contract(
    tmp_path: Path, bad: pl.DataFrame, checks: set[str], strictness: Strictness
) -> None:
    source = write(tmp_path, "a.parquet", GOOD)
    rules = contract(tmp_path, infer([source], strictness))
    assert found([source], rules).failed == []
    failed = {check.name.partition("(")[0] for check in found([write(tmp_path, "b.parquet", bad)], rules).failed}
    assert checks <= failed


def test_a_month_of_the_data_has_the_columns_that_may_be_constant(tmp_path: Path) -> None:
    rules = contract(tmp_path, infer([write(tmp_path, "a.parquet", GOOD)]))
    month = write(tmp_path, "b.parquet", GOOD.filter(pl.col("month") == 3))
    assert [check.name for check in found([month], rules).failed] == ["rows(300, ∞)"]


def test_many_columns_are_asked_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({f"c{i}": ["a", "b"] * 50 if i % 2 else range(100) for i in range(100)})
    source = write(tmp_path, "a.parquet", frame)
    asked = []
    collect = pl.LazyFrame.collect
    monkeypatch.setattr(pl.LazyFrame, "collect", lambda self, **kw: asked.append(1) or collect(self, **kw))
    rules = contract(tmp_path, infer([source]))
    assert found([source], rules).failed == []
    assert len(asked) < 2 * len(frame.columns)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"a" 3}', "Line 3, byte 23: it is not JSON: Expecting ':' delimiter"),
        (b"[1]", "Line 3, byte 18: it is not a JSON object"),
        (b'{"a": "\xe9"}', "Line 3, byte 25: the byte 0xe9 is not UTF-8"),
        (b'{"a": NaN}', "Line 3, byte 18: it has NaN, which is not a number of JSON"),
        (b'{"a": 1e999}', "Line 3, byte 18: it has 1e999, which is not a number of JSON"),
        (b'{"a": 1, "b": 2, "a": 3}', "Line 3, byte 18: it has the name 'a' twice"),
        (b"[" * 100_000, "Line 3, byte 18: "),
    ],
)
def test_the_line_of_json_that_cannot_be_read_is_told(tmp_path: Path, bad: bytes, why: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 2 + bad + b"\n")
    with pytest.raises(BadInput, match="cannot be read as JSON lines") as raised:
        list(open_table([DataSource("a.jsonl", tmp_path / "a.jsonl")]).batches())
    assert why in raised.value.why and raised.value.place == Place("a.jsonl", 3)


@pytest.mark.parametrize(
    ("dtype", "value", "before"), [("String", '"t"', 0), ("String", '"t"', 2), ("Int64", "1", 20_000)]
)
@pytest.mark.parametrize("nested", ['{"x": 1}', '["y"]'])
def test_an_object_or_a_list_of_json_is_no_cell(
    tmp_path: Path, dtype: str, value: str, before: int, nested: str
) -> None:
    lines = [f'{{"a": {value}}}'] * before + [f'{{"a": {nested}}}', '{"a": null}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rules = contract(tmp_path, f"columns: {{a: {{dtype: {dtype}, nullable: true}}}}\n")
    (failed,) = found([DataSource("a.jsonl", tmp_path / "a.jsonl")], rules).failed
    assert (failed.column, failed.name, failed.failed) == ("a", f"readable({dtype})", 1)
    assert failed.examples == [{"file": "a.jsonl", "row": before + 1, "value": nested}]


def test_texts_of_json_that_look_like_lists_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "[1]"}\n{"a": "{}"}\n')
    rules = contract(tmp_path, "columns: {a: {dtype: String}}\n")
    assert found([DataSource("a.jsonl", tmp_path / "a.jsonl")], rules).failed == []


def test_a_name_in_quotes_may_go_on_in_the_next_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,"b\nc"\n1,2\n')
    text = infer([DataSource("a.csv", tmp_path / "a.csv")])
    assert '"b\\nc"' in text


def test_where_one_file_is_asked_for_a_folder_of_several_is_refused(tmp_path: Path) -> None:
    where = workspace(tmp_path)
    for name in ("b", "a", "c"):
        write(where.root, f"p/{name}.parquet", pl.DataFrame({"x": [1]}))
    with pytest.raises(BadInput, match=r"`history` names 3 files and must name one: p\. They are p/a\.parquet, p/b"):
        find_one(where, "p", "history")
    assert find_one(where, "p/[b]*", "history").name == "p/b.parquet"
