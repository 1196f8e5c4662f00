"""The local engine runs Experiments as processes: how they end, what is kept, what is run again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_actions.errors import BadInput, ComponentFailed, RemoteFailed
from mlops_actions.records import Record
from mlops_actions.reports.sections import section
from mlops_actions.tuning.engine import PARENT, Outcome, Pipeline, Trial, TuneRequest, TuningContext
from mlops_actions.tuning.experiment import EarlyStopping, Experiment
from mlops_actions.tuning.local import LocalEngine
from mlops_actions.tuning.publish import as_csv, details, typed
from mlops_actions.tuning.reading import Document
from mlops_actions.tuning.stopping import MedianStop
from mlops_actions.waiting import wait_until

KATIB = Path(__file__).resolve().parents[1] / "data" / "katib"
ADD = "import sys; print('loss=%r' % sum(float(a.split('=')[1]) for a in sys.argv[1:]))"


class Recorder:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.recalled: list[str] = []
        self.begun: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.most = 0
        self.stopped_with: list[str | None] = []

    def resumed(self, trials: list[Trial]) -> None:
        self.recalled = [trial.name for trial in trials]

    def started(self, trial: Trial, running: int) -> None:
        self.begun.append(trial.name)
        self.most = max(self.most, running)

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        self.ended.append((trial.name, best.name if best else ""))

    def interrupted(self, best: Trial | None, done: int) -> None:
        self.stopped_with.append(best.name if best else None)


def experiment(program: str = ADD, *, example: str = "random", goal: float | None = None, **spec: Any) -> Document:
    """Katib's example with a program of this machine for the training in the image."""
    values = yaml.safe_load((KATIB / f"example-{example}.yaml").read_text())
    values["spec"]["algorithm"].setdefault("algorithmSettings", [{"name": "random_state", "value": "11"}])
    values["spec"]["objective"].pop("goal")
    if goal is not None:
        values["spec"]["objective"]["goal"] = goal
    values["spec"] |= spec
    container = values["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [sys.executable, "-S", "-c", program, *container["command"][-2:]]
    return Document("experiment.yaml", values, Experiment.model_validate(values), {})


def run(given: Document, folder: Path, watcher: Recorder | None = None, **request: Any) -> Outcome:
    spec = given.experiment.spec
    asked = {"parallel": spec.parallel_trial_count, "max_trials": spec.max_trial_count}
    context = TuningContext(folder, dict(os.environ), folder / "state")
    return LocalEngine(context).run(TuneRequest(given, "key", **(asked | request)), watcher or Recorder())


@pytest.mark.parametrize("example", ["random", "tpe"])
def test_all_trials_run_and_the_best_is_the_best(example: str, tmp_path: Path) -> None:
    watcher = Recorder()
    outcome = run(experiment(example=example), tmp_path, watcher)
    assert outcome.end == "MaxTrialsReached"
    assert [trial.name for trial in outcome.trials] == [f"{example}-{n:04d}" for n in range(1, 13)]
    assert watcher.most == 3
    values = [trial.value for trial in outcome.trials if trial.value is not None]
    assert len(values) == 12
    assert outcome.value == outcome.best.value == min(values)
    for trial in outcome.trials:
        assert trial.value == pytest.approx(float(trial.parameters["lr"]) + float(trial.parameters["momentum"]))


def test_trials_leave_nothing_in_the_consumers_folder(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("")
    outcome = run(experiment(f"import beside\n{ADD}"), tmp_path, max_trials=1, parallel=1)
    assert outcome.best and not (tmp_path / "__pycache__").exists()


def test_grid_ends_when_every_combination_was_tried(tmp_path: Path) -> None:
    outcome = run(experiment(example="grid"), tmp_path, max_trials=100, parallel=4)
    assert outcome.end == "SearchSpaceExhausted"
    assert len({tuple(trial.parameters.values()) for trial in outcome.trials}) == 45
    assert outcome.best.parameters == {"lr": 0.01, "momentum": 0.5}


def test_goal_ends_the_experiment_and_the_trials_that_still_run(tmp_path: Path) -> None:
    program = "import sys, time; first = sys.argv[1] == '{}'; time.sleep(0 if first else 60); print('loss=0')"
    first = run(experiment(), tmp_path / "look", max_trials=1).trials[0]
    slow = experiment(program.format(f"--lr={first.parameters['lr']}"), goal=0.5)
    outcome = run(slow, tmp_path)
    assert outcome.end == "GoalReached"
    assert [trial.state for trial in outcome.trials] == ["Succeeded", "Killed", "Killed"]
    assert "random-0002,Killed," in as_csv(slow.experiment, outcome)


def test_same_seed_same_parameters_however_many_run_at_a_time(tmp_path: Path) -> None:
    one, three = (run(experiment(), tmp_path / str(n), parallel=n) for n in (1, 3))
    assert [trial.parameters for trial in one.trials] == [trial.parameters for trial in three.trials]
    assert one.seed == 11


def test_without_a_seed_one_is_chosen_and_kept(tmp_path: Path) -> None:
    free = experiment(algorithm={"algorithmName": "random"})
    first, other = run(free, tmp_path / "a", max_trials=2), run(free, tmp_path / "b", max_trials=2)
    assert first.seed != other.seed
    more = run(free, tmp_path / "a", max_trials=3)
    assert more.seed == first.seed
    assert [trial.parameters for trial in more.trials[:2]] == [trial.parameters for trial in first.trials]


def test_too_many_failures_end_it_with_the_last_ones_log(tmp_path: Path) -> None:
    watcher = Recorder()
    broken = experiment("import sys; print('about to break'); sys.exit(7)", maxFailedTrialCount=3)
    with pytest.raises(ComponentFailed, match=r"3 trials failed, and `maxFailedTrialCount` is 3") as failed:
        run(broken, tmp_path, watcher, parallel=1)
    assert "random-0003 with lr=" in failed.value.why
    assert "it ended with exit code 7" in failed.value.why
    assert failed.value.log == "about to break"
    assert watcher.stopped_with == [None]


@pytest.mark.parametrize("allowed", [0, 1])
def test_as_many_failures_as_the_count_end_it_as_on_katib(allowed: int, tmp_path: Path) -> None:
    with pytest.raises(ComponentFailed, match=f"1 trial failed, and `maxFailedTrialCount` is {allowed}"):
        run(experiment("raise SystemExit(1)", maxFailedTrialCount=allowed), tmp_path, parallel=1)


@pytest.mark.parametrize(("code", "kind"), [(1, ComponentFailed), (2, ComponentFailed), (3, RemoteFailed)])
def test_trial_whose_pipeline_failed_for_a_remote_reason_is_not_the_consumers_failure(
    code: int, kind: type[Exception], tmp_path: Path
) -> None:
    said = {"record": {"problem": {"what": "The pipeline failed", "why": "no cluster"}}}
    program = f"print({json.dumps(said)!r}); raise SystemExit({code})"
    pipeline = Pipeline((sys.executable, "-S", "-c", program), dict(os.environ))
    given = experiment(maxFailedTrialCount=1)
    with pytest.raises(kind, match=f"exit code {code}: The pipeline failed. no cluster"):
        run(given, tmp_path, parallel=1, pipeline=pipeline)


def test_failures_are_allowed_up_to_the_count(tmp_path: Path) -> None:
    program = "import sys; lr = float(sys.argv[1][5:]); sys.exit(1) if lr > 0.03 else print('loss=%r' % lr)"
    outcome = run(experiment(program, maxFailedTrialCount=12), tmp_path)
    failed = [trial for trial in outcome.trials if trial.failed]
    assert 0 < len(failed) < 12
    assert all(float(trial.parameters["lr"]) > 0.03 for trial in failed)
    assert outcome.end == "MaxTrialsReached"
    assert not outcome.best.failed


def test_experiment_whose_every_trial_fails_has_no_best(tmp_path: Path) -> None:
    with pytest.raises(ComponentFailed, match="No trial succeeded"):
        run(experiment("raise SystemExit(1)", maxFailedTrialCount=None), tmp_path)


def test_metric_that_was_never_printed_is_told_with_what_was(tmp_path: Path) -> None:
    silent = experiment("print('Loss: 0.3')", maxFailedTrialCount=0)
    with pytest.raises(ComponentFailed) as failed:
        run(silent, tmp_path, parallel=1)
    assert "it never reported 'loss' as loss=<number>" in failed.value.why
    assert failed.value.log == "Loss: 0.3"
    assert "Report the metric in that form" in failed.value.fix
    with pytest.raises(ComponentFailed, match="it printed nothing"):
        run(experiment("pass", maxFailedTrialCount=0), tmp_path / "nothing", parallel=1)


def test_custom_format_and_additional_metrics_are_collected(tmp_path: Path) -> None:
    program = "print('loss: 3'); print('loss: 2', 'auc: 0.7'); print('auc: 0.9')"
    given = experiment(
        program,
        objective={
            "type": "minimize",
            "objectiveMetricName": "loss",
            "additionalMetricNames": ["auc", "never"],
            "metricStrategies": [{"name": "auc", "value": "latest"}],
        },
        metricsCollectorSpec={"source": {"filter": {"metricsFormat": [r"(\w+): ([\d.]+)"]}}},
    )
    outcome = run(given, tmp_path, max_trials=1)
    assert outcome.best.metrics == {"loss": 2.0, "auc": 0.9}
    assert outcome.value == 2.0


def test_trial_that_takes_too_long_fails_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
        "open('child', 'w').write(str(p.pid)); time.sleep(60)"
    )
    with pytest.raises(ComponentFailed, match="it ran longer than 5 s"):
        run(experiment(program, maxFailedTrialCount=0), tmp_path, parallel=1, trial_timeout=5.0)
    assert gone(int((tmp_path / "child").read_text()))


HANGING = """
import os, pathlib, time
number = int(os.environ["KATIB_TRIAL_NAME"][-1])
if number > 2 and {}:
    time.sleep(600)
print(f"loss={{number}}")
"""
"""A training of which the third trial does not end while a condition holds."""


def test_time_for_all_is_up_and_the_next_run_goes_on(tmp_path: Path) -> None:
    names = [f"random-{n:04d}" for n in range(1, 5)]
    hanging = experiment(HANGING.format(f"not pathlib.Path({str(tmp_path / 'goes on')!r}).exists()"))
    first, second = Recorder(), Recorder()
    with pytest.raises(RemoteFailed, match=r"did not end within 3 s.*goes on from there"):
        run(hanging, tmp_path, first, timeout=3.0, parallel=1, max_trials=4)
    ended = [name for name, _ in first.ended]
    assert ended == names[: len(ended)] and len(ended) <= 2  # a busy machine may end fewer
    (tmp_path / "goes on").touch()
    outcome = run(hanging, tmp_path, second, parallel=1, max_trials=4)
    assert second.recalled == ended and outcome.resumed == len(ended)
    assert second.begun == names[len(ended) :]


def test_more_trials_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    run(experiment(), tmp_path, max_trials=4)
    watcher = Recorder()
    more = run(experiment(), tmp_path, watcher, max_trials=6)
    assert sorted(watcher.begun) == ["random-0005", "random-0006"]
    assert [t.parameters for t in more.trials] == [
        t.parameters for t in run(experiment(), tmp_path / "all", max_trials=6).trials
    ]
    anew = Recorder()
    run(experiment(), tmp_path, anew, max_trials=2, fresh=True)
    assert anew.begun == ["random-0001", "random-0002"]


def test_what_a_trial_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL);"
        "open('child', 'w').write(str(p.pid)); print('loss=1')"
    )
    run(experiment(program), tmp_path, max_trials=1)
    assert gone(int((tmp_path / "child").read_text()))


