"""The launcher and the frame, warm, against installing the same packages in a step with pip.

What an action costs beyond the tool that it wraps: starting Python through the launcher, reading the configuration,
writing record, outputs and summary. The action measured is one that does nothing else (`plan`).
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MLOPS = ROOT / "scripts" / "mlops"


def timed(command: list[str], times: int, cwd: Path, environ: dict[str, str]) -> float:
    """The median seconds of a command."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, cwd=cwd, env=environ, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def starts() -> list[float]:
    """Seconds from when each part of a chain is due until its action's function is entered, all work being reused.

    The last line before that is told to who debugs: the inputs and where they come from.
    """
    sys.path.insert(0, str(ROOT / "scripts"))
    from mlops_actions import environments
    from mlops_actions.runtime.together import Chain, Part

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "consumer"
        shutil.copytree(ROOT / "examples" / "starter", folder)
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environ = {**kept, "MLOPS_HOME": f"{name}/home", "MLOPS_DEBUG": "1", "MLOPS_MODEL": "m", "MLOPS_RUN": "bench"}
        entered: dict[str, float] = {}

        def said(part: Part, line: str) -> None:
            if line.endswith("(default)") and " = " in line:
                entered[part.name] = time.monotonic()

        for _ in range(2):
            data = Part("validate-data", options={"data": "data/customers.csv"})
            train = Part("run-pipeline", options={"pipeline": "pipeline.py"})
            parts = [data, train, Part("evaluate-model"), Part("test-model"), Part("register-model"), Part("report")]
            cache, logs = environments.cache_folder(), Path(name) / "logs"
            Chain(parts, folder, environ, cache, logs, said).run(lambda: time.sleep(0.01))
            assert all(part.state == "done" for part in parts), parts
        return [entered[part.name] - part.began for part in parts[1:]]


def main() -> None:
    """Print the medians and the ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pipeline.py").touch()
        environ = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
            "MLOPS_HOME": str(folder / "home"),
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        }
        action = [str(MLOPS), "plan"]
        timed(action, 1, folder, environ)  # makes the environment
        ours = timed(action, 10, folder, environ)
        bare = timed([sys.executable, "-c", "pass"], 10, folder, environ)
        lock = str(ROOT / "scripts" / "locks" / "core.txt")
        venv = str(folder / "venv")
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [f"{venv}/bin/python", "-m", "pip", "install", "--quiet", "-r", lock]
        subprocess.run(pip, check=True, capture_output=True)
        theirs = time.perf_counter() - began
    print(f"action that only plans, warm: {ours:.3f} s (bare Python {bare:.3f} s; own time {ours - bare:.3f} s)")
    later = starts()
    median, most = statistics.median(later), max(later)
    print(f"action after the first in a job, due until it begins: {median:.3f} s, the slowest {most:.3f} s")
    print(f"python -m venv and pip install -r core.txt in a step: {theirs:.2f} s, {theirs / ours:.0f} times as long")


if __name__ == "__main__":
    main()
