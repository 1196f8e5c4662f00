"""A consumer's folder in which `mlops run-pipeline` is called."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mlops = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., tuple[subprocess.CompletedProcess[str], Any]]


def runner(folder: Path, mlops: Mlops) -> Run:
    """Writes files and runs the action: `run({"p.py": text}, "--option", …)`; the process, and its outputs as JSON."""

    def call(
        files: dict[str, str], *options: str, on_runner: bool = False, **environ: str
    ) -> tuple[subprocess.CompletedProcess[str], Any]:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        flags = [] if on_runner else ["--json"]
        if not any(option == "--store" for option in options):
            flags += ["--store", f"file://{folder}/store"]
        environ |= {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": f"{folder}/output"} if on_runner else {}
        done = mlops("run-pipeline", *flags, *options, cwd=folder, **environ)
        return done, json.loads(done.stdout) if done.stdout.startswith("{") else {}

    return call


def states(made: Any) -> dict[str, str]:
    """How each task of a run ended."""
    return {task["name"]: task["state"] for task in made["record"]["details"]["tasks"]}
