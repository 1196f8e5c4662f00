"""The reusable workflow under act, for a consumer with one workflow and one pipeline file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from act import in_one_job, make_consumer, plain
from conftest import ROOT, Run
from mlops_actions.reports.shared import read_shared

STEPS = {"run-pipeline", "evaluate-model", "test-model@training", "register-model"}


def test_push_goes_through_the_chain_and_a_second_push_reuses_it(tmp_path: Path) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    code, log = consumer.run()
    assert code == 0, log
    (records,) = consumer.records()
    assert set(records) == STEPS
    assert records["register-model"]["outputs"]["version"] == 1
    assert records["run-pipeline"]["source"]["repository"] == "example/consumer"
    report = next(consumer.store.glob("reports/*/report.md")).read_text()
    assert "run-pipeline" in report and "register-model" in report

    code, log = consumer.run()
    assert code == 0, log
    again = consumer.records()[1]
    assert again["run-pipeline"]["reused"]
    assert again["register-model"]["outputs"]["version"] == 1
    assert again["register-model"]["outputs"]["created"] is False
    assert len(list(consumer.store.glob("models/*/versions/*.json"))) == 1


def test_one_job_comes_to_what_many_come_to(tmp_path: Path) -> None:
    one, many = (make_consumer(tmp_path / name, "minimal") for name in ("one", "many"))
    in_one_job(one)
    logs = []
    for consumer in (one, many):
        code, log = consumer.run()
        assert code == 0, log
        logs.append(log)
    ended = [set(re.findall(r"\[mlops/mlops/(\w[^\]]*?) *\].*Job succeeded", log)) for log in logs]
    assert len(ended[0]) == 2 and len(ended[1]) == 5, ended
    (ours,), (theirs,) = one.records(), many.records()
    assert set(ours) == set(theirs) == STEPS
    for name in STEPS:
        assert ours[name]["verdict"] == theirs[name]["verdict"], name
    assert ours["evaluate-model"]["outputs"]["metrics"] == theirs["evaluate-model"]["outputs"]["metrics"]
    assert ours["register-model"]["outputs"]["version"] == theirs["register-model"]["outputs"]["version"] == 1
    heads = [next(c.store.glob("reports/*/report.md")).read_text().splitlines()[1] for c in (one, many)]
    assert heads[0] == heads[1]
    code, log = one.run()
    assert code == 0, log
    assert "✓ run-pipeline: reused" in log and one.records()[1]["run-pipeline"]["reused"]


@pytest.mark.parametrize("jobs", ["many", "one"])
def test_pull_request_trains_and_registers_nothing(tmp_path: Path, jobs: str) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    if jobs == "one":
        in_one_job(consumer)
    code, log = consumer.run("pull_request")
    assert code == 0, log
    assert set(consumer.records("pulls/7")[0]) == STEPS - {"register-model"}
    assert "a pull request registers nothing" in log
    assert not (consumer.store / "models").exists()


@pytest.mark.parametrize("jobs", ["many", "one"])
def test_a_caller_with_contents_read_alone_trains_and_reports(tmp_path: Path, jobs: str) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    if jobs == "one":
        in_one_job(consumer)
    workflow = consumer.folder / ".github" / "workflows" / "mlops.yml"
    lines = workflow.read_text().splitlines(keepends=True)
    workflow.write_text("".join(line for line in lines if ": write" not in line))
    consumer.commit()
    code, log = consumer.run()
    assert code == 0, log
    assert set(consumer.records()[0]) == STEPS
    assert list(consumer.store.glob("reports/*/report.md"))


@pytest.mark.parametrize("jobs", ["many", "one"])
def test_failure_is_said_once_where_it_is_and_reported(tmp_path: Path, jobs: str) -> None:
    source = (ROOT / "examples" / "minimal" / "pipeline.py").read_text()
    marker = "import pandas"
    assert marker in source
    broken = source.replace(marker, "raise ZeroDivisionError('on purpose')  # noqa\n    import pandas", 1)
    consumer = make_consumer(tmp_path, "minimal", **{"pipeline.py": broken})
    if jobs == "one":
        in_one_job(consumer)
    code, log = consumer.run()
    assert code == 1
    errors = [line for line in log.splitlines() if "::error " in line]
    assert len(errors) == 1, errors
    assert "ZeroDivisionError" in errors[0] and "file=pipeline.py" in errors[0]
    record = consumer.records()[0]["run-pipeline"]
    assert record["verdict"] == "failed" and "on purpose" in str(record["problem"])
    report = next(consumer.store.glob("reports/*/report.md")).read_text()
    assert "The model could not be trained" in report.splitlines()[1] and "on purpose" in report
    assert "mlops_actions" not in errors[0], "the traceback is the component's, and none of ours"


def test_secret_that_a_component_prints_is_hidden_and_the_token_is_not_there(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "minimal" / "pipeline.py").read_text()
    show = (
        "import os; print('key', os.environ['AWS_SECRET_ACCESS_KEY']); print('token', os.environ.get('GITHUB_TOKEN'))"
    )
    consumer = make_consumer(
        tmp_path, "minimal", **{"pipeline.py": source.replace("import pandas", f"{show}\n    import pandas", 1)}
    )
    secrets = {"AWS_SECRET_ACCESS_KEY": "hidden-from-all-logs", "GITHUB_TOKEN": "ghs-also-hidden-from-all"}
    code, log = consumer.run("pull_request", secrets=secrets)
    assert code == 0, log
    assert "| key ***" in log and "| token None" in log
    assert not any(value in log for value in secrets.values())
    kept = b"".join(path.read_bytes() for path in consumer.store.rglob("*") if path.is_file())
    assert not any(value.encode() in kept for value in secrets.values())


def test_dispatch_by_hand_takes_typed_inputs(tmp_path: Path) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    workflow = consumer.folder / ".github" / "workflows" / "mlops.yml"
    workflow.write_text((consumer.actions / ".github" / "workflows" / "repo-example.yml").read_text())
    (consumer.folder / "mlops.yaml").write_text("model: by-hand\n")
    consumer.commit()
    code, log = consumer.run(
        "workflow_dispatch", **{"working-directory": ".", "deploy": "never", "store": consumer.store.as_uri()}
    )
    assert code == 0, log
    assert "`deploy` is never" in log
    assert (consumer.store / "models" / "by-hand" / "versions" / "1.json").exists()


def test_choice_that_does_not_exist_is_bad_input(tmp_path: Path) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    workflow = consumer.folder / ".github" / "workflows" / "mlops.yml"
    workflow.write_text((consumer.actions / ".github" / "workflows" / "repo-example.yml").read_text())
    consumer.commit()
    code, log = consumer.run("workflow_dispatch", **{"working-directory": ".", "tune": "sometimes"})
    assert code == 1
    assert "title=Bad input" in log and "'auto', 'always' or 'never', not 'sometimes'" in log


def test_two_runs_at_once_make_one_version(tmp_path: Path) -> None:
    consumer = make_consumer(tmp_path, "minimal")
    runs = [
        subprocess.Popen(
            consumer.command("push"), cwd=consumer.folder, env=consumer.environ(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    logs = [run.communicate(timeout=400)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], plain("\n".join(logs))
    versions = [records["register-model"]["outputs"]["version"] for records in consumer.records()]
    assert versions == [1, 1]


@pytest.mark.parametrize("jobs", ["many", "one"])
def test_cancelled_run_leaves_no_process_and_the_next_one_succeeds(tmp_path: Path, jobs: str) -> None:
    source = (ROOT / "examples" / "minimal" / "pipeline.py").read_text()
    mark = tmp_path / "started"
    slow = source.replace(
        "import pandas", f"import time; open({str(mark)!r}, 'w').close(); time.sleep(600)\n    import pandas", 1
    )
    consumer = make_consumer(tmp_path, "minimal", **{"pipeline.py": slow})
    if jobs == "one":
        in_one_job(consumer)
    run = subprocess.Popen(
        consumer.command("push"), cwd=consumer.folder, env=consumer.environ(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    for _ in range(1200):
        if mark.exists():
            break
        time.sleep(0.1)
    assert mark.exists(), "the pipeline never began"
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode != 0
    for _ in range(100):
        left = processes_of(tmp_path)
        if not left:
            break
        time.sleep(0.1)
    assert not left, left
    (consumer.folder / "pipeline.py").write_text(source)
    consumer.commit()
    code, log = consumer.run()
    assert code == 0, log


def processes_of(folder: Path) -> list[str]:
    """Processes that work in, or were given, a folder."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    own = str(os.getpid())
    return [line for line in listed.splitlines() if str(folder) in line and line.split()[0] != own]


