"""What the report compares a run with: the last run of the branch, and the champion in the registry."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Run
from mlops_actions.records import Record
from mlops_actions.registry.manifest import File, Lineage, Manifest
from mlops_actions.registry.registry import Registry
from mlops_actions.reports.report import marker
from mlops_actions.stores.store import Store

DIGEST = f"sha256:{'0' * 64}"


def trained(store: Store, run: str, auc: float, champion: int | None = None, model: str = "m") -> None:
    """What run-pipeline and evaluate-model leave of a run."""
    given = {"metrics": {"auc": auc}, "parameters": {"depth": 3}, "pipeline-digest": DIGEST}
    kept = {"started": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "run": run}
    compared = [{"metric": "auc", "challenger": auc, "champion": 0.8, "verdict": "better"}] if champion else []
    details = {"champion": {"alias": "champion", "version": champion}, "comparisons": compared}
    judged = {"primary-metric": "auc", "champion-version": champion}
    for record in (
        Record(action="run-pipeline", outputs=given, **kept),
        Record(action="evaluate-model", inputs={"model": model}, outputs=judged, details=details, **kept),
    ):
        store.put_json(f"runs/{run}/{record.action}.json", record.model_dump(mode="json"))


def test_a_report_is_compared_with_the_last_run_of_the_branch_also_when_it_is_made_again(
    tmp_path: Path, mlops: Run
) -> None:
    store = Store((tmp_path / "store").as_uri())

    def report(run: str) -> str:
        done = mlops("report", "--run", run, "--store", store.url)
        assert done.returncode == 0, done.stderr
        return store.get(f"reports/{run}/report.md").decode()

    trained(store, "1", 0.8)
    assert "the last run" not in report("1")
    trained(store, "2", 0.9)
    first = report("2")
    assert "**Changed against the last run of this branch**" in first and "| ▲ better auc | 0.8 | 0.9 |" in first
    assert report("2") == first
    trained(store, "3", 0.9)
    assert "Nothing changed against the last run of this branch" in report("3")
    assert len(report("3").strip().splitlines()) == 2


def test_a_report_is_not_compared_with_the_run_of_another_project_or_model(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    (tmp_path / "other").mkdir()

    def report(run: str, folder: str = ".") -> str:
        done = mlops("report", "--run", run, "--store", store.url, "--working-directory", folder)
        assert done.returncode == 0, done.stderr
        return store.get(f"reports/{run}/report.md").decode()

    trained(store, "1", 0.8)
    report("1")
    trained(store, "2", 0.9)
    assert "the last run" not in report("2", "other")
    trained(store, "3", 0.9, model="another")
    assert "the last run" not in report("3")
    trained(store, "4", 0.9)
    assert "Changed against the last run of this branch" in report("4")


def test_the_report_of_a_folder_is_marked_by_its_path_in_the_repository_wherever_that_is(
    tmp_path: Path, mlops: Run
) -> None:
    store, folder = Store((tmp_path / "store").as_uri()), tmp_path / "models" / "churn"
    folder.mkdir(parents=True)
    (tmp_path / ".git").mkdir()

    def mark(*options: str, cwd: Path = tmp_path, **environ: str) -> str:
        done = mlops("report", "--run", "1", "--store", store.url, *options, cwd=cwd, **environ)
        assert done.returncode == 0, done.stderr
        return store.get("reports/1/report.md").decode().splitlines()[0]

    trained(store, "1", 0.8)
    marks = {mark("--working-directory", one) for one in ("models/churn", f"{folder}", "./models/../models/churn/")}
    assert marks == {mark(cwd=folder)} == {mark(MLOPS_WORKING_DIRECTORY=str(folder))} == {marker("models/churn")}
    (tmp_path / ".git").rmdir()
    assert mark(MLOPS_WORKING_DIRECTORY="models/churn", GITHUB_WORKSPACE=str(tmp_path)) == marker("models/churn")


def test_a_report_is_compared_with_the_champion_and_says_where_it_serves(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    Registry(store).register(
        lambda version: Manifest(
            name="m", version=version, created="2026-01-01T00:00:00+00:00", digest=DIGEST, identity="i",
            files=[File(path="model", digest=DIGEST, size=1)], metrics={"auc": 0.8},
            lineage=Lineage(parameters={"depth": 2}),
        )
    )  # fmt: skip
    live = {"kind": "deploy", "version": 1, "at": "2026-01-01T00:00:00+00:00"}
    for place, serves in {"production": live, "stopped": None}.items():
        store.put_json(f"models/m/deployments/{place}.json", {"name": "m", "place": place, "live": serves})
    store.put("models/m/deployments/production.lease", b"{}")
    trained(store, "1", 0.9, champion=1)
    done = mlops("report", "--run", "1", "--store", store.url)
    assert done.returncode == 0, done.stderr
    text = store.get("reports/1/report.md").decode()
    assert text.splitlines()[1] == "## ✅ The model is better than version 1: auc 0.9, was 0.8"
    assert "**Changed against version 1, the champion**" in text
    assert "| ▲ better auc | 0.8 | 0.9 |" in text and "| parameter depth | 2 | 3 |" in text
    assert "production<br/>serves now" in text and text.count("serves now") == 1


def test_a_report_of_a_run_that_nobody_knows_is_bad_input(tmp_path: Path, mlops: Run) -> None:
    done = mlops("report", "--run", "nowhere")
    assert done.returncode == 2 and "Nothing is known of the run 'nowhere'" in done.stderr
    assert "`mlops runs` lists them" in done.stderr


def test_a_record_that_was_cut_is_named_in_the_terminal_the_comment_and_the_page(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    trained(store, "1", 0.8)
    path = "runs/1/evaluate-model.json"
    store.put(path, store.get(path)[:100])
    store.put("runs/1/test-model.json", b"")
    done = mlops("report", "--run", "1", "--store", store.url, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["verdict"] == "failed"
    for shown in (done.stderr, store.get("reports/1/report.md").decode(), store.get("reports/1/report.html").decode()):
        assert path in shown and "runs/1/test-model.json" in shown


def test_a_champion_whose_manifest_is_damaged_leaves_the_rest_of_the_report(tmp_path: Path, mlops: Run) -> None:
    store = Store((tmp_path / "store").as_uri())
    store.put("models/m/versions/1.json", b"{")
    trained(store, "1", 0.9, champion=1)
    done = mlops("report", "--run", "1", "--store", store.url)
    assert done.returncode == 0 and "The report does not compare with version 1" in done.stderr
    assert "## ✅" in store.get("reports/1/report.md").decode()
