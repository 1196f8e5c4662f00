"""Runs the compiler in the consumer's environment, in a process group that ends with this process."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import RemoteFailed
from ..processes.group import Group

_WORKER = Path(__file__).with_name("worker")


def compile_in(
    python: Path, root: Path, environ: Mapping[str, str], order: Mapping[str, str], debug: Callable[[str], None] | None
) -> dict[str, Any]:
    """What `worker.compiling.compile_pipeline` returns.

    Args:
        python: the environment's interpreter.
        root: the consumer's folder.
        environ: its variables.
        order: the arguments of `compile_pipeline`.
        debug: told what the process printed.

    Raises:
        RemoteFailed: the process ended without a result.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        given, result, log = (Path(scratch) / name for name in ("order.json", "result.json", "log.txt"))
        given.write_text(json.dumps({**order, "result": str(result)}), encoding="utf-8")
        command = [str(python), str(_WORKER), str(given)]
        with (
            log.open("wb") as output,
            Group(command, root, environ, stdin=subprocess.PIPE, stdout=output, stderr=output) as group,
        ):
            code = group.process.wait()
        said = log.read_text(encoding="utf-8", errors="replace")
        if debug:
            debug(said)
        if code or not result.exists():
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise RemoteFailed(
                "The process that compiles the pipeline failed",
                why=f"It ended {how}",
                fix="Look at its log; if the machine is short of memory, give it more",
                log=said,
            )
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
