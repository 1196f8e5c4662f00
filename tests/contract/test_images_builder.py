"""Which `docker` of several on the path can build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_actions.images.buildkit import find_builder
from mlops_actions.images.engine import EngineUnavailable

posix = pytest.mark.skipif(os.name == "nt", reason="shell scripts are POSIX's")


def docker_command(folder: Path, says: str) -> str:
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/sh\n{says}\n")
    (folder / "docker").chmod(0o755)
    return str(folder)


@posix
def test_the_docker_command_that_can_build_is_found_behind_one_that_cannot(tmp_path: Path) -> None:
    bare = docker_command(tmp_path / "bare", '[ "$1" = --version ] && echo "Docker version 28.2.2, build e6534b4"')
    old = docker_command(tmp_path / "old", '[ "$1" = --version ] && echo "Docker version 20.10.24+dfsg1, build 297e1"')
    full = docker_command(tmp_path / "full", "echo yes")

    def found(*folders: str) -> tuple[str, bool]:
        builder = find_builder({"PATH": os.pathsep.join(folders)})
        return builder.command, builder.buildx

    assert found(bare, old) == (f"{old}/docker", False)
    assert found(bare, old, full) == (f"{full}/docker", True)
    with pytest.raises(
        EngineUnavailable, match=r"cannot build with BuildKit\. buildx is not installed\. Install buildx"
    ):
        found(bare)
    with pytest.raises(EngineUnavailable, match=r"Docker is not installed\. Install Docker"):
        find_builder({"PATH": str(tmp_path)})
