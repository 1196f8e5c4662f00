"""Data contracts: pandera's format, our additions, and what is said of mistakes."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from pandera.io import polars_io
from pandera.polars import Check, Column, DataFrameSchema

from conftest import ROOT
from mlops_actions.data.contract import Contract, read_contract
from mlops_actions.data.rules import parse_duration
from mlops_actions.errors import BadInput


def read(folder: Path, text: str) -> Contract:
    (folder / "contract.yaml").write_text(text)
    return read_contract(folder / "contract.yaml", "contract.yaml")


def test_what_pandera_writes_is_read_the_same(tmp_path: Path) -> None:
    schema = DataFrameSchema(
        {
            "n": Column(pl.Int64, [Check.ge(0), Check.in_range(0, 9, include_max=False)], unique=True),
            "s": Column(pl.String, Check.isin(["a", "b"]), nullable=True, required=False),
            "t": Column(pl.Datetime("us"), Check.gt(dt.datetime(2013, 1, 1, 5))),
            "^x_": Column(pl.Float64, Check.lt(1.5), regex=True),
        },
        strict=True,
        unique=["n", "s"],
    )
    (tmp_path / "contract.yaml").write_text(polars_io.to_yaml(schema))
    found = read_contract(tmp_path / "contract.yaml", "contract.yaml").schema
    assert (found.strict, found.unique) == (True, ["n", "s"])
    assert list(found.columns) == list(schema.columns)
    for name, column in schema.columns.items():
        other = found.columns[name]
        assert (other.dtype, other.nullable, other.required, other.regex, other.unique) == (
            column.dtype, column.nullable, column.required, column.regex, column.unique,
        ), name  # fmt: skip
        assert [(c.name, c.statistics) for c in other.checks] == [(c.name, c.statistics) for c in column.checks]


def test_pandera_reads_the_examples_contract() -> None:
    path = ROOT / "examples" / "flight-delays" / "contract.yaml"
    text = path.read_text()
    # pandera 0.35 needs pandas to read checks of typed columns, so it gets them without types
    import yaml

    values = yaml.safe_load(text)
    for column in values["columns"].values():
        column.pop("dtype")
    theirs, ours = polars_io.deserialize_schema(values), read_contract(path, path.name)
    assert {n: [c.name for c in col.checks] for n, col in theirs.columns.items()} == {
        n: [c.name for c in col.checks] for n, col in ours.schema.columns.items()
    }
    assert theirs.unique == ours.schema.unique
    assert ours.rules.rows.min > 0


def test_rules_of_the_table(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        """
columns: {}
table:
  rows: {min: 5, max: 10}
  freshness: {column: t, max-age: 36h}
  forbidden: [ssn, "*_email"]
  personal-data: {allow: [phone_model]}
