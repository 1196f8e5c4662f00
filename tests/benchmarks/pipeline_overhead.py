"""`mlops run-pipeline` against kfp.local called directly, on the same tiny pipeline of three tasks.

`pipeline_overhead.py [--repeat N] [--venv]` prints the median seconds of each way, and its ratio to kfp.local at its
fastest (no virtual environment, nothing to install), which is what run-pipeline adds its reuse,
store, records and checks to. `--venv` also measures kfp.local as it comes: an environment for each task, by pip.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

PIPELINE = """
from kfp import dsl

component = dsl.component(base_image="python:3.11", install_kfp_package={install})


@component
def first(n: int) -> int:
    return n + 1


@component
def second(n: int, out: dsl.Output[dsl.Dataset]) -> int:
    with open(out.path, "w") as file:
        file.write("x" * n)
    return n + 1


@component
def third(n: int, data: dsl.Input[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]):
    with open(data.path) as file:
        metrics.log_metric("size", len(file.read()) + n)


@dsl.pipeline(name="tiny")
def tiny(n: int = 1):
    b = second(n=first(n=n).output)
    third(n=b.outputs["Output"], data=b.outputs["out"])
"""
DIRECT = """
from kfp import local
from pipeline import tiny

local.init(local.SubprocessRunner(use_venv={venv}), pipeline_root="outputs")
tiny(n=1)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--venv", action="store_true")
    arguments = parser.parse_args()
    from mlops_actions import environments

    python = str(environments.ensure("pipelines", environments.cache_folder()).python)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "call_directly.py").write_text(DIRECT.format(venv=False))
        (folder / "as_it_comes.py").write_text(DIRECT.format(venv=True))
        (folder / "pipeline.py").write_text(PIPELINE.format(install=False))
        ours = [str(ROOT / "scripts" / "mlops"), "run-pipeline", "--store", f"file://{folder}/store"]
        ways = {
            "kfp.local, nothing to install": [python, "call_directly.py"],
            "mlops run-pipeline --no-reuse": [*ours, "--no-reuse"],
            "mlops run-pipeline, same run again": ours,
        }
        base = 0.0
        for name, command in ways.items():
            _seconds(command, folder)  # warm
            median = statistics.median(_seconds(command, folder) for _ in range(arguments.repeat))
            base = base or median
            print(f"{name:36} {median:6.2f} s   {median / base:5.2f}")
        if arguments.venv:
            (folder / "pipeline.py").write_text(PIPELINE.format(install=True))
            took = _seconds([python, "as_it_comes.py"], folder)
            print(f"{'kfp.local as it comes (once)':36} {took:6.2f} s   {took / base:5.2f}")


def _seconds(command: list[str], folder: Path) -> float:
    began = time.monotonic()
    environ = {**os.environ, "MLOPS_HOME": str(folder / "home"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return time.monotonic() - began


if __name__ == "__main__":
    main()
