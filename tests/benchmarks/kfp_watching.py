"""How the engine `kfp` watches, on tests/doubles/kfp: what it costs the server, and how soon an end is noticed.

`kfp_watching.py [--repeat N] [--wait SECONDS] [--tasks N]` prints, with KFP's log reader and without it: the seconds
from the end of a run to ours (the median and the worst of N runs of one task), and the requests a minute in a run that
waits; the same for `wait_for_run_completion` of the SDK's client, which is what one would do otherwise; then, for a run
of many tasks, the lines that a runner's log gets, the memory that watching takes, and the seconds that one look takes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from io import StringIO
from pathlib import Path

from given import kfp_inputs

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]


from doubles.kfp import KfpDouble, Step, interpreter  # noqa: E402
from doubles.kfp.nodes import Log  # noqa: E402
from kfp_worlds import Told  # noqa: E402
from mlops_actions.github.console import ActionsConsole  # noqa: E402
from mlops_actions.pipelines.engine import RunProgress  # noqa: E402
from mlops_actions.pipelines.kfp.client.api import KfpApi  # noqa: E402
from mlops_actions.pipelines.kfp.run.log_follower import LogFollower  # noqa: E402
from mlops_actions.pipelines.kfp.run.logs import Logs  # noqa: E402
from mlops_actions.pipelines.kfp.run.tracking import Tracker  # noqa: E402
from mlops_actions.pipelines.kfp.run.watching import Limits, Watcher  # noqa: E402
from mlops_actions.pipelines.progress import ConsoleProgress  # noqa: E402
from mlops_actions.waiting import Clock  # noqa: E402


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--wait", type=float, default=120.0)
    parser.add_argument("--tasks", type=int, default=500)
    options = parser.parse_args()
    for reader in (True, False):
        lags = [_watched(7.0 + 0.37 * number, reader)[0] for number in range(options.repeat)]
        rate = _watched(options.wait, reader)[1]
        print(
            f"{'with' if reader else 'without'} the log reader: end noticed after {statistics.median(lags):.2f} s"
            f" (worst {max(lags):.2f}), {rate:.1f} requests a minute"
        )
    lags, rates = zip(*(_by_sdk(7.0 + 0.37 * number) for number in range(options.repeat)))
    print(
        f"the SDK's client: end noticed after {statistics.median(lags):.2f} s (worst {max(lags):.2f}),"
        f" {statistics.median(rates):.1f} requests a minute, and it shows no task and no log"
    )
    _many(options.tasks)


_SDK = """
import sys, time, kfp
client = kfp.Client(host=sys.argv[1])
began = time.time()
client.wait_for_run_completion(sys.argv[2], timeout=600)
print(began, time.time())
"""


def _by_sdk(seconds: float) -> tuple[float, float]:
    """As `_watched`, by kfp.Client as it comes."""
    with KfpDouble(metadata=False) as double:
        run_id = double.synthetic_run([Step("train", 0.5, seconds)])
        command = [str(interpreter()), "-c", _SDK, double.url, run_id]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        began, ended = map(float, done.stdout.splitlines()[-1].split())
        asked = sum(request.startswith(f"GET /apis/v2beta1/runs/{run_id}") for request in double.requests)
        return ended - double._world.runs[run_id].finished, asked / (ended - began) * 60


def _watched(seconds: float, reader: bool) -> tuple[float, float]:
    """A run of one task that takes so long: seconds from its end to ours, requests a minute."""
    with KfpDouble(metadata=False) as double:
        if not reader:
            double.fault("status", path="/log", status=500, times=1000)
        run_id = double.synthetic_run([Step("train", 0.5, seconds)])
        run = double._world.runs[run_id]
        log = Log(["epoch 1"])
        for node in run.workflow.nodes.values():
            if node.display == "executor":
                node.log = log
        timer = threading.Timer(seconds, log.close)
        timer.start()
        asked, began = len(double.requests), time.time()
        _watch(double.url, run_id, run.spec, Told())
        ended = time.time()
        timer.cancel()
        return ended - run.finished, (len(double.requests) - asked) / (ended - began) * 60


def _many(tasks: int) -> None:
    """A run of many tasks, twenty at a time."""
    with KfpDouble(metadata=False) as double:
        steps = [
            Step(f"task-{n}", 0.1 * n, 0.1 * n + 2.0, lines=[f"line {i}" for i in range(20)]) for n in range(tasks)
        ]
        run_id = double.synthetic_run(steps)
        run = double._world.runs[run_id]
        text = StringIO()
        progress = ConsoleProgress(ActionsConsole(text, None, None), streaming=True)
        began = time.time()
        watcher, tracker = _watch(double.url, run_id, run.spec, progress)
        minutes = (time.time() - began) / 60
        api = KfpApi(kfp_inputs(double.url), {}, Path())
        snapshot = api.get(f"/apis/v2beta1/runs/{run_id}")
        at = time.perf_counter()
        Tracker(run.spec, Told()).feed(snapshot, 0.0)
        look = time.perf_counter() - at
        tracemalloc.start()
        fresh = Tracker(run.spec, Told())
        fresh.feed(snapshot, 0.0)
        memory = tracemalloc.get_traced_memory()[1] / 1e6
        lines = text.getvalue().splitlines()
        told = sum(line.startswith("task-") and "|" not in line for line in lines)
        print(
            f"{tasks} tasks: {len(lines)} lines ({told} of them transitions, {len(tracker.tasks)} tasks known),"
            f" {memory:.1f} MB, {look * 1000:.0f} ms a look, {watcher.pace.asked / minutes:.1f} requests a minute"
        )


def _watch(url: str, run_id: str, spec: object, progress: RunProgress) -> tuple[Watcher, Tracker]:
    api, clock = KfpApi(kfp_inputs(url), {}, Path()), Clock()
    tracker = Tracker(spec, progress)  # type: ignore[arg-type]
    follower = LogFollower(Logs(api, run_id, lambda: ""), run_id, clock)
    watcher = Watcher(api, run_id, tracker, follower, progress, clock, Limits())
    watcher.until_end()
    return watcher, tracker


if __name__ == "__main__":
    main()
