"""The report of a pull request's run that had no rights, read by a run that has them.

The run's code is a stranger's: its artifact may hold anything, and a workflow of theirs may have our workflow's name.
So GitHub is asked which workflow, repository, commit and pull request it was and how it ended, and of the artifact only
JSON of a strict schema is read, in memory.
https://docs.github.com/actions/reference/security/secure-use#mitigating-the-risks-of-untrusted-code-checkout
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace

from github import Github
from github.PullRequest import PullRequest
from github.WorkflowRun import WorkflowRun

from ..errors import BadInput, RemoteFailed
from ..http.client import HttpClient
from ..records import Problem, Record
from ..reports.report import Report
from ..reports.shared import FILE, LIMIT, read_shared
from .api import connected

_ARTIFACT = "The artifact of the pull request's run"


@dataclass(frozen=True)
class Reported:
    """The report of a run, and the pull request that it is of: its number, commit and page by GitHub's own word."""

    report: Report
    number: int
    commit: str
    run: str
    url: str


def report_of(
    api: str, token: str, repository: str, run: int, workflow: str, artifact: str, environ: Mapping[str, str]
) -> Reported:
    """The report that a pull request's run has left. It is never better than what GitHub says of the run.

    Args:
        api: GitHub's API address.
        token: needs `actions: read`.
        repository: `owner/name`, of this workflow.
        run: its number, as the event `workflow_run` has it.
        workflow: the path of the workflow that it must be of, such as `.github/workflows/mlops.yml`.
        artifact: the name of what it has left.
        environ: variables, for the proxy.

    Raises:
        BadInput: there is no token or repository; the run is another workflow's, or of another commit than the pull
            request's, or has not ended; or what it left cannot be taken.
        RemoteFailed: GitHub refuses or cannot be reached.
    """
    if not token:
        raise BadInput(f"Cannot read the run {run} without a token", fix="Set `token` to one with `actions: read`")
    if not repository:
        raise BadInput(f"The repository of the run {run} is not known", fix="Run this in a workflow on `workflow_run`")
    with connected(api, token, f"Cannot read the run {run}", "actions: read") as client:
        found = client.get_repo(repository).get_workflow_run(run)
        _check_workflow(client, repository, found, workflow)
        request = _pull_request(client, repository, found)
        url = _artifact(found, artifact)
    source = {
        "repository": repository, "commit": found.head_sha, "branch": request.head.label, "event": "pull_request",
        "pull_request": request.number, "url": found.html_url,
    }  # fmt: skip
    report = read_shared(_only_file(_downloaded(url, token, environ)), source)
    report = _as_github_says(report, found, source)
    return Reported(report, request.number, found.head_sha, f"{found.id}-{found.run_attempt}", found.html_url)


def _check_workflow(client: Github, repository: str, run: WorkflowRun, path: str) -> None:
    wanted = client.get_repo(repository).get_workflow(path.rpartition("/")[2])
    if (run.workflow_id, run.path.partition("@")[0], wanted.path) != (wanted.id, path, path):
        raise BadInput(
            f"The run {run.id} is not of the workflow {path}",
            why=f"It is of {run.path}; a name alone says nothing",
            fix="Correct `fork-workflow`, if that is the one which runs the chain",
        )
    if run.event != "pull_request":
        raise BadInput(f"The run {run.id} is not a pull request's", why=f"Its event is {run.event}")
    if run.status != "completed":
        fix = "Run this on `workflow_run` with `types: [completed]`"
        raise BadInput(f"The run {run.id} has not ended", why=f"GitHub says `{run.status}`", fix=fix)


def _pull_request(client: Github, repository: str, run: WorkflowRun) -> PullRequest:
    """The open pull request whose last commit the run was of; of forks, GitHub's run names none."""
    head = run.raw_data.get("head_repository") or {}
    owner = (head.get("owner") or {}).get("login")
    if not owner or not run.head_branch:
        raise BadInput(f"The run {run.id} has no repository any more", why="The fork was deleted")
    for request in client.get_repo(repository).get_pulls(state="open", head=f"{owner}:{run.head_branch}"):
        origin, base = request.head.repo, request.base.repo
        if origin and (origin.full_name, base.full_name) == (head.get("full_name"), repository):
            if request.head.sha == run.head_sha:
                return request
            why = f"It is at {request.head.sha[:12]}, the run was of {run.head_sha[:12]}"
            raise BadInput(f"The pull request {request.number} has moved on", why=why)
    raise BadInput(f"No open pull request is of the commit {run.head_sha[:12]} of {head.get('full_name')}")


def _as_github_says(report: Report, run: WorkflowRun, source: Mapping[str, object]) -> Report:
    """A good report of a run that GitHub does not call successful, or of no action, with the failure that it lacks."""
    if not report.good or (run.conclusion == "success" and report.records):
        return report
    names = "names nothing that failed" if report.records else "has no action"
    problem = Problem(
        exit_code=1, what=f"GitHub says `{run.conclusion}`, and the run's report {names}", fix="See the run's log"
    )
    lacking = Record(
        action="workflow", verdict="cancelled" if run.conclusion == "cancelled" else "failed", problem=problem,
        started=str(run.raw_data.get("updated_at") or ""), seconds=0, source=dict(source),
    )  # fmt: skip
    return replace(report, records=[*report.records, lacking])


def _artifact(run: WorkflowRun, name: str) -> str:
    """The address of the newest artifact with the report."""
    named = [one for one in run.get_artifacts() if one.name == name and not one.expired]
    if not named:
        raise BadInput(f"The run {run.id} has left no report", why=f"It has no artifact {name}")
    newest = max(named, key=lambda one: one.id)
    if newest.raw_data.get("workflow_run", {}).get("head_sha") != run.head_sha:
        raise BadInput(f"The artifact {name} is of another commit than the run {run.id}")
    if newest.size_in_bytes > LIMIT:
        raise BadInput(f"The artifact {name} is too large", why=f"It has {newest.size_in_bytes:,} bytes")
    return newest.archive_download_url


def _downloaded(url: str, token: str, environ: Mapping[str, str]) -> bytes:
    """The archive. GitHub answers with an address elsewhere, which is not shown the token."""
    client = HttpClient(environ, peer="GitHub")
    response = client.send("GET", url, headers={"Authorization": f"Bearer {token}"})
    if response.location:
        response = client.send("GET", response.location, stream=True)
    if not response.ok:
        raise RemoteFailed("Cannot download the report of the pull request's run", why=f"HTTP {response.status}")
    data = b""
    for piece in response.pieces():
        data += piece
        if len(data) > LIMIT:
            response.close()
            raise BadInput(f"{_ARTIFACT} is too large", why=f"It has more than {LIMIT:,} bytes")
    return data


def _only_file(archive: bytes) -> bytes:
    """The one file that the archive must have. Nothing is written to a disk, and no name of it is used."""
    what = f"{_ARTIFACT} is not an archive with {FILE} alone"
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            (entry,) = opened.infolist()
            if entry.filename != FILE or entry.flag_bits & 1:
                raise BadInput(what, why=f"It has {entry.filename[:100]!r}")
            with opened.open(entry) as file:
                data = file.read(LIMIT + 1)
    except BadInput:
        raise
    except Exception as error:  # zipfile raises whatever its input brings it to
        raise BadInput(what, why=type(error).__name__) from None
    if len(data) > LIMIT:
        raise BadInput(f"{FILE} of the pull request's run is too large", why=f"It has more than {LIMIT:,} bytes")
    return data
