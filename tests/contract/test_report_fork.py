"""A fork's report, written by a run that has rights: against GitHub's own description of its API, with every attack."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import github_api
from conftest import Run
from mlops_actions.errors import BadInput, RemoteFailed
from mlops_actions.github.forks import Reported, report_of
from mlops_actions.reports.shared import LIMIT
from mlops_actions.reports.shared import artifact as artifact_name

pytestmark = pytest.mark.skipif(bool(github_api.missing()), reason=github_api.missing() or "-")
WORKFLOW = ".github/workflows/mlops.yml"
SHA, RUN = "c0ffee" + "0" * 34, 30433642
REPORT = {
    "jobs": {"train": "success"},
    "records": [
        {"action": "run-pipeline", "verdict": "passed", "started": "2026-01-01T00:00:00+00:00", "seconds": 3.0,
         "reason": "Trained by a stranger"}
    ],
}  # fmt: skip
RUNS = f"/repos/o/r/actions/runs/{RUN}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[github_api.GitHub]:
    paths = (
        "/repos/{owner}/{repo}/actions/runs/{run_id}",
        "/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts",
        "/repos/{owner}/{repo}/actions/workflows/{workflow_id}",
        "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}",
        "/repos/{owner}/{repo}/pulls",
        *github_api.PUBLISHING,
    )
    with github_api.github(tmp_path_factory.mktemp("github"), *paths) as found:
        yield found


@pytest.fixture
def github(server: github_api.GitHub) -> github_api.GitHub:
    """GitHub with a run of a fork, its pull request 7 and its artifact."""
    server.requests.clear()
    server.comments, server.user, server.files = [], "octocat", {}
    server.changed = {
        RUNS: {
            "id": RUN, "url": f"URL{RUNS}", "artifacts_url": f"URL{RUNS}/artifacts", "workflow_id": 161335,
            "path": WORKFLOW, "event": "pull_request", "head_sha": SHA, "status": "completed", "conclusion": "success",
            "head_branch": "patch-1", "run_attempt": 1, "pull_requests": [],
            "head_repository": {"full_name": "stranger/r", "owner": {"login": "stranger"}},
        },
        "/repos/o/r/actions/workflows/mlops.yml": {"id": 161335, "path": WORKFLOW},
        "/repos/o/r/pulls": [
            {"number": 7, "head": {"sha": SHA, "label": "stranger:patch-1", "repo": {"full_name": "stranger/r"}},
             "base": {"repo": {"full_name": "o/r"}}}
        ],
        f"{RUNS}/artifacts": {"artifacts": [artifact(11)]},
    }  # fmt: skip
    serve(server, archive(json.dumps(REPORT).encode()))
    return server


def artifact(number: int, **changed: Any) -> dict[str, Any]:
    url = f"URL/repos/o/r/actions/artifacts/{number}/zip"
    run = {"id": RUN, "head_sha": SHA}
    return {"id": number, "name": "mlops-report", "expired": False, "size_in_bytes": 900, "archive_download_url": url,
            "workflow_run": run, **changed}  # fmt: skip


def archive(content: bytes, name: str = "report.json", mode: int = stat.S_IFREG | 0o644) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        made.writestr(entry, content)
    return data.getvalue()


def serve(github: github_api.GitHub, data: bytes, number: int = 11) -> None:
    github.files[f"/repos/o/r/actions/artifacts/{number}/zip"] = data


def read(github: github_api.GitHub) -> Reported:
    return report_of(github.url, "token", "o/r", RUN, WORKFLOW, "mlops-report", {})


def test_a_forks_report_is_read_and_its_pull_request_is_githubs_word(github: github_api.GitHub) -> None:
    found = read(github)
    assert (found.number, found.commit) == (7, SHA)
    assert found.report.headline == "1 action passed"
    assert found.report.records[0].source["pull_request"] == 7
    (blob,) = [headers for path, headers in github.blobs if path.startswith("/blob/")]
    assert "authorization" not in {name.lower() for name in blob}, "the token is not shown to where the archive is"


def run_of(**changed: Any) -> Callable[[github_api.GitHub], None]:
    return lambda github: github.changed[RUNS].update(changed)


def pull(**changed: Any) -> Callable[[github_api.GitHub], None]:
    return lambda github: github.changed["/repos/o/r/pulls"][0].update(changed)


def left(*artifacts: dict[str, Any]) -> Callable[[github_api.GitHub], None]:
    return lambda github: github.changed[f"{RUNS}/artifacts"].update(artifacts=list(artifacts))


def served(data: bytes) -> Callable[[github_api.GitHub], None]:
    return lambda github: serve(github, data)


HEAD = {"sha": SHA, "label": "stranger:patch-1", "repo": {"full_name": "stranger/r"}}


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (run_of(workflow_id=99, path=".github/workflows/evil.yml"), "not of the workflow"),
        (run_of(workflow_id=99), "not of the workflow"),
        (run_of(path=".github/workflows/evil.yml", name="mlops"), "not of the workflow"),
        (run_of(event="push"), "not a pull request's"),
        (run_of(status="in_progress", conclusion=None), "has not ended"),
        (run_of(head_repository=None), "has no repository any more"),
        (pull(head={**HEAD, "sha": "d" * 40}), "has moved on"),
        (pull(head={**HEAD, "repo": {"full_name": "other/r"}}), "No open pull request"),
        (pull(head={**HEAD, "repo": None}), "No open pull request"),
        (pull(base={"repo": {"full_name": "stranger/r"}}), "No open pull request"),
        (left(), "has left no report"),
        (left(artifact(11, name="other")), "has left no report"),
        (left(artifact(11, expired=True)), "has left no report"),
        (left(artifact(11, workflow_run={"id": RUN, "head_sha": "d" * 40})), "is of another commit"),
        (left(artifact(11, size_in_bytes=LIMIT + 1)), "is too large"),
        (served(b"\0" * (LIMIT + 1)), "is too large"),
        (served(archive(b" " * (LIMIT + 1))), "is too large"),
        (served(archive(b"\0" * (200 << 20))), "is too large"),
        (served(archive(b"{}", "../../../home/runner/.bashrc")), "is not an archive with report.json alone"),
        (served(archive(b"{}", "/etc/passwd")), "is not an archive with report.json alone"),
        (served(archive(b"{}", "a/report.json")), "is not an archive with report.json alone"),
        (served(archive(b"{}")[:-30]), "is not an archive with report.json alone"),
        (served(b"PK\3\4 and no more"), "is not an archive with report.json alone"),
        (served(archive(b"/etc/passwd", mode=stat.S_IFLNK | 0o777)), "is not of the schema"),
        (served(archive(json.dumps({**REPORT, "pull_request": 1}).encode())), "is not of the schema"),
        (served(archive(b"[" * 100_000)), "is not of the schema"),
    ],
)  # fmt: skip
def test_every_attack_is_refused_before_anything_is_written(
    github: github_api.GitHub, attack: Callable[[github_api.GitHub], None], told: str
) -> None:
    attack(github)
    with pytest.raises(BadInput, match=told):
        read(github)
    assert {verb for verb, _, _ in github.requests} == {"GET"}


@pytest.mark.parametrize("report", [{}, REPORT], ids=["empty", "passed"])
@pytest.mark.parametrize(
    ("said", "verdict"),
    [("failure", "failed"), ("cancelled", "cancelled"), ("timed_out", "failed"), ("startup_failure", "failed"),
     ("skipped", "failed"), (None, "failed"), ("success", "passed")],
)  # fmt: skip
def test_a_report_is_never_better_than_what_github_says_of_the_run(
    github: github_api.GitHub, report: dict[str, Any], said: str | None, verdict: str
) -> None:
    run_of(conclusion=said)(github)
    serve(github, archive(json.dumps(report).encode()))
    found = read(github).report
    assert found.verdict == (verdict if report else verdict.replace("passed", "failed"))
    assert found.good or f"GitHub says `{said}`" in found.headline


def test_what_the_report_says_of_a_failure_is_not_said_twice(github: github_api.GitHub) -> None:
    run_of(conclusion="failure")(github)
    records = [{**REPORT["records"][0], "verdict": "rejected"}]  # type: ignore[dict-item]
    serve(github, archive(json.dumps({"records": records}).encode()))
    assert [record.verdict for record in read(github).report.records] == ["rejected"]


def test_two_files_or_none_are_refused(github: github_api.GitHub) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        made.writestr("report.json", b"{}")
        made.writestr("more", b"")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for content in (data.getvalue(), empty.getvalue()):
        serve(github, content)
        with pytest.raises(BadInput, match="alone"):
            read(github)


def test_of_several_attempts_the_newest_report_is_read(github: github_api.GitHub) -> None:
    left(artifact(11), artifact(12), artifact(9))(github)
    serve(github, b"old", 11)
    serve(github, archive(json.dumps(REPORT).encode()), 12)
    assert read(github).number == 7


def test_each_folder_of_a_repository_has_its_own_artifact(github: github_api.GitHub) -> None:
    names = [artifact_name(folder) for folder in (".", "models/a", "models-a", "models a")]
    assert names == ["mlops-report", "mlops-report-models%2Fa", "mlops-report-models-a", "mlops-report-models%20a"]
    left(artifact(11, name=names[0]), artifact(12, name=names[1]))(github)
    serve(github, b"of another", 11)
    serve(github, archive(json.dumps(REPORT).encode()), 12)
    assert report_of(github.url, "token", "o/r", RUN, WORKFLOW, names[1], {}).number == 7


@pytest.mark.parametrize(
    ("token", "repository", "told"), [("", "o/r", "without a token"), ("t", "", "repository of the run 5 is not known")]
)
def test_what_is_missing_to_ask_github_is_named(token: str, repository: str, told: str) -> None:
    with pytest.raises(BadInput, match=told) as refused:
        report_of("http://127.0.0.1:9", token, repository, 5, WORKFLOW, "mlops-report", {})
    assert refused.value.fix


def test_the_right_that_is_missing_is_named(github: github_api.GitHub) -> None:
    github.faults = [("GET", 403, {"Retry-After": "9999"}, False)]
    with pytest.raises(RemoteFailed, match="Cannot read the run"):
        read(github)


def test_the_trusted_run_writes_comment_and_check_of_the_forks_commit(
    github: github_api.GitHub, mlops: Run, tmp_path: Path
) -> None:
    (tmp_path / "event.json").write_text(json.dumps({"workflow_run": {"id": RUN, "name": "mlops"}}))
    done = mlops(
        "report", "--fork-run", str(RUN), GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="workflow_run",
        GITHUB_EVENT_PATH=str(tmp_path / "event.json"), GITHUB_API_URL=github.url, GITHUB_REPOSITORY="o/r",
        GITHUB_SHA="f" * 40, INPUT_TOKEN="ghs-secret-token",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (comment,) = github.comments or []
    assert "Trained by a stranger" in comment["body"]
    assert any(path == "/repos/o/r/issues/7/comments" for verb, path, _ in github.requests if verb == "POST")
    (check,) = [body for body in github_api.bodies(github, "POST") if "head_sha" in body]
    assert check["head_sha"] == SHA


def test_a_forks_own_run_leaves_its_report_and_writes_nothing(
    github: github_api.GitHub, mlops: Run, tmp_path: Path
) -> None:
    fork = {"pull_request": {"number": 7, "head": {"sha": SHA, "repo": {"full_name": "stranger/r"}}}}
    (tmp_path / "event.json").write_text(json.dumps(fork))
    done = mlops(
        "report", GITHUB_ACTIONS="true", GITHUB_EVENT_NAME="pull_request", GITHUB_API_URL=github.url,
        GITHUB_EVENT_PATH=str(tmp_path / "event.json"), GITHUB_REPOSITORY="o/r", INPUT_TOKEN="reads-only",
        GITHUB_OUTPUT=str(tmp_path / "output"), INPUT_NEEDS='{"train": {"result": "failure", "outputs": null}}',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "output").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("shared-file<<"))
    file = lines[at + 1]
    assert json.loads(Path(file).read_text()) == {"jobs": {"train": "failure"}}
    assert github.requests == []
