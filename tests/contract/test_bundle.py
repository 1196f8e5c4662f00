"""`scripts/bundle`, and environments that are made of it where neither uv nor a package index is there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from conftest import ROOT, Run

NOWHERE = dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"), "http://127.0.0.1:9/simple")
NOWHERE |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1", "UV_NO_CONFIG": "1"}
NOWHERE |= {"PATH": "/usr/bin:/bin"}


def bundle(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "bundle"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_bundle_takes_the_place_of_the_index(mlops: Run, tmp_path: Path) -> None:
    made = bundle("bundle", "core", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "bundle", check=True)
    cold = {**NOWHERE, "UV_CACHE_DIR": str(tmp_path / "uv")}
    alone = mlops("--version", MLOPS_CACHE=str(tmp_path / "without"), **cold)
    assert alone.returncode == 3, "without the bundle there is nothing to make the environment of"
    done = mlops("--version", MLOPS_CACHE=str(tmp_path / "with"), MLOPS_BUNDLE=str(tmp_path / "bundle"), **cold)
    assert done.returncode == 0 and done.stdout.startswith("mlops-actions, version"), done.stderr


def test_a_bundle_that_is_not_there_is_told(mlops: Run, tmp_path: Path) -> None:
    done = mlops("--version", MLOPS_CACHE=str(tmp_path / "cache"), MLOPS_BUNDLE=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "MLOPS_BUNDLE" in done.stderr and "scripts/bundle" in done.stderr


def test_a_bundle_of_an_unknown_lock_is_refused(tmp_path: Path) -> None:
    done = bundle("bundle", "sceince", cwd=tmp_path)
    assert done.returncode == 2 and "sceince" in done.stderr
    assert not (tmp_path / "bundle").exists()
