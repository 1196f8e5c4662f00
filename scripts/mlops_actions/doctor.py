"""What is missing for a repository's chain on this machine, and how to get it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .environments import EnvironmentFailed, find_uv
from .errors import MlopsError
from .store import Store

State = Literal["ok", "missing", "optional"]
_SPACE = 5 * 1024**3  # bytes: the environments of all actions, and a few models


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its state, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    fix: str = ""


def examine(
    root: Path, cache: Path, sections: Mapping[str, Any], open_store: Callable[[], Store], docker_host: str
) -> list[Finding]:
    """Look at everything that the configuration asks for; each finding names its remedy.

    Args:
        root: the consumer's folder.
        cache: where environments are.
        sections: `mlops.yaml`, read.
        open_store: opens the store that the inputs name.
        docker_host: the Docker engine's address, or "" for the default socket.
    """
    return [
        Finding("Python", "ok", sys.version.split()[0]),
        _uv(cache),
        _git(root),
        _space(cache),
        _store(open_store),
        _docker("build-image" in sections or (root / "Dockerfile").is_file(), docker_host),
        *_files(root, sections),
    ]


def _uv(cache: Path) -> Finding:
    try:
        return Finding("uv", "ok", find_uv(cache))
    except EnvironmentFailed as error:
        return Finding("uv", "missing", str(error), "Install uv")


def _git(root: Path) -> Finding:
    if not shutil.which("git"):
        return Finding("git", "optional", "not installed", "Install git: without it no commit is recorded")
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("git", "optional", f"{root} has no commit", "Commit: without it no commit is recorded")
    return Finding("git", "ok", f"commit {done.stdout[:12]}")


def _space(cache: Path) -> Finding:
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.0f} GiB free at {folder}"
    fix = "Free some, or set MLOPS_CACHE to a folder on a larger disk"
    return Finding("disk", "ok", text) if free > _SPACE else Finding("disk", "missing", text, fix)


def _store(open_store: Callable[[], Store]) -> Finding:
    path = f"doctor/{uuid.uuid4().hex}"
    try:
        store = open_store()
        created = store.create(path, b"1") and not store.create(path, b"2")
        _, tag = store.get_tagged(path)
        swapped = store.replace(path, b"3", tag) and not store.replace(path, b"4", tag)
        store.delete(path)
    except MlopsError as error:
        return Finding("store", "missing", error.what + (f": {error.why}" if error.why else ""), error.fix)
    if not (created and swapped):
        lacking = "If-None-Match" if not created else "If-Match"
        return Finding("store", "missing", f"{store.url} ignores {lacking}", "Use a store that honours it")
    return Finding("store", "ok", f"{store.url}: reads, writes, create-only and compare-and-swap work")


def _docker(wanted: bool, host: str) -> Finding:
    state: State = "missing" if wanted else "optional"
    if not shutil.which("docker"):
        return Finding("Docker", state, "no docker command", "Install Docker")
    command = ["docker", *(["--host", host] if host else []), "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding(
            "Docker", state, "no engine answers", "Start it: `sudo systemctl start docker`, or Docker Desktop"
        )
    return Finding("Docker", "ok", f"engine {done.stdout.strip()}")


def _files(root: Path, sections: Mapping[str, Any]) -> list[Finding]:
    """The files that the configuration names."""
    named = (("run-pipeline", "pipeline"), ("tune-hyperparams", "experiment"), ("validate-data", "contract"))
    found = []
    for action, key in named:
        name = (sections.get(action) or {}).get(key)
        if name and not (root / name).is_file():
            found.append(Finding(f"{action}: {key}", "missing", f"no file {name}", f"Write it, or correct `{key}`"))
        elif name:
            found.append(Finding(f"{action}: {key}", "ok", name))
    if (sections.get("requirements")) and not (root / sections["requirements"]).is_file():
        found.append(Finding("requirements", "missing", f"no file {sections['requirements']}", "Write it"))
    return found
