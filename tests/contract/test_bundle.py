"""`scripts/bundle`, and environments that are made of it where neither uv nor a package index is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import NOWHERE, ROOT, Run


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


def test_a_bundle_of_one_file_is_the_same_each_time_and_unpacks_to_a_whole_one(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        made = bundle(name, "serving", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} <= {"a.tar", "b.tar", "home"}, "nothing half-made is left"
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", "../a.tar"], cwd=tmp_path / "unpacked", check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "unpacked", check=True)


def test_a_bundle_that_is_not_there_is_told(mlops: Run, tmp_path: Path) -> None:
    done = mlops("--version", MLOPS_CACHE=str(tmp_path / "cache"), MLOPS_BUNDLE=str(tmp_path / "none"))
    assert done.returncode == 2
    assert "MLOPS_BUNDLE" in done.stderr and "scripts/bundle" in done.stderr


def test_a_bundle_of_an_unknown_lock_is_refused(tmp_path: Path) -> None:
    done = bundle("bundle", "sceince", cwd=tmp_path)
    assert done.returncode == 2 and "sceince" in done.stderr
    assert not (tmp_path / "bundle").exists()
