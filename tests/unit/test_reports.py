"""Reports: what is gathered, what is said first, and that untrusted text stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from live_markup import Live, as_html
from mlops_actions.errors import BadInput
from mlops_actions.github.console import SUMMARY_LIMIT
from mlops_actions.records import Problem, Record
from mlops_actions.reports import sections
from mlops_actions.reports.annotations import annotate
from mlops_actions.reports.changes import Change, Facts, changes, facts_of, read
from mlops_actions.reports.charts import PLOT, WIDTH, Line, charts, timeline
from mlops_actions.reports.report import LIMIT, MARKER, Report, gather, markdown, marker, page
from mlops_actions.reports.sections import section
from mlops_actions.runtime.chain import NAMES
from mlops_actions.text import duration, number
from mlops_actions.untrusted import block, cell, code, link, prose

DONE = Record(action="run-pipeline", started="2026-01-01T00:00:00+00:00", seconds=75.2, reason="Trained: auc 0.7")
BAD = Record(
    action="validate-data",
    verdict="bad-input",
    started="2026-01-01T00:00:00+00:00",
    seconds=0.4,
    problem=Problem(exit_code=2, what="No <file> | here", why="`gone`", fix="Bring it", log="line ~~~~~ 1\nline 2"),
)


def needs(**jobs: object) -> str:
    return json.dumps(jobs)


def test_records_come_from_outputs_and_store_in_chain_order() -> None:
    outputs = {"pipeline-record": DONE.model_dump_json(), "metrics": "{}"}
    report = gather(needs(train={"result": "success", "outputs": outputs}, deploy={"result": "skipped"}), [BAD], NAMES)
    assert [record.action for record in report.records] == ["validate-data", "run-pipeline"]
    assert report.jobs == {"train": "success", "deploy": "skipped"}


def test_records_of_one_job_are_a_list() -> None:
    text = f"[{DONE.model_dump_json()}, {BAD.model_dump_json()}]"
    report = gather(needs(plan={"result": "failure", "outputs": {"records": text}}), [], NAMES)
    assert [record.action for record in report.records] == ["validate-data", "run-pipeline"]


def test_an_output_that_is_no_record_is_named_with_its_job_field_and_remedy() -> None:
    with pytest.raises(BadInput, match=r"The output records of the job plan is not a record\. It must be a list"):
        gather(needs(plan={"result": "failure", "outputs": {"records": "{}"}}), [], NAMES)
    with pytest.raises(BadInput, match=r"output a-record of the job train is not .* `started` is missing\. .*`record`"):
        outputs = {"a-record": json.dumps({"action": "plan", "seconds": 1})}
        gather(needs(train={"result": "success", "outputs": outputs}), [], NAMES)


def test_jobs_without_outputs_are_null_under_act() -> None:
    assert gather(needs(a={"result": "success", "outputs": None}), [], NAMES).records == []


def test_headline_names_the_first_action_that_failed() -> None:
    report = gather("", [DONE, BAD], NAMES)
    assert report.verdict == "bad-input"
    assert report.headline == "The data could not be checked: No <file> | here"


def test_job_that_died_without_a_record_is_not_passed_over() -> None:
    report = gather(needs(train={"result": "failure"}), [], NAMES)
    assert report.verdict == "failed" and "train" in report.headline


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', '{"a": {}}', '{"a": {"result": "success", "outputs": 5}}'])
def test_what_is_not_needs_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="needs"):
        gather(text, [], NAMES)


def test_a_slice_by_an_expression_has_a_name_and_no_value() -> None:
    shown = {"rows": 300, "metrics": {"auc": 0.7}}
    slices = [{"column": "night", "value": "", **shown}, {"column": "part", "value": "a", **shown}]
    two = section(JUDGED.model_copy(update={"details": {"slices": slices, "rows": 1}}))
    assert "| night | 300 |" in two and "| part = a | 300 |" in two
    assert "<summary>2 slices</summary>" in two and "(1 test row)" in two
    assert "<summary>1 slice</summary>" in section(JUDGED.model_copy(update={"details": {"slices": slices[:1]}}))


def test_markdown_has_marker_problem_and_time() -> None:
    text = markdown(gather("", [DONE, BAD], NAMES))
    assert text.startswith(MARKER)
    assert "No &lt;file&gt; \\| here" in text
    assert "1 min 15 s" in text
    assert "~~~~~~text\nline ~~~~~ 1\n" in text  # a fence inside the log cannot end the log's fence


TRAINED = DONE.model_copy(
    update={
        "outputs": {
            "metrics": {"auc": 0.91, "log_loss": 0.3, "rows": 10.0},
            "parameters": {"depth": 4, "kind": "tree"},
            "data-fingerprint": f"sha256:{'a' * 64}",
            "pipeline-digest": f"sha256:{'b' * 64}",
        }
    }
)
JUDGED = DONE.model_copy(
    update={
        "action": "evaluate-model",
        "reason": "auc 0.91, 1 of 1 gates passed",
        "outputs": {"primary-metric": "auc", "champion-version": 3},
        "details": {
            "comparisons": [{"metric": "auc", "challenger": 0.91, "champion": 0.9, "verdict": "better"}],
            "champion": {"alias": "champion", "version": 3},
        },
    }
)


def before(**changed: Any) -> Facts:
    """Facts that are those of `TRAINED`, but for what is given."""
    return replace(facts_of([TRAINED], "passed", "version 3, the champion"), **changed)


def test_what_changed_is_named_and_nothing_else() -> None:
    known = before(
        metrics={"auc": 0.9000, "log_loss": 0.2, "rows": 10.0000001, "gone": 1.0},
        parameters={"depth": 3, "kind": "tree"},
        made_of={"data": f"sha256:{'c' * 64}", "pipeline": f"sha256:{'b' * 64}", "features": "sha256:f"},
    )
    assert changes(facts_of([TRAINED], "passed"), known) == [
        Change("metric", "auc", "0.9", "0.91", True),
        Change("metric", "gone", "1", ""),
        Change("metric", "log_loss", "0.2", "0.3", False),
        Change("data", "data", "c" * 12, "a" * 12),
        Change("parameter", "depth", "3", "4"),
    ]


def test_what_is_not_known_is_no_change() -> None:
    assert changes(facts_of([TRAINED], "passed"), Facts()) == []
    assert changes(facts_of([BAD], "failed"), before()) == []


def test_facts_are_read_as_they_were_kept() -> None:
    facts = before(run="7", verdict="passed")
    assert read(json.loads(json.dumps(facts.as_json())), facts.name) == facts
    assert read([], "x") is None
    assert read({"metrics": [1], "parameters": "a", "made_of": 3}, "x") == Facts("x")


def test_a_product_owner_reads_first_which_model_is_better() -> None:
    report = gather("", [TRAINED, JUDGED], NAMES)
    assert report.headline == "The model is better than version 3: auc 0.91, was 0.9"
    champion = before(metrics={"auc": 0.9}, parameters={"depth": 3, "kind": "tree"})
    text = markdown(replace(report, before=[champion], places=["production"]))
    assert "| ▲ better auc | 0.9 | 0.91 |" in text and "| parameter depth | 3 | 4 |" in text
    assert "| log\\_loss | – | 0.3 |" in text.replace("metric ", "")
    drawn = text[text.index("```mermaid") :].split("```")[1]
    assert '"parameters<br/>depth"]:::changed' in drawn and "production<br/>serves now" in drawn
    assert {"n1 --> n4", "n2 --> n4", "n3 --> n4", "n4 --> n5"} <= {line.strip() for line in drawn.splitlines()}
    assert text.index("Changed against version 3") < text.index("```mermaid") < text.index("<summary>What ran")


def test_nothing_changed_is_one_line() -> None:
    report = replace(
        gather("", [TRAINED, JUDGED], NAMES), before=[before(), before(verdict="passed", name="the last run")]
    )
    text = markdown(report)
    assert text.startswith(MARKER) and len(text.strip().splitlines()) == 2
    assert "Nothing changed against version 3, the champion and the last run: The model is better" in text


@pytest.mark.parametrize(
    "change",
    [
        {"before": [before(verdict="rejected")]},
        {"before": []},
        {"before": [before(metrics={"auc": 0.5})]},
        {"jobs": {"train": "failure"}},
        {"records": [TRAINED, JUDGED.model_copy(update={"verdict": "unchecked"})]},
    ],
)
def test_whatever_is_new_is_told_in_full(change: dict[str, Any]) -> None:
    report = replace(gather("", [TRAINED, JUDGED], NAMES), before=[before()])
    assert report.quiet
    assert not replace(report, **change).quiet
    assert "<summary>What ran" in markdown(replace(report, **change))


def test_a_failed_chain_shows_what_failed_before_all_else() -> None:
    rejected = JUDGED.model_copy(update={"verdict": "rejected", "reason": "1 of 1 gates failed: auc 0.4"})
    text = markdown(replace(gather("", [TRAINED, rejected], NAMES), before=[before(metrics={"auc": 0.9})]))
    lines = [line for line in text.splitlines() if line]
    assert lines[1] == "## ❌ The model is not good enough: 1 of 1 gates failed: auc 0.4"
    assert lines[2] == "### ❌ evaluate-model"
    assert text.count("### ❌ evaluate-model") == 1


def crowded() -> Report:
    """What 500 gates (half of them failed) and 2,000 trials leave, with names as long as such names may get."""
    gate = {"kind": "slice", "value": 0.4, "limit": ">= 0.5", "note": "x" * 200, "verdict": ""}
    gates = [{**gate, "metric": f"carrier={i} {'m' * 60}", "passed": i % 2 == 0} for i in range(500)]
    trial = {"name": "trial", "value": 0.5, "parameters": {"a": 1}, "seconds": 1.0, "message": "y" * 300}
    counts = {"all": 2000, "succeeded": 2000, "failed": 0, "early-stopped": 0, "killed": 0}
    tuned = DONE.model_copy(
        update={
            "action": "tune-hyperparams",
            "outputs": {"trials-uri": "file:///t.csv"},
            "details": {
                "best": {"value": 1.0, "parameters": {"a": 1}, "name": "t1", "metrics": {}},
                "counts": counts, "trials": [trial] * 2000, "space": {"a": "int 1 – 9"}, "end": "MaxTrialsReached",
            },
        }
    )  # fmt: skip
    judged = JUDGED.model_copy(update={"verdict": "rejected", "details": {"gates": gates}})
    legs = [DONE.model_copy(update={"action": "test-model", "details": {"variant": f"v{i}"}}) for i in range(300)]
    return gather("", [tuned, judged, *legs], NAMES)


def test_comment_and_summary_keep_githubs_limits_and_say_what_is_left_out() -> None:
    report = crowded()
    text = markdown(report)
    assert len(text) <= LIMIT and "carrier=1 " in text and "| … | 470 more |" in text
    assert text.count("<details") == text.count("</details>") and text.count("```") % 2 == 0
    for record in report.records[:2]:
        assert len(section(record).encode()) <= SUMMARY_LIMIT
    assert len(page(report).encode()) < 2 * 1024 * 1024


@pytest.mark.parametrize("limit", [1_000, 4_000, 12_000, 30_000])
def test_a_report_of_any_length_is_whole_markdown(limit: int) -> None:
    text = markdown(crowded(), limit=limit)
    assert text.startswith(MARKER) and len(text) <= max(limit, 2_200) and "The model is not good enough" in text
    assert text.count("<details") == text.count("</details>")


def test_page_does_not_run_foreign_script() -> None:
    evil = BAD.model_copy(update={"problem": Problem(exit_code=2, what="<script>alert(1)</script>")})
    assert "<script>alert" not in page(gather("", [evil], NAMES))


@pytest.mark.parametrize("text", ["a|b", "*a*", "`a`", "<b>", "#1", "[x](y)", "a\nb", "@octocat"])
def test_cell_has_no_markup(text: str) -> None:
    made = as_html(f"| a |\n| --- |\n| {cell(text)} |\n")
    assert made.count("<td>") == 1
    assert not any(tag in made for tag in ("<em>", "<code>", "<b>", "<a ", "<h1>"))
    assert "@octocat" not in made


def test_words_for_numbers() -> None:
    assert [duration(s) for s in (0.04, 12.4, 75.2, 7500)] == ["0.0 s", "12 s", "1 min 15 s", "2 h 5 min"]
    assert [number(n) for n in (1234567, 28123.0, 0.123456, True, "x")] == [
        "1,234,567",
        "28,123",
        "0.1235",
        "True",
        "x",
    ]
    assert code("a`b") == "`` a`b ``"


def test_each_action_has_a_section_of_its_own_for_a_failure() -> None:
    assert "What to do: Bring it" in section(BAD)


def test_what_to_do_has_its_urls_as_links_and_nothing_else_as_markup() -> None:
    fix = "Run *it* again, or see https://kfp.example.com/#/runs/details/1_2. Then <stop>"
    assert prose(fix) == ("Run \\*it\\* again, or see <https://kfp.example.com/#/runs/details/1_2>. Then &lt;stop&gt;")


def test_what_was_skipped_is_not_green() -> None:
    skipped = DONE.model_copy(
        update={
            "action": "build-image",
            "outputs": {"skipped": True},
            "details": {"skipped": "x"},
            "reason": "Skipped: x",
        }
    )
    report = gather("", [skipped, DONE], NAMES)
    assert "| ➖ | build-image | Skipped: x |" in markdown(report)
    html = page(report)
    assert '<li class="off"><a href="#s1">build-image<small>skipped' in html
    assert '<li class="yes"><a href="#s2">run-pipeline' in html


def test_drift_is_in_the_headline_also_where_it_fails_nothing() -> None:
    deployed = DONE.model_copy(update={"action": "deploy-model", "reason": "Version 2 is served"})
    moved = {"columns": [{"column": "a", "drifted": True, "why": "psi", "psi": 0.4}], "rows": 1}
    monitor = DONE.model_copy(
        update={"action": "monitor-model", "reason": "m should be trained again", "details": moved}
    )
    report = gather("", [deployed, monitor], NAMES)
    assert report.headline == "The data has drifted: m should be trained again; Version 2 is served"
    still = {"columns": [{"column": "a", "drifted": False, "psi": 0.0}], "rows": 1}
    quiet = gather("", [deployed, monitor.model_copy(update={"details": still})], NAMES)
    assert quiet.headline == "Version 2 is served"


def test_report_says_what_the_plan_left_out_and_why() -> None:
    steps = [
        {"name": "test-model", "runs": False, "why": "no keys"},
        {"name": "run-pipeline", "runs": True, "why": "x"},
    ]
    plan = DONE.model_copy(update={"action": "plan", "details": {"steps": steps}})
    assert "<sub>Not run: test-model (no keys)</sub>" in markdown(gather("", [plan, DONE], NAMES))


def test_the_page_shows_no_markdown_as_it_is_written() -> None:
    said = Problem(exit_code=2, what="No file `a_b.py`", why="It is *new*", fix="Set `pipeline`, see https://x.org/a")
    failed = BAD.model_copy(update={"problem": said})
    trials = {"trials-uri": "file:///store/trials.csv"}
    best = {"value": 1.0, "parameters": {}, "name": "t1", "metrics": {}}
    counts = {"succeeded": 1, "all": 1, "failed": 0, "early-stopped": 0, "killed": 0}
    tuned = DONE.model_copy(
        update={
            "action": "tune-hyperparams",
            "outputs": trials,
            "details": {"best": best, "counts": counts, "trials": [], "space": {}},
        }
    )
    ran = DONE.model_copy(update={"details": {"pipeline": "a_b", "variant": "py_3"}, "outputs": {"artifacts": []}})
    html = page(gather("", [failed, tuned, ran], NAMES))
    assert "artifacts of a_b</summary>" in html
    assert "<summary>run-pipeline (py_3)</summary>" in markdown(gather("", [ran], NAMES))
    text = re.sub(r"<(code|pre|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert "<h1>" in html and "<code>a_b.py</code>" in html.split("</h1>")[0]
    assert "<code>pipeline</code>, see <a" in html
    for mark in ("`", "](", "**", "| ---"):
        assert mark not in text, text[text.index(mark) - 60 :][:120]


def test_each_project_of_a_repository_has_a_comment_of_its_own() -> None:
    assert marker(".") == MARKER
    marks = {marker(folder) for folder in (".", "models/churn", "models/prices")}
    assert len(marks) == 3
    for one in marks:  # the one of a folder is not found in the comment of another
        text = markdown(gather("", [DONE], NAMES), mark=one)
        assert [other for other in marks if text.startswith(other)] == [one]
    assert "-->" not in marker("a-->b").removesuffix("-->")


HOSTILE = (
    "<img src=x onerror=alert(1)> &#64;octocat &commat;octocat @octocat [x](javascript:alert(1)) <https://evil.example>"
    " ![y](https://evil.example/y.png) https://evil.example www.evil.example a@evil.example #12 | `a` ``b`` \\`c"
    "\n\n<script>alert(2)</script>\n```\n~~~~~\n~~~~~~~~~\n<svg onload=alert(3)>\n"
    "# h\n\x1b[2J\u202e\u2028</details></summary>"
)


class Evil(str):
    """Hostile text that has every attribute and item, all of them hostile, so that a template shows what it can."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("retyped", "nulls"):
            return [(Evil(self), Evil(self), Evil(self))]
        return Evil(self)

    def __getitem__(self, key: Any) -> Any:
        return [Evil(self)] * 2 if isinstance(key, slice) else Evil(self)

    def __iter__(self) -> Iterator[Any]:
        return iter([Evil(self)] * 2)

    def __gt__(self, other: object) -> bool:
        return True

    def items(self) -> list[tuple[Any, Any]]:
        return [(Evil(self), Evil(self))] * 2

    def values(self) -> list[Any]:
        return [Evil(self)] * 2

    def get(self, name: str, default: Any = None) -> Any:
        return Evil(self)


