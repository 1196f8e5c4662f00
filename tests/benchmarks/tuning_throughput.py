"""Trials a second of the local engine against a bare Optuna study whose objective runs the same process.

`python tests/benchmarks/tuning_throughput.py [trials] [parallel] [rounds]` prints both and their ratio; the aim is 0.9
or more. The rounds take turns and medians are printed, so that other work on the machine weighs on both sides.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import optuna
import yaml

from mlops_actions.tuning.engine import Trial, TuneRequest, TuningContext
from mlops_actions.tuning.experiment import Experiment
from mlops_actions.tuning.local import LocalEngine
from mlops_actions.tuning.metrics import compiled
from mlops_actions.tuning.reading import Document

EXAMPLE = Path(__file__).resolve().parents[1] / "data" / "katib" / "example-random.yaml"
PROGRAM = "import sys, time; time.sleep(0.05); print('loss=%f' % sum(float(a.split('=')[1]) for a in sys.argv[1:]))"


class Silent:
    """A watcher that says nothing."""

    def resumed(self, trials: list[Trial]) -> None: ...

    def started(self, trial: Trial, running: int) -> None: ...

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None: ...

    def interrupted(self, best: Trial | None, done: int) -> None: ...


def ours(algorithm: str, trials: int, parallel: int) -> float:
    """Seconds that the local engine takes, journal included."""
    document = yaml.safe_load(EXAMPLE.read_text())
    spec = document["spec"]
    spec |= {"maxTrialCount": trials, "parallelTrialCount": parallel}
    spec["objective"].pop("goal")
    spec["algorithm"]["algorithmName"] = algorithm
    container = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    container["command"] = [sys.executable, "-S", "-c", PROGRAM, *container["command"][-2:]]
    with tempfile.TemporaryDirectory() as scratch:
        read = Document("experiment.yaml", document, Experiment.model_validate(document), {})
        context = TuningContext(Path(scratch), dict(os.environ), Path(scratch) / "state")
        began = time.perf_counter()
        outcome = LocalEngine(context).run(TuneRequest(read, "key", parallel, trials), Silent())
        taken = time.perf_counter() - began
    assert len(outcome.trials) == trials
    return taken


def bare(algorithm: str, trials: int, parallel: int) -> float:
    """Seconds that Optuna takes, with an objective that runs the process and reads its output."""
    pattern = compiled([])[0]

    def objective(trial: optuna.Trial) -> float:
        lr, momentum = trial.suggest_float("lr", 0.01, 0.05), trial.suggest_float("momentum", 0.5, 0.9)
        command = [sys.executable, "-S", "-c", PROGRAM, f"--lr={lr}", f"--momentum={momentum}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(pattern.findall(done.stdout)[0][1])

    sampler = optuna.samplers.RandomSampler() if algorithm == "random" else optuna.samplers.TPESampler()
    study = optuna.create_study(direction="minimize", sampler=sampler)
    began = time.perf_counter()
    study.optimize(objective, n_trials=trials, n_jobs=parallel)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    trials, parallel, rounds = (int(text) for text in (*sys.argv[1:], *("60", "2", "7")[len(sys.argv) - 1 :]))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for algorithm in ("random", "tpe"):
        times = [(bare(algorithm, trials, parallel), ours(algorithm, trials, parallel)) for _ in range(rounds)]
        theirs, mine = (trials / statistics.median(side) for side in zip(*times))
        ratio = statistics.median(theirs / mine for theirs, mine in times)
        rates = f"Optuna {theirs:5.1f} trials/s  local engine {mine:5.1f} trials/s"
        print(f"{algorithm:6}  {rates}  ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
