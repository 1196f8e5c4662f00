"""Report a run of the chain: job summary, one comment on the pull request, a check, an HTML page.

It reads the results of the jobs from `toJSON(needs)` and the records of the actions from the jobs' outputs and the
store. Its first line is the verdict and why. Then comes what failed; what changed (metrics, data, features, pipeline,
image, parameters) against the champion that the model was judged against and against the last run of the branch; and
what that affects. The rest is folded. Where all passed and nothing changed, it is one line.

The page draws its charts itself and needs nothing else; it is kept in the store, with the Markdown, under
`reports/<run>/`. The comment is written when there is a token and the event is a pull request. The same comment is
updated the next time; only when the verdict flips there is a new one, and the old one is minimised. Each project of a
repository (`working-directory`) has its own.

A pull request from a fork has no token that may write. There the action leaves its report as a file (`shared-file`),
and a run on `workflow_run` writes it (`fork-run`, in the workflow `report-fork.yml`): it believes nothing of that file
but sentences and numbers of a strict schema, and asks GitHub which workflow, commit and pull request the run was of.
This workflow of yours calls it, where yours that runs the chain is named `mlops`:

```yaml
on: {workflow_run: {workflows: [mlops], types: [completed]}}
permissions: {}
jobs:
  report:
    uses: mlops-actions/mlops-actions/.github/workflows/report-fork.yml@v1
    permissions: {contents: read, actions: read, pull-requests: write, checks: write}
```
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr

from ..errors import BadInput, MlopsError
from ..inputs import Inputs, Outputs
from ..runtime.action import Action
from ..runtime.chain import NAMES
from ..runtime.result import Result
from ..untrusted import visible

if TYPE_CHECKING:
    from ..context import Context
    from ..reports.report import Report
    from ..runtime.step import Step


class ReportInputs(Inputs):
    """What `report` takes."""

    needs: str = Field("", description="`toJSON(needs)` of the job that reports.", examples=["${{ toJSON(needs) }}"])
    comment: Literal["auto", "never"] = Field(
        "auto", description="`auto`: comment on the pull request when the event is one and there is a token."
    )
    check: Literal["auto", "never"] = Field(
        "auto",
        description="`auto`: make a check of the commit, with what failed at its place, when there is a token and"
        " this is a workflow.",
    )
    fork_run: int = Field(
        0,
        ge=0,
        description="Number of a pull request's run that had no rights, such as a fork's: its report is read from the"
        " artifact that it left, and written. For a workflow on `workflow_run`.",
    )
    fork_workflow: str = Field(
        ".github/workflows/mlops.yml", description="The workflow that `fork-run` must be a run of: your file's path."
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="GitHub token with `pull-requests: write` for the comment and `checks: write` for the check.",
    )


class ReportOutputs(Outputs):
    """What `report` gives."""

    verdict: str = Field(description="`passed`, `unchecked`, `rejected`, `bad-input`, `failed` or `cancelled`.")
    headline: str = Field(description="One sentence: what came of the run.")
    markdown_uri: str = Field(description="The report as Markdown, in the store.")
    page_uri: str = Field(description="The report as one HTML page, in the store.")
    page_file: str = Field(description="The page as a file on this machine.")
    comment_url: str = Field(description="The comment on the pull request.")
    check_url: str = Field(description="The check of the commit.")
    shared_file: str = Field(
        "",
        description="Where the run has no rights: the file to upload as the artifact `shared-name`, for `fork-run`.",
    )
    shared_name: str = Field("", description="The name of that artifact: one a `working-directory`.")


def run(inputs: ReportInputs, step: Step) -> Result[ReportOutputs]:
    """Gather, write the Markdown and the page, comment.

    Raises:
        BadInput: there is nothing to report.
    """
    from ..reports.report import gather, markdown, marker, page
    from ..reports.shared import FILE, artifact, write_shared

    if inputs.fork_run:
        return _of_fork(inputs, step)
    store = step.workspace.store
    report = gather(inputs.needs, step.records(), NAMES)
    if not report.records and not report.jobs:
        fix = "Correct `run`: `mlops runs` lists them. In a workflow give `needs: ${{ toJSON(needs) }}`, too"
        raise BadInput(f"Nothing is known of the run {step.run!r}", why=f"{store.url} has no record of it", fix=fix)
    report = _compared(report, step)
    for failure in report.failures[1:]:  # the first one is the headline
        step.console.say(visible(failure))
    mark = marker(step.folder)
    text = markdown(report, mark=mark)
    html = page(report)
    folder = f"reports/{step.run}"
    file = step.workspace.home / folder / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    for name, content in (("report.md", text), ("report.html", html)):
        store.put(step.workspace.kept(f"{folder}/{name}"), content.encode())
        (file.parent / name).write_text(content, encoding="utf-8")
    shared = ""
    if step.context.outside:
        shared = str(file.parent / FILE)
        Path(shared).write_bytes(write_shared(report))
    comment_url, check_url = ("", "") if shared else _published(report, text, mark, inputs, step.context, step)
    outputs = ReportOutputs(
        verdict=report.verdict,
        headline=report.headline,
        markdown_uri=store.uri(step.workspace.kept(f"{folder}/report.md")),
        page_uri=store.uri(step.workspace.kept(f"{folder}/report.html")),
        page_file=str(file),
        comment_url=comment_url,
        check_url=check_url,
        shared_file=shared,
        shared_name=artifact(step.folder) if shared else "",
    )
    return Result(outputs, {"markdown": text}, reason=report.headline)


def _of_fork(inputs: ReportInputs, step: Step) -> Result[ReportOutputs]:
    """Write the comment and the check of a run that had no right to."""
    from ..github.forks import report_of
    from ..reports.report import markdown, marker
    from ..reports.shared import artifact

    context, token = step.context, inputs.token.get_secret_value()
    found = report_of(
        context.api,
        token,
        context.repository,
        inputs.fork_run,
        inputs.fork_workflow,
        artifact(step.folder),
        step.workspace.environ,
    )
    report, mark = found.report, marker(step.folder)
    text = markdown(report, mark=mark)
    theirs = replace(context, pull_request=found.number, commit=found.commit, run=found.run, url=found.url)
    comment_url, check_url = _published(report, text, mark, inputs, theirs, step)
    outputs = ReportOutputs(
        verdict=report.verdict, headline=report.headline, markdown_uri="", page_uri="", page_file="",
        comment_url=comment_url, check_url=check_url, shared_file="", shared_name="",
    )  # fmt: skip
    return Result(outputs, {"markdown": text}, reason=f"The report of pull request {found.number} is written")


def _published(
    report: Report, text: str, mark: str, inputs: ReportInputs, context: Context, step: Step
) -> tuple[str, str]:
    """Write the comment and the check; their URLs, each "" where there is none.

    When GitHub refuses one, a warning says why: the report exists all the same, in the summary.
    """
    from ..github.api import Check, Comment, write_check, write_comment
    from ..http.tls import trusted_file
    from ..reports.annotations import annotate

    console, trusted = step.console, trusted_file(step.workspace.environ)
    token = inputs.token.get_secret_value()
    urls = ["", ""]
    if inputs.comment == "auto" and token and context.pull_request:
        comment = Comment(mark, text, report.good, context.run)
        try:
            urls[0] = write_comment(context.api, token, context.repository, context.pull_request, comment, trusted)
        except MlopsError as error:
            console.warning(str(error))
    if inputs.check == "auto" and token and context.on_runner and context.commit:
        folder = "" if step.folder == "." else f"{step.folder}/"
        found = annotate(report.records, str(inputs.config))
        placed = [replace(one, file=f"{folder}{one.file}") for one in found]
        name = f"mlops ({step.folder})" if folder else "mlops"
        check = Check(name, _CONCLUSIONS.get(report.verdict, "failure"), report.headline, text, context.url, placed)
        try:
            urls[1] = write_check(context.api, token, context.repository, context.commit, check, trusted)
        except MlopsError as error:
            console.warning(str(error))
    return urls[0], urls[1]


_CONCLUSIONS = {"passed": "success", "unchecked": "neutral", "cancelled": "cancelled"}


def _compared(report: Report, step: Step) -> Report:
    """The report with what it is compared with: the champion that was judged against, and the last run of the branch.

    This run is the next one's last.
    """
    from ..registry.registry import Registry
    from ..reports.changes import facts_of_version, read
    from ..serving.history import places

    store, before, serving = step.workspace.store, [], []
    judged = next((record for record in reversed(report.records) if record.action == "evaluate-model"), None)
    champion = judged.details.get("champion") if judged else None
    model = str(judged.inputs.get("model") or "") if judged else ""
    if judged and isinstance(champion, dict) and isinstance(champion.get("version"), int) and model:
        try:
            manifest = Registry(store).manifest(model, champion["version"])
            before.append(facts_of_version(manifest, f"version {manifest.version}, the {champion.get('alias')}"))
            serving = [one.place for one in places(store, model) if one.live]
        except BadInput:  # it was removed meanwhile
            pass
        except MlopsError as error:
            step.console.warning(f"The report does not compare with version {champion['version']}: {error}")
    branch = f"{step.project_name}\n{model}\n{step.context.branch}"
    path = step.workspace.kept(f"reports/last/{hashlib.sha256(branch.encode()).hexdigest()[:16]}.json")
    try:
        kept = store.get_json(path)
    except (FileNotFoundError, ValueError):
        kept = None
    if isinstance(kept, dict) and kept.get("run") == step.run:  # this report is made again
        kept = kept.get("before")
    last = read(kept, "the last run of this branch")
    if report.facts.known:
        now = replace(report.facts, run=step.run).as_json()
        store.put_json(path, {**now, "before": {**last.as_json(), "before": None} if last else None})
    return replace(report, before=[*before, *([last] if last else [])], places=serving)


ACTION = Action(
    "report",
    "core",
    ReportInputs,
    ReportOutputs,
    run,
    icon="file-text",
)
