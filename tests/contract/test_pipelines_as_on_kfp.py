"""The engine `local` gives what KFP's backend gives: values, control flow, placeholders, artifacts, importers.

The right values are those of the backend's source (backend/src/v2/driver, backend/src/v2/component).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import servers
from mlops_actions.stores.store import Store
from pipeline_worlds import Mlops, Run, runner, states

HEAD = """\
from typing import Dict, List, NamedTuple, Optional
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output, OutputPath, PipelineTaskFinalStatus

"""


@pytest.fixture
def run(tmp_path: Path, mlops: Mlops) -> Run:
    return runner(tmp_path, mlops)


VALUES = (
    HEAD
    + """
@dsl.component
def gen() -> list:
    return [1, {"z": 1}, "s", 2.5, True]

@dsl.component
def show(x: str) -> str:
    return repr(x)

@dsl.component
def both(x: list, d: dict) -> str:
    import json
    return json.dumps([x, d])

@dsl.component
def none() -> list:
    return []

@dsl.component
def half(x: float) -> float:
    return x / 2

@dsl.component
def number(x: float) -> str:
    return f"{type(x).__name__} {x}"

@dsl.component
def gather(xs: List[str]) -> int:
    return len(xs)

@dsl.pipeline(name="values")
def values(xs: list = [1, 2.5], value: str = "c", q: str = 'He said "hi"\\nline2\\\\ back {{$.inputs.parameters[no]}}'):
    with dsl.ParallelFor(gen().output) as i:
        show(x=i)
    with dsl.ParallelFor(xs) as j:
        show(x=j)
    both(x=[value, q, f"x-{q}"], d={"k": q, "n": [value, {"m": value}]})
    show(x='{"a":"' + f"{value}" + '"}')
    with dsl.ParallelFor(none().output) as nothing:
        never = show(x=nothing)
    gather(xs=dsl.Collected(never.output))
    number(x=half(x=4.0).output)
    show(x=f"{half(x=1e-7).output}")
"""
)


def test_values_arrive_as_the_backend_gives_them(run: Run) -> None:
    done, made = run({"pipeline.py": VALUES})
    assert done.returncode == 0, done.stderr
    results = made["results"]
    assert [results[f"show.{i}.Output"] for i in range(5)] == ["'1'", "'{\"z\":1}'", "'s'", "'2.5'", "'true'"]
    assert [results[f"show-2.{i}.Output"] for i in range(2)] == ["'1'", "'2.5'"]
    q = 'He said "hi"\nline2\\ back {{$.inputs.parameters[no]}}'
    assert json.loads(results["both.Output"]) == [["c", q, f"x-{q}"], {"k": q, "n": ["c", {"m": "c"}]}]
    assert results["show-3.Output"] == '\'{"a":"c"}\''
    assert results["gather.Output"] == 0, "a loop over nothing"
    assert results["number.Output"] == "int 2", "protobuf has no integers, and JSON's 2.0 is 2"
    assert results["show-5.Output"] == "'0.00000005'"


CHANNEL = (
    HEAD
    + """
@dsl.component
def produce() -> List[str]:
    return ["a"]

@dsl.component
def consume(s: str) -> str:
    return s

@dsl.pipeline(name="channel")
def channel():
    consume(s=f"Items: {produce().output}")
"""
)


def test_an_output_that_is_not_text_in_an_f_string_is_refused(run: Run) -> None:
    done, _ = run({"pipeline.py": CHANNEL})
    assert done.returncode == 2
    assert "The task 'consume' is given a text with the output 'Output' of 'produce' in it" in done.stderr


MISTYPED = (
    HEAD
    + """
@dsl.component
def gen() -> List[int]:
    import json
    return json.loads('["a"]')

@dsl.component
def add(x: int) -> int:
    return x

@dsl.pipeline(name="mistyped")
def mistyped():
    with dsl.ParallelFor(gen().output) as i:
        add(x=i)
