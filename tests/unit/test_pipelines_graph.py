"""The engine `local` without processes: values, placeholders, commands of containers, and the order of tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.pipelines.files import changed, listing, named_in_source
from mlops_actions.pipelines.local.containers import words
from mlops_actions.pipelines.local.graph import Call, Graph, State, Values
from mlops_actions.pipelines.local.values import ValueFault, as_text, fill, natural, read_output, select, typed
from mlops_actions.stores.digests import tree_digest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"), (1, "1"), (2.0, "2"), (2.5, "2.5"), (1e-7, "0.0000001"), (True, "true"), (None, ""),
        ([1.0, "ä"], '[1,"ä"]'), ({"b": 1, "a": [2.0]}, '{"a":[2],"b":1}'),
    ],
)  # fmt: skip
def test_text_is_what_the_backend_makes_of_a_value(value: Any, text: str) -> None:
    assert as_text(value) == text
    assert typed("x", value, "STRING") == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("NUMBER_INTEGER", 1.5), ("NUMBER_DOUBLE", 1), ("BOOLEAN", False), ("LIST", []), ("STRUCT", {}),
        ("TASK_FINAL_STATUS", {"state": "COMPLETE"}),
    ],
)  # fmt: skip
def test_a_value_of_its_type_is_taken(kind: str, value: Any) -> None:
    assert typed("x", value, kind) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [("NUMBER_INTEGER", "1"), ("NUMBER_DOUBLE", True), ("BOOLEAN", 1), ("LIST", "[1]"), ("STRUCT", [])],
)
def test_a_value_of_another_type_is_not(kind: str, value: Any) -> None:
    with pytest.raises(ValueFault, match="'x' must be"):
        typed("x", value, kind)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", " a\n", " a\n"), ("NUMBER_INTEGER", " 7\n", 7), ("NUMBER_DOUBLE", "1e3", 1000.0),
        ("NUMBER_INTEGER", str(2**60), 2**60),
        ("BOOLEAN", "True", True), ("BOOLEAN", "0", False), ("LIST", "[1]", [1]), ("STRUCT", "{}", {}),
    ],
)  # fmt: skip
def test_an_output_is_read_from_its_file(kind: str, text: str, value: Any) -> None:
    assert read_output("o", text, kind) == value


@pytest.mark.parametrize(
    ("kind", "text"), [("NUMBER_INTEGER", "1.5"), ("BOOLEAN", "yes"), ("LIST", "{}"), ("STRUCT", "x"), ("LIST", "")]
)
def test_an_output_of_another_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueFault, match="the output 'o' must be"):
        read_output("o", text, kind)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60) - 1, 2**63])
def test_an_integer_that_the_backend_would_round_is_refused(number: int) -> None:
    with pytest.raises(ValueFault, match=f"is {number}, and KFP passes integers as doubles"):
        read_output("o", str(number), "NUMBER_INTEGER")


def test_placeholders_are_replaced_once() -> None:
    inputs = {"a": "{{$.inputs.parameters['b']}}", "b": 2.0}
    value = {"{{$.inputs.parameters['b']}}": ["x-{{$.inputs.parameters['a']}}", "{{$.pipeline_job_name}}", 1]}
    filled = fill(value, inputs, {"{{$.pipeline_job_name}}": "job"})
    assert filled == {"2": ["x-{{$.inputs.parameters['b']}}", "job", 1]}
    with pytest.raises(ValueFault, match="the input 'c', which does not exist"):
        fill("{{$.inputs.parameters['c']}}", inputs, {})


def test_a_field_of_an_item_is_selected() -> None:
    assert select({"a": 1}, 'parseJson(string_value)["a"]') == select('{"a": 1}', 'parseJson(string_value)["a"]') == 1
    for value, expression in [
        ({"a": 1}, 'parseJson(string_value)["b"]'),
        (1, 'parseJson(string_value)["a"]'),
        ({}, "x"),
    ]:
        with pytest.raises(ValueFault):
            select(value, expression)


def test_a_containers_command_has_its_placeholders_replaced() -> None:
    command = [
        "echo", "{{$.inputs.parameters['n']}}", "--to={{$.outputs.artifacts['o'].path}}",
        '{"Concat": ["a=", "{{$.inputs.parameters[\'s\']}}", {"IfPresent": {"InputName": "s", "Then": "!"}}]}',
        '{"IfPresent": {"InputName": "absent", "Then": ["--x"], "Else": ["--y", "{{$.inputs.parameters[\'s\']}}"]}}',
        '{"IfPresent": {"InputName": "absent", "Then": "never"}}',
    ]  # fmt: skip
    constants = {"{{$.outputs.artifacts['o'].path}}": "/o"}
    assert words(command, {"n", "s"}, {"n": 3.0, "s": "q'"}, constants) == [
        "echo", "3", "--to=/o", "a=q'!", "--y", "q'",
    ]  # fmt: skip


class Recorder:
    """Runs nothing: a task fails if its name says so, and gives its inputs back."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.not_run: list[str] = []
        self.faults: dict[str, str] = {}
        self.at_work = self.most_at_work = 0
        self.given: dict[str, dict[str, Any]] = {}

    async def run(self, call: Call) -> tuple[State, Values]:
        self.ran.append(call.label)
        self.given[call.label] = call.inputs.parameters
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0)
        self.at_work -= 1
        return (
            ("FAILED", Values()) if "fail" in call.label else ("COMPLETE", Values({"Output": call.inputs.parameters}))
        )

    def skipped(self, tasks: list[str], condition: bool) -> None:
        self.not_run += tasks

    def failed(self, task: str, why: str) -> None:
        self.faults[task] = why


