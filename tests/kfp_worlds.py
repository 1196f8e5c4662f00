"""Pipelines compiled for tests of the engine `kfp`, and somebody who writes down what it tells."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from doubles.kfp import KfpDouble, MetadataUnavailable, interpreter
from mlops_actions.pipelines.engine import TaskResult
from mlops_actions.pipelines.spec import Pipeline

PIPELINES = """
from kfp import dsl, kubernetes
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output


@dsl.component
def load(rows: int, out: Output[Dataset]) -> int:
    print("loading", rows, flush=True)
    with open(out.path, "w") as file:
        file.write("x" * rows)
    return rows


@dsl.component
def train(data: Input[Dataset], rate: float, model: Output[Model], metrics: Output[Metrics]) -> float:
    with open(data.path) as file:
        rows = len(file.read())
    with open(model.path, "w") as file:
        file.write(str(rows * rate))
    metrics.log_metric("rows", rows)
    return rows * rate


@dsl.component
def judge(i: int, classes: Output[ClassificationMetrics]) -> int:
    classes.log_confusion_matrix(["a", "b"], [[i, 0], [0, 1]])
    classes.log_roc_curve([0.0, 1.0], [0.0, 1.0], [float("inf"), 0.1])
    return i


@dsl.component
def slow(file: str):
    import os, time

    print("waiting for", file, flush=True)
    while not os.path.exists(file):
        time.sleep(0.02)
    print("found it", flush=True)


@dsl.component
def broken(text: str):
    print("about to fail", flush=True)
    number = int(text)
    print(number)


@dsl.component
def flaky(file: str):
    import os

    if not os.path.exists(file):
        open(file, "w").close()
        raise RuntimeError("not yet")


@dsl.component
def last():
    print("in any case", flush=True)


@dsl.pipeline(name="training")
def training(rows: int = 3, rate: float = 0.5) -> float:
    loaded = load(rows=rows)
    trained = train(data=loaded.outputs["out"], rate=rate)
    kubernetes.add_node_selector(trained, "disk", "ssd")
    return trained.outputs["Output"]


@dsl.pipeline
def nested(i: int) -> int:
    return judge(i=i).outputs["Output"]


@dsl.pipeline(name="branching")
def branching(rows: int = 3) -> int:
    inner = nested(i=7)
    with dsl.ExitHandler(last()):
        loaded = load(rows=rows)
        with dsl.If(loaded.outputs["Output"] > 100):
            judge(i=1)
        with dsl.ParallelFor([1, 2]) as item:
            judge(i=item)
        after = load(rows=inner.output)
        after.set_retry(num_retries=1, backoff_duration="0s")
    return inner.output


@dsl.pipeline(name="waiting")
def waiting(file: str):
    first = load(rows=1)
    slow(file=file).set_caching_options(False).after(first)


@dsl.pipeline(name="failing")
def failing(text: str = "no number"):
    first = load(rows=1)
    broken(text=text).after(first)


@dsl.pipeline(name="silent")
def silent():
    last()


@dsl.pipeline(name="again")
def again(file: str):
    first = load(rows=1)
    flaky(file=file).after(first)
"""
NAMES = ("training", "branching", "waiting", "failing", "again", "silent")


def whole_double() -> Iterator[KfpDouble]:
    """For a fixture: a KFP with ML Metadata, whose description nobody may have gone against in the end."""
    try:
        double = KfpDouble()
    except MetadataUnavailable as error:
        pytest.skip(f"no ML Metadata: {error}")
    with double:
        yield double
        assert not double.violations


def compiled(folder: Path) -> dict[str, Pipeline]:
    """The pipelines above by name, as the SDK compiles them; their file is `folder/pipelines.py`."""
    file = folder / "pipelines.py"
    file.write_text(PIPELINES)
    program = (
        "import pipelines\nfrom kfp import compiler\n"
        f"for name in {NAMES!r}:\n    compiler.Compiler().compile(getattr(pipelines, name), name + '.yaml')\n"
    )
    subprocess.run([str(interpreter()), "-c", program], cwd=folder, check=True, capture_output=True)
    return {name: _read(file, folder / f"{name}.yaml") for name in NAMES}


def _read(file: Path, path: Path) -> Pipeline:
    documents = list(yaml.safe_load_all(path.read_text()))
    return Pipeline(file, documents[0], documents[1]["platforms"] if len(documents) > 1 else {})


@dataclass
class Told:
    """What an engine told. See `engine.Progress`."""

    events: list[tuple[str, str]] = field(default_factory=list)
    results: list[TaskResult] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def started(self, task: str) -> None:
        self.events.append((task, "started"))

    def ended(self, result: TaskResult) -> None:
        self.events.append((result.task, result.state))
        self.results.append(result)

    def logged(self, task: str, line: str) -> None:
        self.lines.append(f"{task} | {line}")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def waiting(self, tasks: Mapping[str, float]) -> None:
        pass

    def states(self) -> dict[str, Any]:
        """How each task ended."""
        return {result.task: result.state for result in self.results}
