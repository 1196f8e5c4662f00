"""Which entry of GitHub's cache an environment has: its key, its scope, and where there is none."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from mlops_actions import environments

HOSTED = {"RUNNER_ENVIRONMENT": "github-hosted", "GITHUB_EVENT_NAME": "push"}
CACHE = Path("/caches")


def entry(environ: dict[str, str], group: str = "core") -> dict[str, str]:
    return environments.cache_entry([group], CACHE, environ)


def test_the_key_changes_with_lock_python_system_and_architecture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {entry(HOSTED)["key"]}
    for name, value in (("python_version", "3.99.1"), ("system", "Plan9"), ("machine", "vax")):
        with monkeypatch.context() as patch:
            patch.setattr(platform, name, lambda value=value: value)
            keys.add(entry(HOSTED)["key"])
    with monkeypatch.context() as patch:
        patch.setattr(sys, "base_prefix", "/another/python")
        keys.add(entry(HOSTED)["key"])
    keys.add(entry({**HOSTED, "MLOPS_PYTHON": "3.12"})["key"])
    (tmp_path / "core.txt").write_text("click==8.1.8")
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    keys.add(entry(HOSTED)["key"])
    assert len(keys) == 7


def test_the_same_machine_and_lock_have_the_same_key() -> None:
    assert entry(HOSTED) == entry(HOSTED)


def test_the_interpreter_is_unpacked_last() -> None:
    others, programs = entry(HOSTED)["path"].splitlines()
    assert others.startswith("/caches/environments/core-") and others.endswith("/[!b]*")
    assert programs == others.replace("/[!b]*", "/bin")


def test_several_environments_are_one_entry_without_those_that_are_there(tmp_path: Path) -> None:
    names = [Path(entry(HOSTED, group)["path"].splitlines()[1]).parent.name for group in ("core", "data")]
    both = environments.cache_entry(["core", "data"], tmp_path, HOSTED)
    assert "-".join(names) in both["key"] and len(both["path"].splitlines()) == 4
    python = tmp_path / "environments" / names[0] / Path(both["path"].splitlines()[1]).name / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    one = environments.cache_entry(["core", "data"], tmp_path, HOSTED)
    assert one == environments.cache_entry(["data"], tmp_path, HOSTED)
    assert environments.cache_entry(["core"], tmp_path, HOSTED) == {}


@pytest.mark.parametrize("event", ["pull_request_target", "issue_comment", "workflow_run", ""])
def test_events_with_the_default_branchs_scope_and_anybodys_code_have_no_entry(event: str) -> None:
    assert entry({**HOSTED, "GITHUB_EVENT_NAME": event}) == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RUNNER_ENVIRONMENT": "self-hosted"},
        {"ACT": "true"},
        {"RUNNER_ENVIRONMENT": "github-hosted", "MLOPS_GITHUB_CACHE": "false"},
    ],
    ids=["terminal", "self-hosted", "act without a cache server", "switched off"],
)
def test_there_is_no_entry_where_it_is_of_no_use(environ: dict[str, str]) -> None:
    assert entry({"GITHUB_EVENT_NAME": "push", **environ}) == {}


def test_act_with_a_cache_server_has_an_entry() -> None:
    environ = {"ACT": "true", "ACTIONS_CACHE_URL": "http://127.0.0.1:1/", "GITHUB_EVENT_NAME": "push"}
    assert entry(environ)["key"].startswith("mlops-core-")
