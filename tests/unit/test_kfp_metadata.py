"""ML Metadata's messages as far as they are read here, and what results are made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from mlops_actions.pipelines.engine import TaskResult
from mlops_actions.pipelines.kfp.client.api import ApiError
from mlops_actions.pipelines.kfp.metadata.executions import plain, recorded
from mlops_actions.pipelines.kfp.metadata.messages import classes
from mlops_actions.pipelines.kfp.metadata.results import pipeline_outputs

MESSAGES = classes()


class Answers:
    """Instead of a KFP: what its ML Metadata answers to each method."""

    def __init__(self, **answers: bytes) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def grpc_web(self, service: str, method: str, message: bytes) -> bytes:
        MESSAGES[f"{method}Request"].FromString(message)
        self.asked.append(method)
        return self._answers[method]


def _struct(**values: Any) -> Any:
    made = Struct()
    made.update(values)
    return MESSAGES["Value"](struct_value=made)


def test_messages_are_written_as_the_format_says() -> None:
    written = MESSAGES["GetContextByTypeAndNameRequest"](type_name="t", context_name="größe").SerializeToString()
    assert written == b"\x0a\x01t" + b"\x12\x07gr\xc3\xb6\xc3\x9fe"
    packed = MESSAGES["GetArtifactsByIDRequest"](artifact_ids=[1, 300], populate_artifact_types=True)
    assert packed.SerializeToString() == b"\x08\x01\x08\xac\x02\x18\x01"


def test_a_map_is_read_and_fields_that_are_not_known_are_passed_over() -> None:
    entry = b"\x0a\x03key" + b"\x12\x02\x08\x07"  # key = "key", value = {int_value: 7}
    context = b"\x08\x2a" + b"\x2a" + bytes([len(entry)]) + entry + b"\x52\x04text"  # the tenth field is unknown
    found = MESSAGES["Context"].FromString(context)
    assert found.id == 42
    assert plain(found.custom_properties["key"]) == 7


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\x0b", b"\xff" * 12])
def test_what_is_no_message_is_an_error_of_the_service(data: bytes) -> None:
    with pytest.raises(ApiError, match="not a protobuf message"):
        recorded(Answers(GetContextByTypeAndName=data), "run")  # type: ignore[arg-type]


def test_a_run_that_nobody_recorded_has_nothing() -> None:
    answers = Answers(GetContextByTypeAndName=b"")
    assert recorded(answers, "run").executions == ()  # type: ignore[arg-type]
    assert answers.asked == ["GetContextByTypeAndName"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MESSAGES["Value"](double_value=0.5), 0.5),
        (MESSAGES["Value"](double_value=math.nan), None),
        (MESSAGES["Value"](double_value=math.inf), None),
        (MESSAGES["Value"](int_value=-(2**40)), -(2**40)),
        (MESSAGES["Value"](bool_value=False), False),
        (_struct(list=[1, "x", True, None, 0.5, math.nan]), [1, "x", True, None, 0.5, None]),
        (_struct(struct={"a": 1}), {"a": 1}),
        (_struct(a=1, list=2), {"a": 1, "list": 2}),
        (_struct(a={"b": [{"c": 2.0**60}]}), {"a": {"b": [{"c": 2.0**60}]}}),
        (MESSAGES["Value"](), None),
    ],
)
def test_values_are_what_the_component_logged(value: Any, expected: Any) -> None:
    assert plain(value) == expected


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
