"""Starts the server, also as a file of a checkout: `python scripts/mlops_actions/serving/server FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # The folder of this file gives way to the package's, which comes after all that the model imports.
    sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]

from mlops_actions.serving.server.process import main

if __name__ == "__main__":
    sys.exit(main())
