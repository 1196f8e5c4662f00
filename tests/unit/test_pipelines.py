"""The parts of run-pipeline that need no process: conditions, parameters, specs, sources, metrics."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.environments import Environment, lock_of
from mlops_actions.errors import BadInput, Place
from mlops_actions.pipelines.engine import Artifact
from mlops_actions.pipelines.files import named_files
from mlops_actions.pipelines.finished import Background, FinishedTasks
from mlops_actions.pipelines.labels import label
from mlops_actions.pipelines.local.conditions import ConditionError, evaluate
from mlops_actions.pipelines.metrics import classifications, flat_metrics, left_out, logged
from mlops_actions.pipelines.parameters import read_parameters, resolve_parameters
from mlops_actions.pipelines.pythons import python_of
from mlops_actions.pipelines.roles import choose
from mlops_actions.pipelines.source import locate, python_files, stable
from mlops_actions.pipelines.spec import Parameter, Pipeline
from mlops_actions.stores.digests import tree_digest
from mlops_actions.stores.store import Store

X, Y = "inputs.parameter_values['x']", "inputs.parameter_values['y']"


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        (f"{X} == 'a'", {"x": "a"}, True),
        (f"{X} == 'it's'", {"x": "it's"}, True),
        (f"{X} == 'it's'", {"x": "its"}, False),
        (f"{X} == ''", {"x": ""}, True),
        (f"{X} == {Y}", {"x": "' or 'a' == 'a", "y": "b"}, False),
        (f"int({X}) > 2", {"x": 3}, True),
        (f"double(int({X})) > 2.5", {"x": 3}, True),
        (f"{X} <= 1e-05", {"x": 1e-6}, True),
        (f"{X} == true", {"x": False}, False),
        (f"!({X} == 'a')", {"x": "b"}, True),
        (f"!({X} == 'a') && !({Y} == 'b')", {"x": "c", "y": "b"}, False),
        (f"!({X} == 'it's') && {Y} == 'b'", {"x": "c", "y": "b"}, True),
        (f"!({X} == 'a') && {Y} != {X}", {"x": "c", "y": "b"}, True),
    ],
)
def test_conditions_compare_values(condition: str, values: dict[str, Any], holds: bool) -> None:
    assert evaluate(condition, values) is holds


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        (f"{X} = 'a'", {"x": "a"}),
        (f"{X} == 'a' || {X} == 'b'", {"x": "a"}),
        (f"'int({X})' == 'a'", {"x": "a"}),
        (f"{X} == 'a'", {}),
        (f"{X} > 1", {"x": "a"}),
        (f"int({X}) == 1", {"x": "a"}),
    ],
)
def test_a_condition_that_cannot_be_evaluated_is_an_error_not_false(condition: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConditionError):
        evaluate(condition, values)


def _resolve(kind: str, value: Any) -> Any:
    return resolve_parameters({"p": Parameter("p", kind, True)}, {"p": value}, "name")["p"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("NUMBER_INTEGER", "7", 7),
        ("NUMBER_INTEGER", 7.0, 7),
        ("NUMBER_INTEGER", 2**53 - 1, 2**53 - 1),
        ("NUMBER_INTEGER", str(2**60), 2**60),
        ("NUMBER_DOUBLE", 3, 3.0),
        ("NUMBER_INTEGER", "010", 10),
        ("NUMBER_INTEGER", "1e3", 1000),
        ("NUMBER_DOUBLE", "1e-05", 1e-05),
        ("STRING", "#fff", "#fff"),
        ("STRING", "a #1 b", "a #1 b"),
        ("STRING", "[1", "[1"),
        ("STRING", "null", "null"),
        ("LIST", "[a, b]", ["a", "b"]),
        ("STRING", "1.10", "1.10"),
        ("BOOLEAN", "False", False),
        ("LIST", [1, 2.5], [1, 2.5]),
        ("LIST", "[1, 2]", [1, 2]),
        ("STRUCT", '{"a": 1}', {"a": 1}),
    ],
)
def test_a_value_is_taken_for_its_type_when_nothing_is_lost(kind: str, value: Any, expected: Any) -> None:
    found = _resolve(kind, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("NUMBER_INTEGER", True),
        ("NUMBER_INTEGER", 1.5),
        ("NUMBER_INTEGER", "1.5"),
        ("NUMBER_INTEGER", "0x10"),
        ("NUMBER_INTEGER", "1_000"),
        ("NUMBER_INTEGER", "9" * 5000),
        ("NUMBER_INTEGER", str(2**53 + 1)),
        ("NUMBER_INTEGER", 2**63),
        ("NUMBER_DOUBLE", "inf"),
        ("NUMBER_DOUBLE", "1e999"),
        ("NUMBER_DOUBLE", 10**400),
        ("NUMBER_DOUBLE", "much"),
        ("NUMBER_DOUBLE", float("nan")),
        ("STRING", 1.1),
        ("STRING", True),
        ("BOOLEAN", 1),
        ("BOOLEAN", "yes"),
        ("LIST", {"a": 1}),
        ("LIST", "[1, 2"),
        ("STRUCT", [1]),
        ("STRUCT", "a"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(BadInput, match="'p' must be"):
        _resolve(kind, value)


def test_parameters_have_their_defaults_and_null_stands_for_one() -> None:
    declared = {
        "a": Parameter("a", "NUMBER_INTEGER", False, 1),
        "b": Parameter("b", "STRING", False),
        "c": Parameter("c", "LIST", False, [1]),
    }
    assert resolve_parameters(declared, {"a": None, "c": [2]}, "name") == {"a": 1, "c": [2]}
    with pytest.raises(BadInput, match="Did you mean `a`") as refused:
        resolve_parameters({"rate": declared["a"], "a": declared["b"]}, {"aa": 1}, "name")
    assert "It has: rate, a" in str(refused.value)


def test_parameter_files_keep_dates_and_small_numbers(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("day: 2013-01-31\nrate: 1e-3\nrates: [5e4, 1, 0.5]\n")
    assert read_parameters(tmp_path / "p.yaml") == {"day": "2013-01-31", "rate": 0.001, "rates": [5e4, 1, 0.5]}
    (tmp_path / "p.json").write_text('{"rate": 1e-05,}')
    with pytest.raises(BadInput, match=r"p.json is not valid JSON") as refused:
        read_parameters(tmp_path / "p.json")
    assert refused.value.place and refused.value.place.line == 1
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(BadInput, match="does not hold a mapping"):
        read_parameters(tmp_path / "list.yaml")


KFP_INSTALL = (
    "python3 -m pip install --quiet 'kfp==2.17.0' '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'"
)
PROGRAM = ["sh", "-ec", 'printf "%s" "$0" > "$program_path/ephemeral_component.py"', "def f(): pass"]


def _pipeline(*install: str, **more: Any) -> Pipeline:
    command = [*(["sh", "-c", "\n".join(install)] if install else []), *PROGRAM]
    spec = {
        "pipelineInfo": {"name": "p"},
        "sdkVersion": "kfp-2.17.0",
        "root": {"dag": {"tasks": {"f": {"componentRef": {"name": "comp-f"}}}}},
        "components": {"comp-f": {"executorLabel": "exec-f"}},
        "deploymentSpec": {"executors": {"exec-f": {"container": {"image": "python:3.11", "command": command}}}},
    }
    return Pipeline(Path("p.py"), {**spec, **more})


@pytest.mark.parametrize(
    ("install", "packages"),
    [
        ((), ()),
        ((f'PIP_DISABLE_PIP_VERSION_CHECK=1 {KFP_INSTALL} && "$0" "$@"',), ()),
        (
            (f"X=1 python3 -m pip install --quiet 'a==1' \"b>=2; python_version>'3.8'\"  &&  {KFP_INSTALL} && \"$0\"",),
            ("a==1", "b>=2; python_version>'3.8'"),
        ),
        (
            ('pip install --index-url https://i.test/simple --trusted-host i.test \'a\' && "$0" "$@"',),
            ("--index-url=https://i.test/simple", "--trusted-host=i.test", "a"),
        ),
        (("pip install 'a[x]' 'a[x]' 'kfp==2.8.0' && \"$0\" \"$@\"",), ("a[x]", "kfp==2.8.0")),
    ],
)
def test_packages_of_a_component_are_read_from_its_command(install: tuple[str, ...], packages: tuple[str, ...]) -> None:
    assert _pipeline(*install).packages() == {"exec-f": packages}


def test_an_environment_is_known_by_what_is_in_it_and_must_have_kfp_2(tmp_path: Path) -> None:
    pinned = re.search(r"^kfp==[^\s;]+", lock_of("pipelines").read_text(), re.MULTILINE)
    assert pinned

    def python(installed: str, version: str = "3.11.2") -> str:
        (tmp_path / "installed.txt").write_text(installed)
        (tmp_path / "pyvenv.cfg").write_text(f"home = /somewhere\nversion_info = {version}\n")
        return python_of(Environment(tmp_path, "pipelines-1"), _pipeline()).digest

    one = python(f"a==1\n{pinned[0]}\n")
    assert python(f"a==1\n{pinned[0]}\n") == one
    assert python(f"a==2\n{pinned[0]}\n") != one
    assert python(f"a==1\n{pinned[0]}\n", "3.12.1") != one
    with pytest.raises(BadInput, match=r"asks for kfp==1.8.22, and components run with kfp 2"):
        python("a==1\nkfp==1.8.22\n")


def test_the_digest_does_not_see_the_sdk_but_sees_the_code() -> None:
    assert _pipeline().digest == _pipeline(sdkVersion="kfp-2.18.0").digest
    assert _pipeline().digest != _pipeline("pip install 'a'").digest


def test_defaults_are_integers_again() -> None:
    declared = {
        "n": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0, "isOptional": True},
        "x": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 3.0, "isOptional": True},
        "l": {"parameterType": "LIST", "defaultValue": [1.0, {"a": 2.0, "b": 0.5}], "isOptional": True},
        "r": {"parameterType": "STRING"},
    }
    found = _pipeline(root={"dag": {}, "inputDefinitions": {"parameters": declared}}).parameters
    assert repr([found[name].default for name in "nxl"]) == "[3, 3.0, [1, {'a': 2, 'b': 0.5}]]"
    assert [found[name].required for name in "nxlr"] == [False, False, False, True]


def test_a_pipeline_that_wants_an_artifact_is_refused() -> None:
    wanted = {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
    with pytest.raises(BadInput, match="needs the artifact 'data'"):
        _pipeline(root={"dag": {}, "inputDefinitions": {"artifacts": wanted}}).require_parameters()


def _archive(when: int, content: bytes) -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size, member.mtime = len(content), when
        archive.addfile(member, io.BytesIO(content))
    return f"__KFP_EMBEDDED_ARCHIVE_B64 = '{base64.b64encode(packed.getvalue()).decode()}'\n"


def test_an_embedded_archive_counts_by_its_content_not_its_time() -> None:
    assert stable(_archive(1, b"x")) == stable(_archive(2, b"x"))
    assert stable(_archive(1, b"x")) != stable(_archive(1, b"y"))
    assert stable("def f(): pass") == "def f(): pass"


FILE = '''\
from kfp import dsl


@dsl.component
def other(n: int):
    print(n)


class Steps:
    @dsl.component(
        packages_to_install=["a"],
    )
    def train(
        n: int,
    ):
        """Doc."""
        x = 1

        return x / n
'''
EMBEDDED = '\nimport kfp\n\ndef train(\n    n: int,\n):\n    """Doc."""\n    x = 1\n\n    return x / n\n\n'


def test_a_line_of_a_component_is_found_in_the_consumers_file(tmp_path: Path) -> None:
    elsewhere = tmp_path / "steps" / "train.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(FILE)
    first = tmp_path / "pipeline.py"
    first.write_text("from steps.train import train\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "copy.py").write_text(FILE)
    files = list(python_files(first, tmp_path))
    assert files == [first, elsewhere]
    at = EMBEDDED.splitlines().index("    return x / n") + 1
    assert locate(EMBEDDED, at, files) == (elsewhere, FILE.splitlines().index("        return x / n") + 1)
    assert locate(EMBEDDED, None, files) == (elsewhere, FILE.splitlines().index("    def train(") + 1)
    assert locate(EMBEDDED.replace("x = 1", "x = 2"), at, files) is None


def _metrics(task: str, name: str, **values: Any) -> Artifact:
    return Artifact(task, name, "system.Metrics", "", "", values)


def test_metrics_have_the_shortest_name_that_is_theirs_alone() -> None:
    found = flat_metrics(
        [
            _metrics("a", "m", auc=0.5, rows=1, text="x", nothing=None),
            _metrics("b", "m", auc=0.6),
            _metrics("b", "n", auc=0.7),
            Artifact("a", "data", "system.Dataset", "", "", {"rows": 9}),
        ]
    )
    assert found == {"a.auc": 0.5, "b.m.auc": 0.6, "b.n.auc": 0.7, "rows": 1}


def test_what_was_logged_as_a_metric_and_is_no_number_is_said() -> None:
    said = left_out([_metrics("a", "m", auc=0.5, grade="good", loss=None, flag=True), _metrics("b", "m", x="0.9\n")])
    assert said == [
        "The metric a.grade is 'good', not a number, and is left out",
        "The metric a.loss is not a finite number, and is left out",
        "The metric a.flag is 'True', not a number, and is left out",
        "The metric b.x is '0.9\\n', not a number, and is left out",
    ]


def test_a_long_roc_curve_is_thinned_and_not_in_the_outputs() -> None:
    points = [
        {"falsePositiveRate": i / 999, "recall": i / 999, "confidenceThreshold": 1 - i / 999} for i in range(1000)
    ]
    artifact = Artifact("e", "c", "system.ClassificationMetrics", "", "", {"confidenceMetrics": points, "note": "x"})
    (found,) = classifications([artifact])
    assert len(found["roc"]) == 60
    assert found["roc"][0]["fpr"] == 0 and found["roc"][-1]["fpr"] == 1
    assert logged(artifact) == {"note": "x"}
    assert flat_metrics([artifact]) == {}


def test_the_model_is_the_named_one_then_the_one_called_model_then_the_only_one() -> None:
    one = Artifact("a", "classifier", "system.Model", "u1", "d")
    two = Artifact("b", "model", "system.Model", "u2", "d")
    data = Artifact("c", "model", "system.Dataset", "u3", "d")
    assert choose([one, data], "model", "") == (one, 1)
    assert choose([one, two, data], "model", "") == (two, 1)
    assert choose([one, two], "model", "a.classifier") == (one, 1)
    assert choose([one, Artifact("z", "other", "system.Model", "u", "d")], "model", "") == (None, 2)
    assert choose([one], "predictions", "") == (None, 0)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("", "t"),
        ("/exit-handler-1/condition-3", "t"),
        ("/condition-branches-2/inner", "inner/t"),
        ("/for-loop-2-iteration-1/inner/for-loop-1-iteration-0", "inner/t.1.0"),
    ],
)
def test_labels_of_tasks(scope: str, expected: str) -> None:
    assert label(scope, "t") == expected


def test_files_that_parameters_name_count_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1")
    (tmp_path / "folder").mkdir()
    value = {"a": ["data.csv", 3], "b": "folder", "c": "absent.csv", "d": "x" * 5000, "e": "\0", "f": ""}
    assert named_files(value, tmp_path) == {"data.csv": tree_digest(tmp_path / "data.csv")}


def test_a_finished_task_is_found_until_what_it_made_is_gone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("1")
    store = Store((tmp_path / "store").as_uri())
    made = {"name": "out", "type": "system.Model", "uri": "/elsewhere", "path": str(tmp_path / "out"), "digest": "d"}
    event = {"seconds": 1.5, "parameters": {"n": 1}, "artifacts": [{**made, "metadata": {}}]}
    tasks = FinishedTasks(store, tmp_path, reuse=True)
    tasks.keep("key", "train", "run", event, tmp_path / "no-log")
    found = tasks.find("key")
    assert found and found.artifacts[0].stored == "artifacts/run/train/out"
    assert FinishedTasks(store, tmp_path, reuse=False).find("key") is None
    store.delete("artifacts/run/train/out/x")
    assert tasks.find("key") is None


def test_an_upload_that_fails_is_raised_where_it_is_waited_for() -> None:
    background, done = Background(), []
    background.do(lambda: done.append(1))
    background.wait()
    assert done == [1]

    def fail() -> None:
        raise OSError("full")

    background.do(fail)
    with pytest.raises(OSError, match="full"):
        background.wait()


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "a\nb", "."])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    task = {"componentRef": {"name": "comp-f"}}
    with pytest.raises(BadInput, match="is not valid"):
        _pipeline(root={"dag": {"tasks": {name: task}}}).require_sound(Place("p.yaml"))
    component = {"executorLabel": "exec-f", "outputDefinitions": {"artifacts": {name: {}}}}
    with pytest.raises(BadInput, match="is not valid"):
        _pipeline(components={"comp-f": component}).require_sound(Place("p.yaml"))