"""
)


def test_a_value_of_another_type_fails_the_task_before_it_runs(run: Run) -> None:
    done, _ = run({"pipeline.py": MISTYPED})
    assert done.returncode == 1
    assert 'must be a number, not "a"' in done.stderr


FLOW = (
    HEAD
    + """
@dsl.component
def make(n: int) -> int:
    return n * 2

@dsl.component
def rng(n: int) -> List[int]:
    return list(range(n))

@dsl.component
def add(x: List[int]) -> int:
    return sum(x)

@dsl.component
def flat(x: List[List[int]]) -> int:
    return sum(sum(part) for part in x)

@dsl.component
def data(text: str, out: Output[Dataset]):
    with open(out.path, "w") as file:
        file.write(text)

@dsl.component
def read(d: Input[Dataset]) -> str:
    with open(d.path) as file:
        return file.read()

@dsl.component
def read_all(ds: Input[List[Dataset]]) -> str:
    return ",".join(open(d.path).read() for d in ds)

@dsl.pipeline(name="choose")
def choose(yes: bool) -> Dataset:
    with dsl.If(yes == True):
        a = data(text="a")
    with dsl.Else():
        b = data(text="b")
    return dsl.OneOf(a.outputs["out"], b.outputs["out"])

@dsl.pipeline(name="chosen")
def chosen():
    read(d=choose(yes=True).output)
    read(d=choose(yes=False).output)

@dsl.pipeline(name="flow")
def flow(k: int = 4) -> int:
    with dsl.ParallelFor(rng(n=k).output) as x:
        with dsl.If(x > 1):
            a = make(n=x)
        with dsl.Else():
            b = make(n=k)
        m = make(n=dsl.OneOf(a.output, b.output))
    with dsl.ParallelFor([1, 2, 3]) as y:
        with dsl.If(y >= 2):
            c = make(n=y)
            f = data(text=f"{y}")
    add(x=dsl.Collected(c.output))
    read_all(ds=dsl.Collected(f.outputs["out"]))
    with dsl.ParallelFor([1, 2]) as z:
        with dsl.ParallelFor([3, 4]):
            n = make(n=z)
    flat(x=dsl.Collected(n.output))
    return add(x=dsl.Collected(m.output)).output
"""
)


def test_control_flow_is_that_of_the_backend_and_shown_as_it_went(run: Run) -> None:
    done, made = run({"pipeline.py": FLOW}, "--pipeline-name", "flow")
    assert done.returncode == 0, done.stderr
    results, ended = made["results"], states(made)
    assert results["Output"] == 16 + 16 + 8 + 12
    assert results["add.Output"] == 10, "Collected has the iterations in which the task ran"
    assert results["read-all.Output"] == "2,3"
    assert results["flat.Output"] == 12
    assert {name for name, state in ended.items() if state == "skipped"} == {
        "make.0", "make.1", "make-2.2", "make-2.3", "make-4.0", "data.0",
    }  # fmt: skip
    assert ended["make.2"] != "skipped" and ended["make.3"] != "skipped"


def test_one_of_artifacts_is_the_one_that_was_made(run: Run) -> None:
    done, made = run({"pipeline.py": FLOW}, "--pipeline-name", "chosen")
    assert done.returncode == 0, done.stderr
    assert made["results"] == {"read.Output": "a", "read-2.Output": "b"}
    ended = states(made)
    assert ended["choose/data-2"] == ended["choose-2/data"] == "skipped"


PLACEHOLDERS = (
    HEAD
    + """
@dsl.component
def show(x: str) -> str:
    return x

