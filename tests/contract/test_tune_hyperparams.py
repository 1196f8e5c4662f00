"""`mlops tune-hyperparams` as a user and a runner call it: results, reuse, kill and resume, cancel, errors."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname, urlopen

import pytest
import yaml

from doubles.kfp import KfpDouble
from kfp_worlds import whole_double
from mlops_actions.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
KATIB = ROOT / "tests" / "data" / "katib"
TRAIN = """
import os, sys, time
from noise import noise
values = dict(word[2:].split("=") for word in sys.argv[1:] if "=" in word)
with open("started.txt", "a") as file:
    file.write(os.environ["KATIB_TRIAL_NAME"] + "\\n")
time.sleep(float(values.get("seconds", 0)))
print("2026-01-02T03:04:05Z INFO epoch 1 loss=%r" % (float(values["lr"]) + float(values["momentum"]) + noise))
print("accuracy=0.5")
with open("ended.txt", "a") as file:
    file.write(os.environ["KATIB_TRIAL_NAME"] + "\\n")
"""


class Consumer:
    """A repository with Katib's example, whose image's training is replaced by a program of its own."""

    def __init__(self, folder: Path, example: str = "random") -> None:
        self.folder = folder / "repository"
        self.folder.mkdir()
        self.home = folder / "home"
        (self.folder / "train.py").write_text(TRAIN)
        (self.folder / "noise.py").write_text("noise = 0\n")
        self.document: dict[str, Any] = yaml.safe_load((KATIB / f"example-{example}.yaml").read_text())
        self.spec = self.document["spec"]
        self.spec["objective"] = {
            "type": "minimize",
            "objectiveMetricName": "loss",
            "additionalMetricNames": ["accuracy"],
        }
        self.spec["algorithm"]["algorithmSettings"] = [{"name": "random_state", "value": "3"}]
        self.command("python3", "train.py")

    def command(self, *words: str) -> None:
        template = self.spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
        given = ["--lr=${trialParameters.learningRate}", "--momentum=${trialParameters.momentum}"]
        template["containers"][0]["command"] = [*words, *given]

    def call(self, *options: str, environ: Mapping[str, str] | None = None) -> list[str]:
        (self.folder / "experiment.yaml").write_text(yaml.safe_dump(self.document, sort_keys=False))
        return [str(ROOT / "scripts" / "mlops"), "tune-hyperparams", *options]

    def environ(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "INPUT_", "MLOPS_STORE", "AWS_"))}
        return {**kept, "MLOPS_HOME": str(self.home), **more}

    def run(self, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.call(*options), cwd=self.folder, env=self.environ(**more), capture_output=True, text=True, timeout=240
        )

    def outputs(self, *options: str) -> dict[str, Any]:
        done = self.run("--json", *options)
        assert done.returncode == 0, done.stderr
        values: dict[str, Any] = json.loads(done.stdout)
        return values

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.call(*options),
            cwd=self.folder,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def finished(self) -> list[str]:
        """The trials that the journal has the end of."""
        names: dict[int, str] = {}
        found = []
        for journal in self.home.glob("tuning/*/journal.jsonl"):
            for line in journal.read_text().splitlines(keepends=True):
                event = json.loads(line) if line.endswith("\n") else {}
                if event.get("event") == "started":
                    names[event["trial"]] = event["name"]
                elif event.get("event") == "finished":
                    found.append(names[event["trial"]])
        return found

    def wait_for_trials(self, count: int) -> None:
        """Until so many have ended."""
        for _ in range(600):
            if len(self.finished()) >= count:
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.finished()} after 30 s")

    def trials(self) -> list[str]:
        """The processes of trials that run in this repository."""
        listed = subprocess.run(
            ["ps", "-e", "-ww", "-o", "stat=", "-o", "args="], capture_output=True, text=True, check=True
        ).stdout
        mark = f"--here={self.folder}"
        return [line for line in listed.splitlines() if mark in line and not line.startswith("Z")]

    def trials_end(self) -> bool:
        """Whether no trial runs any more within three seconds."""
        for _ in range(60):
            if not self.trials():
                return True
            time.sleep(0.05)
        return False

    def slow(self, seconds: float) -> None:
        self.command("python3", "train.py", f"--seconds={seconds}", f"--here={self.folder}")


@pytest.fixture
def consumer(tmp_path: Path) -> Consumer:
    return Consumer(tmp_path)


def local(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def rows(uri: str) -> list[dict[str, str]]:
    return list(csv.DictReader(local(uri).read_text().splitlines()))


def test_best_of_all_trials_is_the_output_and_all_are_in_the_table(consumer: Consumer) -> None:
    found = consumer.outputs("--keep-logs")
    table = rows(found["trials-uri"])
    assert len(table) == found["trials"] == found["succeeded"] == 12
    assert found["failed"] == 0
    best = min(table, key=lambda row: float(row["metric.loss"]))
    assert found["best-trial"] == best["name"]
    assert found["best-value"] == float(best["metric.loss"]) == found["metrics"]["loss"]
    assert found["metrics"]["accuracy"] == 0.5
    assert found["best-parameters"] == {n: float(best[f"parameter.{n}"]) for n in ("lr", "momentum")}
    assert found["best-value"] == pytest.approx(sum(found["best-parameters"].values()))
    log = local(found["trials-uri"]).parent / "logs" / f"{best['name']}.log"
    assert f"loss={best['metric.loss']}" in log.read_text()
    record = json.loads(next(consumer.home.glob("store/runs/*/tune-hyperparams.json")).read_text())
    assert record["verdict"] == "passed"
    assert record["details"]["counts"] == {"all": 12, "succeeded": 12, "failed": 0, "early-stopped": 0, "killed": 0}


def test_same_work_is_reused_until_something_that_decides_it_changes(consumer: Consumer) -> None:
    small = ("--max-trials", "2")
    first = consumer.outputs(*small)
    assert consumer.outputs(*small)["trials-uri"] == first["trials-uri"]
    consumer.document["metadata"]["labels"] = {"of": "no consequence"}
    consumer.outputs(*small)
    assert len(consumer.lines("started.txt")) == 2
    (consumer.folder / "noise.py").write_text("noise = 1\n")  # imported by train.py
    assert consumer.outputs(*small)["best-value"] == pytest.approx(first["best-value"] + 1)
    consumer.outputs(*small, "--data-fingerprint", "sha256:1")
    (consumer.folder / "conf.txt").write_text("1")
    consumer.outputs(*small, "--code", "conf.txt")
    assert len(consumer.lines("started.txt")) == 8
    consumer.outputs(*small, "--code", "conf.txt", "--no-reuse")
    assert len(consumer.lines("started.txt")) == 10
    for state in consumer.home.glob("tuning/*"):
        for item in (state, *state.rglob("*")):
            os.utime(item, (0, 0))
    local(first["trials-uri"]).unlink()
    (consumer.folder / "noise.py").write_text("noise = 0\n")
    assert consumer.outputs(*small)["trials-uri"] == first["trials-uri"]
    assert local(first["trials-uri"]).exists()
    assert len(list(consumer.home.glob("tuning/*"))) == 1, "what nothing has changed for long is gone, and not its own"
    assert len(consumer.lines("started.txt")) == 10
    assert len(consumer.lines("started.txt")) == 10  # the trials are in the journal


def test_killed_run_leaves_nothing_and_goes_on_where_it_was(consumer: Consumer) -> None:
    consumer.slow(0.3)
    consumer.spec |= {"parallelTrialCount": 2, "maxTrialCount": 8}
    process = consumer.start()
    consumer.wait_for_trials(3)
    assert wait_until(lambda: bool(consumer.trials()), 10)  # one may have ended just now
    process.kill()
    process.communicate()
    assert consumer.trials_end()
    before = consumer.finished()
    assert 3 <= len(before) < 8
    done = consumer.run("--json")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Resuming with \d finished trials", done.stderr)
    names = [f"random-{n:04d}" for n in range(1, 9)]
    assert sorted(set(consumer.lines("ended.txt"))) == names
    assert sorted(consumer.finished()) == names
    assert {consumer.lines("started.txt").count(name) for name in before} == {1}
    (consumer.folder.parent / "other").mkdir()
    straight = Consumer(consumer.folder.parent / "other")
    straight.spec |= {"parallelTrialCount": 2, "maxTrialCount": 8}
    mine, theirs = json.loads(done.stdout), straight.outputs()
    keys = ("name", "parameter.lr", "parameter.momentum", "metric.loss")
    assert [[r[k] for k in keys] for r in rows(mine["trials-uri"])] == [
        [r[k] for k in keys] for r in rows(theirs["trials-uri"])
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_cancel_ends_the_trials_says_the_best_so_far_and_can_be_resumed(
    number: signal.Signals, code: int, consumer: Consumer
) -> None:
    stubborn = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.argv = sys.argv[1:];"
    program = stubborn + "exec(open('train.py').read())"
    consumer.command("python3", "-c", program, "train.py", "--seconds=0.2", f"--here={consumer.folder}")
    consumer.spec |= {"parallelTrialCount": 2, "maxTrialCount": 12}
    process = consumer.start()
    consumer.wait_for_trials(2)
    assert wait_until(lambda: bool(consumer.trials()), 10)  # one may have ended just now
    process.send_signal(number)
    _, said = process.communicate(timeout=7.5)  # then GitHub kills it
    assert process.returncode == code, said
    assert not consumer.trials()
    assert re.search(r"Stopped after \d+ trials?\. Best so far: loss=[\d.]+ with lr=", said)
    assert "Traceback" not in said
    before = consumer.finished()
    assert 2 <= len(before) < 12
    consumer.outputs()
    assert sorted(set(consumer.lines("ended.txt"))) == [f"random-{n:04d}" for n in range(1, 13)]
    assert {consumer.lines("started.txt").count(name) for name in before} == {1}


def test_failing_trials_fail_the_step_with_the_log_of_the_last(consumer: Consumer) -> None:
    (consumer.folder / "noise.py").write_text("print('reading data')\nraise RuntimeError('no data')\n")
    done = consumer.run("--parallel", "1", GITHUB_ACTIONS="true")
    assert done.returncode == 1
    error = next(line for line in done.stdout.splitlines() if line.startswith("::error "))
    assert "3 trials failed, and `maxFailedTrialCount` is 3" in error
    assert "reading data%0A" in error and "RuntimeError: no data" in error
    assert len([line for line in done.stdout.splitlines() if "exit code 1" in line and line.startswith(" ")]) == 3
    (consumer.folder / "noise.py").write_text("noise = 0\n")
    assert consumer.outputs()["succeeded"] == 12


def test_wrong_experiment_is_an_annotation_on_its_line(consumer: Consumer) -> None:
    consumer.spec["algorithm"]["algorithmName"] = "darts"
    done = consumer.run(GITHUB_ACTIONS="true")
    lines = (consumer.folder / "experiment.yaml").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "darts" in text)
    assert done.returncode == 2
    assert f"::error title=Bad input,file=experiment.yaml,line={line},col=5::" in done.stdout
    assert "is not supported by the local engine" in done.stdout
    assert consumer.lines("started.txt") == []


def test_runner_gets_outputs_and_a_summary(consumer: Consumer, tmp_path: Path) -> None:
    output, summary = tmp_path / "output", tmp_path / "summary"
    done = consumer.run(
        GITHUB_ACTIONS="true", GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary), INPUT_MAX_TRIALS="3"
    )
    assert done.returncode == 0, done.stdout
    assert "::notice file=experiment.yaml,line=" in done.stdout
    assert re.search(r"^best-trial<<(\S+)\nrandom-000\d\n\1$", output.read_text(), re.MULTILINE)
    text = summary.read_text()
    assert "Best of 3 trials: loss" in text
    assert text.count("\n| random-000") == 3
    assert "`random` by `random`: all trials were run. 3 of 3 trials succeeded. Seed 3." in text


def test_trials_run_in_the_consumers_environment(consumer: Consumer) -> None:
    (consumer.folder / "requirements.txt").write_text("iniconfig==2.1.0\n")
    (consumer.folder / "noise.py").write_text(
        "import sys, importlib.metadata as m, importlib.util as u\n"
        "assert m.version('iniconfig') == '2.1.0', 'not the consumer\\'s environment'\n"
        "assert not u.find_spec('optuna') and not u.find_spec('pydantic'), 'the action\\'s own packages'\n"
        "noise = 0\n"
    )
    assert consumer.outputs("--requirements", "requirements.txt", "--max-trials", "2")["succeeded"] == 2
    assert consumer.run("--max-trials", "2").returncode == 1  # without them


def test_resume_policy_lets_a_higher_count_go_on(consumer: Consumer) -> None:
    consumer.spec["resumePolicy"] = "LongRunning"
    consumer.outputs("--max-trials", "2")
    assert consumer.outputs("--max-trials", "4")["trials"] == 4
    assert sorted(consumer.lines("started.txt")) == [f"random-{n:04d}" for n in range(1, 5)]
    consumer.spec["resumePolicy"] = "Never"
    consumer.outputs("--max-trials", "4")
    assert len(consumer.lines("started.txt")) == 8


def test_two_runs_of_the_same_work_do_it_once(consumer: Consumer) -> None:
    consumer.slow(0.2)
    both = [consumer.start("--json", "--max-trials", "6") for _ in range(2)]
    found = [json.loads(process.communicate(timeout=240)[0]) for process in both]
    assert found[0]["trials"] == found[1]["trials"] == 6
    assert found[0]["best-parameters"] == found[1]["best-parameters"]
    assert sorted(consumer.lines("started.txt")) == [f"random-{n:04d}" for n in range(1, 7)]


PIPELINE = """
from kfp import dsl


