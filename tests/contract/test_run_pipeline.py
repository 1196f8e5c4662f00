"""`mlops run-pipeline`, as a person or a step calls it: real pipelines on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_actions.processes.identity import Identity
from pipeline_worlds import Mlops, Run, runner

ROOT = Path(__file__).resolve().parents[2]

HEAD = """\
from typing import List, NamedTuple
from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output, PipelineTaskFinalStatus

component = dsl.component(base_image="python:3.11")

"""
TRAINING = (
    HEAD
    + """
@component
def load(rows: int, out: Output[Dataset]):
    print("loading", rows)
    with open(out.path, "w") as file:
        file.write("1\\n" * rows)


@component
def train(data: Input[Dataset], rate: float, model: Output[Model], metrics: Output[Metrics]) -> int:
    import os

    os.makedirs(model.path)
    with open(data.path) as file, open(os.path.join(model.path, "model.pkl"), "w") as target:
        count = len(file.readlines())
        target.write(str(count * rate))
    metrics.log_metric("rows", count)
    metrics.log_metric("loss", 1 / rate)
    return count


@component
def evaluate(
    model: Input[Model],
    metrics: Output[Metrics],
    classes: Output[ClassificationMetrics],
    predictions: Output[Dataset],
    golden: Output[Dataset],
):
    with open(model.path + "/model.pkl") as file:
        score = float(file.read())
    metrics.log_metric("score", score)
    metrics.log_metric("loss", 0.25)
    classes.log_confusion_matrix(["a", "b"], [[3, 1], [0, 4]])
    classes.log_roc_curve([0.0, 0.5, 1.0], [0.0, 0.9, 1.0], [float("inf"), 0.5, 0.1])
    for artifact in (predictions, golden):
        with open(artifact.path, "w") as file:
            file.write("label,score\\n1,0.5\\n")


@dsl.pipeline(name="training")
def training(rows: int = 3, rate: float = 0.5):
    loaded = load(rows=rows)
    trained = train(data=loaded.outputs["out"], rate=rate)
    evaluate(model=trained.outputs["model"])
"""
)


@pytest.fixture
def run(tmp_path: Path, mlops: Mlops) -> Run:
    return runner(tmp_path, mlops)


def test_outputs_are_what_the_next_actions_need(run: Run, tmp_path: Path) -> None:
    done, made = run({"pipeline.py": TRAINING}, "--parameters", "rate=2", "--data-fingerprint", "sha256:abc")
    assert done.returncode == 0, done.stderr
    assert made["parameters"] == {"rows": 3, "rate": 2.0}
    assert made["metrics"] == {"rows": 3, "train.loss": 0.5, "score": 6.0, "evaluate.loss": 0.25}
    assert made["results"] == {"train.Output": 3}
    assert made["pipeline"] == "training"
    assert made["data-fingerprint"] == "sha256:abc"
    key = made["pipeline-key"]
    assert made["model-uri"] == f"file://{tmp_path}/store/artifacts/{key}/train/model"
    assert made["predictions-uri"].endswith(f"{key}/evaluate/predictions")
    assert made["golden-uri"].endswith(f"{key}/evaluate/golden")
    assert (tmp_path / "store/artifacts" / key / "train/model/model.pkl").read_text() == "6", (
        "2.0 is 2 in JSON, as on KFP"
    )
    by_name = {artifact["name"]: artifact for artifact in made["artifacts"] if artifact["task"] != "evaluate"}
    assert made["record"]["subject"] == {"model": by_name["model"]["digest"]}
    classification = made["record"]["details"]["classification"][0]
    assert classification["matrix"] == [[3, 1], [0, 4]]
    assert classification["roc"][0] == {"fpr": 0.0, "tpr": 0.0, "threshold": None}
    assert not list((tmp_path / "home/pipelines").glob("*")), "the folder of a run that succeeded is left behind"


def test_the_same_run_is_found_and_a_changed_one_redoes_only_what_depends(run: Run) -> None:
    _, first = run({"pipeline.py": TRAINING})
    again, second = run({})
    assert "Reused" in again.stderr
    assert second["record"]["reused"] is True
    assert second["model-uri"] == first["model-uri"]

    changed, third = run({"pipeline.py": TRAINING.replace("count * rate", "count + rate")})
    assert "load (reused)" in changed.stderr
    assert "train ✓" in changed.stderr and "evaluate ✓" in changed.stderr
    assert third["metrics"]["score"] == 3.5
    load = {a["uri"] for a in first["artifacts"] if a["task"] == "load"}
    assert load == {a["uri"] for a in third["artifacts"] if a["task"] == "load"}

    other_data, _ = run({}, "--data-fingerprint", "sha256:other")
    assert "reused" not in other_data.stderr
    forced, _ = run({}, "--no-reuse")
    assert "reused" not in forced.stderr and "load ✓" in forced.stderr


def test_a_task_that_must_not_be_cached_runs_again(run: Run) -> None:
    text = TRAINING.replace("load(rows=rows)", "load(rows=rows).set_caching_options(False)")
    run({"pipeline.py": text})
    done, _ = run({}, "--parameters", "rate=4")
    assert "load ✓" in done.stderr
    done, _ = run({}, "--parameters", "rate=0.5", "--image", "example@sha256:1")
    assert "load ✓" in done.stderr and "train (reused)" in done.stderr


def test_fingerprints_come_from_the_earlier_actions_of_the_run(run: Run, tmp_path: Path) -> None:
    record = {
        "action": "validate-data",
        "run": "7-1",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1,
        "outputs": {"fingerprint": "sha256:data", "rows": 4},
    }
    folder = tmp_path / "store/runs/7-1"
    folder.mkdir(parents=True)
    (folder / "validate-data.json").write_text(json.dumps(record))
    _, made = run({"pipeline.py": TRAINING}, "--run", "7-1")
    assert made["data-fingerprint"] == "sha256:data"


CONTROL = (
    HEAD
    + """