""",
    ).rules
    assert (rules.rows.min, rules.rows.max) == (5, 10)
    assert rules.freshness and rules.freshness.max_age == dt.timedelta(hours=36)
    assert rules.forbidden == ["ssn", "*_email"]
    assert rules.personal_data.allow == ["phone_model"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("columns:\n  a: {dtype: Int64}\n  b: {nulable: true}\n", 3, "Did you mean `nullable`?"),
        ("colums:\n  a: {}\n", 1, "Did you mean `columns`?"),
        ("columns:\n  a: {dtype: Int65}\n", 2, "column a cannot be understood"),
        ("columns:\n  a: {isin: 5}\n", 2, "`columns.a.isin` must be a list of values"),
        ("columns:\n  a:\n    dtype: Int64\n    coerce: true\n", 4, "only looks"),
        ("columns:\n  a:\n", 2, "`columns.a` has no value"),
        ("columns:\n", 1, "`columns` has no value"),
        ("columns: {}\ntable:\n", 2, "`table` has no value"),
        ("columns: {}\ntable:\n  duplicates:\n", 3, "`table.duplicates` has no value"),
        ("columns: {}\ntable:\n  training:\n    # label: y\n", 3, "`table.training` has no value"),
        ("columns: {}\ntable:\n  freshness: {column: t, max-age: soon}\n", 3, "such as 36h"),
        ("columns: {}\ntable:\n  foreign-keys:\n    - {columns: a}\n", 4, "is missing"),
        ("columns: {}\ntable:\n  drift:\n    a: {psy: 1}\n", 4, "is unknown"),
        ("columns:\n  a:\n    ge:\n", 3, "`columns.a.ge` has no value"),
        ("columns:\n  a:\n    checks:\n      le:\n", 4, "`columns.a.checks.le` has no value"),
        ("columns:\n  a:\n    required:\n", 3, "`columns.a.required` has no value"),
        ("columns:\n  a:\n    unique: ~\n", 3, "`columns.a.unique` has no value"),
        ("columns: {}\nstrict:\n", 2, "`strict` has no value"),
        ("columns: {}\ntable:\n", 2, "`table` has no value"),
        ("columns: {}\ntable:\n  rows:\n", 3, "`table.rows` has no value"),
        ("columns: {}\ntable:\n  duplicates:\n", 3, "`table.duplicates` has no value"),
        ("columns: {}\ntable:\n  nulls:\n    a:\n", 4, "`table.nulls.a` has no value"),
        ("columns: {}\ntable:\n  rowz: {min: 1}\n", 3, "rowz"),
        ("schema_type: dataframe\ncolumns: {}\n", 1, "polars_dataframe"),
        ("columns: [\n", 2, "not valid YAML"),
        ("- a\n", 1, "not a mapping"),
        ("columns:\n  a:\n    str_matches: '['\n", 3, "`columns.a.str_matches` cannot be understood. Unterminated"),
        ("columns:\n  '[': {regex: true}\n", 2, "column [ cannot be understood"),
        ("columns:\n  a:\n    checks: [{greater_than: 0}]\n", 3, "`columns.a.checks.0` has no `options.check_name`"),
        ("columns:\n  a:\n    checks: [5]\n", 3, "Write `checks: {greater_than: 0}`"),
        ("columns:\n  a:\n    checks: 5\n", 3, "must be a mapping of checks"),
        ("columns:\n  a:\n    checks: []\n", 3, "must be a mapping of checks"),
        ("columns:\n  a:\n    checks: [{value: 0, options: {check_name: gth}}]\n", 3, "unknown check 'gth'"),
        (
            "columns:\n  a:\n    in_range: {min: 0, max_value: 9}\n",
            3,
            "`columns.a.in_range.min` is unknown. Did you",
        ),
        ("columns:\n  a:\n    in_range: {min_value: 9, max_value: 1}\n", 3, "empty interval"),
        ("columns:\n  a:\n    ge: {value: 1, ignore_na: false}\n", 3, "`columns.a.ge.ignore_na` must be true"),
        ("columns:\n  a:\n    ge: {value: 1, raise_warning: true}\n", 3, "`columns.a.ge.raise_warning` must be false"),
        ("columns:\n  a:\n    ge: {value: 1, n_failure_cases: 1}\n", 3, "`columns.a.ge.n_failure_cases` is unknown"),
        ("columns:\n  a:\n    ge: {value: 1, foo: }\n", 3, "`columns.a.ge.foo` is unknown"),
        ("columns:\n  a:\n    ge: {value: 1, options: 3}\n", 3, "`columns.a.ge.options` is unknown"),
        ("columns:\n  a:\n    notin: []\n", 3, "must be a list of values"),
        ("columns:\n  a:\n    dtype:\n", 3, "`columns.a.dtype` has no value"),
        ("columns:\n  a:\n    checks:\n", 3, "`columns.a.checks` has no value"),
        ("columns:\n  a:\n    nullable: 3\n", 3, "must be true or false"),
        ("columns:\n  a:\n    report_duplicates: exclude_first\n", 3, "must be 'all'"),
        ("columns: {}\nreport_duplicates: sometimes\n", 2, "`report_duplicates` must be 'all', not 'sometimes'"),
        ("columns: {}\ndtype: Int64\n", 2, "`dtype` must be taken out: give each column its own"),
        ("columns: {}\nindex: [a]\n", 2, "`index` must be taken out"),
        ("columns: {}\nchecks: {ge: 0}\n", 2, "put them under a column"),
        ("columns: {}\nunique:\n", 2, "`unique` has no value"),
        ("columns: {}\nunique: []\n", 2, "`unique` must not be empty"),
        ("columns: {}\nunique: [a, a]\n", 2, "`unique` has a twice"),
        ("columns: {}\ntable:\n  serving: {data: d, keys: k, columns: [k, x]}\n", 3, "has k among its `keys`"),
        ("columns: {}\nunique: true\n", 2, "`unique` must be a list"),
        ("columns: {}\nstrict: filter\n", 2, "`strict` must be true or false"),
        ("columns: {}\ntable: {}\n", 2, "`table` must not be empty"),
        ("columns: {}\ntable:\n  drift:\n    a: {}\n", 4, "`table.drift.a` must not be empty; it takes psi, js, ks"),
        ("columns: {}\ntable:\n  drift:\n    a: {psi: .inf}\n", 4, "must be a finite number"),
        ("columns: {}\ntable:\n  rows: {min: 100, max: 5}\n", 3, "`table.rows` must have a max of at least its min"),
        ("columns: {}\ntable:\n  nulls: {}\n", 3, "`table.nulls` must not be empty"),
        ("columns: {}\ntable:\n  training: {label: ''}\n", 3, "`table.training.label` must not be empty"),
        ("columns: {}\ntable:\n  checks: {a: ''}\n", 3, "`table.checks.a` must not be empty"),
        ("columns: {}\ntable:\n  training: {max-power: 0.5}\n", 3, "has `max-power`, which needs `label`"),
        ("columns: {}\ntable:\n  training: {prediction-time: t}\n", 3, "which needs `known-at`"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path, text)
    assert words in str(raised.value)
    assert raised.value.place and raised.value.place.line == line


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        read(tmp_path, "columns:\n  a: {dtype: Int65}\n  b:\n    str_matches: '('\n")
    assert [part.place.line for part in raised.value.parts if part.place] == [2, 4]


def test_checks_of_a_column_may_stand_in_both_ways(tmp_path: Path) -> None:
    found = read(tmp_path, "columns:\n  a: {dtype: Int64, le: 9, checks: {ge: {value: 0, error: negative}}}\n")
    checks = found.schema.columns["a"].checks
    assert [(c.name, c.error) for c in checks] == [
        ("less_than_or_equal_to", "less_than_or_equal_to(9)"), ("greater_than_or_equal_to", "negative"),
    ]  # fmt: skip


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(40)]
    levels = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    (tmp_path / "c.yaml").write_text("\n".join(["columns: {}", "a0: &a0 [x]", *levels]))
    with pytest.raises(BadInput, match="stands for more than"):
        read_contract(tmp_path / "c.yaml", "c.yaml")


def test_no_contract_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"does not exist.*infer-schema"):
        read_contract(tmp_path / "none.yaml", "none.yaml")


@pytest.mark.parametrize(("text", "hours"), [("90min", 1.5), ("12h", 12), ("1.5d", 36), ("2w", 336), ("30 m", 0.5)])
def test_durations(text: str, hours: float) -> None:
    assert parse_duration(text) == dt.timedelta(hours=hours)