@dsl.component
def train(lr: float, layers: int, seconds: float, scores: dsl.Output[dsl.Metrics]):
    import os, time

    if layers == 3:
        raise RuntimeError("three layers are one too many")
    time.sleep(seconds)
    scores.log_metric("loss", lr * layers)


@dsl.pipeline(name="flights")
def flights(lr: float, layers: int = 1, seconds: float = 0.0):
    train(lr=lr, layers=layers, seconds=seconds)
"""


class PipelineConsumer(Consumer):
    """A repository whose Experiment is over a pipeline."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (self.folder / "pipeline.py").write_text(PIPELINE)
        self.spec.pop("trialTemplate")
        self.spec["objective"].pop("additionalMetricNames")
        self.spec |= {"parallelTrialCount": 2, "maxTrialCount": 3, "maxFailedTrialCount": 1}
        self.spec["parameters"] = [
            {"name": "lr", "parameterType": "double", "feasibleSpace": {"min": "0.1", "max": "0.9"}},
            {"name": "layers", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "2"}},
        ]

    def call(self, *options: str, environ: Mapping[str, str] | None = None) -> list[str]:
        return super().call("--pipeline", "pipeline.py", *options, environ=environ)


@pytest.fixture
def pipeline(tmp_path: Path) -> PipelineConsumer:
    return PipelineConsumer(tmp_path)


