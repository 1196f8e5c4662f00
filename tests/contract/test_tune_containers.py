"""Trials in the image of their container, by a real Docker engine: what they get, how they end, what is left."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import docker_engine as servers
from docker_engine import BASE_IMAGE, DockerEngine
from mlops_actions.errors import ComponentFailed, MlopsError, RemoteFailed
from mlops_actions.tuning.containers import LABEL, ContainerRunner, Docker, limits
from mlops_actions.tuning.engine import Outcome, Trial, TuneRequest, TuningContext
from mlops_actions.tuning.experiment import Experiment
from mlops_actions.tuning.jobs import Container
from mlops_actions.tuning.local import LocalEngine
from mlops_actions.tuning.reading import Document
from mlops_actions.tuning.runners import Place
from mlops_actions.values import quantity

ROOT = Path(__file__).resolve().parents[2]
needs_docker = pytest.mark.skipif(bool(servers.missing()), reason=servers.missing() or "docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with servers.docker_engine() as started:
        yield started


class Silent:
    def resumed(self, trials: list[Trial]) -> None: ...

    def started(self, trial: Trial, running: int) -> None: ...

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None: ...

    def interrupted(self, best: Trial | None, done: int) -> None: ...


def experiment(script: str, *, spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """An Experiment whose trials run a shell script in busybox, with `$1` the learning rate."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "tests/data/katib/example-random.yaml").read_text())
    values["spec"] |= {"parallelTrialCount": 2, "maxTrialCount": 2, "maxFailedTrialCount": 0, **(spec or {})}
    values["spec"]["objective"] = {"type": "minimize", "objectiveMetricName": "loss"}
    job = values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    words = ["${trialParameters.learningRate}", "${trialParameters.momentum}"]
    job.pop("resources")
    job |= {"image": BASE_IMAGE, "command": ["/bin/sh", "-c"], "args": [script, "sh", *words], **container}
    return values


def run(engine: DockerEngine, folder: Path, values: dict[str, Any], **request: Any) -> Outcome:
    document = Document("experiment.yaml", values, Experiment.model_validate(values), {})
    environ = {**os.environ, **engine.environ, "AWS_ACCESS_KEY_ID": "key", "MLOPS_STORE": "s3://store"}
    context = TuningContext(folder, environ, folder / "state")
    spec = document.experiment.spec
    made = TuneRequest(
        document, "key", spec.parallel_trial_count, spec.max_trial_count, isolation="container", **request
    )
    return LocalEngine(context).run(made, Silent())


def left(engine: DockerEngine) -> list[str]:
    return engine.docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()


@needs_docker
def test_trials_run_in_their_image_with_what_their_container_says(engine: DockerEngine, tmp_path: Path) -> None:
    script = 'test "$PWD" = /tmp && test "$TEAM" = "a b" && test "$AWS_ACCESS_KEY_ID$MLOPS_STORE" = keys3://store'
    values = experiment(
        f"{script} && test -x /bin/busybox && echo loss=$1",
        env=[{"name": "TEAM", "value": "a b"}],
        workingDir="/tmp",
        resources={"limits": {"cpu": "500m", "memory": "64Mi"}},
    )
    outcome = run(engine, tmp_path, values)
    assert [trial.value for trial in outcome.trials] == [trial.parameters["lr"] for trial in outcome.trials]
    assert left(engine) == []


@needs_docker
def test_another_image_may_be_given(engine: DockerEngine, tmp_path: Path) -> None:
    engine.docker("tag", BASE_IMAGE, "other:1")
    values = experiment("echo loss=1", image="no-such-image:1")
    assert run(engine, tmp_path, values, image="other:1").value == 1