def test_a_deployment_that_fails_is_reported(tmp_path: Path) -> None:
    settings = "deploy-model: {requires: [monitor-model]}\n"
    consumer = make_consumer(tmp_path, "minimal", **{"mlops.yaml": settings})
    code, log = consumer.run()
    assert code == 1, log
    report = next(consumer.store.glob("reports/*/report.md")).read_text()
    assert "The version does not serve" in report.splitlines()[1]


@pytest.mark.parametrize("jobs", ["many", "one"])
def test_a_forks_pull_request_without_keys_runs_what_it_can(tmp_path: Path, jobs: str) -> None:
    consumer = make_consumer(
        tmp_path, "starter", **{"mlops.yaml": "model: m\nvalidate-data: {data: data/customers.csv}\n"}
    )
    workflow = consumer.folder / ".github" / "workflows" / "mlops.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text((ROOT / "examples" / "minimal" / ".github" / "workflows" / "mlops.yml").read_text())
    consumer.commit()
    if jobs == "one":
        in_one_job(consumer)
    consumer = replace(consumer, fork=True, store_url="s3://bucket/prefix")
    code, log = consumer.run("pull_request")
    assert code == 0, log
    assert "no keys: its job would not find the model" in log
    (records,) = replace(consumer, store=consumer.home / "store").records("pulls/7")
    assert set(records) == {"validate-data", "run-pipeline", "evaluate-model"}
    shared = read_shared((tmp_path / "artifacts" / "mlops-report" / "report.json").read_bytes(), {})
    assert [record.action for record in shared.records][-1] == "evaluate-model"


def test_init_of_an_empty_repository_writes_a_chain_that_runs_at_once(mlops: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / "README.md").touch()
    assert mlops("init", cwd=folder).returncode == 0
    for action in ("doctor", "validate-data", "run-pipeline", "evaluate-model", "test-model", "register-model"):
        done = mlops(action, cwd=folder, timeout=600)
        assert done.returncode == 0, f"{action}: {done.stderr}"
    version = json.loads((tmp_path / "home/store/models/new/versions/1.json").read_text())
    assert version["lineage"]["data_fingerprint"].startswith("sha256:")
    assert mlops("promote-model", cwd=folder).returncode == 0
