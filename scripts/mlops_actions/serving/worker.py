"""Becomes MLServer, in the serving environment: `worker.py FOLDER`. The standard library and MLServer only.

Before anything else it writes down which process it is: whoever started it may be killed at any time, and the next
deployment still finds it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    """Write process.json, then serve the folder."""
    # The folder of this file gives way to the package's, which comes after all that the model imports.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[2])]
    from mlops_actions.processes.identity import Identity

    faulthandler.enable()  # a library that crashes says where
    folder = Path(sys.argv[1])
    part = folder / f"process.json.{os.getpid()}"
    part.write_text(json.dumps(asdict(Identity.of(os.getpid()))))
    part.replace(folder / "process.json")

    from mlserver.cli.main import main as serve

    sys.argv = ["mlserver", "start", str(folder)]
    serve()


if __name__ == "__main__":
    main()