TEMPLATES = sorted(path.name for path in (Path(sections.__file__).parent / "templates").glob("[a-z]*.md.j2"))


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n != "report.md.j2"])
def test_no_template_lets_markup_links_or_mentions_through(name: str) -> None:
    record = Record(action=name.split(".")[0], started="2026-01-01T00:00:00+00:00", seconds=1.0, reason=HOSTILE)
    evil = Evil(HOSTILE)
    text = sections.render(
        name,
        record=record,
        outputs=evil,
        details=evil,
        manifest=evil,
        lineage=evil,
        score=evil,
        front="a: 1",
        description="",
    )
    assert Live(as_html(text)).found == []


@pytest.mark.parametrize("problem", [None, Problem(exit_code=1, what=HOSTILE, why=HOSTILE, place=HOSTILE, log=HOSTILE)])
def test_report_and_page_of_a_hostile_record_are_harmless(problem: Problem | None) -> None:
    record = Record(
        action="run-pipeline", started="2026-01-01T00:00:00+00:00", seconds=1.0, reason=HOSTILE, problem=problem,
        verdict="failed" if problem else "passed",
        details={"variant": HOSTILE, "tasks": [{"name": HOSTILE, "seconds": 1}]},
        source={"repository": HOSTILE, "branch": HOSTILE, "commit": HOSTILE, "url": "javascript:alert(1)"},
    )  # fmt: skip
    other = record.model_copy(update={"action": HOSTILE})
    report = gather(json.dumps({HOSTILE: {"result": "failure"}}), [record, other], NAMES)
    assert Live(as_html(markdown(report, "javascript:alert(1)"))).found == []
    made = page(report)
    assert set(Live(made).found) <= {"style", "svg"}  # its own
    assert made.count("<svg") == made.count('role="img" aria-label')
    assert "default-src 'none'" in made


