"""The runner protocol: files and workflow commands, whatever the text is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from mlops_actions.errors import BadInput, Place
from mlops_actions.github.console import SUMMARY_LIMIT, ActionsConsole, TerminalConsole


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
    console.finish({"one": evil, "two": {"k": [1]}, "three": None, "four": True}, "")
    assert read_outputs(tmp_path / "output") == {"one": evil, "two": '{"k": [1]}', "three": "", "four": "true"}


@pytest.mark.parametrize("line", ["::set-output name=a::b", "  ::error::x", "##[error]y", "::add-mask::z"])
def test_text_is_never_taken_for_a_command(console: ActionsConsole, stream: io.StringIO, line: str) -> None:
    console.say(line)
    assert stream.getvalue() == f"| {line}\n"


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
    assert masks == ["::add-mask::s3cret-value", "::add-mask::second-line"]
    assert "s3cret-value" not in rest and "second-line" not in rest
    assert "s3cret-value" not in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("secret", ["abcd", "abcdefg", "abcdefgh"])
def test_a_short_secret_is_hidden_too(console: ActionsConsole, stream: io.StringIO, secret: str) -> None:
    console.mask(secret)
    console.say(f"<{secret}>")
    assert stream.getvalue() == f"::add-mask::{secret}\n<***>\n"


def test_what_is_too_short_to_tell_is_not_hidden(console: ActionsConsole, stream: io.StringIO) -> None:
    console.mask("abc")
    console.say("<abc>")
    assert stream.getvalue() == "<abc>\n"


def test_summary_stays_below_githubs_limit(console: ActionsConsole, tmp_path: Path) -> None:
    console.finish({}, "é" * SUMMARY_LIMIT)
    data = (tmp_path / "summary").read_bytes()
    assert len(data) < SUMMARY_LIMIT
    data.decode()


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
