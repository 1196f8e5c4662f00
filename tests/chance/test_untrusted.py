"""Whatever a text holds, where it is shown it is only text: on a terminal, in a runner's log, in Markdown, in HTML."""

from __future__ import annotations

import io
import re
import unicodedata
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fuzzing import fuzz
from live_markup import Live, as_html
from mlops_actions.errors import BadInput
from mlops_actions.github.console import ActionsConsole, TerminalConsole
from mlops_actions.records import Record
from mlops_actions.reports.changes import Facts
from mlops_actions.reports.report import Report, markdown, page
from mlops_actions.untrusted import (
    LONGEST_LINE,
    block,
    cell,
    code,
    html,
    link,
    printed_lines,
    prose,
    visible,
    visible_lines,
)

PIECES = [
    "::set-output name=x::y", "::error::x", "##[error]x", "##[", "\x1b[31m", "\x1b]0;t\x07", "\x1b]8;;http://evil\x1b\\",
    "\x9b2J", "\r", "\n", "\t", "\0", "\b", "\u2028", "\u202e", "\u2066", "\ufeff", "\u00a0", "\u200b", "\x85", " ",
    "<img src=x onerror=alert(1)>", "<script>", "</details>", "<!--", "-->", "<a href='https://evil.example'>",
    "@octocat", "@evil/team", "&#64;octocat", "&commat;octocat", "https://evil.example", "www.evil.example",
    "a@evil.example", "#12", "o/r#12", "GH-12", "[x](https://evil.example)", "![x](https://evil.example/y.png)", "[x]: https://evil.example",
    "[x]", "javascript:alert(1)", "`", "``", "`````", "~~~", "~~~~~~", "|", "\\", "*", "_", "# h", "> q", "- l", "1. l",
    "---", "===", "$x$", "$$", "$`", "`$", "xmpp:a@evil.example", "ftp://evil.example", "\ud800", "é", "𝒳",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join)


def obeyed(line: str) -> bool:
    """Whether the runner takes a line for a command: `ActionCommand.TryParseV2` and `TryParse` of actions/runner."""
    return line.strip().startswith("::") or "##[" in line


def harmless(line: str) -> bool:
    """No control characters, no changes of direction, nothing of no width; and not too long."""
    seen = all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in line.replace("\t", ""))
    return seen and len(line) < LONGEST_LINE * 10 + 100


@fuzz
@given(text=texts)
@example("\x1b" * 3000)
def test_lines_do_nothing(text: str) -> None:
    assert all(map(harmless, [*printed_lines(text), *visible_lines(text)]))


@fuzz
@given(text=texts)
def test_runner_obeys_only_our_own_commands(text: str) -> None:
    stream = io.StringIO()
    console = ActionsConsole(stream, None, None, debugging=True)
    console.say(text)
    console.table([text], [[text]], title=text)
    assert not any(map(obeyed, re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", stream.getvalue())))
    stream = io.StringIO()
    console = ActionsConsole(stream, None, None, debugging=True)
    with console.group(text):
        console.debug(text)
        console.warning(text)
        console.failure(BadInput(f"x{text}", log=text))
    names = [line.split("::")[1].split(" ")[0] for line in stream.getvalue().splitlines() if obeyed(line)]
    assert names.count("group") == names.count("endgroup") == names.count("warning") == names.count("error") == 1
    assert set(names) == {"group", "debug", "warning", "error", "endgroup"} and "##[" not in stream.getvalue()


@fuzz
@given(text=texts)
def test_terminal_shows_text_and_obeys_nothing(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        console = TerminalConsole(debugging=True)
        console.say(text)
        console.notice(text)
        console.table([text], [[text]], title=text)
        console.failure(BadInput(f"x{text}", log=text))
        console.finish({"a": text, "b": [text], "c": {text: text}}, text)
    assert all(map(harmless, (out.getvalue() + err.getvalue()).split("\n")))


@fuzz
@given(text=texts)
def test_markdown_of_foreign_text_is_text(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {cell(text)} | {code(text)} |"
    made = as_html(f"before {cell(text)} after\n\n{cell(text)}\n\n{table}\n\n{block(text)}\n\nend")
    assert Live(made).found == []
    tags = re.findall(r"<(\w+)", made)
    assert set(tags) <= {"p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "span"}
    assert tags.count("tr") == 2 and tags.count("td") == 2 and tags.count("pre") == 1
    assert made.rstrip().endswith("<p>end</p>")


@fuzz
@given(text=texts)
def test_text_of_markdown_is_what_was_given(text: str) -> None:
    made = MarkdownIt("commonmark").renderInline(str(cell(text)))
    shown = unescape(re.sub("<span>|</span>|\u200b", "", made))
    assert shown.split() == visible(" ".join(text.split())).split()


@fuzz
@given(text=texts)
def test_html_of_foreign_text_is_text(text: str) -> None:
    assert Live(f"<p>{html(text)}</p>").found == []
    assert re.findall(r"<(\w+)", html(text)) == []


@fuzz
@given(text=texts)
def test_links_are_ours_and_go_to_the_web(text: str) -> None:
    for made in map(as_html, map(str, (link(text, "x"), link(f"https://h/{text}", text), prose(text)))):
        hrefs = re.findall(r'href="([^"]*)"', made)
        assert all(re.match("https?://", href) for href in hrefs)
        assert set(re.findall(r"<(\w+)", made)) <= {"p", "a", "span", "code"}


@fuzz
@given(text=texts)
def test_a_report_and_its_page_show_foreign_names_as_text(text: str) -> None:
    drawn = {
        "curves": {"roc": [[0, 0], [1, 1]], "confusion": {"classes": [text, "b"], "counts": [[1, 2], [3, 4]]}},
        "slices": [{"column": text, "value": text, "rows": 3, "metrics": {text: 0.7}}],
        "history": [[1, 0.5], [2, 0.6]], "objective": text, "importances": {text: 0.5}, "variant": text,
        "drift": [{"column": text, "psi": 0.3, "drifted": True}],
    }  # fmt: skip
    made = {"metrics": {text: 0.7}, "parameters": {text: text}, "pipeline-digest": text, "primary-metric": text}
    records = [
        Record(action=name, started="2026-01-01T00:00:00+00:00", seconds=1.0, reason=text, outputs=made, details=drawn)
        for name in ("run-pipeline", "evaluate-model")
    ]
    other = Facts(text, metrics={text: 0.1}, parameters={text: "x"}, made_of={"pipeline": "other"})
    report = Report({}, records, before=[other], places=[text])
    assert set(Live(page(report)).found) <= {"style", "svg"}
    assert Live(as_html(markdown(report))).found == []