def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    given = experiment()
    assert given.primary
    given.primary[1].command[0] = "no-such-program"
    with pytest.raises(BadInput, match="'no-such-program' is not on this machine"):
        run(given, tmp_path)


def test_experiment_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="would never end"):
        run(experiment(), tmp_path, max_trials=None)


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
def test_limit_gives_the_best_so_far_where_that_is_asked(limit: str, tmp_path: Path) -> None:
    slow = experiment(HANGING.format("True"))
    run(slow, tmp_path, parallel=1, max_trials=2)
    with pytest.raises(RemoteFailed, match=r"`at-limit: best` takes the best so far"):
        run(slow, tmp_path, parallel=1, **{limit: 0.1})
    outcome = run(slow, tmp_path, parallel=1, at_limit="best", **{limit: 3.0})
    assert outcome.end == {"timeout": "TimeLimit", "stall_timeout": "Stalled"}[limit]
    assert [trial.state for trial in outcome.trials] == ["Succeeded", "Succeeded", "Killed"]
    assert outcome.best.name == "random-0001" and outcome.resumed == 2
    assert details(slow.experiment, outcome)["counts"] == {
        "all": 3, "succeeded": 2, "failed": 0, "early-stopped": 0, "killed": 1
    }  # fmt: skip


def test_limit_without_any_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RemoteFailed, match=r"No trial ended within 8 s.*0 trials ended") as failed:
        run(
            experiment("import time; print('begun', flush=True); time.sleep(60)"),
            tmp_path,
            stall_timeout=8.0,
            at_limit="best",
        )
    assert failed.value.log == "begun"


