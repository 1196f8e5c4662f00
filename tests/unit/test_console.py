"""The runner protocol: files and workflow commands, whatever the text is."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import urllib.parse
from pathlib import Path

import pytest

from mlops_actions.errors import BadInput, Place
from mlops_actions.github.console import SUMMARY_LIMIT, ActionsConsole, TerminalConsole
from mlops_actions.untrusted import LONGEST_LINE


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(stream: io.StringIO, tmp_path: Path) -> ActionsConsole:
    return ActionsConsole(stream, tmp_path / "output", tmp_path / "summary")


def read_outputs(path: Path) -> dict[str, str]:
    """As the runner reads the file."""
    found, lines = {}, iter(path.read_text().split("\n"))
    for line in lines:
        if "<<" in line:
            name, delimiter = line.split("<<", 1)
            value = []
            for inner in lines:
                if inner == delimiter:
                    break
                value.append(inner)
            found[name] = "\n".join(value)
    return found


def test_outputs_keep_lines_and_cannot_be_ended_by_a_value(console: ActionsConsole, tmp_path: Path) -> None:
    evil = "a\nEOF\nother=1\nother<<x\n2\nx"
    console.finish({"one": evil, "two": {"k": [1, float("nan")]}, "three": None, "four": True}, "")
    assert read_outputs(tmp_path / "output") == {"one": evil, "two": '{"k": [1, null]}', "three": "", "four": "true"}


def commands(text: str) -> list[str]:
    """The lines that the runner obeys: of old commands it looks for `##[` anywhere, of new ones at the beginning.

    https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    """
    return [line for line in re.split(r"\r\n|\r|\n", text) if "##[" in line or line.strip().startswith("::")]


SPACES = [
    "",
    "  ",
    "\t",
    "\ufeff",
    "\u00a0",
    "\u200b",
    "\u3000",
    "\u2028",
    "a\r",
    "a\r\n",
    "a\u0085",
    "a\x0b",
    "\x1b[0m",
    "\x00",
]


@pytest.mark.parametrize("command", ["::set-output name=a::b", "##[error]y", "epoch 1 ##[set-output name=a]b"])
@pytest.mark.parametrize("before", SPACES)
def test_text_is_never_taken_for_a_command(
    console: ActionsConsole, stream: io.StringIO, command: str, before: str
) -> None:
    text = f"loss 1\n{before}{command}"
    console.say(text)
    console.table([text], [[text]], title=text)
    assert commands(stream.getvalue()) == []
    assert "set-output" in stream.getvalue() or "error" in stream.getvalue()


@pytest.mark.parametrize("before", SPACES)
def test_text_in_a_command_of_ours_is_its_value(console: ActionsConsole, stream: io.StringIO, before: str) -> None:
    text = f"no{before}::error::x"
    with console.group(text):
        console.warning(text)
        console.failure(BadInput(text, log=text))
    found = [line.split("::")[1].split(" ")[0] for line in commands(stream.getvalue())]
    assert found == ["group", "warning", "error", "endgroup"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07b", "red b"),
        ("10 %\r 20 %\r", " 20 %"),
        ("\x00 \u202e \ud800", "\\x00 \\u202e \\ud800"),
        ("größer 模型 ✅ a b", "größer 模型 ✅ a b"),
        ("x" * 300_000, "x" * 2000 + "… (298,000 more characters)"),
    ],
)
def test_what_a_program_prints_has_no_effects(
    console: ActionsConsole, stream: io.StringIO, capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    console.say(text)
    assert stream.getvalue() == shown + "\n"
    terminal = TerminalConsole()
    terminal.say(text)
    assert capsys.readouterr().err == shown + "\n"


def test_terminal_shows_values_without_effects(capsys: pytest.CaptureFixture[str]) -> None:
    console = TerminalConsole()
    console.table(["[red]a\x1b[2J"], [["[b]x\x1b[2J"]], title="[u]t\x1b[2J")
    console.finish({"a": "v\x1b[2J"}, "")
    found = capsys.readouterr()
    assert "\x1b" not in found.err + found.out
    assert all(name in found.err for name in ("[red]a", "[b]x", "[u]t"))


def test_failure_is_one_annotation_with_place_and_log(console: ActionsConsole, stream: io.StringIO) -> None:
    error = BadInput("No: bad", why="because", fix="do, this", place=Place("a,b.py", 3, 2), log="l1\nl2")
    console.failure(error)
    assert stream.getvalue() == (
        "::error title=Bad input,file=a%2Cb.py,line=3,col=2::No: bad. because. do, this."
        "%0A%0AThe last lines of its log:%0Al1%0Al2\n"
    )


def test_masked_value_is_hidden_everywhere(console: ActionsConsole, stream: io.StringIO, tmp_path: Path) -> None:
    console.mask("s3cret-value\nsecond-line")
    console.say("x s3cret-value y second-line")
    console.warning("s3cret-value")
    console.finish({}, "sum s3cret-value")
    masks = [line for line in stream.getvalue().splitlines() if line.startswith("::add-mask::")]
    rest = stream.getvalue().replace("\n".join(masks), "")
    assert {"::add-mask::s3cret-value", "::add-mask::second-line"} <= set(masks)
    assert "s3cret-value" not in rest and "second-line" not in rest
    assert "s3cret-value" not in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("secret", ["abcd", "abcdefg", "abcdefgh"])
def test_a_short_secret_is_hidden_too(console: ActionsConsole, stream: io.StringIO, secret: str) -> None:
    console.mask(secret)
    console.say(f"<{secret}>")
    *masks, said = stream.getvalue().splitlines()
    assert f"::add-mask::{secret}" in masks and said == "<***>"


def test_what_is_too_short_to_tell_is_not_hidden(console: ActionsConsole, stream: io.StringIO) -> None:
    console.mask("abc")
    console.say("<abc>")
    assert stream.getvalue() == "<abc>\n"


def test_summary_stays_below_githubs_limit(console: ActionsConsole, tmp_path: Path) -> None:
    console.finish({}, "# All\n" + "é" * SUMMARY_LIMIT)
    data = (tmp_path / "summary").read_bytes()
    assert len(data) < SUMMARY_LIMIT
    assert data.decode().startswith("# All\n") and "**Cut here:**" in data.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("<details><summary>log</summary>\n\n~~~~~text\n", "~~~~~\n\n</details>\n"), ("| a |\n| --- |\n", "")],
    ids=["lines", "a log that is folded", "a table"],
)
def test_a_summary_that_is_too_long_is_cut_at_a_line_and_stays_whole_markdown(
    console: ActionsConsole, tmp_path: Path, before: str, after: str
) -> None:
    line = "| " + "é~`" * 300 + " |"
    console.finish({}, before + f"{line}\n" * 2_000 + "~~~~~\n</details>\n")
    text = (tmp_path / "summary").read_text(encoding="utf-8")
    body, _, note = text.partition("\n\n**Cut here:**")
    assert len(text.encode()) < SUMMARY_LIMIT < len(text.encode()) + 10_000 and "runs/" in note
    assert set(body.removeprefix(before).removesuffix(after.rstrip("\n")).strip("\n").split("\n")) == {line}
    assert body.rstrip("\n").endswith(after.rstrip("\n"))


def test_a_failure_in_a_terminal_names_its_file_once(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalConsole().failure(BadInput("a.yaml: `goal` is missing", place=Place("a.yaml", 3, 2)))
    assert capsys.readouterr().err == "Bad input: a.yaml:3:2: `goal` is missing.\n"


def test_group_is_closed_when_its_work_fails(console: ActionsConsole, stream: io.StringIO) -> None:
    with pytest.raises(ValueError), console.group("Work"):
        raise ValueError
    assert stream.getvalue().splitlines()[:2] == ["::group::Work", "::endgroup::"]


def test_terminal_json_goes_to_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console = TerminalConsole(as_json=True)
    console.say("progress")
    console.finish({"n": 3, "ok": False, "list": ["a"]}, "summary")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"n": 3, "ok": False, "list": ["a"]}
    assert "progress" in captured.err


@pytest.mark.parametrize("secret", ["abcd", "a b+c", "pa\"ss\\w/ör'd", "seven77", "two\nlines"])
def test_secret_is_hidden_however_a_program_writes_it(
    console: ActionsConsole, stream: io.StringIO, secret: str
) -> None:
    console.mask(secret)
    stream.truncate(0)
    forms = [
        secret, repr(secret), json.dumps({"a": secret}), json.dumps(secret, ensure_ascii=False), shlex.quote(secret),
        urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode(),
    ]  # fmt: skip
    for form in forms:
        assert "***" in console.hide(f"-{form}-")
        console.say(f"-{form}-")
    for form in [secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]]:
        assert form not in stream.getvalue()


def test_words_of_three_characters_are_no_secrets(console: ActionsConsole) -> None:
    console.mask("abc")
    assert console.hide("abcd") == "abcd"


def test_secret_is_hidden_before_a_line_is_cut(console: ActionsConsole, stream: io.StringIO) -> None:
    console.mask("s3cret-value")
    console.say("x" * (LONGEST_LINE - 5) + "s3cret-value")
    assert "s3cre" not in stream.getvalue().split("add-mask")[-1].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://me:p4ss@h/x", "see https://***@h/x"),
        ("postgresql+psycopg://u:p%40:x@h:5432/d?a=b@c", "postgresql+psycopg://***@h:5432/d?a=b@c"),
        ("https://h:8080/a@b s3://b/k", "https://h:8080/a@b s3://b/k"),
        ('{"u": "http://:t0ken@h"}', '{"u": "http://***@h"}'),
        ("git+https://ghp_t0ken@github.com/o/r", "git+https://***@github.com/o/r"),
        ("redis://u:p@ss@h:1/0", "redis://***@h:1/0"),
    ],
)
def test_urls_lose_user_and_password(console: ActionsConsole, text: str, shown: str) -> None:
    assert console.hide(text) == shown
