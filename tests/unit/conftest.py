"""The boundary of this tier: no process is started, and nothing is spoken to but servers of the test's own process."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest

# Of as many workers as there are cores, none computes with more than one: they would wait for each other.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

_STARTS = {
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
}
_NEAR = ("127.", "::1", "localhost")
_watching = False
_found: list[str] = []


def _watch(event: str, details: tuple[object, ...]) -> None:
    """Note what Python is about to do, and prevent it, while a test runs."""
    if not _watching:
        return
    far = event == "socket.connect" and isinstance(details[1], tuple) and not str(details[1][0]).startswith(_NEAR)
    if far or event in _STARTS:
        _found.append(f"{event} {details[1] if far else details[0] if details else ''}")
        raise PermissionError("tests/unit starts no process and uses no network: see its conftest.py")


sys.addaudithook(_watch)


def pytest_collection_finish() -> None:
    """What the modules made lives to the end: the collector of garbage need not look at it after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_process_and_no_network() -> Iterator[None]:
    global _watching
    _found.clear()
    _watching = True
    yield
    _watching = False
    assert not _found, f"such a test belongs to tests/contract: {_found}"
