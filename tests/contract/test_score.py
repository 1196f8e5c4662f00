"""`mlops score`, of a chain that ran: in a terminal, and then on a runner."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import Run

CHAIN = ("validate-data", "run-pipeline", "evaluate-model", "test-model", "register-model")


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """Lines of a score as JSON, by key."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {line["key"]: line for part in found["sections"] + found["level_2_sections"] for line in part["lines"]}


@pytest.fixture
def chain(mlops: Run, tmp_path: Path) -> Path:
    """The chain that an empty folder is given, after it ran in a terminal."""
    assert mlops("init", "--model", "churn").returncode == 0
    done = mlops("run")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_what_ran_by_hand_is_half_and_what_ran_on_a_push_is_whole(mlops: Run, chain: Path) -> None:
    shown = {"data-1", "data-5", "infrastructure-3", "infrastructure-4", "monitoring-5"}
    by_hand = lines(mlops("score", "--format", "json"))
    assert {key for key, line in by_hand.items() if line["points"] == 0.5} == shown
    assert by_hand["infrastructure-1"]["what"] == "it was trained once"
    for line in by_hand.values():
        if line["points"]:
            assert Path(line["uri"].removeprefix("file://")).is_file(), line

    text = mlops("score").stdout
    assert text.startswith("churn, version 1\nML Test Score 0 of 7: more a research project")
    assert "Features and data: 1 of 7" in text and "→ Let a workflow do it" in text
    assert "**ML Test Score 0** of 7" in mlops("score", "churn", "--format", "markdown").stdout
    wrong = mlops("score", "chrn")
    assert wrong.returncode == 2 and "Unknown model 'chrn'" in wrong.stderr

    event = chain / "event.json"
    event.write_text(json.dumps({"repository": {"default_branch": "main"}}))
    runner = {
        "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REPOSITORY": "me/churn", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "7", "GITHUB_SHA": "a" * 40,
    }  # fmt: skip
    for action in CHAIN:
        done = mlops(action, *(["--no-reuse"] if action == "run-pipeline" else []), **runner)
        assert done.returncode == 0, done.stdout + done.stderr
    pushed = lines(mlops("score", "--format", "json"))
    assert {key for key in by_hand if pushed[key]["points"] == 1 and by_hand[key]["points"] < 1} >= shown
    assert pushed["infrastructure-1"]["what"] == "2 trainings of the same gave the same bytes"
    assert pushed["infrastructure-1"]["points"] == 1
    assert pushed["stage-1"]["points"] == pushed["stage-2"]["points"] == pushed["stage-3"]["points"] == 1