STEPS = """
import os, sys, time
lr = float(sys.argv[1].split("=")[1])
for step in range(40):
    print(f"epoch {step} loss={lr + 1 / (step + 1)}", flush=True)
    time.sleep(0.1 if lr > {slow} else 0.001)
"""
"""A training that prints its loss as it goes; those with a large learning rate are worse, and slower."""


def medianstop(**settings: str) -> dict[str, Any]:
    given = [{"name": name, "value": value} for name, value in settings.items()]
    return {"algorithmName": "medianstop", "algorithmSettings": given}


def test_trial_that_falls_behind_is_stopped_and_its_value_counts(tmp_path: Path) -> None:
    stopping = medianstop(min_trials_required="2", start_step="3")
    wide = [
        {"name": n, "parameterType": "double", "feasibleSpace": {"min": "0", "max": m}}
        for n, m in (("lr", "100"), ("momentum", "1"))
    ]
    given = experiment(STEPS.replace("{slow}", "50"), earlyStopping=stopping, parameters=wide)
    outcome = run(given, tmp_path, parallel=2, max_trials=8)
    stopped = [trial for trial in outcome.trials if trial.state == "EarlyStopped"]
    assert stopped and outcome.end == "MaxTrialsReached"
    for trial in stopped:
        assert trial.value is not None and trial.value == trial.metrics["loss"] > outcome.value
        assert trial.message.startswith("loss was ") and "others had" in trial.message
        lines = (tmp_path / "state" / "logs" / f"{trial.name}.log").read_text().splitlines()
        assert 3 <= len(lines) < 40
    assert not any(trial.failed for trial in outcome.trials)
    counts = details(given.experiment, outcome)["counts"]
    assert counts["early-stopped"] == len(stopped) and counts["killed"] == 0
    watcher = Recorder()
    more = run(given, tmp_path, watcher, parallel=2, max_trials=10)
    assert len(watcher.recalled) == 8 and more.trials[:8] != outcome.trials
    assert [trial.state for trial in more.trials[:8]] == [trial.state for trial in outcome.trials]