def test_trials_are_runs_of_a_pipeline_with_its_metrics(pipeline: PipelineConsumer) -> None:
    found = pipeline.outputs("--data-fingerprint", "sha256:1")
    assert found["trials"] == found["succeeded"] == 3
    best = found["best-parameters"]
    assert found["best-value"] == pytest.approx(best["lr"] * best["layers"])
    records = [json.loads(file.read_text()) for file in pipeline.home.glob("store/runs/**/run-pipeline.json")]
    assert sorted(record["run"][-11:] for record in records) == [f"random-000{n}" for n in (1, 2, 3)]
    assert {record["inputs"]["data-fingerprint"] for record in records} == {"sha256:1"}
    values = {record["outputs"]["metrics"]["loss"] for record in records}
    assert {float(row["metric.loss"]) for row in rows(found["trials-uri"])} == values
    assert pipeline.outputs("--data-fingerprint", "sha256:1")["trials-uri"] == found["trials-uri"]


@pytest.fixture
def kfp() -> Iterator[KfpDouble]:
    yield from whole_double()


def test_trials_are_runs_on_kubeflow_pipelines_which_a_killed_job_goes_on_with(
    pipeline: PipelineConsumer, kfp: KfpDouble
) -> None:
    (pipeline.folder / "mlops.yaml").write_text(f"run-pipeline: {{engine: kfp}}\nkfp-host: {kfp.url}\n")
    (pipeline.folder / "pipeline.py").write_text(PIPELINE.replace("seconds: float = 0.0", "seconds: float = 2.0"))
    pipeline.spec["maxTrialCount"] = 4
    killed = pipeline.start()
    deadline = time.monotonic() + 90
    while not pipeline.finished() or len(states(kfp)) < 3:
        assert time.monotonic() < deadline and killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    done = len(pipeline.finished())
    found = pipeline.outputs()
    assert (found["trials"], found["succeeded"]) == (4, 4)
    best = found["best-parameters"]
    assert found["best-value"] == pytest.approx(best["lr"] * best["layers"], rel=1e-5)  # ML Metadata keeps six digits
    runs = states(kfp)
    assert sorted(state for state, _ in runs if state == "SUCCEEDED") == ["SUCCEEDED"] * 4
    assert len({parameters for state, parameters in runs if state == "SUCCEEDED"}) == 4
    assert len(runs) - 4 <= 4 - done  # what had ended was not run again
    assert len(kfp._world.versions) == 1


