"""Rules that the repository's own files keep."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from mlops_actions import generated
from mlops_actions.runtime import chain

WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("actions/*/action.yml")])


def test_generated_files_agree_with_the_declarations() -> None:
    stale = [path for path, text in generated.files() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run scripts/generate"


@pytest.mark.parametrize("name", chain.NAMES)
def test_every_input_and_output_says_what_it_is(name: str) -> None:
    action = chain.load(name)
    for fields in (action.inputs.model_fields, action.outputs.model_fields):
        assert [field for field, info in fields.items() if len(info.description or "") < 10] == []
    assert action.name == name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_expression_is_inside_a_script(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = list((document.get("jobs") or {}).values()) or [document["runs"]]
    steps = [step for job in jobs for step in job.get("steps") or []]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_no_file_names_a_package_index_or_this_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    indexes = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("proxy", "golang"), ("deb", "debian")]
    hosts = "|".join(rf"{name}\.{rest}" for name, rest in indexes)
    marks = re.compile("|".join([hosts, re.escape(f"{ROOT}/"), re.escape(f"{Path.home()}/")]))
    found = []
    for name in listed.splitlines():
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            found += [name] if marks.search(path.read_text(encoding="utf-8", errors="ignore")) else []
    assert found == []
