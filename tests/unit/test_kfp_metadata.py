"""Protobuf's wire format as far as it is read here, and what results are made of it."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from mlops_actions.pipelines.engine import TaskResult
from mlops_actions.pipelines.kfp.metadata import _plain
from mlops_actions.pipelines.kfp.results import pipeline_outputs
from mlops_actions.pipelines.kfp.wire import Field, Malformed, MapOf, Struct, read, write

FIELDS = {1: Field("id", int), 2: Field("name", str), 3: Field("ids", int, repeated=True)}


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**62, -1, -(2**40)])
def test_numbers_come_back_as_they_went(number: int) -> None:
    assert read(write(1, number), FIELDS)["id"] == number


def test_fields_that_are_not_known_are_passed_over_whatever_their_kind() -> None:
    unknown = write(9, 7) + write(10, "text") + b"\x59" + struct.pack("<d", 1.5) + b"\x65" + b"\0\0\0\0"
    assert read(unknown + write(2, "größe") + write(3, 1) + write(3, 2), FIELDS) == {"name": "größe", "ids": [1, 2]}


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x05ab", b"\x0b", b"\xff" * 12])
def test_what_is_cut_or_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data, FIELDS)


def test_every_cut_of_a_message_is_read_or_refused_but_never_something_else() -> None:
    data = write(1, 300) + write(2, "a text") + write(3, 5)
    for end in range(len(data)):
        try:
            read(data[:end], FIELDS)
        except Malformed:
            pass


def test_maps_and_structs_are_json() -> None:
    number = write(1, "n") + write(2, b"\x11" + struct.pack("<d", 2.0))
    inner = write(1, "list") + write(
        2, write(6, write(1, write(3, "x")) + write(1, write(4, 1)) + write(1, write(1, 0)))
    )
    entry = write(1, "key") + write(2, write(4, write(1, number) + write(1, inner)))
    fields = {5: Field("properties", MapOf({4: Field("struct", Struct)}))}
    assert read(write(5, entry), fields) == {"properties": {"key": {"struct": {"n": 2, "list": ["x", True, None]}}}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"double": 0.5}, 0.5),
        ({"double": math.nan}, None),
        ({"double": math.inf}, None),
        ({"struct": {"list": [1]}}, [1]),
        ({"struct": {"struct": {"a": 1}}}, {"a": 1}),
        ({"struct": {"a": 1, "list": 2}}, {"a": 1, "list": 2}),
        ({}, None),
    ],
)
def test_values_are_what_the_component_logged(value: dict[str, Any], expected: Any) -> None:
    assert _plain(value) == expected


def _output(task: str, key: str = "Output") -> dict[str, Any]:
    return {"valueFromParameter": {"producerSubtask": task, "outputParameterKey": key}}


def test_the_pipelines_outputs_are_found_in_groups_loops_and_branches() -> None:
    inside = {"outputs": {"parameters": {"made": _output("t")}}, "tasks": {"t": {"componentRef": {"name": "c"}}}}
    first = {"producerSubtask": "a", "outputParameterKey": "Output"}
    second = {"producerSubtask": "b", "outputParameterKey": "Output"}
    spec = {
        "components": {"c": {"executorLabel": "e"}, "g": {"dag": inside}},
        "root": {
            "dag": {
                "tasks": {
                    **{name: {"componentRef": {"name": "c"}} for name in "ab"},
                    "n": {"componentRef": {"name": "g"}},
                    "for-loop-1": {"componentRef": {"name": "g"}, "parameterIterator": {}},
                },
                "outputs": {
                    "parameters": {
                        "nested": _output("n", "made"),
                        "all": _output("for-loop-1", "made"),
                        "either": {"valueFromOneof": {"parameterSelectors": [first, second]}},
                        "none": _output("a"),
                    }
                },
            }
        },
    }
    made = {"n/t": 1, "t.0": 10, "t.1": 11, "b": 3}
    tasks = [TaskResult(name, "succeeded", parameters={"Output": value}) for name, value in made.items()]
    assert pipeline_outputs(spec, tasks) == {"nested": 1, "all": [10, 11], "either": 3}
