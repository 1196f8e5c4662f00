"""The parts of a chain that `mlops run` runs, and their order."""

from __future__ import annotations

from typing import Any

import yaml

from conftest import ROOT
from mlops_actions.runtime.chain import NAMES
from mlops_actions.runtime.together import AFTER, LAST, before, parts_of

PLAN: dict[str, Any] = {
    **dict.fromkeys(AFTER, True),
    "environment": "",
    "test-matrix": {"include": [{"name": "training", "runs-on": ""}, {"name": "old", "runs-on": ""}]},
    "deploy-matrix": {"include": [{"name": "staging", "environment": "staging"}, {"name": "p", "environment": "p"}]},
}


def test_each_action_of_the_chain_is_a_part_of_it() -> None:
    assert [*AFTER, LAST] == [name for name in NAMES if name not in ("plan", "promote-model", "doctor")]


def test_order_is_that_of_the_jobs_of_the_workflow() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "mlops.yml").read_text())["jobs"]

    def needs(job: str) -> set[str]:
        direct = jobs[job].get("needs") or []
        direct = [direct] if isinstance(direct, str) else direct
        return set(direct).union(*(needs(one) for one in direct))

    of = {
        step["uses"].rpartition("/")[2]: name
        for name, job in jobs.items()
        for step in job["steps"]
        if "/actions/" in step["uses"]
    }
    for action in AFTER:
        earlier = {one for one in AFTER if of[one] in needs(of[action])}
        assert earlier <= before(action), action
        assert {of[one] for one in before(action)} - {of[action]} <= needs(of[action]), action


def test_several_environments_are_parts_of_their_own() -> None:
    parts = {part.name: part for part in parts_of(PLAN, {"model": "m", "parameters": "a=1"})}
    assert parts["run-pipeline"].options["parameters"] == "a=1"
    assert "parameters" not in parts["test-model (old)"].options
    assert parts["test-model (old)"].options == {"variant": "old"}
    assert parts["deploy-model (staging)"].environment == "staging"
    assert parts["deploy-model (staging)"].options["model"] == "m"


def test_what_the_plan_leaves_out_is_no_part() -> None:
    parts = [part.action for part in parts_of({**PLAN, "deploy-model": False, "run-pipeline": False}, {})]
    assert "deploy-model" not in parts and "evaluate-model" not in parts
    assert parts[-1] == LAST
