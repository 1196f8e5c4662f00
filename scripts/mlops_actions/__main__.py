"""`python scripts/mlops_actions …`, as the launcher runs it, or `python -m mlops_actions …`."""

import sys
from pathlib import Path

if not __package__:  # run as a folder: Python put the folder itself on the path, where its modules would shadow others
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from mlops_actions.cli import start

start()
