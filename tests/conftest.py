"""What all tests share: a world of their own, and skips that CI refuses."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MLOPS = ROOT / "scripts" / "mlops"
_INHERITED = ("GITHUB_", "INPUT_", "MLOPS_", "AWS_", "RUNNER_")
_numbers = itertools.count()
_KEPT = ("MLOPS_CACHE", "MLOPS_TEST_REQUIRES", "AWS_CA_BUNDLE")
Run = Callable[..., subprocess.CompletedProcess[str]]
NOWHERE = dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"), "http://127.0.0.1:9/simple")
NOWHERE |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1", "UV_NO_CONFIG": "1"}
NOWHERE |= {"PATH": "/usr/bin:/bin"}
"""Variables of a machine where neither uv nor a package index is there."""

# A shell starts what it runs in the background with SIGINT ignored, and so is everything that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_ambient_settings(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No test sees the runner's or the person's settings, or writes to their folders (environments are shared)."""
    # Most tests have no use for a folder, and making one for each takes longer the more there are.
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    for name in list(os.environ):
        if name.startswith(_INHERITED) and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLOPS_HOME", str((folder or tmp_path_factory.getbasetemp() / f"{next(_numbers)}") / "home"))
    yield


@pytest.fixture
def mlops(tmp_path: Path) -> Run:
    """Call the launcher as a person does: `mlops("run-pipeline", "--json", cwd=folder, NAME="value of a variable")`."""

    def call(
        *arguments: str | Path, cwd: Path | None = None, timeout: float = 600, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(MLOPS), *(str(argument) for argument in arguments)]
        return subprocess.run(
            command,
            cwd=cwd or tmp_path,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return call


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where CI started a server, a test that was skipped for want of it has failed.

    MLOPS_TEST_REQUIRES names the servers, separated by spaces; a skip's reason begins with `no <server>`.
    """
    outcome: Any = yield
    report = outcome.get_result()
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        for server in os.environ.get("MLOPS_TEST_REQUIRES", "").split():
            if reason.lower().startswith(f"no {server}"):
                report.outcome = "failed"
                report.longrepr = f"{server} was started for the tests, and yet: {reason}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted only by root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