@pytest.mark.parametrize(
    "details", [{"tasks": "x"}, {"tasks": [1]}, {"classification": [{"matrix": 1, "categories": 2}]}]
)
def test_record_of_another_shape_has_its_heading(details: dict[str, Any]) -> None:
    for action in ("run-pipeline", "validate-data", "../../run-pipeline", "_report", "no-such"):
        assert "Trained: auc 0.7" in section(DONE.model_copy(update={"details": details, "action": action}))


def test_log_of_any_fences_stays_in_its_own() -> None:
    log = "\n".join(["~" * n + "text" for n in (3, 5, 6, 40)] + ["`" * 50, "<b>x</b>"])
    made = as_html(block(log) + "\n\nafter")
    assert made.count("<pre>") == 1 and "<b>" not in made and "<p>after</p>" in made


def test_only_web_addresses_are_links() -> None:
    assert link("https://a.b/c (1)>x") == "<https://a.b/c%20%281%29%3Ex>"
    assert link("https://a.b", "the [run]") == "[the \\[run\\]](https://a.b)"
    assert link("javascript:alert(1)", "x") == "x"
    assert link("file:///t.csv", "CSV") == "CSV"


def test_what_failed_is_annotated_at_its_place() -> None:
    gates = [
        {"kind": "threshold", "metric": "auc", "value": 0.4, "limit": ">= 0.5", "passed": False, "note": ""},
        {"kind": "champion", "metric": "auc", "value": 0.9, "limit": "0.8", "passed": True, "verdict": "cannot tell"},
        {"kind": "threshold", "metric": "f1", "value": 0.9, "limit": ">= 0.5", "passed": True},
    ]
    judged = JUDGED.model_copy(update={"details": {"gates": gates}, "verdict": "rejected"})
    checked = DONE.model_copy(
        update={
            "action": "validate-data",
            "details": {"checks": [{"column": "a", "check": "min", "failed": 3, "place": "c.yaml:7:2", "why": "low"}]},
        }
    )
    problem = Problem(exit_code=1, what="It\x1b[2J broke", why="division", place="pipeline.py:12")
    broken = BAD.model_copy(update={"problem": problem})
    found = annotate([checked, broken, judged], "mlops.yaml")
    assert [(one.file, one.line, one.level) for one in found] == [
        ("c.yaml", 7, "failure"),
        ("pipeline.py", 12, "failure"),
        ("mlops.yaml", 1, "failure"),
        ("mlops.yaml", 1, "warning"),
    ]
    assert found[1].title == "It\\x1b[2J broke" and found[1].message == "division"


