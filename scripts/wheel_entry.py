"""The `mlops` command of the wheel: finds (or once makes) the environment of a command's lock, then becomes its Python.

The wheel has `scripts` and `examples/starter` of this repository beside this file, laid out as they are there, and no
package of its own but uv: what a command imports comes from the locks, as in a checkout, where `scripts/mlops` does
the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "scripts"


def start() -> None:
    """Run the command line in the environment that its command needs."""
    sys.path.insert(0, str(SCRIPTS))
    from mlops_actions.environments import python_of_group

    lines = (SCRIPTS / "locks" / "commands.txt").read_text(encoding="utf-8").splitlines()
    groups = dict(line.split() for line in lines)
    python = python_of_group(groups.get(sys.argv[1] if len(sys.argv) > 1 else "", "core"))
    command = [str(python), str(SCRIPTS / "mlops_actions"), *sys.argv[1:]]
    if os.name == "nt":  # there is no exec: a console's Ctrl-C reaches both, and the command says how it ended
        try:
            sys.exit(subprocess.call(command))
        except KeyboardInterrupt:
            sys.exit(130)
    os.execv(command[0], command)
