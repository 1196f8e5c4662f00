"""`mlops run`: the whole chain in a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import MLOPS, Run
from mlops_actions.processes.identity import Identity


@pytest.fixture
def starter(mlops: Run, tmp_path: Path) -> Path:
    """The chain that an empty folder is given."""
    assert mlops("init", "--model", "churn").returncode == 0
    return tmp_path


def records(folder: Path, run: str = "") -> dict[str, dict[str, object]]:
    """The records of a run, by default of the newest, by action."""
    runs = folder / "home" / "store" / "runs"
    name = run or max((path for path in runs.iterdir() if any(path.iterdir())), key=lambda path: path.name).name
    return {path.stem.partition("@")[0]: json.loads(path.read_text()) for path in (runs / name).glob("*.json")}


def test_the_chain_runs_to_its_report_and_the_second_time_reuses_what_has_not_changed(
    mlops: Run, starter: Path
) -> None:
    fresh = mlops("run", "--dry-run")
    assert "would run   validate-data    It has not been done before" in fresh.stderr
    assert not (starter / "home" / "store" / "runs").exists(), "a dry run keeps nothing"
    first = mlops("run")
    assert first.returncode == 0, first.stderr
    made = records(starter)
    wanted = {"validate-data", "run-pipeline", "evaluate-model", "test-model", "register-model"}
    assert wanted <= set(made) and {one["verdict"] for one in made.values()} == {"passed"}
    page = first.stderr.rpartition("The report: ")[2].strip()
    assert "churn" in Path(page).read_text()
    assert not (starter / "__pycache__").exists(), "what runs the pipeline leaves nothing in its folder"
    assert (starter / ".gitignore").read_text() == "__pycache__/\n"

    planned = mlops("run", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "4 reused" in planned.stderr and "register-model" in planned.stderr
    changed = mlops("run", "--dry-run", "--parameters", "seed=3")
    lines = [line.split() for line in changed.stderr.splitlines() if "would run" in line]
    assert lines[0][:3] == ["would", "run", "run-pipeline"] and lines[0][-1] == "parameters", changed.stderr
    assert records(starter) == made, "a dry run keeps nothing"

    again = mlops("run")
    assert again.returncode == 0 and "reused" in again.stderr
    assert records(starter)["run-pipeline"]["reused"] is True


def test_a_part_of_the_chain_can_be_run_and_one_that_does_not_pass_stops_those_after_it(
    mlops: Run, starter: Path
) -> None:
    assert mlops("run", "--only", "run-pipeline").returncode == 0
    run = records(starter)["run-pipeline"]["run"]
    configuration = starter / "mlops.yaml"
    given = configuration.read_text()
    configuration.write_text(given + '\nevaluate-model: {thresholds: {auc: ">= 1.1"}}\n')
    refused = mlops("run", "--from", "evaluate-model")
    assert refused.returncode == 1
    assert "did not pass" in refused.stderr and "2 left out" in refused.stderr and "The report: " in refused.stderr
    assert "test-model" not in records(starter)
    configuration.write_text(given)
    rest = mlops("run", "--from", "evaluate-model")
    assert rest.returncode == 0, rest.stderr
    assert "run-pipeline" in records(starter), "what came before is known"
    assert records(starter)["register-model"]["run"] != run, "evaluate-model was run again"
    for wrong, words in (("deploy-model", "The plan leaves deploy-model out"), ("tain", "'tain' is not an action")):
        done = mlops("run", "--only", wrong)
        assert done.returncode == 2 and words in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_leaves_nothing_running_and_goes_on_where_it_was(
    mlops: Run, starter: Path, number: signal.Signals
) -> None:
    source = (starter / "pipeline.py").read_text()
    mark = starter / "pid"
    slow = f"    import os, time\n    open({str(mark)!r}, 'w').write(str(os.getpid()))\n    time.sleep(60)\n"
    body = '"""Fit a logistic regression."""\n'
    (starter / "pipeline.py").write_text(source.replace(body, body + slow))
    environ = {**os.environ, "MLOPS_HOME": str(starter / "home")}
    process = subprocess.Popen([str(MLOPS), "run"], cwd=starter, env=environ, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    waiting = [line.split()[0] for line in listed.stdout.splitlines() if "--standby evaluate-model" in line]
    assert waiting, "the next part stands by"
    started = [Identity.of(int(pid)) for pid in (mark.read_text(), *waiting)]
    process.send_signal(number)
    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert process.stderr and b"\nCancelled by SIGINT. What was done is kept" in process.stderr.read()
    deadline = time.monotonic() + 30  # a guard ends what is left of a run that was killed
    while any(one.alive for one in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(one.alive for one in started)
    (starter / "pipeline.py").write_text(source)
    again = mlops("run")
    assert again.returncode == 0, again.stderr
    assert records(starter)["validate-data"]["reused"] is True