@component
def echo(v: str) -> str:
    return v


@component
def types(i: int, xs: List[int], cfg: dict, x: float) -> str:
    import json

    return json.dumps([i, xs, cfg, x], sort_keys=True)


@component
def gen() -> NamedTuple("o", [("ns", List[int]), ("one", int)]):
    return ([1, 2, 3], 7)


@component
def add(a: int, b: int, out: Output[Dataset]) -> int:
    assert type(a) is int and type(b) is int, (a, b)
    with open(out.path, "w") as file:
        file.write(str(a + b))
    return a + b


@component
def total(ns: List[int], parts: Input[List[Dataset]]) -> int:
    assert [int(open(part.path).read()) for part in parts] == ns
    return sum(ns)


@component
def scaled(item: int, by: int) -> int:
    return item * by


@component
def goodbye(status: PipelineTaskFinalStatus) -> str:
    return status.state


@dsl.pipeline(name="inner")
def inner(q: int) -> int:
    first = add(a=q, b=1)
    return add(a=first.outputs["Output"], b=1).outputs["Output"]


@dsl.pipeline(name="control")
def control(
    n: int = 3,
    xs: List[int] = [1, 2, 3],
    s: str = "it's",
    half: float = 0.5,
    ok: bool = True,
    cfg: dict = {"b": [1, 2.5], "a": 1},
) -> int:
    with dsl.ExitHandler(goodbye()):
        types(i=n, xs=xs, cfg=cfg, x=half)
        said = echo(v=s)
        with dsl.If(said.output == "it's"):
            echo(v="quote in the literal")
        with dsl.Elif(said.output != s):
            echo(v="never: elif")
        with dsl.Else():
            echo(v="never: else")
        with dsl.If(said.output == s):
            echo(v="quote in the value")
        with dsl.If(n > 2.5):
            echo(v="integer and float")
        with dsl.If(ok == False):
            echo(v="never: not ok")
        made = gen()
        with dsl.ParallelFor(made.outputs["ns"]) as i:
            one = add(a=i, b=made.outputs["one"])
        total(ns=dsl.Collected(one.outputs["Output"]), parts=dsl.Collected(one.outputs["out"]))
        nested = inner(q=n)
    with dsl.ParallelFor([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) as item:
        scaled(item=item.a, by=item.b)
    return inner(q=n).output
"""
)


def test_control_flow_and_types_are_right(run: Run) -> None:
    done, made = run({"flow.py": CONTROL}, "--pipeline", "flow.py", "--pipeline-name", "control")
    assert done.returncode == 0, done.stderr
    results = made["results"]
    assert json.loads(results["types.Output"]) == [3, [1, 2, 3], {"a": 1, "b": [1, 2.5]}, 0.5]
    assert "1.0" not in results["types.Output"], "an integer in a list became a float"
    said = {value for name, value in results.items() if name.startswith("echo")}
    assert said == {"it's", "quote in the literal", "quote in the value", "integer and float"}
    assert [results[f"add.{i}.Output"] for i in range(3)] == [8, 9, 10]
    assert results["total.Output"] == 27
    assert [results[f"scaled.{i}.Output"] for i in range(2)] == [2, 12]
    assert results["inner/add-2.Output"] == 5
    assert results["Output"] == 5
    assert results["goodbye.Output"] == "COMPLETE"
    skipped = {t["name"] for t in made["record"]["details"]["tasks"] if t["state"] == "skipped"}
    assert len(skipped) == 3 and all(name.startswith("echo") for name in skipped)


FAILING = (
    HEAD
    + '''
@component
def fine() -> int:
    return 1


@component
def train(n: int):
    """A docstring."""
    print("reading the data")

    def pick(values):
        return values[n]  # this line

    pick([])


@component
def helped():
    import helpers


@component
def flaky(counter: str, out: Output[Dataset]):
    import os

    os.mkdir(out.path)
    number = len(os.listdir(counter))
    open(os.path.join(counter, str(number)), "w").close()
    if number < 2:
        raise RuntimeError("not yet")


@component
def goodbye(status: PipelineTaskFinalStatus):
    print("state:", status.state)


@dsl.pipeline(name="failing")
def failing(n: int = 3):
    train(n=n).after(fine())


@dsl.pipeline(name="handled")
def handled():
    with dsl.ExitHandler(goodbye()):
        train(n=1)


@dsl.pipeline(name="missing")
def missing():
    helped()


@dsl.pipeline(name="retrying")
def retrying(counter: str):
    flaky(counter=counter).set_retry(3, backoff_duration="0s")
'''
)


def test_a_failing_task_is_one_annotation_at_its_line_with_its_own_log(run: Run) -> None:
    done, _ = run(
        {"jobs/p.py": FAILING}, on_runner=True, INPUT_PIPELINE="jobs/p.py", INPUT_PIPELINE_NAME="failing"
    )  # fmt: skip
    assert done.returncode == 1
    assert "train | reading the data" in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    line = FAILING.splitlines().index("        return values[n]  # this line") + 1
    assert len(errors) == 1
    assert errors[0].startswith(f"::error title=Failed,file=jobs/p.py,line={line}::The task 'train' failed.")
    assert "IndexError: list index out of range" in errors[0]
    assert "%0Areading the data%0A" in errors[0]
    assert done.stdout.count("fine ✓") == 1


def test_finished_tasks_of_a_failed_run_are_taken_over(run: Run) -> None:
    options = ("--pipeline", "p.py", "--pipeline-name", "failing")
    run({"p.py": FAILING}, *options)
    done, _ = run({"p.py": FAILING.replace("pick([])", "pick([1] * 9)")}, *options)
    assert done.returncode == 0, done.stderr
    assert "fine (reused)" in done.stderr


def test_an_exit_handler_runs_after_a_failure_and_the_run_still_fails(run: Run, tmp_path: Path) -> None:
    done, _ = run({"p.py": FAILING}, "--pipeline", "p.py", "--pipeline-name", "handled")
    assert done.returncode == 1
    assert "goodbye ✓" in done.stderr
    assert "The task 'train' failed. IndexError" in done.stderr
    logs = [path.read_text() for path in (tmp_path / "store/artifacts").glob("*/goodbye/log.txt")]
    assert logs == ["state: FAILED\n"]


def test_a_task_is_tried_again_as_often_as_it_asks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "counter").mkdir()
    options = ("--pipeline", "p.py", "--pipeline-name", "retrying", "--parameters", f"counter={tmp_path}/counter")
    done, _ = run({"p.py": FAILING}, *options)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "counter").iterdir())) == 3


def test_an_import_of_the_repository_in_a_component_is_explained(run: Run) -> None:
    files = {"p.py": FAILING, "helpers.py": ""}
    done, _ = run(files, "--pipeline", "p.py", "--pipeline-name", "missing")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'helpers'" in done.stderr
    assert "not `helpers` of the repository" in done.stderr


EMPTY = (
    HEAD
    + """
@component
def step():
    pass

"""
)
ONE = (
    EMPTY
    + """
@dsl.pipeline(name="one")
def one(count: int, name: str = "x", rates: List[float] = [0.1]):
    step()
"""
)
BOXED = (
    EMPTY
    + """
@dsl.container_component
def boxed():
    return dsl.ContainerSpec(image="alpine", command=["true"])


@dsl.pipeline(name="with-box")
def with_box():
    boxed()
"""
)


@pytest.mark.parametrize(
    ("text", "options", "messages"),
    [
        (None, [], ["The pipeline file pipeline.py does not exist"]),
        ("def broken(:\n", [], ["pipeline.py:1:12: pipeline.py has a syntax error", "invalid syntax"]),
        ("x = 1\nimport absent_module\n", [], ["pipeline.py:2: pipeline.py cannot be loaded", "ModuleNotFoundError"]),
        (EMPTY, [], ["pipeline.py has no pipeline", "@dsl.pipeline"]),
        (FAILING, [], ["has 4 pipelines: failing, handled, missing, retrying", "`pipeline-name`"]),
        (FAILING, ["--pipeline-name", "retryin"], ["no pipeline 'retryin'", "Did you mean `retrying`?"]),
        (BOXED, [], ["The task 'boxed' is a container component, which the engine `local` cannot run"]),
        (ONE, [], ["needs the parameter 'count' (an integer)"]),
        (ONE, ["--parameters", "cuont=1"], ["has no parameter 'cuont'", "Did you mean `count`?"]),
        (ONE, ["--parameters", "count=many"], ["The parameter 'count' must be an integer, not the text 'many'"]),
        (ONE, ["--parameters", "count=1.5"], ["must be an integer, not the text '1.5'"]),
        (ONE, ["--parameters", "{count: 1, name: 1.10}"], ["'name' must be text, not 1.1", "Quote it"]),
        (ONE, ["--parameters", "{count: 1, rates: 3}"], ["'rates' must be a list, not 3"]),
        (ONE, ["--parameters-file", "absent.yaml"], ["absent.yaml does not exist"]),
        (
            EMPTY + "@dsl.pipeline(name='p')\ndef p():\n    step()\n",
            ["--model-artifact", "m"],
            ["makes an artifact 'm'"],
        ),
        (ONE, ["--engine", "cloud"], ["Invalid value for '--engine'"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_runs(
    run: Run, text: str | None, options: list[str], messages: list[str]
) -> None:
    done, _ = run({"pipeline.py": text} if text is not None else {}, *options)
    assert done.returncode == 2, done.stderr
    for message in messages:
        assert message in done.stderr
    assert "Running the pipeline" not in done.stderr


def test_parameters_come_from_a_file_and_inline_ones_win(run: Run) -> None:
    files = {"pipeline.py": ONE, "parameters.yaml": "count: 5\nname: from-file\nrates: [1e-3, 2]\n"}
    done, made = run(files, "--parameters-file", "parameters.yaml", "--parameters", "name=inline")
    assert done.returncode == 0, done.stderr
    assert made["parameters"] == {"count": 5, "name": "inline", "rates": [0.001, 2]}


@pytest.fixture
def kfp_python() -> Path:
    """The interpreter of the actions' own kfp."""
    from mlops_actions import environments

    return environments.ensure("pipelines", environments.cache_folder()).python


def test_compiled_yaml_runs_as_its_source_does(run: Run, tmp_path: Path, kfp_python: Path) -> None:
    (tmp_path / "source.py").write_text(TRAINING)
    script = "from kfp import compiler; import source; compiler.Compiler().compile(source.training, 'training.yaml')"
    subprocess.run([kfp_python, "-W", "ignore", "-c", script], cwd=tmp_path, check=True)
    done, from_yaml = run({}, "--pipeline", "training.yaml")
    assert done.returncode == 0, done.stderr
    done, from_source = run({}, "--pipeline", "source.py")
    assert "Reused" in done.stderr, "the same pipeline has another key"
    assert from_yaml["metrics"] == from_source["metrics"]
    done, _ = run({"other.yaml": "a: 1\n"}, "--pipeline", "other.yaml")
    assert done.returncode == 2
    assert "other.yaml is not a compiled pipeline" in done.stderr


PACKED = """
from kfp import dsl

component = dsl.component(base_image="python:3.11", packages_to_install=["iniconfig==2.0.0"])


@component
def first() -> str:
    import importlib.metadata

    return importlib.metadata.version("iniconfig")


@component
def second(before: str) -> str:
    import kfp

    return f"{before} {kfp.__version__}"


@dsl.pipeline(name="packed")
def packed():
    second(before=first().output)
"""


def test_packages_are_installed_once_for_all_tasks_that_ask_for_them(run: Run) -> None:
    done, made = run({"pipeline.py": PACKED})
    assert done.returncode == 0, done.stderr
    assert made["results"] == {"first.Output": "2.0.0", "second.Output": "2.0.0 2.17.0"}
    tasks = made["record"]["details"]["tasks"]
    assert all(task["seconds"] < 3 for task in tasks), "a task has the cost of an installation"


SLEEPING = (
    HEAD
    + """
@component
def fine() -> int:
    return 1


@component
def sleep(n: int, mark: str):
    import os
    import subprocess
    import time

    child = subprocess.Popen(["sleep", str(n)])
    with open(mark, "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(n)


@dsl.pipeline(name="sleeping")
def sleeping(mark: str):
    sleep(n=60, mark=mark).after(fine())
"""
)


def _started(tmp_path: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A run whose task sleeps, and the processes of that task."""
    (tmp_path / "pipeline.py").write_text(SLEEPING)
    mark = tmp_path / "mark"
    command = [str(ROOT / "scripts/mlops"), "run-pipeline", "--store", f"file://{tmp_path}/store"]
    process = subprocess.Popen(
        [*command, "--parameters", f"mark={mark}"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, [int(number) for number in mark.read_text().split()]


def _gone(processes: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Identity.of(number).alive for number in processes):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals are POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancel_ends_the_tasks_and_says_what_was_finished(tmp_path: Path, number: int, code: int) -> None:
    process, tasks = _started(tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=7.5)  # then GitHub kills it
    assert process.returncode == code
    assert "Finished before: fine" in said
    assert _gone(tasks, 0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals are POSIX")
def test_a_killed_run_leaves_no_process_and_is_taken_up_again(tmp_path: Path, run: Run) -> None:
    process, tasks = _started(tmp_path)
    process.kill()
    process.communicate()
    assert _gone(tasks, 3)
    done, _ = run({"pipeline.py": SLEEPING.replace("n=60", "n=0")}, "--parameters", f"mark={tmp_path}/mark")
    assert done.returncode == 0, done.stderr
    assert "fine (reused)" in done.stderr


def test_time_runs_out(run: Run, tmp_path: Path) -> None:
    done, _ = run({"pipeline.py": SLEEPING}, "--parameters", f"mark={tmp_path}/mark", "--timeout", "2")
    assert done.returncode == 3
    assert "did not end within 2 s" in done.stderr and "Still running: sleep" in done.stderr


def test_the_minimal_example_gives_a_model_that_predicts(mlops: Mlops, tmp_path: Path) -> None:
    done = mlops("run-pipeline", "--json", "--store", f"file://{tmp_path}/store", cwd=ROOT / "examples/minimal")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["metrics"]["auc"] > 0.98
    assert all(made[name].startswith("file://") for name in ("model-uri", "predictions-uri", "golden-uri"))
    assert len(made["record"]["details"]["classification"][0]["matrix"]) == 2
