"""The one reader of YAML: places, what is refused and where, and what a hostile text may cost."""

from __future__ import annotations

import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mlops_actions.errors import BadInput
from mlops_actions.yaml_io import DEEPEST, NotYaml, load_yaml, read_yaml

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LEVELS = [f"a{n}" for n in range(40)]
ALIASES = "\n".join(
    ["a0: &a0 [x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(LEVELS))]
)  # fmt: skip
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}" for a, b in pairwise(LEVELS))]
)  # fmt: skip


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
        ("a: 1\na: 2\n", 2, "stands twice"),
    ],
)
def test_what_is_not_read_is_bad_input_at_its_place(text: str, line: int, why: str) -> None:
    with pytest.raises(BadInput, match=why) as raised:
        read_yaml(text, "mlops.yaml")
    place = raised.value.place
    assert place and place.file == "mlops.yaml" and (line == 1 or place.line == line)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize("text", [ALIASES, MERGES], ids=["aliases", "merges"])
def test_a_bomb_costs_little_memory_and_time(text: str, tmp_path: Path) -> None:
    """In a process that may take 100 MB more than Python itself and 10 s of a processor."""
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    code = (
        "import resource, sys; from pathlib import Path; from mlops_actions.yaml_io import NotYaml, load_yaml\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load_yaml(Path(sys.argv[1]).read_text())\n"
        "except NotYaml: pass\n"
        "more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used\n"
        "assert more < 100_000 * (1024 if sys.platform == 'darwin' else 1), more\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], env={"PYTHONPATH": str(SCRIPTS), "PATH": ""}, capture_output=True,
        text=True, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (10, 10)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_text_and_not_a_file_says_what_is_wrong() -> None:
    with pytest.raises(NotYaml, match="line 2"):
        load_yaml("a: 1\n b: 2\n")
