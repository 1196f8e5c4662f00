"""What earlier versions left goes on with the present code: each folder of tests/upgrade that `scripts/freeze` made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

import servers
from conftest import ROOT, Run

FROZEN = sorted(path.parent for path in ROOT.glob("tests/upgrade/*/workflows.json"))
BUCKET, HOME = "frozen", "/frozen/home"
GONE = {
    # Before 0.1.0 nothing was released. A version that was released has no such line: what goes is deprecated first.
    "0.1.0-dev": {
        "deploy-model": ({"tolerance": 1e-6}, "Did you mean `relative-tolerance`?"),
        "evaluate-model": ({"baseline-gate": True}, "Did you mean `baselines`?"),
        "plan": ({"test-environments": {"a": {}}}, "Known here: "),
    },
}
"""By version and action: inputs that were taken then and are refused now, and the remedy that is told."""
LEVELS = ("none", "read", "write")


@dataclass(frozen=True)
class World:
    """A copy of what a version left: the consumer's folder, the machine's, and the store."""

    frozen: Path
    folder: Path
    mlops: Callable[..., CompletedProcess[str]]

    def json(self, *arguments: str) -> Any:
        done = self.mlops(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(params=FROZEN, ids=lambda path: path.name)
def frozen(request: pytest.FixtureRequest) -> Path:
    """The folder of an earlier version."""
    found: Path = request.param
    return found


@pytest.fixture
def world(frozen: Path, mlops: Run, tmp_path: Path) -> Iterator[World]:
    server = servers.seaweedfs()
    client = server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    for one in client.list_objects(BUCKET, recursive=True):
        client.remove_object(BUCKET, str(one.object_name))
    for path in sorted((frozen / "store").rglob("*")):
        if path.is_file():
            client.fput_object(BUCKET, path.relative_to(frozen / "store").as_posix(), str(path))
    folder, home = tmp_path / "consumer", tmp_path / "home"
    shutil.copytree(frozen / "consumer", folder)
    if (frozen / "mlops.yaml").exists():
        shutil.copy(frozen / "mlops.yaml", folder)
    shutil.copytree(frozen / "home", home)
    for path in home.rglob("*.json"):
        path.write_text(path.read_text().replace(HOME, str(home)))
    environ = server.environ(f"s3://{BUCKET}/churn")

    def call(*arguments: str, **more: str) -> CompletedProcess[str]:
        return mlops(*arguments, cwd=folder, **environ, **more)

    yield World(frozen, folder, call)
    call("deploy-model", "--stop")


def test_all_that_was_kept_can_be_read(world: World, tmp_path: Path) -> None:
    runs = {run["run"]: run for run in world.json("runs", "--json")}
    assert {"first", "second"} <= set(runs)
    for run in ("first", "second"):
        shown = world.mlops("runs", "show", run)
        assert shown.returncode == 0 and "auc" in shown.stdout, shown.stderr
    compared = world.mlops("runs", "compare", "first", "second")
    assert compared.returncode == 0 and "c " in compared.stdout, compared.stderr
    written = world.mlops("catalog", "--output", str(tmp_path / "site"))
    assert written.returncode == 0 and "1 model, 2 versions" in written.stderr, written.stderr
    assert "could not be read" not in written.stderr
    for page in ("1", "2"):
        assert list((tmp_path / "site").rglob(f"*{page}*.html"))
    score = world.json("score", "--format", "json")
    assert score["version"] == 2
    points = {line["key"]: line["points"] for part in score["sections"] for line in part["lines"]}
    assert points["data-1"] > 0 and points["infrastructure-4"] > 0, points
    assert world.mlops("history").returncode == 0


def test_the_chain_goes_on_from_what_was_registered(world: World) -> None:
    planned = world.mlops("run", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    for line in planned.stderr.splitlines():
        if "would run" in line:
            assert len(line.split()) > 3, f"no reason is said: {line}"
    done = world.mlops("run")
    assert done.returncode == 0, done.stderr
    manifest = world.json("register-model", "--json")
    assert int(manifest["version"]) in (1, 2, 3), manifest
    reported = world.mlops("report")
    assert reported.returncode == 0, reported.stderr


def test_versions_of_then_are_deployed_promoted_and_rolled_back(world: World) -> None:
    for version in ("1", "2"):
        deployed = world.json("deploy-model", "--version", version, "--json")
        assert str(deployed["version"]) == version
    back = world.mlops("rollback", "--json")
    assert back.returncode == 0, back.stderr
    assert str(json.loads(back.stdout)["version"]) == "1"
    promoted = world.mlops("promote-model", "--version", "2", "--json")
    assert promoted.returncode == 0, promoted.stderr
    history = world.json("history", "--json")
    assert history


def test_what_the_workflows_and_actions_took_is_still_taken(frozen: Path) -> None:
    for name, before in json.loads((frozen / "workflows.json").read_text()).items():
        call = _yaml(ROOT / ".github" / "workflows" / name)["on"]["workflow_call"]
        for part, names in before.items():
            assert set(names) <= set(call.get(part) or {}), f"{name}: {part}"
        assert not [at for at, about in call["inputs"].items() if about.get("required") == "true"], name
    gone = GONE.get(frozen.name, {})
    for name, before in json.loads((frozen / "actions.json").read_text()).items():
        now = _yaml(ROOT / "actions" / name / "action.yml")
        assert set(before["inputs"]) - set(now["inputs"]) <= set(gone.get(name, ({},))[0]), name


def test_a_caller_of_then_grants_and_passes_what_the_workflows_of_now_ask_for(frozen: Path) -> None:
    """GitHub refuses a call that grants less than the called jobs ask for, or has an input that is not declared."""
    callers = list((frozen / "callers").glob("*.yml"))
    assert callers
    for path in callers:
        for job in _yaml(path)["jobs"].values():
            called = _yaml(ROOT / ".github" / "workflows" / job["uses"].partition("@")[0].rpartition("/")[2])
            taken = called["on"]["workflow_call"]
            assert set(job.get("with", {})) <= set(taken["inputs"]), path.name
            assert set(job.get("secrets", {})) <= set(taken["secrets"]), path.name
            for asking in called["jobs"].values():
                for scope, level in (asking.get("permissions") or {}).items():
                    granted = job["permissions"].get(scope, "none")
                    assert LEVELS.index(level) <= LEVELS.index(granted), f"{path.name}: {scope}"


def test_an_input_that_is_gone_is_refused_with_what_to_do(frozen: Path, mlops: Run, tmp_path: Path) -> None:
    for action, (inputs, remedy) in GONE.get(frozen.name, {}).items():
        (tmp_path / "mlops.yaml").write_text(yaml.safe_dump({action: inputs}))
        done = mlops("config")
        assert done.returncode == 2
        (name,) = inputs
        assert f"mlops.yaml:2:3: Unknown key `{action}.{name}`" in done.stderr and remedy in done.stderr


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
