"""Parameters are drawn from the space that was given, the same ones for the same seed, however often interrupted."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mlops_actions.tuning.algorithms.base import Algorithm, Suggestion, Task
from mlops_actions.tuning.algorithms.pbt import GENERATION
from mlops_actions.tuning.algorithms.table import algorithm
from mlops_actions.tuning.engine import PARENT, Trial
from mlops_actions.tuning.experiment import Parameter
from mlops_actions.tuning.importance import importances
from mlops_actions.tuning.journal import Journal
from mlops_actions.tuning.space import Dimension, Value


def parameter(name: str, kind: str, **space: Any) -> Parameter:
    return Parameter.model_validate({"name": name, "parameterType": kind, "feasibleSpace": space})


SPACE = [
    parameter("lr", "double", min="0.0001", max="1", distribution="logUniform"),
    parameter("momentum", "double", min="0.5", max="0.9", step="0.05"),
    parameter("layers", "int", min="2", max="8", step="2"),
    parameter("width", "int", min="1", max="100", distribution="logNormal"),
    parameter("shift", "double", min="-1", max="1", distribution="normal"),
    parameter("decay", "double", min="0.01", max="1", step="0.01", distribution="logUniform"),
    parameter("batch", "discrete", list=["16", "32", "64"]),
    parameter("optimizer", "categorical", list=["sgd", "adam"]),
]
SETTINGS: dict[str, dict[str, str]] = {
    "random": {},
    "sobol": {},
    "tpe": {"n_startup_trials": "5"},
    "multivariate-tpe": {"n_startup_trials": "5"},
    "bayesianoptimization": {"n_initial_points": "5", "acq_func": "EI", "base_estimator": "GP"},
    "cmaes": {"restart_strategy": "bipop"},
    "hyperband": {"r_l": "9", "eta": "3", "resource_name": "width"},
    "pbt": {"n_population": "6", "truncation_threshold": "0.3", "suggestion_trial_dir": "/checkpoints"},
}


SLOW = {"bayesianoptimization"}
"""Fits a model for each trial after the first five."""


def make(name: str, seed: int = 1, space: list[Parameter] | None = None, **settings: str) -> Algorithm:
    return algorithm(name, Task("e", space or SPACE, {**SETTINGS.get(name, {}), **settings}, True, seed))


def quality(parameters: Mapping[str, Value]) -> float:
    return abs(float(parameters["momentum"]) - 0.7) + abs(float(parameters["layers"]) - 6)


def trial(number: int, drawn: Suggestion, value: float | None) -> Trial:
    state = "Failed" if value is None else "Succeeded"
    return Trial(number, f"e-{number}", drawn.parameters, state, value=value, labels=drawn.labels)  # type: ignore[arg-type]


def run(search: Algorithm, count: int, first: int = 0, worth: Callable[[Any], float | None] = quality) -> list[Trial]:
    """So many trials, one after another."""
    found = []
    for number in range(first, first + count):
        drawn = search.ask(number)
        if drawn is None:
            break
        found.append(trial(number, drawn, worth(drawn.parameters)))
        search.tell(found[-1])
    return found


@cache
def draws(name: str, count: int, seed: int = 1, **settings: str) -> list[Mapping[str, Value]]:
    return [trial.parameters for trial in run(make(name, seed, **settings), count)]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_value_is_in_its_space(name: str) -> None:
    on_steps = name != "pbt"  # which multiplies values by 0.8 or 1.2
    for drawn in draws(name, 7 if name in SLOW else 40):
        assert 0.0001 <= float(drawn["lr"]) <= 1
        assert 0.5 <= float(drawn["momentum"]) <= 0.9
        assert 2 <= int(drawn["layers"]) <= 8
        assert 1 <= int(drawn["width"]) <= 100
        assert -1 <= float(drawn["shift"]) <= 1
        assert 0.01 <= float(drawn["decay"]) <= 1
        assert drawn["batch"] in ("16", "32", "64")
        assert drawn["optimizer"] in ("sgd", "adam")
        if on_steps:
            assert drawn["momentum"] in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
            assert drawn["layers"] in (2, 4, 6, 8)
            assert round(float(drawn["decay"]), 2) == drawn["decay"]


def test_distributions_are_katibs() -> None:
    drawn = draws("random", 2000)
    small = [float(d["lr"]) < 0.01 for d in drawn]
    assert 0.46 < statistics.mean(small) < 0.54  # half of the four decades
    shifts = [float(d["shift"]) for d in drawn]
    assert abs(statistics.mean(shifts)) < 0.03
    assert statistics.stdev(shifts) == pytest.approx(1 / 3, rel=0.06)  # the bounds are three deviations away
    logs = [math.log(float(d["width"])) for d in drawn]
    assert statistics.mean(logs) == pytest.approx(math.log(100) / 2, rel=0.05)
    assert statistics.stdev(logs) == pytest.approx(math.log(100) / 6, rel=0.08)
    for name in ("layers", "batch", "optimizer"):
        counts = [[d[name] for d in drawn].count(value) for value in {d[name] for d in drawn}]
        assert max(counts) < 1.25 * min(counts), name


@pytest.mark.parametrize("dimension", [Dimension(p) for p in SPACE], ids=lambda d: d.name)
def test_quantile_and_value_are_each_others_inverse(dimension: Dimension) -> None:
    for quantile in (0.0, 0.01, 0.2, 0.5, 0.77, 0.99, 1.0):
        value = dimension.at(quantile)
        assert dimension.at(dimension.quantile(value)) == pytest.approx(value)
    assert dimension.at(0.0) == (dimension.choices[0] if dimension.choices else pytest.approx(float(dimension.low)))
    single = Dimension(parameter("one", "double", min="2", max="2", distribution="normal"))
    assert single.at(0.3) == 2 and single.quantile(2.0) == 0.5


@pytest.mark.parametrize("name", [*SETTINGS, "grid"])
def test_same_seed_same_trials(name: str) -> None:
    space = SPACE[1:3] + SPACE[6:] if name == "grid" else None
    count = 6 if name in SLOW else 8
    first, again, other = (
        run(make(name, seed, space), count, worth=lambda p: float(p["layers"])) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other or name == "sobol"


@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_search_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    half, count = (6, 8) if name in SLOW else (12, 20)
    whole = run(make(name), count)
    search = make(name)
    for past in whole[:half]:
        search.recall(replace(past, state="Running", value=None))
        search.tell(past)
    assert run(search, len(whole) - half, first=half) == whole[half:]


@pytest.mark.parametrize("name", SETTINGS)
def test_trials_may_overlap_fail_and_be_recalled_while_they_run(name: str) -> None:
    search = make(name)
    first = [search.ask(number) for number in range(4)]
    assert all(first)
    again = make(name)
    for number, drawn in enumerate(first):
        assert drawn
        again.recall(Trial(number, f"e-{number}", drawn.parameters, labels=drawn.labels))
    for side in (search, again):
        for number in (2, 0, 3, 1):
            drawn = first[number]
            assert drawn
            side.tell(trial(number, drawn, None if number == 3 else quality(drawn.parameters)))
    assert search.ask(4) == again.ask(4)


@pytest.mark.parametrize("name", ["tpe", "multivariate-tpe", "bayesianoptimization", "cmaes"])
def test_search_learns(name: str) -> None:
    space = [parameter(name, "double", min="0", max="1") for name in ("x", "y", "z")]
    count = 15 if name in SLOW else 30
    found, random = (
        run(make(n, 2, space), count, worth=lambda p: sum((float(v) - 0.3) ** 2 for v in p.values()))
        for n in (name, "random")
    )
    late = [
        statistics.mean(t.value for t in trials[2 * count // 3 :] if t.value is not None) for trials in (found, random)
    ]
    assert late[0] < 0.6 * late[1]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("tpe", "gamma", "0.9"),
        ("tpe", "n_EI_candidates", "2"),
        ("tpe", "n_ei_candidates", "2"),
        ("tpe", "prior_weight", "5"),
        ("tpe", "n_startup_trials", "12"),
        ("multivariate-tpe", "n_ei_candidates", "2"),
        ("multivariate-tpe", "n_startup_trials", "12"),
        ("bayesianoptimization", "n_initial_points", "6"),
        ("bayesianoptimization", "base_estimator", "RF"),
        ("bayesianoptimization", "base_estimator", "ET"),
        ("bayesianoptimization", "base_estimator", "GBRT"),
        ("bayesianoptimization", "acq_func", "LCB"),
        ("bayesianoptimization", "acq_func", "PI"),
        ("bayesianoptimization", "acq_func", "gp_hedge"),
        ("bayesianoptimization", "acq_optimizer", "sampling"),
        ("cmaes", "sigma", "0.01"),
        ("hyperband", "eta", "2"),
        ("hyperband", "r_l", "27"),
        ("pbt", "n_population", "9"),
        ("pbt", "resample_probability", "0.5"),
        ("pbt", "truncation_threshold", "0"),
    ],
)
def test_setting_matters(name: str, setting: str, value: str) -> None:
    count = 7 if name in SLOW else 25
    assert draws(name, count, **{setting: value}) != draws(name, count)


def test_tpe_and_multivariate_tpe_differ() -> None:
    assert draws("tpe", 20) != draws("multivariate-tpe", 20)


def test_cmaes_restarts_where_it_is_told_to() -> None:
    space = [parameter(name, "double", min="0", max="1") for name in ("x", "y")]
    flat = [
        run(make("cmaes", 1, space, restart_strategy=s), 400, worth=lambda p: 1.0) for s in ("none", "ipop", "bipop")
    ]
    assert flat[0][:60] == flat[1][:60] == flat[2][:60]
    assert flat[0] != flat[1] != flat[2] != flat[0]


def test_grid_tries_every_combination_once() -> None:
    space = [parameter("x", "double", min="0", max="1", step="0.25"), SPACE[2], *SPACE[6:]]
    search = make("grid", 3, space)
    assert search.size == 5 * 4 * 3 * 2
    found = run(search, search.size, worth=lambda p: None if p["x"] == 0 else 1.0)
    assert len({tuple(trial.parameters.values()) for trial in found}) == search.size


def test_grid_has_the_numbers_that_were_written() -> None:
    """Not 0.034999999999999996; and the greatest value only when a step meets it."""
    lr = Dimension(parameter("lr", "double", min="0.01", step="0.005", max="0.05"))
    assert lr.grid() == [0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05]
    assert Dimension(parameter("x", "double", min="0", step="0.4", max="1")).grid() == [0.0, 0.4, 0.8]
    assert Dimension(parameter("n", "int", min="1", max="3")).grid() == [1, 2, 3]


def test_sobol_fills_the_space_evenly() -> None:
    space = [parameter(name, "double", min="0", max="1") for name in ("x", "y")]
    points = [trial.parameters for trial in run(make("sobol", 1, space), 63, worth=lambda p: 0.0)]
    cells = {(int(float(point["x"]) * 8), int(float(point["y"]) * 8)) for point in points}
    assert len(cells) == 63  # of 64, the first being left out


RESOURCE = [SPACE[0], parameter("epochs", "int", min="1", max="1")]


def test_hyperband_runs_the_papers_rungs_and_the_best_go_on() -> None:
    search = make("hyperband", 1, RESOURCE, r_l="9", eta="3", resource_name="epochs")
    found = run(search, 100, worth=lambda p: float(p["lr"]))
    assert [trial.parameters["epochs"] for trial in found] == [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] * 2 + [9] * 3
    assert search.size == len(found) == 23
    best = sorted(float(trial.parameters["lr"]) for trial in found[:9])[:3]
    assert [trial.parameters["lr"] for trial in found[9:12]] == best
    assert found[12].parameters["lr"] == best[0]


def test_hyperband_waits_for_a_rung_and_leaves_out_what_failed() -> None:
    search = make("hyperband", 1, RESOURCE, r_l="9", eta="3", resource_name="epochs")
    rung = [search.ask(number) for number in range(9)]
    assert all(rung)
    assert search.ask(9) is None
    for number, drawn in enumerate(rung):
        assert drawn
        search.tell(trial(number, drawn, float(number) if number >= 7 else None))
    after = [search.ask(number) for number in (9, 10, 11)]
    assert [drawn and drawn.parameters["lr"] for drawn in after[:2]] == [r and r.parameters["lr"] for r in rung[7:]]
    assert after[2] is None


def test_generations_go_on_from_the_best() -> None:
    search = make("pbt", 1, SPACE[:1], n_population="10", truncation_threshold="0.2")
    first = run(search, 10, worth=lambda p: float(p["lr"]))
    assert all(trial.labels == {GENERATION: "0"} for trial in first)
    second = run(search, 10, first=10, worth=lambda p: float(p["lr"]))
    assert {trial.labels[GENERATION] for trial in second} == {"1"}
    names = {trial.name: trial for trial in first}
    ranked = sorted(first, key=lambda trial: trial.value or 0)
    exploiting = [trial for trial in second if trial.parameters == names[trial.labels[PARENT]].parameters]
    assert [trial.labels[PARENT] in {ranked[0].name, ranked[1].name} for trial in exploiting] == [True, True]
    for child in second:
        if child not in exploiting:
            parent = float(names[child.labels[PARENT]].parameters["lr"])
            assert float(child.parameters["lr"]) in (
                pytest.approx(max(0.8 * parent, 0.0001)),
                pytest.approx(min(1.2 * parent, 1)),
            )


def test_failed_member_of_a_population_is_tried_again() -> None:
    search = make("pbt", 1, SPACE[:1], n_population="5")
    first = search.ask(0)
    assert first
    search.tell(trial(0, first, None))
    later = [search.ask(number) for number in range(1, 6)]
    assert later[-1] == first


def test_importance_is_with_the_parameter_that_matters() -> None:
    found = importances(SPACE, run(make("random"), 60, worth=lambda p: float(p["layers"])), True)
    assert max(found, key=lambda name: found[name]) == "layers"
    assert sum(found.values()) == pytest.approx(1)


def test_importance_of_too_few_trials_is_not_told() -> None:
    assert importances(SPACE, run(make("random"), 4), True) == {}
    assert importances(SPACE, run(make("random"), 9, worth=lambda p: 1.0), True) == {}


def test_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", seed=None)
    done = Trial(0, "e-0001", {"lr": 0.1, "o": "adam"}, "Succeeded", {"loss": 0.5}, 0.5, 1.25, labels={"a": "b"})
    running = Trial(1, "e-0002", {"lr": 0.2, "o": "sgd"})
    journal.started(Trial(0, done.name, done.parameters, labels=done.labels))
    journal.started(running)
    journal.finished(done)
    journal.close()
    again = Journal(tmp_path / "j", seed=99)
    assert again.seed == journal.seed
    recalled = replace(done, recalled=True)
    assert again.trials == {0: recalled, 1: running}
    assert again.past == [replace(done, state="Running", metrics={}, value=None, seconds=0.0), running, recalled]


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