def _task(*after: str, component: str = "comp", inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    taken = {"parameters": inputs or {}}
    return {"componentRef": {"name": component}, "dependentTasks": list(after), "inputs": taken, **more}


def _run(tasks: dict[str, Any], parameters: dict[str, Any] | None = None, **components: Any) -> tuple[bool, Recorder]:
    recorder = Recorder()
    spec = {
        "root": {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": {"p": {"parameterType": "STRING"}}}},
        "components": {"comp": {"executorLabel": "exec"}, **components},
    }
    graph = Graph(spec, recorder, lambda name, label: {"{{$.pipeline_task_name}}": name}, "job")
    succeeded, _ = asyncio.run(graph.run(parameters or {}))
    return succeeded, recorder


def test_what_depends_on_a_failed_task_does_not_run_and_nothing_else_is_begun() -> None:
    exit_task = _task("a-fail", triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"})
    tasks = {"a-fail": _task(), "b": _task("a-fail"), "c": _task(), "d": _task("c"), "e": exit_task}
    succeeded, recorder = _run(tasks)
    assert not succeeded
    assert recorder.ran[:2] == ["a-fail", "c"] and "e" in recorder.ran
    assert "b" in recorder.not_run and "b" not in recorder.ran


def test_tasks_that_do_not_wait_for_each_other_run_at_once() -> None:
    assert _run({name: _task() for name in "abc"})[1].most_at_work == 3


def test_a_loop_keeps_its_limit_and_stops_at_a_failure() -> None:
    body = {"dag": {"tasks": {"t": _task(inputs={"x": {"componentInputParameter": "item"}})}}}
    loop = _task(
        component="loop", iteratorPolicy={"parallelismLimit": 2},
        parameterIterator={"items": {"raw": "[1, 2, 3, 4, 5]"}, "itemInput": "item"},
    )  # fmt: skip
    succeeded, recorder = _run({"for-loop-1": loop}, loop=body)
    assert succeeded and recorder.most_at_work == 2
    assert [recorder.given[f"t.{i}"]["x"] for i in range(5)] == [1, 2, 3, 4, 5]
    body["dag"]["tasks"]["fail"] = body["dag"]["tasks"].pop("t")
    loop["iteratorPolicy"] = {"parallelismLimit": 1}
    succeeded, recorder = _run({"for-loop-1": loop}, loop=body)
    assert not succeeded
    assert recorder.ran == ["fail.0"] and recorder.not_run == [f"fail.{i}" for i in range(1, 5)]


def test_only_what_the_compiler_wrote_is_looked_at_for_placeholders() -> None:
    text = "{{$.inputs.parameters['x']}} {{$.pipeline_task_name}}"
    inputs = {
        "x": {"componentInputParameter": "p"},
        "y": {"runtimeValue": {"constant": "{{$.inputs.parameters['x']}} {{$.pipeline_task_name}}"}},
    }
    _, recorder = _run({"a": _task(inputs=inputs)}, {"p": text})
    assert recorder.given["a"] == {"x": text, "y": f"{text} a"}


def test_a_task_waits_for_what_it_takes_though_the_compiler_forgot_to_say_so() -> None:
    inputs = {"x": {"taskOutputParameter": {"producerTask": "z", "outputParameterKey": "Output"}}}
    succeeded, recorder = _run({"a": _task(inputs=inputs), "z": _task()})
    assert succeeded and recorder.ran == ["z", "a"]


def test_an_input_that_no_task_gives_is_a_fault_of_that_task() -> None:
    inputs = {"x": {"taskOutputParameter": {"producerTask": "a", "outputParameterKey": "other"}}}
    succeeded, recorder = _run({"a": _task(), "b": _task("a", inputs=inputs)})
    assert not succeeded
    assert recorder.faults == {"b": "the input 'x' has no value: the task 'a' did not give it"}


def test_numbers_without_a_fraction_are_integers() -> None:
    assert repr(natural({"a": [1.0, 2.5, True, None, 1e30]})) == "{'a': [1, 2.5, True, None, 1e+30]}"


def test_files_that_a_source_names_and_their_changes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1")
    source = "def f():\n    '''data/a.csv in a text'''\n    open('data/a.csv'), 'data', 'absent', 3\n"
    files = named_in_source(source, tmp_path)
    assert files == {"data/a.csv": tree_digest(tmp_path / "data/a.csv")}
    assert named_in_source("not python (", tmp_path) == {}
    seen = {**files, "data": listing(tmp_path / "data")}
    assert changed(seen, tmp_path) == ""
    (tmp_path / "data/b.csv").touch()
    assert changed(seen, tmp_path) == "data"
    (tmp_path / "data/a.csv").unlink()
    assert changed(seen, tmp_path) == "data/a.csv"
