"""The engine `local` beside what KFP says: what is taken over, containers, settings for Kubernetes, what is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import docker_engine as engines
from docker_engine import BASE_IMAGE, DockerEngine
from pipeline_worlds import Mlops, Run, runner, states

ROOT = Path(__file__).resolve().parents[2]
needs_docker = pytest.mark.skipif(bool(engines.missing()), reason=engines.missing() or "docker")
HEAD = "from kfp import dsl\nfrom kfp.dsl import Dataset, Input, Output\n\n"


@pytest.fixture
def run(tmp_path: Path, mlops: Mlops) -> Run:
    return runner(tmp_path, mlops)


READING = (
    HEAD
    + """
@dsl.component
def opened() -> str:
    folder = "da" + "ta"
    with open(folder + "/" + "b.csv") as file:
        return file.read()

@dsl.component
def named() -> str:
    import subprocess
    return subprocess.run(["cat", "data/a.csv"], capture_output=True, text=True).stdout

@dsl.component
def listed() -> str:
    import glob
    import os
    found = "".join(["li", "sted"])
    return ",".join(sorted(os.path.basename(name) for name in glob.glob(found + "/*")))

@dsl.component
def writing() -> str:
    name = "written" + ".txt"
    with open(name, "w") as file:
        file.write("x")
    with open(name) as file:
        return file.read()

@dsl.pipeline(name="reading")
def reading():
    opened()
    named()
    listed()
    writing()
"""
)


def test_a_task_runs_again_when_a_file_that_its_code_reads_has_changed(run: Run, tmp_path: Path) -> None:
    files = {"pipeline.py": READING, "data/a.csv": "a1", "data/b.csv": "b1", "listed/one": ""}
    done, made = run(files)
    assert done.returncode == 0, done.stderr
    done, made = run({})
    assert made["record"]["reused"] is True
    assert "reused from run " in done.stderr and " in " not in made["record"]["reason"]

    for file, task, result in [
        ("data/b.csv", "opened", "b2"), ("data/a.csv", "named", "a2"), ("listed/two", "listed", "one,two"),
    ]:  # fmt: skip
        done, made = run({file: result})
        assert "Done before, but" in done.stderr and "which a task read, has changed" in done.stderr
        assert made["results"][f"{task}.Output"] == result
        assert [name for name, state in states(made).items() if state == "succeeded"] == [task]
    (tmp_path / "data/b.csv").unlink()
    done, _ = run({})
    assert done.returncode == 1 and "FileNotFoundError" in done.stderr


RETRYING = (
    HEAD
    + """
@dsl.component
def flaky(counter: str):
    import os
    number = len(os.listdir(counter))
    open(os.path.join(counter, str(number)), "w").close()
    if number < 2:
        raise RuntimeError("not yet")

@dsl.component
def never():
    import sys
    sys.exit(7)

@dsl.pipeline(name="retrying")
def retrying(counter: str):
    flaky(counter=counter).set_retry(3, backoff_duration="0s")

@dsl.pipeline(name="failing")
def failing():
    never().set_retry(1, backoff_duration="0s")
"""
)


def test_attempts_are_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "counter").mkdir()
    done, made = run(
        {"pipeline.py": RETRYING}, "--pipeline-name", "retrying", "--parameters", f"counter={tmp_path}/counter"
    )
    assert done.returncode == 0, done.stderr
    assert made["record"]["details"]["tasks"][0]["attempts"] == 3
    assert "(3 attempts)" in done.stderr
    done, made = run({}, "--pipeline-name", "failing")
    assert done.returncode == 1, "the work itself has failed, not a remote system"
    assert "The task 'never' failed 2 times. It ended with exit code 7" in done.stderr


PLATFORM = """\
pipelineInfo: {name: secretive}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
root: {dag: {tasks: {show: {componentRef: {name: comp-show}, taskInfo: {name: show}}}}}
components:
  comp-show: {executorLabel: exec-show, outputDefinitions: {parameters: {Output: {parameterType: STRING}}}}
