"""How the engine `katib` watches a large Experiment, on tests/doubles/katib with simulated trials.

`katib_watching.py [--trials N] [--parallel N]` prints how long it ran, the requests that watching took, the seconds
from its end in the API until that was noticed and until the result was there, the lines that a runner's log gets, and
the resident memory before, at the end of the watch and with the result. Needs KUBECONFIG of an administrator.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import clusters  # noqa: E402
from mlops_actions.github.console import ActionsConsole  # noqa: E402
from mlops_actions.kubernetes.objects import EXPERIMENT, Cluster  # noqa: E402
from mlops_actions.tuning.engine import Trial, TuneRequest  # noqa: E402
from mlops_actions.tuning.katib.context import KatibContext  # noqa: E402
from mlops_actions.tuning.katib.engine import KatibEngine  # noqa: E402
from mlops_actions.tuning.katib.status import completed  # noqa: E402
from mlops_actions.tuning.progress import TuningProgress  # noqa: E402
from mlops_actions.tuning.reading import Document, read  # noqa: E402


class Measured(TuningProgress):
    """Notes when the last trial was told, and the memory then."""

    told = 0.0
    memory = 0

    def finished(self, trial: Trial, best: Trial | None, done: int) -> None:
        """A line, and the time."""
        super().finished(trial, best, done)
        self.told, self.memory = time.monotonic(), _memory()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=50)
    options = parser.parse_args()
    with clusters.namespace() as namespace, tempfile.TemporaryDirectory() as scratch:
        # a process of its own, so that its memory is not counted
        command = [sys.executable, "-m", "doubles.katib", "--namespace", namespace, "--trials", "simulated"]
        environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'scripts'}"}
        double = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        assert double.stderr
        try:
            next(line for line in double.stderr if "double runs" in line)
            threading.Thread(target=double.stderr.read, daemon=True).start()
            _measure(clusters.administrator(namespace), Path(scratch), options.trials, options.parallel)
        finally:
            double.terminate()
            double.wait()


def _measure(cluster: Cluster, folder: Path, trials: int, parallel: int) -> None:
    document, ended = _document(folder, trials, parallel), threading.Event()
    key, text, seen = uuid.uuid4().hex, StringIO(), dict[str, float]()
    threading.Thread(target=_note_end, args=(clusters.administrator(cluster.namespace), seen, ended)).start()
    console = ActionsConsole(text, None, None)
    progress = Measured(console, document.experiment, trials)
    context = KatibContext(folder, {}, folder / "state", cluster=lambda: cluster, say=console.say)
    before, began = _memory(), time.monotonic()
    KatibEngine(context).run(TuneRequest(document, key, parallel, trials), progress)
    done = time.monotonic()
    ended.wait(10)
    print(
        f"{trials} trials, {parallel} at a time, in {progress.told - began:.1f} s: {cluster.requests} requests;"
        f" the end was noticed after {progress.told - seen['end']:.2f} s, and the result was there after"
        f" {done - seen['end']:.2f} s; {len(text.getvalue().splitlines())} lines;"
        f" memory {before} MB before, {progress.memory} MB at the end of the watch, {_memory()} MB at the end"
    )


def _note_end(cluster: Cluster, seen: dict[str, float], ended: threading.Event) -> None:
    for change in cluster.watch(EXPERIMENT):
        if change and completed(change.object):
            seen["end"] = time.monotonic()
            ended.set()
            return


def _document(folder: Path, trials: int, parallel: int) -> Document:
    values: dict[str, Any] = yaml.safe_load((ROOT / "tests" / "data" / "katib" / "example-random.yaml").read_text())
    del values["spec"]["objective"]["goal"]
    values["spec"] |= {"maxTrialCount": trials, "parallelTrialCount": parallel, "maxFailedTrialCount": trials}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(values))
    return read(folder / "experiment.yaml", "experiment.yaml")


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
