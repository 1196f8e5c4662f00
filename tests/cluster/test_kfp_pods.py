"""What Kubernetes knows of a run on Kubeflow Pipelines that goes wrong: real pods, with the double's API.

Always the double, which makes a task fail as it is told; `test_kfp.py` lets tasks fail on the one that KFP_HOST names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import clusters
from doubles.kfp import KfpDouble, Settings
from kfp_worlds import Told, compiled
from mlops_actions.context import Context
from mlops_actions.errors import ComponentFailed, RemoteFailed
from mlops_actions.pipelines.engine import Origin, PipelineContext, RunRequest
from mlops_actions.pipelines.kfp.engine import KfpEngine
from mlops_actions.pipelines.kfp.inputs import KfpEngineInputs
from mlops_actions.pipelines.parameters import resolve_parameters
from mlops_actions.pipelines.spec import Pipeline
from workspaces import workspace

pytestmark = clusters.needs_kubernetes


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    return compiled(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with clusters.namespace({}) as name:
        yield name


def _run(
    double: KfpDouble,
    namespace: str,
    pipeline: Pipeline,
    tmp_path: Path,
    told: Told,
    *,
    timeout: float = 0.0,
    **given: str,
) -> None:
    place = workspace(pipeline.file.parent, tmp_path)
    site = PipelineContext(place, Origin(Context(), "consumer", ""))
    parameters = resolve_parameters(pipeline.parameters, given, pipeline.name)
    engine = KfpEngine(KfpEngineInputs(kfp_host=double.url), site, lambda: clusters.administrator(namespace))
    engine.run(RunRequest(pipeline, parameters, tmp_path.name, {}, timeout=timeout), told)


def _double(namespace: str, *, archive: bool = False) -> KfpDouble:
    return KfpDouble(
        settings=Settings(namespace), archive=archive, cluster=clusters.administrator(namespace),
        image=os.environ["PYTHON_IMAGE"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("image", r"ImagePull|ErrImage"), ("unschedulable", r"(Unschedulable|FailedScheduling): .*(node|available)")],
)
def test_what_keeps_a_pod_from_running_is_told_while_the_run_still_waits(
    namespace: str, pipelines: dict[str, Pipeline], tmp_path: Path, outcome: str, said: str
) -> None:
    told = Told()
    with _double(namespace) as double:
        double.fault("task", task="broken", outcome=outcome)
        with pytest.raises(RemoteFailed, match=r"did not end within 20 s.*waiting: broken.*broken: ") as caught:
            _run(double, namespace, pipelines["failing"], tmp_path, told, timeout=20.0, text="1")
    warnings = [text for text in told.warnings if text.startswith("broken: ")]
    assert warnings and re.search(said, warnings[0]), told.warnings
    assert len(warnings) == len(set(warnings))
    told_why, _, advice = warnings[0].rpartition(". ")
    assert told_why in caught.value.why and advice in caught.value.fix


def test_a_task_that_is_out_of_memory_names_its_limit(
    namespace: str, pipelines: dict[str, Pipeline], tmp_path: Path
) -> None:
    with _double(namespace) as double:
        double.fault("task", task="broken", outcome="oom")
        told = Told()
        with pytest.raises(ComponentFailed) as caught:
            _run(double, namespace, pipelines["failing"], tmp_path, told, timeout=120.0, text="1")
    assert caught.value.what == "The task 'broken' failed"
    assert re.search(r"OOMKilled: .*\d+ ?Mi", caught.value.why), caught.value.why
    assert "exit code" not in caught.value.why, "the launcher's is not the component's"
    assert any(text.startswith("broken: ") and "OOMKilled" in text for text in told.warnings)
    assert "memory limit" in caught.value.fix


def test_the_log_and_exit_code_come_from_kubernetes_when_kfp_has_no_log(
    namespace: str, pipelines: dict[str, Pipeline], tmp_path: Path
) -> None:
    with _double(namespace, archive=True) as double:
        double.fault("task", task="broken", outcome="exit", code=7)
        with pytest.raises(ComponentFailed) as caught:
            _run(double, namespace, pipelines["failing"], tmp_path, Told(), timeout=120.0, text="1")
    assert "It ended with exit code 7" in caught.value.why and "exit code 1" not in caught.value.why
    assert caught.value.log == "leaving with 7"