@pytest.mark.parametrize("place", ["/etc/passwd:3", "../x.py:3", "s3://b/x.py", ""])
def test_a_place_that_is_not_in_the_repository_is_the_configurations(place: str) -> None:
    broken = BAD.model_copy(update={"problem": Problem(exit_code=1, what="x", place=place)})
    assert [(one.file, one.line) for one in annotate([broken], "mlops.yaml")] == [("mlops.yaml", 1)]


CURVES = {
    "roc": [[0, 0], [0.2, 0.7], [1, 1]],
    "pr": [[0.1, 1], [1, 0.4]],
    "calibration": [[0.1, 0.2], [0.8, 0.9]],
    "predicted": [[1.0, 2.0], [5.0, 4.0]],
    "confusion": {"classes": [HOSTILE, "b"], "counts": [[8, 2], [1, 9]]},
}
DRAWN = [
    ("evaluate-model", {"curves": CURVES}, 5),
    ("evaluate-model", {"slices": [{"column": HOSTILE, "value": HOSTILE, "rows": 9, "metrics": {"auc": 0.7}}]}, 1),
    ("tune-hyperparams", {"objective": HOSTILE, "history": [[1, 0.5], [2, 0.4]], "importances": {HOSTILE: 0.4}}, 2),
    ("validate-data", {"drift": [{"column": HOSTILE, "psi": 0.4, "drifted": True}]}, 1),
    (
        "validate-data",
        {
            "distributions": {
                "names": [HOSTILE, "now"],
                "columns": [
                    {"column": HOSTILE, "psi": 0.4, "drifted": True, "bins": [[HOSTILE, 0.5, 0.1], ["b", 0, 1]]}
                ],
            }
        },
        1,
    ),
    ("monitor-model", {"columns": [{"column": HOSTILE, "psi": 0.0, "drifted": False}]}, 1),
]


