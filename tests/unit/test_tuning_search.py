"""Parameters are drawn from the space that was given, the same ones again for the same seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.tuning.engine import Trial
from mlops_actions.tuning.experiment import Parameter
from mlops_actions.tuning.journal import Journal
from mlops_actions.tuning.search import Past, Search
from mlops_actions.tuning.space import Dimension, Value


def parameter(name: str, kind: str, **space: Any) -> Parameter:
    return Parameter.model_validate({"name": name, "parameterType": kind, "feasibleSpace": space})


SPACE = [
    parameter("lr", "double", min="0.0001", max="1", distribution="logUniform"),
    parameter("momentum", "double", min="0.5", max="0.9", step="0.05"),
    parameter("layers", "int", min="2", max="8", step="2"),
    parameter("batch", "discrete", list=["16", "32", "64"]),
    parameter("optimizer", "categorical", list=["sgd", "adam"]),
]


def draws(algorithm: str, count: int, seed: int = 1, **settings: str) -> list[dict[str, Value]]:
    search = Search(algorithm, settings, SPACE, True, seed)
    found = []
    for number in range(count):
        found.append(search.ask(number))
        search.tell(number, quality(found[-1]))
    return found


def quality(parameters: Mapping[str, Value]) -> float:
    return abs(float(parameters["momentum"]) - 0.7) + abs(float(parameters["layers"]) - 6)


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_every_value_is_in_its_space(algorithm: str) -> None:
    for drawn in draws(algorithm, 60):
        assert 0.0001 <= float(drawn["lr"]) <= 1
        assert drawn["momentum"] in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
        assert drawn["layers"] in (2, 4, 6, 8)
        assert drawn["batch"] in ("16", "32", "64")
        assert drawn["optimizer"] in ("sgd", "adam")


def test_log_uniform_spreads_over_the_magnitudes() -> None:
    small = [drawn for drawn in draws("random", 200) if float(drawn["lr"]) < 0.01]
    assert 70 < len(small) < 130  # half of the four decades


@pytest.mark.parametrize("algorithm", ["random", "tpe", "grid"])
def test_same_seed_same_trials(algorithm: str) -> None:
    space = SPACE if algorithm != "grid" else SPACE[1:]
    first, again, other = (
        [search.ask(0)] + [(search.tell(n - 1, float(n)), search.ask(n))[1] for n in range(1, 25)]
        for search in (Search(algorithm, {}, space, True, seed) for seed in (5, 5, 6))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_resumed_search_goes_on_as_if_it_had_not_stopped(algorithm: str) -> None:
    whole = draws(algorithm, 30, n_startup_trials="5") if algorithm == "tpe" else draws(algorithm, 30)
    settings = {"n_startup_trials": "5"} if algorithm == "tpe" else {}
    search = Search(algorithm, settings, SPACE, True, 1)
    for past in whole[:17]:
        search.recall(Past(past, "succeeded", quality(past)))
    for number in range(17, 30):
        assert search.ask(number) == whole[number]
        search.tell(number, quality(whole[number]))


def test_recalled_running_trial_can_be_told() -> None:
    search = Search("tpe", {}, SPACE, True, 1)
    first = draws("tpe", 2)
    search.recall(Past(first[0], "running"))
    search.recall(Past(first[1], "failed"))
    search.ask(2)
    search.tell(0, 1.0)
    search.tell(2, None)


def test_grid_tries_every_combination_once() -> None:
    space = [parameter("x", "double", min="0", max="1", step="0.25"), *SPACE[2:]]
    search = Search("grid", {}, space, True, 3)
    assert search.size == 5 * 4 * 3 * 2
    found = []
    for number in range(search.size):
        found.append(search.ask(number))
        search.tell(number, 1.0 if number % 7 else None)
    assert len({tuple(drawn.values()) for drawn in found}) == search.size


def test_grid_has_the_numbers_that_were_written() -> None:
    """Not 0.034999999999999996; and the greatest value only when a step meets it."""
    lr = Dimension(parameter("lr", "double", min="0.01", step="0.005", max="0.05"))
    assert lr.grid() == [0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05]
    assert Dimension(parameter("x", "double", min="0", step="0.4", max="1")).grid() == [0.0, 0.4, 0.8]
    assert Dimension(parameter("n", "int", min="1", max="3")).grid() == [1, 2, 3]


def test_tpe_learns_and_its_settings_matter() -> None:
    tpe, random = draws("tpe", 60), draws("random", 60)
    late = [sum(map(quality, found[30:])) for found in (tpe, random)]
    assert late[0] < 0.6 * late[1]
    plain = draws("tpe", 40, n_startup_trials="5")
    for setting, value in {
        "gamma": "0.9",
        "n_EI_candidates": "2",
        "prior_weight": "5",
        "n_startup_trials": "20",
    }.items():
        given = {"n_startup_trials": "5", setting: value}
        assert draws("tpe", 40, **given) != plain, setting


def test_importance_is_with_the_parameter_that_matters() -> None:
    search = Search("random", {}, SPACE, True, 1)
    for number in range(60):
        drawn = search.ask(number)
        search.tell(number, float(drawn["layers"]))
    importances = search.importances()
    assert max(importances, key=lambda name: importances[name]) == "layers"
    assert sum(importances.values()) == pytest.approx(1)


def test_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", seed=None)
    done = Trial(0, "e-0001", {"lr": 0.1, "o": "adam"}, "Succeeded", {"loss": 0.5}, 0.5, 1.25)
    running = Trial(1, "e-0002", {"lr": 0.2, "o": "sgd"})
    journal.started(Trial(0, done.name, done.parameters))
    journal.started(running)
    journal.finished(done)
    journal.close()
    again = Journal(tmp_path / "j", seed=99)
    assert again.seed == journal.seed
    assert again.trials == {0: Trial(**{**vars(done), "recalled": True}), 1: running}


@pytest.mark.parametrize("torn", ['{"event":"fin', '{"event":"finished","trial":0}', "\x00\x00", '"text"\n'])
def test_torn_end_of_a_journal_is_cut_off(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path, seed=4)
    journal.started(Trial(0, "e-0001", {"lr": 0.1}))
    journal.close()
    whole = path.read_text()
    path.write_text(whole + torn)
    again = Journal(path, seed=None)
    assert (again.seed, list(again.trials)) == (4, [0])
    again.close()
    assert path.read_text() == whole


def test_failures_are_tried_again_after_giving_up(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", seed=4)
    for number, state in enumerate(("Succeeded", "Failed", "MetricsUnavailable")):
        trial = Trial(number, f"e-{number}", {"lr": 0.1})
        journal.started(trial)
        journal.finished(Trial(number, trial.name, trial.parameters, state, {}, 1.0 if not number else None))  # type: ignore[arg-type]
    journal.close()
    kept = Journal(tmp_path / "j", seed=None)
    assert [trial.state for trial in kept.trials.values()] == ["Succeeded", "Failed", "MetricsUnavailable"]
    kept.gave_up()
    kept.close()
    assert [trial.state for trial in Journal(tmp_path / "j").trials.values()] == ["Succeeded", "Running", "Running"]
    assert Journal(tmp_path / "j", fresh=True).trials == {}
