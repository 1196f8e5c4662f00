"""One report of a run of the chain: from the results of its jobs and the records of its actions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import BadInput
from ..misfits import first_misfit
from ..records import Record
from ..text import cut, many, number
from ..untrusted import sentence
from .changes import Change, Facts, changes, facts_of
from .charts import charts, graph, timeline
from .environments import environments
from .lineage import lineage
from .sections import fitting, render, section, sign

MARKER = "<!-- mlops-actions report -->"
LIMIT = 65_000
"""Characters of a comment. GitHub takes 65,536, and a check's summary has one less; the rest is for marks."""
ROWS = 30
"""Rows of a table in a comment; the summary and the page have more."""
_MERMAID = re.compile(r"^```mermaid\n.*?^```\n", re.MULTILINE | re.DOTALL)
# In the page, signs that every font has.
_PLAIN = {
    "✅": ("good", "✓"),
    "❌": ("bad", "✗"),
    "⚠️": ("bad", "!"),
    "⏹️": ("bad", "■"),
    "➖": ("soft", "–"),
    "⚪": ("soft", "○"),
    "❔": ("soft", "?"),
}
_TAGS = {
    "a", "blockquote", "br", "code", "details", "em", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre", "span",
    "strong", "sub", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "details": {"open"}, "span": {"class"}, "td": {"style"}, "th": {"style"}}
_UNSHOWN = ("plan", "report")
"""Actions whose records are no section of a report unless they failed."""
_FAILED = ("rejected", "bad-input", "failed", "cancelled")
_JOBS = {
    "validate-data": "data", "materialize-features": "data", "build-image": "image", "tune-hyperparams": "train",
    "run-pipeline": "train", "evaluate-model": "train", "test-model": "test", "register-model": "register",
    "deploy-model": "deploy", "monitor-model": "monitor",
}  # fmt: skip
"""The jobs of the workflow `mlops.yml` by the actions that they run."""


class _Job(BaseModel):
    """What `needs` has of a job."""

    result: str
    outputs: dict[str, str | None] | None = None