@pytest.mark.parametrize(("action", "details", "count"), DRAWN)
def test_page_draws_what_a_record_has_and_its_names_are_only_text(
    action: str, details: dict[str, Any], count: int
) -> None:
    outputs = {"primary-metric": "auc", "metrics": {"auc": 0.7}}
    record = DONE.model_copy(update={"action": action, "details": details, "outputs": outputs})
    assert len(charts(record)) == count
    made = page(gather("", [record], NAMES))
    assert made.count("<figcaption>") == count
    assert set(Live(made).found) <= {"style", "svg"}
    assert "nan" not in made.replace("nance", "") and "://" not in made.split("</style>")[1].replace("http:", "")


@pytest.mark.parametrize(
    "wrong", [None, 3, "x", [], [1], [[1]], [["a", "b"]], {"a": [1]}, [[1, float("nan")]], {"classes": 1}]
)
def test_what_cannot_be_drawn_is_left_out(wrong: Any) -> None:
    details = dict.fromkeys(("curves", "history", "importances", "drift", "columns", "distributions", "slices"), wrong)
    curves = dict.fromkeys(CURVES, wrong)
    for action in ("evaluate-model", "monitor-model", "tune-hyperparams"):
        for given in (details, {"curves": curves}):
            record = DONE.model_copy(update={"action": action, "details": given})
            assert charts(record) == []


