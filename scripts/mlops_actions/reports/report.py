"""One report of a run of the chain: from the results of its jobs and the records of its actions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from pydantic import ValidationError

from ..errors import BadInput
from ..records import Record
from ..untrusted import sentence
from .environments import environments
from .sections import render, section, sign

MARKER = "<!-- mlops-actions report -->"
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
"""Actions whose records are no section of a report."""
_FAILED = ("rejected", "bad-input", "failed", "cancelled")


@dataclass(frozen=True)
class Report:
    """What happened in a run.

    Attributes:
        jobs: each job's result as GitHub says it (`success`, `failure`, `cancelled`, `skipped`).
        records: one an action (and variant), in the order of the chain.
        title: what stands above a page that is not of a run.
    """

    jobs: Mapping[str, str]
    records: Sequence[Record]
    title: str = ""

    @property
    def failed(self) -> list[Record]:
        """The actions that did not pass."""
        return [record for record in self.records if record.verdict in _FAILED]

    @property
    def verdict(self) -> str:
        """`passed`, or what is worst. Of jobs that all went well `unchecked` is the worst."""
        worst = next((verdict for verdict in reversed(_FAILED) if any(r.verdict == verdict for r in self.failed)), "")
        broken = any(result in ("failure", "cancelled") for result in self.jobs.values())
        unchecked = any(record.verdict == "unchecked" for record in self.records)
        return worst or ("failed" if broken else "unchecked" if unchecked else "passed")

    @property
    def headline(self) -> str:
        """One sentence: what came of it."""
        if self.failed:
            first = self.failed[0]
            return f"{first.action} {_VERBS[first.verdict]}: {first.problem.what if first.problem else first.reason}"
        lost = [name for name, result in self.jobs.items() if result in ("failure", "cancelled")]
        if lost:
            return f"The job {lost[0]} ended with {self.jobs[lost[0]]} and left no record: see its log"
        if unchecked := [record for record in self.records if record.verdict == "unchecked"]:
            return f"{unchecked[0].action}: {unchecked[0].reason}"
        last = [
            r for r in self.records if r.action in ("deploy-model", "promote-model", "register-model", "evaluate-model")
        ]
        drifted = [f"{record.action}: {record.reason}" for record in self.records if _drifted(record)]
        return "; ".join([*drifted, last[-1].reason if last else f"{len(self.records)} actions passed"])

    @property
    def not_run(self) -> list[tuple[str, str]]:
        """The parts of the chain that the plan left out, each with its reason."""
        plans = [record for record in self.records if record.action == "plan"]
        steps = plans[-1].details.get("steps", []) if plans else []
        return [(step["name"], step["why"]) for step in steps if not step["runs"]]


_VERBS = {
    "rejected": "did not pass",
    "bad-input": "was given bad input",
    "failed": "failed",
    "cancelled": "was cancelled",
}


def gather(needs: str, stored: Sequence[Record], order: Sequence[str]) -> Report:
    """A report from `toJSON(needs)` and the records that the store has of the run.

    A record is any output of a job whose name ends with `record`. The store's win: they are whole, and of each leg
    of a matrix.

    Raises:
        BadInput: `needs` is not what GitHub gives.
    """
    try:
        jobs: dict[str, Any] = json.loads(needs or "{}")
        results = {name: str(job["result"]) for name, job in jobs.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput("`needs` is not the JSON of a job's needs", why=str(error), fix="Give `toJSON(needs)`") from None
    found: dict[tuple[str, str], Record] = {}
    for job in jobs.values():
        for name, text in (job.get("outputs") or {}).items():
            # act gives the outputs of a job that was skipped as they are written, not evaluated
            if name.endswith("record") and text and not text.startswith("${{"):
                try:
                    record = Record.model_validate_json(text)
                except ValidationError as error:
                    raise BadInput(f"The output {name} is not a record", why=str(error).split("\n")[0]) from None
                found[_identity(record)] = record
    found |= {_identity(record): record for record in stored}
    ordered = sorted(
        found.values(), key=lambda r: (order.index(r.action) if r.action in order else len(order), r.started)
    )
    return Report(results, ordered)


def marker(folder: str) -> str:
    """What marks the comment of a project: one a folder of a repository that has several."""
    name = re.sub(r"[^A-Za-z0-9._/]+", "-", folder).strip("-./")
    return MARKER.replace(" -->", f" {name} -->") if name else MARKER


def markdown(report: Report, page_url: str = "", mark: str = MARKER) -> str:
    """The report in GitHub's Markdown, with the mark that its comment is found by."""
    sections = [(record, _section(report, record)) for record in report.records if record.action not in _UNSHOWN]
    return render("_report.md.j2", report=report, sections=sections, page_url=page_url, marker=mark)


def page(report: Report, fetch: Callable[[str], bytes]) -> str:
    """The report as one HTML page that needs nothing else; `fetch` gives the bytes of a picture's URI.

    The sections' HTML is what is left of their Markdown without all that could load, run or steer something; a browser
    is told to refuse it as well.
    """
    renderer = MarkdownIt("commonmark", {"html": True}).enable("table")
    sections = []
    for record in report.records:
        pictures = []
        for picture in record.details.get("pictures", []):
            try:
                data = base64.b64encode(fetch(picture["uri"])).decode()
            except FileNotFoundError:
                continue
            pictures.append({"title": picture["title"], "data": data})
        if record.action not in _UNSHOWN:
            text = _MERMAID.sub("", _section(report, record))  # GitHub draws it; here it would be source text
            sections.append((record, _clean(_plain(renderer.render(text))), pictures))
    headline = _clean(renderer.renderInline(sentence(report.headline)))
    return render(
        "_page.html.j2", report=report, sections=sections, sign=_plain(sign(report.verdict)), headline=headline
    )


def _section(report: Report, record: Record) -> str:
    """What a record says; before the first environment's test of the model stands the table of all of them."""
    first = next((one for one in report.records if one.action == "test-model"), None)
    return f"{environments(report.records) if record is first else ''}{section(record)}"


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
    return record.action in ("validate-data", "monitor-model") and any(one.get("drifted") for one in columns)


def _identity(record: Record) -> tuple[str, str]:
    return record.action, str(record.details.get("variant", ""))
