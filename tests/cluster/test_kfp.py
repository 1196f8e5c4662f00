"""run-pipeline on Kubeflow Pipelines as a person calls it: on the one that KFP_HOST names, else on the double.

Artifacts are on the S3 server that S3_ENDPOINT names, where that server keeps them, and are brought to a store of ours.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

import clusters
import servers
from conftest import MLOPS, ROOT
from mlops_actions.waiting import Clock

pytestmark = clusters.needs_kubernetes
IMAGE = os.environ.get("KFP_IMAGE", "")
PIPELINES = """
from kfp import dsl


@dsl.component
def number(value: int, bad: int = -1) -> int:
    import os

    print("thinking of", value, flush=True)
    if value == bad:
        os._exit(7)
    return value


@dsl.component
def last():
    print("in any case", flush=True)


@dsl.component
def sleep(seconds: int):
    import time

    print("asleep", flush=True)
    time.sleep(seconds)


@dsl.pipeline
def inner(value: int, bad: int = -1) -> int:
    return number(value=value, bad=bad).output


@dsl.pipeline(name="groups-MARK")
def groups(bad: int = -1) -> int:
    with dsl.ExitHandler(last()):
        first = number(value=1)
        with dsl.If(first.output > 100):
            number(value=2)
        with dsl.ParallelFor([5, 13]) as item:
            inner(value=item, bad=bad)
    return inner(value=7).output


@dsl.pipeline(name="sleeping-MARK")
def sleeping(seconds: int = 600):
    sleep(seconds=seconds).set_caching_options(False).after(number(value=1))
"""
SOURCE = (ROOT / "examples" / "minimal" / "pipeline.py").read_text()


@dataclass(frozen=True)
class Site:
    """A Kubeflow Pipelines and an S3 server."""

    host: str
    s3: servers.S3

    def environ(self, store: str) -> dict[str, str]:
        image = {"MLOPS_IMAGE": IMAGE} if IMAGE else {}
        return {**os.environ, "KUBECONFIG": "", "MLOPS_KFP_HOST": self.host, **image, **self.s3.environ(store)}

    def command(self, *more: str) -> list[str]:
        return [str(MLOPS), "run-pipeline", "--engine", "kfp", "--json", *more]

    def run(self, folder: Path, store: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more), cwd=folder, env=self.environ(store), capture_output=True, text=True, timeout=800,
            check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    s3 = servers.minio()
    with clusters.namespace() as namespace, clusters.kfp(s3, namespace) as host:
        yield Site(host, s3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The minimal example, made unlike any other, so that nothing of an earlier test is found again."""
    target = tmp_path / "consumer"
    shutil.copytree(ROOT / "examples" / "minimal", target)
    mark = f"{uuid.uuid4().hex}"
    (target / "pipeline.py").write_text(SOURCE.replace("import pandas", f"print('{mark}')\n    import pandas"))
    return target


def test_result_is_in_our_store_and_the_run_is_found_again_by_another_job(site: Site, folder: Path) -> None:
    store, other = site.s3.new_store(), site.s3.new_store()
    done = site.run(folder, store, "--download", "model")
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    assert outputs["metrics"]["auc"] > 0.9 and outputs["model-uri"].startswith(store)
    assert outputs["run-url"].startswith("http")
    assert (folder / "artifacts" / "train" / "model").exists()
    model = next(a for a in outputs["artifacts"] if a["name"] == "model")
    assert model["type"] == "system.Model" and model["digest"].startswith("sha256:")

    again = site.run(folder, other)  # a job that knows nothing of the first one but the server
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["run-url"] == outputs["run-url"] and found["metrics"] == outputs["metrics"]
    assert "Reused: the same run has succeeded" in again.stderr


def test_failing_component_is_told_with_its_line_and_its_log(site: Site, folder: Path) -> None:
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(
        text.replace("import pandas", "raise ValueError('no rows')\n    import pandas", 1)
    )
    done = site.run(folder, site.s3.new_store())
    assert done.returncode == 1, done.stderr
    line = next(n for n, code in enumerate((folder / "pipeline.py").read_text().splitlines(), 1) if "no rows" in code)
    assert f"pipeline.py:{line}: The task 'train' failed" in done.stderr
    assert "ValueError: no rows" in done.stderr and "Traceback" in done.stderr


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A consumer with the pipelines above, named unlike any others."""
    text = PIPELINES.replace("MARK", uuid.uuid4().hex[:8])
    text = text.replace("@dsl.component", f"@dsl.component(install_kfp_package={not IMAGE})")
    (tmp_path / "pipeline.py").write_text(text)
    return tmp_path


def test_tasks_of_groups_have_their_names(site: Site, own: Path) -> None:
    done = site.run(own, site.s3.new_store(), "--pipeline-name", "groups")
    assert done.returncode == 0, done.stderr
    tasks = {task["name"]: task["state"] for task in json.loads(done.stdout)["record"]["details"]["tasks"]}
    assert tasks.pop("number-2") == "skipped"
    assert set(tasks) == {"number", "inner/number.0", "inner/number.1", "inner-2/number", "last"}
    assert set(tasks.values()) <= {"succeeded", "reused"}


def test_failing_task_of_a_nested_pipeline_in_a_loop_is_named_with_its_own_exit_code(site: Site, own: Path) -> None:
    done = site.run(own, site.s3.new_store(), "--pipeline-name", "groups", "--parameters", "bad=13")
    assert done.returncode == 1, done.stderr
    assert "The task 'inner/number.1' failed" in done.stderr
    assert "exit code 7" in done.stderr and "exit code 1" not in done.stderr
    assert "thinking of 13" in done.stderr and "launcher" not in done.stderr


def test_task_timeout_ends_the_run(site: Site, own: Path) -> None:
    done = site.run(own, site.s3.new_store(), "--pipeline-name", "sleeping", "--task-timeout", "5")
    assert done.returncode == 3, done.stderr
    assert "The task 'sleep' did not end within 5 s" in done.stderr and "The run was terminated" in done.stderr


def test_run_that_a_person_terminates_is_not_retried(site: Site, own: Path) -> None:
    process = subprocess.Popen(
        site.command("--pipeline-name", "sleeping", "--retries", "1"), cwd=own, text=True, stdout=subprocess.PIPE,
        env=site.environ(site.s3.new_store()), stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    run, said = "", ""
    for line in process.stderr:
        said += line
        if found := re.search(r"runs/details/([0-9a-f-]+)", line):
            run = f"{site.host}/apis/v2beta1/runs/{found[1]}"
            break
    http, clock = requests.Session(), Clock()
    http.trust_env = False
    until = clock.now() + 300
    while '"sleep"' not in http.get(run, timeout=30).text:
        assert clock.now() < until, "the task was never started"
        clock.wait(1.0)
    http.post(f"{run}:terminate", json={}, timeout=30)
    rest = process.communicate(timeout=300)[1]
    assert process.returncode == 3, said + rest
    assert "The run was terminated in KFP" in rest and "retry 1" not in rest


def test_cancelled_job_terminates_its_run(site: Site, folder: Path) -> None:
    text = (folder / "pipeline.py").read_text()
    (folder / "pipeline.py").write_text(
        text.replace("import pandas", "import time; time.sleep(600)\n    import pandas", 1)
    )
    process = subprocess.Popen(
        site.command(), cwd=folder, env=site.environ(site.s3.new_store()), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "Started the run" in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, "".join(said) + rest
    assert "The run was terminated" in rest