@dsl.pipeline(name="my-pipe")
def p():
    show(x=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER)
    show(x=dsl.PIPELINE_JOB_NAME_PLACEHOLDER)
    show(x=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
    show(x=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER)
    show(x=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)
    show(x=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)
    show(x=dsl.PIPELINE_TASK_ID_PLACEHOLDER)
"""
)


def test_placeholders_of_the_run_and_the_task(run: Run) -> None:
    _, made = run({"pipeline.py": PLACEHOLDERS})
    shown = [made["results"][f"show{f'-{i}' if i > 1 else ''}.Output"] for i in range(1, 8)]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    patterns = ["my-pipe-[0-9a-f]{5}", "my-pipe-[0-9a-f]{5}", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", time, time]
    for value, pattern in zip(shown, [*patterns, "show-6", r"\d+"], strict=True):
        assert re.fullmatch(pattern, value)


OPTIONAL = (
    HEAD
    + """
@dsl.component
def show(artifact: Optional[Input[Artifact]] = None, n: Optional[int] = None, m: int = 3) -> str:
    return f"{'none' if artifact is None else artifact.uri} {n} {m}"

@dsl.pipeline
def inner(dataset: Optional[Input[Dataset]] = None, n: Optional[int] = None) -> str:
    return show(artifact=dataset, n=n).output

@dsl.pipeline(name="optional")
def optional(dataset: Optional[Input[Dataset]] = None, n: Optional[int] = None):
    show(artifact=dataset, n=n)
    inner()
"""
)


def test_optional_artifacts_and_parameters_may_be_left_out(run: Run) -> None:
    done, made = run({"pipeline.py": OPTIONAL}, "--pipeline-name", "optional")
    assert done.returncode == 0, done.stderr
    assert made["results"] == {"show.Output": "none None 3", "inner/show.Output": "none None 3"}


ENDINGS = (
    HEAD
    + """
@dsl.component
def fail(n: int) -> str:
    raise RuntimeError(f"number {n}")

@dsl.component
def fine(x: str = "default") -> str:
    return x

@dsl.component
def goodbye(status: PipelineTaskFinalStatus):
    print(f"[{status.state} {status.pipeline_task_name} {status.pipeline_job_resource_name} {status.error_message}]")

@dsl.pipeline(name="looping")
def looping():
    with dsl.ExitHandler(goodbye()):
        with dsl.ParallelFor([1, 2], parallelism=1) as i:
            fail(n=i)
        fine().after(fine())

@dsl.pipeline(name="ignoring")
def ignoring():
    fine(x=fail(n=1).output).ignore_upstream_failure()

@dsl.pipeline(name="quiet")
def quiet():
    with dsl.ExitHandler(goodbye()):
        fine()
"""
)


def test_an_exit_task_runs_after_a_loop_that_failed(run: Run) -> None:
    done, made = run({"pipeline.py": ENDINGS}, "--pipeline-name", "looping")
    assert done.returncode == 1
    assert re.search(r"The task 'fail\.0' failed\. RuntimeError: number 1", done.stderr)
    ended = states(made)
    assert ended["goodbye"] == "succeeded" and ended["fail.1"] == "skipped"


def test_the_final_status_is_in_the_backends_words(run: Run, tmp_path: Path) -> None:
    run({"pipeline.py": ENDINGS}, "--pipeline-name", "quiet")
    (log,) = (tmp_path / "store/artifacts").glob("*/goodbye/log.txt")
    assert re.fullmatch(r"\[COMPLETE exit-handler-1 quiet-\w{5} None\]\n", log.read_text())


def test_a_task_may_ignore_that_what_it_depends_on_failed(run: Run) -> None:
    done, made = run({"pipeline.py": ENDINGS}, "--pipeline-name", "ignoring")
    assert done.returncode == 1, "the run has failed all the same"
    assert states(made) == {"fail": "failed", "fine": "succeeded"}


ARTIFACTS = (
    HEAD
    + """
@dsl.component
def make(out: Output[Dataset], text: OutputPath(str), flag: OutputPath(bool)) -> NamedTuple("o", [("path", str)]):
    import os
    import tempfile
    custom = os.path.join(tempfile.mkdtemp(), "own.txt")
    with open(custom, "w") as file:
        file.write("hello")
    out.set_path(custom)
    with open(text, "w") as file:
        file.write("1.10")
    with open(flag, "w") as file:
        file.write("True")
    return (out.uri,)

@dsl.component
def read(path: str, text: str, flag: bool, n: int) -> str:
    with open(path) as file:
        return f"{file.read()} {text} {flag} {n}"

@dsl.component
def use(d: Input[Dataset], n: int) -> str:
    with open(d.path) as file:
        return f"{file.read()} {n}"

@dsl.pipeline(name="paths")
def paths(n: int = 1):
    m = make()
    read(path=m.outputs["path"], text=m.outputs["text"], flag=m.outputs["flag"], n=n)
    use(d=m.outputs["out"], n=n)
    i = dsl.importer(artifact_uri=m.outputs["path"], artifact_class=Dataset)
    use(d=i.output, n=n)
"""
)


def test_a_path_that_a_reused_task_returned_is_there(run: Run) -> None:
    done, _ = run({"pipeline.py": ARTIFACTS})
    assert done.returncode == 0, done.stderr
    done, made = run({}, "--parameters", "n=2")
    assert done.returncode == 0, done.stderr
    assert states(made)["make"] == "reused"
    results = made["results"]
    assert results["read.Output"] == "hello 1.10 True 2"
    assert results["use.Output"] == results["use-2.Output"] == "hello 2"
    assert "{" not in results["make.path"]


IMPORTER = (
    HEAD
    + """
@dsl.component
def use(d: Input[Dataset]) -> str:
    import os
    path = os.path.join(d.path, "weights") if os.path.isdir(d.path) else d.path
    with open(path) as file:
        return f"{d.uri} {d.metadata['kind']} {file.read()}"

@dsl.pipeline(name="importing")
def importing(uri: str, kind: str = "csv") -> str:
    return use(d=dsl.importer(artifact_uri=uri, artifact_class=Dataset, metadata={"kind": kind}).output).output
"""
)


def test_files_are_imported_and_a_changed_one_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("AAA")
    uri = (tmp_path / "a.txt").as_uri()
    done, made = run({"pipeline.py": IMPORTER}, "--parameters", f"uri={uri}")
    assert done.returncode == 0, done.stderr
    assert made["results"]["Output"] == f"{uri} csv AAA"
    (tmp_path / "a.txt").write_text("BBB")
    _, made = run({}, "--parameters", f"uri={uri}")
    assert made["results"]["Output"] == f"{uri} csv BBB"
    _, made = run({}, "--parameters", "uri=a.txt")
    assert made["results"]["Output"] == "a.txt csv BBB"
    done, _ = run({}, "--parameters", "uri=file:///absent")
    assert done.returncode == 2
    assert "Nothing is at file:///absent" in done.stderr
    done, _ = run({}, "--parameters", "uri=oci://image")
    assert done.returncode == 2
    assert "cannot read such URIs" in done.stderr


def test_objects_of_a_store_are_imported_and_a_changed_one_again(run: Run, tmp_path: Path) -> None:
    s3 = servers.seaweedfs()
    url = s3.new_store()
    store = Store(url, s3.options())
    store.put("models/m/weights", b"one")
    options = ["--store", url, "--parameters", f"uri={url}/models/m"]
    done, made = run({"pipeline.py": IMPORTER}, *options, **s3.environ(url))
    assert done.returncode == 0, done.stderr
    assert made["results"]["Output"] == f"{url}/models/m csv one"
    store.put("models/m/weights", b"two!")
    done, made = run({}, *options, **s3.environ(url))
    assert f"{url}/models/m, which a task read, has changed" in done.stderr
    assert made["results"]["Output"] == f"{url}/models/m csv two!"
    done, made = run({}, *options, **s3.environ(url))
    assert made["record"]["reused"] is True


ARGO = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {generateName: old-}\nspec: {entrypoint: a}\n"


def test_an_argo_workflow_is_refused_by_that_name(run: Run) -> None:
    done, _ = run({"old.yaml": ARGO}, "--pipeline", "old.yaml")
    assert done.returncode == 2
    assert "old.yaml is an Argo Workflow, not a Kubeflow pipeline" in done.stderr
