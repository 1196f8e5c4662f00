"""`mlops runs`: which runs are listed, in which order, how they are filtered, shown and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mlops_actions.cli import main
from mlops_actions.records import Record
from mlops_actions.stores.store import Store

HOSTILE = "\x1b[31m<b>@me</b>\u202e"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    return Store((tmp_path / "store").as_uri())


def keep(store: Store, run: str, action: str = "run-pipeline", pull: str = "", minute: int = 0, **about: Any) -> None:
    record = Record(action=action, run=run, started=f"2026-01-01T00:{minute:02}:00+00:00", seconds=2.0, **about)
    store.put_json(f"{pull}runs/{run}/{action}.json", record.model_dump(mode="json"))


def trained(store: Store, run: str, auc: float, **about: Any) -> None:
    given = {"branch": "main", "c": 1, "packages": "numpy==2.0", **about}
    keep(
        store,
        run,
        pull=given.get("pull", ""),
        source={"branch": given["branch"], "commit": "c" * 40},
        outputs={"metrics": {"auc": auc, "loss": 1 - auc}, "parameters": {"c": given["c"]}},
        details={"packages": given["packages"]},
    )


def mlops(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["runs", *arguments, "--store", store.url])


def listed(store: Store, *arguments: str) -> list[str]:
    found = json.loads(mlops(store, "--json", *arguments).stdout)
    return [run["run"] for run in found]


def test_the_run_that_was_at_work_last_comes_first_and_pull_requests_are_among_them(store: Store) -> None:
    trained(store, "1-1", 0.7)
    trained(store, "2-1", 0.8, pull="pulls/7/")
    trained(store, "3-1", 0.9)
    keep(store, "1-1", "evaluate-model")
    assert listed(store) == ["1-1", "3-1", "2-1"]
    assert listed(store, "--limit", "1", "--offset", "2") == ["2-1"]
    assert "#7 main" in mlops(store).stdout
    assert "3 runs; `--offset 1` shows more" in mlops(store, "--limit", "1").stderr
    assert "`--offset 2` shows more" in mlops(store, "--limit", "2", "--where", "branch=*", "--json").stderr
    assert "shows more" not in mlops(store, "--limit", "3", "--where", "branch=*").stderr


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("auc>=0.8", ["b", "c"]),
        ("auc<0.8", ["a"]),
        ("metrics.auc = 0.8", ["b"]),
        ("branch=feature/*", ["b"]),
        ("branch!=main", ["b"]),
        ("parameters.c=2", ["c"]),
        ("evaluate-model=rejected", ["c"]),
        ("verdict=passed", ["a", "b"]),
        ("started>2027", []),
        ("started>=2026-01", ["a", "b", "c"]),
        ("started<2026-01-01 00:01Z", ["a", "b", "c"]),
        ("started>2026-01-01T00:30:00-01:00", []),
        ("materialize-features=passed", []),
        ("version=1", []),
    ],
)
def test_conditions(store: Store, condition: str, expected: list[str]) -> None:
    trained(store, "a", 0.7)
    trained(store, "b", 0.8, branch="feature/x")
    trained(store, "c", 0.9, c=2)
    keep(store, "c", "evaluate-model", verdict="rejected")
    assert sorted(listed(store, "--where", condition)) == expected


def test_an_action_of_a_matrix_is_what_its_worst_leg_is(store: Store) -> None:
    for run, verdicts in {"a": ["passed", "passed"], "b": ["passed", "rejected"], "c": ["rejected", "failed"]}.items():
        trained(store, run, 0.8)
        for variant, verdict in zip(("3.11", "3.12"), verdicts):
            record = Record(action="test-model", run=run, started="2026-01-01T00:00:00+00:00", seconds=1.0,
                            verdict=verdict, details={"variant": variant})  # fmt: skip
            store.put_json(f"runs/{run}/test-model.{variant}.json", record.model_dump(mode="json"))
    assert listed(store, "--where", "test-model=passed") == ["a"]
    assert sorted(listed(store, "--where", "test-model!=passed")) == ["b", "c"]
    assert listed(store, "--where", "test-model=failed") == ["c"]
    assert sorted(listed(store, "--where", "test-model (3.11)=passed")) == ["a", "b"]
    assert listed(store, "--sort", "test-model") == ["b", "a", "c"]
    assert mlops(store, "--where", "test-model (3.13)=passed").exit_code == 2


def test_options_before_a_subcommand_are_those_of_the_subcommand(store: Store) -> None:
    trained(store, "a", 0.7)
    shown = CliRunner().invoke(main, ["runs", "--store", store.url, "--json", "show", "a"])
    assert shown.exit_code == 0 and json.loads(shown.stdout)["run"] == "a", shown.output
    refused = CliRunner().invoke(main, ["runs", "--where", "auc>=1", "show", "a", "--store", store.url])
    assert refused.exit_code == 2 and "--where is for the list of runs" in refused.stderr


def test_sorting_is_by_numbers_and_runs_without_the_value_come_last(store: Store) -> None:
    for run, auc in (("a", 0.9), ("b", 0.10), ("c", 0.5)):
        trained(store, run, auc)
    keep(store, "d", "validate-data")
    assert listed(store, "--sort", "auc") == ["a", "c", "b", "d"]
    assert listed(store, "--sort", "-auc") == ["b", "c", "a", "d"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sort", "-nosuch"), "`--sort -nosuch`: no run has 'nosuch'. Known: actor, auc, branch, "),
        (("--where", "nosuch=1"), "`--where nosuch=1`: no run has 'nosuch'. Known: actor, auc, branch, "),
        (("--where", "branch=main", "--sort", "losss"), "no run has 'losss'. Did you mean `loss`?"),
        (("--where", "metrics.aucc>0"), "Did you mean `metrics.auc`?"),
    ],
)
def test_a_name_that_no_run_has_is_bad_input(store: Store, arguments: tuple[str, ...], words: str) -> None:
    trained(store, "a", 0.7)
    for more in ((), ("--json",)):
        found = mlops(store, *arguments, *more)
        assert found.exit_code == 2 and words in found.stderr and not found.stdout


def test_what_is_not_a_condition_is_bad_input(store: Store) -> None:
    for wrong in ("auc", "auc>much", "auc>=nan", "started>=banana", "started<2026-13", "started>5"):
        found = mlops(store, "--where", wrong)
        assert found.exit_code == 2
        assert f"--where {wrong}" in found.stderr


def test_compare_shows_only_what_differs(store: Store) -> None:
    trained(store, "a", 0.7)
    trained(store, "b", 0.7, c=2, packages="numpy==2.1")
    found = json.loads(mlops(store, "compare", "a", "b", "--json").stdout)
    assert [(one["group"], one["name"], one["before"], one["now"]) for one in found] == [
        ("parameters", "c", 1, 2),
        ("environment", "numpy", "2.0", "2.1"),
    ]
    assert mlops(store, "compare", "a", "a").stdout == "Nothing differs\n"


def test_a_run_is_named_by_a_part_of_its_name_or_as_the_last_one(store: Store) -> None:
    trained(store, "8812-1", 0.7)
    trained(store, "8840-1", 0.8)
    assert "8812-1" in mlops(store, "show", "12").stdout
    assert "8840-1" in mlops(store, "show", "last").stdout
    several = mlops(store, "show", "88")
    assert several.exit_code == 2
    assert "8812-1" in several.stderr
    assert mlops(store, "show", "9").exit_code == 2


def test_hostile_text_has_no_effect_and_what_is_no_record_is_told(store: Store) -> None:
    keep(store, "a", reason=HOSTILE, source={"branch": HOSTILE}, outputs={"metrics": {HOSTILE: 1}})
    store.put("runs/a/evaluate-model.json", b"{")
    for arguments in ((), ("show", "a")):
        found = mlops(store, *arguments)
        assert found.exit_code == 0
        assert "\\x1b[31m<b>" in found.stdout
        assert not {"\x1b", "\u202e"} & set(found.stdout)
    shown = mlops(store, "show", "a").stdout
    assert re.search("evaluate-model +failed .*Cannot read the record runs/a/evaluate-model.json", shown)
    assert re.search("verdict +failed", shown)
    assert "No run is so" in mlops(store, "--where", "verdict=passed").stderr
    keep(store, "b")
    assert re.search("evaluate-model +failed", mlops(store, "compare", "a", "b").stdout)


@pytest.mark.parametrize(
    "odd",
    [
        {"outputs": {"primary-metric": ["a"], "metrics": {"auc": 1.0}}}, {"outputs": {"primary-metric": {}}},
        {"outputs": {"metrics": {"auc": float("nan"), "b": float("inf"), "c": 10**400, "d": [1]}}},
        {"outputs": {"metrics": [1], "parameters": "x"}}, {"source": {"branch": ["a"], "commit": 7, "url": {}}},
        {"details": {"variant": ["a"], "columns": [1, {"mean": float("inf")}], "packages": 7}}, {"seconds": 1e9},
        {"started": "then"}, {"started": "2026-01-01T00:00:00"}, {"inputs": {"model": ["x"]}},
    ],
    ids=str,
)  # fmt: skip
def test_a_record_with_odd_values_ends_nothing(store: Store, odd: dict[str, Any]) -> None:
    trained(store, "a", 0.7)
    trained(store, "b", 0.8)
    for action in ("evaluate-model", "run-pipeline", "validate-data"):
        record = {"action": action, "run": "b", "started": "2026-01-01T00:09:00+00:00", "seconds": 2.0, **odd}
        store.put_json(f"runs/b/{action}.json", record)
    for given in ((), ("--sort", "auc"), ("--where", "branch!=x"), ("--where", "run=*"), ("show", "b")):
        found = mlops(store, *given)
        assert found.exit_code == 0 and "a" in found.stdout, found.output
        json.loads(
            mlops(store, *given, "--json").stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
        )
    assert mlops(store, "compare", "a", "b").exit_code == 0


@pytest.mark.parametrize("seconds", ["Infinity", "NaN", "-1", "1e300"])
def test_a_record_of_no_possible_time_is_that_of_a_failure(store: Store, seconds: str) -> None:
    trained(store, "a", 0.7)
    text = f'{{"action": "evaluate-model", "started": "2026-01-01T00:00:00+00:00", "seconds": {seconds}}}'
    store.put("runs/a/evaluate-model.json", text.encode())
    assert "evaluate-model failed" in mlops(store).stdout
    assert "Cannot read the record runs/a/evaluate-model.json" in mlops(store, "show", "a").stdout


def test_only_the_runs_that_are_shown_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        keep(store, f"{number}-1", "plan")
    asked: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda self, path: asked.append(path) or get(self, path))
    assert len(listed(store)) == 20
    assert len(asked) < 100