@pytest.mark.parametrize(("values", "count"), [((2.0**60, 2.0**60), 1), ((1e308, -1e308), 0), ((5e-324, 0.0), 1)])
def test_numbers_of_any_size_are_drawn_in_the_drawing_or_left_out(values: tuple[float, ...], count: int) -> None:
    details = {"objective": "auc", "history": [[1, values[0]], [2, values[1]]]}
    drawn = charts(DONE.model_copy(update={"details": details}))
    assert len(drawn) == count
    for chart in drawn:
        assert isinstance(chart, Line)
        assert all(0 <= x <= WIDTH and 0 <= y <= PLOT + 10 for x, y in chart.dots)


def test_tuning_history_shows_the_best_so_far_in_its_own_direction() -> None:
    for direction, heights in (("minimize", "falls"), ("maximize", "rises")):
        details = {"history": [[1, 0.5], [2, 0.7], [3, 0.3]], "type": direction}
        (chart,) = charts(DONE.model_copy(update={"details": details}))
        assert isinstance(chart, Line)
        ys = [float(point.split(",")[1]) for point in chart.line.split()]
        assert ys == sorted(ys, reverse=heights == "rises")  # y is downward
        assert len(chart.dots) == 3


def test_a_curve_of_any_length_is_drawn_whole() -> None:
    history = [[i, i % 97 + i / 5000] for i in range(5000)]
    details = {"history": history, "curves": {"roc": [[i, i] for i in range(9000)]}}
    drawn = charts(DONE.model_copy(update={"details": details}))
    made = page(gather("", [DONE.model_copy(update={"details": details})], NAMES))
    for chart in drawn:
        assert isinstance(chart, Line) and f'points="{chart.line}"' in made


