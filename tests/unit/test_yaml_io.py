"""The one reader of YAML: places, and what is refused and where."""

from __future__ import annotations

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.yaml_io import DEEPEST, NotYaml, load_yaml, read_yaml
from yaml_bombs import ALIASES, MERGES


def test_what_an_alias_stands_for_has_the_place_where_it_is_written() -> None:
    there = read_yaml("a: &a {x: [1]}\nb: *a\n", "f.yaml").places
    assert there["a", "x", 0] == there["b", "x", 0] == (1, 12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("010", 10), ("0x1f", 31), ("12:30", "12:30"), ("2013-06-01", "2013-06-01"), ("", None),
        ("{a: &a [1], b: *a}", {"a": [1], "b": [1]}), ("<<: {a: 1}\nb: 2", {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert load_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (ALIASES, 1, "stands for more than"),
        (MERGES, 1, "stands for more than"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), 1, "levels deep"),
        ("a: &a [*a]\n", 1, "alias"),
        ("a: 1\nb: !!int x\n", 2, "not what !!int stands for"),
        ("a: 1\nb: !!float x\n", 2, "not what !!float stands for"),
        ("a: 1\nb: !!binary x\n", 2, "ould not determine a constructor|not what"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "ould not determine a constructor"),
        ("a: 1\nb: " + "9" * 5000, 2, "an integer of 5000 digits"),
        ("a: 1\nb: \x01\n", 2, r"U\+0001"),
        ("a: 1\nb: [1\n", 3, "expected"),
        ("a: 1\na: 2\n", 2, "appears twice"),
    ],
)
def test_what_is_not_read_is_bad_input_at_its_place(text: str, line: int, why: str) -> None:
    with pytest.raises(BadInput, match=why) as raised:
        read_yaml(text, "mlops.yaml")
    place = raised.value.place
    assert place and place.file == "mlops.yaml" and (line == 1 or place.line == line)


def test_a_text_and_not_a_file_says_what_is_wrong() -> None:
    with pytest.raises(NotYaml, match="line 2"):
        load_yaml("a: 1\n b: 2\n")
