"""A pipeline that prints, returns and looks for what it should not; and one that gives away a secret."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT, Run
from live_markup import Live, as_html

CASES = ROOT / "tests" / "data" / "hostile"
SECRET = 'pa"ss\\w0rd'
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "GITHUB_TOKEN": "ghs-token-secret",
    "MLOPS_KFP_TOKEN": "kfp-token-secret",
}  # fmt: skip


@dataclass
class World:
    folder: Path
    mlops: Run

    def run(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(CASES / f"{name}.py", self.folder)
        return self.do("run-pipeline", "--pipeline", f"{name}.py", *options)

    def do(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.mlops(
            *command, "--store", self.store.as_uri(), cwd=self.folder,
            GITHUB_ACTIONS="true", GITHUB_RUN_ID="7", GITHUB_OUTPUT=str(self.folder / "output"),
            GITHUB_STEP_SUMMARY=str(self.folder / "summary.md"), MLOPS_HOME=str(self.folder / "home"),
            SEEN=str(self.folder / "seen"), **CREDENTIALS,
        )  # fmt: skip

    @property
    def store(self) -> Path:
        return self.folder / "store"


@pytest.fixture
def world(tmp_path: Path, mlops: Run) -> World:
    return World(tmp_path, mlops)


@pytest.mark.parametrize("fail", ["true", "false"])
def test_nothing_that_a_task_prints_or_returns_is_obeyed(world: World, fail: str) -> None:
    done = world.run("hostile", "--parameters", f"fail={fail}")
    assert done.returncode == (1 if fail == "true" else 0), done.stdout
    lines = done.stdout.splitlines()
    commands = {line.strip().split("::")[1].split(" ")[0] for line in lines if line.strip().startswith("::")}
    assert commands == {"add-mask", "error"} if fail == "true" else {"add-mask"}
    assert "##[" not in done.stdout and "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert not any("EVIL" in line for line in lines if line.startswith("::") and not line.startswith("::error"))
    assert max(map(len, lines)) < 10_000
    summary = (world.folder / "summary.md").read_text()
    assert Live(as_html(summary)).found == []
    assert "EVIL" not in (world.folder / "output").read_text().split("record<<")[0]


def test_code_under_training_reads_no_credentials_of_its_parents(world: World) -> None:
    world.run("hostile")
    *parents, own, allown = (world.folder / "seen").read_text().splitlines()
    assert sum(" :: " in line for line in parents) >= 1, "it could look"
    shown = [name for line in parents for name in line.partition(" :: ")[2].split(";")]
    assert not set(shown) & set(CREDENTIALS), parents
    names = {*own.removeprefix("OWN ").split(";"), *allown.removeprefix("ALLOWN ").split(" ")}
    assert not names & {"GITHUB_TOKEN", "MLOPS_KFP_TOKEN"} and "AWS_SECRET_ACCESS_KEY" in names


@pytest.mark.parametrize("fail", ["false", "true"])
def test_secret_that_a_task_gives_away_is_nowhere(world: World, fail: str) -> None:
    done = world.run("leak", "--parameters", f"fail={fail}")
    assert done.returncode == (1 if fail == "true" else 0), done.stdout
    world.do("report")
    assert list(world.store.glob("reports/*/report.html"))
    forms = [SECRET, json.dumps(SECRET)[1:-1], "w0rd"]
    said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("::add-mask::")) + done.stderr
    written = {
        str(path.relative_to(world.folder)): path.read_bytes().decode(errors="replace")
        for path in world.folder.rglob("*")
        if path.is_file()
    }
    assert not any(form in said for form in forms)
    assert [name for name, text in written.items() if any(form in text for form in forms)] == []
    assert "m_***" in written["output"] or fail == "true"
    for path in world.store.rglob("*.json"):
        json.loads(path.read_text())


def test_result_with_a_secret_is_made_again_and_not_taken_masked(world: World) -> None:
    assert world.run("leak").returncode == 0
    again = world.run("leak")
    assert again.returncode == 0 and "leak started" in again.stdout and "reused" not in again.stdout
