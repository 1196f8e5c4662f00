"""GitHub's own parser, as scripts/check-workflows calls it: what it accepts, and where it says a mistake is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlops_actions.yaml_io import load_yaml

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check-workflows"
GOOD = """\
on:
  workflow_call:
    inputs:
      model: {type: string, required: true}
      fast: {type: boolean}
permissions: {}
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
      - uses: $/actions/x
        with:
          word: ${{ inputs.model }}
"""
CALLER = """\
on: push
jobs:
  call:
    uses: mlops-actions/mlops-actions/.github/workflows/good.yml@v1
    with:
      model: flights
"""
ACTION = """\
name: x
description: x
inputs:
  word: {description: w, required: true}
runs:
  using: composite
  steps:
    - shell: bash
      run: echo
"""


def node() -> bool:
    if not shutil.which("npm"):
        return False
    major = subprocess.run(["node", "-p", "process.versions.node.split('.')[0]"], capture_output=True, text=True)
    return int(major.stdout or 0) >= 20


pytestmark = pytest.mark.skipif(not node(), reason="no node: install Node 20 or newer")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a reusable workflow, an action that it uses, and an example that calls it."""
    files = {
        ".github/workflows/good.yml": GOOD,
        "actions/x/action.yml": ACTION,
        "examples/e/.github/workflows/caller.yml": CALLER,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def check(root: Path, *files: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "MLOPS_CHECK_ROOT": str(root)}
    return subprocess.run(["bash", str(SCRIPT), *files], env=environ, capture_output=True, text=True, check=False)


def test_workflows_actions_and_examples_are_all_parsed(repository: Path) -> None:
    checked = check(repository)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "accepts 3 files" in checked.stdout


@pytest.mark.parametrize(
    ("file", "before", "after", "place", "message"),
    [
        (".github/workflows/good.yml", "runs-on:", "run-on:", "9:5", "Unexpected value 'run-on'"),
        (".github/workflows/good.yml", "inputs.model }}", "nothing.model }}", "14:17", "Unrecognized named-value"),
        (".github/workflows/good.yml", "inputs.model }}", "nope(1) }}", "14:17", "Unrecognized function: 'nope'"),
        (".github/workflows/good.yml", "on:\n", "on: [\n", "3:5", "Block collections are not allowed"),
        (
            ".github/workflows/good.yml",
            "    runs-on",
            "    needs: other\n    runs-on",
            "8:3",
            "at least one job with no dep",
        ),
        (".github/workflows/good.yml", "word:", "wort:", "14:11", "actions/x has no input wort"),
        (".github/workflows/good.yml", "word:", "wort:", "12:15", "actions/x needs the input word"),
        (".github/workflows/good.yml", "$/actions/x", "$/actions/y", "12:15", "there is no actions/y/action.yml"),
        ("actions/x/action.yml", "shell: bash\n      ", "", "8:7", "Required property is missing: shell"),
        ("actions/x/action.yml", "name: x\n", "name: x\nnope: y\n", "2:1", "Unexpected value 'nope'"),
        ("examples/e/.github/workflows/caller.yml", "model:", "modle:", "6:14", "Invalid input, modle is not defined"),
        ("examples/e/.github/workflows/caller.yml", "good.yml@v1", "bad.yml@v1", "4:11", "Unable to find reusable"),
    ],
)
def test_a_mistake_is_said_with_its_file_line_and_column(
    repository: Path, file: str, before: str, after: str, place: str, message: str
) -> None:
    text = (repository / file).read_text()
    assert before in text
    (repository / file).write_text(text.replace(before, after, 1))
    checked = check(repository)
    assert checked.returncode == 1, checked.stderr
    found = [line for line in checked.stdout.splitlines() if line.startswith(f"{file}:{place}: ")]
    assert any(message in line for line in found), checked.stdout


def test_only_the_named_files_are_parsed(repository: Path) -> None:
    (repository / ".github/workflows/bad.yml").write_text("on: push\n")
    assert check(repository, "actions/x/action.yml").returncode == 0
    checked = check(repository)
    assert checked.returncode == 1
    assert ".github/workflows/bad.yml:1:1: Required property is missing: jobs" in checked.stdout


EVALUATE = """
const [folder, expression, context] = process.argv.slice(1);
const { Lexer, Parser, Evaluator, data } = await import(`${folder}/dist/index.js`);
const value = (x) => typeof x === "string" ? new data.StringData(x)
  : new data.Dictionary(...Object.entries(x).map(([key, v]) => ({ key, value: value(v) })));
const given = value(JSON.parse(context));
const expr = new Parser(new Lexer(expression).lex().tokens, Object.keys(JSON.parse(context)), []).parse();
console.log(new Evaluator(expr, given).evaluate().coerceString());
"""
WRITING, READING = {"AWS_ACCESS_KEY_ID": "w", "AWS_SECRET_ACCESS_KEY": "w"}, {"PULL_REQUEST_AWS_ACCESS_KEY_ID": "r",
    "PULL_REQUEST_AWS_SECRET_ACCESS_KEY": "r"}  # fmt: skip


@pytest.fixture(scope="module")
def expressions() -> Path:
    """GitHub's own evaluator of expressions, which the script installs."""
    workflow = ".github/workflows/mlops.yml"
    subprocess.run(["bash", str(SCRIPT), workflow], check=True, capture_output=True, cwd=SCRIPT.parents[1])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-actions" / "node"
    return max(cache.glob("*/node_modules/@actions/expressions"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize(
    ("event", "secrets", "keys"),
    [
        ("pull_request", {**WRITING, **READING}, "r"),
        ("pull_request_target", {**WRITING, **READING}, "r"),
        ("push", {**WRITING, **READING}, "w"),
        ("schedule", {**WRITING, **READING}, "w"),
        ("pull_request", WRITING, "w"),
        ("pull_request", READING, "r"),
        ("push", READING, ""),
    ],
)
def test_a_pull_request_has_its_own_keys_of_the_store_if_there_are(
    expressions: Path, event: str, secrets: dict[str, str], keys: str
) -> None:
    environ = load_yaml((SCRIPT.parents[1] / ".github" / "workflows" / "mlops.yml").read_text())["env"]
    context = json.dumps({"github": {"event_name": event}, "secrets": secrets})
    for name in WRITING:
        expression = environ[name].removeprefix("${{").removesuffix("}}").strip()
        command = ["node", "--input-type=module", "-e", EVALUATE, str(expressions), expression, context]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == keys
