"""The matrix of test-model: which environment is tested, where, and the environments side by side."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from mlops_actions.actions import test_model
from mlops_actions.actions.test_model import TestModelInputs
from mlops_actions.errors import BadInput
from mlops_actions.evaluation import matrix, side_by_side
from mlops_actions.evaluation.expectations import Expectation, Expectations, change, judge
from mlops_actions.evaluation.golden import Tolerance
from mlops_actions.evaluation.matrix import Leg, Legs, elsewhere, github_matrix, leg_of

FRAME = pl.DataFrame({"hour": [1, 22, 23], "carrier": ["AA", "UA", None], "late": [0.5, 1.5, 2.5]})


def legs(**values: object) -> dict[str, Leg]:
    found: dict[str, Leg] = TypeAdapter(Legs).validate_python(values)
    return found


def expectation(**values: object) -> Expectation:
    return TypeAdapter(Expectations).validate_python({"it": values})["it"]


def test_an_environment_is_found_by_its_name_or_as_the_only_one() -> None:
    two = legs(old={"python": "3.10"}, new=None)
    assert leg_of(two, "old") == ("old", Leg(python="3.10"))
    assert leg_of(legs(old={"python": "3.10"}), "")[0] == "old"
    assert leg_of({}, "whatever") == ("whatever", Leg())
    with pytest.raises(BadInput, match=r"has no environment 'odl'\. Did you mean `old`\?"):
        leg_of(two, "odl")
    with pytest.raises(BadInput, match="has 2 environments, and none is named: old, new"):
        leg_of(two, "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"a": 1}, "valid dictionary"),
        ({"a": {"os": "x"}}, "Extra inputs"),
        ({"a/b": {}}, "becomes a part of a path"),
        ({"..": {}}, "becomes a part of a path"),
        ({"a": {"python": 3.1}}, '"3.10"'),
        ({"a": {"dependencies": "high"}}, "'locked', 'lowest' or 'newest'"),
        ({"a": {"gpu": "perhaps"}}, "boolean"),
        ({"a": {"runs-on": {"groups": "x"}}}, "Extra inputs"),
    ],
)  # fmt: skip
def test_a_wrong_environment_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        legs(**values)


def test_versions_are_texts() -> None:
    made = legs(a={"python": 3.12}, b={"python": "3.10"}, c={"python": 3})
    assert [leg.python for leg in made.values()] == ["3.12", "3.10", "3"]


@pytest.mark.parametrize(
    ("system", "machine", "here", "not_here"),
    [
        ("Linux", "x86_64", ["ubuntu-latest", "linux", "my-own", "X64"], ["windows-2025", "macOS", "ubuntu-24.04-arm"]),
        ("Linux", "aarch64", ["ubuntu-24.04-arm", "ARM64"], ["x64", "macos-15"]),
        ("Darwin", "arm64", ["macos-15", "macos-latest"], ["ubuntu-latest", "macos-15-x64"]),
        ("Windows", "AMD64", ["windows-latest", "Windows"], ["linux", "windows-11-arm"]),
    ],
)  # fmt: skip
def test_an_environment_of_another_system_or_processor_is_not_tested_here(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, here: list[str], not_here: list[str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert [elsewhere(label) for label in (*here, "", ["self-hosted", here[0]], {"group": "g"})] == [""] * (
        len(here) + 3
    )
    assert all(label in elsewhere(label) for label in not_here)
    assert not_here[0] in elsewhere(["self-hosted", not_here[0]])
    assert not_here[0] in elsewhere({"group": "big", "labels": not_here[0]})


def test_an_environment_that_must_have_a_gpu_is_tested_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [leg.get("gpu", False) for leg in github_matrix(legs(big={"gpu": True}, small={}))] == [True, False]
    for found, words in (([], "needs a GPU"), (["A GPU, 16 GB"], "")):
        monkeypatch.setattr(matrix, "gpus", lambda found=found: found)
        assert words in elsewhere("", gpu=True) and bool(elsewhere(["self-hosted", "gpu"], gpu=True)) == bool(words)
        assert elsewhere("") == ""


def test_golden_rows_are_changed_all_at_once_and_keep_their_types() -> None:
    made = change(FRAME, "it", expectation(change={"hour": "hour + 1", "late": "hour / 2.0"}, where="hour < 23"))
    assert made.rows == [0, 1]
    assert [(one["name"], one["datatype"], one["data"]) for one in made.inputs] == [
        ("hour", "INT64", [2, 23]),
        ("carrier", "BYTES", ["AA", "UA"]),
        ("late", "FP64", [0.5, 11.0]),  # of the hour as it was
    ]
    assert change(FRAME, "it", expectation(change={"carrier": "'DL'"})).inputs[1]["data"] == ["DL"] * 3
    assert change(FRAME, "it", expectation(change={"late": 7})).inputs[2]["data"] == [7.0] * 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"change": {"houre": 1}}, "The golden file has no column 'houre'.*Did you mean `hour`"),
        ({"change": {"hour": "hour +"}}, r"`change.hour` of the expectation 'it' cannot be applied: hour \+"),
        ({"change": {"hour": "AA"}}, "a text is 'in single quotes'"),
        ({"change": {"hour": "'AA'"}}, "`change.hour` of the expectation 'it' cannot be applied: 'AA'"),
        ({"change": {"hour": 1}, "where": "houre > 1"}, "`where` of the expectation 'it'"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_made_is_bad_input(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        change(FRAME, "it", expectation(**values))


@pytest.mark.parametrize(
    ("expect", "after", "failures"),
    [
        ("unchanged", [1.0, 2.0], 0),
        ("unchanged", [1.1, 2.0], 1),
        ("increasing", [1.5, 2.0], 0),
        ("increasing", [0.5, 1.0], 2),
        ("decreasing", [0.5, 1.0], 0),
        ("decreasing", [1.5, 2.0], 1),
        ("increasing", [float("nan"), 3.0], 1),
        ("decreasing", ["low", 1.0], 1),
    ],
)  # fmt: skip
def test_a_prediction_must_move_as_expected(expect: str, after: list[Any], failures: int) -> None:
    asked = expectation(change={"hour": 1}, expect=expect)
    found = judge("it", asked, [0, 1], [1.0, 2.0], after, Tolerance())
    assert (len(found.failures), found.passed) == (failures, not failures)


def test_an_expectation_allows_a_distance_and_a_share_of_rows() -> None:
    before, after = [1.0, 1.0, 1.0, 1.0], [0.9, 0.5, 1.0, 2.0]
    near = expectation(change={"hour": 1}, expect="increasing", tolerance=0.2)
    found = judge("it", near, range(4), before, after, Tolerance())
    assert found.failures == [(2, 1.0, 0.5)] and not found.passed
    assert found.said == "1 of 4 predictions went down, row 2 the most by 0.5: from 1.0 to 0.5"
    some = expectation(change={"hour": 1}, expect="increasing", tolerance=0.2, **{"max-failures": 0.25})
    assert judge("it", some, range(4), before, after, Tolerance()).passed


def test_an_expectation_of_no_row_fails() -> None:
    found = judge("it", expectation(change={"hour": 1}, where="hour > 99"), [], [1.0], [], Tolerance())
    assert not found.passed and found.said == "no golden row is changed where hour > 99"
    found = judge("it", expectation(change={"hour": 1}), [], [1.0], [], Tolerance())
    assert not found.passed and found.said == "no golden row is changed: they have these values"


def test_a_row_that_has_the_new_values_is_not_changed() -> None:
    frame = pl.DataFrame({"hour": [1, 2, None], "carrier": ["AA", "AA", "AA"]})
    assert change(frame, "it", expectation(change={"carrier": "'AA'"})).rows == []
    assert change(frame, "it", expectation(change={"carrier": "'AA'", "hour": 1})).rows == [1, 2]


@dataclass
class Record:
    details: dict[str, Any]
    outputs: dict[str, Any]


def record(name: str, apart: list[dict[str, Any]], **values: Any) -> Record:
    facts = {"python": "3.11.7", "packages": {"numpy": values.pop("numpy", "2.0")}}
    return Record({"variant": name, "facts": facts, "apart": apart, "checks": []}, {"verdict": "passed", **values})


def test_environments_are_shown_side_by_side_with_the_rows_where_they_part() -> None:
    far = side_by_side.apart([1.0, 2.0, "late"], [1.0, 2.5, "early"])
    assert [(one["row"], one["difference"]) for one in far] == [(3, None), (2, 0.5)]
    tested = [record("a", []), record("b", far[1:], mismatches=1, numpy="1.26"), record("c", far, mismatches=2)]
    rows = side_by_side.table(tested)
    assert [(one["name"], one["worst"], one["row"]) for one in rows] == [
        ("a", 0.0, None),
        ("b", 0.5, 2),
        ("c", None, 3),
    ]
    assert side_by_side.parted(rows)[1] == {"row": 2, "expected": 2.0, "is": {"b": 2.5, "c": 2.5}, "far": 0.5}
    assert side_by_side.differing_packages(rows) == [("numpy", ["2.0", "1.26", "2.0"])]


def test_the_last_test_of_an_environment_counts_and_one_alone_has_no_table() -> None:
    assert side_by_side.shown([record("a", [])]) is None
    assert side_by_side.shown([record("a", []), record("a", [])]) is None
    shown = side_by_side.shown([record("a", []), record("b", []), record("a", [], verdict="rejected")])
    assert shown and [row[:3] for row in shown[1]] == [["b", "3.11.7", "yes"], ["a", "3.11.7", "NO"]]


def test_the_example_of_the_documentation_is_read_as_it_stands() -> None:
    example = (test_model.__doc__ or "").split("```yaml\n")[1].split("```")[0]
    made = TestModelInputs.model_validate(yaml.safe_load(example)["test-model"])
    assert made.matrix["lowest"].python == "3.10" and made.matrix["gpu"].gpu and made.matrix["image"].image == "built"
    assert made.expectations["later-is-worse"].expect == "increasing"
