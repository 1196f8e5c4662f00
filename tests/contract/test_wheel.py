"""The wheel, in an empty environment: the command with its locks, and a chain from an empty folder to a version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT
from mlops_actions import __version__
from mlops_actions.environments import cache_folder, find_uv


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([str(ROOT / "scripts" / "build"), str(folder), "wheel"], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that has nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    uv = find_uv(cache_folder())
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(folder), str(wheel)], check=True)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def run(installed: Path, *arguments: str, cwd: Path, name: str = "mlops") -> subprocess.CompletedProcess[str]:
    """A command of the wheel, where neither the repository's own nor uv is on the path."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [str(installed / name), *arguments], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )


def test_the_wheel_asks_for_uv_alone_and_has_every_lock(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        asked = [line for line in file.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
    assert asked == ["Requires-Dist: uv>=0.9"]
    locks = {path.name for path in (ROOT / "scripts" / "locks").iterdir()}
    assert {name.rpartition("/")[2] for name in names if "/locks/" in name} == locks
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.parametrize("name", ["mlops", "mlops-actions"])
def test_the_command_of_the_wheel_says_its_version(installed: Path, tmp_path: Path, name: str) -> None:
    done = run(installed, "--version", cwd=tmp_path, name=name)
    assert (done.returncode, done.stdout) == (0, f"mlops-actions, version {__version__}\n"), done.stderr


def test_exit_codes_pass_through(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "validate-data", "--data", "absent.csv", cwd=tmp_path)
    assert done.returncode == 2 and "absent.csv" in done.stderr + done.stdout


def test_from_an_empty_folder_to_a_registered_version(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    done = run(installed, "init", "--model", "shop", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = run(installed, "run", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(installed, "register-model", "--json", cwd=folder)
    assert json.loads(done.stdout)["version"] == 1 or json.loads(done.stdout)["version"] == "1", done.stderr