def states(kfp: KfpDouble) -> list[tuple[str, str]]:
    """State and parameters of each run on a KFP."""
    with urlopen(f"{kfp.url}/apis/v2beta1/runs?page_size=100") as answer:
        runs = json.load(answer).get("runs", [])
    return [(run["state"], json.dumps(run["runtime_config"]["parameters"], sort_keys=True)) for run in runs]


def test_failing_pipeline_fails_its_trial_with_its_own_reason(pipeline: PipelineConsumer) -> None:
    pipeline.spec["parameters"][1]["feasibleSpace"] = {"min": "3", "max": "3"}
    done = pipeline.run("--parallel", "1")
    assert done.returncode == 1
    assert "1 trial failed, and `maxFailedTrialCount` is 1" in done.stderr
    assert "three layers are one too many" in done.stderr


def test_names_of_a_template_are_the_pipelines(pipeline: PipelineConsumer) -> None:
    pipeline.spec["parameters"][0]["name"] = "learning-rate"
    given = [{"name": "lr", "reference": "learning-rate"}, {"name": "layers", "reference": "layers"}]
    pipeline.spec["trialTemplate"] = {"trialParameters": given}
    found = pipeline.outputs("--max-trials", "1")
    assert set(found["best-parameters"]) == {"learning-rate", "layers"}
    pipeline.spec["trialTemplate"]["trialParameters"][0]["name"] = "rate"
    done = pipeline.run("--max-trials", "1")
    assert done.returncode == 1
    assert "rate" in done.stderr


def test_cancel_ends_the_runs_of_a_pipeline(pipeline: PipelineConsumer) -> None:
    source = PIPELINE.replace("seconds: float = 0.0", "seconds: float = 30.0")
    (pipeline.folder / "pipeline.py").write_text(source)
    process = pipeline.start("--max-trials", "2")
    for _ in range(600):
        logs = list(pipeline.home.glob("tuning/*/logs/*.log"))
        if len(logs) == 2 and all("train" in log.read_text() for log in logs):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    listed = subprocess.run(["ps", "-e", "-ww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(pipeline.folder) not in listed