def test_limit_of_a_trial_is_what_others_had_at_its_age_when_it_began(tmp_path: Path) -> None:
    objective = experiment().experiment.spec.objective
    median = MedianStop(EarlyStopping.model_validate(medianstop(min_trials_required="2", start_step="2")), objective)
    median.learn([4.0, 2.0, 0.1])
    assert median.limit() is None
    median.learn([8.0])
    limit = median.limit()
    assert limit and limit.value == 5.5  # the mean of 3 and 8
    limit.observe(9.0)
    assert not limit.missed()  # too young
    limit.observe(5.0)
    limit.observe(50.0)
    assert not limit.missed()  # its best counts
    behind = median.limit()
    assert behind
    behind.observe(9.0)
    behind.observe(6.0)
    assert behind.missed() == "loss was 6 at best after 2 values, and others had 5.5"


def test_generations_go_on_from_their_parents_checkpoints(tmp_path: Path) -> None:
    program = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
before = (folder / "line").read_text() if (folder / "line").exists() else ""
(folder / "line").write_text(before + sys.argv[2] + ",")
print("loss=%d" % -len((before + sys.argv[2]).split(",")))
"""
    settings = {
        "suggestion_trial_dir": "/ckpt/",
        "n_population": "5",
        "truncation_threshold": "0.2",
        "random_state": "1",
    }
    algorithm = {"algorithmName": "pbt", "algorithmSettings": [{"name": n, "value": v} for n, v in settings.items()]}
    given = experiment(program, algorithm=algorithm)
    assert given.primary
    given.primary[1].command[4:] = ["/ckpt", "${trialParameters.learningRate}"]
    outcome = run(given, tmp_path, parallel=2, max_trials=16)
    for trial in outcome.trials:
        line = (tmp_path / "state" / "trials" / trial.name / "checkpoints" / "line").read_text().split(",")
        parent = trial.labels.get(PARENT)
        above = (
            (tmp_path / "state" / "trials" / parent / "checkpoints" / "line").read_text().split(",")[:-1]
            if parent
            else []
        )
        assert line[:-1] == [*above, str(trial.parameters["lr"])]
    assert outcome.value == -3  # a grandchild
    watcher = Recorder()
    more = run(given, tmp_path, watcher, parallel=2, max_trials=18)
    assert more.trials[15].labels == outcome.trials[15].labels and len(watcher.begun) == 2


def test_hyperband_ends_when_its_brackets_do(tmp_path: Path) -> None:
    program = """