@needs_docker
def test_metrics_file_of_a_container_is_read_from_where_it_is_mounted(engine: DockerEngine, tmp_path: Path) -> None:
    source = {"fileSystemPath": {"path": "/katib/m.log", "kind": "File", "format": "TEXT"}}
    spec = {"metricsCollectorSpec": {"source": source, "collector": {"kind": "File"}}}
    outcome = run(engine, tmp_path, experiment("echo loss=$1 > /katib/m.log", spec=spec))
    assert [trial.value for trial in outcome.trials] == [trial.parameters["lr"] for trial in outcome.trials]


@needs_docker
@pytest.mark.parametrize(
    ("script", "container", "kind", "why"),
    [
        ("echo about to break; exit 7", {}, ComponentFailed, "it ended with exit code 7"),
        ("echo about to break; dd if=/dev/zero of=/dev/null bs=200M count=9", {}, ComponentFailed, "its limit, 32Mi"),
        (
            "true",
            {"image": "no-such-image:1", "imagePullPolicy": "Never"},
            RemoteFailed,
            "could not run no-such-image:1",
        ),
        ("true", {"command": ["/no-such-program"]}, ComponentFailed, "it ended with exit code 127"),
    ],
)
def test_failure_is_told_by_its_cause(
    script: str, container: dict[str, Any], kind: type[MlopsError], why: str, engine: DockerEngine, tmp_path: Path
) -> None:
    values = experiment(script, resources={"limits": {"memory": "32Mi"}}, **container)
    with pytest.raises(kind) as failed:
        run(engine, tmp_path, values)
    assert why in failed.value.why
    if "break" in script:
        assert "about to break" in failed.value.log
    assert left(engine) == []


@needs_docker
def test_container_that_does_not_end_is_ended_and_removed(engine: DockerEngine, tmp_path: Path) -> None:
    values = experiment("trap '' TERM; echo begun; sleep 1000 & wait; wait; sleep 1000", spec={"parallelTrialCount": 1})
    with pytest.raises(ComponentFailed, match=r"it ran longer than 2 s"):
        run(engine, tmp_path, values, trial_timeout=2)
    assert left(engine) == []


@needs_docker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_or_cancelled_run_leaves_no_container_for_long(
    number: signal.Signals, engine: DockerEngine, tmp_path: Path
) -> None:
    values = experiment("sleep 1000")
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(values))
    command = [str(ROOT / "scripts/mlops"), "tune-hyperparams", "--isolation", "container"]
    environ = {**os.environ, **engine.environ}
    process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):  # the first time the action's environment may have to be made
        if len(left(engine)) == 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    assert len(left(engine)) == 2, process.communicate()[1] if process.poll() is not None else ""
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert process.returncode == 130, said
    else:
        state = next((tmp_path / "home" / "tuning").glob("*"))
        document = Document("e", values, Experiment.model_validate(values), {})
        ContainerRunner(document, Place(tmp_path, environ, state))
    assert left(engine) == []


@needs_docker
def test_work_is_done_again_when_the_image_is_another(engine: DockerEngine, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment("echo loss=1", image="mine:1")))
    command = [str(ROOT / "scripts/mlops"), "tune-hyperparams", "--isolation", "container", "--json"]

    def uri() -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **engine.environ}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["trials-uri"])

    engine.docker("tag", BASE_IMAGE, "mine:1")
    first = uri()
    assert uri() == first
    engine.docker("import", "--change", "ENV NEWER=1", "-", "mine:1", stdin=servers._busybox())
    assert uri() != first


def test_without_docker_it_is_said_how_to_do_without(tmp_path: Path) -> None:
    with pytest.raises(RemoteFailed, match=r"The docker command is not installed.*leave `isolation: process`"):
        Docker({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), ("1Gi", 2**30), ("64M", 64_000_000), ("x", None), ("1Qi", None)]
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, value: float | None) -> None:
    found = quantity(text)
    assert (float(found) if found is not None else None) == value


def test_limits_become_dockers() -> None:
    given = {"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": 1}
    container = Container.model_validate({"name": "c", "resources": {"limits": given}})
    assert limits(container) == ["--cpus", "1.5", "--memory", f"{2**30}b", "--gpus", "1"]