deploymentSpec:
  executors:
    exec-show:
      container:
        image: python:3.11
        args: [--executor_input, '{{$}}', --function_to_execute, show]
        command: [sh, -ec, 'printf "%s" "$0" > "$program_path/ephemeral_component.py"', "import os\\n\\n\\
          def show() -> str:\\n    return os.environ['DB_TOKEN']\\n"]
---
platforms:
  kubernetes:
    deploymentSpec:
      executors:
        exec-show:
          SETTINGS
"""
SECRET = "secretAsEnv: [{secretName: db, keyToEnv: [{secretKey: token, envVar: DB_TOKEN}]}]"


def test_a_variable_from_a_secret_is_taken_from_the_environment_or_missed(run: Run) -> None:
    files = {"p.yaml": PLATFORM.replace("SETTINGS", SECRET)}
    done, _ = run(files, "--pipeline", "p.yaml")
    assert done.returncode == 2
    assert (
        "The task 'show' needs the variable DB_TOKEN, which is not set. On a cluster it comes from the secret db"
        in (done.stderr)
    )
    done, _ = run({}, "--pipeline", "p.yaml", DB_TOKEN="very-secret")
    assert done.returncode == 0, done.stderr
    assert "very-secret" not in done.stdout + done.stderr


def test_what_is_left_out_of_the_settings_for_kubernetes_is_said(run: Run) -> None:
    settings = "{nodeSelector: {labels: {a: b}}, tolerations: [{key: gpu}]}"
    done, _ = run({"p.yaml": PLATFORM.replace("SETTINGS", settings)}, "--pipeline", "p.yaml", "--no-reuse")
    assert "leaves out settings for Kubernetes: node selector (show), tolerations (show)" in done.stderr
    volume = "secretAsVolume: [{secretName: db, mountPath: /etc/absent-secret}]"
    done, _ = run({"p.yaml": PLATFORM.replace("SETTINGS", volume)}, "--pipeline", "p.yaml")
    assert done.returncode == 2
    assert "reads the secret db at /etc/absent-secret, which does not exist" in done.stderr


BOXES = (
    HEAD
    + f"""
IMAGE = {BASE_IMAGE!r}

@dsl.container_component
def write(text: str, count: int, out: Output[Dataset], said: dsl.OutputPath(str), extra: str = "none"):
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["sh", "-c", 'mkdir -p "$(dirname $1)" && echo "$0 $3 $TEAM" > "$1" && printf "%s" "$4" > "$2"'],
        args=[
            text, out.path, said, dsl.ConcatPlaceholder(["n=", count]),
            dsl.IfPresentPlaceholder("extra", then=[extra], else_=["absent"]),
        ],
    )

@dsl.container_component
def read(data: Input[Dataset], said: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'cp "$0" "$1"', data.path, said])

@dsl.container_component
def sleep(seconds: int):
    return dsl.ContainerSpec(image=IMAGE, command=["sleep"], args=[seconds])

@dsl.container_component
def fail():
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", "echo broken; exit 9"])

@dsl.component
def python(text: str) -> str:
    return text.strip()

@dsl.pipeline(name="boxes")
def boxes(text: str = 'a "b" $c'):
    written = write(text=text, count=3)
    written.set_env_variable("TEAM", "red")
    python(text=read(data=written.outputs["out"]).outputs["said"])

@dsl.pipeline(name="sleeping")
def sleeping():
    sleep(seconds=600)

@dsl.pipeline(name="failing")
def failing():
    fail()
"""
)


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with engines.docker_engine() as started:
        yield started


@needs_docker
def test_container_components_run_with_docker(run: Run, engine: DockerEngine) -> None:
    done, made = run({"pipeline.py": BOXES}, "--pipeline-name", "boxes", **engine.environ)
    assert done.returncode == 0, done.stderr
    assert made["results"]["python.Output"] == 'a "b" $c n=3 red'
    assert made["results"]["write.said"] in ("none", "absent")
    done, made = run({}, "--pipeline-name", "boxes", "--parameters", "text=other", **engine.environ)
    assert done.returncode == 0, done.stderr
    done, made = run({}, "--pipeline-name", "failing", **engine.environ)
    assert done.returncode == 1
    assert "The task 'fail' failed. It ended with exit code 9" in done.stderr
    assert not engine.docker("ps", "--all", "--quiet")


@needs_docker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_run_leaves_no_container(tmp_path: Path, engine: DockerEngine, number: int) -> None:
    (tmp_path / "pipeline.py").write_text(BOXES)
    command = [str(ROOT / "scripts/mlops"), "run-pipeline", "--store", f"file://{tmp_path}/store"]
    process = subprocess.Popen(
        [*command, "--pipeline-name", "sleeping"], cwd=tmp_path, env={**os.environ, **engine.environ},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert _becomes(lambda: bool(engine.docker("ps", "--quiet")))
    process.send_signal(number)
    process.wait(10)
    assert _becomes(lambda: not engine.docker("ps", "--all", "--quiet"))


def _becomes(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_without_docker_a_container_component_is_refused_before_anything_runs(run: Run) -> None:
    done, _ = run({"pipeline.py": BOXES}, "--pipeline-name", "failing", DOCKER_HOST="unix:///absent.sock")
    assert done.returncode == 2
    assert "The task 'fail' is a container component, which the engine `local` cannot run without Docker" in done.stderr