import sys
values = dict(word[2:].split("=") for word in sys.argv[1:])
print("loss=%r" % (float(values["lr"]) / float(values["momentum"])))
"""
    settings = {"r_l": "4", "eta": "2", "resource_name": "momentum"}
    algorithm = {
        "algorithmName": "hyperband",
        "algorithmSettings": [{"name": n, "value": v} for n, v in settings.items()],
    }
    outcome = run(experiment(program, algorithm=algorithm), tmp_path, parallel=4, max_trials=None)
    assert outcome.end == "SearchSpaceExhausted"
    assert [float(trial.parameters["momentum"]) for trial in outcome.trials] == [1] * 4 + [2] * 2 + [4] + [2] * 3 + [
        4
    ] * 2 + [4] * 3
    assert outcome.best.parameters["momentum"] == 4


def test_best_parameters_have_their_types() -> None:
    space = [
        {"name": "n", "parameterType": "int", "feasibleSpace": {"min": "1", "max": "2"}},
        {"name": "b", "parameterType": "discrete", "feasibleSpace": {"list": ["16", "0.5", "x"]}},
        {"name": "c", "parameterType": "categorical", "feasibleSpace": {"list": ["1"]}},
    ]
    given = experiment(parameters=space)
    assert typed(given.experiment, Trial(0, "t", {"n": 1, "b": "16", "c": "1"})) == {"n": 1, "b": 16, "c": "1"}
    assert typed(given.experiment, Trial(0, "t", {"n": 1, "b": "0.5", "c": "1"}))["b"] == 0.5


def gone(process: int) -> bool:
    """Whether a process ends. One that nobody waits for may stay as a zombie."""

    def ended() -> bool:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
        return state.strip()[:1] in ("", "Z")

    return wait_until(ended, 30)


def test_report_says_what_was_stopped_and_by_which_limit(tmp_path: Path) -> None:
    given = experiment()
    done = Trial(0, "random-0001", {"lr": 0.1, "momentum": 0.5}, "Succeeded", {"loss": 0.6}, 0.6, 1.0)
    stopped = Trial(
        1, "random-0002", {"lr": 0.2, "momentum": 0.5}, "EarlyStopped", {"loss": 0.7}, 0.7, 1.0, "loss was 0.7"
    )
    killed = Trial(2, "random-0003", {"lr": 0.3, "momentum": 0.5}, "Killed")
    outcome = Outcome("TimeLimit", (done, stopped, killed), done, 0.6, None, {}, {}, 0)
    shown = details(given.experiment, outcome)
    record = Record(
        action="tune-hyperparams",
        started="2026-01-02",
        seconds=1.0,
        details=shown,
        outputs={"trials-uri": "file:///t.csv"},
    )
    text = section(record)
    assert "**its time was up**, and the best so far was taken" in text
    assert "1 of 3 trials succeeded, 1 was stopped early, 1 was no longer needed" in text
    assert "Seed" not in text
    assert (
        as_csv(given.experiment, outcome).splitlines()[2] == "2,random-0002,EarlyStopped,0.7,0.2,0.5,1.0,loss was 0.7"
    )
