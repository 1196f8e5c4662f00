"""Rules that the repository's own files keep."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml

from act import Consumer
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


@pytest.mark.parametrize("name", chain.NAMES)
def test_no_input_of_an_action_is_named_as_one_that_only_its_action_yml_has(name: str) -> None:
    assert "github_cache" not in chain.load(name).inputs.model_fields


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_expression_is_inside_a_script(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = list((document.get("jobs") or {}).values()) or [document["runs"]]
    steps = [step for job in jobs for step in job.get("steps") or []]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


OWN = {"runs-on", "github-environment", "workflow", "github-cache"}
"""Inputs of workflows that are GitHub's matter, and no action's."""


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*.yml")), ids=lambda p: p.name)
def test_inputs_of_workflows_are_those_that_their_actions_declare(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    used = set(re.findall(r"uses: \$/actions/([a-z-]+)", path.read_text(encoding="utf-8")))
    actions = [chain.load(name) for name in chain.NAMES if name in used]
    triggers = document.get("on", document.get(True))  # YAML 1.1 takes `on` for true
    for trigger in ("workflow_call", "workflow_dispatch"):
        given = ((triggers or {}).get(trigger) if isinstance(triggers, dict) else None) or {}
        for name, about in (given.get("inputs") or {}).items():
            if name in OWN or not actions:
                continue
            field = name.replace("-", "_")
            declared = [a.inputs.model_fields[field] for a in actions if field in a.inputs.model_fields]
            assert declared, f"{trigger}: no action of the workflow has the input {name}"
            annotation = declared[0].annotation
            choices = list(get_args(annotation)) if get_origin(annotation) is Literal else []
            if about["type"] == "choice":
                assert about["options"] == choices, f"{trigger}: {name}"
            else:
                assert (about["type"] == "boolean") == (annotation is bool), f"{trigger}: {name}"
            if choices and about.get("default"):
                assert about["default"] in choices, f"{trigger}: {name}"
            assert len(about.get("description", "")) > 5, f"{trigger}: {name}"


@pytest.mark.parametrize("name", ["mlops", "deploy", "monitor"])
def test_a_caller_that_grants_only_contents_read_may_call_a_workflow(name: str) -> None:
    """GitHub refuses a call whose jobs ask for more than is granted; who asks for nothing has what is granted."""
    document = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    asked = {job: about.get("permissions", {}) for job, about in document["jobs"].items()}
    assert [job for job, rights in asked.items() if not rights.items() <= {"contents": "read"}.items()] == []
    inheriting = {job for job, about in document["jobs"].items() if "permissions" not in about}
    assert inheriting == set(document["jobs"]) - {"share"}
    assert "permissions" not in document, "the top level would take from them what the caller grants"
    assert set(document[True]) == {"workflow_call"}, "another would give them the default token"


def test_every_job_that_uses_the_store_can_take_its_role() -> None:
    """A role is taken with the job's own identity: `id-token: write`, asked for or left to the caller."""
    for name in ("mlops", "deploy", "monitor", "catalog"):
        document = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
        assert set(document[True]) == {"workflow_call"}
        for job, about in document["jobs"].items():
            if job != "share" and any("$/actions/" in step.get("uses", "") for step in about["steps"]):
                rights = about.get("permissions", document.get("permissions", {"id-token": "write"}))
                assert rights.get("id-token") == "write", f"{name}.yml: {job}"


def test_the_readmes_command_for_act_is_the_one_that_the_tests_run(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"^\$ (act push (?:.*\\\n)*.*)", text, re.MULTILINE)
    copied = re.search(r"^\$ \S*scripts/rewrite-uses copy (\S+)$", text, re.MULTILINE)
    assert lines and copied
    words = shlex.split(lines[1].replace("\\\n", " "))
    tested = Consumer(tmp_path / "consumer", Path(copied[1]), Path("/tmp/mlops-store"), tmp_path).command("push")
    given = {(a, b) for a, b in itertools.pairwise(words) if a.startswith("--")}
    assert given and given <= set(itertools.pairwise(tested))