def test_timeline_tells_work_from_waiting_and_from_what_was_reused() -> None:
    def at(start: str, seconds: float, **more: Any) -> Record:
        return DONE.model_copy(update={"started": f"2026-01-01T00:00:{start}+00:00", "seconds": seconds, **more})

    first, second, third = timeline([at("00", 10), at("20", 10, reused=True), at("30", 10, verdict="failed")])
    assert (first.wait, first.begin, first.length, first.state) == (0, 0, 25, "good")
    assert (second.wait, second.begin, second.length, second.state) == (25, 50, 25, "reused")
    assert (third.wait, third.begin, third.state) == (75, 75, "bad")
    assert second.words == "reused, waited 10 s" and third.words == "10 s"
    assert timeline([DONE.model_copy(update={"started": "yesterday"})]) == []


def test_page_has_what_changed_lineage_and_timeline() -> None:
    report = replace(gather("", [TRAINED, JUDGED], NAMES), before=[before(metrics={"auc": 0.9})], places=["production"])
    made = page(report)
    assert "Changed against version 3, the champion" in made and "▲ better</span> auc" in made
    assert "<h2>Lineage</h2>" in made and ">production</text>" in made and "<h2>Timeline</h2>" in made
    assert "<script" not in made and "prefers-color-scheme: dark" in made


def test_the_environments_of_a_model_are_one_table_that_says_where_they_part() -> None:
    def leg(name: str, numpy: str, worst: list[dict[str, Any]]) -> Record:
        facts = {"python": "3.11.7", "system": "Linux 6", "machine": "x86_64", "packages": {"numpy": numpy, "x": "1"}}
        details = {"variant": name, "facts": facts, "checks": [], "apart": worst, "load_seconds": 1.0, "worst": None}
        outputs = {"verdict": "passed", "rows": 3, "mismatches": len(worst), "cold-ms": 1234.5, "throughput": 5.0}
        outputs |= {"latency-p50-ms": 1.5, "latency-p95-ms": 2.5, "peak-memory-mb": 166.2}
        rest = {"details": {**details, "mismatches": [], "warnings": []}, "outputs": outputs}
        return Record(action="test-model", started="2026-01-01T00:00:00+00:00", seconds=1.0, **rest)

    far = [{"row": 2, "expected": 0.5, "is": 0.75, "difference": 0.25}]
    report = gather("", [leg("old|est", "1.26", far), leg("newest", "2.1", [])], NAMES)
    text = markdown(report)
    assert text.count("**The model in 2 environments**") == 1
    assert re.search(r"\| old\\\|est \| 3.11.7 \| Linux 6 x86\\_64 \| 1 \| 0.25 \| 2 \| 1,234 ms \| 1.5 ms", text)
    assert re.search(r"\| 2 \| 0.5 \| 0.75 \| \\= \|\n", text)
    assert re.search(r"\| numpy \| 1.26 \| 2.1 \|\n", text) and "| x |" not in text
    assert "The model in 2 environments" in page(report)
    assert "environments**" not in markdown(gather("", [leg("one", "2.1", [])], NAMES))


def planned(*names: str) -> Record:
    steps = [{"name": name, "runs": True, "why": "it is there"} for name in names]
    return DONE.model_copy(update={"action": "plan", "details": {"steps": steps}})