@dataclass(frozen=True)
class Report:
    """What happened in a run.

    Attributes:
        jobs: each job's result as GitHub says it (`success`, `failure`, `cancelled`, `skipped`).
        records: one an action (and variant), in the order of the chain.
        title: what stands above a page that is not of a run.
        before: what the run is compared with, such as the champion and the last run of the branch.
        places: where a version of the model serves now.
    """

    jobs: Mapping[str, str]
    records: Sequence[Record]
    title: str = ""
    before: Sequence[Facts] = ()
    places: Sequence[str] = ()

    @property
    def failed(self) -> list[Record]:
        """The actions that did not pass."""
        return [record for record in self.records if record.verdict in _FAILED]

    @property
    def shown(self) -> list[Record]:
        """The actions that a report tells of."""
        return [record for record in self.records if record.action not in _UNSHOWN or record.verdict in _FAILED]

    @property
    def lost(self) -> list[str]:
        """The jobs that ended badly; when no action failed they left no record of why."""
        return [name for name, result in self.jobs.items() if result in ("failure", "cancelled")]

    @property
    def failures(self) -> list[str]:
        """What failed, each as a sentence: actions, or else jobs, or else what was planned and left no record."""
        jobs = [f"The job {name} ended with {self.jobs[name]} and left no record: see its log" for name in self.lost]
        missing = [f"{name} was planned and left no record" for name in self._missing if not self._passed_over(name)]
        return [_failure(record) for record in self.failed] or jobs or missing

    @property
    def verdict(self) -> str:
        """`passed`, or what is worst. Of jobs that all went well `unchecked` is the worst; so is no record at all."""
        worst = next((verdict for verdict in reversed(_FAILED) if any(r.verdict == verdict for r in self.failed)), "")
        unchecked = not self.records or any(record.verdict == "unchecked" for record in self.records)
        return worst or ("failed" if self.failures else "unchecked" if unchecked else "passed")

    @property
    def good(self) -> bool:
        """Whether nothing failed. A verdict flips when this does."""
        return self.verdict in ("passed", "unchecked")

    @property
    def headline(self) -> str:
        """One sentence for whoever owns the product: what came of it, and why."""
        if self.failures:
            return cut(self.failures[0])
        if not self.records:
            return "Not everything was checked: no action left a record"
        if unchecked := [record for record in self.records if record.verdict == "unchecked"]:
            return cut(_said("Not everything was checked", unchecked[0].action, unchecked[0].reason))
        last = [record for record in self.records if record.action in _DECIDING]
        drifted = [_said("The data has drifted", record.reason) for record in self.records if _drifted(record)]
        done = _success(last[-1]) if last else f"{many(len(self.records), 'action')} passed"
        return cut("; ".join([*drifted, done]))

    @property
    def source(self) -> dict[str, str]:
        """Which commit and run it is of."""
        source = next((record.source for record in self.records if record.source), {})
        return {name: str(value) for name, value in source.items()}

    @property
    def facts(self) -> Facts:
        """What the run's model is made of and what it came to."""
        return facts_of(self.records, self.verdict)

    @property
    def differences(self) -> list[tuple[Facts, list[Change]]]:
        """What changed against each of those that the run is compared with."""
        return [(one, changes(self.facts, one)) for one in self.before if one.known and self.facts.known]

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to tell: all went well, as before, and nothing changed."""
        same = all(not found and (not one.verdict or one.verdict == self.verdict) for one, found in self.differences)
        drifted = any(_drifted(record) for record in self.records)
        return self.verdict == "passed" and bool(self.differences) and same and not drifted

    @property
    def not_run(self) -> list[tuple[str, str]]:
        """The parts of the chain that the plan left out, or that left no record, each with its reason."""
        out = [(name, why) for name, runs, why in self._planned if not runs]
        return [*out, *((name, self._passed_over(name) or "it left no record") for name in self._missing)]

    @property
    def _planned(self) -> list[tuple[str, bool, str]]:
        """The parts of the chain by name, whether each was to run, and why."""
        found = [record.details.get("steps") or [] for record in self.records if record.action == "plan"]
        return fitting(
            lambda: [(str(one["name"]), bool(one["runs"]), str(one["why"])) for steps in found for one in steps], list
        )

    @property
    def _missing(self) -> list[str]:
        done = {record.action for record in self.records}
        return [name for name, runs, _ in self._planned if runs and name not in done]

    def _passed_over(self, action: str) -> str:
        result = self.jobs.get(_JOBS.get(action, ""))
        return f"its job was {result}" if result in ("skipped", "cancelled") else ""


_DECIDING = ("deploy-model", "promote-model", "register-model", "evaluate-model")
"""What a run that went well has done: its last one of these."""
_FAILURES = {
    "plan": ("The chain cannot run", "The chain could not be planned"),
    "validate-data": ("The data is not as agreed", "The data could not be checked"),
    "materialize-features": ("The features are not as they must be", "The features could not be brought up to date"),
    "build-image": ("The image is not as it must be", "The image could not be built"),
    "tune-hyperparams": ("The tuning did not succeed", "The model could not be tuned"),
    "run-pipeline": ("The training failed", "The model could not be trained"),
    "evaluate-model": ("The model is not good enough", "The model could not be judged"),
    "test-model": ("The model does not work everywhere", "The model could not be tested"),
    "register-model": ("The model was not registered", "The model could not be registered"),
    "promote-model": ("The version was not promoted", "The version could not be promoted"),
    "deploy-model": ("The version does not serve", "The version could not be deployed"),
    "monitor-model": ("The data has drifted", "The model could not be monitored"),
}
"""What it means that an action did not pass, and that it could not be done."""


def _failure(record: Record) -> str:
    refused, broken = _FAILURES.get(record.action, (f"{record.action} did not pass", f"{record.action} failed"))
    what = refused if record.verdict == "rejected" else broken
    if record.verdict == "cancelled":
        what = f"{record.action} was cancelled"
    return _said(what, record.problem.what if record.problem else record.reason)


def _said(*parts: str) -> str:
    return ": ".join(filter(None, parts))


def _success(record: Record) -> str:
    """What a run has done; of a model that was judged against a champion, which is the better one."""
    compared = record.details.get("comparisons") if record.action == "evaluate-model" else None
    primary = record.outputs.get("primary-metric")
    for one in compared if isinstance(compared, list) else ():
        if isinstance(one, dict) and one.get("metric") == primary:
            values = f"{primary} {number(one.get('challenger'))}, was {number(one.get('champion'))}"
            words = {"better": "better than", "worse": "worse than, by no more than is allowed,"}
            than = words.get(str(one.get("verdict")), "no worse than, as far as the rows can tell,")
            return f"The model is {than} version {record.outputs.get('champion-version')}: {values}"
    return f"The model is good enough: {record.reason}" if record.action == "evaluate-model" else record.reason


def gather(needs: str, stored: Sequence[Record], order: Sequence[str]) -> Report:
    """A report from `toJSON(needs)` and the records that the store has of the run.

    A record is any output of a job whose name ends with `record`; `records` is a list of them. The store's win: they
    are whole, and of each leg of a matrix.

    Raises:
        BadInput: `needs` is not what GitHub gives.
    """
    try:
        jobs = TypeAdapter(dict[str, _Job]).validate_json(needs or "{}")
    except ValidationError as error:
        why = first_misfit(error)
        raise BadInput("`needs` is not the JSON of a job's needs", why=why, fix="Give `toJSON(needs)`") from None
    found: dict[tuple[str, str], Record] = {}
    for job_name, job in jobs.items():
        for name, text in (job.outputs or {}).items():
            # act gives the outputs of a job that was skipped as they are written, not evaluated
            if name.endswith(("record", "records")) and text and not text.startswith("${{"):
                several = TypeAdapter(list[Record] if name.endswith("s") else Record)
                try:
                    records = several.validate_json(text)
                except ValidationError as error:
                    raise BadInput(
                        f"The output {name} of the job {job_name} is not a record",
                        why=first_misfit(error),
                        fix="Give the job the output `record` of an action's step, whole",
                    ) from None
                found |= {_identity(one): one for one in (records if isinstance(records, list) else [records])}
    found |= {_identity(record): record for record in stored}
    ordered = sorted(
        found.values(), key=lambda r: (order.index(r.action) if r.action in order else len(order), r.started)
    )
    return Report({name: job.result for name, job in jobs.items()}, ordered)


def marker(folder: str) -> str:
    """What marks the comment of a project: one a folder of a repository that has several."""
    name = re.sub(r"[^A-Za-z0-9._/]+", "-", folder).strip("-./")
    return MARKER.replace(" -->", f" {name} -->") if name else MARKER


def markdown(report: Report, page_url: str = "", mark: str = MARKER, limit: int = LIMIT) -> str:
    """The report in GitHub's Markdown, with the mark that its comment is found by.

    What is over the limit of characters is left out, the longest sections first: of each its heading stays.
    """
    shown = report.shown
    texts = [_section(report, record, ROWS) for record in shown]

    def whole(rows: int) -> str:
        parts = list(zip(shown, texts))
        if report.quiet:
            return render("_quiet.md.j2", report=report, page_url=page_url, marker=mark)
        told = [part for part in parts if part[0].verdict in _FAILED]
        folded = [part for part in parts if part[0].verdict not in _FAILED]
        drawn = lineage(report.facts, report.differences, report.places)
        return render(
            "_report.md.j2", report=report, told=told, folded=folded, lineage=drawn, rows=rows, page_url=page_url,
            marker=mark,
        )  # fmt: skip

    text, longest = whole(ROWS), sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    while len(text) > limit and longest:
        over = len(text) - limit
        while over > 0 and longest:
            index = longest.pop(0)
            left = render("_left_out.md.j2", record=shown[index])
            over -= len(texts[index]) - len(left)
            texts[index] = left
        text = whole(ROWS)
    if len(text) > limit:
        text = whole(5)
    return text if len(text) <= limit else f"{mark}\n## {sign(report.verdict)} {sentence(report.headline)}\n"


def page(report: Report) -> str:
    """The report as one HTML page that needs nothing else.

    The sections' HTML is what is left of their Markdown without all that could load, run or steer something; a browser
    is told to refuse it as well.
    """
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    sections = []
    for record in report.shown:
        text = _MERMAID.sub("", _section(report, record))  # GitHub draws it; here it would be source text
        sections.append((record, _clean(_plain(renderer.render(text))), charts(record)))
    headline = _clean(renderer.renderInline(sentence(report.headline)))
    shown = [] if report.title else report.shown
    return render(
        "_page.html.j2", report=report, sections=sections, sign=_plain(sign(report.verdict)), headline=headline,
        lineage=graph(lineage(report.facts, report.differences, report.places)), spans=timeline(shown),
    )  # fmt: skip


def _section(report: Report, record: Record, rows: int = 1000) -> str:
    """What a record says; before the first environment's test of the model stands the table of all of them."""
    first = next((one for one in report.records if one.action == "test-model"), None)
    table = fitting(lambda: environments(report.records), str) if record is first else ""
    return f"{table}{section(record, rows)}"


def _clean(text: str) -> str:
    import nh3  # not needed for anything but the page

    return nh3.clean(
        text, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes={"http", "https"}, filter_style_properties={"text-align"}
    )


def _plain(text: str) -> str:
    for emoji, (kind, plain) in _PLAIN.items():
        text = text.replace(emoji, f'<span class="{kind}">{plain}</span>')
    return text


def _drifted(record: Record) -> bool:
    """Whether an action found drift, also where that was no reason to fail."""
    columns = record.details.get("drift") or record.details.get("columns") or []
    watches = record.action in ("validate-data", "monitor-model")
    return watches and fitting(lambda: any(one.get("drifted") for one in columns), bool)


def _identity(record: Record) -> tuple[str, str]:
    return record.action, str(record.details.get("variant", ""))
