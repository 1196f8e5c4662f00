"""Where the keys of a YAML document stand, also where aliases are."""

from __future__ import annotations

from itertools import pairwise

import yaml

from mlops_actions.yaml_io import places


def found(text: str) -> dict[tuple[str | int, ...], tuple[int, int]]:
    return dict(places(yaml.compose(text)))


def test_what_an_alias_stands_for_has_the_place_where_it_is_written() -> None:
    there = found("a: &a {x: [1]}\nb: *a\n")
    assert there["a", "x", 0] == there["b", "x", 0] == (1, 12)


def test_an_alias_of_what_it_is_in_ends() -> None:
    assert found("a: &a [*a]\n") == {("a",): (1, 1), ("a", 0): (1, 4)}


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    names = [f"a{number}" for number in range(40)]
    levels = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    assert len(found("\n".join(["a0: &a0 [x]", *levels]))) == 100_000