def test_what_was_planned_and_left_no_record_is_no_success() -> None:
    report = gather(needs(test={"result": "success"}), [planned("run-pipeline", "test-model"), DONE], NAMES)
    assert report.verdict == "failed" and report.headline == "test-model was planned and left no record"
    for shown in (markdown(report), page(report)):
        assert "Not run: test-model (it left no record)" in shown


@pytest.mark.parametrize("result", ["skipped", "cancelled"])
def test_what_was_planned_and_whose_job_did_not_run_is_told(result: str) -> None:
    report = gather(needs(test={"result": result}), [planned("run-pipeline", "test-model"), DONE], NAMES)
    assert report.verdict == ("passed" if result == "skipped" else "failed")
    for shown in (markdown(report), page(report)):
        assert f"Not run: test-model (its job was {result})" in shown


def test_a_run_without_any_record_did_not_pass() -> None:
    report = gather(needs(train={"result": "success"}), [], NAMES)
    assert (report.verdict, report.headline) == (
        "unchecked",
        "Not everything was checked: no action left a record",
    )
    assert "<sub></sub>" not in markdown(report)


def test_a_comment_over_the_limit_has_what_failed_first_and_true_counts() -> None:
    legs = [
        DONE.model_copy(
            update={
                "action": "test-model",
                "verdict": "rejected" if number in (40, 59) else "passed",
                "reason": f"leg {number} {'x' * 5000}",
                "details": {"variant": f"v{number}"},
            }
        )
        for number in range(60)
    ]
    report = gather("", legs, NAMES)
    for limit, rows in ((LIMIT, 30), (10_000, 5)):
        text = markdown(report, limit=limit)
        assert len(text) <= limit and "What ran: 60 actions" in text and f"| … | {60 - rows} more |" in text
        told = text[: text.index("What ran")]
        assert "test-model (v40)" in told and "test-model (v59)" in told
    many_failed = gather("", [leg.model_copy(update={"verdict": "rejected"}) for leg in legs], NAMES)
    assert "30 more failed" in markdown(many_failed)


@pytest.mark.parametrize(
    "odd",
    [
        DONE.model_copy(update={"source": {"commit": 7, "branch": ["a"], "url": None}}),
        DONE.model_copy(update={"action": "validate-data", "details": {"columns": ["a"]}}),
        DONE.model_copy(update={"action": "monitor-model", "details": {"columns": 5}}),
        DONE.model_copy(update={"action": "plan", "details": {"steps": [{"name": "x"}, 3]}}),
        DONE.model_copy(update={"action": "plan", "details": {"steps": 3}}),
        DONE.model_copy(update={"action": "test-model", "details": {"variant": "b", "apart": -1, "facts": [1]}}),
    ],
)
def test_a_record_with_an_odd_field_does_not_cost_the_report(odd: Record) -> None:
    other = DONE.model_copy(update={"action": "test-model", "details": {"variant": "a"}})
    report = gather("", [odd, other, JUDGED], NAMES)
    assert "evaluate-model" in markdown(report) and "evaluate-model" in page(report)
    assert report.headline and not report.quiet


def test_jobs_that_ended_badly_are_in_the_page() -> None:
    jobs = needs(data={"result": "failure"}, deploy={"result": "cancelled"}, train={"result": "success"})
    html = page(gather(jobs, [BAD], NAMES))
    assert '<tr><td>data</td><td class="bad">failure</td></tr>' in html and "<td>deploy</td>" in html
    assert "<td>train</td>" not in html


def test_a_plan_that_failed_has_its_reason_and_remedy() -> None:
    report = gather("", [BAD.model_copy(update={"action": "plan"})], NAMES)
    for shown in (markdown(report), page(report)):
        assert "What to do: Bring it" in shown and "plan" in shown
    assert "What ran: 1 action" in markdown(report)


def test_a_headline_has_a_bounded_length_and_no_colon_before_nothing() -> None:
    bad = BAD.model_copy(update={"problem": None, "verdict": "rejected"})
    assert gather("", [bad], NAMES).headline == "The data is not as agreed"
    assert len(gather("", [bad.model_copy(update={"reason": "x" * 10_000})], NAMES).headline) == 300


def test_training_of_which_a_fork_hands_over_no_details_has_no_empty_table() -> None:
    assert "Run key" not in section(DONE) and "<details>" not in section(DONE)
